//! The short way beside the long one: two hosts' tables that begin alike, and the same
//! frames. Where the short way takes a frame, the flow and every counter must be in the end
//! as the long way leaves them.

use firewall_common::{
    addr::Addr,
    control::option,
    flow::{Flow, FlowKey, Tuple, protocol, status},
    hop::{Hop, Way, station},
    rule::{Chain, Rule, RulesetHeader, Target, flag},
    tables::{FlowTable, Tables},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::{STAT_PLACES, Stat, Verdict},
    wire::tcp_flag::{ACK, FIN, PSH, RST, SYN, URG},
};
use proptest::{collection::vec, prelude::*};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
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
    dscp: 0,
    _pad: 0,
};

/// A rule that counts, a rule that accepts, and a hop that is known.
fn gateway(change: impl FnOnce(&mut Memory)) -> Memory {
    Memory::with(|memory| {
        memory.add_device(1, OURS);
        memory.hop = Some(HOP);
        let counts = Rule { target: Target::Continue as u8, ..Rule::default() };
        let accepts = Rule { target: Target::Accept as u8, ..Rule::default() };
        let policy = Rule { flags: flag::POLICY, target: Target::Drop as u8, ..Rule::default() };
        memory.rules = vec![counts, accepts, policy];
        memory.header = RulesetHeader::of_filter(0);
        change(memory);
    })
}

fn to_server(flags: u8, seq: u32, ack: u32) -> Frame {
    Frame::between(CLIENT, SERVER).tcp_at(40_000, 80, flags, seq, ack)
}

fn to_client(flags: u8, seq: u32, ack: u32) -> Frame {
    Frame::between(SERVER, CLIENT).tcp_at(80, 40_000, flags, seq, ack)
}

/// What the SYNs offer: SACK permitted, a scale of 2.
const OFFER: [u8; 8] = [4, 2, 1, 3, 3, 2, 1, 1];
const TIMESTAMP: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

/// The frames with which a connection begins.
fn handshake(options: &[u8]) -> [Frame; 4] {
    [
        to_server(SYN, 1_000, 0).tcp_options(options),
        to_client(SYN | ACK, 5_000, 1_001).tcp_options(options),
        to_server(ACK, 1_001, 5_001),
        to_client(ACK, 5_001, 1_001),
    ]
}

/// A gateway behind a handshake, the verdict of both directions remembered.
fn connected(options: &[u8], change: impl FnOnce(&mut Memory)) -> Memory {
    let memory = gateway(change);
    for frame in handshake(options).iter().chain(&handshake(options)[2..]) {
        assert_eq!(memory.filter(&frame.build(), NOW), FORWARDED);
    }
    memory
}

fn key() -> FlowKey {
    key_of(protocol::TCP)
}

fn key_of(protocol: u8) -> FlowKey {
    let [src, dst] = [CLIENT, SERVER].map(|text| text.parse::<std::net::IpAddr>().unwrap().into());
    let ports = Tuple { sport: 40_000, dport: 80, protocol, ..Tuple::default() };
    FlowKey::of(&Tuple { src, dst, ..ports }).0
}

fn flow(memory: &Memory) -> Option<Flow> {
    let mut flow = memory.known(&key())?.1;
    for side in &mut flow.sides {
        side.way = Way::default();
    }
    Some(flow)
}

/// The counters; the adapter counts what leaves by redirect.
fn counters(memory: &Memory) -> ([u64; STAT_PLACES], [(u64, u64); 3]) {
    let mut stats = memory.stats();
    stats[Stat::ForwardFast as usize] = 0;
    stats[Stat::ForwardShort as usize] = 0;
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
    fn frame(&self) -> Vec<u8> {
        let (seq, ack) = if self.is_reply { (5_001, 1_001) } else { (1_001, 5_001) };
        let (seq, ack) = (offset(seq, self.seq), offset(ack, self.ack));
        let frame = if self.is_reply { to_client } else { to_server }(self.flags, seq, ack);
        let frame = frame.window(self.window).tcp_options(self.options).ttl(self.ttl);
        let mut bytes = frame.payload(&vec![7; self.len]).build();
        bytes[15] = self.tos;
        bytes[24..26].fill(0);
        let words = bytes[14..34].chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        bytes[24..26]
            .copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
        bytes
    }
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

prop_compose! {
    fn settings()(liberal: bool, retransmissions in 0_u8..4, has_offer: bool) -> (u32, u8, bool) {
        (if liberal { option::TCP_BE_LIBERAL } else { 0 }, retransmissions, has_offer)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_short_way_leads_where_the_long_one_does(
        steps in vec(step(), 1..40),
        (bits, retransmissions, has_offer) in settings(),
    ) {
        let options: &[u8] = if has_offer { &OFFER } else { &[] };
        let change = |memory: &mut Memory| {
            memory.options.bits |= bits;
            memory.options.tcp_max_retrans = retransmissions;
        };
        let (short, long) = (connected(options, change), connected(options, change));
        let mut now = NOW;
        for step in &steps {
            now = now.after(Nanos::from_millis(step.wait));
            let frame = step.frame();
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

fn datagram(is_reply: bool, len: usize) -> Frame {
    let frame = match is_reply {
        true => Frame::between(SERVER, CLIENT).udp(80, 40_000),
        false => Frame::between(CLIENT, SERVER).udp(40_000, 80),
    };
    frame.payload(&vec![7; len])
}

fn exchange_key() -> FlowKey {
    key_of(protocol::UDP)
}

fn exchange(memory: &Memory) -> Option<Flow> {
    let mut flow = memory.known(&exchange_key())?.1;
    for side in &mut flow.sides {
        side.way = Way::default();
    }
    Some(flow)
}

proptest! {
    #[test]
    fn so_it_does_with_datagrams(
        steps in vec((any::<bool>(), 0_usize..1_500, 0_u64..40_000, 0_u8..20), 1..40),
    ) {
        let (short, long) = (gateway(|_| {}), gateway(|_| {}));
        let mut now = NOW;
        for &(is_reply, len, wait, spoil) in &steps {
            now = now.after(Nanos::from_millis(wait));
            let mut frame = datagram(is_reply, len).build();
            if spoil < 4 {
                // Of the lengths that the headers tell, or their checksums.
                frame[[17, 39, 25, 41][usize::from(spoil)]] ^= 1;
            }
            let expected = long.filter(&frame, now);
            let verdict = match short.follow(&frame, now) {
                true => FORWARDED,
                false => short.filter(&frame, now),
            };
            prop_assert_eq!(verdict, expected);
            prop_assert_eq!(exchange(&short), exchange(&long));
            prop_assert_eq!(counters(&short), counters(&long));
        }
    }
}

fn data() -> Frame {
    to_server(ACK | PSH, 1_001, 5_001).payload(b"data")
}

/// Whether the short way takes a frame, without a trace where it does not.
fn takes(memory: &Memory, frame: &[u8]) -> bool {
    let before = (flow(memory), counters(memory));
    let is_taken = memory.follow(frame, NOW);
    assert_eq!(is_taken, before != (flow(memory), counters(memory)), "a trace, or none");
    is_taken
}

fn change_flow(memory: &Memory, change: impl FnOnce(&mut Flow)) {
    change(memory.flow(FlowTable::Assured, &key()).expect("a confirmed flow"));
}

mod taken {
    use super::*;

    #[test]
    fn data_and_acknowledgements_of_a_confirmed_connection() {
        let memory = connected(&OFFER, |_| {});
        assert!(takes(&memory, &data().build()));
        assert!(takes(&memory, &to_server(ACK, 1_005, 5_001).build()));
        assert!(takes(&memory, &to_client(ACK, 5_001, 1_005).tcp_options(&TIMESTAMP).build()));
        assert_eq!(memory.stat(Stat::ForwardShort as u32), 3);
        let flow = flow(&memory).unwrap();
        assert_eq!((flow.sides[0].packets, flow.sides[1].packets), (5, 4));
    }

    #[test]
    fn the_data_connection_that_a_helper_has_announced() {
        let memory = connected(&OFFER, |_| {});
        change_flow(&memory, |flow| {
            flow.helper = 1;
            flow.status |= status::EXPECTED;
        });
        assert!(takes(&memory, &data().build()));
    }

    #[test]
    fn datagrams_of_a_stream() {
        let memory = gateway(|_| {});
        let later = NOW.after(Nanos::from_secs(3));
        for (is_reply, at) in [(false, NOW), (true, NOW), (false, later)] {
            assert!(!memory.follow(&datagram(is_reply, 30).build(), at));
            memory.filter(&datagram(is_reply, 30).build(), at);
        }
        for is_reply in [false, true] {
            assert!(memory.follow(&datagram(is_reply, 30).build(), later));
        }
    }

    #[test]
    fn what_is_addressed_as_somebody_elses_wire_face() {
        let memory = connected(&OFFER, |_| {});
        let server: Addr = SERVER.parse::<std::net::IpAddr>().unwrap().into();
        memory.note_face(&server);
        assert!(takes(&memory, &data().build()));
    }

    #[test]
    fn padding_behind_the_segment() {
        let memory = connected(&OFFER, |_| {});
        let mut frame = to_server(ACK, 1_001, 5_001).build();
        frame.resize(60, 0);
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
        let memory = connected(&OFFER, |_| {});
        for flags in [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, ACK | URG, 0, PSH] {
            goes(&memory, &to_server(flags, 1_001, 5_001));
        }
    }

    #[test]
    fn is_for_other_packets_than_plain_ipv4() {
        let memory = connected(&OFFER, |_| {});
        goes(&memory, &data().vlan(5));
        goes(&memory, &data().ttl(1));
        goes(&memory, &data().options(&[1, 1, 1, 1]));
        goes(&memory, &data().fragment(0, true, 9));
        goes(&memory, &data().fragment(8, false, 9));
        goes(&memory, &Frame::between(CLIENT, SERVER).udp(40_000, 80));
        goes(&memory, &Frame::between("2001:db8::1", "2001:db8::2").tcp(40_000, 80, ACK));
        goes(&memory, &data().macs([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]));
    }

    #[test]
    fn is_for_frames_that_are_cut_or_wrong() {
        let memory = connected(&OFFER, |_| {});
        let whole = data().build();
        for len in 0..whole.len() {
            assert!(!takes(&memory, &whole[..len]), "{len} bytes");
        }
        for (at, value) in [(24, 1), (46, 0x40), (46, 0xf0), (14, 0x46), (14, 0x44), (17, 20)] {
            let mut wrong = whole.clone();
            wrong[at] ^= value;
            assert!(!takes(&memory, &wrong), "byte {at}");
        }
    }

    #[test]
    fn is_for_options_that_tracking_reads() {
        let memory = connected(&OFFER, |_| {});
        goes(&memory, &data().tcp_options(&[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]));
        goes(&memory, &data().tcp_options(&[1, 1, 1, 1]));
    }

    #[test]
    fn is_for_checksums_that_hardware_was_to_finish() {
        let memory = connected(&OFFER, |_| {});
        let mut frame = data().build();
        let addresses = frame[26..34].chunks(2);
        let sum: u32 = addresses.map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
        let sum = sum + 6 + (frame.len() as u32 - 34);
        frame[50..52].copy_from_slice(&(((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        assert!(!takes(&memory, &frame));
    }

    #[test]
    fn is_for_flows_of_which_more_is_to_be_done() {
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
            let memory = connected(&OFFER, |_| {});
            change_flow(&memory, change);
            goes(&memory, &data());
        }
    }

    #[test]
    fn is_for_flows_that_nobody_has_confirmed() {
        let memory = gateway(|_| {});
        for frame in &handshake(&OFFER)[..2] {
            memory.filter(&frame.build(), NOW);
        }
        goes(&memory, &data());
    }

    #[test]
    fn is_for_what_no_verdict_is_remembered_of() {
        let mut memory = connected(&OFFER, |_| {});
        memory.generation += 1;
        goes(&memory, &data());
        memory.filter(&data().build(), NOW);
        assert!(takes(&memory, &data().build()));
    }

    #[test]
    fn is_for_segments_outside_the_window() {
        let memory = connected(&OFFER, |_| {});
        goes(&memory, &to_server(ACK, 900_000_000, 5_001));
        goes(&memory, &to_server(ACK, 1_001, 900_000_000));
    }

    #[test]
    fn is_for_rehearsals() {
        let mut memory = connected(&OFFER, |_| {});
        memory.options.bits |= option::REHEARSAL;
        goes(&memory, &data());
    }

    #[test]
    fn is_for_packets_that_the_hop_does_not_take() {
        let changes: [fn(&mut Hop); 6] = [
            |hop| hop.mtu = 43,
            |hop| hop.dscp = 4,
            |hop| hop.station += 1,
            |hop| hop.in_ifindex = 3,
            |hop| hop.out_ifindex = 3,
            |hop| hop.station = 0,
        ];
        for change in changes {
            let mut memory = connected(&OFFER, |_| {});
            memory.hop.as_mut().map(change);
            goes(&memory, &data());
        }
        let mut memory = connected(&OFFER, |_| {});
        memory.hop = None;
        goes(&memory, &data());
    }
}

mod the_routing_table {
    use super::*;

    fn asked(memory: &Memory, now: Nanos) -> u32 {
        let before = memory.confirmed.get();
        assert!(memory.follow(&data().build(), now));
        memory.confirmed.get() - before
    }

    #[test]
    fn is_asked_once_within_a_moment_and_again_within_a_second() {
        let memory = connected(&OFFER, |_| {});
        assert_eq!(asked(&memory, NOW), 1);
        assert_eq!(asked(&memory, NOW), 0);
        let later = NOW.after(Nanos::from_secs(1));
        assert_eq!((asked(&memory, later), asked(&memory, later)), (1, 0));
    }

    #[test]
    fn is_asked_for_each_direction() {
        let memory = connected(&OFFER, |_| {});
        assert_eq!(asked(&memory, NOW), 1);
        assert!(memory.follow(&to_client(ACK, 5_001, 1_005).build(), NOW));
        assert_eq!(memory.confirmed.get(), 2);
    }

    #[test]
    fn is_asked_behind_every_news() {
        let mut memory = connected(&OFFER, |_| {});
        assert_eq!(asked(&memory, NOW), 1);
        memory.epoch = memory.epoch.wrapping_add(1);
        assert_eq!((asked(&memory, NOW), asked(&memory, NOW)), (1, 0));
    }

    #[test]
    fn is_not_asked_for_each_packet_where_none_is_redirected() {
        let mut memory = connected(&OFFER, |_| {});
        memory.redirects = false;
        let asked = |memory: &Memory| {
            let before = memory.confirmed.get();
            assert!(!memory.follow(&data().build(), NOW));
            memory.confirmed.get() - before
        };
        assert_eq!((asked(&memory), asked(&memory)), (1, 0));
        memory.redirects = true;
        assert_eq!(asked(&memory), 0, "nobody has heard of it");
        memory.epoch += 1;
        assert!(memory.follow(&data().build(), NOW));
    }

    #[test]
    fn is_asked_again_when_it_has_no_hop() {
        let mut memory = connected(&OFFER, |_| {});
        assert_eq!(asked(&memory, NOW), 1);
        memory.epoch += 1;
        memory.hop = None;
        assert!(!memory.follow(&data().build(), NOW));
        memory.hop = Some(HOP);
        assert_eq!(asked(&memory, NOW), 1);
    }
}
