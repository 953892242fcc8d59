//! What the firewall has counted: rules, policies, verdicts.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::{Firewall, wait};

/// A reading of every counter, by the rule's text or the verdict's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub rules: BTreeMap<String, u64>,
    pub policies: BTreeMap<String, u64>,
    /// Packets that went on.
    pub accepted: BTreeMap<String, u64>,
    /// Packets that did not, by the reason.
    pub dropped: BTreeMap<String, u64>,
}

impl Ledger {
    /// IPv4 and IPv6 together; the rules of IPv6 are prefixed with `6: `.
    pub fn read(firewall: &Firewall<'_>) -> Result<Self> {
        let mut ledger = Self::default();
        ledger.add_rules("", &firewall.text(&["save", "-c"])?)?;
        ledger.add_rules("6: ", &firewall.text(&["save", "-c", "--ipv6"])?)?;
        for line in firewall.json(&["stats"])? {
            let name = line["name"].as_str().context("a counter without a name")?;
            let value = line["value"].as_u64().context("a counter without a value")?;
            // Others, such as events, tell more about the same packets.
            let column = match line["kind"].as_str() {
                Some("verdict") => &mut ledger.accepted,
                Some("drop") => &mut ledger.dropped,
                _ => continue,
            };
            column.insert(name.into(), value);
        }
        Ok(ledger)
    }

    /// Reads what `iptables-save -c` prints.
    fn add_rules(&mut self, prefix: &str, text: &str) -> Result<()> {
        let mut table = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if let Some(chain) = line.strip_prefix(':') {
                let (chain, counters) =
                    chain.split_once('[').context("a chain without counters")?;
                let key = format!("{prefix}{table} {}", chain.trim());
                self.policies.insert(key, packets(counters)?);
            } else if let Some(rule) = line.strip_prefix('[') {
                let (counters, rule) = rule.split_once("] ").context("a rule without counters")?;
                *self.rules.entry(format!("{prefix}{rule}")).or_default() += packets(counters)?;
            }
        }
        Ok(())
    }

    /// What has moved since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            rules: moved(&self.rules, &earlier.rules),
            policies: moved(&self.policies, &earlier.policies),
            accepted: moved(&self.accepted, &earlier.accepted),
            dropped: moved(&self.dropped, &earlier.dropped),
        }
    }

    /// How often the one rule matched whose text ends so.
    ///
    /// # Panics
    /// Where no rule ends so.
    pub fn rule(&self, end: &str) -> u64 {
        let found = self.rules.iter().find(|(text, _)| text.ends_with(end));
        *found.unwrap_or_else(|| panic!("no rule {end} in {:#?}", self.rules)).1
    }

    /// Packets that were dropped, for whatever reason.
    pub fn drops(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Packets that were dropped because no rule took them.
    pub fn policy_drops(&self) -> u64 {
        self.dropped.get("policy").copied().unwrap_or(0)
    }
}

/// Waits until something was dropped by the policy since `before`.
pub fn refused_since(firewall: &Firewall<'_>, before: u64, what: &str) -> Result<()> {
    wait::until_true(&format!("a drop by the policy: {what}"), || {
        firewall.stat("policy").is_ok_and(|now| now > before)
    })
}

/// `12:3456]` and `12:3456` tell of 12 packets.
fn packets(counters: &str) -> Result<u64> {
    let (packets, _) = counters.split_once(':').context("counters without a colon")?;
    packets.parse().with_context(|| format!("not a counter: {counters}"))
}

fn moved(now: &BTreeMap<String, u64>, earlier: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let moved = now.iter().map(|(name, value)| {
        let before = earlier.get(name).copied().unwrap_or(0);
        (name.clone(), value.wrapping_sub(before))
    });
    moved.filter(|(_, by)| *by != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_ruleset_is_read() {
        let text =
            "# by somebody\n*filter\n:INPUT DROP [3:180]\n[2:80] -A INPUT -j ACCEPT\nCOMMIT\n";
        let mut ledger = Ledger::default();
        ledger.add_rules("", text).unwrap();
        assert_eq!(ledger.rules["-A INPUT -j ACCEPT"], 2);
        assert_eq!(ledger.policies["filter INPUT DROP"], 3);
        assert_eq!(ledger.rule("-j ACCEPT"), 2);
    }
}
