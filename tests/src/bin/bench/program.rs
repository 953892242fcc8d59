//! What one packet costs in the program alone (`BPF_PROG_TEST_RUN`): each is made anew
//! before it is judged, and what that costs is taken off.

use anyhow::{Context as _, Result, ensure};
use firewall_common::{flow::protocol, ipv4_key::Ipv4Key};
use firewall_tests::firewall::Setup;

use crate::{
    established::{Established, action},
    expected, ipv6,
    network::{Network, index},
    peers::{Peers, Target, firewall},
    report::{Goal, Report},
    rules,
    traffic::{CLIENTS, Kind, Packets, SERVED, SERVER, client},
    translated,
};

pub const PART: &str = "program";
/// Packets in one round.
pub const PACKETS: u32 = 300_000;
pub const PASS: &str = "pass";
const ROUTER: &str = "stateless router: parse, FIB, redirect";

/// A measurement: who gets which packets, and what must become of them.
pub struct Case<'a> {
    pub name: String,
    pub target: Target<'a>,
    pub packets: Packets,
    pub ifindex: u32,
    pub action: u32,
    /// Packets in a round.
    pub count: u32,
}

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize, flows: u32) -> Result<()> {
    let network = Network::new()?;
    let gateway = network.gateway();
    let firewall_run = Setup::on(&["eth0", "eth1"])
        .rules(&rules::iptables(10))
        .option("--hook=xdp")
        .option(&format!("--max-flows={}", flows * 2))
        .start(gateway)?;
    let ours = firewall(firewall_run.pin())?;
    let mut peers = Peers::load(flows, 1)?;
    peers.know((0..flows).map(key))?;
    let ports = [index(gateway, "eth0")?, index(gateway, "eth1")?];
    let bench = Established { network: &network, ports, ours: &ours };
    gateway.enter(|| bench.make(&mut peers, flows))?;
    let held = firewall_run.text(&["conntrack", "count"])?;
    let held: u32 = held.trim().parse().context("conntrack count prints a number")?;
    ensure!(held >= flows / 100 * 99, "{held} of {flows} flows are there");

    let cases = cases(&bench, flows);
    gateway.enter(|| run(report, &mut peers, &cases, rounds))?;
    for count in [10, 100, 1_000, 10_000] {
        firewall_run.apply(&rules::iptables(count))?;
        let cases = behind(&bench, count);
        gateway.enter(|| run(report, &mut peers, &cases, rounds))?;
    }
    expected::measure(report, rounds, &mut peers, &bench, &firewall_run)?;
    translated::measure(report, rounds, flows, &mut peers, &bench, &firewall_run)?;
    ipv6::measure(report, rounds, flows, &mut peers)?;
    judge(report, flows);
    Ok(())
}

/// The connection of a client, as `look_up` asks for it.
fn key(number: u32) -> Ipv4Key {
    let (host, port) = client(number);
    let server: std::net::Ipv4Addr = SERVER.parse().expect("an address");
    let [src, dst] = [host, server].map(|address| u32::from(address).to_be());
    Ipv4Key::between(protocol::TCP, (src, port), (dst, SERVED)).0
}

/// What the making of packets costs.
pub fn floor<'a>(bench: &Established<'a>) -> Case<'a> {
    peer(bench, "XDP_PASS", PASS, 1_000, action::PASS)
}

fn peer<'a>(
    bench: &Established<'a>,
    name: &str,
    program: &'static str,
    clients: u32,
    action: u32,
) -> Case<'a> {
    let (target, packets) = (Target::Peer(program), bench.packets(Kind::Original, clients));
    let ifindex = bench.port(Kind::Original);
    Case { name: name.into(), target, packets, ifindex, action, count: PACKETS }
}

fn ours<'a>(
    bench: &Established<'a>,
    name: &str,
    packets: Packets,
    kind: Kind,
    action: u32,
) -> Case<'a> {
    let (target, ifindex) = (Target::Firewall(bench.ours), bench.port(kind));
    Case { name: name.into(), target, packets, ifindex, action, count: PACKETS }
}

/// Everything that does not depend on the number of rules.
fn cases<'a>(bench: &Established<'a>, flows: u32) -> Vec<Case<'a>> {
    let some = flows.min(1_000);
    let mut cases = vec![
        floor(bench),
        peer(bench, "drop everything", "drop_all", some, action::DROP),
        peer(bench, "parse", "parse", some, action::PASS),
        peer(bench, ROUTER, "router", some, action::REDIRECT),
    ];
    for clients in [1, 1_000, 100_000, 1_000_000].into_iter().filter(|it| *it <= flows) {
        let name = format!("bare lookup, {clients} flows");
        cases.push(peer(bench, &name, "look_up", clients, action::PASS));
        for (name, kind) in [("original", Kind::Original), ("reply", Kind::Reply)] {
            let name = format!("established TCP, {name}, {clients} flows");
            let packets = bench.packets(kind, clients);
            cases.push(ours(bench, &name, packets, kind, action::REDIRECT));
        }
    }
    let datagrams = 1.max(flows / 1_000);
    for (name, kind, clients, action) in [
        ("UDP, original", Kind::Datagram, datagrams, action::REDIRECT),
        ("UDP, reply", Kind::Answer, datagrams, action::REDIRECT),
        ("ICMP, echo", Kind::Echo, 1, action::REDIRECT),
        ("ICMP, echo reply", Kind::EchoReply, 1, action::REDIRECT),
        ("INVALID", Kind::Invalid, flows, action::DROP),
    ] {
        cases.push(ours(bench, name, bench.packets(kind, clients), kind, action));
    }
    cases
}

/// What rules cost.
fn behind<'a>(bench: &Established<'a>, rules: usize) -> Vec<Case<'a>> {
    let fresh = CLIENTS / 2 + 7_919 * rules as u32;
    let ours = |name: &str, packets, kind, action| {
        ours(bench, &format!("{name}, {rules} rules"), packets, kind, action)
    };
    let of = |kind, clients| bench.packets(kind, clients);
    vec![
        floor(bench),
        ours("established TCP", of(Kind::Original, 1_000), Kind::Original, action::REDIRECT),
        ours("NEW accepted", of(Kind::Syn, CLIENTS).in_turn(fresh), Kind::Syn, action::PASS),
        ours("NEW dropped by the policy", of(Kind::Refused, CLIENTS), Kind::Refused, action::DROP),
    ]
}

impl Case<'_> {
    /// The nanoseconds of a packet, all told.
    pub fn play(&self, peers: &mut Peers, round: usize) -> Result<f64> {
        peers.aim(&self.target)?;
        let mut packets = self.packets.clone();
        // Nobody comes twice.
        let so_far = round as u32 * self.count;
        packets.traffic.next = (packets.traffic.next + so_far) % packets.traffic.clients;
        peers.make(&packets)?;
        let (ns, action) = peers.run(&packets, self.ifindex, self.count)?;
        ensure!(action == self.action, "{}: XDP answers {action}, not {}", self.name, self.action);
        Ok(ns)
    }
}

pub fn run(
    report: &mut Report,
    peers: &mut Peers,
    cases: &[Case<'_>],
    rounds: usize,
) -> Result<()> {
    for round in 0..=rounds {
        let mut floor = 0.0;
        for case in cases {
            let ns = case.play(peers, round)?;
            let is_floor = matches!(case.target, Target::Peer(PASS));
            if is_floor {
                floor = ns;
            }
            // The first round warms up.
            if round > 0 {
                report.note(PART, &case.name, "ns", if is_floor { ns } else { ns - floor });
            }
        }
    }
    Ok(())
}

/// The ratios that are promised.
fn judge(report: &mut Report, flows: u32) {
    let median = |report: &Report, name: &str| report.median(PART, name);
    let pairs = [
        (
            "established TCP to the stateless router, program time",
            "established TCP, original, 1000 flows".to_owned(),
            ROUTER.to_owned(),
            Goal::AtMost(0.6),
        ),
        (
            "established TCP, 10,000 rules to 10",
            "established TCP, 10000 rules".into(),
            "established TCP, 10 rules".into(),
            Goal::AtMost(1.05),
        ),
        (
            "NEW accepted, 10,000 rules to 10",
            "NEW accepted, 10000 rules".into(),
            "NEW accepted, 10 rules".into(),
            Goal::AtMost(2.0),
        ),
        (
            "NEW dropped, 10,000 rules to 10",
            "NEW dropped by the policy, 10000 rules".into(),
            "NEW dropped by the policy, 10 rules".into(),
            Goal::AtMost(2.0),
        ),
    ];
    for (what, ours, theirs, goal) in pairs {
        if flows < 1_000 {
            continue;
        }
        if let (Some(ours), Some(theirs)) = (median(report, &ours), median(report, &theirs)) {
            report.compare(what, ours / theirs, goal);
        }
    }
    let hot = median(report, "established TCP, original, 1 flows");
    let many = median(report, "established TCP, original, 1000000 flows");
    let bare = median(report, "bare lookup, 1000000 flows");
    if let (Some(hot), Some(many), Some(bare)) = (hot, many, bare) {
        let what = "established TCP of 1,000,000 flows less that of one, to a bare lookup";
        report.compare(what, (many - hot) / bare, Goal::AtMost(1.5));
    }
}
