//! Client — gateway — server, with nothing to find out: neighbours are known, and the way
//! to all clients is.

use anyhow::Result;
use firewall_tests::{Gateway, Netns, Offload};

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
        let network = Gateway::new(Offload::Tuned)?;
        network.hush()?;
        let gateway = network.gateway();
        let client_macs = [network.client.mac("eth0")?, gateway.mac("eth0")?];
        let server_macs = [network.server.mac("eth0")?, gateway.mac("eth1")?];
        for (address, mac, device) in
            [("192.0.2.2", client_macs[0], "eth0"), ("198.51.100.2", server_macs[0], "eth1")]
        {
            let mac = text(mac);
            gateway
                .ip(&format!("neigh replace {address} lladdr {mac} nud permanent dev {device}"))?;
        }
        gateway.ip("route add 10.0.0.0/8 via 192.0.2.2")?;
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
