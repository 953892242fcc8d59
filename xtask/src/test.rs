//! `cargo xtask test`: every check and test, from the quickest to the slowest.

use std::env;

use anyhow::{Result, ensure};

use crate::{
    build,
    programs::{Program, Programs},
    scenarios, servers, setup, shell,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Every combination of FTP server, client, mode and family
    #[arg(long)]
    pub(crate) full: bool,
}

/// 1. formatting; 2. clippy; 3. unit and property tests, which need no rights;
/// 4. tests of the loaded program and of whole networks in namespaces, as root.
pub(crate) fn test(arguments: &Arguments) -> Result<()> {
    setup::setup()?;
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    shell::run(
        shell::cargo().args(["clippy", "--locked", "--all-targets"]).args(["--", "-D", "warnings"]),
    )?;
    let programs = Programs::build()?;
    check(&programs.units)?;
    let firewall = build::debug(&[])?;
    let mut environment =
        vec![("FIREWALL_BIN", firewall.into()), ("FIREWALL_SERVERS", servers::directory().into())];
    if let Some(ci) = env::var_os("CI") {
        environment.push(("CI", ci));
    }
    if arguments.full {
        environment.push(("FIREWALL_FULL", "1".into()));
    }
    scenarios::run(programs.scenarios, &environment)
}

/// Runs all of them, also when one has failed; then what stands in the documentation.
fn check(units: &[Program]) -> Result<()> {
    let failed: Vec<_> = units
        .iter()
        .filter(|unit| shell::run(&mut unit.command()).inspect_err(|e| eprintln!("{e:#}")).is_err())
        .map(Program::name)
        .collect();
    ensure!(failed.is_empty(), "tests failed in: {}", failed.join(", "));
    shell::run(shell::cargo().args(["test", "--locked", "--doc"]))
}
