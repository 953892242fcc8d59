//! `-m connlimit`, `-m hashlimit`, `-m time` and `-m string` by whole packets on tables in
//! memory.

use firewall_common::{
    extra::{
        Extra, Test,
        bucket::mode,
        calendar::{ALL_MONTHDAYS, ALL_WEEKDAYS, LAST_SECOND},
        facts::address,
        need,
        text::Pattern,
    },
    rule::{Rule, Target, flag},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::Verdict,
    wire::tcp_flag::{ACK, RST, SYN},
};

const WHOLE: [u32; 4] = [u32::MAX; 4];

/// A rule with this condition and this target, and a policy of ACCEPT.
fn memory(extra: Extra, target: Target) -> Memory {
    Memory::with(|memory| {
        let (target, flags) = (target as u8, flag::PER_PACKET);
        let rule = Rule { extra_count: 1, flags, target, chain_end: 1, ..Rule::default() };
        let (target, flags) = (Target::Accept as u8, flag::POLICY);
        memory.rules = vec![rule, Rule { target, flags, chain_end: 1, ..Rule::default() }];
        memory.extras = vec![extra];
        memory.header.needs = need::FACTS | need::CLOCK | need::WINDOW;
    })
}

fn passes(memory: &Memory, frame: &Frame, second: u64) -> bool {
    let verdict = memory.filter(&frame.build(), Nanos::from_secs(1_000 + second));
    matches!(verdict, Verdict::Accept(_))
}

mod connections {
    use super::*;

    /// More than two of one source are dropped.
    fn at_most_two() -> Memory {
        let [a, b, c, d] = WHOLE;
        let arguments = [1, 0, 2, 0, a, b, c, d];
        let (test, subject) = (Test::Connections as u8, address::SOURCE);
        memory(Extra { test, subject, arguments, ..Extra::default() }, Target::Drop)
    }

    fn syn(from: &str, port: u16) -> Frame {
        Frame::between(from, "198.51.100.2").tcp(40_000 + port, 80, SYN)
    }

    #[test]
    fn a_source_has_as_many_as_it_may_and_another_has_its_own() {
        let memory = at_most_two();
        assert!(passes(&memory, &syn("192.0.2.1", 1), 0));
        assert!(passes(&memory, &syn("192.0.2.1", 2), 0));
        assert!(!passes(&memory, &syn("192.0.2.1", 3), 0));
        assert!(passes(&memory, &syn("192.0.2.2", 3), 0));
        // A segment of one that is there is none more.
        assert!(passes(&memory, &syn("192.0.2.1", 2), 1));
        assert_eq!(memory.rule_counter(0).packets, 1);
    }

    #[test]
    fn one_that_has_ended_leaves_its_place() {
        let memory = at_most_two();
        assert!(passes(&memory, &syn("192.0.2.1", 1), 0));
        assert!(passes(&memory, &syn("192.0.2.1", 2), 0));
        let answer = Frame::between("198.51.100.2", "192.0.2.1");
        assert!(passes(&memory, &answer.tcp(80, 40_001, RST | ACK), 0));
        assert!(passes(&memory, &syn("192.0.2.1", 3), 0));
        assert!(!passes(&memory, &syn("192.0.2.1", 4), 0));
        // The last one is known, too, until it is found not to live; so is who answered.
        assert_eq!(memory.places.borrow().len(), 4);
    }

    #[test]
    fn one_that_has_expired_leaves_its_place() {
        let memory = at_most_two();
        assert!(passes(&memory, &syn("192.0.2.1", 1), 0));
        assert!(passes(&memory, &syn("192.0.2.1", 2), 0));
        assert!(!passes(&memory, &syn("192.0.2.1", 3), 1));
        assert!(passes(&memory, &syn("192.0.2.1", 3), 1_000));
    }

    #[test]
    fn one_that_was_dropped_never_counts() {
        let memory = at_most_two();
        assert!(passes(&memory, &syn("192.0.2.1", 1), 0));
        assert!(passes(&memory, &syn("192.0.2.1", 2), 0));
        for port in 3..30 {
            assert!(!passes(&memory, &syn("192.0.2.1", port), 0));
        }
        assert!(memory.places.borrow().len() <= 3);
    }
}

mod buckets {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// One packet a second, two at once, for each source or what else is told apart.
    fn limit(subject: u8, cost: u64, burst: u64) -> Extra {
        let arguments = [
            1,
            0,
            cost as u32,
            (cost >> 32) as u32,
            burst as u32,
            (burst >> 32) as u32,
            128 | 128 << 8,
            0,
        ];
        let test = Test::Bucket as u8;
        Extra { test, subject, invert: 1, arguments, ..Extra::default() }
    }

    fn udp(from: &str, port: u16) -> Frame {
        Frame::between(from, "198.51.100.2").udp(port, 53)
    }

    #[test]
    fn each_source_earns_for_itself() {
        let memory = memory(limit(mode::SRC_IP, SECOND, 2 * SECOND), Target::Drop);
        let sent = |from, second| passes(&memory, &udp(from, 1_000), second);
        assert_eq!(
            [sent("192.0.2.1", 0), sent("192.0.2.1", 0), sent("192.0.2.1", 0)],
            [true, true, false]
        );
        assert!(sent("192.0.2.2", 0));
        assert_eq!([sent("192.0.2.1", 1), sent("192.0.2.1", 1)], [true, false]);
    }

    #[test]
    fn ports_tell_apart_on_request() {
        let memory = memory(limit(mode::SRC_IP | mode::SRC_PORT, SECOND, SECOND), Target::Drop);
        assert!(passes(&memory, &udp("192.0.2.1", 1), 0));
        assert!(passes(&memory, &udp("192.0.2.1", 2), 0));
        assert!(!passes(&memory, &udp("192.0.2.1", 1), 0));
        assert_eq!(memory.buckets.borrow().len(), 2);
    }

    #[test]
    fn bytes_cost_by_their_number() {
        // 1,024 bytes a second: what an IP packet of 28 bytes costs, 36 times.
        let memory = memory(limit(mode::BYTES, SECOND, SECOND), Target::Drop);
        let passed = (0..50).filter(|_| passes(&memory, &udp("192.0.2.1", 1), 0)).count();
        assert_eq!(passed, 1_024 / 28);
    }
}

#[test]
fn the_wall_clock_decides_where_a_rule_asks_for_it() {
    let arguments = [0, u32::MAX, 3_600, 7_200, ALL_MONTHDAYS, ALL_WEEKDAYS, 0, 0];
    let mut memory =
        memory(Extra { test: Test::Time as u8, arguments, ..Extra::default() }, Target::Drop);
    let frame = Frame::between("192.0.2.1", "198.51.100.2").udp(1, 53);
    for (wall, passed) in [(3_599, true), (3_600, false), (7_200, false), (LAST_SECOND, true)] {
        memory.wall = wall;
        assert_eq!(passes(&memory, &frame, 0), passed, "{wall}");
    }
}

#[test]
fn a_string_is_searched_from_the_ip_header_on() {
    let at = |from: u32, to: u32| {
        let arguments = [from, to, 0, 0, 0, 0, 0, 0];
        let mut memory =
            memory(Extra { test: Test::Text as u8, arguments, ..Extra::default() }, Target::Drop);
        // The port of the server, behind 20 bytes of IP and two of the other port.
        memory.patterns = vec![Pattern::new(&53u16.to_be_bytes(), false).unwrap()];
        !passes(&memory, &Frame::between("192.0.2.1", "198.51.100.2").udp(1_000, 53), 0)
    };
    assert!(at(0, u32::MAX) && at(22, 24));
    assert!(!at(23, u32::MAX) && !at(0, 23));
}
