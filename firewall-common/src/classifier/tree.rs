//! The class of a value: the number of classes that end below it.
//!
//! The tree is implicit: the children of the node `n` of a level are the nodes `16 n` to
//! `16 n + 15` of the next one, and below the last level the classes themselves. Nothing
//! here branches on what is compared: the kernel's verifier would follow each way down.

use super::{FieldLine, Index, LEVELS, LINES_OF_WIDE, Line, WORDS};

/// An address of IPv6 as it stands in a packet.
pub(super) type Wide = [u32; LINES_OF_WIDE as usize];

/// The class of a number: an address of IPv4, or a protocol and a port.
#[inline(always)]
pub(super) fn class<I: Index>(index: &I, slot: u32, field: &FieldLine, value: u32) -> Option<u32> {
    let mut node = 0;
    for level in 0..LEVELS {
        if level as u32 >= field.depth {
            break;
        }
        let line = index.line(slot, field.levels[level] + node)?;
        node = node * WORDS as u32 + below(line, value);
    }
    Some(node)
}

/// The child of a node of one level that an address of IPv6 belongs to; behind the last
/// level the node is the class, and stays.
#[inline(always)]
pub(super) fn descend_wide<I: Index>(
    index: &I,
    slot: u32,
    field: &FieldLine,
    value: &Wide,
    (level, node): (u32, u32),
) -> Option<u32> {
    if level >= field.depth {
        return Some(node);
    }
    let first = field.levels[level as usize & (LEVELS - 1)] + node * LINES_OF_WIDE;
    let lines = [
        index.line(slot, first)?,
        index.line(slot, first + 1)?,
        index.line(slot, first + 2)?,
        index.line(slot, first + 3)?,
    ];
    Some(node * WORDS as u32 + below_wide(lines, value))
}

/// How many separators of a node are less than the value: 0 to 15.
#[inline(always)]
fn below(line: &Line, value: u32) -> u32 {
    let mut found = 0;
    for half in [8, 4, 2, 1] {
        found += half * borrow(word(line, found + half - 1), value, 0);
    }
    found
}

/// As [`below`]; each line holds one word of all separators.
#[inline(always)]
fn below_wide(lines: [&Line; LINES_OF_WIDE as usize], value: &Wide) -> u32 {
    let [first, second, third, fourth] = lines;
    let [a, b, c, d] = value.map(u32::from_be);
    let mut found = 0;
    for half in [8, 4, 2, 1] {
        let at = found + half - 1;
        let carried = borrow(word(fourth, at), d, 0);
        let carried = borrow(word(third, at), c, carried);
        let carried = borrow(word(second, at), b, carried);
        found += half * borrow(word(first, at), a, carried);
    }
    found
}

#[inline(always)]
const fn word(line: &Line, at: u32) -> u32 {
    line.words[at as usize & (WORDS - 1)]
}

/// What `a - b - carried` borrows, 0 or 1: whether the result is below zero. From the
/// uppermost bits, as a comparison would become a branch.
#[inline(always)]
const fn borrow(a: u32, b: u32, carried: u32) -> u32 {
    let difference = a.wrapping_sub(b).wrapping_sub(carried);
    ((!a & b) | ((!a | b) & difference)) >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_subtraction_borrows_when_the_result_is_below_zero(
            a in any::<u32>(), b in any::<u32>(), carried in 0..2u32
        ) {
            let is_below = i64::from(a) - i64::from(b) - i64::from(carried) < 0;
            prop_assert_eq!(borrow(a, b, carried), u32::from(is_below));
            prop_assert_eq!(borrow(a, a, carried), carried);
        }

        #[test]
        fn separators_below_a_value_are_counted(
            mut separators in any::<[u32; 15]>(), value in any::<u32>(), near in 0..15usize
        ) {
            separators.sort_unstable();
            let mut line = Line::default();
            line.words[..15].copy_from_slice(&separators);
            for value in [value, separators[near], separators[near].wrapping_add(1), 0, u32::MAX] {
                let count = separators.iter().filter(|one| **one < value).count();
                prop_assert_eq!(below(&line, value), count as u32);
            }
        }

        #[test]
        fn long_separators_are_compared_word_by_word(
            mut separators in any::<[[u8; 4]; 15]>(), value in any::<[u8; 4]>(), near in 0..15usize
        ) {
            // Small words, so that some are equal.
            let wide = |bytes: [u8; 4]| bytes.map(|byte| u32::from(byte % 3));
            separators.sort_unstable_by_key(|bytes| wide(*bytes));
            let mut lines = [Line::default(); 4];
            for (at, separator) in separators.into_iter().enumerate() {
                for (line, word) in lines.iter_mut().zip(wide(separator)) {
                    line.words[at] = word;
                }
            }
            let [a, b, c, d] = &lines;
            for value in [wide(value), wide(separators[near])] {
                let count = separators.iter().filter(|one| wide(**one) < value).count();
                prop_assert_eq!(below_wide([a, b, c, d], &value.map(u32::to_be)), count as u32);
            }
        }
    }
}
