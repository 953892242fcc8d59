//! `-L` and `-S`.

use std::fmt::Write;

use firewall_common::rule::Counter;

use super::{
    super::{Program, failure::Failure},
    call::{Call, Command},
};
use crate::rules::{
    self, Chain, ListOptions, Place, Rule, RuleSpec, Ruleset, Services, Table, Target,
};

/// What the command prints. A table without rules is there, and empty.
pub(super) fn text(
    program: Program,
    ruleset: &mut Ruleset,
    call: &Call,
    services: &dyn Services,
) -> Result<String, Failure> {
    ruleset.table_mut(call.table);
    let (Command::List(chain, number) | Command::ListRules(chain, number)) = &call.command else {
        return Ok(String::new());
    };
    if let (Some(name), Some(table)) = (chain, ruleset.table(call.table))
        && table.chain(name).is_none()
    {
        return Err(program.refused("No chain/target/match by that name."));
    }
    Ok(match call.command {
        Command::List(..) => {
            let listed = list(ruleset, call, chain.as_deref(), services);
            match number {
                // Title and columns stand before the first rule.
                Some(number) => listed.lines().nth(number + 1).unwrap_or_default().to_owned(),
                None => listed,
            }
        }
        _ => rules_as_commands(ruleset, call, chain.as_deref(), *number),
    })
}

fn list(ruleset: &Ruleset, call: &Call, chain: Option<&str>, services: &dyn Services) -> String {
    let options = ListOptions {
        table: call.table,
        chain,
        verbose: call.show.verbose,
        exact: call.show.exact,
        line_numbers: call.show.line_numbers,
        names: (!call.show.numeric).then_some(services),
    };
    rules::list(ruleset, &|place| counter(ruleset, place), &options)
}

/// The counter that a rule or policy carries.
pub(in crate::compat) fn counter(ruleset: &Ruleset, place: Place<'_>) -> Counter {
    let chain = ruleset.table(place.table).and_then(|table| table.chain(place.chain));
    let counter = chain.and_then(|chain| match place.number {
        Some(number) => Some(chain.rules.get(number as usize - 1)?.counter),
        None => Some(chain.policy?.counter),
    });
    counter.unwrap_or_default()
}

/// The commands that would make the rules: `-P INPUT ACCEPT`, `-N chain`, `-A …`.
fn rules_as_commands(
    ruleset: &Ruleset,
    call: &Call,
    chain: Option<&str>,
    number: Option<usize>,
) -> String {
    let Some(Table { chains, .. }) = ruleset.table(call.table) else { return String::new() };
    let is_meant = |known: &&Chain| chain.is_none_or(|name| name == known.name);
    let mut out = String::new();
    if number.is_none() {
        for chain in chains.iter().filter(is_meant) {
            declare(&mut out, chain, call.show.verbose);
        }
    }
    for chain in chains.iter().filter(is_meant) {
        for (rule, at) in chain.rules.iter().zip(1..) {
            if number.is_none_or(|number| number == at) {
                append(&mut out, ruleset, &chain.name, rule, call.show.verbose);
            }
        }
    }
    out
}

fn declare(out: &mut String, chain: &Chain, is_verbose: bool) {
    // Writing to a string cannot fail.
    let _ = match chain.policy {
        None => writeln!(out, "-N {}", chain.name),
        Some(policy) if is_verbose => {
            let Counter { packets, bytes } = policy.counter;
            writeln!(out, "-P {} {} -c {packets} {bytes}", chain.name, policy.verdict.name())
        }
        Some(policy) => writeln!(out, "-P {} {}", chain.name, policy.verdict.name()),
    };
}

/// Counters stand between the conditions and the target.
fn append(out: &mut String, ruleset: &Ruleset, chain: &str, rule: &Rule, is_verbose: bool) {
    let whole = rules::spec_text(ruleset.family, &rule.spec);
    let conditions = RuleSpec { target: Target::Continue, ..rule.spec.clone() };
    let conditions = rules::spec_text(ruleset.family, &conditions);
    let target = whole.strip_prefix(&conditions).unwrap_or_default().trim_start();
    let Counter { packets, bytes } = rule.counter;
    let counters = if is_verbose { format!("-c {packets} {bytes}") } else { String::new() };
    let _ = write!(out, "-A {chain}");
    for part in [&*conditions, &*counters, target] {
        if !part.is_empty() {
            let _ = write!(out, " {part}");
        }
    }
    out.push('\n');
}
