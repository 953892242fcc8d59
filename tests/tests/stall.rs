//! Whether the sweep of a million flows holds packets up: the time that each packet of
//! one established connection takes through the gateway, without a sweep and during one.
//!
//! A measurement, which a busy machine spoils: `cargo test -p firewall-tests --test stall
//! -- --ignored --nocapture`. A packet that took long because the scheduler gave the CPU to
//! somebody else meanwhile is told apart. With `FIREWALL_FULL=1` no other may take a
//! millisecond longer during the sweep than without.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use firewall_common::{
    flow::{Flow, FlowKey, Sender, State, Tuple, protocol, status},
    tables::FlowTable,
    time::Nanos,
};
use firewall_tests::{
    capability,
    firewall::Setup,
    flood::Site,
    needs,
    packet::{Packet, Segment, flag},
    wire::{End, Wires},
};
use firewall_user::kernel::{
    flows::FlowTables,
    maps::{Maps, now},
    pins::Pins,
    sweep::{Sweeper, Swept},
};
use nix::libc;

const FLOWS: u32 = 1_000_000;
/// How long packets are measured without a sweep.
const QUIET: Duration = Duration::from_secs(5);
/// What a sweep may add to the longest time.
const STALL: Duration = Duration::from_millis(1);

#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn a_sweep_of_a_million_flows_holds_no_packet_up() {
    needs!(capability::firewall());
    measure().unwrap();
}

fn measure() -> Result<()> {
    let site = Site::new()?;
    let rules = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n";
    let setup = Setup::on(&["eth0", "eth1"]).rules(rules).option("--ftp-ports=none");
    let mut firewall = setup.option("--max-flows=1100000").start(site.gateway())?;
    let mut line = Line::open(&site.wires)?;
    // The sweep is this process's own: the daemon's would come when it likes.
    firewall.kill();
    let maps = Maps::open(&Pins::new(firewall.pin()))?;
    fill(&FlowTables::open(&maps)?)?;
    let mut sweeper = Sweeper::open(&maps)?;

    let begun = Instant::now();
    let quiet = line.times(|| begun.elapsed() < QUIET)?;
    quiet.print("without a sweep");
    let done = AtomicBool::new(false);
    let (swept, took, busy) = thread::scope(|scope| -> Result<_> {
        let sweep = scope.spawn(|| {
            let begun = Instant::now();
            let swept = sweeper.sweep(now(), &AtomicBool::new(false), &|_| false, None);
            done.store(true, Ordering::Relaxed);
            (swept, begun.elapsed())
        });
        let busy = line.times(|| !done.load(Ordering::Relaxed))?;
        let (swept, took) = sweep.join().expect("the sweep does not panic");
        Ok((swept?, took, busy))
    })?;
    busy.print("during a sweep");
    let Swept { removed, found, .. } = swept.assured.ipv4;
    eprintln!("{removed} of {found} flows swept in {took:.2?}");
    ensure!(removed == u64::from(FLOWS), "{swept:?}");
    if capability::full() {
        ensure!(busy.longest() < quiet.longest() + STALL, "held up for {:?}", busy.longest());
    }
    Ok(())
}

/// Flows that have expired.
fn fill(flows: &FlowTables) -> Result<()> {
    for number in 0..FLOWS {
        let [_, a, b, c] = number.to_be_bytes();
        let tuple = Tuple {
            src: IpAddr::from([10, a, b, c]).into(),
            dst: IpAddr::from(Ipv4Addr::new(198, 51, 100, 2)).into(),
            sport: 1_024,
            dport: 443,
            protocol: protocol::TCP,
            ..Tuple::default()
        };
        let (key, sender) = FlowKey::of(&tuple);
        let flow = Flow {
            originator: u8::from(sender == Sender::High),
            created: now(),
            expires: Nanos(1),
            state: State::Established as u8,
            status: status::SEEN_REPLY | status::ASSURED,
            ..Flow::default()
        };
        flows.insert(FlowTable::Assured, key, flow)?;
    }
    Ok(())
}

/// An established connection between the wires.
struct Line<'a> {
    wires: &'a Wires,
    question: Packet,
}

impl<'a> Line<'a> {
    fn open(wires: &'a Wires) -> Result<Self> {
        let client = wires.client.endpoint(firewall_tests::Family::V4, 40_000);
        let server = wires.server.endpoint(firewall_tests::Family::V4, 443);
        let segment = |flags, seq, ack| Segment { flags, seq, ack, payload: Vec::new() };
        let there = |flags, seq, ack| Packet::tcp(client, server, segment(flags, seq, ack));
        let back = |flags, seq, ack| Packet::tcp(server, client, segment(flags, seq, ack));
        wires.cross(End::Client, &there(flag::SYN, 1_000, 0))?;
        wires.cross(End::Server, &back(flag::SYN | flag::ACK, 5_000, 1_001))?;
        let question = there(flag::ACK, 1_001, 5_001);
        wires.cross(End::Client, &question)?;
        Ok(Self { wires, question })
    }

    /// One packet after another, while that holds.
    fn times(&mut self, mut go_on: impl FnMut() -> bool) -> Result<Times> {
        let frame = self.wires.client.frame(&self.question);
        let mut times = Times::default();
        while go_on() {
            let (switches, sent) = (switches()?, Instant::now());
            self.wires.client.send_frame(&frame)?;
            while self.wires.server.frames().next().is_none() {
                ensure!(sent.elapsed() < Duration::from_secs(5), "a packet did not cross");
            }
            let took = sent.elapsed();
            let is_own = self::switches()? == switches;
            if is_own { times.own.push(took) } else { times.switched.push(took) }
        }
        times.own.sort_unstable();
        times.switched.sort_unstable();
        Ok(times)
    }
}

/// How long packets took, the shortest first.
#[derive(Default)]
struct Times {
    /// Of packets during which the measuring thread kept its CPU.
    own: Vec<Duration>,
    /// Of the others.
    switched: Vec<Duration>,
}

impl Times {
    fn longest(&self) -> Duration {
        self.own.last().copied().unwrap_or_default()
    }

    fn print(&self, when: &str) {
        for (times, what) in [(&self.own, "undisturbed"), (&self.switched, "with a switch")] {
            let last = times.len().saturating_sub(1) as f64;
            let at = |share: f64| times.get((last * share) as usize).copied().unwrap_or_default();
            let over = times.iter().filter(|time| **time > STALL).count();
            eprintln!(
                "{when}, {what}: {} packets, median {:?}, 99 % {:?}, 99.9 % {:?}, longest {:?}; \
                 {over} over {STALL:?}",
                times.len(),
                at(0.5),
                at(0.99),
                at(0.999),
                at(1.0),
            );
        }
    }
}

/// How often this thread has lost its CPU, or given it away.
fn switches() -> Result<i64> {
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the struct lives through the call.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    ensure!(answer == 0, "getrusage: {}", std::io::Error::last_os_error());
    Ok(usage.ru_nvcsw + usage.ru_nivcsw)
}
