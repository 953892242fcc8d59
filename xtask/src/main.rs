//! The project's commands, one file each; every command that they run is printed.

use anyhow::Result;
use clap::Parser;

mod bench;
mod build;
mod ci;
mod demo;
mod fuzz;
mod linking;
mod oracle;
mod programs;
mod run;
mod scenarios;
mod servers;
mod setup;
mod shell;
mod test;

/// Build, run and test the firewall.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Install what building and testing need, when it is missing
    Setup,
    /// Build the firewall for release, kernel side included
    Build,
    /// Build, then enforce: `cargo xtask run -- -i eth0 -i eth1 --rules FILE`
    Run(run::Arguments),
    /// Watch FTP pass through the firewall between network namespaces
    Demo,
    /// Run every check and test
    Test(test::Arguments),
    /// Compare the firewall with nf_conntrack over a folder of captures, or with iptables
    /// under a folder of rules files
    Oracle(oracle::Arguments),
    /// Measure the firewall beside what it competes with, in one run
    Bench(bench::Arguments),
    /// Look for inputs that break a promise: `cargo xtask fuzz conntrack --seconds 600`
    Fuzz(fuzz::Arguments),
    /// Exactly what continuous integration runs
    Ci,
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Setup => setup::setup(),
        Command::Build => build::release().map(drop),
        Command::Run(arguments) => run::run(&arguments),
        Command::Demo => demo::demo(),
        Command::Test(arguments) => test::test(&arguments),
        Command::Oracle(arguments) => oracle::oracle(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Command::Ci => ci::ci(),
    }
}
