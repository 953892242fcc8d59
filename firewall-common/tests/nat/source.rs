//! SNAT to ranges of addresses and ports, NETMAP, and rules that translate nothing.

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
