//! Which options a TCP header has: for `--tcp-option` and `-m tcpmss`.
//!
//! Read as iptables reads them, which is more lenient than a TCP: the end of the list
//! does not end it, and an option that says it has no length takes one byte.

use bytemuck::{Pod, Zeroable};

use crate::{headers::Headers, packet::Packet};

/// Bytes of a TCP header before its options.
const FIXED: u32 = 20;
/// Bytes of the longest list.
pub const MAX_LEN: u32 = 40;
/// The kind and length of the maximum segment size (RFC 9293 section 3.7.1).
const MSS: u8 = 2;
const MSS_LEN: u32 = 4;

/// The bytes of the options, and what they say.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct OptionKinds {
    bytes: [u8; 64],
    len: u32,
    at: u32,
    /// A bit for each kind.
    pub kinds: [u32; 8],
    pub mss: u16,
    pub has_mss: u8,
    /// Where its option begins, from the first one on.
    pub mss_at: u8,
}

impl Default for OptionKinds {
    fn default() -> Self {
        Self::zeroed()
    }
}

impl OptionKinds {
    /// Takes the options of a segment; [`OptionKinds::step`] reads them.
    #[inline(always)]
    pub fn begin<P: Packet + ?Sized>(&mut self, packet: &P, headers: &Headers) {
        self.bytes = [0; 64];
        self.at = 0;
        self.kinds = [0; 8];
        self.has_mss = 0;
        let len = headers.payload.wrapping_sub(headers.l4).wrapping_sub(FIXED);
        self.len = 0;
        if len != 0 && len <= MAX_LEN && packet.copy(headers.l4 + FIXED, len, &mut self.bytes) {
            self.len = len;
        }
    }

    /// Reads one option; `true` when none is left.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        let (at, len) = (self.at, self.len);
        if at >= len {
            return true;
        }
        let kind = self.byte(at);
        self.kinds[usize::from(kind >> 5) & 7] |= 1 << (kind & 31);
        let size = u32::from(self.byte(at + 1));
        if kind == MSS && self.has_mss == 0 && size == MSS_LEN && len - at >= MSS_LEN {
            self.has_mss = 1;
            self.mss_at = at as u8;
            self.mss = u16::from_be_bytes([self.byte(at + 2), self.byte(at + 3)]);
        }
        self.at = at + if kind < 2 || size == 0 { 1 } else { size };
        false
    }

    #[inline(always)]
    const fn byte(&self, at: u32) -> u8 {
        self.bytes[(at & 63) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> OptionKinds {
        let mut options = OptionKinds { len: bytes.len() as u32, ..OptionKinds::default() };
        options.bytes[..bytes.len()].copy_from_slice(bytes);
        while !options.step() {}
        options
    }

    #[test]
    fn kinds_and_the_segment_size_are_found() {
        let options = read(&[2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 0, 0]);
        assert_eq!(options.kinds[0], 0b1_1111);
        assert_eq!((options.has_mss, options.mss), (1, 1460));
    }

    #[test]
    fn an_option_without_a_length_takes_one_byte_and_a_cut_one_ends_the_list() {
        assert_eq!(read(&[9, 0, 8, 10]).kinds[0], 1 << 9 | 1 << 0 | 1 << 8);
        assert_eq!(read(&[254, 200, 2, 4]).kinds, [0, 0, 0, 0, 0, 0, 0, 1 << 30]);
        assert_eq!(read(&[2, 4, 5]).has_mss, 0);
    }
}
