//! `firewall check`: reads and compiles rules, says what is likely to be wrong with them,
//! and changes nothing.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde_json::json;

use super::{output::print, source};
use crate::{
    cli::args::{self, Global, Output},
    rules::{
        Preventing, Remembering, Ruleset,
        lint::{Finding, lint},
        remembering,
    },
    ruleset::Rulesets,
    session,
};

pub fn check(global: &Global, command: &args::Check) -> Result<()> {
    let alone = command.file.as_deref().map(|file| (file, source::is_ipv6(file, command.ipv6)));
    let of_v4 = command.rules.as_deref().map(|file| (file, false));
    let of_v6 = command.rules6.as_deref().map(|file| (file, true));
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for (file, is_ipv6) in [alone, of_v4, of_v6].into_iter().flatten() {
        match source::read(file, is_ipv6) {
            Ok(rules) => right.push((file, rules)),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    if !wrong.is_empty() {
        bail!(wrong.join("\n"));
    }
    // Some bounds are those of both families together.
    let all = right.iter().map(|(_, rules)| rules.clone());
    all.fold(Rulesets::default(), Rulesets::with).compile()?;
    // All of them are told of before one that warns is a failure.
    let mut strict = Ok(());
    for (file, rules) in &right {
        strict = strict.and(one(global, command, file, rules)?);
    }
    strict
}

/// Tells of one file; whether it is as `--strict` wants it.
fn one(global: &Global, command: &args::Check, file: &Path, rules: &Ruleset) -> Result<Result<()>> {
    let count: usize =
        rules.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
    let compiled = Rulesets::default().with(rules.clone()).compile()?;
    let findings = lint(rules, session::caller().as_ref());
    let file = file.display().to_string();
    let chains = if command.verbose { remembering(rules, &compiled) } else { Vec::new() };
    let (mut lines, summary) = match global.output {
        Output::Text => (told(&file, &chains), text(&file, count, &findings)),
        Output::Json => (told_json(&file, &chains), json_lines(&file, count, &findings)),
    };
    lines.extend(summary);
    print(lines)?;
    if command.strict && !findings.is_empty() {
        return Ok(Err(anyhow!("{file}: {} (--strict)", warnings(findings.len()))));
    }
    Ok(Ok(()))
}

/// What each chain remembers, and after it the rules that prevent it.
fn told(file: &str, chains: &[Remembering]) -> Vec<String> {
    let of_chain = |Remembering { chain, preventing }: &Remembering| {
        let but = match preventing.len() {
            0 => String::new(),
            1 => ", but for packets that fit the other conditions of 1 rule:".into(),
            count => format!(", but for packets that fit the other conditions of {count} rules:"),
        };
        let rules = preventing.iter().map(|Preventing { line, place, reason, rule }| {
            format!("{file}:{line}: {place} {reason}\n  {rule}")
        });
        let first = format!(
            "{file}: {chain}: established connections remember that they are accepted{but}"
        );
        std::iter::once(first).chain(rules).collect::<Vec<_>>()
    };
    chains.iter().flat_map(of_chain).collect()
}

fn told_json(file: &str, chains: &[Remembering]) -> Vec<String> {
    let of_chain = |Remembering { chain, preventing }: &Remembering| {
        let rules = preventing.iter().map(|Preventing { line, place, reason, rule }| {
            json!({ "line": line, "place": place, "reason": reason, "rule": rule })
        });
        let rules: Vec<_> = rules.collect();
        json!({ "file": file, "chain": chain, "not_remembered": rules }).to_string()
    };
    chains.iter().map(of_chain).collect()
}

fn text(file: &str, rules: usize, findings: &[Finding]) -> Vec<String> {
    let mut lines: Vec<_> = findings
        .iter()
        .map(|finding| match finding.line {
            Some(line) => format!("{file}:{line}: {finding}"),
            None => format!("{file}: {finding}"),
        })
        .collect();
    let also = match findings.len() {
        0 => String::new(),
        count => format!(", {}", warnings(count)),
    };
    let rules = if rules == 1 { "1 rule".into() } else { format!("{rules} rules") };
    lines.push(format!("{file}: {rules}, no errors{also}"));
    lines
}

fn json_lines(file: &str, rules: usize, findings: &[Finding]) -> Vec<String> {
    let mut lines: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "file": file,
                "line": finding.line,
                "warning": finding.lint,
                "message": finding.message,
                "advice": finding.advice,
            })
            .to_string()
        })
        .collect();
    let warnings = findings.len();
    lines.push(
        json!({ "file": file, "rules": rules, "errors": 0, "warnings": warnings }).to_string(),
    );
    lines
}

fn warnings(count: usize) -> String {
    if count == 1 { "1 warning".into() } else { format!("{count} warnings") }
}
