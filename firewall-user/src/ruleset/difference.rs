//! What a new ruleset changes, chain by chain, as people would say it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use firewall_common::addr::Family;
use serde::Serialize;
use similar::{Algorithm, DiffTag, capture_diff_slices_deadline};

use crate::rules::{Chain, Rule, Ruleset, Table, TableName, spec_text};

/// Longer than this nobody waits for the shortest difference: a longer one is as true.
const PATIENCE: Duration = Duration::from_secs(1);

/// One thing that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    Policy {
        from: &'static str,
        to: &'static str,
    },
    NewChain {
        rules: usize,
    },
    ChainGoes {
        rules: usize,
    },
    /// Its number after the change.
    Added {
        number: usize,
        rule: String,
    },
    /// Its number before the change.
    Removed {
        number: usize,
        rule: String,
    },
}

/// A change with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub family: &'static str,
    pub table: &'static str,
    pub chain: String,
    #[serde(flatten)]
    pub change: Change,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain, change } = self;
        write!(f, "{family} {table} {chain}: ")?;
        match change {
            Change::Policy { from, to } => write!(f, "the policy becomes {to} (is {from})"),
            Change::NewChain { rules } => write!(f, "the chain is new, with {}", counted(*rules)),
            Change::ChainGoes { rules } => write!(f, "the chain goes, with {}", counted(*rules)),
            Change::Added { number, rule } => write!(f, "+ rule {number}: {rule}"),
            Change::Removed { number, rule } => write!(f, "- rule {number}: {rule}"),
        }
    }
}

fn counted(rules: usize) -> String {
    if rules == 1 { "1 rule".into() } else { format!("{rules} rules") }
}

/// What `after` changes of `before`, which is of the same family.
pub fn differences(before: &Ruleset, after: &Ruleset) -> Vec<Difference> {
    let family = after.family;
    let family_name = match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    };
    let mut found = Vec::new();
    for name in TableName::ALL {
        // A table that is not there judges as an empty one.
        let empty = Table::empty(name);
        let [before_table, after_table] =
            [before, after].map(|rules| rules.table(name).unwrap_or(&empty));
        let new = after_table.chains.iter();
        let gone = before_table.chains.iter();
        let gone = gone.filter(|chain| after_table.chain(&chain.name).is_none());
        for Chain { name: chain, .. } in new.chain(gone) {
            let [before, after] = [before_table, after_table].map(|table| table.chain(chain));
            found.extend(of_chain(family, before, after).into_iter().map(|change| Difference {
                family: family_name,
                table: name.name(),
                chain: chain.clone(),
                change,
            }));
        }
    }
    found
}

fn of_chain(family: Family, before: Option<&Chain>, after: Option<&Chain>) -> Vec<Change> {
    let mut changes = Vec::new();
    match (before, after) {
        (Some(before), None) => {
            changes.push(Change::ChainGoes { rules: before.rules.len() });
            return changes;
        }
        (None, Some(after)) => changes.push(Change::NewChain { rules: after.rules.len() }),
        _ => {}
    }
    let policy = |chain: Option<&Chain>| chain.and_then(|chain| chain.policy).map(|it| it.verdict);
    if let (Some(from), Some(to)) = (policy(before), policy(after))
        && from != to
    {
        changes.push(Change::Policy { from: from.name(), to: to.name() });
    }
    let name = after.map_or("", |chain| &chain.name);
    let lines = |chain: Option<&Chain>| -> Vec<String> {
        let rules = chain.map(|chain| &chain.rules[..]).unwrap_or_default();
        rules.iter().map(|rule| line(family, name, rule)).collect()
    };
    rules(&lines(before), &lines(after), &mut changes);
    changes
}

fn line(family: Family, chain: &str, rule: &Rule) -> String {
    format!("-A {chain} {}", spec_text(family, &rule.spec)).trim_end().to_owned()
}

fn rules(before: &[String], after: &[String], changes: &mut Vec<Change>) {
    let deadline = Some(Instant::now() + PATIENCE);
    for step in capture_diff_slices_deadline(Algorithm::Myers, before, after, deadline) {
        let (_, old, new) = step.as_tag_tuple();
        if step.tag() == DiffTag::Equal {
            continue;
        }
        let removed = old.map(|at| Change::Removed { number: at + 1, rule: before[at].clone() });
        changes.extend(removed);
        changes.extend(new.map(|at| Change::Added { number: at + 1, rule: after[at].clone() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{BuiltinServices, parse};

    const BEFORE: &str = "\
*filter
:INPUT ACCEPT [7:70]
:old - [0:0]
[3:30] -A INPUT -s 192.0.2.1/32 -j DROP
-A INPUT -j old
-A old -j RETURN
COMMIT
";

    fn told(after: &str) -> Vec<String> {
        let [before, after] =
            [BEFORE, after].map(|text| parse("x", text, Family::Ipv4, &BuiltinServices).unwrap());
        differences(&before, &after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn counters_and_an_empty_table_are_no_difference() {
        let after = BEFORE.replace("[7:70]", "[0:0]").replace("[3:30] ", "");
        assert!(told(&format!("{after}*raw\nCOMMIT\n")).is_empty());
    }

    #[test]
    fn rules_that_come_and_go_are_told_with_their_numbers() {
        let after = "*filter\n:INPUT ACCEPT\n:old -\n-A INPUT -p tcp --dport 22 -j ACCEPT\n\
                     -A INPUT -j old\n-A old -j RETURN\nCOMMIT\n";
        assert_eq!(
            told(after),
            [
                "IPv4 filter INPUT: - rule 1: -A INPUT -s 192.0.2.1/32 -j DROP",
                "IPv4 filter INPUT: + rule 1: -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
            ]
        );
    }

    #[test]
    fn policies_and_chains_are_told() {
        let after = "*filter\n:INPUT DROP\n:new -\n-A new -j DROP\nCOMMIT\n*raw\n\
                     -A PREROUTING -j NOTRACK\nCOMMIT\n";
        assert_eq!(
            told(after),
            [
                "IPv4 raw PREROUTING: + rule 1: -A PREROUTING -j NOTRACK",
                "IPv4 filter INPUT: the policy becomes DROP (is ACCEPT)",
                "IPv4 filter INPUT: - rule 1: -A INPUT -s 192.0.2.1/32 -j DROP",
                "IPv4 filter INPUT: - rule 2: -A INPUT -j old",
                "IPv4 filter new: the chain is new, with 1 rule",
                "IPv4 filter new: + rule 1: -A new -j DROP",
                "IPv4 filter old: the chain goes, with 1 rule",
            ]
        );
    }

    #[test]
    fn many_other_rules_are_told_in_time() {
        let of = |port: u16| {
            let rules = (0..4_000).map(|n| {
                format!(
                    "-A INPUT -s 10.0.{}.{}/32 -p tcp --dport {port} -j DROP\n",
                    n >> 8,
                    n & 255
                )
            });
            rules.collect::<String>()
        };
        let [before, after] =
            [1, 2].map(|port| parse("x", &of(port), Family::Ipv4, &BuiltinServices).unwrap());
        assert_eq!(differences(&before, &after).len(), 8_000);
    }
}
