//! One JSON object a line: the policy of each built-in chain, and each rule.

use firewall_common::{addr::Family, rule::Counter};
use serde::Serialize;

use super::spec::spec_text;
use crate::rules::ast::{Chain, Counters, Place, Ruleset, TableName};

#[derive(Serialize)]
struct RuleLine<'a> {
    family: &'static str,
    table: &'static str,
    chain: &'a str,
    /// Counted from 1.
    number: u32,
    packets: u64,
    bytes: u64,
    /// As on a line of iptables-save, behind `-A CHAIN`.
    rule: String,
    /// `null` for a rule that only counts.
    target: Option<&'a str>,
}

#[derive(Serialize)]
struct PolicyLine<'a> {
    family: &'static str,
    table: &'static str,
    chain: &'a str,
    policy: &'static str,
    packets: u64,
    bytes: u64,
}

/// A policy line for each built-in chain, before the lines of its rules.
pub fn json(ruleset: &Ruleset, counters: Counters<'_>) -> String {
    let mut out = String::new();
    for table in &ruleset.tables {
        for chain in &table.chains {
            policy(&mut out, ruleset.family, table.name, chain, counters);
            rules(&mut out, ruleset.family, table.name, chain, counters);
        }
    }
    out
}

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

fn policy(
    out: &mut String,
    family: Family,
    table: TableName,
    chain: &Chain,
    counters: Counters<'_>,
) {
    let Some(policy) = chain.policy else { return };
    let Counter { packets, bytes } = counters(Place { table, chain: &chain.name, number: None });
    line(
        out,
        &PolicyLine {
            family: family_name(family),
            table: table.name(),
            chain: &chain.name,
            policy: policy.verdict.name(),
            packets,
            bytes,
        },
    );
}

fn rules(
    out: &mut String,
    family: Family,
    table: TableName,
    chain: &Chain,
    counters: Counters<'_>,
) {
    for (rule, number) in chain.rules.iter().zip(1..) {
        let place = Place { table, chain: &chain.name, number: Some(number) };
        let Counter { packets, bytes } = counters(place);
        let target = rule.spec.target.name();
        line(
            out,
            &RuleLine {
                family: family_name(family),
                table: table.name(),
                chain: &chain.name,
                number,
                packets,
                bytes,
                rule: spec_text(family, &rule.spec),
                target: (!target.is_empty()).then_some(target),
            },
        );
    }
}

/// Strings and numbers always have a JSON form.
fn line(out: &mut String, value: &impl Serialize) {
    out.push_str(&serde_json::to_string(value).unwrap_or_default());
    out.push('\n');
}
