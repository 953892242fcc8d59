//! What was announced over a control connection to port 21: as nf_nat_follow_master does it.

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
    let (inside, inside_port) = inside.map_or((Addr::ANY, 0), |(host, port)| (addr(host), port));
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
    let is_order = |index: &u32| memory.rules[*index as usize].target == Target::Translate as u8;
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
    let orders = [(order(Kind::Masquerade), to_port(FTP)), (order(Kind::Masquerade), to_port(9))];
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
