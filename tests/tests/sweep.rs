//! The sweep gives back what has expired, and nothing else: many flows through the
//! loaded program, with `--full` a million.
//!
//! ```text
//!   192.0.2.2 ── eth0 │ gateway │ eth1 ── 198.51.100.2
//! ```

use std::{
    fs,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::{
    control::{Device, Options, Timeouts, device, option},
    flow::State,
    pressure::Bounded,
    testing::Frame,
    time::Nanos,
    wire::tcp_flag::{ACK, SYN},
};
use firewall_tests::{Netns, capability, firewall::mount_bpffs, needs};
use firewall_user::{
    kernel::{
        attach::{Hook, Target},
        load::{Programs, TableSizes},
        maps::{Maps, now},
        pins::Pins,
        sweep::Sweeper,
    },
    netlink::links,
    role::Role,
    ruleset::Running,
};

/// Sent first, with a timeout that lasts.
const LASTING: u32 = 1_000;

struct Bench {
    programs: Programs,
    maps: Maps,
    /// Of eth0 and eth1: index and address.
    ports: [(u32, [u8; 6]); 2],
}

impl Bench {
    fn new(pins: &Pins, flows: u32) -> Result<Self> {
        pins.create()?;
        let sizes = TableSizes { assured: flows + 2 * LASTING, ..TableSizes::default() };
        let mut programs = Programs::load(pins, sizes)?;
        let maps = Maps::open(pins)?;
        maps.set_options(Options { bits: option::TCP_LOOSE, ..Options::default() })?;
        maps.set_timeouts(Timeouts::DEFAULT)?;
        let mut ports = Vec::new();
        for link in links::all()?.iter().filter(|link| link.name.starts_with("eth")) {
            let target = Target { ifindex: link.index, role: Role::Router, attached: None };
            programs.attach_by(pins, &target, Hook::Xdp)?;
            let mac = link.mac.context("an Ethernet address")?;
            let flags = device::OURS | device::ETHERNET | device::TAKES_REDIRECT;
            maps.set_device(link.index, Device { flags, mac, ..Device::default() })?;
            ports.push((link.index, mac));
        }
        Running::change(&maps, |running| running)?;
        let ports = ports.try_into().ok().context("eth0 and eth1")?;
        Ok(Self { programs, maps, ports })
    }

    fn send(&mut self, port: usize, frame: Frame) -> Result<()> {
        let (index, mac) = self.ports[port];
        let bytes = frame.macs([2, 0, 0, 0, 0, 1], mac).build();
        self.programs.try_xdp(&bytes, index, 1).map(drop)
    }

    /// Shakes hands between a client's port and a server's.
    fn connect(&mut self, number: u32) -> Result<()> {
        let (sport, dport) = ((number & 0xffff) as u16, 1_000 + (number >> 16) as u16);
        let there = || Frame::between("192.0.2.2", "198.51.100.2");
        let back = Frame::between("198.51.100.2", "192.0.2.2");
        self.send(0, there().tcp_at(sport, dport, SYN, 100, 0))?;
        self.send(1, back.tcp_at(dport, sport, SYN | ACK, 500, 101))?;
        self.send(0, there().tcp_at(sport, dport, ACK, 101, 501))
    }

    fn used(&self) -> Result<u32> {
        Ok(self.maps.fill(Bounded::Assured)?.used)
    }
}

#[test]
fn the_sweep_gives_back_what_has_expired_and_nothing_else() {
    needs!(capability::firewall());
    mount_bpffs().unwrap();
    let flows = if capability::full() { 1_000_000 } else { 20_000 };
    let gateway = Netns::new("gateway").unwrap();
    let peers = Netns::new("peers").unwrap();
    for (interface, address) in [("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")] {
        gateway.connect(interface, &peers, interface).unwrap();
        gateway.address(interface, address).unwrap();
    }
    gateway.set("ipv4/ip_forward", "1").unwrap();
    let pins = Pins::new(format!("/sys/fs/bpf/{}", gateway.name()));
    let outcome = std::panic::catch_unwind(|| gateway.enter(|| sweep(&pins, flows)));
    pins.remove().unwrap();
    outcome.unwrap().unwrap();
}

fn sweep(pins: &Pins, flows: u32) -> Result<()> {
    let mut bench = Bench::new(pins, flows)?;
    (0..LASTING).try_for_each(|number| bench.connect(number))?;
    let mut timeouts = Timeouts::DEFAULT;
    timeouts.tcp[State::Established as usize] = Nanos::from_millis(1);
    bench.maps.set_timeouts(timeouts)?;
    (LASTING..LASTING + flows).try_for_each(|number| bench.connect(number))?;
    ensure!(bench.used()? == flows + LASTING, "{} flows", bench.used()?);
    // The clock is coarse.
    thread::sleep(Duration::from_millis(20));

    let mut sweeper = Sweeper::open(&bench.maps)?;
    let (memory, busy, begin) = (resident()?, on_cpu()?, Instant::now());
    let swept = sweeper.sweep(now(), &AtomicBool::new(false), &|_| false, None)?;
    let (took, busy) = (begin.elapsed(), on_cpu()? - busy);
    let grown = resident()?.saturating_sub(memory);
    let removed = swept.assured.ipv4.removed;
    eprintln!("{removed} swept in {took:?}, {busy:?} of CPU, {grown} KiB more");
    ensure!(swept.assured.ipv4.found == u64::from(flows + LASTING), "{swept:?}");
    ensure!(swept.assured.ipv4.removed == u64::from(flows), "{swept:?}");
    ensure!(bench.used()? == LASTING, "{} are left", bench.used()?);
    ensure!(grown < 8 << 10, "{grown} KiB for a sweep");

    let begin = Instant::now();
    let again = sweeper.sweep(now(), &AtomicBool::new(false), &|_| false, None)?;
    eprintln!("{} looked at in {:?}", again.assured.ipv4.found, begin.elapsed());
    ensure!(
        again.assured.ipv4.removed == 0 && again.assured.ipv4.left() == u64::from(LASTING),
        "{again:?}"
    );
    // Told to stop, it does.
    let stopped = sweeper.sweep(now(), &AtomicBool::new(true), &|_| false, None)?;
    ensure!(stopped.assured.ipv4.found <= u64::from(LASTING), "{stopped:?}");
    Ok(())
}

/// How long this thread was on a CPU.
fn on_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// The most memory that this process had, in KiB.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
    Ok(number.parse()?)
}
