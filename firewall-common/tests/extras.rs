//! Rules with extra conditions, by whole packets on tables in memory: which packets fit,
//! and whose verdict is remembered.

use firewall_common::{
    extra::{
        Extra, Test,
        facts::{address, address_type, ct_status, number, packet_type},
        need,
    },
    flow::CtState,
    rule::{Chain, Rule, Target, flag},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::{Stat, Verdict},
    wire::tcp_flag::{ACK, FIN, SYN},
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);

fn to_server(flags: u8) -> Frame {
    Frame::between(CLIENT, SERVER).tcp(40_000, 80, flags)
}

fn to_client(flags: u8) -> Frame {
    Frame::between(SERVER, CLIENT).tcp(80, 40_000, flags)
}

/// One rule that counts what fits the extra, and a policy of ACCEPT.
fn counting(flags: u8, extra: Extra) -> Memory {
    Memory::with(|memory| {
        let rule = Rule { extra_count: 1, flags, chain_end: 1, ..Rule::default() };
        let policy = Rule {
            flags: flag::POLICY,
            target: Target::Accept as u8,
            chain_end: 1,
            ..Rule::default()
        };
        memory.rules = vec![rule, policy];
        memory.extras = vec![extra];
        memory.header.needs = need::FACTS | need::TCP_OPTIONS;
    })
}

fn numbers(test: Test, subject: u8, arguments: [u32; 2]) -> Extra {
    let [a, b] = arguments;
    Extra { test: test as u8, subject, arguments: [a, b, 0, 0, 0, 0, 0, 0], ..Extra::default() }
}

fn is(subject: u8, value: u32) -> Extra {
    numbers(Test::Range, subject, [value, value])
}

/// Whether the rule counts the packet, which passes either way.
fn counts(memory: &Memory, frame: &Frame) -> bool {
    let before = memory.rule_counter(0).packets;
    assert!(matches!(memory.filter(&frame.build(), NOW), Verdict::Accept(_)));
    memory.rule_counter(0).packets > before
}

fn connect(memory: &Memory) -> [bool; 4] {
    [to_server(SYN), to_client(SYN | ACK), to_server(ACK), to_client(ACK)]
        .each_ref()
        .map(|frame| counts(memory, frame))
}

mod hops {
    use super::*;

    fn fits(chain: Chain, hops: u32) -> bool {
        let mut memory = counting(flag::PER_PACKET, is(number::TTL, hops));
        memory.route = match chain {
            Chain::Input => |_| (Chain::Input, 0),
            _ => |_| (Chain::Forward, 2),
        };
        counts(&memory, &to_server(SYN))
    }

    #[test]
    fn are_one_less_in_forward_and_as_they_came_in_input() {
        assert!(fits(Chain::Forward, 63) && !fits(Chain::Forward, 64));
        assert!(fits(Chain::Input, 64) && !fits(Chain::Input, 63));
    }
}

mod connection {
    use super::*;

    #[test]
    fn has_the_direction_of_its_packets() {
        let original = counting(0, is(number::CT_DIRECTION, 0));
        assert_eq!(connect(&original), [true, false, true, false]);
        let reply = counting(0, is(number::CT_DIRECTION, 1));
        assert_eq!(connect(&reply), [false, true, false, true]);
    }

    #[test]
    fn of_an_error_has_the_other_direction_than_what_it_quotes_and_no_reply_by_it() {
        let quoted = Frame::between(CLIENT, SERVER).udp(40_000, 53);
        let error = Frame::between(SERVER, CLIENT).icmp_error(3, 3, &quoted);
        let count = |extra| {
            let memory = counting(flag::PER_PACKET, extra);
            counts(&memory, &quoted);
            counts(&memory, &error)
        };
        assert!(count(is(number::CT_DIRECTION, 1)) && !count(is(number::CT_DIRECTION, 0)));
        assert!(!count(numbers(Test::Any, number::CT_STATUS, [ct_status::SEEN_REPLY, 0])));
    }

    #[test]
    fn keeps_the_port_that_was_called_in_both_directions() {
        let memory = counting(0, is(number::CT_DPORT, 80));
        assert_eq!(connect(&memory), [true; 4]);
    }

    #[test]
    fn has_seen_a_reply_when_the_first_one_comes() {
        let seen = numbers(Test::Any, number::CT_STATUS, [ct_status::SEEN_REPLY, 0]);
        assert_eq!(connect(&counting(flag::PER_PACKET, seen)), [false, true, true, true]);
    }

    #[test]
    fn is_none_of_an_invalid_packet_whatever_is_asked() {
        let invalid = to_server(SYN | ACK);
        for invert in [0, 1] {
            let extra = Extra { invert, ..is(number::CT_PROTOCOL, 6) };
            assert!(!counts(&counting(0, extra), &invalid));
            let with_state = Extra { absent: 1, ..extra };
            assert!(counts(&counting(0, with_state), &invalid));
        }
    }
}

mod verdict {
    use super::*;

    #[test]
    fn behind_a_condition_of_the_connection_is_remembered() {
        let memory = counting(0, is(number::CT_PROTOCOL, 6));
        connect(&memory);
        assert_eq!(memory.stat(Stat::CacheHit as u32), 0, "the first plain ones walk");
        assert!(counts(&memory, &to_client(ACK)));
        assert!(counts(&memory, &to_server(ACK)));
        assert_eq!(memory.stat(Stat::CacheHit as u32), 2, "one of each direction");
    }

    #[test]
    fn that_is_remembered_is_not_for_segments_that_end_the_connection() {
        let memory = counting(0, is(number::CT_PROTOCOL, 6));
        connect(&memory);
        assert!(counts(&memory, &to_server(ACK)));
        assert_eq!(memory.stat(Stat::CacheHit as u32), 1);
        assert!(counts(&memory, &to_server(FIN | ACK)));
        assert_eq!(memory.stat(Stat::CacheHit as u32), 1);
    }

    #[test]
    fn behind_a_condition_of_the_packet_is_not() {
        let memory = counting(flag::PER_PACKET, is(number::LENGTH, 40));
        connect(&memory);
        assert!(counts(&memory, &to_server(ACK)));
        assert_eq!(memory.stat(Stat::CacheHit as u32), 0);
    }
}

#[test]
fn a_limit_lets_its_burst_through_and_no_more() {
    let second = 1_000_000_000;
    let mut limit = Extra { test: Test::Limit as u8, ..Extra::default() };
    limit.arguments[..4].copy_from_slice(&[second, 0, 3 * second, 0]);
    let memory = counting(flag::PER_PACKET, limit);
    let counted = (0..10).filter(|_| counts(&memory, &to_server(SYN))).count();
    assert_eq!(counted, 3);
}

#[test]
fn addresses_are_told_by_themselves_and_by_the_chain() {
    let kind = |bits| numbers(Test::Any, number::DESTINATION_TYPE, [bits, 0]);
    let forwarded =
        |bits, to| counts(&counting(0, kind(bits)), &Frame::between(CLIENT, to).udp(1, 2));
    assert!(forwarded(address_type::UNICAST, SERVER));
    assert!(!forwarded(address_type::LOCAL, SERVER));
    assert!(forwarded(address_type::BROADCAST, "255.255.255.255"));
    assert!(forwarded(address_type::MULTICAST, "224.0.0.251"));
    let mut memory = counting(0, kind(address_type::LOCAL));
    memory.route = |_| (Chain::Input, 0);
    assert!(counts(&memory, &Frame::between(CLIENT, SERVER).udp(1, 2)));
}

#[test]
fn a_frame_to_one_station_is_unicast() {
    let kind = numbers(Test::Any, number::PACKET_TYPE, [packet_type::UNICAST, 0]);
    assert!(counts(&counting(flag::PER_PACKET, kind), &to_server(SYN)));
}

#[test]
fn a_packet_that_raw_leaves_untracked_has_no_connection() {
    let mut extra =
        Extra { test: Test::Network as u8, subject: address::CT_SOURCE, ..Extra::default() };
    extra.arguments = [0; 8];
    let mut memory = counting(0, extra);
    assert!(counts(&memory, &to_server(SYN)), "any address fits while it is tracked");
    // Table raw in front: NOTRACK, then its policy.
    let raw = memory.rules.len() as u32;
    let untrack = Rule { target: Target::Untrack as u8, chain_end: raw + 1, ..Rule::default() };
    let policy = Rule { chain_end: raw + 1, ..memory.rules[1] };
    memory.rules.extend([untrack, policy]);
    memory.header.entries[0][Chain::RawPrerouting as usize] = raw;
    assert!(!counts(&memory, &to_server(ACK)));
    assert_eq!(memory.scratch().walk.ctstate, CtState::Untracked.bit());
}
