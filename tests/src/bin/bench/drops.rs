//! How fast is refused what is to be refused: INVALID segments, and whoever stands on a list
//! of so many prefixes.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use firewall_tests::{Firewall, command};
use tempfile::NamedTempFile;

use crate::{
    network::Network,
    report::{Goal, Report},
    rules::{self, FEWEST},
    site::{SMALL, Site, Who, present},
    traffic::{CLIENTS, Kind},
};

const PART: &str = "drop rate";
const ALL: [Who; 3] = [Who::DropAll, Who::Nft, Who::Ours("xdp")];
const PACKETS: u32 = 200_000;
/// Prefixes on a list, addresses in each (two to this), and what the report calls it.
const LISTS: [(u32, u32, &str); 2] = [
    (10_000, 5, "blocklist of 10,000 prefixes"),
    (1_000_000, 1, "blocklist of 1,000,000 prefixes"),
];
const LEAST: f64 = 0.7;
const BLOCKED: &str = "-m set --match-set blocked src -j DROP";

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let present = present(report, PART, &ALL);
    let networks = present.iter().map(|_| Network::new()).collect::<Result<Vec<_>>>()?;
    let mut sites = Vec::new();
    for (who, network) in present.into_iter().zip(&networks) {
        sites.push(Site::new(who, network, FEWEST, &[])?);
    }
    play(report, &mut sites, rounds, "INVALID", Kind::Invalid, CLIENTS)?;
    // The list of the kernel's own is another matter: what it takes to load stands below.
    sites.retain(|site| site.who != Who::Nft);
    for (count, bits, name) in LISTS {
        for site in sites.iter().filter(|site| site.firewall.is_some()) {
            block(site.ours()?, count, bits)?;
        }
        // Clients from listed addresses alone.
        let clients = (count << bits) << firewall_common::bench::PORT_BITS;
        play(report, &mut sites, rounds, name, Kind::Syn, clients)?;
        for site in sites.iter().filter(|site| site.firewall.is_some()) {
            site.ours()?.apply(&rules::with_raw(FEWEST, BLOCKED))?;
        }
        play(report, &mut sites, rounds, &in_raw(name), Kind::Syn, clients)?;
    }
    judge(report);
    Ok(())
}

fn play(
    report: &mut Report,
    sites: &mut [Site<'_>],
    rounds: usize,
    name: &str,
    kind: Kind,
    clients: u32,
) -> Result<()> {
    for round in 0..=rounds {
        for site in &mut *sites {
            let packets = site.packets(kind, SMALL, clients);
            let sent = site.send(&packets, kind, PACKETS)?;
            ensure!(sent.arrived == 0.0, "{name}: {} let packets through", site.who.name());
            if round > 0 {
                let name = format!("{name}: {}", site.who.name());
                report.note(PART, &name, "ns", sent.nanoseconds);
            }
        }
    }
    Ok(())
}

/// Has the firewall drop whoever is in one of so many networks of 2^bits addresses each,
/// from 10.0.0.0 on.
fn block(firewall: &Firewall<'_>, count: u32, bits: u32) -> Result<()> {
    // Rules name the set: without them it can be made anew.
    firewall.apply(&rules::iptables(FEWEST))?;
    let mut text = String::new();
    if firewall.text(&["set", "list", "--names"])?.lines().any(|name| name == "blocked") {
        text += "destroy blocked\n";
    }
    writeln!(text, "create blocked hash:net maxelem {count}")?;
    for number in 0..count {
        let address = std::net::Ipv4Addr::from((10 << 24) + (number << bits));
        writeln!(text, "add blocked {address}/{}", 32 - bits)?;
    }
    let mut file = NamedTempFile::new()?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    let mut restore = firewall.command(&["set", "restore"])?;
    command::output(restore.arg(file.path()))?;
    firewall.apply(&rules::with_first(FEWEST, &format!("-A FORWARD {BLOCKED}\n")))
}

/// What it is called when the rule stands in table raw.
fn in_raw(name: &str) -> String {
    format!("{name} in table raw")
}

fn judge(report: &mut Report) {
    let of_lists = LISTS.iter().flat_map(|(_, _, name)| [(*name).to_owned(), in_raw(name)]);
    for name in std::iter::once("INVALID".to_owned()).chain(of_lists) {
        let of =
            |report: &Report, who: Who| report.median(PART, &format!("{name}: {}", who.name()));
        let found = (of(report, Who::Ours("xdp")), of(report, Who::DropAll));
        if let (Some(ours), Some(theirs)) = found {
            let what = format!("{name}: rate to that of a program that drops everything");
            report.compare(&what, theirs / ours, Goal::AtLeast(LEAST));
        }
    }
}
