//! What one packet costs in the program alone (`BPF_PROG_TEST_RUN`): each is made anew
//! before it is judged, and what that costs is taken off.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramFd;
use firewall_tests::{Firewall, firewall::Setup};

use crate::{
    network::{Network, index},
    peers::{Peers, Target, firewall},
    report::{Goal, Report},
    traffic::{CLIENTS, Kind, Packets},
};

const PART: &str = "program";
/// Packets in one round.
const PACKETS: u32 = 300_000;
/// Of a minimal frame.
const LEN: usize = 46;

/// Answers of XDP programs.
mod action {
    pub const DROP: u32 = 1;
    pub const PASS: u32 = 2;
    pub const REDIRECT: u32 = 4;
}

/// A measurement: who gets which packets, and what must become of them.
struct Case<'a> {
    name: String,
    target: Target<'a>,
    packets: Packets,
    ifindex: u32,
    action: u32,
}

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize, flows: u32) -> Result<()> {
    let network = Network::new()?;
    let gateway = network.gateway();
    let ports = [index(gateway, "eth0")?, index(gateway, "eth1")?];
    let firewall_run = Setup::on(&["eth0", "eth1"])
        .rules(&rules(10))
        .option(&format!("--max-flows={}", flows * 2))
        .start(gateway)?;
    let ours = firewall(firewall_run.pin())?;
    let mut peers = Peers::load(1, 1)?;
    let bench = Bench { network: &network, ports, ours: &ours };
    gateway.enter(|| bench.establish(&mut peers, flows))?;
    let held = firewall_run.text(&["conntrack", "count"])?;
    let held: u32 = held.trim().parse().context("conntrack count prints a number")?;
    ensure!(held >= flows / 100 * 99, "{held} of {flows} flows are there");

    let cases = bench.cases(flows);
    gateway.enter(|| run(report, &mut peers, &cases, rounds))?;
    for count in [10, 100, 1_000, 10_000] {
        apply(&firewall_run, count)?;
        let cases = bench.behind(count);
        gateway.enter(|| run(report, &mut peers, &cases, rounds))?;
    }
    judge(report, flows);
    Ok(())
}

fn apply(firewall: &Firewall<'_>, count: usize) -> Result<()> {
    firewall.apply(&rules(count))
}

/// So many rules; the last of them lets the bench's connections in.
pub fn rules(count: usize) -> String {
    let mut text = String::from("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n");
    text += ":OUTPUT ACCEPT [0:0]\n";
    text += "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n";
    text += "-A FORWARD -m conntrack --ctstate INVALID -j DROP\n";
    for number in 0..count.saturating_sub(3) {
        let (a, b) = (number >> 8, number & 0xff);
        let port = 1_024 + number % 60_000;
        writeln!(text, "-A FORWARD -s 172.{a}.{b}.0/24 -p tcp --dport {port} -j ACCEPT")
            .expect("text");
    }
    text + "-A FORWARD -s 10.0.0.0/8 -m multiport -p tcp --dports 80,443 -j ACCEPT\n\
            -A FORWARD -s 10.0.0.0/8 -p udp --dport 80 -j ACCEPT\nCOMMIT\n"
}

struct Bench<'a> {
    network: &'a Network,
    ports: [u32; 2],
    ours: &'a ProgramFd,
}

impl<'a> Bench<'a> {
    fn packets(&self, kind: Kind, clients: u32) -> Packets {
        let macs =
            if kind.is_original() { self.network.client_macs } else { self.network.server_macs };
        Packets::of(kind, LEN, clients, macs)
    }

    fn port(&self, kind: Kind) -> u32 {
        self.ports[usize::from(!kind.is_original())]
    }

    /// Brings so many connections to be, TCP and a part of UDP.
    fn establish(&self, peers: &mut Peers, flows: u32) -> Result<()> {
        peers.aim(&Target::Firewall(self.ours))?;
        // In runs that the table of embryonic flows holds.
        const AT_ONCE: u32 = 10_000;
        let mut first = 0;
        while first < flows {
            let count = AT_ONCE.min(flows - first);
            for kind in [Kind::Syn, Kind::SynAck, Kind::Ack] {
                self.play(peers, kind, flows, first, count)?;
            }
            first += count;
        }
        for kind in [Kind::Datagram, Kind::Answer] {
            self.play(peers, kind, flows, 0, 1.max(flows / 1_000))?;
        }
        Ok(())
    }

    fn play(
        &self,
        peers: &mut Peers,
        kind: Kind,
        flows: u32,
        first: u32,
        count: u32,
    ) -> Result<()> {
        let packets = self.packets(kind, flows).in_turn(first);
        peers.make(&packets)?;
        let (_, action) = peers.run(&packets, self.port(kind), count)?;
        ensure!(action != action::DROP && action != 0, "{kind:?}: the firewall answers {action}");
        Ok(())
    }

    /// Everything that does not depend on the number of rules.
    fn cases(&self, flows: u32) -> Vec<Case<'a>> {
        let peer = |name: &str, target, action| Case {
            name: name.into(),
            target: Target::Peer(target),
            packets: self.packets(Kind::Original, flows.min(1_000)),
            ifindex: self.ports[0],
            action,
        };
        let mut cases = vec![
            peer("XDP_PASS", "pass", action::PASS),
            peer("parse", "parse", action::PASS),
            peer("stateless router: parse, FIB, redirect", "router", action::REDIRECT),
        ];
        for clients in [1, 1_000, 100_000, 1_000_000] {
            if clients > flows {
                continue;
            }
            for (name, kind) in [("original", Kind::Original), ("reply", Kind::Reply)] {
                cases.push(self.ours(
                    &format!("established TCP, {name}, {clients} flows"),
                    self.packets(kind, clients),
                    kind,
                    action::REDIRECT,
                ));
            }
        }
        let some = 1.max(flows / 1_000);
        for (name, kind) in [("original", Kind::Datagram), ("reply", Kind::Answer)] {
            cases.push(self.ours(
                &format!("UDP, {name}"),
                self.packets(kind, some),
                kind,
                action::REDIRECT,
            ));
        }
        cases.push(self.ours(
            "INVALID",
            self.packets(Kind::Invalid, flows),
            Kind::Invalid,
            action::DROP,
        ));
        cases
    }

    /// What rules cost.
    fn behind(&self, rules: usize) -> Vec<Case<'a>> {
        let of = |kind, clients| self.packets(kind, clients);
        vec![
            Case {
                name: "XDP_PASS".into(),
                target: Target::Peer("pass"),
                packets: of(Kind::Original, 1_000),
                ifindex: self.ports[0],
                action: action::PASS,
            },
            self.ours(
                &format!("established TCP, {rules} rules"),
                of(Kind::Original, 1_000),
                Kind::Original,
                action::REDIRECT,
            ),
            self.ours(
                &format!("NEW accepted, {rules} rules"),
                of(Kind::Syn, CLIENTS).in_turn(CLIENTS / 2 + 7_919 * rules as u32),
                Kind::Syn,
                action::PASS,
            ),
            self.ours(
                &format!("NEW dropped by the policy, {rules} rules"),
                of(Kind::Refused, CLIENTS),
                Kind::Refused,
                action::DROP,
            ),
        ]
    }

    fn ours(&self, name: &str, packets: Packets, kind: Kind, action: u32) -> Case<'a> {
        let target = Target::Firewall(self.ours);
        Case { name: name.into(), target, packets, ifindex: self.port(kind), action }
    }
}

fn run(report: &mut Report, peers: &mut Peers, cases: &[Case<'_>], rounds: usize) -> Result<()> {
    for round in 0..=rounds {
        let mut floor = 0.0;
        for case in cases {
            peers.aim(&case.target)?;
            let mut packets = case.packets.clone();
            // Nobody comes twice.
            let so_far = round as u32 * PACKETS;
            packets.traffic.next = (packets.traffic.next + so_far) % packets.traffic.clients;
            peers.make(&packets)?;
            let (ns, action) = peers.run(&packets, case.ifindex, PACKETS)?;
            ensure!(
                action == case.action,
                "{}: XDP answers {action}, not {}",
                case.name,
                case.action
            );
            if matches!(case.target, Target::Peer("pass")) {
                floor = ns;
            }
            // The first round warms up.
            if round > 0 {
                let above = if floor == ns { ns } else { ns - floor };
                report.note(PART, &case.name, "ns", above);
            }
        }
    }
    Ok(())
}

/// The ratios that are promised.
fn judge(report: &mut Report, flows: u32) {
    let median = |report: &Report, name: &str| report.median(PART, name);
    let router = "stateless router: parse, FIB, redirect";
    let pairs = [
        (
            "established TCP to the stateless router, program time",
            "established TCP, original, 1000 flows".to_owned(),
            router.to_owned(),
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
}
