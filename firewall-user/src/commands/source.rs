//! Rules from a file or from stdin.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, bail};
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

/// Whether a file has rules for IPv6: when that is said, or by its name.
pub fn is_ipv6(path: &Path, is_said: bool) -> bool {
    is_said || path.extension().is_some_and(|extension| extension == "v6")
}

/// Reads a file with `what` in it, `-` is stdin; gives how messages call it, and its text.
///
/// # Errors
/// When it cannot be read, or stdin was read already.
pub fn text(path: &Path, what: &str) -> Result<(String, String)> {
    static IS_READ: AtomicBool = AtomicBool::new(false);
    if path == Path::new("-") {
        if IS_READ.swap(true, Ordering::Relaxed) {
            bail!("stdin is given twice: name a file for one of them");
        }
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        read.with_context(|| format!("cannot read {what} from stdin"))?;
        return Ok(("stdin".to_owned(), text));
    }
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the {what} in {}", path.display()))?;
    Ok((path.display().to_string(), text))
}
