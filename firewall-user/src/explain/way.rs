//! The way that a packet takes: which program sees it, on which interface.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use firewall_common::{
    control::{Device, device},
    rule::Chain,
    walk::Walk,
};

use crate::{
    cli::InterfaceName,
    kernel::{maps::Maps, rehearsal::Stage},
    netlink::links,
};

/// By which interfaces a packet is asked about.
#[derive(Clone, Debug)]
pub enum Way {
    /// It comes in by this one.
    In(InterfaceName),
    /// This host sends it by this one.
    Out(InterfaceName),
    /// It comes in by the first, which is not ours, and leaves by the second.
    Through(InterfaceName, InterfaceName),
}

/// Where a packet is seen.
#[derive(Clone, Debug)]
pub struct Place {
    pub stage: Stage,
    /// What the frame is addressed to, where it begins with an Ethernet header.
    pub mac: Option<[u8; 6]>,
    names: HashMap<u32, String>,
}

impl Place {
    pub const fn hook(&self) -> &'static str {
        match self.stage {
            Stage::Xdp { .. } => "xdp",
            Stage::TcIngress { .. } => "tc ingress",
            Stage::TcEgress { .. } => "tc egress",
        }
    }

    /// An interface's name; empty for none.
    pub fn name(&self, ifindex: u32) -> String {
        self.names.get(&ifindex).cloned().unwrap_or_default()
    }
}

/// The interfaces of the instance.
#[derive(Debug)]
pub struct Ways {
    devices: HashMap<u32, Device>,
}

impl Ways {
    /// # Errors
    /// When they cannot be read.
    pub fn of(maps: &Maps) -> Result<Self> {
        Ok(Self { devices: maps.devices()?.into_iter().collect() })
    }

    /// Where a packet on this way is seen.
    ///
    /// # Errors
    /// When nothing of the instance sees it.
    pub fn find(&self, way: &Way) -> Result<Place> {
        match way {
            Way::In(input) => {
                let index = self.index(input)?;
                if !self.is_ours(index) {
                    bail!(
                        "the firewall does not judge what comes in by {input}, only by {}; name with \
                         -o where it would leave",
                        self.ours()
                    );
                }
                Ok(self.incoming(index))
            }
            Way::Out(output) => Ok(self.leaving(self.own(output)?, 0)),
            Way::Through(input, output) => {
                let from = self.index(input)?;
                if self.is_ours(from) {
                    bail!(
                        "what comes in by {input} is judged there, and the routes say where it \
                         leaves: leave -o out"
                    );
                }
                Ok(self.leaving(self.own(output)?, from))
            }
        }
    }

    /// Where the answer to a packet is seen that went by `place`.
    ///
    /// # Errors
    /// When nothing of the instance sees it.
    pub fn back(&self, place: &Place, walk: &Walk) -> Result<Place> {
        let came = match place.stage {
            Stage::Xdp { ifindex } | Stage::TcIngress { ifindex } => ifindex,
            Stage::TcEgress { ifindex, .. } => ifindex,
        };
        let is_of_the_host = match Chain::from_byte(walk.chain) {
            // The host itself answers.
            Some(Chain::Input) => return Ok(self.leaving(came, 0)),
            Some(Chain::Output) => true,
            _ => false,
        };
        let returns_by = if is_of_the_host { came } else { walk.out_ifindex };
        if self.is_ours(returns_by) {
            return Ok(self.incoming(returns_by));
        }
        let leaves_by = walk.in_ifindex;
        if self.devices.contains_key(&returns_by) && self.is_ours(leaves_by) {
            return Ok(self.leaving(leaves_by, returns_by));
        }
        bail!("no route leads to where the packet goes, or the firewall does not see the way back")
    }

    fn incoming(&self, ifindex: u32) -> Place {
        let found = self.devices.get(&ifindex).copied().unwrap_or_default();
        let stage = match found.flags & device::TC {
            0 => Stage::Xdp { ifindex },
            _ => Stage::TcIngress { ifindex },
        };
        self.place(stage, found)
    }

    fn leaving(&self, ifindex: u32, from: u32) -> Place {
        let found = self.devices.get(&ifindex).copied().unwrap_or_default();
        self.place(Stage::TcEgress { ifindex, from }, found)
    }

    fn place(&self, stage: Stage, found: Device) -> Place {
        let names = self.devices.iter().map(|(index, one)| (*index, one.name().to_owned()));
        let mac = (found.flags & device::ETHERNET != 0).then_some(found.mac);
        Place { stage, mac, names: names.collect() }
    }

    fn is_ours(&self, ifindex: u32) -> bool {
        self.devices.get(&ifindex).is_some_and(|found| found.flags & device::OURS != 0)
    }

    fn ours(&self) -> String {
        let ours = self.devices.values().filter(|found| found.flags & device::OURS != 0);
        let mut names: Vec<_> = ours.map(Device::name).collect();
        names.sort_unstable();
        names.join(", ")
    }

    fn own(&self, name: &InterfaceName) -> Result<u32> {
        let index = self.index(name)?;
        if !self.is_ours(index) {
            bail!("the firewall does not judge what leaves by {name}, only by {}", self.ours());
        }
        Ok(index)
    }

    /// The index of an interface, which must be the same for whoever asks: the programs
    /// are tried in the asker's network namespace.
    fn index(&self, name: &InterfaceName) -> Result<u32> {
        let known = self.devices.iter().find(|(_, found)| found.name() == name.as_str());
        let (index, _) = known.with_context(|| {
            format!("the firewall knows no interface {name}; it judges {}", self.ours())
        })?;
        let here = links::all().context("cannot list the interfaces")?;
        if !here.iter().any(|link| link.index == *index && link.name == name.as_str()) {
            bail!(
                "{name} is in another network namespace: run this where the firewall runs \
                 (ip netns exec, nsenter)"
            );
        }
        Ok(*index)
    }
}
