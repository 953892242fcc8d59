//! TCP sequence numbers (RFC 9293 section 3.4).

/// The number of one byte of a stream; compared by wrap-around difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seq(pub u32);

impl Seq {
    pub const fn plus(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes as u32))
    }

    pub const fn minus(self, bytes: usize) -> Self {
        Self(self.0.wrapping_sub(bytes as u32))
    }

    pub const fn is_before(self, other: Self) -> bool {
        self.since(other) < 0
    }

    /// How many bytes this one lies after `other`, negative when before it.
    pub const fn since(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// As [`Self::since`], zero when this one lies before `other`.
    pub const fn bytes_after(self, other: Self) -> usize {
        let distance = self.since(other);
        if distance < 0 { 0 } else { distance as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = Seq(u32::MAX);
        assert!(last.is_before(last.plus(1)) && last.is_before(Seq(5)));
        assert_eq!(Seq(5).bytes_after(last), 6);
        assert_eq!(last.bytes_after(Seq(5)), 0);
    }
}
