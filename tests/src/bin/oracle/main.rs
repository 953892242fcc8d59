//! Recorded traffic through nf_conntrack and through the firewall, or rules files in
//! iptables and in the firewall: a line of JSON for each frame or file, exit status 1 when
//! they differ.

mod rules;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use firewall_tests::{
    capability,
    oracle::{
        bench::{Bench, Hook, MTU, Openings, Sites},
        capture,
        replay::{self, Tally},
    },
};

/// Compare the firewall with nf_conntrack over recorded traffic, or with iptables under
/// files of rules
#[derive(Parser, Debug)]
struct Arguments {
    /// Folder with pcap and pcapng files
    #[arg(value_name = "DIR", required_unless_present = "rules")]
    folder: Option<PathBuf>,

    /// Folder with rules files, NAME.v4 and NAME.v6, to play random packets with
    #[arg(long, value_name = "DIR", conflicts_with = "folder")]
    rules: Option<PathBuf>,

    /// Packets to play with each of these files
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "rules")]
    packets: usize,

    /// Which random packets
    #[arg(long, value_name = "N", default_value_t = 1, requires = "rules")]
    seed: u64,

    /// Where the firewall judges
    #[arg(long, value_name = "HOOK", default_value = "xdp")]
    hook: HookName,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum HookName {
    Xdp,
    XdpGeneric,
    Tc,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("oracle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the two agree.
fn run(arguments: &Arguments) -> Result<bool> {
    if let Err(reason) = capability::firewall().and_then(|()| capability::oracle()) {
        bail!("{reason}");
    }
    let hook = arguments.hook.into();
    match (&arguments.rules, &arguments.folder) {
        (Some(folder), _) => rules::compare(folder, hook, arguments.packets, arguments.seed),
        (None, Some(folder)) => play(folder, hook),
        (None, None) => bail!("name a folder with captures, or one with --rules"),
    }
}

/// Plays the captures of a folder.
fn play(folder: &Path, hook: Hook) -> Result<bool> {
    let files = capture::files(folder)?;
    let sites = Sites::new()?;
    let mut bench = Bench::start(&sites, hook)?;
    let mut all = Tally::default();
    for file in &files {
        let capture = capture::read(file, MTU)?;
        let reports = bench.play(std::slice::from_ref(&capture.script))?;
        let report = reports.first().context("a script without a report")?;
        let (lines, tally) = replay::lines(&capture, report);
        let mut stdout = std::io::stdout().lock();
        lines.iter().try_for_each(|line| writeln!(stdout, "{line}"))?;
        eprintln!("{}: {}", file.display(), told(tally));
        all.add(tally);
    }
    eprintln!("in all: {}", told(all));
    drop(bench);
    let mistakes = play_with_helpers(&files, hook)?;
    Ok(all.mistakes + mistakes == 0)
}

/// Plays those with control connections of FTP once more, beside the kernel's helper; gives how
/// many differences no document names.
fn play_with_helpers(files: &[PathBuf], hook: Hook) -> Result<usize> {
    let mut captures = Vec::new();
    for file in files {
        captures.push(capture::read_at_home(file, MTU)?);
    }
    captures.retain(Openings::concern);
    if captures.is_empty() {
        eprintln!("no capture has a control connection of FTP (port 21)");
        return Ok(0);
    }
    let sites = Sites::new()?;
    let mut openings = Openings::start(&sites, hook)?;
    let mut mistakes = 0;
    for capture in &captures {
        let file = capture.path.display().to_string();
        let played = openings.play(capture)?;
        let mut stdout = std::io::stdout().lock();
        played.lines(&file).iter().try_for_each(|line| writeln!(stdout, "{line}"))?;
        eprintln!(
            "{file}, with helpers: {} frames played, {} skipped, {} holes of both, {} differences, \
             {} documented ones",
            played.frames,
            capture.skipped.len(),
            played.agreed(),
            played.mistakes(),
            played.deliberate()
        );
        mistakes += played.mistakes();
    }
    Ok(mistakes)
}

fn told(tally: Tally) -> String {
    let Tally { frames, skipped, documented, mistakes } = tally;
    format!(
        "{frames} frames played, {skipped} skipped, {mistakes} differences, \
         {documented} documented ones"
    )
}

impl From<HookName> for Hook {
    fn from(name: HookName) -> Self {
        match name {
            HookName::Xdp => Self::Xdp,
            HookName::XdpGeneric => Self::XdpGeneric,
            HookName::Tc => Self::Tc,
        }
    }
}
