//! Counters of rules and policies, read from what `iptables-save -c` prints.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};

/// What each rule and policy has counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By table, chain and place, from 1 on; the policy has the place 0.
    counted: BTreeMap<(String, String, usize), Counted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    rule: String,
    packets: u64,
    bytes: u64,
}

/// Tables whose policies both sides count. A chain without rules is no chain in the
/// firewall, whatever its table.
const POLICIES: [&str; 1] = ["filter"];

impl Tally {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut tally = Self::default();
        let mut table = "";
        let mut places: HashMap<&str, usize> = HashMap::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
                places.clear();
            } else if let Some(policy) = line.strip_prefix(':') {
                let [chain, verdict, counter] = words(policy)?;
                if verdict != "-" && POLICIES.contains(&table) {
                    let counted = Counted::read(counter, verdict)?;
                    tally.counted.insert((table.into(), chain.into(), 0), counted);
                }
            } else if line.starts_with('[') {
                let (counter, rule) = line.split_once(" -A ").context("a rule without -A")?;
                let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
                let place = places.entry(chain).or_default();
                *place += 1;
                // The end of its calendar, which iptables shows where none was asked for.
                let rule = rule.replace(" --datestop 2038-01-19T03:14:07", "");
                let counted = Counted::read(counter, &rule)?;
                tally.counted.insert((table.into(), chain.into(), *place), counted);
            }
        }
        Ok(tally)
    }

    /// Rules and policies of which both sides do not say the same.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut places: Vec<_> = self.counted.keys().chain(other.counted.keys()).collect();
        places.sort();
        places.dedup();
        let mut found = Vec::new();
        for place @ (table, chain, number) in places {
            let both = [self, other].map(|tally| tally.counted.get(place));
            if both[0] != both[1] {
                let told = both.map(|counted| counted.map_or_else(|| "nothing".into(), told));
                found.push(format!(
                    "{table} {chain} {number}: iptables {}, the firewall {}",
                    told[0], told[1]
                ));
            }
        }
        found
    }

    /// How many rules have counted a packet, and how many there are.
    pub(super) fn met(&self) -> (usize, usize) {
        let rules = || self.counted.iter().filter(|((_, _, place), _)| *place > 0);
        (rules().filter(|(_, counted)| counted.packets > 0).count(), rules().count())
    }
}

impl Counted {
    /// `[PACKETS:BYTES]`
    fn read(counter: &str, rule: &str) -> Result<Self> {
        let numbers = counter.trim_matches(['[', ']']).split_once(':');
        let (packets, bytes) = numbers.with_context(|| format!("no counter: {counter}"))?;
        // A single quote is a letter to iptables-restore, and quotes here, as in a shell
        // (docs/differences.md).
        let rule = rule.replace("\\'", "").replace('"', "");
        Ok(Self { rule, packets: packets.parse()?, bytes: bytes.parse()? })
    }
}

fn told(counted: &Counted) -> String {
    format!("[{}:{}] {}", counted.packets, counted.bytes, counted.rule)
}

fn words<const N: usize>(text: &str) -> Result<[&str; N]> {
    let words: Vec<_> = text.split(' ').collect();
    words.try_into().ok().with_context(|| format!("not {N} words: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "*filter\n:INPUT DROP [3:180]\n:a - [0:0]\n[2:120] -A INPUT -p tcp -j a\n\
                       [0:0] -A a\n[1:60] -A a -j ACCEPT\nCOMMIT\n";

    #[test]
    fn equal_counters_are_no_difference() {
        let tally = Tally::parse(ONE).unwrap();
        assert_eq!(tally.differences(&Tally::parse(ONE).unwrap()), Vec::<String>::new());
        assert_eq!(tally.met(), (2, 3));
    }

    #[test]
    fn a_rule_that_counts_or_reads_otherwise_differs() {
        let tally = Tally::parse(ONE).unwrap();
        for (old, new) in [("[1:60]", "[2:60]"), ("[3:180]", "[4:180]"), ("-p tcp", "-p udp")] {
            let other = Tally::parse(&ONE.replace(old, new)).unwrap();
            assert_eq!(tally.differences(&other).len(), 1, "{new}");
        }
    }
}
