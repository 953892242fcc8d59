//! What a new connection costs behind few and many rules: one SYN each, through the gateway.

use anyhow::Result;
use firewall_tests::flood::ConntrackMax;

use crate::{
    network::Network,
    report::{Goal, Report},
    rules::FEWEST,
    site::{SMALL, Site, Who, present},
    traffic::{CLIENTS, Kind},
};

const PART: &str = "new connections";
const ALL: [Who; 4] = [Who::Nft, Who::Iptables, Who::IptablesLegacy, Who::Ours("xdp")];
/// How many rules, what the report calls them, how many connections those who ask rule by
/// rule are given, and what is promised beside nftables.
const BEHIND: [(usize, &str, u32, f64); 3] = [
    (FEWEST, "no other rules", 40_000, 3.0),
    (1_000, "1,000 rules", 10_000, 30.0),
    (10_000, "10,000 rules", 1_000, 100.0),
];
/// Of the firewall.
const COUNT: u32 = 40_000;
/// Connections that nf_conntrack may keep: all that a run begins.
const MAX: u32 = 4_000_000;

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    // Less would have it drop, or look for what to forget.
    let _room = ConntrackMax::set(MAX)?;
    let present = present(report, PART, &ALL);
    let networks = present.iter().map(|_| Network::new()).collect::<Result<Vec<_>>>()?;
    let mut sites = Vec::new();
    for (who, network) in present.into_iter().zip(&networks) {
        sites.push(Site::new(who, network, FEWEST, &[])?);
    }
    let mut fresh = 0;
    for (rules, name, count, _) in BEHIND {
        for site in &sites {
            site.apply(rules)?;
        }
        for round in 0..=rounds {
            for site in &mut sites {
                let count = if site.firewall.is_some() { COUNT } else { count };
                let packets = site.packets(Kind::Syn, SMALL, CLIENTS).in_turn(fresh);
                let ns = site.play(&packets, Kind::Syn, count)?;
                if round > 0 {
                    report.note(PART, &format!("{name}: {}", site.who.name()), "ns", ns);
                }
            }
            fresh += COUNT;
        }
    }
    judge(report);
    Ok(())
}

fn judge(report: &mut Report) {
    for (_, name, _, least) in BEHIND {
        let of =
            |report: &Report, who: Who| report.median(PART, &format!("{name}: {}", who.name()));
        for peer in [Who::Nft, Who::Iptables, Who::IptablesLegacy] {
            if let (Some(ours), Some(theirs)) = (of(report, Who::Ours("xdp")), of(report, peer)) {
                let what = format!("{name}: new connections a second to {}", peer.name());
                report.compare(&what, theirs / ours, Goal::AtLeast(least));
            }
        }
    }
}
