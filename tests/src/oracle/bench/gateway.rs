//! One gateway between two bare ends: nobody there answers by himself.

use std::net::IpAddr;

use anyhow::Result;

use super::port::Port;
use crate::{
    Family, Netns,
    oracle::{
        place::{CLIENTS_V4, CLIENTS_V6, SERVERS_V4, SERVERS_V6},
        rulebook,
    },
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

/// What keeps a gateway from speaking unasked, and from answering too rarely.
const QUIET: [&str; 11] = [
    "ipv4/icmp_msgs_per_sec=1000000",
    "ipv4/icmp_msgs_burst=1000000",
    "ipv6/conf/default/accept_dad=0",
    "ipv6/conf/default/dad_transmits=0",
    "ipv6/conf/default/mldv2_unsolicited_report_interval=10",
    "ipv6/conf/default/accept_redirects=0",
    "ipv4/conf/default/igmpv3_unsolicited_report_interval=10",
    "ipv4/icmp_ratemask=0",
    "ipv6/icmp/ratelimit=0",
    "ipv4/tcp_synack_retries=0",
    "ipv4/tcp_syncookies=0",
];

/// The interface of the gateway towards an end.
const INTERFACES: [&str; 2] = ["eth0", "eth1"];

impl Site {
    pub(super) fn new() -> Result<Self> {
        let site = Self::wired(Netns::new("gateway")?)?;
        let [client, server] = &site.ends;
        lead(
            &site.gateway,
            INTERFACES[0],
            client,
            ["192.0.2", "2001:db8:1"],
            [CLIENTS_V4, CLIENTS_V6],
        )?;
        lead(
            &site.gateway,
            INTERFACES[1],
            server,
            ["198.51.100", "2001:db8:2"],
            [SERVERS_V4, SERVERS_V6],
        )?;
        Ok(site)
    }

    /// Routes single hosts to an end, beside the places of the bench.
    pub(super) fn house(&self, host: IpAddr, end: End) -> Result<()> {
        self.housing("replace", host, end)
    }

    /// Routes them there no more.
    pub(super) fn evict(&self, host: IpAddr, end: End) -> Result<()> {
        self.housing("del", host, end)
    }

    fn housing(&self, verb: &str, host: IpAddr, end: End) -> Result<()> {
        let interface = INTERFACES[index(end)];
        let hop: IpAddr = match host {
            IpAddr::V4(_) => [169, 254, 0, 2].into(),
            IpAddr::V6(_) => rulebook::NEIGHBOUR.into(),
        };
        let lladdr = self.ends[index(end)].mac("eth0")?.map(|byte| format!("{byte:02x}")).join(":");
        let gateway = &self.gateway;
        gateway
            .ip(&format!("neigh replace {hop} lladdr {lladdr} dev {interface} nud permanent"))?;
        gateway.ip(&format!("route {verb} {host} via {hop} dev {interface} onlink")).map(drop)
    }

    /// A gateway that routes every address: private networks inside, all others
    /// outside. It is quiet: what it sends by itself is an answer.
    pub(super) fn at_large() -> Result<Self> {
        let gateway = Netns::new("gateway")?;
        for setting in QUIET {
            let (name, value) = setting.split_once('=').expect("NAME=VALUE");
            gateway.set(name, value)?;
        }
        let site = Self::wired(gateway)?;
        for (end, interface) in [End::Client, End::Server].into_iter().zip(INTERFACES) {
            site.settle(end, interface)?;
        }
        Ok(site)
    }

    /// Gives the gateway its addresses and routes at one side.
    fn settle(&self, end: End, interface: &str) -> Result<()> {
        let gateway = &self.gateway;
        gateway.set(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
        gateway.set(&format!("ipv4/conf/{interface}/send_redirects"), "0")?;
        let own = |family| rulebook::own(end, family);
        gateway.address(interface, &format!("{}/32", own(Family::V4)))?;
        gateway.address(interface, &format!("{}/128", own(Family::V6)))?;
        let lladdr = self.ends[index(end)].mac("eth0")?.map(|byte| format!("{byte:02x}")).join(":");
        let neighbour = rulebook::NEIGHBOUR;
        for hop in ["169.254.0.2", &neighbour.to_string()] {
            gateway.ip(&format!(
                "neigh replace {hop} lladdr {lladdr} dev {interface} nud permanent"
            ))?;
        }
        let [v4, v6]: [&[&str]; 2] = match end {
            End::Client => [&["0.0.0.0/0"], &["::/0"]],
            End::Server => [&rulebook::INSIDE_V4, &rulebook::INSIDE_V6],
        };
        for network in v4 {
            gateway.ip(&format!("route add {network} via 169.254.0.2 dev {interface} onlink"))?;
        }
        for network in v6 {
            gateway.ip(&format!("route add {network} via {neighbour} dev {interface} onlink"))?;
        }
        Ok(())
    }

    /// The links alone.
    fn wired(gateway: Netns) -> Result<Self> {
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
