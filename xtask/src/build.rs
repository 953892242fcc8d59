//! `cargo xtask build`: the firewall, kernel side included.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{linking, setup, shell};

/// Builds for release; returns the binary.
pub(crate) fn release() -> Result<PathBuf> {
    setup::setup()?;
    let built = firewall("release")?;
    // Where people look for it.
    let known = shell::target().join("release/firewall");
    if built != known {
        replace(&built, &known)?;
    }
    eprintln!("built {}", known.display());
    Ok(known)
}

/// Builds what the tests load, and such programs of the tests: the kernel side is the same as
/// in a release. Returns the binary.
pub(crate) fn debug(beside: &[&str]) -> Result<PathBuf> {
    let built = firewall("debug")?;
    if !beside.is_empty() {
        let mut command = shell::cargo();
        command.args(["build", "--locked"]);
        shell::run(command.args(beside.iter().flat_map(|program| ["--bin", program])))?;
    }
    Ok(built)
}

/// The firewall alone, in cargo's directory of this name.
fn firewall(directory: &str) -> Result<PathBuf> {
    let mut command = shell::cargo();
    command.args(["build", "--locked", "--bin", "firewall"]);
    if directory == "release" {
        command.arg("--release");
    }
    let mut built = shell::target();
    if let Some(target) = linking::target() {
        command.args(["--target", &target]);
        built.push(target);
    }
    shell::run(&mut command)?;
    Ok(built.join(directory).join("firewall"))
}

/// Puts a copy in the place of a program that may be running.
fn replace(built: &Path, known: &Path) -> Result<()> {
    let fresh = known.with_extension("new");
    let directory = known.parent().context("a directory")?;
    fs::create_dir_all(directory)
        .and_then(|()| fs::copy(built, &fresh))
        .and_then(|_| fs::rename(&fresh, known))
        .with_context(|| format!("cannot copy {} to {}", built.display(), known.display()))
}
