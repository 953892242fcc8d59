//! The networks of the scenarios.

use std::net::IpAddr;

use anyhow::Result;

use crate::{Netns, RoughLink, Tun, wire::End};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

/// How the devices opposite the firewall are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// As the kernel makes them: partial checksums, no receive path for frames
    /// that are redirected in native XDP.
    Default,
    /// `gro on tx off`: as real network cards behave towards native XDP.
    Tuned,
}

/// The addresses of one side of a link: of the box and of its gateway.
#[derive(Clone, Copy, Debug)]
struct Side {
    v4: [&'static str; 2],
    v6: [&'static str; 2],
}

const CLIENTS: Side =
    Side { v4: ["192.0.2.2", "192.0.2.1"], v6: ["2001:db8:1::2", "2001:db8:1::1"] };
const SERVERS: Side =
    Side { v4: ["198.51.100.2", "198.51.100.1"], v6: ["2001:db8:2::2", "2001:db8:2::1"] };
/// For rules that name 192.168.0.0/16.
const LAN: Side =
    Side { v4: ["192.168.7.2", "192.168.7.1"], v6: ["2001:db8:7::2", "2001:db8:7::1"] };
/// Without a gateway the server is the client's neighbour.
const NEIGHBOURS: Side =
    Side { v4: ["192.0.2.2", "192.0.2.3"], v6: ["2001:db8:1::2", "2001:db8:1::3"] };

/// client — gateway — server, or client — server when there is no gateway.
#[derive(Debug)]
pub struct Gateway {
    pub client: Netns,
    pub gateway: Option<Netns>,
    pub server: Netns,
    client_side: Side,
    server_side: Side,
    /// The link of one side, where it is not Ethernet.
    _tun: Option<Tun>,
    rough: Vec<RoughLink>,
}

/// What the links of a network are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    Smooth,
    TunAt(End),
    /// By a seed.
    Rough(u64),
}

impl Gateway {
    /// The drawing in the crate's documentation.
    pub fn new(offload: Offload) -> Result<Self> {
        Self::between(CLIENTS, offload, Links::Smooth)
    }

    /// The same with links without Ethernet header at one side. A device beside them takes
    /// redirected frames, so that the other side has use for XDP.
    pub fn with_tun(at: End) -> Result<Self> {
        let network = Self::between(CLIENTS, Offload::Tuned, Links::TunAt(at))?;
        let gateway = network.gateway();
        gateway.ip("link add taker type veth peer name taken")?;
        gateway.run("ethtool -K taken gro on")?;
        for device in ["taker", "taken"] {
            gateway.set(&format!("ipv6/conf/{device}/disable_ipv6"), "1")?;
            gateway.ip(&format!("link set {device} up"))?;
        }
        Ok(network)
    }

    /// The same with links that lose, repeat and delay frames, the same ones for a seed.
    pub fn with_rough_links(seed: u64) -> Result<Self> {
        Self::between(CLIENTS, Offload::Tuned, Links::Rough(seed))
    }

    /// Frames that these links have lost, repeated and delayed.
    pub fn fates(&self) -> [u64; 3] {
        self.rough.iter().fold([0; 3], |[a, b, c], link| {
            let [lost, repeated, delayed] = link.fates();
            [a + lost, b + repeated, c + delayed]
        })
    }

    /// The same with the client at 192.168.7.2.
    pub fn with_lan(offload: Offload) -> Result<Self> {
        Self::between(LAN, offload, Links::Smooth)
    }

    /// Two boxes on one link: one of them has the firewall.
    pub fn hosts(offload: Offload) -> Result<Self> {
        let client = Netns::new("client")?;
        let server = Netns::new("server")?;
        client.connect("eth0", &server, "eth0")?;
        let [v4, v4_peer] = NEIGHBOURS.v4;
        let [v6, v6_peer] = NEIGHBOURS.v6;
        client.address("eth0", &format!("{v4}/24"))?;
        client.address("eth0", &format!("{v6}/64"))?;
        server.address("eth0", &format!("{v4_peer}/24"))?;
        server.address("eth0", &format!("{v6_peer}/64"))?;
        set_offload(&client, offload)?;
        set_offload(&server, offload)?;
        let server_side = Side { v4: [v4_peer, v4], v6: [v6_peer, v6] };
        let client_side = NEIGHBOURS;
        let rough = Vec::new();
        Ok(Self { client, gateway: None, server, client_side, server_side, _tun: None, rough })
    }

    fn between(client_side: Side, offload: Offload, links: Links) -> Result<Self> {
        let client = Netns::new("client")?;
        let gateway = Netns::new("gateway")?;
        let server = Netns::new("server")?;
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            gateway.set(setting, "1")?;
        }
        let (mut tun, mut rough) = (None, Vec::new());
        for (end, netns, interface, side) in
            [(End::Client, &client, "eth0", client_side), (End::Server, &server, "eth1", SERVERS)]
        {
            match links {
                Links::TunAt(at) if at == end => {
                    tun = Some(Tun::connect(netns, "eth0", &gateway, interface)?);
                }
                Links::Rough(seed) => {
                    // Two directions of a link, and two links, differ.
                    let seed = 4 * seed + 2 * (end as u64);
                    rough.push(RoughLink::connect(netns, "eth0", &gateway, interface, seed)?);
                    set_offload(netns, offload)?;
                }
                Links::Smooth | Links::TunAt(_) => {
                    netns.connect("eth0", &gateway, interface)?;
                    set_offload(netns, offload)?;
                }
            }
            address_both(netns, &gateway, interface, side)?;
        }
        let (gateway, server_side) = (Some(gateway), SERVERS);
        Ok(Self { client, gateway, server, client_side, server_side, _tun: tun, rough })
    }

    /// Lets no host say anything of its own accord: IPv6 solicits and advertises.
    pub fn hush(&self) -> Result<()> {
        [&self.client, self.gateway(), &self.server]
            .into_iter()
            .try_for_each(|netns| netns.set("ipv6/conf/all/disable_ipv6", "1"))
    }

    /// The namespace between client and server.
    ///
    /// # Panics
    /// Where there is none ([`Gateway::hosts`]).
    pub fn gateway(&self) -> &Netns {
        self.gateway.as_ref().expect("a topology with a gateway")
    }

    pub fn client_address(&self, family: Family) -> IpAddr {
        address(self.client_side, family)
    }

    pub fn server_address(&self, family: Family) -> IpAddr {
        address(self.server_side, family)
    }
}

fn address(side: Side, family: Family) -> IpAddr {
    let text = match family {
        Family::V4 => side.v4[0],
        Family::V6 => side.v6[0],
    };
    text.parse().expect("an address of the topology")
}

/// Gives both ends of a link their addresses, and the box its way through the gateway.
fn address_both(netns: &Netns, gateway: &Netns, gateway_interface: &str, side: Side) -> Result<()> {
    let [v4, v4_gateway] = side.v4;
    let [v6, v6_gateway] = side.v6;
    netns.address("eth0", &format!("{v4}/24"))?;
    netns.address("eth0", &format!("{v6}/64"))?;
    gateway.address(gateway_interface, &format!("{v4_gateway}/24"))?;
    gateway.address(gateway_interface, &format!("{v6_gateway}/64"))?;
    netns.ip(&format!("route add default via {v4_gateway}"))?;
    netns.ip(&format!("-6 route add default via {v6_gateway}"))?;
    Ok(())
}

fn set_offload(netns: &Netns, offload: Offload) -> Result<()> {
    match offload {
        Offload::Default => Ok(()),
        Offload::Tuned => netns.run("ethtool -K eth0 gro on tx off").map(drop),
    }
}
