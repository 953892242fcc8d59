//! Counters add up: whichever hooks a packet passes, exactly one rule or policy
//! and exactly one verdict count it, once.
//!
//! The gateway stands between two ghosts, as the crate's drawing shows. IPv6 is
//! off and every neighbour is known, so that no packet comes but ours.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    conversation::Conversation,
    firewall::Setup,
    ledger::Ledger,
    needs,
    packet::{Body, Packet, flag},
    wait,
    wire::{End, Wires},
};

const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A INPUT -p udp -m udp --dport 61 -j DROP
-A INPUT -p tcp -m tcp --dport 62 -j REJECT --reject-with tcp-reset
-A FORWARD -p udp -m udp --dport 53 -j ACCEPT
-A FORWARD -p udp -m udp --sport 53 -j ACCEPT
-A FORWARD -p udp -m udp --dport 63 -j DROP
-A FORWARD -p udp -m udp --dport 64 -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -p tcp -m tcp --dport 65 -j REJECT --reject-with tcp-reset
-A FORWARD -p tcp -m tcp --dport 21 -j ACCEPT
-A FORWARD -p tcp -m tcp --sport 21 -j ACCEPT
-A OUTPUT -p icmp -m icmp --icmp-type 0 -j ACCEPT
-A OUTPUT -p udp -m udp --dport 66 -j DROP
-A OUTPUT -p udp -m udp --dport 67 -j REJECT --reject-with icmp-port-unreachable
COMMIT
";

/// On which hooks the packets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In by XDP, out by redirect.
    Fast,
    /// In by XDP, then through the stack, as devices opposite leave checksums
    /// unfinished.
    Stack,
    /// In by generic XDP.
    Generic,
    /// In by TC.
    Tc,
    /// Only the server's side is ours: what comes from the client is judged when
    /// it leaves.
    Egress,
    /// In or out by a device without Ethernet header, at one side.
    Tun(End),
}

impl Way {
    fn network(self) -> Result<Gateway> {
        match self {
            Self::Stack => Gateway::new(Offload::Default),
            Self::Tun(end) => Gateway::with_tun(end),
            _ => Gateway::new(Offload::Tuned),
        }
    }

    fn setup(self) -> Setup {
        let both = Setup::on(&["eth0", "eth1"]);
        let setup = match self {
            Self::Fast | Self::Tun(_) => both,
            Self::Stack => both.option("--hook").option("xdp"),
            Self::Generic => both.option("--hook").option("xdp-generic"),
            Self::Tc => both.option("--hook").option("tc"),
            Self::Egress => Setup::on(&["eth1"]),
        };
        setup.rules(RULES)
    }
}

/// What a packet must move: a rule, by its end, or a policy; and a verdict.
type Entry = (&'static str, &'static str);

/// The answer of a REJECT, which rules of OUTPUT see, as in the kernel; the verdict counted is
/// that of the packet that it answers.
const ANSWER: Entry = ("filter OUTPUT ACCEPT", NO_VERDICT);
const NO_VERDICT: &str = "";

fn verdicts(entries: &[Entry]) -> u64 {
    entries.iter().filter(|entry| entry.1 != NO_VERDICT).count() as u64
}

struct Bench {
    way: Way,
    network: Gateway,
    wires: Wires,
}

impl Bench {
    fn new(way: Way) -> Result<Self> {
        let network = way.network()?;
        let wires = Wires::across(&network)?;
        network.hush()?;
        Ok(Self { way, network, wires })
    }

    fn client(&self, port: u16) -> SocketAddr {
        self.wires.client.endpoint(Family::V4, port)
    }

    fn server(&self, port: u16) -> SocketAddr {
        self.wires.server.endpoint(Family::V4, port)
    }

    /// The gateway's own address on the server's side, which is always ours.
    fn gateway(&self, port: u16) -> SocketAddr {
        SocketAddr::new("198.51.100.1".parse().expect("an address"), port)
    }

    /// The packets of `action` move these entries and no others. What is dropped
    /// is followed by a packet that is waited for at the other end.
    fn moves(
        &self,
        firewall: &Firewall<'_>,
        entries: &[Entry],
        action: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = Ledger::read(firewall)?;
        action()?;
        let last = Packet::udp(self.client(40_099), self.server(53), b"last");
        self.wires.cross(End::Client, &last)?;
        let entries = [entries, &[("--dport 53 -j ACCEPT", "accept-forward")]].concat();
        // The counters of a packet move before it goes on, but not its drop's.
        let counted = |moved: &Ledger| moved.accepted.values().sum::<u64>() + moved.drops();
        wait::until_true("every packet to be counted", || {
            Ledger::read(firewall)
                .is_ok_and(|now| counted(&now.since(&before)) >= verdicts(&entries))
        })?;
        let moved = Ledger::read(firewall)?.since(&before);
        check(&moved, &entries)
    }
}

fn check(moved: &Ledger, entries: &[Entry]) -> Result<()> {
    let total = |counters: &std::collections::BTreeMap<String, u64>| counters.values().sum::<u64>();
    let by_rules = total(&moved.rules) + total(&moved.policies);
    let by_verdicts = total(&moved.accepted) + total(&moved.dropped);
    let packets = entries.len() as u64;
    ensure!(
        by_rules == packets && by_verdicts == verdicts(entries),
        "{packets} packets, {by_rules} by rules and policies, {by_verdicts} by verdicts: {moved:#?}"
    );
    for (rule, verdict) in entries {
        let of_rule = entries.iter().filter(|entry| entry.0 == *rule).count() as u64;
        let of_verdict = entries.iter().filter(|entry| entry.1 == *verdict).count() as u64;
        let rules = moved.rules.iter().chain(&moved.policies);
        let counted: u64 = rules.filter(|(text, _)| text.ends_with(rule)).map(|one| one.1).sum();
        ensure!(counted == of_rule, "{rule} counted {counted}, not {of_rule}: {moved:#?}");
        if *verdict == NO_VERDICT {
            continue;
        }
        let verdicts = [&moved.accepted, &moved.dropped].map(|column| column.get(*verdict));
        let counted = verdicts.into_iter().flatten().sum::<u64>();
        ensure!(counted == of_verdict, "{verdict} counted {counted}, not {of_verdict}: {moved:#?}");
    }
    Ok(())
}

#[test]
fn on_the_fast_path_every_packet_counts_once() {
    needs!(capability::firewall());
    every_packet_counts_once(Way::Fast);
}

#[test]
fn through_the_stack_every_packet_counts_once() {
    needs!(capability::firewall());
    every_packet_counts_once(Way::Stack);
}

#[test]
fn in_generic_xdp_every_packet_counts_once() {
    needs!(capability::firewall());
    every_packet_counts_once(Way::Generic);
}

#[test]
fn at_tc_every_packet_counts_once() {
    needs!(capability::firewall());
    every_packet_counts_once(Way::Tc);
}

#[test]
fn from_an_interface_that_is_not_ours_every_packet_counts_once() {
    needs!(capability::firewall());
    every_packet_counts_once(Way::Egress);
}

#[test]
fn from_a_device_without_ethernet_every_packet_counts_once() {
    needs!(capability::firewall(), capability::tun());
    every_packet_counts_once(Way::Tun(End::Client));
}

#[test]
fn to_a_device_without_ethernet_every_packet_counts_once() {
    needs!(capability::firewall(), capability::tun());
    every_packet_counts_once(Way::Tun(End::Server));
}

type Scenario = fn(&Bench, &Firewall<'_>) -> Result<()>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("a forwarded packet", a_forwarded_packet),
    ("a dropped packet", a_dropped_packet),
    (
        "a rejected packet, and its answer by rules alone",
        a_rejected_packet_and_its_answer_by_rules_alone,
    ),
    ("a packet to the gateway and its answer", a_packet_to_the_gateway_and_its_answer),
    ("a packet of the gateway itself", a_packet_of_the_gateway_itself),
    ("a segment that the helper reads", a_segment_that_the_helper_reads),
];

fn every_packet_counts_once(way: Way) {
    let bench = Bench::new(way).unwrap();
    let firewall = way.setup().start(bench.network.gateway()).unwrap();
    let failed: Vec<_> = SCENARIOS
        .iter()
        .filter_map(|(name, scenario)| {
            scenario(&bench, &firewall).err().map(|error| format!("{name}: {error:?}"))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn a_forwarded_packet(bench: &Bench, firewall: &Firewall<'_>) -> Result<()> {
    let question = Packet::udp(bench.client(40_000), bench.server(53), b"question");
    let answer = Packet::udp(bench.server(53), bench.client(40_000), b"answer");
    let there = ("--dport 53 -j ACCEPT", "accept-forward");
    let back = ("--sport 53 -j ACCEPT", "accept-forward");
    bench.moves(firewall, &[there], || bench.wires.cross(End::Client, &question).map(drop))?;
    bench.moves(firewall, &[back], || bench.wires.cross(End::Server, &answer).map(drop))?;
    // By now the flow remembers its verdicts.
    for _ in 0..3 {
        bench.moves(firewall, &[there, back], || {
            bench.wires.cross(End::Client, &question)?;
            bench.wires.cross(End::Server, &answer).map(drop)
        })?;
    }
    Ok(())
}

fn a_dropped_packet(bench: &Bench, firewall: &Firewall<'_>) -> Result<()> {
    let to = |port| Packet::udp(bench.client(40_000), bench.server(port), b"x");
    let send = |packet: &Packet| bench.wires.client.send(packet);
    bench.moves(firewall, &[("--dport 63 -j DROP", "rule")], || send(&to(63)))?;
    bench.moves(firewall, &[("filter FORWARD DROP", "policy")], || send(&to(68)))?;
    let unasked = Packet::udp(bench.server(40_000), bench.client(68), b"x");
    bench
        .moves(firewall, &[("filter FORWARD DROP", "policy")], || bench.wires.server.send(&unasked))
}

fn a_rejected_packet_and_its_answer_by_rules_alone(
    bench: &Bench,
    firewall: &Firewall<'_>,
) -> Result<()> {
    let unreachable = ("--dport 64 -j REJECT --reject-with icmp-port-unreachable", "reject");
    let datagram = Packet::udp(bench.client(40_000), bench.server(64), b"x");
    // What goes to an interface that is not ours no rule sees.
    let answers: &[Entry] = if bench.way == Way::Egress { &[] } else { &[ANSWER] };
    bench.moves(firewall, &[&[unreachable], answers].concat(), || {
        bench.wires.client.send(&datagram)?;
        let answer = |seen: &firewall_tests::packet::Seen| {
            matches!(&seen.packet.body, Body::Icmp(message) if message.kind == 3)
        };
        bench.wires.client.wait_for("a port-unreachable", answer).map(drop)
    })?;
    let reset = ("--dport 65 -j REJECT --reject-with tcp-reset", "reject");
    let syn = Packet::syn(bench.client(40_000), bench.server(65));
    bench.moves(firewall, &[&[reset], answers].concat(), || {
        bench.wires.client.send(&syn)?;
        let answer = |seen: &firewall_tests::packet::Seen| {
            matches!(&seen.packet.body, Body::Tcp(segment)
                if segment.flags & flag::RST != 0 && seen.packet.source == syn.destination)
        };
        bench.wires.client.wait_for("a reset", answer).map(drop)
    })
}

fn a_packet_to_the_gateway_and_its_answer(bench: &Bench, firewall: &Firewall<'_>) -> Result<()> {
    let ping = Packet::ping(bench.server(0).ip(), bench.gateway(0).ip(), 7);
    let request = ("--icmp-type 8 -j ACCEPT", "accept-input");
    let reply = ("--icmp-type 0 -j ACCEPT", "accept-output");
    for _ in 0..3 {
        bench.moves(firewall, &[request, reply], || {
            bench.wires.server.send(&ping)?;
            bench.wires.server.expect(&ping.pong()).map(drop)
        })?;
    }
    let from_server = |port| Packet::udp(bench.server(40_000), bench.gateway(port), b"x");
    let send = |packet: &Packet| bench.wires.server.send(packet);
    bench.moves(firewall, &[("--dport 61 -j DROP", "rule")], || send(&from_server(61)))?;
    bench.moves(firewall, &[("filter INPUT DROP", "policy")], || send(&from_server(69)))?;
    let reset = ("--dport 62 -j REJECT --reject-with tcp-reset", "reject");
    let syn = Packet::syn(bench.server(40_000), bench.gateway(62));
    bench.moves(firewall, &[reset, ANSWER], || send(&syn))
}

fn a_packet_of_the_gateway_itself(bench: &Bench, firewall: &Firewall<'_>) -> Result<()> {
    let any: SocketAddr = "198.51.100.1:40000".parse()?;
    let socket = bench.network.gateway().enter(|| UdpSocket::bind(any))?;
    let send = |port| {
        // A local drop may be an error of the sender.
        let _ = socket.send_to(b"x", bench.server(port));
        Ok(())
    };
    let allowed = Packet::udp(any, bench.server(70), b"x");
    bench.moves(firewall, &[("filter OUTPUT ACCEPT", "accept-output")], || {
        send(70)?;
        bench.wires.server.expect(&allowed).map(drop)
    })?;
    bench.moves(firewall, &[("--dport 66 -j DROP", "rule")], || send(66))?;
    let refused = ("--dport 67 -j REJECT --reject-with icmp-port-unreachable", "reject");
    bench.moves(firewall, &[refused], || send(67))
}

fn a_segment_that_the_helper_reads(bench: &Bench, firewall: &Firewall<'_>) -> Result<()> {
    let there = ("--dport 21 -j ACCEPT", "accept-forward");
    let back = ("--sport 21 -j ACCEPT", "accept-forward");
    let mut conversation = None;
    bench.moves(firewall, &[there, back, there], || {
        conversation = Some(Conversation::open(&bench.wires, Family::V4, 50_000)?);
        Ok(())
    })?;
    let mut conversation = conversation.expect("it is open");
    let before = ["punted", "reinjected"].map(|counter| firewall.stat(counter));
    bench.moves(firewall, &[back, there], || conversation.say(End::Server, b"220 ready\r\n"))?;
    bench.moves(firewall, &[there, back], || conversation.say(End::Client, b"USER a\r\n"))?;
    bench.moves(firewall, &[there, back, back, there], || {
        conversation.say(End::Client, b"PORT 192,0,2,77,156,64\r\n")?;
        conversation.say(End::Server, b"200 fine\r\n")
    })?;
    let [punted, reinjected] = before;
    ensure!(firewall.stat("punted")? - punted? == 4, "not every line was read");
    let reinjected = firewall.stat("reinjected")? - reinjected?;
    ensure!((2..=4).contains(&reinjected), "{reinjected} of 4 lines came in again");
    Ok(())
}
