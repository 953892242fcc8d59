//! What the verifier must be told, and the compiler must not know.

use core::arch::asm;

/// The same value, of which the compiler no longer knows where it came from.
///
/// Without it the compiler checks the bounds of one register and uses another,
/// which the verifier then finds unchecked.
#[inline(always)]
pub fn opaque(mut value: usize) -> usize {
    // SAFETY: the instruction copies a register to itself.
    unsafe {
        asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags));
    }
    value
}
