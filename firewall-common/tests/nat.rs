//! Translation by whole packets on tables in memory: what leaves, what comes back, and that
//! the checksums are right.

use std::{collections::HashSet, net::IpAddr};

use firewall_common::{
    addr::{Addr, Family},
    checksum::Verification,
    event::Hook,
    extra::{
        Extra,
        facts::{address, number},
        need,
    },
    flow::{CtState, Flow, FlowKey, Tuple, status},
    headers::Headers,
    nat::{Kind, Order, desk::done, order::flag as wish, rewrite},
    packet::Packet,
    rule::{Chain, PortRange, Rule, Target, condition, flag},
    synproxy::offer::Offer,
    testing::{Frame, Memory, Written},
    time::Nanos,
    verdict::{DropReason, Verdict},
    wire::tcp_flag::{ACK, RST, SYN},
};
use proptest::prelude::*;

#[path = "nat/announced.rs"]
mod announced;
#[path = "nat/destination.rs"]
mod destination;
#[path = "nat/errors.rs"]
mod errors;
#[path = "nat/fragments.rs"]
mod fragments;
#[path = "nat/masquerade.rs"]
mod masquerade;
#[path = "nat/source.rs"]
mod source;

const CLIENT: &str = "10.0.0.2";
const SERVER: &str = "192.0.2.80";
/// The gateway's own address towards the server.
const PUBLIC: &str = "203.0.113.1";
/// A server behind the gateway, and the address by which it is known.
const INNER: &str = "10.0.1.5";
const NOW: Nanos = Nanos::from_secs(1_000);

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn order(kind: Kind) -> Order {
    Order {
        kind,
        flags: 0,
        first: Addr::ANY,
        last: Addr::ANY,
        first_port: 0,
        last_port: 0,
        base: 0,
    }
}

fn to(kind: Kind, first: &str, last: &str) -> Order {
    Order { flags: wish::ADDRESSES, first: addr(first), last: addr(last), ..order(kind) }
}

fn with_ports(order: Order, first_port: u16, last_port: u16) -> Order {
    Order { flags: order.flags | wish::PORTS, first_port, last_port, ..order }
}

/// A rule of table nat that holds for whatever `condition` says.
fn rule(memory: &mut Memory, order: &Order, condition: Rule) -> Rule {
    let extra = memory.extras.len() as u16;
    memory.extras.push(Extra { arguments: order.words(), ..Extra::default() });
    let (argument, mask) = order.pack(extra);
    Rule { target: Target::Translate as u8, argument, mask, ..condition }
}

/// Adds a chain of table nat with these rules and a policy behind them, in both families.
fn add(memory: &mut Memory, chain: Chain, orders: &[(Order, Rule)]) {
    let first = memory.rules.len() as u32;
    for (order, condition) in orders {
        let rule = rule(memory, order, *condition);
        memory.rules.push(rule);
    }
    let policy = Rule { flags: flag::POLICY, target: Target::Accept as u8, ..Rule::default() };
    memory.rules.push(policy);
    let end = memory.rules.len() as u32 - 1;
    memory.rules[first as usize..].iter_mut().for_each(|rule| rule.chain_end = end);
    memory.header.entries.iter_mut().for_each(|of| of[chain as usize] = first);
    memory.header.needs |= need::NAT;
}

fn from(address: &str) -> Rule {
    let src = addr(address);
    let src_mask = Addr { words: [u32::MAX; 4] };
    Rule { present: condition::SRC, src, src_mask, ..Rule::default() }
}

fn towards(address: &str, port: u16) -> Rule {
    Rule {
        present: condition::DST | condition::DPORT,
        dst: addr(address),
        dst_mask: Addr { words: [u32::MAX; 4] },
        dport: PortRange { first: port, last: port },
        ..Rule::default()
    }
}

/// This host is [`PUBLIC`]; everything else is forwarded.
fn route(destination: Addr) -> (Chain, u32) {
    if destination == addr(PUBLIC) { (Chain::Input, 0) } else { (Chain::Forward, 2) }
}

fn gateway(chain: Chain, orders: &[(Order, Rule)]) -> Memory {
    Memory::with(|memory| {
        memory.route = route;
        memory.own_address = |_| Some(addr(PUBLIC));
        add(memory, chain, orders);
    })
}

fn masquerading() -> Memory {
    gateway(Chain::NatPostrouting, &[(order(Kind::Masquerade), Rule::default())])
}

/// Judges a frame, and gives it as it leaves; its checksums must be right.
fn pass(memory: &Memory, frame: &[u8]) -> Result<Vec<u8>, Verdict> {
    pass_at(memory, Hook::Ingress, frame, NOW)
}

fn pass_at(memory: &Memory, hook: Hook, frame: &[u8], now: Nanos) -> Result<Vec<u8>, Verdict> {
    let (verdict, bytes) = memory.cross(hook, 1, frame, now);
    if !matches!(verdict, Verdict::Accept(_)) {
        return Err(verdict);
    }
    check(&bytes);
    let scratch = memory.scratch();
    let written = Written::of(bytes);
    if scratch.nat.has(done::LEAVES) {
        let nat = &scratch.nat;
        assert!(rewrite::ends(&written, &scratch.headers, &nat.inside, &nat.leaving));
    }
    let bytes = written.bytes.into_inner();
    check(&bytes);
    Ok(bytes)
}

/// Header and transport checksum are right, and those of a quoted packet.
fn check(bytes: &[u8]) {
    let headers = headers(bytes);
    let has_sum = matches!(headers.tuple.protocol, 1 | 6 | 17 | 58);
    if !has_sum || headers.is_later_fragment() || headers.is_first_fragment() {
        return;
    }
    let is_right = bytes.has_right_checksum(&headers, &mut Verification::of(&headers), false);
    assert!(is_right, "{:?}", headers.tuple);
    if headers.is_icmp_error() {
        let quoted = &bytes[headers.payload as usize..];
        let mut inner = Headers::default();
        inner.parse(quoted, false).expect("a quoted packet with a right header checksum");
        assert!(quoted.has_right_checksum(&inner, &mut Verification::of(&inner), false));
    }
}

fn headers(bytes: &[u8]) -> Headers {
    let mut headers = Headers::default();
    headers.parse(bytes, true).expect("a packet");
    headers
}

/// Source and destination, as people write them.
fn ends(bytes: &[u8]) -> String {
    text(&headers(bytes).tuple)
}

fn text(tuple: &Tuple) -> String {
    let Tuple { src, dst, sport, dport, .. } = tuple;
    format!("{}:{sport} > {}:{dport}", src.to_ip(), dst.to_ip())
}

fn frame(from: (&str, u16), to: (&str, u16), flags: u8) -> Vec<u8> {
    Frame::between(from.0, to.0).tcp(from.1, to.1, flags).build()
}

fn only_flow(memory: &Memory) -> (FlowKey, Flow) {
    let flows = memory.flows();
    assert_eq!(flows.len(), 1, "{flows:?}");
    (flows[0].1, flows[0].2)
}

/// A checksum that was left to hardware stays the sum of the pseudo-header.
#[test]
fn an_unfinished_checksum_stays_unfinished() {
    let bytes = frame((CLIENT, 40_000), (SERVER, 80), SYN);
    let at = 34 + 16;
    let was = headers(&bytes);
    let pseudo = |headers: &Headers| {
        let tuple = &headers.tuple;
        firewall_common::checksum::Sum::pseudo_header(tuple.src, tuple.dst, 6, 20).folded()
    };
    let written = Written { may_be_unfinished: true, ..Written::of(bytes) };
    written.bytes.borrow_mut()[at..at + 2].copy_from_slice(&pseudo(&was).to_ne_bytes());
    let to = Tuple { src: addr(PUBLIC), sport: 61_000, ..was.tuple };
    assert!(rewrite::ends(&written, &was, &was.tuple, &to));
    let bytes = written.bytes.into_inner();
    let now = headers(&bytes);
    assert_eq!(now.tuple, to);
    assert_eq!(bytes[at..at + 2], pseudo(&now).to_ne_bytes());
}

/// A client's packet, or the answer to one that got through.
#[derive(Clone, Debug)]
enum Step {
    Sends { client: u8, sport: u8, server: u8, dport: u8, is_tcp: bool },
    IsAnswered { which: usize },
    TimePasses { seconds: u16 },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u8, 0..3u8, 0..5u8, 0..2u8, any::<bool>()).prop_map(
            |(client, sport, server, dport, is_tcp)| Step::Sends { client, sport, server, dport, is_tcp }
        ),
        4 => any::<usize>().prop_map(|which| Step::IsAnswered { which }),
        1 => (0..200u16).prop_map(|seconds| Step::TimePasses { seconds }),
    ]
}

fn any_rules() -> impl Strategy<Value = (Vec<Order>, Vec<Order>)> {
    let before = prop_oneof![
        Just(to(Kind::Destination, INNER, INNER)),
        Just(to(Kind::Destination, INNER, "10.0.1.7")),
        Just(with_ports(to(Kind::Destination, INNER, INNER), 8_000, 8_001)),
    ];
    let behind = prop_oneof![
        Just(order(Kind::Masquerade)),
        Just(with_ports(order(Kind::Masquerade), 2_000, 2_003)),
        Just(to(Kind::Source, PUBLIC, "203.0.113.2")),
        Just(Order { flags: wish::RANDOM_FULLY, ..order(Kind::Masquerade) }),
    ];
    (proptest::collection::vec(before, 0..2), proptest::collection::vec(behind, 0..2))
}

/// A frame with these ends and right checksums.
fn frame_of(tuple: &Tuple, flags: u8) -> Vec<u8> {
    let (src, dst) = (tuple.src.to_ip().to_string(), tuple.dst.to_ip().to_string());
    let frame = Frame::between(&src, &dst);
    match tuple.protocol {
        6 => frame.tcp_at(tuple.sport, tuple.dport, flags, 1_000, 1_001),
        _ => frame.udp(tuple.sport, tuple.dport),
    }
    .build()
}

proptest! {
    /// Whatever is sent: an answer to what left comes back as an answer to what came in, and
    /// no two flows that live look the same on a wire.
    #[test]
    fn every_answer_finds_back_and_no_two_flows_share_a_face(
        (before, behind) in any_rules(),
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let mut memory = gateway(Chain::NatPrerouting, &before.map_rules());
        add(&mut memory, Chain::NatPostrouting, &behind.map_rules());
        let mut sent: Vec<(Tuple, Tuple)> = Vec::new();
        let mut now = NOW;
        for step in steps {
            match step {
                Step::TimePasses { seconds } => now = now.after(Nanos::from_secs(seconds.into())),
                Step::Sends { client, sport, server, dport, is_tcp } => {
                    let tuple = Tuple {
                        src: addr(&format!("10.0.0.{}", 2 + client)),
                        // The last one is the server that others are led to.
                        dst: match server {
                            4 => addr(INNER),
                            _ => addr(&format!("192.0.2.{}", 80 + server)),
                        },
                        sport: 40_000 + u16::from(sport),
                        dport: 80 + u16::from(dport),
                        protocol: if is_tcp { 6 } else { 17 },
                        ..Tuple::default()
                    };
                    match pass_at(&memory, Hook::Ingress, &frame_of(&tuple, SYN), now) {
                        Ok(left) => sent.push((tuple, headers(&left).tuple)),
                        Err(Verdict::Drop(DropReason::NatPortsExhausted)) => {}
                        Err(other) => prop_assert!(false, "{other:?}"),
                    }
                }
                Step::IsAnswered { which } if !sent.is_empty() => {
                    let (came, left) = sent[which % sent.len()];
                    let is_known = memory.flows().iter().any(|(_, key, flow)| {
                        !flow.is_expired(now)
                            && flow.wire_original(key) == came
                            && flow.wire_reply(key) == left.reversed()
                    });
                    if is_known {
                        let answer = frame_of(&left.reversed(), SYN | ACK);
                        let back = pass_at(&memory, Hook::Ingress, &answer, now);
                        let back = back.map(|bytes| headers(&bytes).tuple);
                        prop_assert_eq!(back, Ok(came.reversed()));
                    }
                }
                Step::IsAnswered { .. } => {}
            }
            let flows = memory.flows();
            let live = flows.iter().filter(|(_, _, flow)| !flow.is_expired(now));
            let faces: Vec<Tuple> = live
                .flat_map(|(_, key, flow)| [flow.wire_reply(key), flow.wire_original(key)])
                .collect();
            let different: HashSet<&Tuple> = faces.iter().collect();
            prop_assert_eq!(different.len(), faces.len());
        }
    }
}

trait MapRules {
    /// Each for whatever comes.
    fn map_rules(&self) -> Vec<(Order, Rule)>;
}

impl MapRules for Vec<Order> {
    fn map_rules(&self) -> Vec<(Order, Rule)> {
        self.iter().map(|order| (*order, Rule::default())).collect()
    }
}
