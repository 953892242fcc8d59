//! The file of iptables-save and ip6tables-save.

use std::fmt::Write;

use firewall_common::{addr::Family, rule::Counter};

use super::spec::spec_text;
use crate::rules::ast::{Chain, Counters, Place, Ruleset, Table};

/// The ruleset as iptables-save prints it; with counters, as `-c` does.
///
/// Policies have counters either way: without any given, those of the ruleset.
pub fn to_save(ruleset: &Ruleset, counters: Option<Counters<'_>>) -> String {
    let mut out = String::new();
    for table in &ruleset.tables {
        save_table(&mut out, ruleset.family, table, counters);
    }
    out
}

fn save_table(out: &mut String, family: Family, table: &Table, counters: Option<Counters<'_>>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "*{}", table.name);
    for chain in &table.chains {
        let place = Place { table: table.name, chain: &chain.name, number: None };
        let counters = counters.filter(|_| chain.policy.is_some());
        declare(out, chain, counters.map(|counters| counters(place)));
    }
    for chain in &table.chains {
        for (rule, number) in chain.rules.iter().zip(1..) {
            if let Some(counters) = counters {
                let place = Place { table: table.name, chain: &chain.name, number: Some(number) };
                let _ = write!(out, "{} ", bracketed(counters(place)));
            }
            let spec = spec_text(family, &rule.spec);
            let blank = if spec.is_empty() { "" } else { " " };
            let _ = writeln!(out, "-A {}{blank}{spec}", chain.name);
        }
    }
    out.push_str("COMMIT\n");
}

fn declare(out: &mut String, chain: &Chain, counter: Option<Counter>) {
    let _ = match chain.policy {
        Some(policy) => {
            let counter = bracketed(counter.unwrap_or(policy.counter));
            writeln!(out, ":{} {} {counter}", chain.name, policy.verdict.name())
        }
        None => writeln!(out, ":{} - [0:0]", chain.name),
    };
}

fn bracketed(counter: Counter) -> String {
    format!("[{}:{}]", counter.packets, counter.bytes)
}
