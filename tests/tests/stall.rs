//! Whether the sweep of a million flows holds packets up: the time that each packet of
//! one established connection takes through the gateway, without a sweep and during one.
//!
//! A measurement, which a busy machine spoils: `cargo test --release -p firewall-tests
//! --test stall -- --ignored --nocapture`. With `FIREWALL_FULL=1` no packet may take a
//! millisecond longer during the sweep than without.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
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
    sweep::Sweeper,
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
    fill(&mut FlowTables::open(&maps)?)?;
    let mut sweeper = Sweeper::open(&maps)?;
    // Above whatever else the machine does.
    // SAFETY: a system call that takes numbers.
    let raised = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    ensure!(raised == 0, "setpriority: {}", std::io::Error::last_os_error());

    let begun = Instant::now();
    let quiet = line.times(|| begun.elapsed() < QUIET)?;
    quiet.print("without a sweep");
    let done = AtomicBool::new(false);
    let (swept, took, busy) = thread::scope(|scope| -> Result<_> {
        let sweep = scope.spawn(|| {
            // SAFETY: as above; of this thread alone.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
            let begun = Instant::now();
            let swept = sweeper.sweep(now(), &AtomicBool::new(false), None);
            done.store(true, Ordering::Relaxed);
            (swept, begun.elapsed())
        });
        let busy = line.times(|| !done.load(Ordering::Relaxed))?;
        let (swept, took) = sweep.join().expect("the sweep does not panic");
        Ok((swept?, took, busy))
    })?;
    busy.print("during a sweep");
    eprintln!("{} of {} flows swept in {took:.2?}", swept.assured.removed, swept.assured.found);
    ensure!(swept.assured.removed == u64::from(FLOWS), "{swept:?}");
    if capability::full() {
        ensure!(busy.longest() < quiet.longest() + STALL, "held up for {:?}", busy.longest());
    }
    Ok(())
}

/// Flows that have expired.
fn fill(flows: &mut FlowTables) -> Result<()> {
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
        let (mut times, waited) = (Vec::new(), waited()?);
        while go_on() {
            let sent = Instant::now();
            self.wires.client.send_frame(&frame)?;
            while self.wires.server.frames().next().is_none() {
                ensure!(sent.elapsed() < Duration::from_secs(5), "a packet did not cross");
            }
            times.push(sent.elapsed());
        }
        times.sort_unstable();
        Ok(Times { times, waited: self::waited()? - waited })
    }
}

/// How long packets took, the shortest first.
struct Times {
    times: Vec<Duration>,
    /// How long the measuring thread was kept from its CPU meanwhile.
    waited: Duration,
}

impl Times {
    fn longest(&self) -> Duration {
        self.times.last().copied().unwrap_or_default()
    }

    fn print(&self, when: &str) {
        let at = |share: f64| self.times[((self.times.len() - 1) as f64 * share) as usize];
        let over = self.times.iter().filter(|time| **time > STALL).count();
        eprintln!(
            "{when}: {} packets, median {:?}, 99 % {:?}, 99.9 % {:?}, longest {:?}; {over} over \
             {STALL:?}; the measuring thread waited {:?} for a CPU",
            self.times.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            self.longest(),
            self.waited,
        );
    }
}

/// How long this thread was ready and had no CPU.
fn waited() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().nth(1).context("a short schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}
