//! `firewall check`: reads and compiles rules, says what is likely to be wrong with them,
//! and changes nothing.

use anyhow::{Result, bail};
use serde_json::json;

use super::{output::print, source};
use crate::{
    cli::args::{self, Global, Output},
    rules::lint::{Finding, lint},
    ruleset::Rulesets,
    session,
};

pub fn check(global: &Global, command: &args::Check) -> Result<()> {
    let rules = source::read(&command.file, command.ipv6)?;
    let count: usize =
        rules.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
    Rulesets::default().with(rules.clone()).compile()?;
    let findings = lint(&rules, session::caller().as_ref());
    let file = command.file.display().to_string();
    print(match global.output {
        Output::Text => text(&file, count, &findings),
        Output::Json => json_lines(&file, count, &findings),
    })?;
    if command.strict && !findings.is_empty() {
        bail!("{file}: {} (--strict)", warnings(findings.len()));
    }
    Ok(())
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
    lines.push(format!("{file}: {rules} rules, no errors{also}"));
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
