//! The classes of a field: what lies between the ends of all rules' ranges.

use firewall_common::classifier::{LEVELS, WORDS};

use super::ranges::{Ranges, Span};

/// Classes that the deepest tree tells apart.
const MAX_CLASSES: usize = WORDS.pow(LEVELS as u32);

/// The classes of one field, numbered in the order of their values.
#[derive(Debug, Default)]
pub(super) struct Classes {
    /// The greatest value of each but the last, in order.
    pub(super) lasts: Vec<u128>,
    /// Of each of the ranges, its first and last class. Empty when there are more
    /// classes than a tree tells apart: the field is not used then.
    pub(super) of_ranges: Vec<(u32, u32)>,
    /// How many rules fit in the classes before each, all added up.
    sums: Vec<u64>,
}

impl Classes {
    pub(super) fn of(ranges: &Ranges, greatest: u128) -> Self {
        let spans = ranges.all();
        let mut lasts = ends(spans, greatest);
        lasts.sort_unstable();
        lasts.dedup();
        if lasts.len() >= MAX_CLASSES {
            return Self::default();
        }
        let class = |value: u128| lasts.partition_point(|last| *last < value) as u32;
        let of_ranges: Vec<_> =
            spans.iter().map(|(first, last)| (class(*first), class(*last))).collect();
        let sums = sums(&of_ranges, lasts.len() + 1);
        Self { lasts, of_ranges, sums }
    }

    pub(super) fn count(&self) -> usize {
        self.lasts.len() + 1
    }

    /// Of some classes, how many rules fit them, all added up.
    pub(super) fn rules_in(&self, (first, last): (u32, u32)) -> u64 {
        self.sums[last as usize + 1] - self.sums[first as usize]
    }
}

/// The greatest values of the classes that the ranges make.
fn ends(spans: &[Span], greatest: u128) -> Vec<u128> {
    let before = spans.iter().filter_map(|(first, _)| first.checked_sub(1));
    let last = spans.iter().map(|(_, last)| *last).filter(|last| *last != greatest);
    before.chain(last).collect()
}

fn sums(of_ranges: &[(u32, u32)], classes: usize) -> Vec<u64> {
    let mut steps = vec![0i64; classes + 1];
    for (first, last) in of_ranges {
        steps[*first as usize] += 1;
        steps[*last as usize + 1] -= 1;
    }
    let mut sums = Vec::with_capacity(classes + 1);
    let (mut sum, mut rules) = (0, 0);
    for step in steps {
        sums.push(sum);
        rules += step;
        sum += rules as u64;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_lie_between_the_ends_of_ranges() {
        // 0..=3 | 4..=5 | 6..=9 | 10..
        assert_eq!(ends(&[(4, 9), (0, 5), (6, 15)], 15), [3, 5, 9, 5]);
        let sums = sums(&[(1, 2), (0, 1), (2, 3)], 4);
        assert_eq!(sums, [0, 1, 3, 5, 6]);
    }
}
