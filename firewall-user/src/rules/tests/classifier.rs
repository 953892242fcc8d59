//! The index against the plain walk: the same rules match in the same order, and the
//! walk ends as it did, whatever the rules look like and whoever asks.

use std::cell::{Cell, RefCell};

use bytemuck::Zeroable;
use firewall_common::{
    classifier::{Index, LINES_PER_GENERATION, Line, Next, PLAIN_RULES, seek},
    extra::{
        Asking, Extra, Facts, Lists,
        bucket::BucketKey,
        connections::{Found, Place, PlaceKey},
        recent::{RecentKey, Sightings},
    },
    flow::{CtState, FlowKey},
    headers::Headers,
    rule::{Chain, PortSet, Rule},
    scratch::Scratch,
    tables::Rules,
    time::Nanos,
    walk::{Walk, step},
};

use super::field::{Field, HOOKS, Random};
use crate::rules::{
    classifier::{MIN_RULES, build, build_within, patch},
    remembering::preventing,
    splice::{Splice, stands_alone},
};

/// Rulesets, and packets for each, whose three ways through the chains are walked.
const RULESETS: usize = 350;
const PACKETS: usize = 100;

pub(super) struct Tables<'a> {
    pub(super) field: &'a Field,
    pub(super) index: Vec<Line>,
    pub(super) counted: RefCell<Vec<u32>>,
    /// Rules that were looked at.
    pub(super) visited: Cell<usize>,
}

impl<'a> Tables<'a> {
    /// With an index of so many lines at most.
    fn of(field: &'a Field, most: usize) -> Self {
        let index = build_within(most, &field.header, &field.rules, &field.port_sets);
        Self { field, index, counted: RefCell::default(), visited: Cell::default() }
    }
}

impl Index for Tables<'_> {
    fn line(&self, _slot: u32, line: u32) -> Option<&Line> {
        self.index.get(line as usize)
    }
}

impl Rules for Tables<'_> {
    fn rule(&self, _slot: u32, index: u32) -> Option<&Rule> {
        self.visited.set(self.visited.get() + 1);
        self.field.rules.get(index as usize)
    }

    fn port_set(&self, _slot: u32, index: u16) -> Option<&PortSet> {
        self.field.port_sets.get(usize::from(index))
    }

    fn count_rule(&self, _slot: u32, index: u32, _bytes: u64) {
        self.counted.borrow_mut().push(index);
    }

    fn extra(&self, _slot: u32, _index: u32) -> Option<&Extra> {
        None
    }

    fn set_changes(&self) -> u64 {
        0
    }

    fn random(&self) -> u32 {
        unreachable!("no rule here is left to chance")
    }

    fn remember(&self, _: Asking, _: u32, _: impl Fn(u64) -> (u64, bool)) -> bool {
        unreachable!("no rule here keeps something in mind")
    }

    fn connections_hold(&self, _: &Extra, _: &Facts, _: Asking) -> bool {
        unreachable!("no rule here counts connections")
    }

    fn contains(&self, _: u32, _: u32, _: u32, _: u32) -> bool {
        unreachable!("no rule here looks for a string")
    }
}

/// No rule here asks for a list.
impl Lists for Tables<'_> {
    fn recent(&self, _: &RecentKey, _: u32) -> Option<Sightings> {
        unreachable!()
    }

    fn note_recent(&self, _: &RecentKey, _: u32, _: u32) {
        unreachable!()
    }

    fn forget_recent(&self, _: &RecentKey) {
        unreachable!()
    }

    fn spend(&self, _: Asking, _: &BucketKey, _: impl Fn(u64) -> (u64, bool)) -> bool {
        unreachable!()
    }

    fn connection(&self, _: &PlaceKey, _: &FlowKey, _: Nanos) -> (Found, u32) {
        unreachable!()
    }

    fn take_place(&self, _: &PlaceKey, _: Nanos, _: &Place) {
        unreachable!()
    }

    fn set_last_place(&self, _: &PlaceKey, _: u32) {
        unreachable!()
    }
}

/// How a walk went: the rules that matched, the walk in its end, and how many rules
/// were looked at.
type Trace = (Vec<u32>, Walk, usize);

/// Looks at `plain` rules one by one, then at those that the index names.
fn walked(tables: &Tables<'_>, headers: &Headers, walk: Walk, plain: u32) -> Trace {
    const MAX_STEPS: u32 = 1 << 20;
    tables.counted.borrow_mut().clear();
    tables.visited.set(0);
    let mut scratch = Scratch { headers: *headers, walk, ..Scratch::zeroed() };
    let is_over = (0..MAX_STEPS).any(|number| {
        (number < plain || found(tables, &mut scratch))
            && step(tables, &scratch.headers, &mut scratch.facts, &mut scratch.walk)
    });
    assert!(is_over, "the walk does not end");
    (tables.counted.borrow().clone(), scratch.walk, tables.visited.get())
}

fn found(tables: &Tables<'_>, scratch: &mut Scratch) -> bool {
    let look_up = |scratch: &mut Scratch, field| {
        scratch.search.look_up(tables, scratch.walk.slot, &scratch.headers, field);
    };
    let advance = |scratch: &mut Scratch, field| {
        scratch.search.advance(tables, scratch.walk.slot, field);
    };
    seek(tables, scratch, look_up, advance) == Next::Rule(scratch.walk.index)
}

fn plainly_walked(tables: &Tables<'_>, headers: &Headers, walk: Walk) -> Trace {
    walked(tables, headers, walk, 1 << 20)
}

/// Before the first rule.
fn entered(field: &Field, headers: &Headers, [_, filter]: [Chain; 2], state: u8) -> Walk {
    let mut walk = Walk {
        in_patterns: 1,
        out_patterns: 2,
        announced_by: 1,
        ctstate: state,
        chain: filter as u8,
        ..Walk::default()
    };
    assert!(walk.set_out(&field.header, headers.version == 4), "table filter is always there");
    walk
}

/// Gives how many packets were judged, and how many rules were looked at: plainly and
/// with the index.
fn compare(field: &Field, packets: usize, random: &mut Random) -> (usize, [usize; 2]) {
    compare_within(LINES_PER_GENERATION as usize, field, packets, random)
}

/// As [`compare`], with an index of so many lines at most.
fn compare_within(
    most: usize,
    field: &Field,
    packets: usize,
    random: &mut Random,
) -> (usize, [usize; 2]) {
    let tables = Tables::of(field, most);
    assert!(tables.index.len() <= most, "{} lines", tables.index.len());
    compare_by(&tables, packets, random)
}

/// As [`compare`], by an index that is there.
fn compare_by(tables: &Tables<'_>, packets: usize, random: &mut Random) -> (usize, [usize; 2]) {
    let field = tables.field;
    let (mut judged, mut visited) = (0, [0; 2]);
    for _ in 0..packets {
        let headers = field.packet(random);
        for hook in HOOKS {
            let state = random.of(&[1, 2, 4, 8]);
            let walk = entered(field, &headers, hook, state);
            let (counted, end, looked_at) = plainly_walked(tables, &headers, walk);
            let may_be_remembered = state == CtState::Established.bit() && headers.is_plain();
            if may_be_remembered && end.is_per_packet != 0 {
                let entries = &field.header.entries[usize::from(headers.version != 4)];
                let named = preventing(&field.rules, entries, &hook);
                assert!(!named.is_empty(), "{headers:?} is not remembered by {field:?}");
            }
            visited[0] += looked_at;
            for plain in [0, PLAIN_RULES] {
                let (found, found_end, looked_at) = walked(tables, &headers, walk, plain);
                assert_eq!((&found, found_end), (&counted, end), "{headers:?} in {field:?}");
                visited[1] += looked_at;
            }
            judged += 1;
        }
    }
    (judged, [visited[0], visited[1] / 2])
}

#[test]
fn the_index_and_the_plain_walk_agree_about_every_packet_and_ruleset() {
    let mut random = Random::new(16_411);
    let (mut pairs, mut visited) = (0, [0; 2]);
    for _ in 0..RULESETS {
        let field = Field::some(&mut random);
        let (judged, looked_at) = compare(&field, PACKETS, &mut random);
        pairs += judged;
        visited = [visited[0] + looked_at[0], visited[1] + looked_at[1]];
    }
    assert!(pairs >= 100_000, "{pairs} pairs");
    assert!(visited[1] * 4 < visited[0] * 3, "the index saves too little: {visited:?}");
}

#[test]
fn of_ten_thousand_distinct_rules_a_handful_is_looked_at() {
    for family in [4, 6] {
        let field = Field::distinct(family, 10_000);
        let (judged, [plain, led]) = compare(&field, 200, &mut Random::new(3));
        assert!(plain > judged * 1_000, "{plain} rules for {judged} packets");
        assert!(led < judged * 6, "{led} rules for {judged} packets");
    }
}

#[test]
fn rules_of_one_source_are_told_apart_by_their_port() {
    let field = Field::grid(100, 100);
    let (judged, [_, led]) = compare(&field, 300, &mut Random::new(4));
    assert!(led < judged * 6, "{led} rules for {judged} packets");
}

#[test]
fn as_many_rules_as_there_may_be_have_an_index() {
    let field = Field::distinct(4, 32_768 - 16);
    let (judged, [_, led]) = compare(&field, 30, &mut Random::new(5));
    assert!(led < judged * 6, "{led} rules for {judged} packets");
    let field = Field::distinct(6, 32_768 - 16);
    let (judged, [_, led]) = compare(&field, 30, &mut Random::new(5));
    assert!(led < judged * 6, "{led} rules for {judged} packets");
}

#[test]
fn few_rules_have_no_index() {
    let field = Field::distinct(4, 20);
    let index = build(&field.header, &field.rules, &field.port_sets);
    assert!(index.iter().all(|line| *line == Line::default()));
}

#[test]
fn rules_that_fit_everybody_are_all_looked_at() {
    let field = Field::nested(400);
    let (judged, [plain, led]) = compare(&field, 100, &mut Random::new(6));
    assert!(led <= plain && led > judged, "{led} of {plain} rules for {judged} packets");
}

#[test]
fn an_index_with_too_little_space_leaves_fewer_rules_out() {
    let mut random = Random::new(7);
    for field in [Field::grid(30, 30), Field::nested(900), Field::distinct(6, 900)] {
        let led = |most, random: &mut Random| compare_within(most, &field, 40, random).1[1];
        let plain = compare(&field, 40, &mut Random::new(8)).1[0];
        assert_eq!(led(10, &mut Random::new(8)), plain, "no space for more than the fixed lines");
        for most in [40, 120, 250, 500, 2_000] {
            led(most, &mut random);
        }
    }
}

#[test]
fn a_field_of_too_many_classes_is_not_used() {
    let field = Field::scattered(6_000);
    let (judged, [plain, led]) = compare(&field, 30, &mut Random::new(9));
    assert!(led * 20 < plain, "{led} of {plain} rules for {judged} packets");
}

/// A place where a rule can come or go, with what happens there.
fn some_splice(field: &Field, random: &mut Random) -> Splice {
    loop {
        let at = random.below(field.rules.len());
        // A rule of the same family: nothing else says what it is about.
        let from = field.header.ipv6_from as usize;
        let family = if at < from { 0..from } else { from..field.rules.len() };
        let comes = field.rules[family.start + random.below(family.len())];
        let comes = (stands_alone(&comes) && comes.argument == 0).then_some(comes);
        let goes = stands_alone(&field.rules[at]) && random.once_in(2);
        if goes || comes.is_some() {
            let comes = comes.filter(|_| !goes || random.once_in(2));
            return Splice { at: at as u32, goes, comes };
        }
    }
}

fn spliced(field: &Field, splice: &Splice) -> Field {
    let mut rules = vec![Rule::default(); splice.length(field.rules.len())];
    splice.rules(&field.rules, &mut rules);
    Field { header: splice.header(field.header), rules, port_sets: field.port_sets.clone() }
}

#[test]
fn an_index_that_was_patched_again_and_again_agrees_with_the_plain_walk() {
    let mut random = Random::new(23);
    let (mut patched, mut built) = (0, 0);
    for round in 0..40 {
        let mut field = match round % 4 {
            0 => Field::distinct(4, 90),
            1 => Field::distinct(6, MIN_RULES as u16 + 2),
            _ => Field::some(&mut random),
        };
        let mut index = build(&field.header, &field.rules, &field.port_sets);
        for _ in 0..60 {
            let splice = some_splice(&field, &mut random);
            let is_patched = patch(&mut index, &splice, &field.header, field.rules.len());
            field = spliced(&field, &splice);
            if is_patched {
                patched += 1;
            } else {
                built += 1;
                index = build(&field.header, &field.rules, &field.port_sets);
            }
            let (counted, visited) = Default::default();
            let tables = Tables { field: &field, index, counted, visited };
            compare_by(&tables, 3, &mut random);
            index = tables.index;
        }
    }
    assert!(patched > 1_500 && built > 40, "patched {patched}, built {built}");
}

#[test]
fn rules_that_came_later_are_filed_in_the_end() {
    let mut field = Field::distinct(4, 1_000);
    let mut index = build(&field.header, &field.rules, &field.port_sets);
    for number in 0..500 {
        let end = field.rules[field.header.entries[0][Chain::Input as usize] as usize].chain_end;
        let comes = Some(field.rules[number]);
        let splice = Splice { at: end, goes: false, comes };
        let is_patched = patch(&mut index, &splice, &field.header, field.rules.len());
        field = spliced(&field, &splice);
        if !is_patched {
            index = build(&field.header, &field.rules, &field.port_sets);
        }
    }
    let (counted, visited) = Default::default();
    let tables = Tables { field: &field, index, counted, visited };
    let (judged, [_, led]) = compare_by(&tables, 100, &mut Random::new(10));
    assert!(led < judged * 50, "{led} rules for {judged} packets");
}
