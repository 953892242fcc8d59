//! What it takes to change rules, to list flows, and to keep one in memory.

use std::{
    fs::{self, File},
    io::Write as _,
    os::fd::AsRawFd as _,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use firewall_tests::{Firewall, capability, flood::ConntrackMax};
use firewall_user::kernel::pins::Pins;
use tempfile::NamedTempFile;

use crate::{
    network::Network,
    report::{Goal, Report},
    rules::{self, FEWEST},
    site::{Site, Who, present},
};

const PART: &str = "keeping";
const RULES: usize = 10_000;
/// Flows that are listed.
const FLOWS: u32 = 500_000;
/// More rounds of what takes long tell little.
const ROUNDS: usize = 5;
const ALL: [Who; 4] = [Who::Nft, Who::Iptables, Who::IptablesLegacy, Who::Ours("xdp")];

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let rounds = rounds.min(ROUNDS);
    let _room = ConntrackMax::set(2 * FLOWS)?;
    let present = present(report, PART, &ALL);
    let networks = present.iter().map(|_| Network::new()).collect::<Result<Vec<_>>>()?;
    let mut sites = Vec::new();
    let size = format!("--max-flows={FLOWS}");
    for (who, network) in present.into_iter().zip(&networks) {
        sites.push(Site::new(who, network, FEWEST, &[&size])?);
    }
    apply(report, &sites, rounds)?;
    sites.retain(|site| matches!(site.who, Who::Nft | Who::Ours(_)));
    for site in &mut sites {
        site.apply(FEWEST)?;
        site.establish(FLOWS)?;
    }
    if let Err(missing) = capability::program("conntrack") {
        report.miss(PART, "conntrack -L", &missing);
        sites.retain(|site| site.firewall.is_some());
    }
    list(report, &sites, rounds)?;
    for site in sites.iter().filter(|site| site.firewall.is_some()) {
        memory(report, site.ours()?)?;
    }
    judge(report);
    Ok(())
}

/// Puts many rules in force, by one run of the program that is meant for it.
fn apply(report: &mut Report, sites: &[Site<'_>], rounds: usize) -> Result<()> {
    let written = |text: &str| -> Result<NamedTempFile> {
        let mut file = tempfile::Builder::new().suffix(".v4").tempfile()?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    };
    let (iptables, nft) = (written(&rules::iptables(RULES))?, written(&rules::nft(RULES))?);
    for round in 0..=rounds {
        for site in sites {
            // Rules that are in force already are no change to put in force.
            site.apply(FEWEST)?;
            let (mut command, name) = match (&site.firewall, site.who) {
                (Some(firewall), _) => (firewall.command(&["apply"])?, "firewall apply"),
                (_, Who::Nft) => (site.command("nft", &["-f"]), "nft -f"),
                (_, Who::Iptables) => (site.command("iptables-nft-restore", &[]), IPTABLES_NFT),
                _ => (site.command("iptables-legacy-restore", &[]), IPTABLES_LEGACY),
            };
            let file = if site.who == Who::Nft { &nft } else { &iptables };
            let took = time(command.arg(file.path()))?;
            if round > 0 {
                report.note(PART, &format!("10,000 rules: {name}"), "ms", took);
            }
        }
    }
    Ok(())
}

const IPTABLES_NFT: &str = "iptables-nft-restore";
const IPTABLES_LEGACY: &str = "iptables-legacy-restore";

/// Prints all flows to nowhere.
fn list(report: &mut Report, sites: &[Site<'_>], rounds: usize) -> Result<()> {
    for site in sites {
        let count = match &site.firewall {
            Some(firewall) => firewall.text(&["conntrack", "count"])?,
            None => site.network.gateway().run("conntrack -C")?,
        };
        let count: u32 = count.trim().parse().context("a number of flows")?;
        ensure!(count >= FLOWS / 100 * 99, "{}: {count} of {FLOWS} flows", site.who.name());
    }
    for round in 0..=rounds {
        for site in sites {
            let (mut command, name) = match &site.firewall {
                Some(firewall) => {
                    (firewall.command(&["conntrack", "list"])?, "firewall conntrack list")
                }
                None => (site.command("conntrack", &["-L"]), "conntrack -L"),
            };
            let took = time(&mut command)?;
            if round > 0 {
                report.note(PART, &format!("list of 500,000 flows: {name}"), "ms", took);
            }
        }
    }
    Ok(())
}

/// Milliseconds to the program's end; what it prints goes nowhere.
fn time(command: &mut Command) -> Result<f64> {
    let complaints = NamedTempFile::new()?;
    command.stdin(Stdio::null()).stdout(File::create("/dev/null")?).stderr(complaints.reopen()?);
    let began = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    let took = began.elapsed();
    ensure!(
        status.success(),
        "{command:?} ended with {status}: {}",
        fs::read_to_string(complaints.path())?.trim()
    );
    Ok(took.as_nanos() as f64 / 1e6)
}

/// What the kernel says of the table of confirmed flows.
fn memory(report: &mut Report, firewall: &Firewall<'_>) -> Result<()> {
    let map = MapData::from_pin(Pins::new(firewall.pin()).map("assured"))?;
    let descriptor = std::os::fd::AsFd::as_fd(map.fd()).as_raw_fd();
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    let number = |name: &str| -> Result<f64> {
        let line = told.lines().find_map(|line| line.strip_prefix(name));
        let value = line.with_context(|| format!("the kernel tells no {name} of a table"))?;
        Ok(value.trim_start_matches(':').trim().parse()?)
    };
    let bytes = number("memlock")? / number("max_entries")?;
    report.note(PART, "memory of a confirmed flow", "bytes", bytes);
    report.compare("memory of a confirmed flow, in bytes", bytes, Goal::AtMost(256.0));
    Ok(())
}

fn judge(report: &mut Report) {
    let pairs = [
        ("10,000 rules", "firewall apply", "nft -f"),
        ("list of 500,000 flows", "firewall conntrack list", "conntrack -L"),
    ];
    for (what, ours, theirs) in pairs {
        let of = |report: &Report, who: &str| report.median(PART, &format!("{what}: {who}"));
        if let (Some(mine), Some(other)) = (of(report, ours), of(report, theirs)) {
            let what = format!("{what}: time of `{ours}` to that of `{theirs}`");
            report.compare(&what, mine / other, Goal::AtMost(1.0));
        }
    }
}
