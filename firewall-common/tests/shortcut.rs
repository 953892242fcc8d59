//! The short way beside the long one: two hosts' tables that begin alike, and the same
//! frames. Where the short way takes a frame, the flow and every counter must be in the end
//! as the long way leaves them.

use std::net::{IpAddr, Ipv4Addr};

use firewall_common::{
    addr::Addr,
    control::option,
    flow::{Flow, FlowKey, protocol, status},
    hop::{self, Exit, Hop, Way, station},
    rule::{Chain, Rule, RulesetHeader, Target, flag},
    tables::{FlowTable, Tables},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::{STAT_PLACES, Stat, Verdict},
    wire::tcp_flag::{ACK, FIN, PSH, RST, SYN, URG},
};
use proptest::{collection::vec, prelude::*};

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NOW: Nanos = Nanos::from_secs(1_000);
const FORWARDED: Verdict = Verdict::Accept(Chain::Forward);

const HOP: Hop = Hop {
    claim: 0,
    station: station(OURS),
    in_ifindex: 1,
    out_ifindex: 2,
    addresses: [0; 3],
    mtu: 1_500,
    class: 0,
    exit: Exit::Redirect as u8,
};

/// The family of client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Net {
    V4,
    V6,
}

use Net::{V4, V6};

impl Net {
    const ALL: [Self; 2] = [V4, V6];

    const fn client(self) -> &'static str {
        match self {
            V4 => "192.0.2.2",
            V6 => "2001:db8:1::2",
        }
    }

    const fn server(self) -> &'static str {
        match self {
            V4 => "198.51.100.2",
            V6 => "2001:db8:2::2",
        }
    }

    const fn hop(self) -> Hop {
        match self {
            V4 => HOP,
            V6 => Hop { class: hop::IPV6, ..HOP },
        }
    }

    /// Where the transport header begins.
    const fn l4(self) -> usize {
        match self {
            V4 => 34,
            V6 => 54,
        }
    }

    /// The last byte of the length in the IP header.
    const fn length(self) -> usize {
        match self {
            V4 => 17,
            V6 => 19,
        }
    }

    fn to_server(self) -> Frame {
        Frame::between(self.client(), self.server())
    }

    fn to_client(self) -> Frame {
        Frame::between(self.server(), self.client())
    }
}

/// Has packets leave so.
fn leave_by(memory: &mut Memory, exit: Exit) {
    memory.exit = exit;
    memory.hop = memory.hop.map(|hop| Hop { exit: exit as u8, ..hop });
}

/// A rule that counts, a rule that accepts, and a hop that is known.
fn gateway(net: Net, change: impl FnOnce(&mut Memory)) -> Memory {
    Memory::with(|memory| {
        memory.add_device(1, OURS);
        memory.hop = Some(net.hop());
        let counts = Rule { target: Target::Continue as u8, ..Rule::default() };
        let accepts = Rule { target: Target::Accept as u8, ..Rule::default() };
        let policy = Rule { flags: flag::POLICY, target: Target::Drop as u8, ..Rule::default() };
        memory.rules = vec![counts, accepts, policy];
        memory.header = RulesetHeader::of_filter(0);
        change(memory);
    })
}

fn to_server(net: Net, flags: u8, seq: u32, ack: u32) -> Frame {
    net.to_server().tcp_at(40_000, 80, flags, seq, ack)
}

fn to_client(net: Net, flags: u8, seq: u32, ack: u32) -> Frame {
    net.to_client().tcp_at(80, 40_000, flags, seq, ack)
}

/// What the SYNs offer: SACK permitted, a scale of 2.
const OFFER: [u8; 8] = [4, 2, 1, 3, 3, 2, 1, 1];
const TIMESTAMP: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

/// The frames with which a connection begins.
fn handshake(net: Net, options: &[u8]) -> [Frame; 4] {
    [
        to_server(net, SYN, 1_000, 0).tcp_options(options),
        to_client(net, SYN | ACK, 5_000, 1_001).tcp_options(options),
        to_server(net, ACK, 1_001, 5_001),
        to_client(net, ACK, 5_001, 1_001),
    ]
}

/// A gateway behind a handshake, the verdict of both directions remembered.
fn connected(net: Net, options: &[u8], change: impl FnOnce(&mut Memory)) -> Memory {
    let memory = gateway(net, change);
    for frame in handshake(net, options).iter().chain(&handshake(net, options)[2..]) {
        assert_eq!(memory.filter(&frame.build(), NOW), FORWARDED);
    }
    memory
}

/// The only flow, if there is one, but for what it remembers of routes.
fn flow(memory: &Memory) -> Option<(FlowTable, FlowKey, Flow)> {
    let (table, key, mut flow) = memory.flows().pop()?;
    assert_eq!(memory.flow_count(), 1, "other flows");
    for side in &mut flow.sides {
        side.way = Way::default();
    }
    Some((table, key, flow))
}

/// The counters; the adapter counts how it leaves.
fn counters(memory: &Memory) -> ([u64; STAT_PLACES], [(u64, u64); 3]) {
    let mut stats = memory.stats();
    for stat in [Stat::ForwardFast, Stat::ForwardShort, Stat::ForwardStack] {
        stats[stat as usize] = 0;
    }
    let rules = [0, 1, 2].map(|rule| {
        let counter = memory.rule_counter(rule);
        (counter.packets, counter.bytes)
    });
    (stats, rules)
}

/// A segment of a running connection; numbers are relative to where the handshake ended.
#[derive(Clone, Debug)]
struct Step {
    is_reply: bool,
    flags: u8,
    seq: i32,
    ack: i32,
    window: u16,
    len: usize,
    options: &'static [u8],
    ttl: u8,
    tos: u8,
    /// Milliseconds since the segment before.
    wait: u64,
}

impl Step {
    fn frame(&self, net: Net) -> Vec<u8> {
        let (seq, ack) = if self.is_reply { (5_001, 1_001) } else { (1_001, 5_001) };
        let (seq, ack) = (offset(seq, self.seq), offset(ack, self.ack));
        let frame = if self.is_reply { to_client } else { to_server }(net, self.flags, seq, ack);
        let frame = frame.window(self.window).tcp_options(self.options).ttl(self.ttl);
        let mut bytes = frame.payload(&vec![7; self.len]).build();
        match net {
            V4 => {
                bytes[15] = self.tos;
                bytes[24..26].fill(0);
                let sum = sum(&bytes[14..34]);
                bytes[24..26].copy_from_slice(&(!sum).to_be_bytes());
            }
            V6 => {
                bytes[14] |= self.tos >> 4;
                // And some flow label.
                bytes[15] = self.tos << 4 | 5;
            }
        }
        bytes
    }
}

/// Of words in network byte order, of even length.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

const fn offset(start: u32, by: i32) -> u32 {
    start.wrapping_add_signed(by)
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => 0..6_000,
        3 => -3_000..300_000,
        1 => -200_000..0,
        1 => any::<i32>(),
    ]
}

fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![
        20 => Just(ACK),
        5 => Just(ACK | PSH),
        1 => prop_oneof![Just(FIN | ACK), Just(RST), Just(RST | ACK), Just(SYN), Just(SYN | ACK)],
        1 => prop_oneof![Just(ACK | URG), Just(0), Just(SYN | FIN)],
    ]
}

prop_compose! {
    fn step()(
        is_reply: bool,
        flags in flags(),
        seq in number(),
        ack in number(),
        window in prop_oneof![4 => any::<u16>(), 1 => Just(0)],
        len in prop_oneof![2 => Just(0_usize), 3 => 1_usize..1_400, 1 => 1_400_usize..1_500],
        options in prop_oneof![
            Just(&[][..]),
            Just(&TIMESTAMP[..]),
            Just(&[1, 1, 5, 10, 0, 0, 0x20, 0, 0, 0, 0x30, 0][..]),
            Just(&[1; 12][..]),
        ],
        ttl in prop_oneof![9 => Just(64_u8), 1 => 0_u8..3],
        tos in prop_oneof![6 => Just(0_u8), 1 => 0_u8..4, 1 => Just(0x20_u8)],
        wait in prop_oneof![5 => 0_u64..10, 1 => 0_u64..4_000, 1 => 200_000_u64..600_000_000],
    ) -> Step {
        Step { is_reply, flags, seq, ack, window, len, options, ttl, tos, wait }
    }
}

fn exit() -> impl Strategy<Value = Exit> {
    prop::sample::select(&[Exit::Redirect, Exit::Stack][..])
}

fn net() -> impl Strategy<Value = Net> {
    prop::sample::select(&Net::ALL[..])
}

prop_compose! {
    fn settings()(liberal: bool, retransmissions in 0_u8..4, has_offer: bool) -> (u32, u8, bool) {
        (if liberal { option::TCP_BE_LIBERAL } else { 0 }, retransmissions, has_offer)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn the_short_way_leads_where_the_long_one_does(
        net in net(),
        exit in exit(),
        steps in vec(step(), 1..40),
        (bits, retransmissions, has_offer) in settings(),
    ) {
        let options: &[u8] = if has_offer { &OFFER } else { &[] };
        let change = |memory: &mut Memory| {
            memory.options.bits |= bits;
            memory.options.tcp_max_retrans = retransmissions;
            leave_by(memory, exit);
        };
        let (short, long) = (connected(net, options, change), connected(net, options, change));
        let mut now = NOW;
        for step in &steps {
            now = now.after(Nanos::from_millis(step.wait));
            let frame = step.frame(net);
            let expected = long.filter(&frame, now);
            let verdict = match short.follow(&frame, now) {
                true => FORWARDED,
                false => short.filter(&frame, now),
            };
            prop_assert_eq!(verdict, expected, "{:?}", step);
            prop_assert_eq!(flow(&short), flow(&long), "{:?}", step);
            prop_assert_eq!(counters(&short), counters(&long), "{:?}", step);
        }
    }
}

fn datagram(net: Net, is_reply: bool, len: usize) -> Frame {
    let frame = match is_reply {
        true => net.to_client().udp(80, 40_000),
        false => net.to_server().udp(40_000, 80),
    };
    frame.payload(&vec![7; len])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn so_it_does_with_datagrams(
        net in net(),
        exit in exit(),
        steps in vec((any::<bool>(), 0_usize..1_500, 0_u64..40_000, 0_u8..20), 1..40),
    ) {
        let [short, long] = [(); 2].map(|()| gateway(net, |memory| leave_by(memory, exit)));
        let mut now = NOW;
        for &(is_reply, len, wait, spoil) in &steps {
            now = now.after(Nanos::from_millis(wait));
            let mut frame = datagram(net, is_reply, len).build();
            let checksum = net.l4() + 6;
            match spoil {
                // The lengths that the headers tell, or their checksums.
                0 => frame[net.length()] ^= 1,
                1 => frame[net.l4() + 5] ^= 1,
                2 if net == V4 => frame[25] ^= 1,
                3 => frame[checksum + 1] ^= 1,
                // None, which IPv6 does not allow.
                4 => frame[checksum..checksum + 2].fill(0),
                _ => {}
            }
            let expected = long.filter(&frame, now);
            let verdict = match short.follow(&frame, now) {
                true => FORWARDED,
                false => short.filter(&frame, now),
            };
            prop_assert_eq!(verdict, expected);
            prop_assert_eq!(flow(&short), flow(&long));
            prop_assert_eq!(counters(&short), counters(&long));
        }
    }
}

fn data(net: Net) -> Frame {
    to_server(net, ACK | PSH, 1_001, 5_001).payload(b"data")
}

/// Whether the short way takes a frame, without a trace where it does not.
fn takes(memory: &Memory, frame: &[u8]) -> bool {
    let before = (flow(memory), counters(memory));
    let is_taken = memory.follow(frame, NOW);
    assert_eq!(is_taken, before != (flow(memory), counters(memory)), "a trace, or none");
    is_taken
}

/// Data with a checksum that its sender has left to hardware.
fn unfinished(net: Net) -> Vec<u8> {
    let mut frame = data(net).build();
    let (l4, addresses) = (net.l4(), if net == V4 { 26..34 } else { 22..54 });
    let len = (frame.len() - l4) as u16;
    let pseudo = [&frame[addresses], &[0, protocol::TCP], &len.to_be_bytes()].concat();
    frame[l4 + 16..l4 + 18].copy_from_slice(&sum(&pseudo).to_be_bytes());
    frame
}

fn change_flow(memory: &Memory, change: impl FnOnce(&mut Flow)) {
    let (table, key, _) = flow(memory).expect("a flow");
    assert_eq!(table, FlowTable::Assured);
    change(memory.flow(table, &key).expect("the same"));
}

mod taken {
    use super::*;

    #[test]
    fn data_and_acknowledgements_of_a_confirmed_connection() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            assert!(takes(&memory, &data(net).build()));
            assert!(takes(&memory, &to_server(net, ACK, 1_005, 5_001).build()));
            assert!(takes(
                &memory,
                &to_client(net, ACK, 5_001, 1_005).tcp_options(&TIMESTAMP).build()
            ));
            assert_eq!(memory.stat(Stat::ForwardShort as u32), 3);
            let (_, _, flow) = flow(&memory).unwrap();
            assert_eq!((flow.sides[0].packets, flow.sides[1].packets), (5, 4));
        }
    }

    #[test]
    fn what_the_stack_sends_on_whatever_hardware_was_to_do_with_it() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |memory| leave_by(memory, Exit::Stack));
            let joined = to_server(net, ACK, 1_001, 5_001).payload(&[7; 4_000]);
            assert!(takes(&memory, &joined.build()));
            assert!(takes(&memory, &unfinished(net)));
            let counted = [Stat::ForwardStack, Stat::AcceptForward, Stat::CacheHit];
            let [stack, accepted, hit] = counted.map(|stat| memory.stat(stat as u32));
            assert_eq!((stack, accepted, hit), (2, 8, 4));
            assert_eq!(memory.stat(Stat::ForwardShort as u32), 0);
        }
    }

    #[test]
    fn the_data_connection_that_a_helper_has_announced() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            change_flow(&memory, |flow| {
                flow.helper = 1;
                flow.status |= status::EXPECTED;
            });
            assert!(takes(&memory, &data(net).build()));
        }
    }

    #[test]
    fn datagrams_of_a_stream() {
        for net in Net::ALL {
            let memory = gateway(net, |_| {});
            let later = NOW.after(Nanos::from_secs(3));
            for (is_reply, at) in [(false, NOW), (true, NOW), (false, later)] {
                assert!(!memory.follow(&datagram(net, is_reply, 30).build(), at));
                memory.filter(&datagram(net, is_reply, 30).build(), at);
            }
            for is_reply in [false, true] {
                assert!(memory.follow(&datagram(net, is_reply, 30).build(), later));
            }
        }
    }

    #[test]
    fn what_is_addressed_as_somebody_elses_wire_face() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            let server: Addr = net.server().parse::<IpAddr>().unwrap().into();
            memory.note_face(&server);
            assert!(takes(&memory, &data(net).build()));
        }
    }

    #[test]
    fn padding_behind_the_segment() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            let mut frame = to_server(net, ACK, 1_001, 5_001).build();
            frame.resize(frame.len() + 6, 0);
            assert!(takes(&memory, &frame));
        }
    }

    #[test]
    fn segments_of_any_class_of_ipv6() {
        let memory = connected(V6, &OFFER, |_| {});
        let mut frame = data(V6).build();
        frame[14] |= 0xb;
        frame[15] = 0x85;
        assert!(takes(&memory, &frame));
    }
}

mod the_long_way {
    use super::*;

    fn goes(memory: &Memory, frame: &Frame) {
        assert!(!takes(memory, &frame.build()), "{frame:?}");
    }

    #[test]
    fn is_for_what_begins_or_ends_a_connection_or_is_urgent() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            for flags in [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, ACK | URG, 0, PSH] {
                goes(&memory, &to_server(net, flags, 1_001, 5_001));
            }
        }
    }

    #[test]
    fn is_for_other_packets_than_plain_ones() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            goes(&memory, &data(net).vlan(5));
            goes(&memory, &data(net).ttl(1));
            goes(
                &memory,
                &match net {
                    V4 => data(net).options(&[1, 1, 1, 1]),
                    V6 => data(net).extension(protocol::DESTINATION_OPTIONS),
                },
            );
            goes(&memory, &data(net).fragment(0, true, 9));
            goes(&memory, &data(net).fragment(8, false, 9));
            goes(&memory, &net.to_server().udp(40_000, 80));
            goes(&memory, &data(if net == V4 { V6 } else { V4 }));
            goes(&memory, &data(net).macs([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]));
        }
    }

    #[test]
    fn is_for_frames_that_are_cut_or_wrong() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            let whole = data(net).build();
            for len in 0..whole.len() {
                assert!(!takes(&memory, &whole[..len]), "{len} bytes");
            }
            let offset = net.l4() + 12;
            let of_ip: &[(usize, u8)] = match net {
                V4 => &[(24, 1), (14, 0x46), (14, 0x44), (17, 20)],
                V6 => {
                    &[(14, 0x20), (18, 1), (19, 8), (19, 1), (19, data(net).build()[19]), (20, 1)]
                }
            };
            for &(at, value) in of_ip.iter().chain(&[(offset, 0x40), (offset, 0xf0)]) {
                let mut wrong = whole.clone();
                wrong[at] ^= value;
                assert!(!takes(&memory, &wrong), "byte {at}");
            }
        }
    }

    #[test]
    fn is_for_options_that_tracking_reads() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            goes(&memory, &data(net).tcp_options(&[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]));
            goes(&memory, &data(net).tcp_options(&[1, 1, 1, 1]));
        }
    }

    #[test]
    fn is_for_checksums_that_hardware_was_to_finish() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            assert!(!takes(&memory, &unfinished(net)));
        }
    }

    #[test]
    fn is_for_datagrams_of_ipv6_without_a_checksum() {
        for (net, is_taken) in [(V4, true), (V6, false)] {
            let memory = gateway(net, |_| {});
            let later = NOW.after(Nanos::from_secs(3));
            for (is_reply, at) in [(false, NOW), (true, NOW), (false, later)] {
                memory.filter(&datagram(net, is_reply, 30).build(), at);
            }
            let mut frame = datagram(net, false, 30).build();
            frame[net.l4() + 6..net.l4() + 8].fill(0);
            assert_eq!(memory.follow(&frame, later), is_taken);
        }
    }

    #[test]
    fn is_for_addresses_of_ipv4_in_ipv6() {
        let memory = connected(V4, &OFFER, |memory| memory.hop = Some(V6.hop()));
        let mapped = |host: &str| host.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped().octets();
        let mut frame = data(V6).build();
        frame[22..38].copy_from_slice(&mapped(V4.client()));
        frame[38..54].copy_from_slice(&mapped(V4.server()));
        assert!(!takes(&memory, &frame));
    }

    #[test]
    fn is_for_flows_of_which_more_is_to_be_done() {
        for net in Net::ALL {
            let changes: [fn(&mut Flow); 7] = [
                |flow| flow.status |= status::PROXIED,
                |flow| flow.status |= status::DESTINATION_TRANSLATED,
                |flow| flow.status &= !status::SEEN_REPLY,
                |flow| flow.status &= !status::ASSURED,
                |flow| flow.helper = 1,
                |flow| flow.state += 1,
                |flow| flow.expires = NOW,
            ];
            for change in changes {
                let memory = connected(net, &OFFER, |_| {});
                change_flow(&memory, change);
                goes(&memory, &data(net));
            }
        }
    }

    #[test]
    fn is_for_flows_that_nobody_has_confirmed() {
        for net in Net::ALL {
            let memory = gateway(net, |_| {});
            for frame in &handshake(net, &OFFER)[..2] {
                memory.filter(&frame.build(), NOW);
            }
            goes(&memory, &data(net));
        }
    }

    #[test]
    fn is_for_what_no_verdict_is_remembered_of() {
        for net in Net::ALL {
            let mut memory = connected(net, &OFFER, |_| {});
            memory.generation += 1;
            goes(&memory, &data(net));
            memory.filter(&data(net).build(), NOW);
            assert!(takes(&memory, &data(net).build()));
        }
    }

    #[test]
    fn is_for_segments_outside_the_window() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            goes(&memory, &to_server(net, ACK, 900_000_000, 5_001));
            goes(&memory, &to_server(net, ACK, 1_001, 900_000_000));
        }
    }

    #[test]
    fn is_for_rehearsals() {
        for net in Net::ALL {
            let mut memory = connected(net, &OFFER, |_| {});
            memory.options.bits |= option::REHEARSAL;
            goes(&memory, &data(net));
        }
    }

    #[test]
    fn is_for_packets_that_the_hop_does_not_take() {
        for net in Net::ALL {
            let changes: [fn(&mut Hop); 8] = [
                |hop| hop.exit = Exit::Stack as u8,
                |hop| hop.mtu -= 1,
                |hop| hop.class ^= 4,
                |hop| hop.class ^= hop::IPV6,
                |hop| hop.station += 1,
                |hop| hop.in_ifindex = 3,
                |hop| hop.out_ifindex = 3,
                |hop| hop.station = 0,
            ];
            for change in changes {
                let len = data(net).without_ethernet().build().len() as u16;
                let barely = |memory: &mut Memory| memory.hop = Some(Hop { mtu: len, ..net.hop() });
                let mut memory = connected(net, &OFFER, barely);
                assert!(takes(&memory, &data(net).build()));
                memory.hop.as_mut().map(change);
                goes(&memory, &to_server(net, ACK | PSH, 1_005, 5_001).payload(b"more"));
            }
            let mut memory = connected(net, &OFFER, |_| {});
            memory.hop = None;
            goes(&memory, &data(net));
        }
    }
}

mod the_routing_table {
    use super::*;

    fn asked(net: Net, memory: &Memory, now: Nanos) -> u32 {
        let before = memory.confirmed.get();
        assert!(memory.follow(&data(net).build(), now));
        memory.confirmed.get() - before
    }

    #[test]
    fn is_asked_once_within_a_moment_and_again_within_a_second() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            assert_eq!(asked(net, &memory, NOW), 1);
            assert_eq!(asked(net, &memory, NOW), 0);
            let later = NOW.after(Nanos::from_secs(1));
            assert_eq!((asked(net, &memory, later), asked(net, &memory, later)), (1, 0));
        }
    }

    #[test]
    fn is_asked_for_each_direction() {
        for net in Net::ALL {
            let memory = connected(net, &OFFER, |_| {});
            assert_eq!(asked(net, &memory, NOW), 1);
            assert!(memory.follow(&to_client(net, ACK, 5_001, 1_005).build(), NOW));
            assert_eq!(memory.confirmed.get(), 2);
        }
    }

    #[test]
    fn is_asked_behind_every_news() {
        for net in Net::ALL {
            let mut memory = connected(net, &OFFER, |_| {});
            assert_eq!(asked(net, &memory, NOW), 1);
            memory.epoch = memory.epoch.wrapping_add(1);
            assert_eq!((asked(net, &memory, NOW), asked(net, &memory, NOW)), (1, 0));
        }
    }

    #[test]
    fn is_not_asked_for_each_packet_where_none_is_redirected() {
        for net in Net::ALL {
            let mut memory = connected(net, &OFFER, |_| {});
            memory.redirects = false;
            let asked = |memory: &Memory| {
                let before = memory.confirmed.get();
                assert!(!memory.follow(&data(net).build(), NOW));
                memory.confirmed.get() - before
            };
            assert_eq!((asked(&memory), asked(&memory)), (1, 0));
            memory.redirects = true;
            assert_eq!(asked(&memory), 0, "nobody has heard of it");
            memory.epoch += 1;
            assert!(memory.follow(&data(net).build(), NOW));
        }
    }

    #[test]
    fn is_asked_again_when_it_has_no_hop() {
        for net in Net::ALL {
            let mut memory = connected(net, &OFFER, |_| {});
            assert_eq!(asked(net, &memory, NOW), 1);
            memory.epoch += 1;
            memory.hop = None;
            assert!(!memory.follow(&data(net).build(), NOW));
            memory.hop = Some(net.hop());
            assert_eq!(asked(net, &memory, NOW), 1);
        }
    }
}
