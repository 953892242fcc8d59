//! Rules from a file or from stdin.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, Result};
use firewall_common::addr::Family;

use crate::{
    rules::{self, Ruleset},
    ruleset::LazyServices,
};

/// Reads and parses rules; `-` is stdin.
///
/// # Errors
/// When it cannot be read, or every error that is in it.
pub fn read(path: &Path, is_ipv6: bool) -> Result<Ruleset> {
    let family = if is_ipv6 { Family::Ipv6 } else { Family::Ipv4 };
    let (name, text) = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("cannot read rules from stdin")?;
        ("stdin".to_owned(), text)
    } else {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the rules in {}", path.display()))?;
        (path.display().to_string(), text)
    };
    Ok(rules::parse(&name, &text, family, &LazyServices::default())?)
}
