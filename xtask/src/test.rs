//! `cargo xtask test`: every check and test, from the quickest to the slowest.

use std::{env, process::Command};

use anyhow::Result;

use crate::{build, scenarios, servers, setup, shell};

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
    shell::run(&mut unit_tests())?;
    let firewall = build::debug()?;
    let mut environment =
        vec![("FIREWALL_BIN", firewall.into()), ("FIREWALL_SERVERS", servers::directory().into())];
    if let Some(ci) = env::var_os("CI") {
        environment.push(("CI", ci));
    }
    if arguments.full {
        environment.push(("FIREWALL_FULL", "1".into()));
    }
    scenarios::run(&environment)
}

fn unit_tests() -> Command {
    let mut command = shell::cargo();
    command.args(["test", "--locked", "--no-fail-fast"]);
    command.args(["-p", "firewall-common", "-p", "firewall-user"]);
    command.args(["-p", "firewall-fuzz", "-p", "xtask"]);
    command
}
