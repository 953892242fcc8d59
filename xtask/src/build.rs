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
    let how = match linking::target() {
        Some(_) => "with musl, as one file",
        None => "with this machine's C library: there is no standard library for musl here",
    };
    eprintln!("built {}, linked {how}", known.display());
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
    let is_release = directory == "release";
    if is_release {
        command.arg("--release");
    }
    let target = linking::target();
    // With other packages it would have the features that those ask for. The tests have them
    // beside it, and nothing is compiled once more.
    if is_release || target.is_some() {
        command.args(["-p", "firewall-user"]);
    }
    let mut built = shell::target();
    if let Some(target) = target {
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
