//! What a packet of a connection costs whose client hides behind the gateway's address.

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

/// All have one address: their ports are what the gateway tells them apart by.
const CLIENTS: u32 = 1_000;

/// Puts NAT in force and measures both directions.
pub fn measure(
    report: &mut Report,
    rounds: usize,
    peers: &mut Peers,
    bench: &Established<'_>,
    firewall: &Firewall<'_>,
) -> Result<()> {
    firewall.apply(&rules::masquerading(10))?;
    let gateway = bench.network.gateway();
    gateway.enter(|| -> Result<()> {
        for kind in [Kind::Syn, Kind::SynAck, Kind::Ack] {
            bench.play(peers, kind, &bench.hidden(kind, CLIENTS).in_turn(0), CLIENTS)?;
        }
        Ok(())
    })?;
    let mut cases = vec![program::floor(bench)];
    for (name, kind) in [("original", Kind::Original), ("reply", Kind::Reply)] {
        cases.push(Case {
            name: format!("established TCP through NAT, {name}"),
            target: Target::Firewall(bench.ours),
            packets: bench.hidden(kind, CLIENTS),
            ifindex: bench.port(kind),
            action: action::REDIRECT,
            count: program::PACKETS,
        });
    }
    gateway.enter(|| program::run(report, peers, &cases, rounds))
}
