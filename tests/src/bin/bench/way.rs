//! What one packet costs on its whole way: made in the client's namespace, through the
//! gateway, counted and dropped at the server's device. All on one CPU.

use anyhow::Result;

use crate::{
    network::Network,
    report::{Goal, Report},
    rules::FEWEST,
    site::{SMALL, Site, Who, present},
    traffic::Kind,
};

const PART: &str = "whole way";
/// The same, less what generator, devices and sink take alone in the same round.
const ABOVE: &str = "whole way above the generator";
/// Bytes from the first address on.
const LARGE: usize = 1_400;
/// Connections that are there at most.
const FLOWS: u32 = 100_000;
const PACKETS: u32 = 200_000;

const ALL: [Who; 9] = [
    Who::Nobody,
    Who::Router,
    Who::Kernel,
    Who::Nft,
    Who::Iptables,
    Who::IptablesLegacy,
    Who::Ours("xdp"),
    Who::Ours("xdp-generic"),
    Who::Ours("tc"),
];

/// What is sent.
struct Load {
    name: &'static str,
    len: usize,
    clients: u32,
}

const LOADS: [Load; 4] = [
    Load { name: "64 bytes, 1 flow", len: SMALL, clients: 1 },
    Load { name: "64 bytes, 1,000 flows", len: SMALL, clients: 1_000 },
    Load { name: "64 bytes, 100,000 flows", len: SMALL, clients: FLOWS },
    Load { name: "1,400 bytes, 1,000 flows", len: LARGE, clients: 1_000 },
];

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let present = present(report, PART, &ALL);
    let networks = present.iter().map(|_| Network::new()).collect::<Result<Vec<_>>>()?;
    let mut sites = Vec::new();
    for (who, network) in present.into_iter().zip(&networks) {
        sites.push(Site::new(who, network, FEWEST, &[])?);
    }
    for site in sites.iter_mut().filter(|site| site.who.is_stateful()) {
        site.establish(FLOWS)?;
    }
    for round in 0..=rounds {
        for load in &LOADS {
            let mut floor = 0.0;
            for site in &mut sites {
                let packets = site.packets(Kind::Original, load.len, load.clients);
                let ns = site.play(&packets, Kind::Original, PACKETS)?;
                if site.who == Who::Nobody {
                    floor = ns;
                }
                // The first round warms up.
                if round > 0 {
                    let name = format!("{}: {}", load.name, site.who.name());
                    report.note(PART, &name, "ns", ns);
                    if site.who != Who::Nobody {
                        report.note(ABOVE, &name, "ns", (ns - floor).max(0.0));
                    }
                }
            }
        }
    }
    judge(report);
    Ok(())
}

/// The ratios that are promised, of packets a second.
fn judge(report: &mut Report) {
    let of = |report: &Report, load: &str, who: Who| {
        report.median(PART, &format!("{load}: {}", who.name()))
    };
    let pairs = [
        ("64 bytes, 1,000 flows", Who::Router, 1.0),
        ("64 bytes, 1 flow", Who::Nft, 3.5),
        ("64 bytes, 1,000 flows", Who::Nft, 3.5),
        ("64 bytes, 100,000 flows", Who::Nft, 3.0),
        ("64 bytes, 1,000 flows", Who::Iptables, 3.5),
        ("64 bytes, 1,000 flows", Who::IptablesLegacy, 3.5),
        ("1,400 bytes, 1,000 flows", Who::Router, 0.95),
    ];
    for (load, peer, least) in pairs {
        let found = (of(report, load, Who::Ours("xdp")), of(report, load, peer));
        if let (Some(ours), Some(theirs)) = found {
            let what = format!("{load}: packets a second of the firewall to {}", peer.name());
            report.compare(&what, theirs / ours, Goal::AtLeast(least));
        }
    }
}
