//! `cargo xtask bench`: the firewall beside what it competes with. The report is a table on
//! the terminal, `target/bench/report.json` and `target/bench/report.html`; each is kept
//! under its commit, for `--compare`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{build, setup, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Show beside it what was measured at another commit
    #[arg(long, value_name = "REV")]
    compare: Option<String>,

    /// Measure this part alone: program, way, connections, drops, flood, bulk, ftp, keeping,
    /// sweep, cpus
    #[arg(long, value_name = "PART")]
    only: Vec<String>,

    /// Rounds, of which the medians are taken
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,

    /// The most flows that are kept at once
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    flows: u32,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    setup::setup()?;
    let out = shell::target().join("bench");
    let history = out.join("history");
    // Before anything takes long.
    let before = arguments.compare.as_deref().map(|rev| known(&history, rev)).transpose()?;
    let firewall = build::release()?;
    let package = ["build", "--locked", "--release", "-p", "firewall-tests", "--bin", "bench"];
    shell::run(shell::cargo().args(package))?;
    let mut command = shell::as_root("env");
    command.arg(format!("FIREWALL_BIN={}", firewall.display()));
    command.arg(shell::target().join("release/bench")).arg("--out").arg(&out);
    command.arg(format!("--rounds={}", arguments.rounds));
    command.arg(format!("--flows={}", arguments.flows));
    for part in &arguments.only {
        command.arg(format!("--only={part}"));
    }
    if let Some(before) = before {
        command.arg("--compare").arg(before);
    }
    shell::run(&mut command)?;
    fs::create_dir_all(&history)?;
    fs::copy(out.join("report.json"), history.join(format!("{}.json", revision()?)))?;
    Ok(())
}

/// The report of a commit that was measured before.
fn known(history: &Path, rev: &str) -> Result<PathBuf> {
    let commit = git(&["rev-parse", "--short=12", &format!("{rev}^{{commit}}")])
        .with_context(|| format!("--compare {rev}: no such commit"))?;
    let report = history.join(format!("{commit}.json"));
    ensure!(
        report.exists(),
        "--compare {rev}: {commit} was not measured here; check it out and run `cargo xtask bench`"
    );
    Ok(report)
}

/// The commit that is measured, and whether the work tree differs from it.
fn revision() -> Result<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let is_clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(if is_clean { commit } else { format!("{commit}-changed") })
}

fn git(arguments: &[&str]) -> Result<String> {
    let mut command = std::process::Command::new("git");
    let output = command.args(arguments).current_dir(shell::workspace()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
