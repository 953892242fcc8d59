//! The index as the datapath reads it.

use std::ops::Range;

use bytemuck::cast;
use firewall_common::{
    addr::Family,
    classifier::{
        FIELDS, FIXED_LINES, FamilyLine, Field, FieldLine, LEVELS, Line, SEPARATORS, WORDS, entry,
        field_line,
    },
};

use super::{
    classes::Classes,
    filing::{Fields, Filing},
};

/// The lines of a generation as they grow.
pub(super) struct Lines {
    lines: Vec<Line>,
    /// How many there may be.
    most: usize,
}

impl Lines {
    pub(super) fn new(most: usize) -> Self {
        Self { lines: vec![Line::default(); FIXED_LINES as usize], most }
    }

    pub(super) fn finish(self) -> Vec<Line> {
        self.lines
    }

    /// Adds the index of a family; `false` when it does not fit, and nothing is added.
    pub(super) fn write(
        &mut self,
        family: Family,
        rules: &Range<usize>,
        fields: Fields<'_>,
        filing: &Filing,
    ) -> bool {
        let before = self.lines.len();
        let number = match family {
            Family::Ipv4 => 0,
            Family::Ipv6 => 1,
        };
        let (of_family, of_fields) = self.family(family, rules, fields, filing);
        if self.lines.len() > self.most {
            self.lines.truncate(before);
            return false;
        }
        for (field, line) in Field::ALL.into_iter().zip(of_fields) {
            self.lines[field_line(number, field as u32) as usize] = cast(line);
        }
        self.lines[number as usize] = cast(of_family);
        true
    }

    fn family(
        &mut self,
        family: Family,
        rules: &Range<usize>,
        fields: Fields<'_>,
        filing: &Filing,
    ) -> (FamilyLine, [FieldLine; FIELDS]) {
        let mut entries = Vec::new();
        let mut of_fields = [FieldLine::default(); FIELDS];
        for (field, line) in Field::ALL.into_iter().zip(&mut of_fields) {
            let (_, classes) = fields[field as usize];
            let lengths = filing.lists(field as usize, fields);
            let has_lists = lengths.iter().any(|length| *length != 0);
            if has_lists || filing.is_checked[field as usize] {
                let is_wide =
                    family == Family::Ipv6 && matches!(field, Field::Source | Field::Destination);
                (line.depth, line.levels) = self.tree(classes, is_wide);
            }
            if has_lists {
                let spans = spans(&lengths, entries.len());
                fill(&mut entries, &spans, field as usize, rules.start, fields, filing);
                line.spans = self.words(spans.as_flattened());
            }
        }
        let unfiled = unfiled(rules, filing);
        let of_family = FamilyLine {
            first: rules.start as u32,
            end: rules.end as u32,
            unfiled: self.words(&unfiled),
            entries: self.words(&entries),
            lines: self.lines.len() as u32,
            ..FamilyLine::default()
        };
        (of_family, of_fields)
    }

    /// Adds words; gives their first line.
    fn words(&mut self, words: &[u32]) -> u32 {
        let first = self.lines.len() as u32;
        self.lines.extend(words.chunks(WORDS).map(|chunk| {
            let mut line = Line::default();
            line.words[..chunk.len()].copy_from_slice(chunk);
            line
        }));
        first
    }

    /// Adds the tree of a field; gives its depth, and the first line of each level.
    fn tree(&mut self, classes: &Classes, is_wide: bool) -> (u32, [u32; LEVELS]) {
        let depth = (1..LEVELS).find(|depth| WORDS.pow(*depth as u32) >= classes.count());
        let depth = depth.unwrap_or(LEVELS);
        let mut levels = [0; LEVELS];
        for (level, first) in levels.iter_mut().enumerate().take(depth) {
            *first = self.lines.len() as u32;
            // Classes below each child of a node.
            let below = WORDS.pow((depth - 1 - level) as u32);
            for node in 0..classes.count().div_ceil(below * WORDS) {
                self.node(classes, (node * WORDS, below), is_wide);
            }
        }
        (depth as u32, levels)
    }

    /// Adds a node: the greatest values of its children but the last, from the child
    /// `first` of the level on.
    fn node(&mut self, classes: &Classes, (first, below): (usize, usize), is_wide: bool) {
        let separator = |at: usize| {
            let last = (first + at + 1) * below - 1;
            // Behind the last class there is no way.
            classes.lasts.get(last).copied().unwrap_or(u128::MAX)
        };
        let separators: [u128; SEPARATORS] = std::array::from_fn(separator);
        let parts: &[u32] = if is_wide { &[96, 64, 32, 0] } else { &[0] };
        for shift in parts {
            let mut line = Line::default();
            for (word, separator) in line.words.iter_mut().zip(separators) {
                *word = (separator >> shift) as u32;
            }
            self.lines.push(line);
        }
    }
}

/// Of each class, the numbers of its first entry and of the one behind its last.
fn spans(lengths: &[u32], mut next: usize) -> Vec<[u32; 2]> {
    let mut spans = Vec::with_capacity(lengths.len());
    for length in lengths {
        let start = next as u32;
        next += *length as usize;
        spans.push([start, next as u32]);
    }
    spans
}

/// Adds the lists of a field, each in the order of the rules.
fn fill(
    entries: &mut Vec<u32>,
    spans: &[[u32; 2]],
    field: usize,
    first: usize,
    fields: Fields<'_>,
    filing: &Filing,
) {
    let (_, classes) = fields[field];
    let mut places: Vec<u32> = spans.iter().map(|[start, _]| *start).collect();
    entries.resize(spans.last().map_or(0, |[_, end]| *end as usize), 0);
    for (rule, filed) in (first..).zip(&filing.rules) {
        let Some(filed) = filed.as_ref().filter(|filed| filed.field == field) else { continue };
        for (from, to) in &classes.of_ranges[filed.ranges.clone()] {
            for place in &mut places[*from as usize..=*to as usize] {
                entries[*place as usize] = entry(rule as u16, filed.check);
                *place += 1;
            }
        }
    }
}

/// Of each rule, the next one that is unfiled, itself included; two in a word.
fn unfiled(rules: &Range<usize>, filing: &Filing) -> Vec<u32> {
    let mut next = rules.end - 1;
    let mut numbers = vec![0u32; rules.len().div_ceil(2)];
    for (at, filed) in filing.rules.iter().enumerate().rev() {
        if filed.is_none() {
            next = rules.start + at;
        }
        numbers[at / 2] |= (next as u32 & 0xffff) << (at % 2 * 16);
    }
    numbers
}
