//! `firewall check`: reads and compiles rules, and changes nothing.

use anyhow::Result;

use super::{output::print, source};
use crate::{
    cli::args::{self, Global, Output},
    ruleset::Rulesets,
};

pub fn check(global: &Global, command: &args::Check) -> Result<()> {
    let rules = source::read(&command.file, command.ipv6)?;
    let count: usize =
        rules.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
    Rulesets::default().with(rules).compile()?;
    let file = command.file.display();
    match global.output {
        Output::Text => print([format!("{file}: {count} rules, no errors")]),
        Output::Json => print([serde_json::json!({
            "file": file.to_string(), "rules": count, "errors": 0
        })
        .to_string()]),
    }
}
