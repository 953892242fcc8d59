//! DNAT and REDIRECT: to hosts inside, to the gateway itself, and back on the same side.

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
    assert_eq!((ends(&begun), states(&memory)), ("192.0.2.80:40000 > 10.0.1.5:8080".into(), DNAT));
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
    let untrack = Rule { target: Target::Untrack as u8, chain_end: first + 1, ..Rule::default() };
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
    let untrack = Rule { target: Target::Untrack as u8, chain_end: first + 1, ..Rule::default() };
    memory.rules.extend([untrack, memory.rules[0]]);
    memory.header.entries[0][Chain::RawPrerouting as usize] = first;
    let syn = frame((SERVER, 40_000), (PUBLIC, 80), SYN);
    assert_eq!(ends(&pass(&memory, &syn).unwrap()), "192.0.2.80:40000 > 203.0.113.1:80");
    assert_eq!(memory.flow_count(), 0);
}
