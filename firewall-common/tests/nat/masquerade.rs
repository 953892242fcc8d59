//! MASQUERADE: the address of the interface, and a port of its own for each connection.

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
