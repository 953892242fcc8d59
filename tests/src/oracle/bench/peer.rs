//! The kernel's side of a stage: what is prepared there, and the text that iptables is
//! given for a file.

use std::io::Write as _;

use anyhow::Result;
use tempfile::NamedTempFile;

use crate::Netns;

/// What is meant to differ (docs/differences.md), taken out of the kernel's side: there is
/// no loopback device, and the answer of a REJECT is told by the mark that it has from
/// the packet that it answers ([`tell_rejects`]), which the stack's own answers have not.
const MEANT: &str = "table inet bench {\n  \
    chain arrive {\n    type filter hook prerouting priority -400\n  }\n  \
    chain deliver {\n    type filter hook input priority 100\n    \
      meta mark set meta mark & 0x7fffffff\n  }\n  \
    chain speak {\n    type filter hook output priority -400\n    \
      oif \"lo\" drop\n  }\n}\n";
/// Lets such an answer pass OUTPUT.
const REJECTS_PASS: &str =
    "-I OUTPUT 1 -m mark --mark 0x80000000/0x80000000 -m comment --comment bench -j ACCEPT";
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
    for family in ["ipv4", "ipv6"] {
        gateway.set(&format!("{family}/fwmark_reflect"), "1")?;
    }
    Ok(())
}

/// Marks the packets that rules with REJECT judge; others judge them as they came.
pub(super) fn tell_rejects(gateway: &Netns, text: &str) -> Result<()> {
    gateway.run("nft flush chain inet bench arrive")?;
    if text.contains("-j REJECT") {
        gateway.run("nft add rule inet bench arrive meta mark set meta mark | 0x80000000")?;
    }
    Ok(())
}

/// The text of a file, with the tables that it does not bring, and room for what differs.
pub(super) fn whole(text: &str) -> String {
    emptied(text) + &rejects_passing(text)
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

/// The text with a rule in front of each OUTPUT that lets the answers of REJECT pass.
fn rejects_passing(text: &str) -> String {
    let mut has_output = false;
    let mut whole = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            has_output = ["raw", "mangle", "filter"].contains(&name);
        } else if line == "COMMIT" && has_output {
            whole += &format!("{REJECTS_PASS}\n");
        }
        whole += &format!("{line}\n");
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iptables_is_given_every_table_once_and_the_bench_s_rule_in_front() {
        let text = "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -j ACCEPT\nCOMMIT\n";
        let whole = whole(text);
        for (name, _) in TABLES {
            assert_eq!(whole.matches(&format!("*{name}\n")).count(), 1, "{name}");
        }
        assert!(whole.ends_with(&format!("-A OUTPUT -j ACCEPT\n{REJECTS_PASS}\nCOMMIT\n")));
        assert_eq!(whole.matches(REJECTS_PASS).count(), 1);
    }
}
