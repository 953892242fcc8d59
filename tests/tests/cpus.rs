//! Both directions of one connection on two CPUs at once: no segment is judged wrongly, none is
//! counted twice or not at all, and what is known of the windows in the end is what is known of
//! a connection whose segments came one after the other.
//!
//! ```text
//!   CPU 0: 192.0.2.77 ──► eth0 │ gateway │ eth1 ◄── 198.51.100.77 :CPU 1
//! ```
//!
//! XDP runs on the CPU of who sends to a virtual device; for the stack, packet steering (RPS)
//! sends each device's packets to a CPU of its own.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, ensure};
use bytemuck::Zeroable as _;
use firewall_common::{
    addr::Addr,
    flow::{Flow, FlowKey, Tuple, protocol},
};
use firewall_tests::{
    Family, Gateway, Netns, Offload, capability, command,
    firewall::Setup,
    flood::Burst,
    ledger::Ledger,
    needs,
    packet::{Packet, Segment, flag},
    wait,
    wire::{Wire, Wires, quiet_gateway},
};
use firewall_user::kernel::{
    maps::{Maps, now},
    pins::Pins,
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

const STATES: [&str; 4] = ["NEW", "ESTABLISHED", "RELATED", "INVALID"];
/// Phases in which both sides send at once; in each, a side acknowledges what it was sent in
/// the one before.
const PHASES: u32 = 20;
/// Segments of a side in a phase, of one byte each: a phase fits the window.
const SEGMENTS: u32 = 1_000;
const BURST: usize = 50;
/// The initial sequence numbers of client and server.
const INITIAL: [u32; 2] = [1_000, u32::MAX - 5_000];
/// Bytes of an IPv4 packet without data.
const HEADERS: u64 = 40;

#[test]
fn by_xdp_nothing_is_judged_or_counted_wrongly() {
    needs!(capability::firewall(), two_cpus().map(drop));
    at_once("xdp").unwrap();
}

#[test]
fn by_generic_xdp_nothing_is_judged_or_counted_wrongly() {
    needs!(capability::firewall(), two_cpus().map(drop));
    at_once("xdp-generic").unwrap();
}

#[test]
fn at_tc_nothing_is_judged_or_counted_wrongly() {
    needs!(capability::firewall(), two_cpus().map(drop));
    at_once("tc").unwrap();
}

#[test]
fn at_tc_one_direction_on_both_is_counted_whole() {
    needs!(capability::firewall(), two_cpus().map(drop));
    at_tc(one_direction).unwrap();
}

/// Goes on with a connection through a gateway at TC, where nothing steers frames.
fn at_tc(go_on: impl FnOnce(&Connection<'_>, &Wires, [usize; 2]) -> Result<()>) -> Result<()> {
    let (network, wires) = quiet_gateway()?;
    let cpus = two_cpus().map_err(anyhow::Error::msg)?;
    let setup = Setup::on(&["eth0", "eth1"]).rules(&rules()).option("--hook=tc");
    let firewall = setup.start(network.gateway())?;
    let maps = Maps::open(&Pins::new(firewall.pin()))?;
    let connection = Connection::new(&wires, &maps, 40_000);
    connection.shake_hands(&wires)?;
    go_on(&connection, &wires, cpus)
}

/// The client repeats its acknowledgement on both CPUs; the frames stay where they were sent.
fn one_direction(connection: &Connection<'_>, wires: &Wires, cpus: [usize; 2]) -> Result<()> {
    let frame = wires.client.frame(&connection.segment(0, flag::ACK, 0, 0, b""));
    let frames = vec![frame; BURST];
    let bursts = SEGMENTS / BURST as u32;
    for phase in 0..PHASES {
        let together = Barrier::new(2);
        let repeat = |cpu: usize| -> Result<()> {
            let mut burst = Burst::new(&wires.client);
            let pinned = stay_on(cpu);
            together.wait();
            pinned?;
            (0..bursts).try_for_each(|_| burst.send(&frames))
        };
        let repeat = &repeat;
        thread::scope(|scope| {
            let both = cpus.map(|cpu| scope.spawn(move || repeat(cpu)));
            both.into_iter().try_for_each(|one| one.join().expect("no panic"))
        })?;
        connection.is_judged(0, 2 + 2 * (phase + 1) * SEGMENTS)?;
    }
    Ok(())
}

#[test]
fn at_tc_the_later_of_two_segments_stays_the_later() {
    needs!(capability::firewall(), two_cpus().map(drop));
    at_tc(later_of_two).unwrap();
}

/// Two segments of the client at the same time, again and again; the server acknowledges both.
fn later_of_two(connection: &Connection<'_>, wires: &Wires, cpus: [usize; 2]) -> Result<()> {
    const TURNS: u32 = 3_000;
    let turn = AtomicU32::new(0);
    let is_over = AtomicBool::new(false);
    let segment = |said| connection.segment(0, flag::ACK | flag::PSH, said, 0, b"x");
    thread::scope(|scope| {
        scope.spawn(|| -> Result<()> {
            stay_on(cpus[1])?;
            for number in 0..TURNS {
                while turn.load(Ordering::Acquire) <= number {
                    if is_over.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    std::hint::spin_loop();
                }
                wires.client.send(&segment(2 * number + 1))?;
            }
            Ok(())
        });
        let done = stay_on(cpus[0]).and_then(|()| {
            (0..TURNS).try_for_each(|number| {
                turn.store(number + 1, Ordering::Release);
                wires.client.send(&segment(2 * number))?;
                let both = 2 * (number + 1);
                connection.is_judged(0, 2 + both)?;
                wires.server.send(&connection.segment(1, flag::ACK, 0, both, b""))?;
                connection.is_judged(1, 1 + number + 1)
            })
        });
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

/// Bytes of one transfer: some ten thousand frames, of which several hundred overtake others.
const TRANSFER: usize = 400 << 20;

#[test]
fn a_transfer_whose_segments_take_both_cpus_comes_to_its_end() {
    needs!(capability::firewall(), two_cpus().map(drop));
    for hook in ["tc", "xdp-generic"] {
        to_the_host(hook).unwrap();
    }
}

/// A sender's frames go to the CPU on which they were sent: those that a process sends, and
/// those that an acknowledgement lets go.
fn to_the_host(hook: &str) -> Result<()> {
    const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A INPUT -p tcp --dport 7000 -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
COMMIT
";
    let network = Gateway::hosts(Offload::Default)?;
    let setup = Setup::on(&["eth0"]).rules(RULES).option(&format!("--hook={hook}"));
    let firewall = setup.start(&network.server)?;
    let address = SocketAddr::new(network.server_address(Family::V4), 7_000);
    let listener = network.server.enter(|| TcpListener::bind(address))?;
    let sender = network.client.spawn(move || -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, wait::DEADLINE)?;
        stream.set_write_timeout(Some(wait::DEADLINE))?;
        let block = vec![7; 256 << 10];
        (0..TRANSFER / block.len()).try_for_each(|_| stream.write_all(&block))?;
        Ok(())
    });
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(wait::DEADLINE))?;
    let (mut block, mut bytes) = (vec![0; 256 << 10], 0);
    loop {
        match stream.read(&mut block).with_context(|| format!("{hook}: behind {bytes} bytes"))? {
            0 => break,
            count => bytes += count,
        }
    }
    sender.join().expect("no panic")?;
    ensure!(bytes == TRANSFER, "{hook}: {bytes} of {TRANSFER} bytes");
    let dropped = firewall.stat("policy")?;
    ensure!(dropped == 0, "{hook}: {dropped} segments of the connection were refused");
    let flows = firewall.json(&["conntrack", "list", "--dport", "7000"])?;
    let counted = flows.first().and_then(|flow| flow["original"]["bytes"].as_u64());
    ensure!(
        counted.is_some_and(|counted| counted > TRANSFER as u64),
        "{hook}: {counted:?} bytes counted of {TRANSFER} and headers"
    );
    Ok(())
}

fn two_cpus() -> Result<[usize; 2], String> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|error| error.to_string())?;
    let mut own = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false));
    match (own.next(), own.next()) {
        (Some(one), Some(other)) => Ok([one, other]),
        _ => Err("needs two CPUs".into()),
    }
}

fn at_once(hook: &str) -> Result<()> {
    let (network, wires) = quiet_gateway()?;
    let cpus = two_cpus().map_err(anyhow::Error::msg)?;
    for (device, cpu) in ["eth0", "eth1"].into_iter().zip(cpus) {
        steer(network.gateway(), device, cpu)?;
    }
    let setup = Setup::on(&["eth0", "eth1"]).rules(&rules()).option("--hook").option(hook);
    let firewall = setup.start(network.gateway())?;

    let maps = Maps::open(&Pins::new(firewall.pin()))?;
    let together = Connection::new(&wires, &maps, 40_000);
    together.shake_hands(&wires)?;
    let before = Ledger::read(&firewall)?;
    together.talk_at_once(&wires, cpus)?;
    let moved = Ledger::read(&firewall)?.since(&before);
    let sent = u64::from(2 * PHASES * SEGMENTS);
    ensure!(moved.drops() == 0, "dropped: {:?}", moved.dropped);
    ensure!(moved.accepted.get("accept-forward") == Some(&sent), "of {sent}: {moved:?}");
    // Rules of the other states have counted nothing.
    let rule = "-A FORWARD -m conntrack --ctstate ESTABLISHED";
    let expected = BTreeMap::from([rule.into(), format!("{rule} -j ACCEPT")].map(|it| (it, sent)));
    ensure!(moved.rules == expected, "{:?} instead of {expected:?}", moved.rules);

    let in_turn = Connection::new(&wires, &maps, 40_001);
    in_turn.shake_hands(&wires)?;
    in_turn.talk_in_turn(&wires)?;
    let [found, expected] = [together.flow()?, in_turn.flow()?];
    for (side, expected) in found.sides.iter().zip(&expected.sides) {
        ensure!(side.window == expected.window, "{:?}, {:?}", side.window, expected.window);
        ensure!((side.packets, side.bytes) == (expected.packets, expected.bytes), "{side:?}");
    }
    let [client, server] = found.sides.map(|side| (side.packets, side.bytes));
    let data = u64::from(PHASES * SEGMENTS);
    // SYN and ACK; the SYN/ACK.
    ensure!(client == (data + 2, data * (HEADERS + 1) + 2 * HEADERS), "{client:?}");
    ensure!(server == (data + 1, data * (HEADERS + 1) + HEADERS), "{server:?}");
    ensure!((found.state, found.status) == (expected.state, expected.status), "{found:?}");
    Ok(())
}

fn rules() -> String {
    let count = STATES.map(|state| format!("-A FORWARD -m conntrack --ctstate {state}\n"));
    format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n{}\
         -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n\
         -A FORWARD -p tcp -m tcp --dport 443 -j ACCEPT\nCOMMIT\n",
        count.concat()
    )
}

/// Has the stack take a device's packets on one CPU. A process with a /sys of its own sees the
/// namespace's devices there.
fn steer(netns: &Netns, device: &str, cpu: usize) -> Result<()> {
    let line = format!("echo {:x} > /sys/class/net/{device}/queues/rx-0/rps_cpus", 1_u32 << cpu);
    command::output(Command::new("ip").args(["netns", "exec", netns.name(), "sh", "-c", &line]))
        .context("needs a kernel that steers packets (CONFIG_RPS)")
        .map(drop)
}

/// A client and a server, between which segments are written by hand.
struct Connection<'a> {
    ends: [SocketAddr; 2],
    maps: &'a Maps,
}

impl<'a> Connection<'a> {
    fn new(wires: &Wires, maps: &'a Maps, port: u16) -> Self {
        let client = wires.client.endpoint(Family::V4, port);
        Self { ends: [client, wires.server.endpoint(Family::V4, 443)], maps }
    }

    /// From one side (0 the client), so many bytes behind its first one, when so many of the
    /// other's are acknowledged.
    fn segment(&self, side: usize, flags: u8, said: u32, heard: u32, payload: &[u8]) -> Packet {
        let (own, other) = (INITIAL[side], INITIAL[1 - side]);
        let first = if flags & flag::SYN == 0 { own.wrapping_add(1) } else { own };
        let ack = if flags & flag::ACK == 0 { 0 } else { other.wrapping_add(1 + heard) };
        let seq = first.wrapping_add(said);
        let segment = Segment { flags, seq, ack, payload: payload.into() };
        Packet::tcp(self.ends[side], self.ends[1 - side], segment)
    }

    fn shake_hands(&self, wires: &Wires) -> Result<()> {
        let (client, server) = (&wires.client, &wires.server);
        for (wire, side, flags, packets) in [
            (client, 0, flag::SYN, 1),
            (server, 1, flag::SYN | flag::ACK, 1),
            (client, 0, flag::ACK, 2),
        ] {
            wire.send(&self.segment(side, flags, 0, 0, b""))?;
            self.is_judged(side, packets)?;
        }
        Ok(())
    }

    /// Waits until so many packets of a side have been judged: they may wait in a queue of
    /// another CPU.
    fn is_judged(&self, side: usize, packets: u32) -> Result<()> {
        wait::until_true(&format!("{packets} packets of side {side}"), || {
            self.flow().is_ok_and(|flow| flow.sides[side].packets >= u64::from(packets))
        })
    }

    /// How many packets a side has sent at the end of a phase.
    const fn sent(side: usize, phase: u32) -> u32 {
        let greetings = if side == 0 { 2 } else { 1 };
        greetings + (phase + 1) * SEGMENTS
    }

    /// What a side says in a phase.
    fn phase(&self, wire: &Wire, side: usize, phase: u32) -> Vec<Vec<u8>> {
        let begin = phase * SEGMENTS;
        let heard = begin;
        let segment = |number| {
            let flags = flag::PSH | flag::ACK;
            wire.frame(&self.segment(side, flags, begin + number, heard, b"x"))
        };
        (0..SEGMENTS).map(segment).collect()
    }

    fn talk_at_once(&self, wires: &Wires, cpus: [usize; 2]) -> Result<()> {
        let together = Barrier::new(2);
        let talk = |side: usize| -> Result<()> {
            let wire = [&wires.client, &wires.server][side];
            let frames: Vec<_> = (0..PHASES).map(|phase| self.phase(wire, side, phase)).collect();
            let mut burst = Burst::new(wire);
            let mut done = stay_on(cpus[side]);
            for (phase, frames) in (0..).zip(&frames) {
                // Who has failed still meets the other, who would wait for ever.
                together.wait();
                if done.is_ok() {
                    let mut frames = frames.chunks(BURST);
                    done = frames.try_for_each(|frames| burst.send(frames));
                    done = done.and_then(|()| self.is_judged(side, Self::sent(side, phase)));
                }
                together.wait();
            }
            done
        };
        let talk = &talk;
        thread::scope(|scope| {
            let sides = [0, 1].map(|side| scope.spawn(move || talk(side)));
            sides.into_iter().try_for_each(|side| side.join().expect("no panic"))
        })
    }

    fn talk_in_turn(&self, wires: &Wires) -> Result<()> {
        let mut ends = [&wires.client, &wires.server].map(|wire| (wire, Burst::new(wire)));
        for phase in 0..PHASES {
            for (side, (wire, burst)) in ends.iter_mut().enumerate() {
                let frames = self.phase(wire, side, phase);
                frames.chunks(BURST).try_for_each(|frames| burst.send(frames))?;
                self.is_judged(side, Self::sent(side, phase))?;
            }
        }
        Ok(())
    }

    fn flow(&self) -> Result<Flow> {
        let [client, server] = self.ends;
        let tuple = Tuple {
            src: address(client)?,
            dst: address(server)?,
            sport: client.port(),
            dport: server.port(),
            protocol: protocol::TCP,
            ..Tuple::zeroed()
        };
        let known = self.maps.flow(&FlowKey::of(&tuple).0, now())?;
        Ok(known.context("the connection is not known")?.1)
    }
}

fn address(end: SocketAddr) -> Result<Addr> {
    match end {
        SocketAddr::V4(end) => Ok(Addr::v4(u32::from(*end.ip()).to_be())),
        SocketAddr::V6(_) => anyhow::bail!("{end} is not of IPv4"),
    }
}

/// Keeps the calling thread on one CPU.
fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
