//! Client — gateway — server, with nothing to find out: neighbours are known, and the way
//! to all clients is.

use anyhow::Result;
use firewall_tests::{Family, Gateway, Netns, Offload};

/// The network, and who its devices are.
#[derive(Debug)]
pub struct Network {
    pub network: Gateway,
    /// The client's device, then the gateway's on its side.
    pub client_macs: [[u8; 6]; 2],
    /// The server's device, then the gateway's on its side.
    pub server_macs: [[u8; 6]; 2],
}

impl Network {
    pub fn new() -> Result<Self> {
        Self::of(Family::V4)
    }

    /// For packets of this family. Hosts that have IPv6 say something of their own accord now and
    /// then.
    pub fn of(family: Family) -> Result<Self> {
        let network = Gateway::new(Offload::Tuned)?;
        if family == Family::V4 {
            network.hush()?;
        }
        let gateway = network.gateway();
        let client_macs = [network.client.mac("eth0")?, gateway.mac("eth0")?];
        let server_macs = [network.server.mac("eth0")?, gateway.mac("eth1")?];
        let (client, server) = (network.client_address(family), network.server_address(family));
        for (address, mac, device) in
            [(client, client_macs[0], "eth0"), (server, server_macs[0], "eth1")]
        {
            let mac = text(mac);
            gateway
                .ip(&format!("neigh replace {address} lladdr {mac} nud permanent dev {device}"))?;
        }
        match family {
            Family::V4 => gateway.ip(&format!("route add 10.0.0.0/8 via {client}"))?,
            Family::V6 => gateway.ip(&format!("-6 route add fd00::/8 via {client}"))?,
        };
        Ok(Self { network, client_macs, server_macs })
    }

    pub fn gateway(&self) -> &Netns {
        self.network.gateway()
    }
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The index of an interface of a namespace.
pub fn index(netns: &Netns, interface: &str) -> Result<u32> {
    Ok(netns.enter(|| nix::net::if_::if_nametoindex(interface))?)
}
