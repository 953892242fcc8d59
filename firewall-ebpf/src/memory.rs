//! What extra conditions keep in mind, in words that all CPUs change.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd};

use firewall_common::{
    extra::{Asking, EXTRAS_PER_GENERATION},
    seq::Seq,
};

use crate::maps::EXTRA_MEMORY;

/// How often a CPU tries to be the one that changes a word, before it lets the others
/// have it: the condition does not hold then.
const TRIES: u32 = 8;

/// Changes the word of an extra condition, unless the rules are only asked; gives
/// whether it holds.
#[inline(always)]
pub fn remember(asking: Asking, index: u32, change: impl Fn(u64) -> (u64, bool)) -> bool {
    let index = asking.slot * EXTRAS_PER_GENERATION + index;
    let Some(word) = EXTRA_MEMORY.get_ptr_mut(index) else { return false };
    change_word(word, asking.is_question, change)
}

/// As [`remember`], for a word of any map.
#[inline(always)]
pub fn change_word(word: *mut u64, is_question: bool, change: impl Fn(u64) -> (u64, bool)) -> bool {
    for _ in 0..TRIES {
        // SAFETY: the word is the map's, and the kernel reads it in one piece.
        let before = unsafe { word.read_volatile() };
        let (after, holds) = change(before);
        if is_question || after == before || exchange(word, before, after) {
            return holds;
        }
    }
    false
}

/// Writes the word if it is still what it was.
#[inline(always)]
pub fn exchange(word: *mut u64, before: u64, after: u64) -> bool {
    // SAFETY: the word is the map's.
    let (_, is_written) =
        unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(word, before, after) };
    is_written
}

/// Adds to a counter, whoever else does so on another CPU.
#[inline(always)]
pub fn add(counter: &mut u64, amount: u64) {
    // SAFETY: the counter is the map's, or the desk's.
    unsafe { atomic_xadd::<u64, u64, { SeqCst }>(counter, amount) };
}

/// Takes a number from what it was found to be to another one, or, where others come between, to
/// the higher one.
#[inline(always)]
pub fn advance(number: &mut Seq, found: Seq, to: Seq) {
    let number = (&raw mut *number).cast::<u32>();
    let mut was = found.0;
    for _ in 0..TRIES {
        if was == to.0 {
            return;
        }
        // SAFETY: the number is the map's, or the desk's, and the kernel reads it in one piece.
        let (now, is_written) =
            unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(number, was, to.0) };
        if is_written || !to.is_after(Seq(now)) {
            return;
        }
        was = now;
    }
}
