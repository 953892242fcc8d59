//! The firewall beside what it competes with, in one run: medians of interleaved rounds,
//! as a table, as JSON and as a page.

mod bulk;
mod connections;
mod cpus;
mod drops;
mod established;
mod expected;
mod flood;
mod ftp;
mod ipv6;
mod keeping;
mod network;
mod page;
mod peers;
mod program;
mod report;
mod rules;
mod site;
mod sweep;
mod traffic;
mod translated;
mod way;

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use firewall_tests::capability;

use report::Report;

/// Measure the firewall beside its peers
#[derive(Parser, Debug)]
struct Arguments {
    /// What to measure; all of it without
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,

    /// Rounds, of which the medians are taken
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,

    /// The most flows that are kept at once
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    flows: u32,

    /// Where the report goes: report.json, report.html
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// A report to compare with
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// The parts of the bench.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What one packet costs in the program
    Program,
    /// What one packet costs on its whole way between two devices
    Way,
    /// What a new connection costs behind few and many rules
    Connections,
    /// How fast INVALID packets, and those from a list of prefixes, are refused
    Drops,
    /// What a flood of SYNs leaves of honest connections
    Flood,
    /// The rate of one TCP connection to, from and through the host
    Bulk,
    /// How long FTP waits for the firewall
    Ftp,
    /// What it takes to change rules, to list flows, to keep one
    Keeping,
    /// What the sweep costs the packets that pass meanwhile
    Sweep,
    /// Two CPUs beside one, and where a CPU's time goes for each hook
    Cpus,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0, "--rounds 0: nothing is measured in no round");
    if let Err(missing) = capability::firewall() {
        bail!("{missing}");
    }
    let before = arguments.compare.as_deref().map(Report::read).transpose()?;
    let mut report = Report::new()?;
    for part in Part::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(part) {
            part.measure(&mut report, arguments).with_context(|| format!("{part:?}"))?;
        }
    }
    report.finish()?;
    println!("{}", report.table(before.as_ref()));
    fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    fs::write(arguments.out.join("report.json"), report.json()?)?;
    fs::write(arguments.out.join("report.html"), page::of(&report))?;
    println!("{}", arguments.out.join("report.html").display());
    Ok(())
}

impl Part {
    fn measure(self, report: &mut Report, arguments: &Arguments) -> Result<()> {
        let Arguments { rounds, flows, .. } = *arguments;
        let began = Instant::now();
        match self {
            Self::Program => program::measure(report, rounds, flows),
            Self::Way => way::measure(report, rounds),
            Self::Connections => connections::measure(report, rounds),
            Self::Drops => drops::measure(report, rounds),
            Self::Flood => flood::measure(report),
            Self::Bulk => bulk::measure(report, rounds),
            Self::Ftp => ftp::measure(report, rounds),
            Self::Keeping => keeping::measure(report, rounds),
            Self::Sweep => sweep::measure(report, rounds, flows),
            Self::Cpus => cpus::measure(report, rounds),
        }?;
        eprintln!("{self:?}: measured in {:.0?}", began.elapsed());
        Ok(())
    }
}
