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

mod masquerade {
    use super::*;

    #[test]
    fn a_connection_leaves_with_the_hosts_address_and_its_answers_find_the_way_back() {
        let memory = masquerading();
        let out = pass(&memory, &frame((CLIENT, 40_000), (SERVER, 80), SYN)).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40000 > 192.0.2.80:80");
        let back = pass(&memory, &frame((SERVER, 80), (PUBLIC, 40_000), SYN | ACK)).unwrap();
        assert_eq!(ends(&back), "192.0.2.80:80 > 10.0.0.2:40000");
        let out = pass(&memory, &frame((CLIENT, 40_000), (SERVER, 80), ACK)).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40000 > 192.0.2.80:80");
        let (key, flow) = only_flow(&memory);
        assert!(flow.has(status::SOURCE_TRANSLATED) && !flow.has(status::DESTINATION_TRANSLATED));
        assert_eq!(text(&flow.wire_original(&key)), "10.0.0.2:40000 > 192.0.2.80:80");
        assert_eq!(text(&flow.wire_reply(&key)), "192.0.2.80:80 > 203.0.113.1:40000");
        assert_eq!(memory.rule_counter(1).packets, 1, "nat is asked about the first packet");
    }

    #[test]
    fn two_clients_with_one_port_get_two() {
        let memory = masquerading();
        let first = frame(("10.0.0.2", 40_000), (SERVER, 80), SYN);
        let second = frame(("10.0.0.3", 40_000), (SERVER, 80), SYN);
        assert_eq!(ends(&pass(&memory, &first).unwrap()), "203.0.113.1:40000 > 192.0.2.80:80");
        let other = headers(&pass(&memory, &second).unwrap()).tuple;
        assert!(other.sport != 40_000 && other.sport >= 1_024, "{}", text(&other));
        for (port, client) in [(40_000, "10.0.0.2"), (other.sport, "10.0.0.3")] {
            let answer = frame((SERVER, 80), (PUBLIC, port), SYN | ACK);
            let back = headers(&pass(&memory, &answer).unwrap()).tuple;
            assert_eq!((back.dst, back.dport), (addr(client), 40_000));
        }
    }

    #[test]
    fn a_port_of_this_hosts_sockets_is_not_given_away() {
        let mut memory = masquerading();
        memory.sockets = vec![(6, 40_000)];
        let out = pass(&memory, &frame((CLIENT, 40_000), (SERVER, 80), SYN)).unwrap();
        assert_ne!(headers(&out).tuple.sport, 40_000);
        let datagram = Frame::between(CLIENT, SERVER).udp(40_000, 53).build();
        assert_eq!(headers(&pass(&memory, &datagram).unwrap()).tuple.sport, 40_000);
        // It is the socket's own connection that leaves so.
        let own = frame((PUBLIC, 40_000), (SERVER, 80), SYN);
        let out = pass_at(&memory, Hook::Egress, &own, NOW).unwrap();
        assert_eq!(headers(&out).tuple.sport, 40_000);
    }

    #[test]
    fn a_port_that_nobody_else_has_stays_whatever_it_is() {
        let memory = masquerading();
        for port in [0, 1, 600, 65_535] {
            let out = pass(&memory, &frame((CLIENT, port), (SERVER, 80), SYN)).unwrap();
            assert_eq!(headers(&out).tuple.sport, port);
        }
    }

    #[test]
    fn low_ports_stay_low() {
        let memory = masquerading();
        for (port, class) in [(500, 1..=511), (800, 600..=1_023), (2_000, 1_024..=65_535)] {
            for client in ["10.0.0.2", "10.0.0.3"] {
                let syn = frame((client, port), (SERVER, 4_500), SYN);
                let left = headers(&pass(&memory, &syn).unwrap()).tuple.sport;
                assert!(class.contains(&left), "{port} became {left}");
            }
        }
    }

    #[test]
    fn who_writes_to_an_inside_address_from_outside_is_no_part_of_the_connection() {
        let memory = masquerading();
        pass(&memory, &frame((CLIENT, 40_000), (SERVER, 80), SYN)).unwrap();
        let past = frame((SERVER, 80), (CLIENT, 40_000), SYN | ACK);
        let _ = pass(&memory, &past);
        let scratch = memory.scratch();
        assert_eq!(scratch.walk.ctstate, CtState::Invalid.bit());
    }

    #[test]
    fn an_invalid_packet_is_judged_with_the_ends_that_it_came_with() {
        let memory = masquerading();
        pass(&memory, &frame((CLIENT, 40_000), (SERVER, 80), SYN)).unwrap();
        let before = only_flow(&memory);
        // A segment without any flag is no part of a connection.
        let stray = frame((SERVER, 80), (PUBLIC, 40_000), 0);
        assert_eq!(pass(&memory, &stray).unwrap(), stray);
        let walk = memory.scratch().walk;
        assert_eq!(walk.ctstate, CtState::Invalid.bit());
        assert_eq!(walk.chain, Chain::Input as u8);
        assert_eq!(only_flow(&memory), before);
        // The next one is looked at for itself.
        let answer = frame((SERVER, 80), (PUBLIC, 40_000), SYN | ACK);
        assert_eq!(ends(&pass(&memory, &answer).unwrap()), "192.0.2.80:80 > 10.0.0.2:40000");
    }

    #[test]
    fn another_sender_is_not_translated() {
        let memory = masquerading();
        pass(&memory, &frame((CLIENT, 40_000), (SERVER, 80), SYN)).unwrap();
        let other = frame(("192.0.2.81", 80), (PUBLIC, 40_000), SYN);
        assert_eq!(ends(&pass(&memory, &other).unwrap()), "192.0.2.81:80 > 203.0.113.1:40000");
    }

    #[test]
    fn the_hosts_own_connection_and_a_clients_never_share_a_face() {
        let memory = masquerading();
        let own = frame((PUBLIC, 40_000), (SERVER, 80), SYN);
        let out = pass_at(&memory, Hook::Egress, &own, NOW).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40000 > 192.0.2.80:80");
        let out = pass(&memory, &frame((CLIENT, 40_000), (SERVER, 80), SYN)).unwrap();
        assert_ne!(headers(&out).tuple.sport, 40_000);
        // And the other way round.
        let out = pass(&memory, &frame((CLIENT, 50_000), (SERVER, 80), SYN)).unwrap();
        assert_eq!(headers(&out).tuple.sport, 50_000);
        let own = frame((PUBLIC, 50_000), (SERVER, 80), SYN);
        let out = pass_at(&memory, Hook::Egress, &own, NOW).unwrap();
        let port = headers(&out).tuple.sport;
        assert_ne!(port, 50_000);
        let answer = frame((SERVER, 80), (PUBLIC, port), SYN | ACK);
        assert_eq!(ends(&pass(&memory, &answer).unwrap()), "192.0.2.80:80 > 203.0.113.1:50000");
    }

    #[test]
    fn a_ping_keeps_its_identifier_or_gets_a_free_one() {
        let memory = masquerading();
        let ping = |client: &str| Frame::between(client, SERVER).icmp(8, 0, 77).build();
        assert_eq!(headers(&pass(&memory, &ping("10.0.0.2")).unwrap()).tuple.sport, 77);
        let id = headers(&pass(&memory, &ping("10.0.0.3")).unwrap()).tuple.sport;
        assert_ne!(id, 77);
        let pong = Frame::between(SERVER, PUBLIC).icmp(0, 0, id).build();
        let back = headers(&pass(&memory, &pong).unwrap()).tuple;
        assert_eq!((back.dst, back.dport), (addr("10.0.0.3"), 77));
    }

    #[test]
    fn a_protocol_without_ports_is_translated_by_address() {
        let memory = masquerading();
        let esp = Frame::between(CLIENT, SERVER).protocol(50).payload(&[1; 40]).build();
        assert_eq!(headers(&pass(&memory, &esp).unwrap()).tuple.src, addr(PUBLIC));
        let back = Frame::between(SERVER, PUBLIC).protocol(50).payload(&[1; 40]).build();
        assert_eq!(headers(&pass(&memory, &back).unwrap()).tuple.dst, addr(CLIENT));
        let second = Frame::between("10.0.0.3", SERVER).protocol(50).payload(&[1; 40]).build();
        let refused = Verdict::Drop(DropReason::NatPortsExhausted);
        assert_eq!(pass(&memory, &second), Err(refused));
    }

    #[test]
    fn without_an_address_nothing_leaves() {
        let mut memory = masquerading();
        memory.own_address = |_| None;
        let refused = Verdict::Drop(DropReason::NatNoAddress);
        assert_eq!(pass(&memory, &frame((CLIENT, 1), (SERVER, 80), SYN)), Err(refused));
        assert_eq!(memory.flow_count(), 0);
    }

    #[test]
    fn a_udp_packet_without_checksum_stays_without() {
        let memory = masquerading();
        let mut udp = Frame::between(CLIENT, SERVER).udp(5_000, 53).payload(&[7; 9]).build();
        udp[40..42].fill(0);
        assert_eq!(pass(&memory, &udp).unwrap()[40..42], [0, 0]);
    }

    #[test]
    fn a_port_is_free_again_when_its_flow_is_over() {
        let memory = masquerading();
        let udp = |client: &str| Frame::between(client, SERVER).udp(5_000, 53).build();
        pass(&memory, &udp("10.0.0.2")).unwrap();
        let later = NOW.after(Nanos::from_secs(31));
        let out = pass_at(&memory, Hook::Ingress, &udp("10.0.0.3"), later).unwrap();
        assert_eq!(headers(&out).tuple.sport, 5_000);
        let back = Frame::between(SERVER, PUBLIC).udp(53, 5_000).build();
        let back = pass_at(&memory, Hook::Ingress, &back, later).unwrap();
        assert_eq!(headers(&back).tuple.dst, addr("10.0.0.3"));
    }

    #[test]
    fn a_connection_that_is_joined_beside_synproxy_is_translated_by_the_rules() {
        let mut memory = masquerading();
        memory.header.has_proxy = 1;
        let out = pass(&memory, &frame((CLIENT, 40_000), (SERVER, 443), ACK)).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40000 > 192.0.2.80:443");
        assert_eq!(memory.flow_count(), 1);
    }

    #[test]
    fn an_address_is_free_again_when_its_flow_was_deleted() {
        let memory = masquerading();
        let esp = |client: &str| Frame::between(client, SERVER).protocol(50).build();
        pass(&memory, &esp("10.0.0.2")).unwrap();
        memory.forget_flows();
        let later = NOW.after(Nanos::from_millis(100));
        let out = pass_at(&memory, Hook::Ingress, &esp("10.0.0.3"), later).unwrap();
        assert_eq!(headers(&out).tuple.src, addr(PUBLIC));
        let own = Frame::between(PUBLIC, SERVER).protocol(50).build();
        let refused = Verdict::Drop(DropReason::NatPortsExhausted);
        assert_eq!(pass_at(&memory, Hook::Egress, &own, later), Err(refused));
    }

    #[test]
    fn a_full_table_refuses_and_says_so() {
        let mut memory = masquerading();
        memory.translations_size = 1;
        pass(&memory, &frame(("10.0.0.2", 1), (SERVER, 80), SYN)).unwrap();
        let refused = Verdict::Drop(DropReason::NatTableFull);
        assert_eq!(pass(&memory, &frame(("10.0.0.3", 2), (SERVER, 80), SYN)), Err(refused));
    }
}

mod source {
    use super::*;

    #[test]
    fn a_range_of_ports_is_used_up_to_the_last_and_then_refused() {
        let order = with_ports(to(Kind::Source, PUBLIC, PUBLIC), 2_000, 2_009);
        let memory = gateway(Chain::NatPostrouting, &[(order, Rule::default())]);
        let mut ports: Vec<u16> = (0..10)
            .map(|n| {
                let syn = frame((CLIENT, 40_000 + n), (SERVER, 80), SYN);
                headers(&pass(&memory, &syn).unwrap()).tuple.sport
            })
            .collect();
        ports.sort_unstable();
        assert_eq!(ports, (2_000..2_010).collect::<Vec<_>>());
        let refused = Verdict::Drop(DropReason::NatPortsExhausted);
        assert_eq!(pass(&memory, &frame((CLIENT, 40_100), (SERVER, 80), SYN)), Err(refused));
        // Another server is another face.
        pass(&memory, &frame((CLIENT, 40_100), ("192.0.2.81", 80), SYN)).unwrap();
    }

    #[test]
    fn at_random_the_clients_port_is_not_kept() {
        let mut order = to(Kind::Source, PUBLIC, PUBLIC);
        order.flags |= wish::RANDOM_FULLY;
        let memory = gateway(Chain::NatPostrouting, &[(order, Rule::default())]);
        let kept = (0..20u16).filter(|n| {
            let syn = frame((CLIENT, 40_000 + n), (SERVER, 80), SYN);
            headers(&pass(&memory, &syn).unwrap()).tuple.sport == 40_000 + n
        });
        assert!(kept.count() < 3);
    }

    #[test]
    fn a_rule_that_accepts_translates_nothing() {
        let mut memory = masquerading();
        memory.rules[1].target = Target::Accept as u8;
        let out = pass(&memory, &frame((CLIENT, 40_000), (SERVER, 80), SYN)).unwrap();
        assert_eq!(ends(&out), "10.0.0.2:40000 > 192.0.2.80:80");
        assert!(!only_flow(&memory).1.is_translated());
    }

    #[test]
    fn ipv6_is_translated_as_well() {
        let order = to(Kind::Source, "2001:db8:f::1", "2001:db8:f::1");
        let memory = gateway(Chain::NatPostrouting, &[(order, Rule::default())]);
        let client = Frame::between("2001:db8:1::2", "2001:db8:2::80");
        for (syn, answer) in [
            (
                client.clone().tcp(40_000, 80, SYN),
                Frame::between("2001:db8:2::80", "2001:db8:f::1").tcp(80, 40_000, SYN | ACK),
            ),
            (
                client.clone().icmp(128, 0, 9),
                Frame::between("2001:db8:2::80", "2001:db8:f::1").icmp(129, 0, 9),
            ),
            (
                client.udp(500, 53).payload(b"odd"),
                Frame::between("2001:db8:2::80", "2001:db8:f::1").udp(53, 500),
            ),
        ] {
            let out = headers(&pass(&memory, &syn.build()).unwrap()).tuple;
            assert_eq!(out.src, addr("2001:db8:f::1"));
            let back = headers(&pass(&memory, &answer.build()).unwrap()).tuple;
            assert_eq!(back.dst, addr("2001:db8:1::2"));
        }
    }

    #[test]
    fn netmap_changes_the_network_and_keeps_the_host() {
        let mut order = to(Kind::Netmap, "198.51.100.0", "0.0.0.0");
        order.last = Addr::mask(Family::Ipv4, 24);
        let memory = gateway(Chain::NatPostrouting, &[(order, Rule::default())]);
        let out = pass(&memory, &frame((CLIENT, 40_000), (SERVER, 80), SYN)).unwrap();
        assert_eq!(ends(&out), "198.51.100.2:40000 > 192.0.2.80:80");
    }
}

mod destination {
    use super::*;

    fn forwarding() -> Memory {
        let order = with_ports(to(Kind::Destination, INNER, INNER), 8_080, 8_080);
        gateway(Chain::NatPrerouting, &[(order, towards(PUBLIC, 80))])
    }

    #[test]
    fn a_connection_to_the_public_address_reaches_the_inner_server() {
        let memory = forwarding();
        let (verdict, _) =
            memory.cross(Hook::Ingress, 1, &frame((SERVER, 40_000), (PUBLIC, 80), SYN), NOW);
        assert_eq!(verdict, Verdict::Accept(Chain::Forward), "routed anew");
        let answer = pass(&memory, &frame((INNER, 8_080), (SERVER, 40_000), SYN | ACK)).unwrap();
        assert_eq!(ends(&answer), "203.0.113.1:80 > 192.0.2.80:40000");
        let next = pass(&memory, &frame((SERVER, 40_000), (PUBLIC, 80), ACK)).unwrap();
        assert_eq!(ends(&next), "192.0.2.80:40000 > 10.0.1.5:8080");
        let (key, flow) = only_flow(&memory);
        assert_eq!(text(&flow.wire_original(&key)), "192.0.2.80:40000 > 203.0.113.1:80");
        assert!(flow.has(status::DESTINATION_TRANSLATED) && !flow.has(status::SOURCE_TRANSLATED));
    }

    #[test]
    fn the_filter_sees_the_inner_server() {
        let mut memory = forwarding();
        let drop = Rule { target: Target::Drop as u8, ..towards(INNER, 8_080) };
        let first = memory.rules.len() as u32;
        memory.rules.extend([Rule { chain_end: first + 1, ..drop }, memory.rules[0]]);
        memory.header.entries[0][Chain::Forward as usize] = first;
        let refused = Verdict::Drop(DropReason::Rule);
        assert_eq!(pass(&memory, &frame((SERVER, 40_000), (PUBLIC, 80), SYN)), Err(refused));
        assert_eq!(memory.flow_count(), 0);
    }

    #[test]
    fn one_client_at_two_public_addresses_has_two_connections_to_the_server() {
        let order = to(Kind::Destination, INNER, INNER);
        let memory = gateway(Chain::NatPrerouting, &[(order, Rule::default())]);
        for public in ["203.0.113.1", "203.0.113.2"] {
            let syn = frame((SERVER, 40_000), (public, 80), SYN);
            let inside = headers(&pass(&memory, &syn).unwrap()).tuple;
            let answer = frame((INNER, 80), (SERVER, inside.sport), SYN | ACK);
            let back = pass(&memory, &answer).unwrap();
            assert_eq!(ends(&back), format!("{public}:80 > 192.0.2.80:40000"));
            let again = pass(&memory, &frame((SERVER, 40_000), (public, 80), ACK)).unwrap();
            assert_eq!(headers(&again).tuple.sport, inside.sport);
        }
        assert_eq!(memory.flow_count(), 2);
    }

    #[test]
    fn who_calls_the_inner_server_itself_from_the_same_port_has_a_second_connection() {
        let memory = forwarding();
        let mut ports = Vec::new();
        for called in [(PUBLIC, 80), (INNER, 8_080)] {
            let syn = frame((SERVER, 40_000), called, SYN);
            let inside = headers(&pass(&memory, &syn).unwrap()).tuple;
            assert_eq!((inside.dst, inside.dport), (addr(INNER), 8_080));
            ports.push(inside.sport);
            let answer = frame((INNER, 8_080), (SERVER, inside.sport), SYN | ACK);
            let back = pass(&memory, &answer).unwrap();
            assert_eq!(ends(&back), format!("{}:{} > 192.0.2.80:40000", called.0, called.1));
        }
        assert!(ports[0] == 40_000 && ports[1] != 40_000, "{ports:?}");
        for (called, port) in [(PUBLIC, 80), (INNER, 8_080)].into_iter().zip(ports) {
            let next = pass(&memory, &frame((SERVER, 40_000), called, ACK)).unwrap();
            assert_eq!(headers(&next).tuple.sport, port);
        }
        assert_eq!(memory.flow_count(), 2);
    }

    /// As the kernel calls it, which gives that one another source port.
    #[test]
    fn the_second_connection_has_its_source_translated_and_not_its_destination() {
        const DNAT: u32 = 1 << 6;
        const SNAT: u32 = 1 << 5;
        let mut memory = forwarding();
        memory.header.needs |= need::FACTS;
        let states = |memory: &Memory| memory.scratch().facts.number(number::CT_TRANSLATED, true);
        let begun = pass(&memory, &frame((SERVER, 40_000), (PUBLIC, 80), SYN)).unwrap();
        assert_eq!(
            (ends(&begun), states(&memory)),
            ("192.0.2.80:40000 > 10.0.1.5:8080".into(), DNAT)
        );
        let called = (INNER, 8_080);
        let twin = pass(&memory, &frame((SERVER, 40_000), called, SYN)).unwrap();
        assert_eq!(states(&memory), 0);
        let port = headers(&twin).tuple.sport;
        pass(&memory, &frame(called, (SERVER, port), SYN | ACK)).unwrap();
        assert_eq!(states(&memory), SNAT);
        pass(&memory, &frame((SERVER, 40_000), called, ACK)).unwrap();
        assert_eq!(states(&memory), SNAT);
        let told = |(_, key, flow): &(_, FlowKey, Flow)| flow.translations(key);
        let mut told: Vec<_> = memory.flows().iter().map(told).collect();
        told.sort_unstable();
        assert_eq!(told, [status::SOURCE_TRANSLATED, status::DESTINATION_TRANSLATED]);
    }

    #[test]
    fn the_second_connection_through_a_synproxy_leaves_the_first_alone() {
        let mut memory = forwarding();
        let first = memory.rules.len() as u32;
        let own = towards(INNER, 8_080);
        let [untrack, accept] = [Target::Untrack, Target::Accept].map(|it| it as u8);
        let proxy = Rule {
            target: Target::Proxy as u8,
            tcp_mask: SYN | ACK | RST,
            tcp_flags: SYN,
            present: own.present | condition::TCP_FLAGS | condition::STATES,
            states: CtState::Untracked.bit(),
            argument: Offer { mss: 1_400, scale: 7, present: 0 }.pack(),
            ..own
        };
        let syn = Rule { present: own.present | condition::TCP_FLAGS, ..proxy };
        memory.rules.extend([
            Rule { target: untrack, chain_end: first + 1, ..syn },
            Rule { flags: flag::POLICY, target: accept, ..Rule::default() },
            Rule { chain_end: first + 3, ..proxy },
            Rule { flags: flag::POLICY, target: accept, ..Rule::default() },
        ]);
        for family in &mut memory.header.entries {
            family[Chain::RawPrerouting as usize] = first;
            family[Chain::Forward as usize] = first + 2;
        }
        memory.header.has_proxy = 1;
        pass(&memory, &frame((SERVER, 40_000), (PUBLIC, 80), SYN)).unwrap();
        pass(&memory, &frame((INNER, 8_080), (SERVER, 40_000), SYN | ACK)).unwrap();
        let (key, flow) = only_flow(&memory);

        let segment = |flags, seq, ack| {
            let frame = Frame::between(SERVER, INNER).tcp_at(40_000, 8_080, flags, seq, ack);
            memory.carry(&frame.build(), NOW)
        };
        let asked = segment(SYN, 9_000, 0);
        assert_eq!(asked.verdict, Verdict::Cookie);
        let cookie = headers(&asked.back.unwrap()).seq;
        let proven = segment(ACK, 9_001, cookie.wrapping_add(1));
        assert!(proven.onward.is_some(), "{:?}", proven.verdict);
        let flows = memory.flows();
        assert_eq!(flows.len(), 2, "{flows:?}");
        let (_, former) = memory.known(&key).unwrap();
        assert_eq!(former, flow);
        let second = flows.iter().find(|(_, other, _)| *other != key).unwrap();
        assert!(second.2.has(status::PROXIED));
        assert_eq!(text(&second.2.wire_original(&second.1)), "192.0.2.80:40000 > 10.0.1.5:8080");
    }

    #[test]
    fn who_says_more_past_the_wire_face_is_invalid() {
        let memory = forwarding();
        pass(&memory, &frame((SERVER, 40_000), (PUBLIC, 80), SYN)).unwrap();
        let before = only_flow(&memory);
        let past = frame((SERVER, 40_000), (INNER, 8_080), ACK);
        assert_eq!(pass(&memory, &past).unwrap(), past);
        let invalid = CtState::Invalid.bit();
        assert_eq!(memory.scratch().walk.ctstate, invalid);
        assert_eq!(only_flow(&memory), before);
    }

    #[test]
    fn what_is_untracked_is_no_second_connection() {
        let mut memory = forwarding();
        pass(&memory, &frame((SERVER, 40_000), (PUBLIC, 80), SYN)).unwrap();
        let first = memory.rules.len() as u32;
        let untrack =
            Rule { target: Target::Untrack as u8, chain_end: first + 1, ..Rule::default() };
        memory.rules.extend([untrack, memory.rules[0]]);
        memory.header.entries[0][Chain::RawPrerouting as usize] = first;
        let past = frame((SERVER, 40_000), (INNER, 8_080), SYN);
        assert_eq!(pass(&memory, &past).unwrap(), past);
        assert_eq!(memory.flow_count(), 1);
    }

    #[test]
    fn a_client_of_the_same_network_needs_both_ends_translated() {
        let mut memory = forwarding();
        add(&mut memory, Chain::NatPostrouting, &[(order(Kind::Masquerade), from("10.0.1.9"))]);
        let out = pass(&memory, &frame(("10.0.1.9", 40_000), (PUBLIC, 80), SYN)).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40000 > 10.0.1.5:8080");
        let back = pass(&memory, &frame((INNER, 8_080), (PUBLIC, 40_000), SYN | ACK)).unwrap();
        assert_eq!(ends(&back), "203.0.113.1:80 > 10.0.1.9:40000");
    }

    #[test]
    fn redirect_leads_to_this_host() {
        let order = with_ports(order(Kind::Redirect), 3_128, 3_128);
        let memory = gateway(Chain::NatPrerouting, &[(order, towards(SERVER, 80))]);
        let syn = frame((CLIENT, 40_000), (SERVER, 80), SYN);
        let (verdict, bytes) = memory.cross(Hook::Ingress, 1, &syn, NOW);
        assert_eq!(verdict, Verdict::Accept(Chain::Input));
        assert_eq!(ends(&bytes), "10.0.0.2:40000 > 203.0.113.1:3128");
        let answer = frame((PUBLIC, 3_128), (CLIENT, 40_000), SYN | ACK);
        let out = pass_at(&memory, Hook::Egress, &answer, NOW).unwrap();
        assert_eq!(ends(&out), "192.0.2.80:80 > 10.0.0.2:40000");
    }

    #[test]
    fn own_connections_are_led_elsewhere_and_their_answers_come_as_from_there() {
        let order = to(Kind::Destination, INNER, INNER);
        let memory = gateway(Chain::NatOutput, &[(order, towards(SERVER, 80))]);
        let syn = frame((PUBLIC, 40_000), (SERVER, 80), SYN);
        let out = pass_at(&memory, Hook::Egress, &syn, NOW).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40000 > 10.0.1.5:80");
        let back = pass(&memory, &frame((INNER, 80), (PUBLIC, 40_000), SYN | ACK)).unwrap();
        assert_eq!(ends(&back), "192.0.2.80:80 > 203.0.113.1:40000");
        let ack = frame((PUBLIC, 40_000), (SERVER, 80), ACK);
        let out = pass_at(&memory, Hook::Egress, &ack, NOW).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40000 > 10.0.1.5:80");
    }

    #[test]
    fn a_connection_that_begins_anew_is_translated_by_the_rules_of_then() {
        let mut memory = forwarding();
        let exchange = [
            frame((SERVER, 40_000), (PUBLIC, 80), SYN),
            frame((INNER, 8_080), (SERVER, 40_000), SYN | ACK),
            frame((SERVER, 40_000), (PUBLIC, 80), ACK),
            frame((SERVER, 40_000), (PUBLIC, 80), RST | ACK),
        ];
        for frame in exchange {
            pass(&memory, &frame).unwrap();
        }
        let other = to(Kind::Destination, "10.0.1.6", "10.0.1.6");
        memory.extras[0].arguments = other.words();
        let syn = Frame::between(SERVER, PUBLIC).tcp_at(40_000, 80, SYN, 900_000, 0).build();
        let out = pass(&memory, &syn).unwrap();
        assert_eq!(ends(&out), "192.0.2.80:40000 > 10.0.1.6:8080");
        assert_eq!(memory.flow_count(), 1);
    }

    #[test]
    fn what_is_untracked_is_not_translated() {
        let mut memory = forwarding();
        let first = memory.rules.len() as u32;
        let untrack =
            Rule { target: Target::Untrack as u8, chain_end: first + 1, ..Rule::default() };
        memory.rules.extend([untrack, memory.rules[0]]);
        memory.header.entries[0][Chain::RawPrerouting as usize] = first;
        let syn = frame((SERVER, 40_000), (PUBLIC, 80), SYN);
        assert_eq!(ends(&pass(&memory, &syn).unwrap()), "192.0.2.80:40000 > 203.0.113.1:80");
        assert_eq!(memory.flow_count(), 0);
    }
}

/// What was announced over a control connection to port 21: as nf_nat_follow_master does it.
mod announced {
    use firewall_common::{
        control::option,
        expectation::{Expectation, ExpectationKey},
        flow::{helper, protocol},
    };

    use super::*;

    const FTP: u16 = 21;
    const TFTP: u16 = 69;
    const CONTROL: u16 = 39_000;
    const DNAT: u32 = 1 << 6;
    const SNAT: u32 = 1 << 5;

    /// To a port, wherever.
    fn to_port(port: u16) -> Rule {
        let dport = PortRange { first: port, last: port };
        Rule { present: condition::DPORT, dport, ..Rule::default() }
    }

    /// Clients inside call servers outside.
    fn masquerading_ftp() -> Memory {
        let memory = gateway(
            Chain::NatPostrouting,
            &[(order(Kind::Masquerade), to_port(FTP)), (order(Kind::Masquerade), Rule::default())],
        );
        with_control(memory, (SERVER, FTP))
    }

    /// Clients outside, or inside, call [`PUBLIC`], and reach [`INNER`].
    fn forwarding_ftp() -> Memory {
        let order = to(Kind::Destination, INNER, INNER);
        let elsewhere = to(Kind::Destination, "10.0.1.99", "10.0.1.99");
        let orders = [(order, towards(PUBLIC, FTP)), (elsewhere, Rule::default())];
        with_control(gateway(Chain::NatPrerouting, &orders), (PUBLIC, FTP))
    }

    fn with_control(mut memory: Memory, called: (&str, u16)) -> Memory {
        memory.header.needs |= need::FACTS;
        memory.options.bits |= option::UDP_EXPECTED | option::PASSAGES;
        pass(&memory, &frame((CLIENT, CONTROL), called, SYN)).unwrap();
        memory
    }

    fn hole(src: &str, dst: &str, dport: u16, protocol: u8) -> ExpectationKey {
        ExpectationKey { src: addr(src), dst: addr(dst), dport, protocol, _pad: 0 }
    }

    /// The control connection, which is the flow to this port, announces `hole`, as packets to it
    /// come in, and where it leads if that is elsewhere.
    fn announce(
        memory: &Memory,
        control: u16,
        hole: ExpectationKey,
        inside: Option<(&str, u16)>,
    ) -> ExpectationKey {
        let ends = |(_, key, flow): &(_, FlowKey, Flow)| (key.tuple(flow.originator()), *flow);
        let mut flows = memory.flows().iter().map(ends).collect::<Vec<_>>().into_iter();
        let (tuple, flow) = flows.find(|(tuple, _)| tuple.dport == control).unwrap();
        let (inside, inside_port) =
            inside.map_or((Addr::ANY, 0), |(host, port)| (addr(host), port));
        let expectation = Expectation {
            expires: Nanos(u64::MAX),
            master: tuple,
            master_created: flow.created,
            helper: flow.helper,
            inside,
            inside_port,
            ..Expectation::default()
        };
        memory.expectations.borrow_mut().insert(hole, expectation);
        hole
    }

    fn data(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
        frame(from, to, SYN)
    }

    /// Packets that each rule of table nat has counted, before the policy.
    fn counted(memory: &Memory) -> [u64; 2] {
        let is_order =
            |index: &u32| memory.rules[*index as usize].target == Target::Translate as u8;
        let orders: Vec<_> = (0..memory.rules.len() as u32).filter(is_order).collect();
        [orders[0], orders[1]].map(|index| memory.rule_counter(index).packets)
    }

    fn states(memory: &Memory) -> u32 {
        assert_eq!(memory.scratch().walk.ctstate, CtState::Related.bit());
        memory.scratch().facts.number(number::CT_TRANSLATED, true)
    }

    #[test]
    fn a_client_behind_a_masquerade_of_port_21_fetches_with_the_address_that_the_server_knows() {
        let memory = masquerading_ftp();
        announce(&memory, FTP, hole(CLIENT, SERVER, 50_000, protocol::TCP), None);
        let out = pass(&memory, &data((CLIENT, 40_001), (SERVER, 50_000))).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40001 > 192.0.2.80:50000");
        assert_eq!(counted(&memory), [1, 0], "table nat has seen the control connection alone");
        assert_eq!(states(&memory), SNAT);
        let back = pass(&memory, &frame((SERVER, 50_000), (PUBLIC, 40_001), SYN | ACK)).unwrap();
        assert_eq!(ends(&back), "192.0.2.80:50000 > 10.0.0.2:40001");
    }

    #[test]
    fn a_server_connects_to_the_masqueraded_client() {
        let memory = masquerading_ftp();
        let told = hole(SERVER, PUBLIC, 4_001, protocol::TCP);
        announce(&memory, FTP, told, Some((CLIENT, 4_000)));
        let in_ = pass(&memory, &data((SERVER, 20), (PUBLIC, 4_001))).unwrap();
        assert_eq!(ends(&in_), "192.0.2.80:20 > 10.0.0.2:4000");
        assert_eq!(counted(&memory), [1, 0]);
        assert_eq!(states(&memory), DNAT);
        let original = memory.scratch().facts.address(address::CT_DESTINATION);
        assert_eq!(original, addr(PUBLIC), "--ctorigdst is what was called");
        let back = pass(&memory, &frame((CLIENT, 4_000), (SERVER, 20), SYN | ACK)).unwrap();
        assert_eq!(ends(&back), "203.0.113.1:4001 > 192.0.2.80:20");
    }

    #[test]
    fn a_client_of_a_forwarded_server_is_led_there_whatever_port_it_was_told() {
        let memory = forwarding_ftp();
        let told = hole(CLIENT, PUBLIC, 50_001, protocol::TCP);
        announce(&memory, FTP, told, Some((INNER, 50_000)));
        let in_ = pass(&memory, &data((CLIENT, 40_001), (PUBLIC, 50_001))).unwrap();
        assert_eq!(ends(&in_), "10.0.0.2:40001 > 10.0.1.5:50000");
        assert_eq!(counted(&memory), [1, 0]);
        assert_eq!(states(&memory), DNAT);
        let back = pass(&memory, &frame((INNER, 50_000), (CLIENT, 40_001), SYN | ACK)).unwrap();
        assert_eq!(ends(&back), "203.0.113.1:50001 > 10.0.0.2:40001");
    }

    #[test]
    fn a_forwarded_server_connects_with_the_address_that_its_client_has_called() {
        let memory = forwarding_ftp();
        announce(&memory, FTP, hole(INNER, CLIENT, 4_000, protocol::TCP), None);
        let out = pass(&memory, &data((INNER, 20), (CLIENT, 4_000))).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:20 > 10.0.0.2:4000");
        assert_eq!(counted(&memory), [1, 0], "PREROUTING is not asked where to lead it");
        assert_eq!(states(&memory), SNAT);
        let back = pass(&memory, &frame((CLIENT, 4_000), (PUBLIC, 20), SYN | ACK)).unwrap();
        assert_eq!(ends(&back), "10.0.0.2:4000 > 10.0.1.5:20");
    }

    #[test]
    fn both_ends_follow_where_both_are_translated() {
        let order_in = to(Kind::Destination, INNER, INNER);
        let mut memory = gateway(Chain::NatPrerouting, &[(order_in, towards(PUBLIC, FTP))]);
        add(&mut memory, Chain::NatPostrouting, &[(order(Kind::Masquerade), to_port(FTP))]);
        let memory = with_control(memory, (PUBLIC, FTP));
        let told = hole(CLIENT, PUBLIC, 50_000, protocol::TCP);
        announce(&memory, FTP, told, Some((INNER, 50_000)));
        let out = pass(&memory, &data((CLIENT, 40_001), (PUBLIC, 50_000))).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40001 > 10.0.1.5:50000");
        assert_eq!(states(&memory), SNAT | DNAT);
        let told = hole(INNER, PUBLIC, 4_000, protocol::TCP);
        announce(&memory, FTP, told, Some((CLIENT, 4_000)));
        let out = pass(&memory, &data((INNER, 20), (PUBLIC, 4_000))).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:20 > 10.0.0.2:4000");
        assert_eq!(counted(&memory), [1, 1]);
    }

    #[test]
    fn over_an_untranslated_control_connection_table_nat_is_asked() {
        let order_out = [(order(Kind::Masquerade), to_port(50_000))];
        let mut memory = gateway(Chain::NatPostrouting, &order_out);
        add(&mut memory, Chain::NatPrerouting, &[(order(Kind::Masquerade), to_port(9))]);
        let memory = with_control(memory, (SERVER, FTP));
        announce(&memory, FTP, hole(CLIENT, SERVER, 50_000, protocol::TCP), None);
        let out = pass(&memory, &data((CLIENT, 40_001), (SERVER, 50_000))).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:40001 > 192.0.2.80:50000");
        assert_eq!(counted(&memory), [1, 0]);
        assert_eq!(states(&memory), 0, "POSTROUTING comes later");
    }

    #[test]
    fn a_port_that_another_flow_or_a_socket_has_is_not_used_twice() {
        let mut memory = masquerading_ftp();
        pass(&memory, &data(("10.0.0.3", 40_001), (SERVER, 50_000))).unwrap();
        for own in [40_001, 40_002] {
            memory.sockets = vec![(6, 40_002)];
            announce(&memory, FTP, hole(CLIENT, SERVER, 50_000, protocol::TCP), None);
            let out = pass(&memory, &data((CLIENT, own), (SERVER, 50_000))).unwrap();
            let left = headers(&out).tuple;
            assert_eq!(left.src, addr(PUBLIC));
            assert!(left.sport != own && left.sport >= 1_024, "{}", text(&left));
            let answer = frame((SERVER, 50_000), (PUBLIC, left.sport), SYN | ACK);
            let back = headers(&pass(&memory, &answer).unwrap()).tuple;
            assert_eq!((back.dst, back.dport), (addr(CLIENT), own));
        }
    }

    #[test]
    fn who_is_led_beside_a_flow_with_the_same_inner_ends_gets_another_source_port() {
        let orders =
            [(order(Kind::Masquerade), to_port(FTP)), (order(Kind::Masquerade), to_port(9))];
        let memory = with_control(gateway(Chain::NatPostrouting, &orders), (SERVER, FTP));
        // Straight to the client, past the gateway's address.
        pass(&memory, &data((SERVER, 20), (CLIENT, 4_000))).unwrap();
        let mut ports = vec![20];
        for told in [4_001, 4_002] {
            let told = hole(SERVER, PUBLIC, told, protocol::TCP);
            announce(&memory, FTP, told, Some((CLIENT, 4_000)));
            let in_ = pass(&memory, &data((SERVER, 20), (PUBLIC, told.dport))).unwrap();
            let led = headers(&in_).tuple;
            assert_eq!((led.src, led.dst, led.dport), (addr(SERVER), addr(CLIENT), 4_000));
            let back = frame((CLIENT, 4_000), (SERVER, led.sport), SYN | ACK);
            let back = pass(&memory, &back).unwrap();
            assert_eq!(ends(&back), format!("203.0.113.1:{} > 192.0.2.80:20", told.dport));
            ports.push(led.sport);
        }
        assert!(ports[0] != ports[1] && ports[0] != ports[2] && ports[1] != ports[2], "{ports:?}");
        let back = pass(&memory, &frame((CLIENT, 4_000), (SERVER, 20), SYN | ACK)).unwrap();
        assert_eq!(ends(&back), "10.0.0.2:4000 > 192.0.2.80:20", "the first one is as it was");
    }

    #[test]
    fn how_a_third_host_is_reached_the_rules_know_and_who_calls_it_has_its_name() {
        let memory = forwarding_ftp();
        announce(&memory, FTP, hole(INNER, "198.51.100.7", 4_000, protocol::TCP), None);
        let out = pass(&memory, &data((INNER, 20), ("198.51.100.7", 4_000))).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:20 > 10.0.1.99:4000");
        assert_eq!(counted(&memory), [1, 1]);
    }

    #[test]
    fn a_range_of_ports_of_a_forwarded_server_leads_to_the_same_ports() {
        let memory = forwarding_ftp();
        let range =
            announce(&memory, FTP, hole(CLIENT, PUBLIC, 0, protocol::TCP), Some((INNER, 50_000)));
        let mut all = memory.expectations.borrow_mut();
        let entry = all.get_mut(&range).unwrap();
        (entry.first_port, entry.last_port) = (50_000, 50_100);
        drop(all);
        for port in [50_000, 50_100] {
            let in_ = pass(&memory, &data((CLIENT, 40_001), (PUBLIC, port))).unwrap();
            assert_eq!(ends(&in_), format!("10.0.0.2:40001 > 10.0.1.5:{port}"));
        }
        assert_eq!(counted(&memory), [1, 0]);
        let beside = pass(&memory, &data((CLIENT, 40_001), (PUBLIC, 50_101))).unwrap();
        assert_eq!(ends(&beside), "10.0.0.2:40001 > 10.0.1.99:50101", "by the rules");
    }

    /// A client inside asks a server outside for a file.
    fn masquerading_tftp() -> Memory {
        let orders =
            [(order(Kind::Masquerade), to_port(TFTP)), (order(Kind::Masquerade), Rule::default())];
        let mut memory = gateway(Chain::NatPostrouting, &orders);
        memory.helper_ports.insert(TFTP, helper::TFTP);
        memory.options.bits |= option::UDP_EXPECTED;
        let request = Frame::between(CLIENT, SERVER).udp(2_070, TFTP).payload(b"\0\x01a\0octet\0");
        let out = pass(&memory, &request.build()).unwrap();
        assert_eq!(ends(&out), "203.0.113.1:2070 > 192.0.2.80:69");
        memory
    }

    fn answer_to(port: u16) -> Vec<u8> {
        Frame::between(SERVER, PUBLIC).udp(3_000, port).payload(b"data").build()
    }

    #[test]
    fn a_datagram_of_the_hosts_own_flow_is_led_nowhere() {
        let memory = masquerading_tftp();
        assert_eq!(
            ends(&pass(&memory, &answer_to(2_070)).unwrap()),
            "192.0.2.80:3000 > 203.0.113.1:2070"
        );
        let told = hole(SERVER, PUBLIC, 2_070, protocol::UDP);
        announce(&memory, TFTP, told, Some((CLIENT, 2_070)));
        assert_eq!(
            ends(&pass(&memory, &answer_to(2_070)).unwrap()),
            "192.0.2.80:3000 > 203.0.113.1:2070"
        );
    }

    #[test]
    fn an_answer_beside_a_flow_with_its_inner_ends_is_related_too() {
        let memory = masquerading_tftp();
        for port in [2_070, 2_071] {
            let told = hole(SERVER, PUBLIC, port, protocol::UDP);
            announce(&memory, TFTP, told, Some((CLIENT, 2_070)));
            let in_ = headers(&pass(&memory, &answer_to(port)).unwrap()).tuple;
            assert_eq!((in_.dst, in_.dport), (addr(CLIENT), 2_070));
            assert_eq!(memory.scratch().walk.ctstate, CtState::Related.bit(), "{port}");
        }
    }

    #[test]
    fn an_answer_by_tftp_finds_the_masqueraded_client() {
        let memory = masquerading_tftp();
        let told = hole(SERVER, PUBLIC, 2_070, protocol::UDP);
        announce(&memory, TFTP, told, Some((CLIENT, 2_070)));
        let data = answer_to(2_070);
        let in_ = pass(&memory, &data).unwrap();
        assert_eq!(ends(&in_), "192.0.2.80:3000 > 10.0.0.2:2070");
        assert_eq!(counted(&memory), [1, 0]);
        let back = Frame::between(CLIENT, SERVER).udp(2_070, 3_000).payload(b"ok").build();
        assert_eq!(ends(&pass(&memory, &back).unwrap()), "203.0.113.1:2070 > 192.0.2.80:3000");
        assert_eq!(ends(&pass(&memory, &data).unwrap()), "192.0.2.80:3000 > 10.0.0.2:2070");
    }
}

mod errors {
    use super::*;

    const ROUTER: &str = "198.18.0.1";

    #[test]
    fn an_error_about_a_masqueraded_packet_reaches_its_client() {
        let memory = masquerading();
        let sent = Frame::between(CLIENT, SERVER).tcp(40_000, 80, SYN).payload(b"x");
        pass(&memory, &sent.build()).unwrap();
        let on_the_wire = Frame::between(PUBLIC, SERVER).tcp(40_000, 80, SYN).payload(b"x");
        let error = Frame::between(ROUTER, PUBLIC).icmp_error(3, 4, &on_the_wire).build();
        let back = pass(&memory, &error).unwrap();
        let outer = headers(&back);
        assert_eq!((outer.tuple.src, outer.tuple.dst), (addr(ROUTER), addr(CLIENT)));
        let mut inner = Headers::default();
        inner.parse(&back[outer.payload as usize..], false).unwrap();
        assert_eq!(text(&inner.tuple), "10.0.0.2:40000 > 192.0.2.80:80");
    }

    #[test]
    fn an_error_of_an_inner_router_comes_as_from_the_public_address() {
        let order = with_ports(to(Kind::Destination, INNER, INNER), 8_080, 8_080);
        let memory = gateway(Chain::NatPrerouting, &[(order, Rule::default())]);
        let sent = Frame::between(SERVER, PUBLIC).udp(5_000, 80).payload(b"odd");
        pass(&memory, &sent.build()).unwrap();
        let inside = Frame::between(SERVER, INNER).udp(5_000, 8_080).payload(b"odd");
        let error = Frame::between("10.0.1.1", SERVER).icmp_error(3, 1, &inside).build();
        let back = pass(&memory, &error).unwrap();
        let outer = headers(&back);
        assert_eq!((outer.tuple.src, outer.tuple.dst), (addr(PUBLIC), addr(SERVER)));
        let mut inner = Headers::default();
        inner.parse(&back[outer.payload as usize..], false).unwrap();
        assert_eq!(text(&inner.tuple), "192.0.2.80:5000 > 203.0.113.1:80");
    }

    #[test]
    fn an_ipv6_error_covers_what_it_quotes() {
        let order = to(Kind::Source, "2001:db8:f::1", "2001:db8:f::1");
        let memory = gateway(Chain::NatPostrouting, &[(order, Rule::default())]);
        let (client, server) = ("2001:db8:1::2", "2001:db8:2::80");
        let sent = |src| Frame::between(src, server).udp(5_000, 53).payload(b"data");
        pass(&memory, &sent(client).build()).unwrap();
        let error = Frame::between("2001:db8:3::1", "2001:db8:f::1");
        let error = error.icmp_error(2, 0, &sent("2001:db8:f::1")).build();
        let back = pass(&memory, &error).unwrap();
        let outer = headers(&back);
        assert_eq!(outer.tuple.dst, addr(client));
        let mut inner = Headers::default();
        inner.parse(&back[outer.payload as usize..], false).unwrap();
        assert_eq!(inner.tuple.src, addr(client));
    }
}

mod fragments {
    use super::*;

    #[test]
    fn later_ones_are_translated_as_their_first() {
        let order = to(Kind::Destination, INNER, INNER);
        let mut memory = gateway(Chain::NatPrerouting, &[(order, towards(PUBLIC, 53))]);
        add(
            &mut memory,
            Chain::NatPostrouting,
            &[(to(Kind::Source, "10.0.1.1", "10.0.1.1"), Rule::default())],
        );
        let first = Frame::between(SERVER, PUBLIC).udp(5_000, 53).payload(&[1; 16]);
        let later = Frame::between(SERVER, PUBLIC).protocol(17).payload(&[2; 20]);
        let out = pass(&memory, &first.fragment(0, true, 7).build()).unwrap();
        assert_eq!(ends(&out), "10.0.1.1:5000 > 10.0.1.5:53");
        let out = headers(&pass(&memory, &later.fragment(3, false, 7).build()).unwrap()).tuple;
        assert_eq!((out.src, out.dst), (addr("10.0.1.1"), addr(INNER)));
    }
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
