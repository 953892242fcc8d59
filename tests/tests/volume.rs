//! Many flows: how long a list of half a million takes, in how much memory and beside
//! conntrack(8), and how many events a second reach a watcher without loss.
//!
//! These are measurements, which a busy machine spoils: `cargo test -p firewall-tests
//! --test volume -- --ignored --nocapture --test-threads 1`.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::{
    flow::{Flow, FlowKey, Sender, State, Tuple, protocol, status},
    tables::FlowTable,
    time::Nanos,
};
use firewall_tests::{
    Family, Gateway, Netns, Offload, capability,
    firewall::{Setup, binary, mount_bpffs},
    flood::ConntrackMax,
    needs,
    packet::Packet,
    wait,
    wire::Wires,
};
use firewall_user::kernel::{
    flows::FlowTables,
    load::{Programs, TableSizes},
    maps::{Maps, now},
    pins::Pins,
};
use nix::libc;

const FLOWS: u32 = 500_000;

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const SERVER_PORT: u16 = 443;

/// Whose the connection of this number is.
fn client(number: u32) -> (Ipv4Addr, u16) {
    let [_, a, b, c] = number.to_be_bytes();
    (Ipv4Addr::new(10, a, b, c), 1_024 + (number % 60_000) as u16)
}

const fn sizes() -> TableSizes {
    TableSizes { assured: 524_288, embryonic: 1_024, expectations: 1_024, fragments: 1_024 }
}

/// Established connections to one server.
fn fill(flows: &FlowTables) -> Result<()> {
    for number in 0..FLOWS {
        let (address, port) = client(number);
        let original = Tuple {
            src: std::net::IpAddr::from(address).into(),
            dst: std::net::IpAddr::from(SERVER).into(),
            sport: port,
            dport: SERVER_PORT,
            protocol: protocol::TCP,
            ..Tuple::default()
        };
        let (key, sender) = FlowKey::of(&original);
        let mut flow = Flow {
            originator: u8::from(sender == Sender::High),
            expires: now().after(Nanos::from_secs(432_000)),
            created: now(),
            state: State::Established as u8,
            status: status::SEEN_REPLY | status::ASSURED,
            ..Flow::default()
        };
        for (side, packets) in flow.sides.iter_mut().zip([17, 15]) {
            (side.packets, side.bytes) = (packets, packets * u64::from(number % 1_400));
        }
        flows.insert(FlowTable::Assured, key, flow)?;
    }
    Ok(())
}

#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn half_a_million_flows_are_listed_counted_and_deleted_quickly_and_in_little_memory() {
    needs!(capability::firewall());
    mount_bpffs().unwrap();
    let netns = Netns::new("volume").unwrap();
    let pins = Pins::new(format!("/sys/fs/bpf/{}", netns.name()));
    let outcome = std::panic::catch_unwind(|| netns.enter(|| measure(&pins)));
    pins.remove().unwrap();
    outcome.unwrap().unwrap();
}

fn measure(pins: &Pins) -> Result<()> {
    pins.create()?;
    let _programs = Programs::load(pins, sizes())?;
    fill(&FlowTables::open(&Maps::open(pins)?)?)?;
    let file = tempfile::NamedTempFile::new()?;
    for (line, lines) in [
        ("conntrack count", 1),
        ("conntrack list", FLOWS),
        ("conntrack list -o json", FLOWS),
        ("conntrack list -s 10.0.0.0/16 --state ESTABLISHED", 1 << 16),
        ("conntrack delete -s 10.0.0.0/14", 1 << 18),
        ("conntrack flush", 0),
    ] {
        let Cost { took, cpu, peak } = cost(&mut ours(pins, line)?, file.reopen()?)?;
        let text = std::fs::read_to_string(file.path())?;
        ensure!(text.lines().count() == lines as usize, "{line}: {}", text.lines().count());
        eprintln!("{line}: {cpu:?} of a CPU, {took:?} in all, {peak} KiB at most");
        // What `conntrack -L` takes for as many; others who use the CPU do not count.
        ensure!(cpu < Duration::from_millis(1_300), "{line} took {cpu:?} of a CPU");
        ensure!(peak < 16 << 10, "{line} needed {peak} KiB");
        std::fs::write(file.path(), "")?;
    }
    Ok(())
}

#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn half_a_million_flows_are_listed_beside_as_many_of_nf_conntrack() {
    needs!(capability::firewall(), capability::oracle());
    mount_bpffs().unwrap();
    let netns = Netns::new("volume").unwrap();
    let pins = Pins::new(format!("/sys/fs/bpf/{}", netns.name()));
    let outcome = std::panic::catch_unwind(|| compare(&netns, &pins));
    pins.remove().unwrap();
    outcome.unwrap().unwrap();
}

/// The best of some runs that take turns; the lists are equally long, and as long as
/// both count.
fn compare(netns: &Netns, pins: &Pins) -> Result<()> {
    const RUNS: usize = 5;
    pins.create()?;
    let _programs = netns.enter(|| Programs::load(pins, sizes()))?;
    let flows = FlowTables::open(&Maps::open(pins)?)?;
    fill(&flows)?;
    let _limit = ConntrackMax::set(2 * FLOWS)?;
    fill_kernel(netns)?;
    let counted = netns.run("conntrack -C")?;
    ensure!(counted.trim() == FLOWS.to_string(), "the kernel has {counted}");
    ensure!(flows.count(now())? == u64::from(FLOWS), "{} flows", flows.count(now())?);
    let file = tempfile::NamedTempFile::new()?;
    let mut best = [Duration::MAX; 2];
    for _ in 0..RUNS {
        let mut kernels = netns.command("conntrack");
        kernels.arg("-L");
        let commands = [ours(pins, "conntrack list")?, kernels];
        for (mut command, best) in commands.into_iter().zip(&mut best) {
            file.as_file().set_len(0)?;
            let Cost { took, cpu, peak } = cost(&mut command, file.reopen()?)?;
            let lines = std::fs::read_to_string(file.path())?.lines().count();
            ensure!(lines == FLOWS as usize, "{command:?} printed {lines} lines");
            eprintln!("{command:?}: {cpu:?} of a CPU, {took:?} in all, {peak} KiB at most");
            *best = cpu.min(*best);
        }
    }
    let ratio = best[0].as_secs_f64() / best[1].as_secs_f64();
    eprintln!("firewall conntrack list : conntrack -L = {ratio:.2} of the CPU time");
    Ok(())
}

/// The same connections in the kernel's table.
fn fill_kernel(netns: &Netns) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let mut lines = BufWriter::new(file.as_file());
    for number in 0..FLOWS {
        let (address, port) = client(number);
        writeln!(
            lines,
            "-A -p tcp -t 432000 -u SEEN_REPLY,ASSURED --state ESTABLISHED -s {address} -d {SERVER} \
             --sport {port} --dport {SERVER_PORT} -r {SERVER} -q {address} \
             --reply-port-src {SERVER_PORT} --reply-port-dst {port}"
        )?;
    }
    lines.flush()?;
    netns.run(&format!("conntrack --load-file {}", file.path().display())).map(drop)
}

/// The firewall's own command for this line.
fn ours(pins: &Pins, line: &str) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(line.split(' ')).env("FIREWALL_PIN", pins.root());
    Ok(command)
}

/// What a command takes.
struct Cost {
    /// By the clock.
    took: Duration,
    /// Of a CPU.
    cpu: Duration,
    /// KiB of memory, as seen every few milliseconds.
    peak: u64,
}

fn cost(command: &mut Command, out: File) -> Result<Cost> {
    let (begun, before) = (Instant::now(), cpu_of_children()?);
    let mut child = command.stdout(out).stderr(Stdio::null()).spawn()?;
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        peak = resident(child.id()).unwrap_or(0).max(peak);
        std::thread::sleep(Duration::from_millis(2));
    };
    ensure!(status.success(), "{command:?}: {status}");
    Ok(Cost { took: begun.elapsed(), cpu: cpu_of_children()? - before, peak })
}

/// The most memory that a process has had, in KiB.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_of_children() -> Result<Duration> {
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the struct lives through the call.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    ensure!(answer == 0, "getrusage: {}", std::io::Error::last_os_error());
    let micros = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    Ok(Duration::from_micros((micros(usage.ru_utime) + micros(usage.ru_stime)) as u64))
}

#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn events_as_fast_as_one_sender_makes_flows_are_all_told() {
    needs!(capability::firewall());
    rate().unwrap();
}

fn rate() -> Result<()> {
    const PORTS: u16 = 60_000;
    let network = Gateway::new(Offload::Tuned)?;
    let rules = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n";
    let setup = Setup::on(&["eth0", "eth1"]).rules(rules).option("--max-embryonic=1048576");
    let firewall = setup.start(network.gateway())?;
    let wires = Wires::across(&network)?;
    let file = tempfile::NamedTempFile::new()?;
    let mut command = firewall.command(&["conntrack", "events", "-p", "udp", "-o", "json"])?;
    let mut watcher = command.stdout(file.reopen()?).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    let frames: Vec<_> = (0..PORTS)
        .map(|port| {
            let client = wires.client.endpoint(Family::V4, 1_024 + port);
            Packet::udp(client, wires.server.endpoint(Family::V4, 53), b"?").ip()
        })
        .collect();
    let before = firewall.stat("flows-created")?;
    let begun = Instant::now();
    for frame in &frames {
        wires.client.send_ip(frame)?;
    }
    let took = begun.elapsed();
    let created = firewall.stat("flows-created")? - before;
    let told = || -> Result<(usize, usize)> {
        let text = std::fs::read_to_string(file.path())?;
        let of = |event: &str| text.lines().filter(|line| line.contains(event)).count();
        Ok((of(r#""event":"new""#), of(r#""event":"lost""#)))
    };
    let all =
        wait::until_true("every event", || told().is_ok_and(|(new, _)| new as u64 >= created));
    let (new, lost) = told()?;
    watcher.kill()?;
    watcher.wait()?;
    let rate = f64::from(PORTS) / took.as_secs_f64();
    eprintln!("{created} flows in {took:?}, {rate:.0} a second: {new} told, {lost} losses");
    all.with_context(|| format!("{new} of {created} told, {lost} losses"))?;
    ensure!(lost == 0 && created >= u64::from(PORTS), "{created} flows, {lost} losses");
    Ok(())
}
