//! Sequence numbers of TCP: a circle of 2^32, on which *before* and *after* hold
//! for numbers that are less than half of it apart (RFC 9293 section 3.4).

use bytemuck::{Pod, Zeroable};

/// A sequence number, in host order. It cannot be compared with `<`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Seq(pub u32);

impl Seq {
    #[inline(always)]
    pub const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    #[inline(always)]
    pub const fn is_after(self, other: Self) -> bool {
        other.is_before(self)
    }

    /// The number `bytes` further on.
    #[inline(always)]
    pub const fn plus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The number `bytes` back.
    #[inline(always)]
    pub const fn minus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }

    /// Takes the number from what it was found to be to another one. Where it is something else by
    /// now, the higher one stays.
    #[inline(always)]
    pub const fn advance(&mut self, found: Self, to: Self) {
        if self.0 == found.0 || to.is_after(*self) {
            *self = to;
        }
    }

    /// How many bytes lie between `earlier` and this number.
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_added_lies_after_and_can_be_taken_away(start: u32, bytes in 1u32..1 << 31) {
            let (start, further) = (Seq(start), Seq(start).plus(bytes));
            prop_assert!(start.is_before(further) && further.is_after(start));
            prop_assert_eq!((further.since(start), further.minus(bytes)), (bytes, start));
        }
    }

    #[test]
    fn the_circle_closes() {
        assert!(Seq(u32::MAX).is_before(Seq(0)));
        assert!(!Seq(5).is_before(Seq(5)) && !Seq(5).is_after(Seq(5)));
    }
}
