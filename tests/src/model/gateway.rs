//! A gateway between two links, with neighbours that never change, and nothing to
//! say of its own.
//!
//! ```text
//!   192.0.2.2, 192.0.2.3, 2001:db8:1::2 ── eth0 │ gateway │ eth1 ── 198.51.100.2, .3,
//!   and behind them 198.18.0.0/16,              │   .1    │         2001:db8:2::2 and
//!   2001:db8:c::/48                                                 198.19.0.0/16,
//!                                                                   2001:db8:5::/48
//! ```

use std::cell::Cell;

use anyhow::Result;
use firewall_common::{addr::Addr, rule::Chain};

use crate::{
    Netns, command,
    oracle::place::{self, CLIENTS_V4, CLIENTS_V6, SERVERS_V4, SERVERS_V6},
    wire::End,
};

/// The interfaces.
pub const PORTS: [&str; 2] = ["eth0", "eth1"];

/// The namespace and that of its neighbours.
#[derive(Debug)]
pub struct Gateway {
    pub netns: Netns,
    _peers: Netns,
}

impl Gateway {
    pub fn new() -> Result<Self> {
        let (netns, peers) = (Netns::new("gateway")?, Netns::new("peers")?);
        peers.set("ipv6/conf/default/disable_ipv6", "1")?;
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            netns.set(setting, "1")?;
        }
        // Only the frames of the test are to move counters.
        let quiet = "add table inet quiet; add chain inet quiet output \
                     { type filter hook output priority 0; policy drop; }";
        command::output(netns.command("nft").arg(quiet))?;
        let sides = [
            ("192.0.2", "2001:db8:1", [CLIENTS_V4, CLIENTS_V6]),
            ("198.51.100", "2001:db8:2", [SERVERS_V4, SERVERS_V6]),
        ];
        for (interface, (v4, v6, networks)) in PORTS.into_iter().zip(sides) {
            netns.connect(interface, &peers, interface)?;
            netns.set(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
            netns.address(interface, &format!("{v4}.1/24"))?;
            netns.address(interface, &format!("{v6}::1/64"))?;
            for hop in [format!("{v4}.2"), format!("{v4}.3"), format!("{v6}::2")] {
                let lladdr = "02:00:00:00:01:02";
                netns.ip(&format!(
                    "neigh replace {hop} lladdr {lladdr} dev {interface} nud permanent"
                ))?;
            }
            for (hop, network) in [format!("{v4}.2"), format!("{v6}::2")].into_iter().zip(networks)
            {
                netns.ip(&format!("route add {network} via {hop} dev {interface}"))?;
            }
        }
        Ok(Self { netns, _peers: peers })
    }
}

thread_local! {
    /// The indexes of [`PORTS`] for the model of this thread.
    static INDEXES: Cell<[u32; 2]> = const { Cell::new([0; 2]) };
}

/// Tells the model's routing table which interfaces there are.
pub(super) fn set_indexes(indexes: [u32; 2]) {
    INDEXES.set(indexes);
}

/// The routing table of the gateway, as the model looks it up.
pub(super) fn route(destination: Addr) -> (Chain, u32) {
    let [eth0, eth1] = INDEXES.get();
    let address = destination.to_ip();
    match place::end(address) {
        Some(End::Client) => return (Chain::Forward, eth0),
        Some(End::Server) => return (Chain::Forward, eth1),
        None => {}
    }
    let text = address.to_string();
    let is_own = ["192.0.2.1", "198.51.100.1", "2001:db8:1::1", "2001:db8:2::1"].contains(&&*text);
    let leads = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    if is_own {
        (Chain::Input, 0)
    } else if leads(["192.0.2.", "2001:db8:1:"]) {
        (Chain::Forward, eth0)
    } else if leads(["198.51.100.", "2001:db8:2:"]) {
        (Chain::Forward, eth1)
    } else {
        (Chain::Input, 0)
    }
}
