//! CRC32c, the checksum of SCTP (RFC 9260 appendix A).

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The remainder of each byte.
static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            remainder = (remainder >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(remainder & 1));
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// A running sum.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Crc32c(u32);

impl Crc32c {
    pub const START: Self = Self(u32::MAX);

    #[inline(always)]
    pub fn byte(self, byte: u8) -> Self {
        let index = usize::from(self.0 as u8 ^ byte);
        Self((self.0 >> 8) ^ TABLE[index & 0xff])
    }

    /// The checksum field as it is loaded from memory: the sum's bytes stand in it
    /// from the lowest on.
    #[inline(always)]
    pub const fn finish(self) -> u32 {
        (!self.0).to_le()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_nine_digits_is_what_everybody_gets() {
        let sum = b"123456789".iter().fold(Crc32c::START, |sum, byte| sum.byte(*byte));
        assert_eq!(u32::from_le(sum.finish()), 0xe306_9283);
    }
}
