//! NETMAP puts one network in the place of another, for connections of either side.
//!
//! ```text
//!   inside 192.0.2.2 ── eth0  gateway  eth1 ── outside 198.51.100.2
//! ```
//! The outside knows the inside as 203.0.113.0/24 and 2001:db8:99::/64, and has no way to its
//! real addresses.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability, exchange,
    firewall::Setup,
    meeting::{ask, meet},
    needs,
};

const RULES: &str = "\
*nat
-A PREROUTING -i eth1 -d 203.0.113.0/24 -j NETMAP --to 192.0.2.0/24
-A POSTROUTING -s 192.0.2.0/24 -o eth1 -j NETMAP --to 203.0.113.0/24
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -s 192.0.2.2 -j ACCEPT
-A FORWARD -i eth1 -d 192.0.2.2 -m conntrack --ctstate DNAT -j ACCEPT
COMMIT
";

const RULES6: &str = "\
*nat
-A PREROUTING -i eth1 -d 2001:db8:99::/64 -j NETMAP --to 2001:db8:1::/64
-A POSTROUTING -s 2001:db8:1::/64 -o eth1 -j NETMAP --to 2001:db8:99::/64
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -s 2001:db8:1::2 -j ACCEPT
-A FORWARD -i eth1 -d 2001:db8:1::2 -m conntrack --ctstate DNAT -j ACCEPT
COMMIT
";

/// The inside host, as the outside knows it.
fn mapped(family: Family) -> IpAddr {
    match family {
        Family::V4 => [203, 0, 113, 2].into(),
        Family::V6 => "2001:db8:99::2".parse().expect("an address"),
    }
}

fn start<'n>(network: &'n Gateway, hook: &str) -> Result<Firewall<'n>> {
    for line in [
        "route del default",
        "-6 route del default",
        "route add 203.0.113.0/24 via 198.51.100.1",
        "-6 route add 2001:db8:99::/64 via 2001:db8:2::1",
    ] {
        network.server.ip(line)?;
    }
    let setup = Setup::on(&["eth0", "eth1"]).rules(RULES).rules6(RULES6);
    setup.option(&format!("--hook={hook}")).start(network.gateway())
}

#[test]
fn hosts_of_a_mapped_network_reach_others_and_are_reached_by_their_outer_addresses() {
    needs!(capability::firewall());
    for hook in ["xdp", "xdp-generic", "tc"] {
        both_ways(hook).with_context(|| hook).unwrap();
    }
}

fn both_ways(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let _firewall = start(&network, hook)?;
    exchange::serve(&network.server)?;
    for family in [Family::V4, Family::V6] {
        let (mapped, outer) = (mapped(family), network.server_address(family));

        let to = SocketAddr::new(outer, 80);
        let (peer, talked_to) = meet(&network.client, to, &network.server, 80)?;
        ensure!(peer.ip() == mapped, "the outside saw {peer}");
        ensure!(talked_to == to, "the inside saw {talked_to}");
        let to = SocketAddr::new(outer, exchange::PORT);
        let stream = exchange::connect(&network.client, to)?;
        exchange::exchange(&stream, 200_000, 200_000)?;

        let to = SocketAddr::new(mapped, 2_222);
        let (peer, talked_to) = meet(&network.server, to, &network.client, 2_222)?;
        ensure!(peer.ip() == outer, "the inside saw {peer}");
        ensure!(talked_to == to, "the outside saw {talked_to}");
        ask(&network.server, SocketAddr::new(mapped, 53), &network.client, 53, 4_000)?;
    }
    Ok(())
}
