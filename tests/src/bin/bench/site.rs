//! A gateway under test, with a generator and sinks of its own.

use std::{io::Write as _, process::Command};

use anyhow::{Context as _, Result, bail};
use firewall_tests::{Firewall, Netns, capability, command, firewall::Setup};
use tempfile::NamedTempFile;

use crate::{
    network::{Network, index},
    peers::{Peers, Target},
    report::Report,
    rules,
    traffic::{Kind, Packets},
};

/// Bytes of a minimal frame, from the first address on.
pub const SMALL: usize = 46;
/// Rounds of which too little arrived, before that is an error.
const ATTEMPTS: u32 = 10;

/// Who stands between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody: the gateway's device swallows what the generator makes.
    Nobody,
    /// A program that drops everything.
    DropAll,
    Router,
    /// The kernel without connection tracking.
    Kernel,
    Nft,
    Iptables,
    IptablesLegacy,
    Ours(&'static str),
}

impl Who {
    pub fn name(self) -> String {
        match self {
            Self::Nobody => "generator, veth and sink alone".into(),
            Self::DropAll => "XDP that drops everything".into(),
            Self::Router => "stateless XDP router".into(),
            Self::Kernel => "kernel, no tracking".into(),
            Self::Nft => "nftables, nf_conntrack".into(),
            Self::Iptables => "iptables (nft), nf_conntrack".into(),
            Self::IptablesLegacy => "iptables (legacy), nf_conntrack".into(),
            Self::Ours(hook) => format!("firewall, {hook}"),
        }
    }

    /// The program of its rules, where that may be missing.
    const fn needs(self) -> Option<&'static str> {
        match self {
            Self::Nft => Some("nft"),
            Self::Iptables => Some("iptables-nft-restore"),
            Self::IptablesLegacy => Some("iptables-legacy-restore"),
            _ => None,
        }
    }

    pub const fn is_stateful(self) -> bool {
        matches!(self, Self::Nft | Self::Iptables | Self::IptablesLegacy | Self::Ours(_))
    }
}

/// Those of `all` that this machine has; the report names the others.
pub fn present(report: &mut Report, part: &str, all: &[Who]) -> Vec<Who> {
    let is_there = |who: &Who| match who.needs().map(capability::program) {
        Some(Err(missing)) => {
            report.miss(part, &who.name(), &missing);
            false
        }
        _ => true,
    };
    all.iter().copied().filter(is_there).collect()
}

/// The gateway, and who measures it.
pub struct Site<'a> {
    pub who: Who,
    pub network: &'a Network,
    pub peers: Peers,
    /// The client's device, then the server's.
    devices: [u32; 2],
    pub firewall: Option<Firewall<'a>>,
}

/// What became of packets.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// For each packet.
    pub nanoseconds: f64,
    /// The part of them that arrived.
    pub arrived: f64,
}

impl Sent {
    fn for_each_arrived(self) -> f64 {
        self.nanoseconds / self.arrived
    }
}

impl<'a> Site<'a> {
    /// Behind so many rules; `options` are those of the firewall.
    pub fn new(who: Who, network: &'a Network, rules: usize, options: &[&str]) -> Result<Self> {
        let (client, server) = (&network.network.client, &network.network.server);
        let gateway = network.gateway();
        let mut peers = Peers::load(1, 1)?;
        // Without a program a device takes redirected frames only so.
        for device in ["eth0", "eth1"] {
            gateway.run(&format!("ethtool -K {device} gro on"))?;
        }
        client.enter(|| peers.attach("sink", "eth0"))?;
        server.enter(|| peers.attach("sink", "eth0"))?;
        let mut firewall = None;
        match who {
            Who::Nobody => gateway.enter(|| peers.attach("sink", "eth0"))?,
            Who::DropAll => gateway.enter(|| peers.attach("drop_all", "eth0"))?,
            Who::Router => gateway.enter(|| {
                peers.attach("router", "eth0")?;
                peers.attach("router", "eth1")
            })?,
            Who::Kernel | Who::Nft | Who::Iptables | Who::IptablesLegacy => {}
            Who::Ours(hook) => {
                let setup = Setup::on(&["eth0", "eth1"]).rules(&rules::iptables(rules));
                let setup = setup.option(&format!("--hook={hook}"));
                let setup = options.iter().fold(setup, |setup, option| setup.option(option));
                firewall = Some(setup.start(gateway)?);
            }
        }
        let devices = [index(client, "eth0")?, index(server, "eth0")?];
        let site = Self { who, network, peers, devices, firewall };
        if who.is_stateful() && site.firewall.is_none() {
            site.apply(rules)?;
        }
        Ok(site)
    }

    /// Puts so many rules in force.
    pub fn apply(&self, count: usize) -> Result<()> {
        let gateway = self.network.gateway();
        match (&self.firewall, self.who) {
            (Some(firewall), _) => firewall.apply(&rules::iptables(count)),
            (_, Who::Nft) => feed(gateway, "nft", &["-f"], &rules::nft(count)),
            (_, Who::Iptables) => {
                feed(gateway, "iptables-nft-restore", &[], &rules::iptables(count))
            }
            (_, Who::IptablesLegacy) => {
                feed(gateway, "iptables-legacy-restore", &[], &rules::iptables(count))
            }
            _ => Ok(()),
        }
    }

    /// A program that runs on the gateway.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.network.gateway().command(program);
        command.args(arguments);
        command
    }

    pub fn ours(&self) -> Result<&Firewall<'a>> {
        self.firewall.as_ref().context("this is not the firewall's gateway")
    }

    pub fn packets(&self, kind: Kind, len: usize, clients: u32) -> Packets {
        let (macs, device) = match kind.is_original() {
            true => (self.network.client_macs, self.devices[0]),
            false => (self.network.server_macs, self.devices[1]),
        };
        Packets::of(kind, len, clients, macs).by(device)
    }

    /// Has them sent by whoever sends packets of that kind.
    pub fn send(&mut self, packets: &Packets, kind: Kind, count: u32) -> Result<Sent> {
        let from: &Netns = match kind.is_original() {
            true => &self.network.network.client,
            false => &self.network.network.server,
        };
        self.peers.make(packets)?;
        self.peers.aim(&Target::Peer("send"))?;
        let before = self.peers.seen()?;
        let nanoseconds = from.enter(|| self.peers.send(packets, count))?;
        let arrived = self.peers.seen()?.packets - before.packets;
        Ok(Sent { nanoseconds, arrived: arrived as f64 / f64::from(count) })
    }

    /// As [`Site::send`], where they have to arrive; gives the nanoseconds for each that did, so
    /// that nobody is the faster for what it loses. What goes by the stack overflows its queue
    /// when the generator has the CPU for too long: such a round is played again.
    pub fn play(&mut self, packets: &Packets, kind: Kind, count: u32) -> Result<f64> {
        let mut best: f64 = 0.0;
        for _ in 0..ATTEMPTS {
            let sent = self.send(packets, kind, count)?;
            if sent.arrived > 0.5 {
                return Ok(sent.for_each_arrived());
            }
            best = best.max(sent.arrived);
        }
        let (who, percent) = (self.who.name(), 100.0 * best);
        bail!("{who}: of {kind:?} {percent:.0} % arrived at best, in {ATTEMPTS} attempts")
    }

    /// Brings connections to be, by a handshake each.
    pub fn establish(&mut self, flows: u32) -> Result<()> {
        const AT_ONCE: u32 = 5_000;
        for first in (0..flows).step_by(AT_ONCE as usize) {
            for kind in [Kind::Syn, Kind::SynAck, Kind::Ack] {
                let packets = self.packets(kind, SMALL, flows).in_turn(first);
                self.send(&packets, kind, AT_ONCE.min(flows - first))?;
            }
        }
        Ok(())
    }
}

/// Runs a program with a file of rules as its last argument.
pub fn feed(netns: &Netns, program: &str, arguments: &[&str], text: &str) -> Result<()> {
    let mut file = NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    command::output(netns.command(program).args(arguments).arg(file.path())).map(drop)
}
