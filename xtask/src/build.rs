//! `cargo xtask build`: the firewall, kernel side included.

use std::path::PathBuf;

use anyhow::Result;

use crate::{setup, shell};

/// Builds for release; returns the binary.
pub(crate) fn release() -> Result<PathBuf> {
    setup::setup()?;
    shell::run(shell::cargo().args(["build", "--locked", "--release", "-p", "firewall-user"]))?;
    Ok(shell::target().join("release/firewall"))
}

/// Builds what the tests load, and such programs of the tests: the kernel side is the same as
/// in a release. Returns the binary. Without a choice of packages they are those of the tests,
/// so that nothing is compiled for it once more.
pub(crate) fn debug(beside: &[&str]) -> Result<PathBuf> {
    let mut command = shell::cargo();
    command.args(["build", "--locked", "--bin", "firewall"]);
    for program in beside {
        command.args(["--bin", program]);
    }
    shell::run(&mut command)?;
    Ok(shell::target().join("debug/firewall"))
}
