//! Which parts of a datagram have passed.

use bytemuck::{Pod, Zeroable};

/// Parts that are apart from each other: of fragments in order there is one, of
/// those in reverse order there are two.
const MAX_SPANS: usize = 8;

/// A part, in units of 8 bytes; an empty one is no part.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
struct Span {
    start: u16,
    end: u16,
}

/// Parts of a datagram, none of which touches another.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Spans([Span; MAX_SPANS]);

/// How a fragment fits what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Free,
    /// All of it has been there: a duplicate.
    Repeated,
    /// Some of it has been there, and some has not.
    Overlap,
}

impl Spans {
    /// What stands after the first fragment.
    #[inline(always)]
    pub fn begun_by(end: u16) -> Self {
        let mut spans = Self::default();
        spans.0[0] = Span { start: 0, end };
        spans
    }

    #[inline(always)]
    pub fn fit(&self, start: u16, end: u16) -> Fit {
        for span in &self.0 {
            if start < span.end && span.start < end {
                let is_within = span.start <= start && end <= span.end;
                return if is_within { Fit::Repeated } else { Fit::Overlap };
            }
        }
        Fit::Free
    }

    /// Adds a part that is free; `false` when there are too many.
    #[inline(always)]
    pub fn add(&mut self, start: u16, end: u16) -> bool {
        let mut joined = Span { start, end };
        for span in &mut self.0 {
            if span.start == span.end {
                continue;
            }
            if span.end == start {
                joined.start = span.start;
                *span = Span::default();
            } else if span.start == end {
                joined.end = span.end;
                *span = Span::default();
            }
        }
        for span in &mut self.0 {
            if span.start == span.end {
                *span = joined;
                return true;
            }
        }
        false
    }

    /// Whether everything until `end` has been there.
    #[inline(always)]
    pub fn is_one_until(&self, end: u16) -> bool {
        self.0.iter().any(|span| span.start == 0 && span.end == end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gap_that_is_filled_joins_its_neighbours() {
        let mut spans = Spans::begun_by(8);
        assert!(spans.add(16, 24));
        assert!(!spans.is_one_until(24));
        assert_eq!(spans.fit(8, 16), Fit::Free);
        assert!(spans.add(8, 16));
        assert!(spans.is_one_until(24));
    }

    #[test]
    fn what_was_there_in_part_overlaps_and_in_whole_is_repeated() {
        let mut spans = Spans::begun_by(8);
        assert!(spans.add(16, 24));
        assert_eq!(spans.fit(17, 20), Fit::Repeated);
        assert_eq!(spans.fit(16, 24), Fit::Repeated);
        for (start, end) in [(7, 9), (15, 17), (23, 25), (12, 30)] {
            assert_eq!(spans.fit(start, end), Fit::Overlap, "{start}..{end}");
        }
    }

    #[test]
    fn there_is_space_for_so_many_gaps() {
        let mut spans = Spans::begun_by(1);
        let fits = |spans: &mut Spans, number: u16| spans.add(number * 2, number * 2 + 1);
        assert!((1..MAX_SPANS as u16).all(|number| fits(&mut spans, number)));
        assert!(!fits(&mut spans, MAX_SPANS as u16));
    }

    proptest! {
        /// Against a bitmap of the units, for as long as there is space.
        #[test]
        fn parts_agree_with_a_bitmap(parts in prop::collection::vec((1u16..40, 1u16..6), 0..24)) {
            let mut spans = Spans::begun_by(1);
            let mut units = [false; 64];
            units[0] = true;
            for (start, len) in parts {
                let range = usize::from(start)..usize::from(start + len);
                let been = units[range.clone()].iter().filter(|been| **been).count();
                let expected = match been {
                    0 => Fit::Free,
                    // A part that is whole is one span: none touches another.
                    all if all == range.len() => Fit::Repeated,
                    _ => Fit::Overlap,
                };
                prop_assert_eq!(spans.fit(start, start + len), expected);
                if expected == Fit::Free {
                    if !spans.add(start, start + len) {
                        break;
                    }
                    units[range].fill(true);
                }
            }
        }
    }
}
