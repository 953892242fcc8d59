//! memcpy(3) and memmove(3) of a program that is linked with musl on x86-64. Those of musl begin a string
//! instruction for any length, some 30 cycles, and most of what is copied here are words of a line: a
//! list of flows took three times as long.
//!
//! What is short is read as a whole before anything is written, so that it may overlap. There is no
//! loop and no piece of more than 16 bytes, which the compiler could make a call of memcpy.

use std::arch::asm;

/// What four pieces hold.
const SHORT: usize = 64;

/// # Safety
///
/// As memcpy(3).
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promises are those of both.
    unsafe {
        match len <= SHORT {
            true => short(to, from, len),
            false => forwards(to, from, len),
        }
    }
    to
}

/// # Safety
///
/// As memmove(3).
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    let ahead = to.addr().wrapping_sub(from.addr());
    // SAFETY: the caller's promises; what lies behind its source within its length is
    // written from the end.
    unsafe {
        match len <= SHORT {
            true => short(to, from, len),
            false if ahead >= len => forwards(to, from, len),
            false => backwards(to, from, len),
        }
    }
    to
}

/// At most [`SHORT`] bytes: their first and their last ones.
#[inline(always)]
unsafe fn short(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: no piece is longer than the length.
    unsafe {
        match len {
            0 => {}
            1 => to.write(from.read()),
            2..4 => both_ends::<u16>(to, from, len),
            4..8 => both_ends::<u32>(to, from, len),
            8..16 => both_ends::<u64>(to, from, len),
            16..32 => both_ends::<u128>(to, from, len),
            _ => both_halves(to, from, len),
        }
    }
}

/// # Safety
///
/// Both pieces lie within the length, and cover it.
#[inline(always)]
unsafe fn both_ends<T>(to: *mut u8, from: *const u8, len: usize) {
    let behind = len - size_of::<T>();
    // SAFETY: the caller's promise.
    unsafe {
        let first = from.cast::<T>().read_unaligned();
        let last = from.add(behind).cast::<T>().read_unaligned();
        to.cast::<T>().write_unaligned(first);
        to.add(behind).cast::<T>().write_unaligned(last);
    }
}

/// [`both_ends`] of two pieces each.
///
/// # Safety
///
/// The length is that of two to four pieces.
#[inline(always)]
unsafe fn both_halves(to: *mut u8, from: *const u8, len: usize) {
    const PIECE: usize = size_of::<u128>();
    let places = [0, PIECE, len - 2 * PIECE, len - PIECE];
    // SAFETY: the caller's promise.
    unsafe {
        let first = from.add(places[0]).cast::<u128>().read_unaligned();
        let second = from.add(places[1]).cast::<u128>().read_unaligned();
        let third = from.add(places[2]).cast::<u128>().read_unaligned();
        let fourth = from.add(places[3]).cast::<u128>().read_unaligned();
        to.add(places[0]).cast::<u128>().write_unaligned(first);
        to.add(places[1]).cast::<u128>().write_unaligned(second);
        to.add(places[2]).cast::<u128>().write_unaligned(third);
        to.add(places[3]).cast::<u128>().write_unaligned(fourth);
    }
}

#[inline(always)]
unsafe fn forwards(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promises; the direction flag is clear, as the ABI has it.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

#[inline(always)]
unsafe fn backwards(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promises; the direction flag is clear again behind it.
    unsafe {
        asm!(
            "std", "rep movsb", "cld",
            inout("rcx") len => _, inout("rdi") to.add(len - 1) => _,
            inout("rsi") from.add(len - 1) => _,
            options(nostack)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn every_length_is_copied_and_nothing_beside_it() {
        let source = bytes(600);
        for len in 0..512 {
            let mut target = vec![0xee; 600];
            // SAFETY: both have room.
            let answer = unsafe { memcpy(target[40..].as_mut_ptr(), source[7..].as_ptr(), len) };
            assert_eq!(answer, target[40..].as_mut_ptr());
            assert_eq!(target[40..40 + len], source[7..7 + len]);
            assert!(target[..40].iter().chain(&target[40 + len..]).all(|byte| *byte == 0xee));
        }
    }

    #[test]
    fn what_overlaps_is_moved_as_if_it_did_not() {
        for len in 0..300 {
            for (from, to) in [(0, 1), (1, 0), (50, 60), (60, 50), (0, 200), (200, 0), (9, 9)] {
                let mut memory = bytes(600);
                let mut expected = memory.clone();
                expected.copy_within(from..from + len, to);
                let start = memory.as_mut_ptr();
                // SAFETY: both lie within it.
                unsafe { memmove(start.add(to), start.add(from), len) };
                assert_eq!(memory, expected, "{len} bytes from {from} to {to}");
            }
        }
    }
}
