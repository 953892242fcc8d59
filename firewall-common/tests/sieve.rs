//! Table raw before anything else: where it asks for headers and sets alone, it drops what it
//! drops before the packet is routed and tracked, and changes nothing for all others.

use std::cell::Cell;

use firewall_common::{
    addr::Addr,
    event::Hook,
    extra::{Extra, Test, need},
    rule::{Chain, Rule, Target, condition, flag},
    set::{Entry, EntryKey, HOST, Kind, Question},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::{DropReason, Stat, Verdict, drop_counter},
    wire::tcp_flag::{ACK, FIN, RST, SYN},
};
use proptest::prelude::*;

const CLIENT: &str = "192.0.2.2";
const BLOCKED: &str = "192.0.2.66";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);
/// Indexes of rules.
const COUNTS: u32 = 0;
const DROPS: u32 = 1;
const LETS_IN: u32 = 3;

thread_local! {
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

/// Tells that it was asked.
fn route(_: Addr) -> (Chain, u32) {
    ASKED.set(ASKED.get() + 1);
    (Chain::Forward, 2)
}

fn times_routed() -> u32 {
    ASKED.take()
}

/// Table raw: a rule that counts TCP, one that drops whoever is blocked. Table filter: one that
/// lets in SYNs and what belongs to known flows, and drops the rest.
fn gateway(needs: u32) -> Memory {
    Memory::with(|memory| {
        let policy = |target: Target, at: u32| Rule {
            target: target as u8,
            flags: flag::POLICY,
            chain_end: at,
            ..Rule::default()
        };
        let question = Question { slot: 0, sources: 1, dimensions: 1, ..Question::default() };
        memory.extras =
            vec![Extra { test: Test::Set as u8, arguments: question.pack(), ..Extra::default() }];
        memory.rules = vec![
            Rule { present: condition::PROTOCOL, protocol: 6, chain_end: 2, ..Rule::default() },
            Rule {
                target: Target::Drop as u8,
                extra_count: 1,
                flags: flag::ASKS_SETS,
                chain_end: 2,
                ..Rule::default()
            },
            policy(Target::Accept, 2),
            Rule {
                target: Target::Accept as u8,
                present: condition::STATES,
                states: 1 | 2,
                chain_end: 4,
                ..Rule::default()
            },
            policy(Target::Drop, 4),
        ];
        for family in &mut memory.header.entries {
            family[Chain::RawPrerouting as usize] = 0;
            family[Chain::Input as usize] = LETS_IN;
            family[Chain::Forward as usize] = LETS_IN;
            family[Chain::Output as usize] = LETS_IN;
        }
        memory.header.needs = need::FACTS | need::SETS | needs;
        memory.route = route;
        let slot = memory.sets.add(Kind::HashNet, |_| {});
        let address = BLOCKED.parse::<std::net::IpAddr>().unwrap().into();
        let key = EntryKey { address, prefix: HOST, ..EntryKey::default() };
        memory.sets.insert(slot, key, Entry::default());
    })
}

const ALL: u32 = need::SIEVE | need::SIEVE_FOR_ALL;

fn syn_from(client: &str) -> Vec<u8> {
    Frame::between(client, SERVER).tcp(40_000, 80, SYN).build()
}

#[test]
fn whoever_is_blocked_is_dropped_before_anybody_asks_where_to() {
    for (needs, times) in [(0, 1), (need::SIEVE, 0), (ALL, 0)] {
        let memory = gateway(needs);
        times_routed();
        let verdict = memory.filter(&syn_from(BLOCKED), NOW);
        assert_eq!(verdict, Verdict::Drop(DropReason::Rule));
        assert_eq!(times_routed(), times, "{needs:#x}");
        assert_eq!(memory.stat(drop_counter(DropReason::Rule)), 1);
        assert_eq!(memory.flow_count(), 0);
        for rule in [COUNTS, DROPS] {
            assert_eq!(memory.rule_counter(rule).packets, 1, "{needs:#x}");
        }
        assert_eq!(memory.rule_counter(LETS_IN).packets, 0);
    }
}

#[test]
fn the_others_are_counted_once() {
    for needs in [0, need::SIEVE, ALL] {
        let memory = gateway(needs);
        assert_eq!(memory.filter(&syn_from(CLIENT), NOW), Verdict::Accept(Chain::Forward));
        assert_eq!(memory.stat(Stat::FlowsCreated as u32), 1);
        assert_eq!(memory.rule_counter(COUNTS).packets, 1, "{needs:#x}");
        assert_eq!(memory.rule_counter(LETS_IN).packets, 1, "{needs:#x}");
        assert_eq!(memory.rule_counter(DROPS).packets, 0);
    }
}

#[test]
fn a_packet_whose_verdict_may_be_remembered_is_tracked_first_unless_none_is() {
    let answer = Frame::between(BLOCKED, SERVER).tcp(40_000, 80, ACK).build();
    for (needs, times) in [(need::SIEVE, 1), (ALL, 0)] {
        let memory = gateway(needs);
        times_routed();
        assert_eq!(memory.filter(&answer, NOW), Verdict::Drop(DropReason::Rule));
        assert_eq!(times_routed(), times, "{needs:#x}");
    }
}

#[test]
fn a_policy_of_table_raw_drops_as_one() {
    let mut memory = gateway(need::SIEVE);
    memory.rules[2].target = Target::Drop as u8;
    assert_eq!(memory.filter(&syn_from(CLIENT), NOW), Verdict::Drop(DropReason::Policy));
}

#[test]
fn who_watches_hears_where_it_would_have_gone() {
    let mut memory = gateway(ALL);
    memory.options.bits |= firewall_common::control::option::REPORT_DROPS;
    memory.filter(&syn_from(BLOCKED), NOW);
    let events = memory.events.borrow();
    let [event] = events.as_slice() else { panic!("{} events", events.len()) };
    assert_eq!((event.chain, event.in_ifindex, event.out_ifindex), (Chain::Forward as u8, 1, 2));
    assert_eq!(event.rule, DROPS);
}

#[test]
fn what_leaves_by_a_hook_of_egress_has_been_routed() {
    let memory = gateway(ALL);
    let verdict = memory.filter_at(Hook::Egress, 2, &syn_from(BLOCKED), NOW);
    assert_eq!(verdict, Verdict::Accept(Chain::Output));
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let ends = (prop_oneof![Just(CLIENT), Just(BLOCKED)], 0..3u16, any::<bool>());
    let flags = prop_oneof![
        Just(SYN),
        Just(SYN | ACK),
        Just(ACK),
        Just(FIN | ACK),
        Just(RST),
        Just(SYN | RST),
    ];
    (ends, flags, 0..8u8).prop_map(|((client, port, is_reply), flags, kind)| {
        let port = 40_000 + port;
        let (from, to) = if is_reply { (SERVER, client) } else { (client, SERVER) };
        let frame = Frame::between(from, to);
        let (sport, dport) = if is_reply { (80, port) } else { (port, 80) };
        match kind {
            0 => frame.udp(sport, dport).build(),
            1 => frame.icmp(if is_reply { 0 } else { 8 }, 0, port).build(),
            _ => frame.tcp(sport, dport, flags).build(),
        }
    })
}

proptest! {
    #[test]
    fn nothing_is_another_for_it(frames in prop::collection::vec(any_frame(), 1..40)) {
        let plain = gateway(0);
        let sieves = [gateway(need::SIEVE), gateway(ALL)];
        for (at, frame) in frames.iter().enumerate() {
            let now = NOW.after(Nanos::from_secs(at as u64));
            let verdict = plain.filter(frame, now);
            for sieve in &sieves {
                prop_assert_eq!(sieve.filter(frame, now), verdict);
                prop_assert_eq!(sieve.flows(), plain.flows());
                prop_assert_eq!(sieve.stats(), plain.stats());
                for rule in 0..5 {
                    prop_assert_eq!(sieve.rule_counter(rule), plain.rule_counter(rule));
                }
            }
        }
    }
}
