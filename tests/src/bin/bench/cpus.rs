//! What a packet costs when a second CPU forwards, too; and in which program the time of a
//! CPU goes, for each hook.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use aya::{
    programs::ProgramInfo,
    sys::{Stats, enable_stats},
};
use firewall_user::kernel::pins::Pins;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    network::Network,
    peers::{Peers, Target},
    report::Report,
    rules::FEWEST,
    site::{SMALL, Site, Who, present},
    traffic::Kind,
};

const PART: &str = "two CPUs";
const HOOKS: &str = "CPU per hook";
const FLOWS: u32 = 1_000;
const PACKETS: u32 = 300_000;
const ALL: [Who; 4] = [Who::Router, Who::Kernel, Who::Nft, Who::Ours("xdp")];
const OURS: [Who; 3] = [Who::Ours("xdp"), Who::Ours("xdp-generic"), Who::Ours("tc")];
const PROGRAMS: [&str; 3] = ["firewall_xdp", "firewall_ingress", "firewall_egress"];

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    hooks(report, rounds)?;
    let cpus = own_cpus()?;
    let [first, second, ..] = cpus[..] else {
        report.miss(PART, "a second CPU", "this process may run on one only");
        return Ok(());
    };
    let present = present(report, PART, &ALL);
    let networks = present.iter().map(|_| Network::new()).collect::<Result<Vec<_>>>()?;
    let mut pairs = Vec::new();
    for (who, network) in present.into_iter().zip(&networks) {
        pairs.push(Pair::new(who, network)?);
    }
    for round in 0..=rounds {
        for pair in &mut pairs {
            let alone = pair.play(&[first])?;
            let both = pair.play(&[first, second])?;
            if round > 0 {
                let name = pair.site.who.name();
                report.note(PART, &format!("one CPU: {name}"), "ns", alone);
                report.note(PART, &format!("each of two CPUs: {name}"), "ns", both);
            }
        }
    }
    Ok(())
}

/// A gateway whose devices have a queue for each CPU, and a generator on either side.
struct Pair<'a> {
    site: Site<'a>,
    other: Peers,
}

impl<'a> Pair<'a> {
    fn new(who: Who, network: &'a Network) -> Result<Self> {
        let gateway = network.gateway();
        for (netns, device) in [
            (&network.network.client, "eth0"),
            (gateway, "eth0"),
            (gateway, "eth1"),
            (&network.network.server, "eth0"),
        ] {
            netns.run(&format!("ethtool -L {device} rx 2 tx 2"))?;
        }
        let mut site = Site::new(who, network, FEWEST, &[])?;
        if who.is_stateful() {
            site.establish(FLOWS)?;
        }
        Ok(Self { site, other: Peers::load(1, 1)? })
    }

    /// The nanoseconds of a packet on each of these CPUs: the first sends what clients send,
    /// the second what the server answers.
    fn play(&mut self, cpus: &[usize]) -> Result<f64> {
        let kinds = [Kind::Original, Kind::Reply].map(|kind| self.site.packets(kind, SMALL, FLOWS));
        let [there, back] = kinds;
        let before = self.site.peers.seen()?.packets;
        let network = &self.site.network.network;
        let (site, other) = (&mut self.site.peers, &mut self.other);
        let generators = [(site, there, &network.client), (other, back, &network.server)];
        let mut all = 0.0;
        thread::scope(|scope| -> Result<()> {
            let mut running = Vec::new();
            for ((peers, packets, netns), cpu) in generators.into_iter().zip(cpus) {
                peers.make(&packets)?;
                peers.aim(&Target::Peer("send"))?;
                running.push(scope.spawn(move || {
                    netns.enter(|| -> Result<f64> {
                        stay_on(*cpu)?;
                        peers.send(&packets, PACKETS)
                    })
                }));
            }
            for one in running {
                all += one.join().expect("no panic")?;
            }
            Ok(())
        })?;
        let count = cpus.len() as f64;
        let arrived = (self.site.peers.seen()?.packets - before) as f64;
        ensure!(
            arrived > 0.5 * count * f64::from(PACKETS),
            "{}: {arrived} packets arrived",
            self.site.who.name()
        );
        Ok(all / count)
    }
}

/// How long each program of the firewall runs for a packet that is forwarded.
fn hooks(report: &mut Report, rounds: usize) -> Result<()> {
    let networks = OURS.iter().map(|_| Network::new()).collect::<Result<Vec<_>>>()?;
    let mut sites = Vec::new();
    for (who, network) in OURS.into_iter().zip(&networks) {
        let mut site = Site::new(who, network, FEWEST, &[])?;
        site.establish(FLOWS)?;
        sites.push(site);
    }
    // As long as this is open the kernel takes the time of every program.
    let _stats = enable_stats(Stats::RunTime)?;
    for round in 0..=rounds {
        for site in &mut sites {
            let before = PROGRAMS.map(|name| times(site, name));
            let packets = site.packets(Kind::Original, SMALL, FLOWS);
            site.play(&packets, Kind::Original, PACKETS)?;
            for (name, before) in PROGRAMS.into_iter().zip(before) {
                let (before, now) = (before?, times(site, name)?);
                let ns = (now - before) / f64::from(PACKETS);
                if round > 0 {
                    report.note(HOOKS, &format!("{}: {name}", site.who.name()), "ns", ns);
                }
            }
        }
    }
    Ok(())
}

/// The nanoseconds that a program has run so far.
fn times(site: &Site<'_>, name: &str) -> Result<f64> {
    let path = Pins::new(site.ours()?.pin()).program(name);
    let info = ProgramInfo::from_pin(&path).with_context(|| format!("no {}", path.display()))?;
    Ok(info.run_time().as_nanos() as f64)
}

/// The CPUs where this process may run.
fn own_cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Keeps the calling thread on one CPU.
fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
