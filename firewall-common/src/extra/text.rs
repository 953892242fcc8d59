//! `-m string`: bytes that a packet contains, counted from its IP header on.
//!
//! What is searched is a copy of the packet's first [`WINDOW`] bytes. The search (Knuth,
//! Morris and Pratt, SIAM J. Comput. 6, 1977) reads each of them once: a step either goes
//! on in the window, or falls back in the pattern.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::Extra;
use crate::tables::Rules;

/// Bytes of a packet that are searched.
pub const WINDOW: usize = 2_048;
/// Bytes in a pattern, as in the kernel.
pub const LONGEST: usize = 128;
/// Different patterns in one generation.
pub const PATTERNS_PER_GENERATION: u32 = 256;

/// What is searched for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Pattern {
    /// Bytes, at least one.
    pub len: u32,
    /// Letters are compared without their case; the pattern has capital ones.
    pub ignores_case: u32,
    pub bytes: [u8; LONGEST],
    /// Where to go on when the byte in this place does not fit: so much before it fits
    /// already.
    pub fallback: [u8; LONGEST],
}

/// The first bytes of a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Window {
    pub len: u32,
    pub bytes: [u8; WINDOW],
}

impl Pattern {
    /// `None` when there are no bytes, or too many.
    pub fn new(text: &[u8], ignores_case: bool) -> Option<Self> {
        let mut pattern = Self::zeroed();
        pattern.bytes.get_mut(..text.len())?.copy_from_slice(text);
        pattern.len = text.len() as u32;
        pattern.ignores_case = u32::from(ignores_case);
        if ignores_case {
            pattern.bytes.iter_mut().for_each(|byte| *byte = capital(*byte));
        }
        let mut matched = 0;
        for place in 1..text.len() {
            pattern.fallback[place] = matched as u8;
            while matched > 0 && pattern.bytes[place] != pattern.bytes[matched] {
                matched = pattern.fallback[matched] as usize;
            }
            if pattern.bytes[place] == pattern.bytes[matched] {
                matched += 1;
            }
        }
        (!text.is_empty()).then_some(pattern)
    }
}

/// As the kernel has it: letters of Latin-1.
#[inline(always)]
const fn capital(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | 0xe0..=0xf6 | 0xf8..=0xfe => byte - 32,
        _ => byte,
    }
}

/// How far a search has come.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Search {
    /// In the window, and where it ends.
    place: u32,
    end: u32,
    /// Bytes of the pattern that fit.
    matched: u32,
}

/// A search and where it searches: in one map, as the kernel lets a program have 64 of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Desk {
    pub search: Search,
    pub window: Window,
}

impl Search {
    /// Steps that the longest search takes: each byte is read once, and each step back
    /// takes back one forward.
    pub const MAX_STEPS: u32 = 2 * WINDOW as u32 + 1;

    /// Between two offsets, the second one excluded.
    #[inline(always)]
    pub const fn new(from: u32, to: u32, window: &Window) -> Self {
        Self { place: from, end: if to < window.len { to } else { window.len }, matched: 0 }
    }

    /// `true` when it is over.
    #[inline(always)]
    pub const fn step(&mut self, pattern: &Pattern, window: &Window) -> bool {
        if self.matched >= pattern.len || self.place >= self.end {
            return true;
        }
        let byte = window.bytes[self.place as usize & (WINDOW - 1)];
        let byte = if pattern.ignores_case == 0 { byte } else { capital(byte) };
        let place = self.matched as usize & (LONGEST - 1);
        if byte == pattern.bytes[place] {
            self.place += 1;
            self.matched += 1;
        } else if self.matched == 0 {
            self.place += 1;
        } else {
            self.matched = pattern.fallback[place] as u32;
        }
        false
    }

    #[inline(always)]
    pub const fn has_found(&self, pattern: &Pattern) -> bool {
        self.matched >= pattern.len
    }
}

/// Whether the pattern is found. The arguments: the first offset; the one behind the last;
/// the pattern's index.
#[inline(always)]
pub fn holds<T: Rules>(tables: &T, extra: &Extra, slot: u32) -> bool {
    let [from, to, pattern, ..] = extra.arguments;
    tables.contains(slot, pattern, from, to) != (extra.invert != 0)
}

/// Searches a window in one go.
pub fn search(pattern: &Pattern, window: &Window, from: u32, to: u32) -> bool {
    let mut search = Search::new(from, to, window);
    for _ in 0..Search::MAX_STEPS {
        if search.step(pattern, window) {
            break;
        }
    }
    search.has_found(pattern)
}

const _: () = assert!(size_of::<Pattern>() == 264);
const _: () = assert!(WINDOW.is_power_of_two() && LONGEST.is_power_of_two());

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn window(bytes: &[u8]) -> Window {
        let mut window = Window::zeroed();
        window.len = bytes.len() as u32;
        window.bytes[..bytes.len()].copy_from_slice(bytes);
        window
    }

    fn plainly(pattern: &[u8], bytes: &[u8], from: usize, to: usize) -> bool {
        let within = bytes.get(from..to.min(bytes.len())).unwrap_or_default();
        within.windows(pattern.len()).any(|found| found == pattern)
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_is_there(
            pattern in vec(select(b"ab".to_vec()), 1..6),
            bytes in vec(select(b"aab".to_vec()), 0..60),
            from in 0..20usize,
            to in 0..80usize,
        ) {
            let compiled = Pattern::new(&pattern, false).unwrap();
            let found = search(&compiled, &window(&bytes), from as u32, to as u32);
            prop_assert_eq!(found, plainly(&pattern, &bytes, from, to));
        }
    }

    #[test]
    fn the_longest_search_comes_to_its_end() {
        let pattern = Pattern::new(&[&[b'a'; LONGEST - 1][..], b"b"].concat(), false).unwrap();
        let mut bytes = [b'a'; WINDOW];
        assert!(!search(&pattern, &window(&bytes), 0, u32::MAX));
        bytes[WINDOW - 1] = b'b';
        assert!(search(&pattern, &window(&bytes), 0, u32::MAX));
    }

    #[test]
    fn letters_are_compared_without_their_case_on_request() {
        let bytes = window(b"GeT /");
        assert!(search(&Pattern::new(b"gEt", true).unwrap(), &bytes, 0, 9));
        assert!(!search(&Pattern::new(b"gEt", false).unwrap(), &bytes, 0, 9));
    }

    #[test]
    fn a_pattern_has_one_byte_at_least_and_not_too_many() {
        assert!(Pattern::new(b"", false).is_none());
        assert!(Pattern::new(&[0; LONGEST + 1], false).is_none());
        assert!(Pattern::new(&[0; LONGEST], false).is_some());
    }
}
