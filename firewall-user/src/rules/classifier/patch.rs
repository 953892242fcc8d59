//! The index after one rule has come or gone, without looking at the others anew.
//!
//! What the index says of the other rules stays true when their numbers move. A rule that
//! comes is unfiled: it is looked at for every packet. The lists of a rule that goes name
//! the one behind it instead. Both cost packets a little, so that the index is built anew
//! after [`MOST`] such changes.

use std::ops::Range;

use firewall_common::{
    classifier::{FIXED_LINES, FamilyLine, Line, UNFILED, WORDS},
    rule::RulesetHeader,
};

use super::MIN_RULES;
use crate::rules::splice::Splice;

/// Changes of a family after which its index is built anew.
pub(in crate::rules) const MOST: u32 = 32;

/// How many lines the indexes of both families take, by their first lines.
pub fn used(fixed: &[Line]) -> usize {
    let of = |line: &Line| bytemuck::cast_ref::<Line, FamilyLine>(line).lines;
    let lines = fixed.iter().take(2).map(of).max().unwrap_or_default();
    lines.max(FIXED_LINES) as usize
}

/// Changes the index as the rules change, if it can: `false` when it has to be built anew,
/// whatever stands there then. The header and the number of rules are those before.
pub fn patch(lines: &mut [Line], splice: &Splice, header: &RulesetHeader, rules: usize) -> bool {
    let from = (header.ipv6_from as usize).min(rules);
    let families = [0..from, from..rules];
    families.into_iter().enumerate().all(|(number, rules)| {
        let is_meant =
            if number == 0 { splice.at < header.ipv6_from } else { splice.at >= header.ipv6_from };
        match is_meant {
            true => Family { lines, number, splice }.change(&rules),
            false => Family { lines, number, splice }.shift(),
        }
    })
}

/// The index of one family.
struct Family<'a> {
    lines: &'a mut [Line],
    number: usize,
    splice: &'a Splice,
}

impl Family<'_> {
    fn line(&mut self) -> &mut FamilyLine {
        bytemuck::cast_mut(&mut self.lines[self.number])
    }

    /// The family in which the change is.
    fn change(mut self, rules: &Range<usize>) -> bool {
        let (before, after) = (rules.len(), self.splice.length(rules.len()));
        let was_long = before >= MIN_RULES;
        if !was_long && after < MIN_RULES {
            return true;
        }
        self.line().late += 1;
        let line = *self.line();
        if was_long != (after >= MIN_RULES) || line.late > MOST {
            return false;
        }
        if line.end == 0 {
            return true;
        }
        if before.div_ceil(UNFILED as usize) != after.div_ceil(UNFILED as usize) {
            return false;
        }
        self.list_unfiled(after);
        self.move_entries();
        let line = self.line();
        line.end = line.first + after as u32;
        true
    }

    /// A family before which or behind which the change is.
    fn shift(mut self) -> bool {
        let line = *self.line();
        if line.end == 0 || line.first < self.splice.at {
            return true;
        }
        let count = (line.end - line.first) as usize;
        let (first, end) = (self.moved(line.first), self.moved(line.end));
        let splice = self.splice;
        for number in &mut self.unfiled()[..count] {
            *number = moved(splice, (*number).into()) as u16;
        }
        self.move_entries();
        let line = self.line();
        (line.first, line.end) = (first, end);
        true
    }

    fn moved(&self, number: u32) -> u32 {
        moved(self.splice, number)
    }

    /// Of each rule, the next one that is unfiled; behind them, what fills up a line.
    fn unfiled(&mut self) -> &mut [u16] {
        let line = *self.line();
        let count = (line.end - line.first).div_ceil(UNFILED);
        let first = line.unfiled as usize;
        bytemuck::cast_slice_mut(&mut self.lines[first..first + count as usize])
    }

    fn list_unfiled(&mut self, after: usize) {
        let (splice, first) = (self.splice, self.line().first as usize);
        let place = splice.at as usize - first;
        let comes = splice.comes.is_some();
        let numbers = self.unfiled();
        let before = numbers.to_vec();
        for (at, number) in numbers.iter_mut().enumerate().take(after) {
            let next = match splice.source(first + at) {
                None => splice.at,
                Some(source) => match u32::from(before[source - first]) {
                    // The rule that goes was the next: now it is the one behind that.
                    next if next == splice.at && splice.goes => {
                        moved(splice, before[place + 1].into())
                    }
                    next => moved(splice, next),
                },
            };
            *number = if comes && at <= place { next.min(splice.at) } else { next } as u16;
        }
    }

    /// Entries name the rules by their new numbers.
    fn move_entries(&mut self) {
        let line = *self.line();
        let entries = &mut self.lines[line.entries as usize..line.lines as usize];
        for word in entries.iter_mut().flat_map(|line| &mut line.words[..WORDS]) {
            *word = moved(self.splice, *word >> 16) << 16 | *word & 0xffff;
        }
    }
}

/// The number of a rule afterwards; that of one that goes is the next one's.
fn moved(splice: &Splice, number: u32) -> u32 {
    match (splice.goes, splice.comes.is_some()) {
        (false, true) if number >= splice.at => number + 1,
        (true, false) if number > splice.at => number - 1,
        _ => number,
    }
}
