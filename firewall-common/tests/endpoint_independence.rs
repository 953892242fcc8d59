//! `udp_endpoint_independent`: what an inside endpoint sends by UDP leaves from one outside
//! endpoint, whatever its destination, and from no other's.

use std::{collections::HashMap, net::IpAddr};

use firewall_common::{
    addr::Addr,
    control::option,
    event::Hook,
    extra::{Extra, need},
    flow::{Tuple, protocol},
    headers::Headers,
    hop::{self, Hop, station},
    nat::{Kind, Order, desk::done, order::flag as wish, translation::face},
    rule::{Chain, Rule, Target, flag},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::{DropReason, Stat, Verdict},
    wire::tcp_flag::SYN,
};
use proptest::prelude::*;

const CLIENT: &str = "10.0.0.2";
const OTHER: &str = "10.0.0.3";
const SERVER: &str = "192.0.2.80";
const SECOND: &str = "192.0.2.81";
const PUBLIC: &str = "203.0.113.1";
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NOW: Nanos = Nanos::from_secs(1_000);
/// Two clients have it, so one of them gets another.
const PORT: u16 = 5_000;

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

const fn masquerade() -> Order {
    Order {
        kind: Kind::Masquerade,
        flags: 0,
        first: Addr::ANY,
        last: Addr::ANY,
        first_port: 0,
        last_port: 0,
        base: 0,
    }
}

fn with_ports(order: Order, first_port: u16, last_port: u16) -> Order {
    Order { flags: order.flags | wish::PORTS, first_port, last_port, ..order }
}

fn source(first: &str, last: &str) -> Order {
    let (first, last) = (addr(first), addr(last));
    Order { kind: Kind::Source, flags: wish::ADDRESSES, first, last, ..masquerade() }
}

/// A gateway whose POSTROUTING has one rule for everything.
fn gateway(order: &Order) -> Memory {
    Memory::with(|memory| {
        memory.options.bits |= option::UDP_ENDPOINT_INDEPENDENT;
        memory.own_address = |_| Some(addr(PUBLIC));
        memory.add_device(1, OURS);
        let (in_ifindex, out_ifindex) = (1, 2);
        let station = station(OURS);
        memory.hop = Some(Hop { station, in_ifindex, out_ifindex, mtu: 1_500, ..Hop::default() });
        memory.extras.push(Extra { arguments: order.words(), ..Extra::default() });
        let (argument, mask) = order.pack(0);
        let first = memory.rules.len() as u32;
        let target = Target::Translate as u8;
        let chain_end = first + 1;
        memory.rules.push(Rule { target, argument, mask, chain_end, ..Rule::default() });
        let target = Target::Accept as u8;
        memory.rules.push(Rule { flags: flag::POLICY, target, chain_end, ..Rule::default() });
        memory.header.entries.iter_mut().for_each(|of| of[Chain::NatPostrouting as usize] = first);
        memory.header.needs |= need::NAT;
    })
}

fn datagram(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    Frame::between(from.0, to.0).udp(from.1, to.1).payload(b"as long as the shortest frame").build()
}

/// The ends with which a frame leaves.
fn leaves(memory: &Memory, hook: Hook, frame: &[u8], now: Nanos) -> Result<Tuple, Verdict> {
    let (verdict, bytes) = memory.cross(hook, 1, frame, now);
    if !matches!(verdict, Verdict::Accept(_)) {
        return Err(verdict);
    }
    let scratch = memory.scratch();
    if scratch.nat.has(done::LEAVES) {
        return Ok(scratch.nat.leaving);
    }
    let mut headers = Headers::default();
    headers.parse(&bytes[..], true).expect("a packet");
    Ok(headers.tuple)
}

/// The outside port of a datagram that comes in.
fn port(memory: &Memory, from: (&str, u16), to: &str, now: Nanos) -> u16 {
    leaves(memory, Hook::Ingress, &datagram(from, (to, 3_478)), now).unwrap().sport
}

/// Has [`OTHER`] get another port than its own, which [`CLIENT`] has.
fn other_port(memory: &Memory) -> u16 {
    assert_eq!(port(memory, (CLIENT, PORT), SERVER, NOW), PORT);
    let other = port(memory, (OTHER, PORT), SERVER, NOW);
    assert_ne!(other, PORT);
    other
}

fn after(seconds: u64) -> Nanos {
    NOW.after(Nanos::from_secs(seconds))
}

#[test]
fn every_destination_sees_the_port_that_the_first_one_has_seen() {
    for order in [
        masquerade(),
        Order { flags: wish::RANDOM_FULLY, ..masquerade() },
        with_ports(masquerade(), 2_000, 2_999),
        source(PUBLIC, PUBLIC),
    ] {
        let memory = gateway(&order);
        for client in [CLIENT, OTHER] {
            let first = port(&memory, (client, PORT), SERVER, NOW);
            for host in 81..99 {
                let to = format!("192.0.2.{host}");
                assert_eq!(port(&memory, (client, PORT), &to, NOW), first, "{order:?}");
            }
        }
    }
}

#[test]
fn without_the_setting_each_destination_has_its_own() {
    let mut memory = gateway(&masquerade());
    memory.options.bits &= !option::UDP_ENDPOINT_INDEPENDENT;
    other_port(&memory);
    assert_eq!(port(&memory, (OTHER, PORT), SECOND, NOW), PORT);
}

#[test]
fn no_other_endpoint_gets_the_port_whatever_its_destination() {
    let memory = gateway(&masquerade());
    assert_eq!(port(&memory, (CLIENT, PORT), SERVER, NOW), PORT);
    let seen: Vec<_> =
        (3..40).map(|host| port(&memory, (&format!("10.0.0.{host}"), PORT), SECOND, NOW)).collect();
    assert!(!seen.contains(&PORT), "{seen:?}");
}

#[test]
fn an_endpoint_keeps_one_address_of_a_range_too() {
    let memory = gateway(&source(PUBLIC, "203.0.113.200"));
    let to = |host: u8| {
        let frame = datagram((CLIENT, PORT), (&format!("192.0.2.{host}"), 3_478));
        let left = leaves(&memory, Hook::Ingress, &frame, NOW).unwrap();
        (left.src, left.sport)
    };
    let first = to(1);
    assert!((2..50).all(|host| to(host) == first));
}

#[test]
fn a_mapping_ends_with_its_last_flow() {
    let memory = gateway(&masquerade());
    let other = other_port(&memory);
    // Its second flow begins shortly before the first one ends, and the third one likewise.
    assert_eq!(port(&memory, (OTHER, PORT), SECOND, after(29)), other);
    assert_eq!(port(&memory, (OTHER, PORT), "192.0.2.82", after(58)), other);
    assert_eq!(port(&memory, (OTHER, PORT), "192.0.2.83", after(58 + 32)), PORT);
}

#[test]
fn packets_of_one_flow_keep_it_alive() {
    let memory = gateway(&masquerade());
    let other = other_port(&memory);
    for seconds in (20..400).step_by(20) {
        assert_eq!(port(&memory, (OTHER, PORT), SERVER, after(seconds)), other);
    }
    assert_eq!(port(&memory, (OTHER, PORT), SECOND, after(400)), other);
}

#[test]
fn so_do_those_on_the_short_way_in_either_direction() {
    for is_reply in [false, true] {
        keep_alive_shortly(
            &gateway(&masquerade()),
            [CLIENT, OTHER, SERVER, SECOND, PUBLIC],
            is_reply,
        );
    }
}

#[test]
fn so_do_those_of_ipv6() {
    const HOSTS: [&str; 5] =
        ["fd00::2", "fd00::3", "2001:db8::80", "2001:db8::81", "2001:db8:1::1"];
    for is_reply in [false, true] {
        let mut memory = gateway(&masquerade());
        memory.own_address = |_| Some(addr(HOSTS[4]));
        memory.hop = memory.hop.map(|hop| Hop { class: hop::IPV6, ..hop });
        keep_alive_shortly(&memory, HOSTS, is_reply);
    }
}

/// Packets of one direction of a flow, which take the short way, keep its mapping.
fn keep_alive_shortly(memory: &Memory, hosts: [&str; 5], is_reply: bool) {
    let [client, other, server, second, public] = hosts;
    assert_eq!(port(memory, (client, PORT), server, NOW), PORT);
    let given = port(memory, (other, PORT), server, NOW);
    assert_ne!(given, PORT);
    let out = datagram((other, PORT), (server, 3_478));
    let back = datagram((server, 3_478), (public, given));
    for seconds in [1, 3, 4] {
        for frame in [&out, &back] {
            leaves(memory, Hook::Ingress, frame, after(seconds)).unwrap();
        }
    }
    let frame = if is_reply { back } else { out };
    for seconds in (100..2_000).step_by(100) {
        assert!(memory.follow(&frame, after(seconds)), "{seconds} s");
    }
    assert_eq!(port(memory, (other, PORT), second, after(2_000)), given);
}

#[test]
fn what_nobody_has_asked_for_is_led_to_nobody() {
    let memory = gateway(&masquerade());
    let other = other_port(&memory);
    let stranger = datagram((SECOND, 3_478), (PUBLIC, other));
    let came = leaves(&memory, Hook::Ingress, &stranger, NOW).unwrap();
    assert_eq!((came.dst, came.dport), (addr(PUBLIC), other));
    assert_eq!(memory.scratch().walk.ctstate, firewall_common::flow::CtState::New.bit());
}

#[test]
fn a_port_of_this_hosts_sockets_is_no_mappings() {
    let mut memory = gateway(&masquerade());
    memory.sockets = vec![(protocol::UDP, PORT)];
    let given = port(&memory, (CLIENT, PORT), SERVER, NOW);
    assert_ne!(given, PORT);
    assert_eq!(port(&memory, (CLIENT, PORT), SECOND, NOW), given);
}

#[test]
fn this_hosts_own_sockets_keep_their_port() {
    let memory = gateway(&masquerade());
    assert_eq!(port(&memory, (CLIENT, PORT), SERVER, NOW), PORT);
    let own = datagram((PUBLIC, PORT), (SECOND, 53));
    assert_eq!(leaves(&memory, Hook::Egress, &own, NOW).unwrap().sport, PORT);
}

#[test]
fn tcp_is_as_it_was() {
    let memory = gateway(&masquerade());
    let syn = |client: &str, server: &str| {
        let frame = Frame::between(client, server).tcp(PORT, 80, SYN).build();
        leaves(&memory, Hook::Ingress, &frame, NOW).unwrap().sport
    };
    assert_eq!(syn(CLIENT, SERVER), PORT);
    assert_ne!(syn(OTHER, SERVER), PORT);
    assert_eq!(syn(OTHER, SECOND), PORT);
}

#[test]
fn where_every_port_is_some_mappings_one_is_shared_towards_others() {
    let memory = gateway(&with_ports(masquerade(), 2_000, 2_001));
    let taken: Vec<u16> =
        [5_000, 5_001].map(|own| port(&memory, (CLIENT, own), SERVER, NOW)).into();
    assert!(taken.contains(&2_000) && taken.contains(&2_001), "{taken:?}");
    // Towards the same server both are taken, towards another one neither is.
    let towards =
        |to: &str| leaves(&memory, Hook::Ingress, &datagram((OTHER, PORT), (to, 3_478)), NOW);
    assert_eq!(towards(SERVER), Err(Verdict::Drop(DropReason::NatPortsExhausted)));
    let shared = towards(SECOND).expect("a port that is free towards the second server").sport;
    assert!(taken.contains(&shared), "{shared}");
    // It is nobody else's for that: its mapping keeps it towards all others.
    assert_eq!(memory.scratch().nat.faces.flags & face::MAPPED, 0);
    let own = 5_000 + u16::from(taken[0] != shared);
    assert_eq!(port(&memory, (CLIENT, own), "192.0.2.82", NOW), shared);
}

#[test]
fn a_rule_that_has_other_ports_to_give_gives_them() {
    let memory = gateway(&with_ports(masquerade(), 2_000, 2_009));
    assert_eq!(port(&memory, (CLIENT, 2_005), SERVER, NOW), 2_005);
    let mut memory = memory;
    let order = with_ports(masquerade(), 3_000, 3_009);
    (memory.rules[1].argument, memory.rules[1].mask) = order.pack(0);
    assert!((3_000..3_010).contains(&port(&memory, (CLIENT, 2_005), SECOND, NOW)));
}

#[test]
fn a_port_that_another_flow_has_towards_the_destination_is_passed_over() {
    let mut memory = gateway(&masquerade());
    memory.options.bits &= !option::UDP_ENDPOINT_INDEPENDENT;
    assert_eq!(port(&memory, (OTHER, PORT), SECOND, NOW), PORT);
    memory.options.bits |= option::UDP_ENDPOINT_INDEPENDENT;
    // Nobody keeps the port: the flow began before.
    assert_eq!(port(&memory, (CLIENT, PORT), SERVER, NOW), PORT);
    assert_ne!(port(&memory, (CLIENT, PORT), SECOND, NOW), PORT);
    assert_eq!(port(&memory, (CLIENT, PORT), "192.0.2.82", NOW), PORT);
}

#[test]
fn without_space_flows_have_ports_and_spare_those_of_others() {
    let mut memory = gateway(&masquerade());
    memory.mappings_size = 2;
    assert_eq!(port(&memory, (CLIENT, PORT), SERVER, NOW), PORT);
    assert_eq!(memory.stat(Stat::MappingsFull as u32), 0);
    assert_ne!(port(&memory, (OTHER, PORT), SECOND, NOW), PORT);
    assert_eq!(memory.stat(Stat::MappingsFull as u32), 1);
    assert_eq!(port(&memory, (CLIENT, PORT), SECOND, NOW), PORT);
    // With room for one of the two entries none is made.
    memory.mappings_size = 3;
    assert_eq!(port(&memory, (OTHER, PORT + 1), SERVER, NOW), PORT + 1);
    assert_eq!(memory.stat(Stat::MappingsFull as u32), 2);
    assert_eq!(port(&memory, (OTHER, PORT + 1), SECOND, NOW), PORT + 1);
}

#[derive(Clone, Debug)]
enum Step {
    Sends { client: u8, port: u16, server: u8 },
    IsAnswered { which: usize },
    TimePasses { seconds: u64 },
    IsSwitched,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (2..5u8, 0..2u16, 80..84u8)
            .prop_map(|(client, port, server)| Step::Sends { client, port: PORT + port, server }),
        3 => any::<usize>().prop_map(|which| Step::IsAnswered { which }),
        2 => (0..50u64).prop_map(|seconds| Step::TimePasses { seconds }),
        1 => Just(Step::IsSwitched),
    ]
}

fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(masquerade()),
        Just(Order { flags: wish::RANDOM_FULLY, ..masquerade() }),
        Just(with_ports(masquerade(), 2_000, 2_007)),
        Just(source(PUBLIC, "203.0.113.3")),
    ]
}

proptest! {
    /// Whatever is sent, answered or switched: an inside endpoint has one outside one in all its
    /// mapped flows that live, and no other has that in any of them.
    #[test]
    fn inside_and_outside_endpoints_are_pairs(
        order in any_order(),
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut memory = gateway(&order);
        let mut now = NOW;
        let mut sent: Vec<(Tuple, Tuple)> = Vec::new();
        let mut has_been_off = false;
        for step in steps {
            match step {
                Step::TimePasses { seconds } => now = now.after(Nanos::from_secs(seconds)),
                Step::IsSwitched => {
                    memory.options.bits ^= option::UDP_ENDPOINT_INDEPENDENT;
                    has_been_off = true;
                }
                Step::Sends { client, port, server } => {
                    let (from, to) = (format!("10.0.0.{client}"), format!("192.0.2.{server}"));
                    let frame = datagram((&from, port), (&to, 3_478));
                    let came = Tuple {
                        src: addr(&from),
                        dst: addr(&to),
                        sport: port,
                        dport: 3_478,
                        protocol: protocol::UDP,
                        ..Tuple::default()
                    };
                    if let Ok(left) = leaves(&memory, Hook::Ingress, &frame, now) {
                        sent.push((came, left));
                    } else {
                        // Eight ports are enough for six endpoints that keep to them.
                        prop_assert!(has_been_off);
                    }
                }
                Step::IsAnswered { which } => {
                    let Some((came, left)) = sent.get(which % sent.len().max(1)) else { continue };
                    let lives = memory.flows().iter().any(|(_, key, flow)| {
                        !flow.is_expired(now)
                            && flow.wire_original(key) == *came
                            && flow.wire_reply(key) == left.reversed()
                    });
                    if lives {
                        let (from, to) = (left.dst.to_ip().to_string(), left.src.to_ip().to_string());
                        let answer = datagram((&from, left.dport), (&to, left.sport));
                        let back = leaves(&memory, Hook::Ingress, &answer, now);
                        prop_assert_eq!(back.map(|back| (back.dst, back.dport)), Ok((came.src, came.sport)));
                    }
                }
            }
            let mut outside = HashMap::new();
            let mut inside = HashMap::new();
            for (_, key, flow) in memory.flows() {
                if flow.is_expired(now) {
                    continue;
                }
                let is_mapped = flow.faces.flags & face::MAPPED != 0;
                prop_assert!(is_mapped || has_been_off);
                if is_mapped {
                    let (came, reply) = (flow.wire_original(&key), flow.wire_reply(&key));
                    let (one, other) = ((came.src, came.sport), (reply.dst, reply.dport));
                    prop_assert_eq!(*outside.entry(one).or_insert(other), other);
                    prop_assert_eq!(*inside.entry(other).or_insert(one), one);
                }
            }
        }
    }
}
