//! What the sweep of a full table costs the packets that pass meanwhile: rounds in which the
//! daemon stands still take turns with rounds in which it sweeps. Then all flows expire.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::pressure::Bounded;
use firewall_tests::firewall::Setup;
use firewall_user::kernel::{maps::Maps, pins::Pins};
use nix::sys::signal::Signal;

use crate::{
    established::Established,
    network::{Network, index},
    peers::{Peers, Target, firewall},
    report::{Goal, Report},
    rules::{self, FEWEST},
    traffic::Kind,
};

const PART: &str = "sweep";
const STILL: &str = "established TCP, the daemon stands still";
const SWEEPING: &str = "established TCP, the daemon sweeps";
/// Packets in a slice, and how long slices follow one another: the sweep takes turns with a
/// pause, which is four times as long.
const PACKETS: u32 = 200_000;
const LONG: Duration = Duration::from_secs(2);
/// More rounds tell little, and each is long.
const ROUNDS: usize = 4;
/// What the flows are given when they are to end.
const SHORT: &str = "5";
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures with so many flows.
pub fn measure(report: &mut Report, rounds: usize, flows: u32) -> Result<()> {
    let network = Network::new()?;
    let gateway = network.gateway();
    let firewall_run = Setup::on(&["eth0", "eth1"])
        .rules(&rules::iptables(FEWEST))
        .option("--hook=xdp")
        .option(&format!("--max-flows={flows}"))
        .start(gateway)?;
    let maps = Maps::open(&Pins::new(firewall_run.pin()))?;
    let ours = firewall(firewall_run.pin())?;
    let ports = [index(gateway, "eth0")?, index(gateway, "eth1")?];
    let mut peers = Peers::load(1, 1)?;
    let established = Established { network: &network, ports, ours: &ours };
    gateway.enter(|| established.make(&mut peers, flows))?;

    let packets = established.packets(Kind::Original, flows.min(1_000));
    let mut slice = || -> Result<f64> {
        peers.aim(&Target::Firewall(&ours))?;
        peers.make(&packets)?;
        let (ns, _) = gateway.enter(|| peers.run(&packets, ports[0], PACKETS))?;
        Ok(ns)
    };
    for round in 0..=rounds.min(ROUNDS) {
        for (name, signal) in [(STILL, Signal::SIGSTOP), (SWEEPING, Signal::SIGCONT)] {
            firewall_run.signal(signal)?;
            let (began, mut all, mut count) = (Instant::now(), 0.0, 0);
            while began.elapsed() < LONG {
                all += slice()?;
                count += 1;
            }
            if round > 0 {
                report.note(PART, name, "ns", all / f64::from(count));
            }
        }
    }
    firewall_run.text(&["conntrack", "set", "tcp_timeout_established", SHORT])?;
    gateway.enter(|| established.touch(&mut peers, flows))?;
    let began = Instant::now();
    let used = || -> Result<u32> { Ok(maps.fill(Bounded::Assured)?.used) };
    while used()? > 0 {
        ensure!(began.elapsed() < PATIENCE, "{} flows are still in the table", used()?);
        thread::sleep(Duration::from_millis(500));
    }
    let short: f64 = SHORT.parse().context("a number")?;
    let took = (began.elapsed().as_secs_f64() - short).max(0.0);
    report.note(PART, &format!("{flows} expired flows are gone after"), "s", took);
    let (still, swept) = (report.median(PART, STILL), report.median(PART, SWEEPING));
    if let (Some(still), Some(swept)) = (still, swept) {
        let what = "sweep: established TCP meanwhile, to that while the daemon stands still";
        report.compare(what, swept / still, Goal::AtMost(1.05));
    }
    Ok(())
}
