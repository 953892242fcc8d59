//! `cargo xtask run -- ARGS`: build for release, then `firewall run ARGS` as root.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::{build, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Options of `firewall run`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    firewall: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let binary = build::release()?;
    let mut command = shell::as_root(binary);
    command.arg("run").args(&arguments.firewall);
    eprintln!("+ {}", shell::display(&command));
    Err(command.exec()).context("cannot run the firewall")
}
