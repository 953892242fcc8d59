//! `cargo xtask fuzz TARGET`: libFuzzer on one of the targets of the crate `fuzz`.
//!
//! The targets are built with LLVM's coverage counters, which the stable compiler
//! has too; only what runs on this machine gets them, not build scripts, hence the
//! explicit `--target`. What is found stays in `target/fuzz`; `--minimise` takes
//! over into the committed corpus what adds to its coverage.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// Counters at every edge, compared values as hints, and all checks of a debug
/// build.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "-Ccodegen-units=1",
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to fuzz
    target: Target,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Replace the committed corpus by the least that reaches as much as it and
    /// what was found since
    #[arg(long)]
    minimise: bool,
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Target {
    /// Any frame through headers, tracking and rules
    Headers,
    /// Any sequence of packets of few endpoints
    Conntrack,
    /// Any text as rules
    Rules,
    /// Any bytes on an FTP control connection
    Ftp,
    /// What the command line reads and lists
    Cli,
    /// Any text as lines of ipset
    Sets,
    /// Any text as a TCP stream, in any pieces
    Stream,
    /// Any conversation through NAT, over a network that loses, repeats and delays
    Rewriter,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Conntrack => "conntrack",
            Self::Rules => "rules",
            Self::Ftp => "ftp",
            Self::Cli => "cli",
            Self::Sets => "sets",
            Self::Stream => "stream",
            Self::Rewriter => "rewriter",
        }
    }
}

pub(crate) fn fuzz(arguments: &Arguments) -> Result<()> {
    let name = arguments.target.name();
    let binary = build(name)?;
    let committed = shell::workspace().join("fuzz/corpus").join(name);
    let found = directory("corpus", name)?;
    let crashes = directory("crashes", name)?;
    fs::create_dir_all(&committed)?;
    if arguments.minimise {
        return minimise(&binary, name, &committed, &found);
    }
    let mut command = Command::new(&binary);
    command.arg(&found).arg(&committed);
    command.arg(format!("-artifact_prefix={}/", crashes.display()));
    command.arg(format!("-max_total_time={}", arguments.seconds));
    // Beyond this length nothing new happens, only slowly.
    command.args(["-max_len=2048", "-timeout=10", "-use_value_profile=1", "-print_final_stats=1"]);
    shell::run(&mut command).with_context(|| {
        format!("an input of {name} broke a promise; it stands in {}", crashes.display())
    })
}

fn build(name: &str) -> Result<PathBuf> {
    let host = host()?;
    let binary = format!("fuzz_{name}");
    let mut command = shell::cargo();
    command.args(["build", "--locked", "--release", "--target", &host]);
    command.args(["-p", "firewall-fuzz", "--features", "engine", "--bin", &binary]);
    command.env("RUSTFLAGS", FLAGS.join(" "));
    shell::run(&mut command)?;
    Ok(shell::target().join(host).join("release").join(binary))
}

/// The compiler's name of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_owned()),
        None => bail!("`rustc -vV` does not name its host"),
    }
}

fn directory(kind: &str, name: &str) -> Result<PathBuf> {
    let path = shell::target().join("fuzz").join(kind).join(name);
    fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

fn minimise(binary: &PathBuf, name: &str, committed: &PathBuf, found: &PathBuf) -> Result<()> {
    let least = directory("least", name)?;
    fs::remove_dir_all(&least)?;
    fs::create_dir(&least)?;
    let mut command = Command::new(binary);
    command.args(["-set_cover_merge=1", "-max_len=2048"]).arg(&least).arg(committed).arg(found);
    shell::run(&mut command)?;
    fs::remove_dir_all(committed)?;
    fs::create_dir(committed)?;
    for entry in fs::read_dir(&least)? {
        let entry = entry?;
        fs::copy(entry.path(), committed.join(entry.file_name()))?;
    }
    Ok(())
}
