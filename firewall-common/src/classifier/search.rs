//! The rules that one packet may match, in their order.

use bytemuck::Zeroable;

use super::{
    CLASS_BITS, CLASS_MASK, FIELDS, FamilyLine, Field, FieldLine, Index, Line, SPANS, UNFILED,
    WORDS, family_of, field_line, port_value,
    tree::{class, class_of_wide},
};
use crate::headers::Headers;

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
    /// Finds the lists for a packet.
    #[inline(always)]
    pub fn begin<I: Index>(&mut self, index: &I, slot: u32, headers: &Headers) {
        let family = family_of(headers);
        self.sought = 0;
        // Without rules of its own the search leaves out nothing.
        self.end = 0;
        let Some(line) = index.line(slot, family) else { return };
        let line: &FamilyLine = bytemuck::cast_ref(line);
        let (source, destination) = (headers.tuple.src.words, headers.tuple.dst.words);
        let protocol = headers.tuple.protocol;
        let found = if family == 0 {
            self.look_up(index, slot, family, Field::Source, u32::from_be(source[3]))
                && self.look_up(
                    index,
                    slot,
                    family,
                    Field::Destination,
                    u32::from_be(destination[3]),
                )
        } else {
            self.look_up_wide(index, slot, Field::Source, source)
                && self.look_up_wide(index, slot, Field::Destination, destination)
        };
        let sport = port_value(protocol, headers.tuple.sport);
        let dport = port_value(protocol, headers.tuple.dport);
        if found
            && self.look_up(index, slot, family, Field::SourcePort, sport)
            && self.look_up(index, slot, family, Field::DestinationPort, dport)
        {
            (self.first, self.end) = (line.first, line.end);
            (self.unfiled, self.entries) = (line.unfiled, line.entries);
        }
    }

    #[inline(always)]
    fn look_up<I: Index>(
        &mut self,
        index: &I,
        slot: u32,
        family: u32,
        field: Field,
        value: u32,
    ) -> bool {
        let Some(line) = index.line(slot, field_line(family, field as u32)) else { return false };
        let line: &FieldLine = bytemuck::cast_ref(line);
        match class(index, slot, line, value) {
            Some(class) => self.take_list(index, slot, field, line.spans, class),
            None => false,
        }
    }

    #[inline(always)]
    fn look_up_wide<I: Index>(
        &mut self,
        index: &I,
        slot: u32,
        field: Field,
        value: [u32; 4],
    ) -> bool {
        let Some(line) = index.line(slot, field_line(1, field as u32)) else { return false };
        let line: &FieldLine = bytemuck::cast_ref(line);
        match class_of_wide(index, slot, line, value.map(u32::from_be)) {
            Some(class) => self.take_list(index, slot, field, line.spans, class),
            None => false,
        }
    }

    /// `false` when the list cannot be read.
    #[inline(always)]
    fn take_list<I: Index>(
        &mut self,
        index: &I,
        slot: u32,
        field: Field,
        spans: u32,
        class: u32,
    ) -> bool {
        self.classes[field as usize] = class;
        let list = &mut self.lists[field as usize];
        *list = List { rule: NO_RULE, ..List::default() };
        if spans == 0 {
            return true;
        }
        let Some(line) = index.line(slot, spans + class / SPANS) else { return false };
        let at = (class % SPANS) as usize * 2;
        let (start, end) = (line.words[at & (WORDS - 1)], line.words[(at + 1) & (WORDS - 1)]);
        if start != end {
            *list = List { start, end, at: start, rule: 0 };
        }
        true
    }

    /// The first rule from `from` on that the packet may match.
    #[inline(always)]
    pub fn next<I: Index>(&mut self, index: &I, slot: u32, from: u32) -> Next {
        if from < self.first || from >= self.end {
            return Next::Rule(from);
        }
        if from < self.sought {
            self.go_back();
        }
        self.sought = from;
        let Some(mut next) = self.next_unfiled(index, slot, from) else { return Next::Rule(from) };
        for field in 0..FIELDS {
            let list = &mut self.lists[field];
            if list.rule <= from {
                list.advance(index, slot, self.entries, &self.classes, from);
            }
            match list.rule {
                0 => return Next::NotYet,
                NO_RULE => {}
                rule if rule - 1 < next => next = rule - 1,
                _ => {}
            }
        }
        Next::Rule(next)
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

impl List {
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
