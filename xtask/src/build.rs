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

/// Builds what the tests load: the kernel side is the same as in a release.
pub(crate) fn debug() -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "--locked", "-p", "firewall-user"]))?;
    Ok(shell::target().join("debug/firewall"))
}
