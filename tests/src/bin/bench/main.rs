//! The firewall beside what it competes with, in one run: medians of interleaved rounds,
//! as a table, as JSON and as a page.

mod network;
mod page;
mod peers;
mod program;
mod report;
mod traffic;
mod way;

use std::{fs, path::PathBuf, process::ExitCode};

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
    #[arg(long, value_name = "N", default_value_t = 7)]
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
    let is_wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut report = Report::new()?;
    if is_wanted(Part::Program) {
        program::measure(&mut report, arguments.rounds, arguments.flows)?;
    }
    if is_wanted(Part::Way) {
        way::measure(&mut report, arguments.rounds)?;
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
