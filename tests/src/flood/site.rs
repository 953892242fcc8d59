//! The network that is flooded.

use anyhow::Result;

use crate::{Gateway, Netns, Offload, wire::Wires};

/// Client, gateway and server, where no packet comes but those of the test.
#[derive(Debug)]
pub struct Site {
    network: Gateway,
    pub wires: Wires,
}

impl Site {
    pub fn new() -> Result<Self> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        for netns in [&network.client, network.gateway(), &network.server] {
            netns.set("ipv6/conf/all/disable_ipv6", "1")?;
        }
        let gateway = network.gateway();
        for interface in ["all", "eth0", "eth1"] {
            gateway.set(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
        }
        gateway.ip("route add 10.0.0.0/8 via 192.0.2.77 dev eth0")?;
        let lladdr = network.server.mac("eth0")?.map(|byte| format!("{byte:02x}")).join(":");
        gateway
            .ip(&format!("neigh replace 198.51.100.78 lladdr {lladdr} dev eth1 nud permanent"))?;
        Ok(Self { network, wires })
    }

    pub fn gateway(&self) -> &Netns {
        self.network.gateway()
    }
}
