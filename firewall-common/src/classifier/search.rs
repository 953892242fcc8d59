//! The rules that one packet may match, in their order.

use bytemuck::Zeroable;

use super::{
    CLASS_BITS, CLASS_MASK, FIELDS, FamilyLine, Field, FieldLine, Index, LEVELS, Line, PLAIN_RULES,
    SPANS, UNFILED, WORDS, family_of, field_line, port_value,
    tree::{class, descend_wide},
};
use crate::{flow::Tuple, headers::Headers, scratch::Scratch};

/// Entries that are looked at before the search is asked again: a bound for the
/// verifier.
const ENTRIES_AT_ONCE: u32 = 16;
/// Halvings of the longest list.
const HALVINGS: u32 = 16;
/// Behind every rule.
const NO_RULE: u32 = u32::MAX;

/// The answer to the question which rule comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Rule(u32),
    /// Ask again: a long list was looked at in part.
    NotYet,
}

/// Where the search stands in the list of one field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct List {
    /// Numbers of entries: the first, and one behind the last.
    pub start: u32,
    pub end: u32,
    /// No entry before this one is of use.
    pub at: u32,
    /// The rule at `at`, plus one; [`NO_RULE`] behind the end, 0 when it is not known.
    pub rule: u32,
}

/// The lists of one packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Search {
    /// Steps of the walk that the index does not lead.
    pub plain: u32,
    /// 1 when the lists are those of this packet.
    pub is_ready: u32,
    /// As in [`FamilyLine`].
    pub first: u32,
    pub end: u32,
    pub unfiled: u32,
    pub entries: u32,
    /// The lists stand where the next rule from this one on is.
    pub sought: u32,
    /// The packet's class of each [`Field`].
    pub classes: [u32; FIELDS],
    pub lists: [List; FIELDS],
}

impl Search {
    /// Before the walk: whether the index leads it, and from where on.
    #[inline(always)]
    pub fn prepare<I: Index>(&mut self, index: &I, slot: u32, headers: &Headers) {
        self.is_ready = 0;
        self.plain = if is_indexed(index, slot, headers) { PLAIN_RULES } else { u32::MAX };
    }

    /// Before the lists are found by [`Search::look_up`].
    #[inline(always)]
    pub(super) fn begin<I: Index>(&mut self, index: &I, slot: u32, headers: &Headers) {
        self.sought = 0;
        self.is_ready = 1;
        let Some(line) = index.line(slot, family_of(headers)) else {
            self.leave_out_nothing();
            return;
        };
        let line: &FamilyLine = bytemuck::cast_ref(line);
        (self.first, self.end) = (line.first, line.end);
        (self.unfiled, self.entries) = (line.unfiled, line.entries);
    }

    /// Finds the list of one [`Field`] for a packet. The kernel's programs do it in the
    /// three steps below, each with a stack of its own.
    #[inline(always)]
    pub fn look_up<I: Index>(&mut self, index: &I, slot: u32, headers: &Headers, field: u32) {
        if is_wide(headers, field) {
            for level in 0..LEVELS as u32 {
                self.classify_wide(index, slot, headers, field, level);
            }
        } else {
            self.classify(index, slot, headers, field);
        }
        self.open(index, slot, headers, field);
    }

    /// Finds the packet's class of a [`Field`] that is not wide.
    #[inline(always)]
    pub fn classify<I: Index>(&mut self, index: &I, slot: u32, headers: &Headers, field: u32) {
        let class = class_in(index, slot, headers, field);
        self.note_class(field, class);
    }

    /// Finds the packet's class of a [`Field`] that is wide: goes down one level of the
    /// tree, from the root on.
    #[inline(always)]
    pub fn classify_wide<I: Index>(
        &mut self,
        index: &I,
        slot: u32,
        headers: &Headers,
        field: u32,
        level: u32,
    ) {
        let above = if level == 0 { 0 } else { self.classes[field as usize & (FIELDS - 1)] };
        let class = wide_class_in(index, slot, headers, field, (level, above));
        self.note_class(field, class);
    }

    /// Opens the list of the packet's class of a [`Field`].
    #[inline(always)]
    pub fn open<I: Index>(&mut self, index: &I, slot: u32, headers: &Headers, field: u32) {
        let place = field as usize & (FIELDS - 1);
        match List::of(index, slot, headers, field, self.classes[place]) {
            Some(list) => self.lists[place] = list,
            None => self.leave_out_nothing(),
        }
    }

    #[inline(always)]
    const fn note_class(&mut self, field: u32, class: Option<u32>) {
        match class {
            Some(class) => self.classes[field as usize & (FIELDS - 1)] = class,
            None => self.leave_out_nothing(),
        }
    }

    /// An index that has no rules knows none that a packet cannot match.
    #[inline(always)]
    const fn leave_out_nothing(&mut self) {
        self.end = 0;
    }

    /// Goes on in the list of one [`Field`], to the next rule that may match.
    #[inline(always)]
    pub fn advance<I: Index>(&mut self, index: &I, slot: u32, field: u32) {
        let Self { entries, sought, classes, lists, .. } = self;
        lists[field as usize & (FIELDS - 1)].advance(index, slot, *entries, classes, *sought);
    }

    /// To the beginning of the lists: a walk has come back from a chain.
    #[inline(always)]
    fn go_back(&mut self) {
        for list in &mut self.lists {
            list.at = list.start;
            list.rule = if list.start == list.end { NO_RULE } else { 0 };
        }
    }

    #[inline(always)]
    fn next_unfiled<I: Index>(&self, index: &I, slot: u32, from: u32) -> Option<u32> {
        let at = from - self.first;
        let line = index.line(slot, self.unfiled + at / UNFILED)?;
        let word = line.words[(at % UNFILED / 2) as usize & (WORDS - 1)];
        Some((word >> (at % 2 * 16)) & 0xffff)
    }
}

/// The first rule, from the walk's on, that the packet may match.
#[inline(always)]
pub(super) fn next<I: Index>(
    index: &I,
    scratch: &mut Scratch,
    advance: impl Fn(&mut Scratch, u32),
) -> Next {
    let (slot, from) = (scratch.walk.slot, scratch.walk.index);
    let search = &mut scratch.search;
    if from < search.first || from >= search.end {
        return Next::Rule(from);
    }
    if from < search.sought {
        search.go_back();
    }
    search.sought = from;
    let Some(mut next) = search.next_unfiled(index, slot, from) else { return Next::Rule(from) };
    for field in 0..FIELDS {
        if scratch.search.lists[field].rule <= from {
            advance(scratch, field as u32);
        }
        match scratch.search.lists[field].rule {
            0 => return Next::NotYet,
            NO_RULE => {}
            rule if rule - 1 < next => next = rule - 1,
            _ => {}
        }
    }
    Next::Rule(next)
}

/// Whether a packet's value of a field has more than 32 bits: an address of IPv6.
#[inline(always)]
pub const fn is_wide(headers: &Headers, field: u32) -> bool {
    family_of(headers) != 0 && field <= Field::Destination as u32
}

/// The packet's class of a field that is not wide; 0 when nobody asks for it.
#[inline(always)]
fn class_in<I: Index>(index: &I, slot: u32, headers: &Headers, field: u32) -> Option<u32> {
    let line = index.line(slot, field_line(family_of(headers), field))?;
    let tuple = &headers.tuple;
    let value = match field {
        0 => u32::from_be(tuple.src.words[3]),
        1 => u32::from_be(tuple.dst.words[3]),
        2 => port_value(tuple.protocol, tuple.sport),
        _ => port_value(tuple.protocol, tuple.dport),
    };
    class(index, slot, bytemuck::cast_ref(line), value)
}

/// The next level's node, or the class, of a field that is wide.
#[inline(always)]
fn wide_class_in<I: Index>(
    index: &I,
    slot: u32,
    headers: &Headers,
    field: u32,
    (level, node): (u32, u32),
) -> Option<u32> {
    let line = index.line(slot, field_line(family_of(headers), field))?;
    let is_source = field == Field::Source as u32;
    let Tuple { src, dst, .. } = &headers.tuple;
    let words = if is_source { &src.words } else { &dst.words };
    descend_wide(index, slot, bytemuck::cast_ref(line), words, (level, node))
}

/// Whether the rules that this packet is judged by have an index.
#[inline(always)]
fn is_indexed<I: Index>(index: &I, slot: u32, headers: &Headers) -> bool {
    match index.line(slot, family_of(headers)) {
        Some(line) => bytemuck::cast_ref::<Line, FamilyLine>(line).end != 0,
        None => false,
    }
}

impl List {
    /// The rules that are filed under a class.
    #[inline(always)]
    fn of<I: Index>(
        index: &I,
        slot: u32,
        headers: &Headers,
        field: u32,
        class: u32,
    ) -> Option<Self> {
        let line: &FieldLine =
            bytemuck::cast_ref(index.line(slot, field_line(family_of(headers), field))?);
        let empty = Self { start: 0, end: 0, at: 0, rule: NO_RULE };
        if line.spans == 0 {
            return Some(empty);
        }
        let line = index.line(slot, line.spans + class / SPANS)?;
        let at = (class % SPANS) as usize * 2;
        let (start, end) = (line.words[at & (WORDS - 1)], line.words[(at + 1) & (WORDS - 1)]);
        Some(if start == end { empty } else { Self { start, end, at: start, rule: 0 } })
    }

    /// Goes to the first entry that is of use from a rule on, or some way to it.
    #[inline(always)]
    fn advance<I: Index>(
        &mut self,
        index: &I,
        slot: u32,
        entries: u32,
        classes: &[u32; FIELDS],
        from: u32,
    ) {
        let mut at = self.skip(index, slot, entries, from);
        let mut rule = 0;
        for _ in 0..ENTRIES_AT_ONCE {
            if at >= self.end {
                rule = NO_RULE;
                break;
            }
            let Some(entry) = entry_at(index, slot, entries, at) else {
                // Leaves out nothing.
                rule = from + 1;
                break;
            };
            if entry >> 16 >= from && passes(entry, classes) {
                rule = (entry >> 16) + 1;
                break;
            }
            at += 1;
        }
        self.at = at;
        self.rule = rule;
    }

    /// An entry before which there are only earlier rules: in a long list by halving
    /// what is left of it.
    #[inline(always)]
    fn skip<I: Index>(&self, index: &I, slot: u32, entries: u32, from: u32) -> u32 {
        let mut at = self.at;
        let mut left = self.end - at;
        for _ in 0..HALVINGS {
            if left <= ENTRIES_AT_ONCE {
                break;
            }
            let half = left / 2;
            let is_earlier = match entry_at(index, slot, entries, at + half) {
                Some(entry) => entry >> 16 < from,
                None => false,
            };
            if is_earlier {
                at += half;
            }
            left -= half;
        }
        at
    }
}

#[inline(always)]
fn entry_at<I: Index>(index: &I, slot: u32, entries: u32, at: u32) -> Option<u32> {
    let line: &Line = index.line(slot, entries + at / WORDS as u32)?;
    Some(line.words[at as usize & (WORDS - 1)])
}

/// Whether the packet has the class that the entry asks for.
#[inline(always)]
const fn passes(entry: u32, classes: &[u32; FIELDS]) -> bool {
    let check = entry & 0xffff;
    let class = classes[(check >> CLASS_BITS) as usize & (FIELDS - 1)];
    check == 0 || (class ^ check) & CLASS_MASK == 0
}
