//! Recorded traffic through nf_conntrack and through the firewall: a line of JSON for
//! each frame, exit status 1 when they differ.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use firewall_tests::{
    capability,
    oracle::{
        bench::{Bench, Hook, MTU, Sites},
        capture,
        replay::{self, Tally},
    },
};

/// Compare the firewall with nf_conntrack over recorded traffic
#[derive(Parser, Debug)]
struct Arguments {
    /// Folder with pcap and pcapng files
    #[arg(value_name = "DIR")]
    folder: PathBuf,

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
    let files = capture::files(&arguments.folder)?;
    if let Err(reason) = capability::firewall().and_then(|()| capability::oracle()) {
        bail!("{reason}");
    }
    let sites = Sites::new()?;
    let mut bench = Bench::start(&sites, arguments.hook.into())?;
    let mut all = Tally::default();
    for file in files {
        let capture = capture::read(&file, MTU)?;
        let reports = bench.play(std::slice::from_ref(&capture.script))?;
        let report = reports.first().context("a script without a report")?;
        let (lines, tally) = replay::lines(&capture, report);
        let mut stdout = std::io::stdout().lock();
        lines.iter().try_for_each(|line| writeln!(stdout, "{line}"))?;
        eprintln!("{}: {}", file.display(), told(tally));
        all.add(tally);
    }
    eprintln!("in all: {}", told(all));
    Ok(all.mistakes == 0)
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
