//! The loaded XDP program, packet by packet (`BPF_PROG_TEST_RUN`), beside the
//! model: the same frames through firewall-common on tables in memory.
//!
//! They must agree about every frame: the action, each counter that moves, and
//! the flows that are left.
//!
//! ```text
//!   192.0.2.2 ── eth0 │ gateway │ eth1 ── 198.51.100.2
//!                192.0.2.1    198.51.100.1
//! ```

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;
use firewall_common::{
    addr::{Addr, Family},
    control::{Options, Timeouts, device, option},
    flow::{Flow, FlowKey},
    flow_event::{FlowChange, FlowEvent},
    rule::Chain,
    testing::{Frame, Memory},
    verdict::{DropReason, STATS, Stat, Verdict, is_verdict},
    wire::tcp_flag::{ACK, FIN, PSH, RST, SYN},
};
use firewall_tests::{Netns, capability, firewall::mount_bpffs, needs};
use firewall_user::{
    kernel::{
        attach::{Hook, Target},
        load::{Programs, TableSizes},
        maps::{Maps, now},
        pins::Pins,
        rings,
    },
    netlink::links,
    rules,
    ruleset::{Rulesets, Running, services},
};

const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:SERVICES - [0:0]
-A INPUT -p icmp -j ACCEPT
-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 22 --syn -j ACCEPT
-A FORWARD -m state --state INVALID -j DROP
-A FORWARD -m state --state ESTABLISHED -j ACCEPT
-A FORWARD -m state --state RELATED -j ACCEPT
-A FORWARD -i eth0 -o eth1 -m state --state NEW -j SERVICES
-A FORWARD -s 192.0.2.0/24 -p udp -j REJECT
-A SERVICES -p tcp -m multiport --dports 21,80,8000:8010 -j ACCEPT
-A SERVICES -p udp --dport 53 -j ACCEPT
-A SERVICES -p sctp -m multiport --dports 53,80 -j ACCEPT
-A SERVICES -p udplite -m multiport --dports 53 -j ACCEPT
-A SERVICES -p icmp --icmp-type echo-request -j ACCEPT
-A SERVICES -p 47
COMMIT
";

/// Frames of one test; each run starts at the seed that it names.
const FRAMES: usize = 4_000;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// The firewall's programs in a namespace, and the model of them.
struct Bench<'n> {
    netns: &'n Netns,
    programs: Programs,
    maps: Maps,
    model: Memory,
    /// Of eth0 and eth1: index and address.
    ports: [(u32, [u8; 6]); 2],
}

impl<'n> Bench<'n> {
    fn new(netns: &'n Netns, pins: &Pins, reports: u32) -> Result<Self> {
        pins.create()?;
        let mut programs = Programs::load(
            pins,
            TableSizes { assured: 8_192, embryonic: 8_192, ..TableSizes::default() },
        )?;
        let maps = Maps::open(pins)?;
        let bits = option::TCP_LOOSE | option::CHECKSUM | reports;
        let options = Options { bits, ..Options::default() };
        maps.set_options(options)?;
        maps.set_timeouts(Timeouts::DEFAULT)?;
        let mut ports = Vec::new();
        let links = links::all()?;
        for link in links.iter().filter(|link| link.name.starts_with("eth")) {
            let target = Target { ifindex: link.index, has_ethernet: true, attached: None };
            programs.attach_by(pins, &target, Hook::Xdp)?;
            ports.push((link.index, link.mac.expect("an Ethernet address")));
        }
        let ports: [_; 2] = ports.try_into().expect("eth0 and eth1");

        let parsed = rules::parse("rules.v4", RULES, Family::Ipv4, &services())?;
        let rulesets = Rulesets::default().with(parsed);
        let compiled = rulesets.compile()?;
        let model = Memory::with(|model| {
            model.generation = 1;
            model.options = options;
            model.header = compiled.header;
            model.rules = compiled.rules.clone();
            model.port_sets = compiled.port_sets.clone();
            model.helper_ports.clear();
            model.route = route;
            for (number, (index, mac)) in ports.into_iter().enumerate() {
                model.add_device(index, mac);
                let pattern = compiled
                    .patterns
                    .iter()
                    .position(|pattern| pattern.matches(["eth0", "eth1"][number]));
                let device = model.devices.get_mut(&index).expect("just added");
                device.patterns = [pattern.map_or(0, |bit| 1 << bit); 2];
                device.flags |= device::TAKES_REDIRECT;
                device.set_name(["eth0", "eth1"][number]);
            }
        });
        for (index, device) in &model.devices {
            maps.set_device(*index, *device)?;
        }
        Running::change(&maps, |_| rulesets.clone())?;
        assert_eq!(maps.generation()?, 1);
        Ok(Self { netns, programs, maps, model, ports })
    }

    /// Sends a frame through both and compares.
    fn compare(&mut self, number: usize, frame: &Frame, port: usize) -> Result<()> {
        let (index, mac) = self.ports[port];
        let bytes = frame.clone().macs([2, 0, 0, 0, 0, 1], mac).build();
        let before = self.maps.stats()?;
        let model_before = self.model.stats();
        let trial = self.programs.try_xdp(&bytes, index, 1)?;
        let verdict =
            self.model.filter_at(firewall_common::event::Hook::Ingress, index, &bytes, now());
        let after = self.maps.stats()?;
        let model_after = self.model.stats();
        assert!(
            actions(verdict).contains(&trial.action),
            "frame {number}: {frame:?}: action {} for {verdict:?}",
            trial.action
        );
        for place in (0..STATS as usize).filter(|place| !is_of_the_adapter(*place)) {
            assert_eq!(
                after[place] - before[place],
                model_after[place] - model_before[place],
                "frame {number}: {frame:?}: counter {} for {verdict:?}",
                name(place)
            );
        }
        let verdicts: u64 = (0..STATS as usize)
            .filter(|place| is_verdict(*place as u32))
            .map(|place| after[place] - before[place])
            .sum();
        assert_eq!(verdicts, 1, "frame {number}: {frame:?}");
        Ok(())
    }

    /// Flows and rule counters, at the end.
    fn compare_tables(&self) -> Result<()> {
        let theirs: BTreeMap<FlowKey, Flow> =
            self.maps.flows(now())?.into_iter().map(|(_, key, flow)| (key, flow)).collect();
        assert_eq!(theirs.len(), self.model.flow_count());
        for (key, flow) in &theirs {
            let (_, model) = self.model.known(key).expect("a flow of the program");
            assert_eq!((flow.state, flow.status), (model.state, model.status), "{key:?}");
            assert_eq!(flow.originator, model.originator, "{key:?}");
            assert_eq!(flow.last.flags, model.last.flags, "{key:?}");
            for (one, other) in flow.sides.iter().zip(&model.sides) {
                assert_eq!((one.packets, one.bytes), (other.packets, other.bytes), "{key:?}");
                assert_eq!(one.window, other.window, "{key:?}");
            }
        }
        let counters = self.maps.rule_counters(1, self.model.rules.len())?;
        for (index, counter) in (0..).zip(counters) {
            assert_eq!(counter, self.model.rule_counter(index), "rule {index}");
        }
        assert!(theirs.len() > 50, "{} flows in {}", theirs.len(), self.netns.name());
        Ok(())
    }
}

/// What is told of a flow, but for the times.
type Told = (u8, FlowKey, u8, u8, [(u64, u64); 2]);

fn told(event: &FlowEvent) -> Told {
    let counted = event.flow.sides.map(|side| (side.packets, side.bytes));
    (event.change, event.key, event.flow.state, event.flow.status, counted)
}

/// What the program told of flows is what the model did, in the same order.
fn compare_flow_events(bench: &Bench<'_>, pins: &Pins) -> Result<()> {
    let mut theirs = Vec::new();
    rings::take_all(pins, "flow_events", |record| {
        theirs.push(told(&bytemuck::pod_read_unaligned(record)));
    })?;
    let model: Vec<_> = bench.model.flow_events.borrow().iter().map(told).collect();
    assert_eq!(theirs.len(), model.len());
    for (number, (one, other)) in theirs.iter().zip(&model).enumerate() {
        assert_eq!(one, other, "event {number}");
    }
    Ok(())
}

/// Of each flow there is one beginning more than there are ends, or as many.
fn each_end_follows_a_beginning(bench: &Bench<'_>) {
    let mut alive: BTreeMap<FlowKey, bool> = BTreeMap::new();
    let mut changes = [0; FlowChange::ALL.len()];
    for event in bench.model.flow_events.borrow().iter() {
        changes[usize::from(event.change)] += 1;
        let is_alive = alive.entry(event.key).or_default();
        match FlowChange::from_byte(event.change).expect("a change") {
            FlowChange::New => assert!(!std::mem::replace(is_alive, true), "{event:?}"),
            FlowChange::Update => assert!(*is_alive, "{event:?}"),
            FlowChange::Destroy => assert!(std::mem::replace(is_alive, false), "{event:?}"),
        }
    }
    let left = alive.values().filter(|is_alive| **is_alive).count();
    assert_eq!(left, bench.model.flow_count());
    assert!(changes.iter().all(|count| *count > 10), "{changes:?}");
}

fn route(dst: Addr) -> (Chain, u32) {
    match dst.to_ip().to_string().as_str() {
        address if address.starts_with("198.51.100.") && address != "198.51.100.1" => {
            (Chain::Forward, ETH1.load(Ordering::Relaxed))
        }
        address if address.starts_with("192.0.2.") && address != "192.0.2.1" => {
            (Chain::Forward, ETH0.load(Ordering::Relaxed))
        }
        _ => (Chain::Input, 0),
    }
}

static ETH0: AtomicU32 = AtomicU32::new(0);
static ETH1: AtomicU32 = AtomicU32::new(0);

/// What a program may do for a verdict: a forwarded frame may need the stack.
fn actions(verdict: Verdict) -> &'static [u32] {
    match verdict {
        Verdict::Accept(Chain::Forward) => &[XDP_REDIRECT, XDP_PASS],
        Verdict::Accept(_) | Verdict::Pass(_) => &[XDP_PASS],
        Verdict::Drop(_) | Verdict::Punt(_) | Verdict::Wait(_) => &[XDP_DROP],
        // What may not be answered is dropped.
        Verdict::Reject(_) | Verdict::Cookie => &[XDP_TX, XDP_REDIRECT, XDP_DROP],
        Verdict::Prove => panic!("no rule here asks for cookies"),
    }
}

/// Counters of how a verdict was carried out, which the model does not do.
fn is_of_the_adapter(place: usize) -> bool {
    [Stat::ForwardFast, Stat::ForwardStack].iter().any(|stat| *stat as usize == place)
}

fn name(place: usize) -> &'static str {
    match Stat::ALL.get(place) {
        Some(stat) => stat.name(),
        None => DropReason::ALL[place - Stat::COUNT].name(),
    }
}

/// A small generator of numbers (splitmix64): the same seed, the same frames.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// The tags that packets of SCTP carry which come in by each port, all of one
/// association or none.
const TAGS: [u32; 2] = [0x5e2f_0001, 0x0c11_0002];

/// One or two chunks; an INIT tells `tag`.
fn some_chunks(random: &mut Random, tag: u32) -> Vec<u8> {
    let mut chunks = Vec::new();
    for _ in 0..=random.below(5) / 4 {
        let kind = random.of(&[0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11, 11, 14, 192]);
        let mut value = tag.to_be_bytes().to_vec();
        value.resize(if matches!(kind, 1 | 2) { 16 } else { 4 }, 1);
        chunks.extend([kind, random.below(2) as u8, 0, 4 + value.len() as u8]);
        chunks.extend(value);
    }
    chunks
}

/// A frame of some conversation, and the port (0 or 1) that it comes in by.
fn some_frame(random: &mut Random, earlier: &[Frame]) -> (Frame, usize) {
    const CLIENTS: [&str; 2] = ["192.0.2.2", "192.0.2.3"];
    const SERVERS: [&str; 3] = ["198.51.100.2", "198.51.100.3", "192.0.2.1"];
    let (client, server) = (random.of(&CLIENTS), random.of(&SERVERS));
    let port = random.below(2) as usize;
    let (src, dst) = if port == 0 { (client, server) } else { (server, client) };
    let ephemeral = 40_000 + random.below(20) as u16;
    let service = random.of(&[21, 22, 53, 80, 8_005, 9_000]);
    let (sport, dport) = if port == 0 { (ephemeral, service) } else { (service, ephemeral) };
    let frame = Frame::between(src, dst);
    let frame = match random.below(15) {
        0 => frame.udp(sport, dport).payload(b"question"),
        1 => frame.icmp(random.of(&[0, 8, 13, 14, 5, 42]), 0, ephemeral),
        2 if !earlier.is_empty() => {
            let quoted = &earlier[random.below(earlier.len() as u64) as usize];
            frame.icmp_error(random.of(&[3, 11, 12]), random.of(&[0, 1, 3, 4]), quoted)
        }
        3 => frame.protocol(random.of(&[33, 50, 89])).payload(&[7; 24]),
        // GRE, plain and of PPTP with its call.
        11 => frame.protocol(47).payload(random.of(&[
            &[0, 0, 8, 0, 1, 2, 3, 4],
            &[0x20, 1, 0x88, 0x0b, 0, 0, 0, 7],
            &[0x20, 1, 8, 0, 0, 0, 0, 7],
        ])),
        4 => frame.tcp(sport, dport, ACK | PSH).payload(&[b'x'; 44]).fragment(
            0,
            true,
            ephemeral.into(),
        ),
        12 | 13 => {
            let tag = random.of(&[0, TAGS[port], TAGS[1 - port]]);
            let frame = frame.sctp(sport, dport, tag);
            let frame = frame.payload(&some_chunks(random, TAGS[1 - port]));
            if random.below(10) == 0 { frame.spoilt() } else { frame }
        }
        14 => frame.udplite(sport, dport).payload(b"question"),
        5 => frame.protocol(6).payload(&[b'y'; 32]).fragment(8, false, ephemeral.into()),
        _ => {
            let flags =
                random.of(&[SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, 0, 0x3f]);
            frame.tcp(sport, dport, flags)
        }
    };
    (frame, port)
}

/// Two ends of a link, with neighbours that never change.
fn gateway() -> Result<(Netns, Netns)> {
    let (gateway, peers) = (Netns::new("gateway")?, Netns::new("peers")?);
    // Silence: only the frames of the test are to move counters.
    for netns in [&gateway, &peers] {
        netns.set("ipv6/conf/all/disable_ipv6", "1")?;
        netns.set("ipv6/conf/default/disable_ipv6", "1")?;
    }
    for (interface, address, neighbours) in [
        ("eth0", "192.0.2.1/24", ["192.0.2.2", "192.0.2.3"]),
        ("eth1", "198.51.100.1/24", ["198.51.100.2", "198.51.100.3"]),
    ] {
        gateway.connect(interface, &peers, interface)?;
        gateway.address(interface, address)?;
        for (last, neighbour) in (2..).zip(neighbours) {
            gateway.ip(&format!(
                "neigh add {neighbour} lladdr 02:00:00:00:01:0{last} dev {interface} nud permanent"
            ))?;
        }
    }
    gateway.set("ipv4/ip_forward", "1")?;
    Ok((gateway, peers))
}

#[test]
fn the_loaded_program_and_the_model_agree_about_every_frame() {
    needs!(capability::firewall());
    // The other way through the code is that of flows that are watched.
    for reports in [0, option::REPORT_FLOWS] {
        agree_with(reports);
    }
}

fn agree_with(reports: u32) {
    mount_bpffs().unwrap();
    let (gateway, _peers) = gateway().unwrap();
    let pins = Pins::new(format!("/sys/fs/bpf/{}", gateway.name()));
    let outcome = std::panic::catch_unwind(|| gateway.enter(|| agree(&gateway, &pins, reports)));
    pins.remove().unwrap();
    outcome.unwrap().unwrap();
}

fn agree(gateway: &Netns, pins: &Pins, reports: u32) -> Result<()> {
    let mut bench = Bench::new(gateway, pins, reports)?;
    for (place, (index, _)) in [&ETH0, &ETH1].into_iter().zip(bench.ports) {
        place.store(index, Ordering::Relaxed);
    }
    let mut random = Random(2_121);
    let mut earlier: Vec<Frame> = Vec::new();
    for number in 0..FRAMES {
        let (frame, port) = some_frame(&mut random, &earlier);
        bench.compare(number, &frame, port)?;
        earlier.push(frame);
    }
    bench.compare_tables()?;
    compare_flow_events(&bench, pins)?;
    if reports == 0 {
        assert!(bench.model.flow_events.borrow().is_empty());
    } else {
        each_end_follows_a_beginning(&bench);
    }
    Ok(())
}
