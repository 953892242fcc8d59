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
    let (name, text) = text(path, "rules")?;
    Ok(rules::parse(&name, &text, family, &LazyServices::default())?)
}

/// Reads a file with `what` in it, `-` is stdin; gives how messages call it, and its text.
///
/// # Errors
/// When it cannot be read.
pub fn text(path: &Path, what: &str) -> Result<(String, String)> {
    if path == Path::new("-") {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        read.with_context(|| format!("cannot read {what} from stdin"))?;
        return Ok(("stdin".to_owned(), text));
    }
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the {what} in {}", path.display()))?;
    Ok((path.display().to_string(), text))
}
