//! What a packet of an established connection costs over IPv6, translated or not.

use anyhow::Result;
use firewall_tests::{Family, firewall::Setup};

use crate::{
    established::{Established, action},
    network::{Network, index},
    peers::{Peers, Target, firewall},
    program::{self, Case},
    report::Report,
    rules,
    traffic::{Kind, Packets},
};

/// Clients at most; a thousand have one address.
const MOST: u32 = 100_000;

/// Measures both directions. Who is hidden comes last: until then nobody comes to a wire face.
pub fn measure(report: &mut Report, rounds: usize, flows: u32, peers: &mut Peers) -> Result<()> {
    let network = Network::of(Family::V6)?;
    let gateway = network.gateway();
    let firewall_run = Setup::on(&["eth0", "eth1"])
        .rules6(&rules::ipv6())
        .option("--hook=xdp")
        .option(&format!("--max-flows={}", flows * 2))
        .start(gateway)?;
    let ours = firewall(firewall_run.pin())?;
    let ports = [index(gateway, "eth0")?, index(gateway, "eth1")?];
    let bench = Established { network: &network, ports, ours: &ours };
    let most = flows.min(MOST);
    for (is_hidden, what) in [(false, "established TCP"), (true, "established TCP through NAT")] {
        let packets = |kind, clients| Packets::of_ipv6(kind, clients, bench.macs(kind), is_hidden);
        gateway.enter(|| bench.shake_hands(peers, most, |kind| packets(kind, most)))?;
        let peer = |name: &str, program, action| Case {
            name: name.into(),
            target: Target::Peer(program),
            packets: packets(Kind::Original, 1_000),
            ifindex: bench.port(Kind::Original),
            action,
            count: program::PACKETS,
        };
        let mut cases = vec![
            peer("IPv6, XDP_PASS", program::PASS, action::PASS),
            peer("IPv6, stateless router", "router6", action::REDIRECT),
        ];
        for clients in [1, 1_000, MOST].into_iter().filter(|it| *it <= most) {
            for (name, kind) in [("original", Kind::Original), ("reply", Kind::Reply)] {
                cases.push(Case {
                    name: format!("IPv6, {what}, {name}, {clients} flows"),
                    target: Target::Firewall(bench.ours),
                    packets: packets(kind, clients),
                    ifindex: bench.port(kind),
                    action: action::REDIRECT,
                    count: program::PACKETS,
                });
            }
        }
        gateway.enter(|| program::run(report, peers, &cases, rounds))?;
    }
    Ok(())
}
