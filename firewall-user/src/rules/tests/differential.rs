//! The compiled rules, walked as the kernel walks them, against the plain
//! interpreter: the same verdict by the same rules, on every chain.

use std::cell::RefCell;

use firewall_common::{
    addr::Family,
    extra::{
        Asking, Extra, Facts, Lists,
        bucket::BucketKey,
        connections::{Found, Place, PlaceKey},
        recent::{RecentKey, Sightings},
    },
    flow::{CtState, FlowKey, protocol},
    headers::Headers,
    rule::{Chain, NO_ENTRY, PortSet, RejectKind, Rule, flag},
    synproxy::offer::Offer,
    tables::Rules,
    time::Nanos,
    walk::{Outcome, Walk, step},
    wire::tcp_flag::BEGINS_OR_ENDS,
};
use proptest::prelude::*;

use super::{
    interpreter::{End, Step, Subject, Trace, judge},
    mangle::Made,
    random,
};
use crate::rules::{Compiled, Ruleset, ast::TableName, compile};

struct Memory<'a> {
    compiled: &'a Compiled,
    counted: RefCell<Vec<u32>>,
}

impl Lists for Memory<'_> {
    fn recent(&self, _: &RecentKey, _: u32) -> Option<Sightings> {
        unreachable!("no random rule keeps something in mind")
    }

    fn note_recent(&self, _: &RecentKey, _: u32, _: u32) {
        unreachable!("no random rule keeps something in mind")
    }

    fn forget_recent(&self, _: &RecentKey) {
        unreachable!("no random rule keeps something in mind")
    }

    fn spend(&self, _: Asking, _: &BucketKey, _: impl Fn(u64) -> (u64, bool)) -> bool {
        unreachable!("no random rule keeps something in mind")
    }

    fn connection(&self, _: &PlaceKey, _: &FlowKey, _: Nanos) -> (Found, u32) {
        unreachable!("no random rule keeps something in mind")
    }

    fn take_place(&self, _: &PlaceKey, _: Nanos, _: &Place) {
        unreachable!("no random rule keeps something in mind")
    }

    fn set_last_place(&self, _: &PlaceKey, _: u32) {
        unreachable!("no random rule keeps something in mind")
    }
}

impl Rules for Memory<'_> {
    fn rule(&self, _: u32, index: u32) -> Option<&Rule> {
        self.compiled.rules.get(index as usize)
    }

    fn port_set(&self, _: u32, index: u16) -> Option<&PortSet> {
        self.compiled.port_sets.get(usize::from(index))
    }

    fn count_rule(&self, _: u32, index: u32, _: u64) {
        self.counted.borrow_mut().push(index);
    }

    fn extra(&self, _: u32, index: u32) -> Option<&Extra> {
        self.compiled.extras.get(index as usize)
    }

    fn contains(&self, _: u32, _: u32, _: u32, _: u32) -> bool {
        unreachable!("no random rule looks at what a packet carries")
    }

    fn connections_hold(&self, _: &Extra, _: &Facts, _: Asking) -> bool {
        unreachable!("no random rule keeps something in mind")
    }

    fn set_changes(&self) -> u64 {
        0
    }

    fn random(&self) -> u32 {
        unreachable!("no random rule is left to chance")
    }

    fn remember(&self, _: Asking, _: u32, _: impl Fn(u64) -> (u64, bool)) -> bool {
        unreachable!("no random rule keeps something in mind")
    }
}

/// The chains on the way of a packet.
const WAYS: [(Chain, &[(TableName, &str)]); 3] = [
    (
        Chain::Input,
        &[
            (TableName::Raw, "PREROUTING"),
            (TableName::Mangle, "PREROUTING"),
            (TableName::Mangle, "INPUT"),
            (TableName::Filter, "INPUT"),
        ],
    ),
    (
        Chain::Forward,
        &[
            (TableName::Raw, "PREROUTING"),
            (TableName::Mangle, "PREROUTING"),
            (TableName::Mangle, "FORWARD"),
            (TableName::Filter, "FORWARD"),
            (TableName::Mangle, "POSTROUTING"),
        ],
    ),
    (
        Chain::Output,
        &[
            (TableName::Raw, "OUTPUT"),
            (TableName::Mangle, "OUTPUT"),
            (TableName::Filter, "OUTPUT"),
            (TableName::Mangle, "POSTROUTING"),
        ],
    ),
];

fn patterns(compiled: &Compiled, interface: Option<&str>) -> u64 {
    interface.map_or(0, |name| compiled.patterns_of(name))
}

fn walk(compiled: &Compiled, chain: Chain, subject: &Subject) -> Trace {
    walk_and_see(compiled, chain, subject).0
}

/// The walk, and whether later packets would remember what it has come to.
fn walk_and_see(compiled: &Compiled, chain: Chain, subject: &Subject) -> (Trace, bool) {
    let mut state = Walk {
        in_patterns: patterns(compiled, subject.input),
        out_patterns: patterns(compiled, subject.output),
        announced_by: subject.announced_by,
        ctstate: subject.state,
        chain: chain as u8,
        ..Walk::default()
    };
    assert!(state.set_out(&compiled.header, subject.headers.family() == Family::Ipv4));
    let memory = Memory { compiled, counted: RefCell::default() };
    let mut facts = subject.seen.facts(subject);
    let steps = (0..10_000).find(|_| step(&memory, &subject.headers, &mut facts, &mut state));
    assert!(steps.is_some(), "the walk does not end");
    let steps = memory.counted.into_inner().into_iter().map(|index| place(compiled, index));
    let end = end(&state);
    let is_untracked = state.ctstate == CtState::Untracked.bit();
    let is_remembered = end == End::Accept && !is_untracked && state.is_cacheable();
    let trace = Trace {
        steps: steps.collect(),
        assigned: state.assigned,
        end: Some(end),
        made: (end == End::Accept).then(|| Made::of(&facts)),
        ..Trace::default()
    };
    (trace, is_remembered)
}

fn place(compiled: &Compiled, index: u32) -> Step {
    let place = compiled.origins[index as usize].place().unwrap();
    (place.table, place.chain.to_owned(), place.number)
}

fn end(walk: &Walk) -> End {
    match walk.outcome {
        outcome if outcome == Outcome::Accept as u8 => End::Accept,
        outcome if outcome == Outcome::Drop as u8 => End::Drop,
        outcome if outcome == Outcome::Reject as u8 => {
            End::Reject(RejectKind::from_byte(walk.argument as u8).unwrap())
        }
        outcome if outcome == Outcome::Proxy as u8 => End::Proxy(Offer::unpack(walk.argument)),
        other => panic!("outcome {other}"),
    }
}

fn compare(v4: &Ruleset, v6: &Ruleset, subject: &Subject) -> Result<(), TestCaseError> {
    let compiled = compile(v4, v6).map_err(|errors| TestCaseError::fail(errors.to_string()))?;
    let ruleset = if subject.headers.family() == Family::Ipv4 { v4 } else { v6 };
    for (chain, way) in WAYS {
        let mut subject = subject.clone();
        match chain {
            Chain::Input => subject.output = None,
            Chain::Output => subject.input = None,
            _ => {}
        }
        let expected = judge(ruleset, way, &subject);
        let found = walk(&compiled, chain, &subject);
        prop_assert_eq!(found, expected, "{}", crate::rules::to_save(ruleset, None));
    }
    Ok(())
}

/// Another packet of the same connection, by the same interfaces, of which the rest is like
/// that of `other`.
fn later(first: &Subject, other: &Subject) -> Subject {
    let is_tcp = first.headers.tuple.protocol == protocol::TCP;
    let headers = Headers {
        tuple: first.headers.tuple,
        version: first.headers.version,
        tcp_flags: if is_tcp { other.headers.tcp_flags & !BEGINS_OR_ENDS } else { 0 },
        ..other.headers
    };
    Subject { headers, seen: first.seen.later(&other.seen), ..first.clone() }
}

/// What the first packet's walk has come to must be what the rules say of the second.
fn compare_remembered(
    v4: &Ruleset,
    v6: &Ruleset,
    first: &Subject,
    second: &Subject,
) -> Result<(), TestCaseError> {
    let compiled = compile(v4, v6).map_err(|errors| TestCaseError::fail(errors.to_string()))?;
    let ruleset = if first.headers.family() == Family::Ipv4 { v4 } else { v6 };
    for (chain, way) in WAYS {
        let [mut first, mut second] = [first, second]
            .map(|it| Subject { state: CtState::Established.bit(), ..later(first, it) });
        for subject in [&mut first, &mut second] {
            match chain {
                Chain::Input => subject.output = None,
                Chain::Output => subject.input = None,
                _ => {}
            }
        }
        let (remembered, true) = walk_and_see(&compiled, chain, &first) else { continue };
        let expected = judge(ruleset, way, &second);
        let text = crate::rules::to_save(ruleset, None);
        prop_assert_eq!(remembered.end, expected.end, "{}", &text);
        prop_assert_eq!(remembered.steps, expected.steps, "{}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rules_judge_as_written(
        v4 in random::ruleset(Family::Ipv4),
        v6 in random::ruleset(Family::Ipv6),
        packets in proptest::collection::vec(
            random::any_family().prop_flat_map(random::subject), 8),
    ) {
        for packet in &packets {
            compare(&v4, &v6, packet)?;
        }
    }

    #[test]
    fn what_a_packet_leaves_to_be_remembered_is_right_for_the_next(
        v4 in random::ruleset(Family::Ipv4),
        v6 in random::ruleset(Family::Ipv6),
        packets in proptest::collection::vec(
            random::any_family().prop_flat_map(|family| {
                (random::subject(family), random::subject(family))
            }), 8),
    ) {
        for (first, second) in &packets {
            compare_remembered(&v4, &v6, first, second)?;
        }
    }

    #[test]
    fn every_chain_is_closed_and_every_jump_leads_to_one(
        v4 in random::ruleset(Family::Ipv4),
        v6 in random::ruleset(Family::Ipv6),
    ) {
        let compiled = compile(&v4, &v6).unwrap();
        let ends = flag::POLICY | flag::CHAIN_END;
        for (rule, index) in compiled.rules.iter().zip(0..) {
            let end = &compiled.rules[rule.chain_end as usize];
            prop_assert!(end.flags & ends != 0);
            prop_assert_eq!(rule.flags & ends != 0, rule.chain_end == index);
        }
        for entry in compiled.header.entries.concat().into_iter().filter(|entry| *entry != NO_ENTRY) {
            let end = &compiled.rules[compiled.rules[entry as usize].chain_end as usize];
            prop_assert!(end.flags & flag::POLICY != 0);
        }
    }
}

#[test]
fn empty_rulesets_have_their_policies_and_no_raw_table() {
    let compiled = compile(&Ruleset::empty(Family::Ipv4), &Ruleset::empty(Family::Ipv6)).unwrap();
    assert_eq!(compiled.rules.len(), 6);
    assert!(compiled.rules.iter().all(|rule| rule.flags == flag::POLICY));
    for (entries, first) in compiled.header.entries.iter().zip([0, 3]) {
        assert_eq!(entries[..3], [first, first + 1, first + 2]);
        assert!(entries[3..].iter().all(|entry| *entry == NO_ENTRY));
    }
}
