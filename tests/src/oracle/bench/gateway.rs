//! One gateway between two bare ends: nobody there answers by himself.

use anyhow::Result;

use super::port::Port;
use crate::{
    Netns,
    oracle::place::{CLIENTS_V4, CLIENTS_V6, SERVERS_V4, SERVERS_V6},
    wire::End,
};

/// Of every link, in bytes: large enough for most of what captures hold, small enough
/// for native XDP on one page.
pub const MTU: usize = 3_498;

/// ```text
///   ends[Client]  eth0 ───── eth0  gateway  eth1 ───── eth0  ends[Server]
/// ```
/// Each end is the next hop to all the addresses of its side.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) gateway: Netns,
    /// Client and server.
    ends: [Netns; 2],
}

/// The interface of the gateway towards an end.
const INTERFACES: [&str; 2] = ["eth0", "eth1"];

impl Site {
    pub(super) fn new() -> Result<Self> {
        let gateway = Netns::new("gateway")?;
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            gateway.set(setting, "1")?;
        }
        // Errors of the gateway itself are none of the scripts'.
        gateway.set("ipv4/icmp_ratelimit", "1000000")?;
        let client = Netns::new("client")?;
        let server = Netns::new("server")?;
        for (netns, interface) in [&client, &server].into_iter().zip(INTERFACES) {
            netns.set("ipv6/conf/default/disable_ipv6", "1")?;
            netns.connect("eth0", &gateway, interface)?;
            netns.run("ethtool -K eth0 gro on tx off")?;
            netns.ip(&format!("link set eth0 mtu {MTU}"))?;
            gateway.ip(&format!("link set {interface} mtu {MTU}"))?;
        }
        lead(
            &gateway,
            INTERFACES[0],
            &client,
            ["192.0.2", "2001:db8:1"],
            [CLIENTS_V4, CLIENTS_V6],
        )?;
        lead(
            &gateway,
            INTERFACES[1],
            &server,
            ["198.51.100", "2001:db8:2"],
            [SERVERS_V4, SERVERS_V6],
        )?;
        Ok(Self { gateway, ends: [client, server] })
    }

    /// A port at each end.
    pub(super) fn ports(&self) -> Result<[Port; 2]> {
        let [client, server] = &self.ends;
        Ok([
            Port::open(client, &self.gateway, INTERFACES[0])?,
            Port::open(server, &self.gateway, INTERFACES[1])?,
        ])
    }
}

/// Routes a side's networks to the end behind an interface.
fn lead(
    gateway: &Netns,
    interface: &str,
    end: &Netns,
    [v4, v6]: [&str; 2],
    networks: [&str; 2],
) -> Result<()> {
    let lladdr = end.mac("eth0")?.map(|byte| format!("{byte:02x}")).join(":");
    gateway.set(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
    gateway.address(interface, &format!("{v4}.1/24"))?;
    gateway.address(interface, &format!("{v6}::1/64"))?;
    for (hop, network) in [format!("{v4}.2"), format!("{v6}::2")].into_iter().zip(networks) {
        gateway
            .ip(&format!("neigh replace {hop} lladdr {lladdr} dev {interface} nud permanent"))?;
        gateway.ip(&format!("route add {network} via {hop} dev {interface}"))?;
    }
    Ok(())
}

/// Where an end's port stands among a site's two.
pub(super) const fn index(end: End) -> usize {
    match end {
        End::Client => 0,
        End::Server => 1,
    }
}
