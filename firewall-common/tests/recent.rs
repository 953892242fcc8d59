//! `-m recent` by whole packets on tables in memory.

use firewall_common::{
    addr::Addr,
    extra::{
        Extra, Test,
        recent::{RecentEntry, RecentKey, STAMPS, action},
    },
    rule::{Rule, Target, flag},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::Verdict,
    wire::tcp_flag::SYN,
};

const NOW: u64 = 1_000;

/// A condition of a rule about list 7, with the whole address.
fn condition(action: u8, seconds: u32, hits: u32) -> Extra {
    let arguments = [7, 0, seconds, hits, u32::MAX, u32::MAX, u32::MAX, u32::MAX];
    Extra { test: Test::Recent as u8, subject: action, arguments, ..Extra::default() }
}

/// A rule for each, which counts, and a policy of ACCEPT.
fn memory(extras: &[Extra]) -> Memory {
    Memory::with(|memory| {
        let chain_end = extras.len() as u32;
        let rule = |place| Rule {
            extra_first: place,
            extra_count: 1,
            flags: flag::PER_PACKET,
            chain_end,
            ..Rule::default()
        };
        let (target, flags) = (Target::Accept as u8, flag::POLICY);
        memory.rules = (0..extras.len() as u16).map(rule).collect();
        memory.rules.push(Rule { target, flags, chain_end, ..Rule::default() });
        memory.extras = extras.to_vec();
        memory.header.needs = firewall_common::extra::need::FACTS;
    })
}

fn send(memory: &Memory, from: &str, ttl: u8, second: u64) {
    let frame = Frame::between(from, "198.51.100.2").tcp(40_000, 80, SYN).ttl(ttl);
    let verdict = memory.filter(&frame.build(), Nanos::from_secs(NOW + second));
    assert!(matches!(verdict, Verdict::Accept(_)));
}

fn counts<const N: usize>(memory: &Memory) -> [u64; N] {
    std::array::from_fn(|rule| memory.rule_counter(rule as u32).packets)
}

fn entry(memory: &Memory, address: &str) -> Option<RecentEntry> {
    let address: std::net::IpAddr = address.parse().unwrap();
    memory.recent.borrow().get(&RecentKey { list: 7, address: address.into() }).copied()
}

#[test]
fn an_address_is_known_once_it_was_set() {
    let memory = memory(&[condition(action::CHECK, 0, 0), condition(action::SET, 0, 0)]);
    send(&memory, "192.0.2.1", 64, 0);
    assert_eq!(counts(&memory), [0, 1]);
    send(&memory, "192.0.2.1", 64, 1);
    send(&memory, "192.0.2.2", 64, 1);
    assert_eq!(counts(&memory), [1, 3]);
    assert_eq!(entry(&memory, "192.0.2.1").unwrap().count, 2);
}

#[test]
fn so_many_hits_in_so_many_seconds_are_counted_back_from_now() {
    let memory = memory(&[condition(action::CHECK, 10, 3), condition(action::SET, 0, 0)]);
    for (second, counted) in [(0, 0), (4, 0), (8, 0), (10, 1), (15, 1), (30, 1)] {
        send(&memory, "192.0.2.1", 64, second);
        assert_eq!(memory.rule_counter(0).packets, counted, "second {second}");
    }
}

#[test]
fn an_update_that_holds_is_a_sighting_and_one_that_does_not_is_none() {
    let memory = memory(&[condition(action::UPDATE, 10, 1)]);
    send(&memory, "192.0.2.1", 64, 0);
    assert_eq!((counts(&memory), entry(&memory, "192.0.2.1")), ([0], None));
    let key = RecentKey { list: 7, address: Addr::from(std::net::Ipv4Addr::new(192, 0, 2, 1)) };
    let mut known: RecentEntry = bytemuck::Zeroable::zeroed();
    known.note(NOW as u32 * 100, 0);
    memory.recent.borrow_mut().insert(key, known);
    send(&memory, "192.0.2.1", 64, 10);
    send(&memory, "192.0.2.1", 64, 20);
    send(&memory, "192.0.2.1", 64, 31);
    assert_eq!((counts(&memory), entry(&memory, "192.0.2.1").unwrap().count), ([2], 3));
}

#[test]
fn what_is_removed_is_known_no_more() {
    let memory = memory(&[condition(action::REMOVE, 0, 0), condition(action::SET, 0, 0)]);
    send(&memory, "192.0.2.1", 64, 0);
    send(&memory, "192.0.2.1", 64, 0);
    assert_eq!((counts(&memory), entry(&memory, "192.0.2.1").unwrap().count), ([1, 2], 1));
}

#[test]
fn a_negated_check_holds_for_who_is_unknown() {
    let not = Extra { invert: 1, ..condition(action::CHECK, 0, 0) };
    let memory = memory(&[not, condition(action::SET, 0, 0)]);
    send(&memory, "192.0.2.1", 64, 0);
    send(&memory, "192.0.2.1", 64, 0);
    assert_eq!(counts(&memory), [1, 2]);
}

#[test]
fn another_ttl_is_another_sender_where_the_rule_asks_for_it() {
    let memory =
        memory(&[condition(action::CHECK | action::TTL, 0, 0), condition(action::SET, 0, 0)]);
    send(&memory, "192.0.2.1", 64, 0);
    send(&memory, "192.0.2.1", 63, 0);
    assert_eq!(counts(&memory), [0, 2]);
    send(&memory, "192.0.2.1", 63, 0);
    assert_eq!(counts(&memory), [1, 3]);
}

#[test]
fn reaping_takes_an_entry_away_that_is_too_old() {
    let reaping = condition(action::CHECK | action::REAP, 10, 0);
    let memory = memory(&[reaping]);
    let key = RecentKey { list: 7, address: Addr::from(std::net::Ipv4Addr::new(192, 0, 2, 1)) };
    let mut known: RecentEntry = bytemuck::Zeroable::zeroed();
    known.note(NOW as u32 * 100, 0);
    memory.recent.borrow_mut().insert(key, known);
    send(&memory, "192.0.2.1", 64, 10);
    assert!(entry(&memory, "192.0.2.1").is_some());
    send(&memory, "192.0.2.1", 64, 11);
    assert_eq!((counts(&memory), entry(&memory, "192.0.2.1")), ([1], None));
}

#[test]
fn the_most_hits_that_can_be_asked_for_are_remembered() {
    let memory = memory(&[condition(action::CHECK, 0, 255), condition(action::SET, 0, 0)]);
    for _ in 0..STAMPS {
        send(&memory, "192.0.2.1", 64, 0);
    }
    assert_eq!(counts(&memory), [1, 256]);
}
