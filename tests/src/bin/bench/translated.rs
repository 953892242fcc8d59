//! What a packet of a connection costs whose client hides behind another
//! address.

use anyhow::Result;
use firewall_tests::Firewall;

use crate::{
    established::{Established, action},
    peers::{Peers, Target},
    program::{self, Case},
    report::Report,
    rules,
    traffic::Kind,
};

/// Clients at most; a thousand have one address.
const MOST: u32 = 100_000;

/// Puts NAT in force and measures both directions.
pub fn measure(
    report: &mut Report,
    rounds: usize,
    flows: u32,
    peers: &mut Peers,
    bench: &Established<'_>,
    firewall: &Firewall<'_>,
) -> Result<()> {
    firewall.apply(&rules::hiding(10))?;
    let most = flows.min(MOST);
    let gateway = bench.network.gateway();
    gateway.enter(|| bench.shake_hands(peers, most, |kind| bench.hidden(kind, most)))?;
    let mut cases = vec![program::floor(bench)];
    for clients in [1, 1_000, MOST].into_iter().filter(|it| *it <= most) {
        for (name, kind) in [("original", Kind::Original), ("reply", Kind::Reply)] {
            cases.push(Case {
                name: format!("established TCP through NAT, {name}, {clients} flows"),
                target: Target::Firewall(bench.ours),
                packets: bench.hidden(kind, clients),
                ifindex: bench.port(kind),
                action: action::REDIRECT,
                count: program::PACKETS,
            });
        }
    }
    gateway.enter(|| program::run(report, peers, &cases, rounds))
}
