//! What one packet costs on its whole way: made in the client's namespace, through the
//! gateway, counted and dropped at the server's device. All on one CPU.

use std::{io::Write as _, time::Instant};

use anyhow::{Result, ensure};
use firewall_tests::{Firewall, Netns, capability, command, firewall::Setup};
use tempfile::NamedTempFile;

use crate::{
    network::{Network, index},
    peers::Peers,
    program,
    report::{Goal, Report},
    traffic::{CLIENTS, Kind, Packets},
};

const PART: &str = "whole way";
/// Bytes from the first address on: of a minimal frame, and of a large one.
const SMALL: usize = 46;
const LARGE: usize = 1_400;
/// Connections that are there at most.
const FLOWS: u32 = 100_000;
const PACKETS: u32 = 200_000;
const NEW: u32 = 50_000;

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Nobody: the gateway's device swallows what the generator makes.
    Nobody,
    Router,
    /// The kernel without connection tracking.
    Kernel,
    Nft,
    Iptables,
    IptablesLegacy,
    Ours(&'static str),
}

impl Who {
    const ALL: [Self; 9] = [
        Self::Nobody,
        Self::Router,
        Self::Kernel,
        Self::Nft,
        Self::Iptables,
        Self::IptablesLegacy,
        Self::Ours("xdp"),
        Self::Ours("xdp-generic"),
        Self::Ours("tc"),
    ];

    fn name(self) -> String {
        match self {
            Self::Nobody => "generator, veth and sink alone".into(),
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

    const fn is_stateful(self) -> bool {
        !matches!(self, Self::Nobody | Self::Router | Self::Kernel)
    }
}

const IN_NFT: &str = "\
table ip bench {
 chain forward {
  type filter hook forward priority 0; policy drop;
  ct state established counter accept
  ct state invalid counter drop
  ip saddr 10.0.0.0/8 tcp dport { 80, 443 } counter accept
  ip saddr 10.0.0.0/8 udp dport 80 counter accept
 }
}
";

/// A gateway under test, with a generator and sinks of its own.
struct Site<'a> {
    who: Who,
    network: &'a Network,
    peers: Peers,
    /// The client's device, then the server's.
    devices: [u32; 2],
    _firewall: Option<Firewall<'a>>,
}

/// What is sent.
struct Load {
    name: &'static str,
    kind: Kind,
    len: usize,
    clients: u32,
    count: u32,
    is_new: bool,
}

const LOADS: [Load; 5] = [
    Load {
        name: "64 bytes, 1 flow",
        kind: Kind::Original,
        len: SMALL,
        clients: 1,
        count: PACKETS,
        is_new: false,
    },
    Load {
        name: "64 bytes, 1,000 flows",
        kind: Kind::Original,
        len: SMALL,
        clients: 1_000,
        count: PACKETS,
        is_new: false,
    },
    Load {
        name: "64 bytes, 100,000 flows",
        kind: Kind::Original,
        len: SMALL,
        clients: FLOWS,
        count: PACKETS,
        is_new: false,
    },
    Load {
        name: "1,400 bytes, 1,000 flows",
        kind: Kind::Original,
        len: LARGE,
        clients: 1_000,
        count: PACKETS,
        is_new: false,
    },
    Load {
        name: "new connections",
        kind: Kind::Syn,
        len: SMALL,
        clients: CLIENTS,
        count: NEW,
        is_new: true,
    },
];

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let present: Vec<Who> = Who::ALL
        .into_iter()
        .filter(|who| match who.needs().map(capability::program) {
            Some(Err(missing)) => {
                eprintln!("{}: not measured: {missing}", who.name());
                false
            }
            _ => true,
        })
        .collect();
    let networks = present.iter().map(|_| Network::new()).collect::<Result<Vec<_>>>()?;
    let mut sites = Vec::new();
    for (who, network) in present.into_iter().zip(&networks) {
        sites.push(Site::new(who, network)?);
    }
    for site in sites.iter_mut().filter(|site| site.who.is_stateful()) {
        site.establish()?;
    }
    let mut fresh = CLIENTS / 2;
    for round in 0..=rounds {
        for load in &LOADS {
            for site in &mut sites {
                let (ns, part) = site.play(load, fresh)?;
                // The first round warms up.
                if round == 0 {
                    ensure!(part > 0.5, "{}: {}: {part} arrived", site.who.name(), load.name);
                    continue;
                }
                report.note(PART, &format!("{}: {}", load.name, site.who.name()), "ns", ns);
            }
            if load.is_new {
                fresh += load.count;
            }
        }
    }
    judge(report);
    Ok(())
}

impl<'a> Site<'a> {
    fn new(who: Who, network: &'a Network) -> Result<Self> {
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
            Who::Router => gateway.enter(|| {
                peers.attach("router", "eth0")?;
                peers.attach("router", "eth1")
            })?,
            Who::Kernel => {}
            Who::Nft => feed(gateway, "nft", &["-f"], IN_NFT)?,
            Who::Iptables => feed(gateway, "iptables-nft-restore", &[], &program::rules(5))?,
            Who::IptablesLegacy => {
                feed(gateway, "iptables-legacy-restore", &[], &program::rules(5))?;
            }
            Who::Ours(hook) => {
                let setup = Setup::on(&["eth0", "eth1"]).rules(&program::rules(5));
                firewall = Some(setup.option(&format!("--hook={hook}")).start(gateway)?);
            }
        }
        let devices = [index(client, "eth0")?, index(server, "eth0")?];
        Ok(Self { who, network, peers, devices, _firewall: firewall })
    }

    fn packets(&self, kind: Kind, len: usize, clients: u32) -> Packets {
        let (macs, device) = match kind.is_original() {
            true => (self.network.client_macs, self.devices[0]),
            false => (self.network.server_macs, self.devices[1]),
        };
        Packets::of(kind, len, clients, macs).by(device)
    }

    fn send(&mut self, packets: &Packets, kind: Kind, count: u32) -> Result<()> {
        let from: &Netns = match kind.is_original() {
            true => &self.network.network.client,
            false => &self.network.network.server,
        };
        self.peers.make(packets)?;
        self.peers.aim(&crate::peers::Target::Peer("send"))?;
        from.enter(|| self.peers.send(packets, count))
    }

    /// Brings the connections to be.
    fn establish(&mut self) -> Result<()> {
        const AT_ONCE: u32 = 5_000;
        for first in (0..FLOWS).step_by(AT_ONCE as usize) {
            for kind in [Kind::Syn, Kind::SynAck, Kind::Ack] {
                let packets = self.packets(kind, SMALL, FLOWS).in_turn(first);
                self.send(&packets, kind, AT_ONCE)?;
            }
        }
        Ok(())
    }

    /// The nanoseconds of each packet, and which part of them arrived.
    fn play(&mut self, load: &Load, fresh: u32) -> Result<(f64, f64)> {
        let mut packets = self.packets(load.kind, load.len, load.clients);
        if load.is_new {
            packets = packets.in_turn(fresh);
        }
        let before = self.peers.seen()?;
        let began = Instant::now();
        self.send(&packets, load.kind, load.count)?;
        let took = began.elapsed();
        let arrived = self.peers.seen()?.packets - before.packets;
        Ok((took.as_nanos() as f64 / f64::from(load.count), arrived as f64 / f64::from(load.count)))
    }
}

/// Runs a program with a file of rules as its last argument.
fn feed(netns: &Netns, program: &str, arguments: &[&str], text: &str) -> Result<()> {
    let mut file = NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    command::output(netns.command(program).args(arguments).arg(file.path())).map(drop)
}

/// The ratios that are promised; the generator, the devices and the sink are no part.
fn judge(report: &mut Report) {
    let of = |report: &Report, load: &str, who: Who| {
        report.median(PART, &format!("{load}: {}", who.name()))
    };
    let pairs = [
        ("64 bytes, 1,000 flows", Who::Router, 1.0),
        ("64 bytes, 1 flow", Who::Nft, 3.5),
        ("64 bytes, 1,000 flows", Who::Nft, 3.5),
        ("64 bytes, 100,000 flows", Who::Nft, 3.0),
        ("64 bytes, 1,000 flows", Who::Iptables, 3.5),
        ("64 bytes, 1,000 flows", Who::IptablesLegacy, 3.5),
        ("1,400 bytes, 1,000 flows", Who::Router, 0.95),
        ("new connections", Who::Nft, 3.0),
    ];
    for (load, peer, least) in pairs {
        let found = (of(report, load, Who::Ours("xdp")), of(report, load, peer));
        if let (Some(ours), Some(theirs)) = found {
            let what = format!("{load}: packets a second of the firewall to {}", peer.name());
            report.compare(&what, theirs / ours, Goal::AtLeast(least));
        }
    }
}
