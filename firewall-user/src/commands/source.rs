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
    names::LocalNames,
    rules::{self, Ruleset, Table, TableName},
};

/// Reads and parses rules; `-` is stdin.
///
/// # Errors
/// When it cannot be read, or every error that is in it.
pub fn read(path: &Path, is_ipv6: bool) -> Result<Ruleset> {
    read_whole(path, is_ipv6).map(|(rules, _)| rules)
}

/// As [`read`]; tells also whether the file says anything of table filter.
///
/// # Errors
/// As there.
pub fn read_whole(path: &Path, is_ipv6: bool) -> Result<(Ruleset, bool)> {
    let family = if is_ipv6 { Family::Ipv6 } else { Family::Ipv4 };
    let (name, text) = text(path, "rules")?;
    let rules = rules::parse(&name, &text, family, &LocalNames::default())?;
    let begins = |line: &str| line.trim().strip_prefix('*').map(str::trim) == Some("filter");
    let filter = rules.table(TableName::Filter);
    let has_filter = filter.is_some_and(|table| *table != Table::empty(TableName::Filter))
        || text.lines().any(begins);
    Ok((rules, has_filter))
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
        let mut bytes = Vec::new();
        let read = io::stdin().read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read {what} from stdin"))?;
        return Ok(("stdin".to_owned(), decoded("stdin", bytes)?));
    }
    let bytes =
        fs::read(path).with_context(|| format!("cannot read the {what} in {}", path.display()))?;
    let name = path.display().to_string();
    let text = decoded(&name, bytes)?;
    Ok((name, text))
}

/// The text of a file, which may have other encodings than UTF-8 in its comments.
///
/// # Errors
/// Where another line is not UTF-8.
pub fn decoded(name: &str, bytes: Vec<u8>) -> Result<String> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error.into_bytes(),
    };
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        if line.trim_ascii_start().starts_with(b"#") {
            continue;
        }
        if let Err(error) = str::from_utf8(line) {
            let (before, rest) = line.split_at(error.valid_up_to());
            let column = String::from_utf8_lossy(before).chars().count() + 1;
            bail!(
                "{name}:{number}:{column}: the byte 0x{:02x} is not UTF-8; write the file as UTF-8 \
                 (iconv -f LATIN1 -t UTF-8)",
                rest[0]
            );
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_may_be_of_another_encoding_and_a_rule_may_not() {
        let text = decoded("rules", b"  # B\xfcro\n-A INPUT -j ACCEPT\n".to_vec()).unwrap();
        assert_eq!(text, "  # B\u{fffd}ro\n-A INPUT -j ACCEPT\n");
        let error = decoded("rules", b"*filter\n# \xfc\n-A \xc3\xbc\xfc\n".to_vec());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("rules:3:5: the byte 0xfc is not UTF-8"), "{error}");
    }
}
