//! The kernel's side of a stage: what is prepared there, and the text that iptables is
//! given for a file.

use std::io::Write as _;

use anyhow::Result;
use tempfile::NamedTempFile;

use crate::Netns;

/// What is meant to differ (docs/differences.md), taken out of the kernel's side: there is
/// no loopback device.
const MEANT: &str = "table inet bench {\n  \
    chain speak {\n    type filter hook output priority -400\n    \
      oif \"lo\" drop\n  }\n}\n";
/// Tables and their chains.
const TABLES: [(&str, &str); 5] = [
    ("raw", "PREROUTING OUTPUT"),
    ("mangle", "PREROUTING INPUT FORWARD OUTPUT POSTROUTING"),
    ("nat", "PREROUTING INPUT OUTPUT POSTROUTING"),
    ("filter", "INPUT FORWARD OUTPUT"),
    ("security", "INPUT FORWARD OUTPUT"),
];

/// Prepares the gateway, before any rules are loaded.
pub(super) fn prepare(gateway: &Netns) -> Result<()> {
    let mut file = NamedTempFile::new()?;
    file.write_all(MEANT.as_bytes())?;
    gateway.run(&format!("nft -f {}", file.path().display()))?;
    Ok(())
}

/// The text of a file, with the tables that it does not bring.
pub(super) fn whole(text: &str) -> String {
    emptied(text) + text
}

/// Tables that the text does not bring, without rules.
fn emptied(text: &str) -> String {
    let is_missing = |name: &str| !text.lines().any(|line| line.strip_prefix('*') == Some(name));
    let empty = |(name, chains): (&str, &str)| {
        let chains = chains.split(' ').map(|chain| format!(":{chain} ACCEPT [0:0]\n"));
        format!("*{name}\n{}COMMIT\n", chains.collect::<String>())
    };
    TABLES.into_iter().filter(|(name, _)| is_missing(name)).map(empty).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iptables_is_given_every_table_once() {
        let text = "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -j ACCEPT\nCOMMIT\n";
        let whole = whole(text);
        for (name, _) in TABLES {
            assert_eq!(whole.matches(&format!("*{name}\n")).count(), 1, "{name}");
        }
        assert!(whole.ends_with(text));
    }
}
