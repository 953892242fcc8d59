//! A TCP header with its options (RFC 9293 section 3.1), read as a whole.

use bytemuck::{Pod, Zeroable};

use crate::{
    checksum::{self, Sum},
    flow::protocol,
    headers::Headers,
    packet::Packet,
    tables::Tables,
    wire::Tcp,
};

/// Words that hold the longest header (60 bytes), and one more.
pub const HEADER_WORDS: usize = 16;
/// Bytes of the same.
pub const HEADER_BYTES: usize = HEADER_WORDS * 4;
/// Bytes of the longest header.
const LONGEST: u32 = 60;
/// Options are one byte long at least.
pub const MAX_OPTIONS: u32 = 40;

/// Kinds of options (RFC 9293, RFC 7323, RFC 2018) and their lengths.
mod kind {
    pub const END: u8 = 0;
    pub const NOTHING: u8 = 1;
    pub const MSS: (u8, u8) = (2, 4);
    pub const SCALE: (u8, u8) = (3, 3);
    pub const SACK_PERMITTED: (u8, u8) = (4, 2);
    pub const SACK: u8 = 5;
    pub const TIMESTAMPS: (u8, u8) = (8, 10);
}

/// Which options a segment has, or may have: bits.
pub mod has {
    pub const MSS: u8 = 1 << 0;
    pub const SCALE: u8 = 1 << 1;
    pub const SACK_PERMITTED: u8 = 1 << 2;
    pub const TIMESTAMPS: u8 = 1 << 3;
    /// Not an option but a wish: both ECN flags of a SYN (RFC 3168).
    pub const ECN: u8 = 1 << 4;
}

/// What options say.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Options {
    pub tsval: u32,
    pub tsecr: u32,
    pub mss: u16,
    /// The shift of windows, 0 to 14.
    pub scale: u8,
    /// Bits of [`has`].
    pub present: u8,
}

impl Options {
    #[inline(always)]
    pub const fn has(&self, bit: u8) -> bool {
        self.present & bit != 0
    }
}

/// A header as it stands in a packet, and what its options say.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Zeroable)]
pub struct TcpHeader {
    /// Zero behind its end.
    pub words: [u32; HEADER_WORDS],
    /// In bytes, 20 to 60.
    pub len: u32,
    /// The option to look at next.
    pub at: u32,
    pub options: Options,
    /// Where the two timestamps stand, 0 when they do not.
    pub timestamps_at: u32,
    /// Where the blocks of SACK stand and their bytes, 0 when there are none.
    pub sack_at: u32,
    pub sack_len: u32,
}

impl TcpHeader {
    /// Reads the header that `headers` describes; `false` when it is cut off.
    #[inline(always)]
    pub fn read<P: Packet + ?Sized, T: Tables>(
        &mut self,
        packet: &P,
        tables: &T,
        headers: &Headers,
    ) -> bool {
        *self = Self::default();
        self.len = headers.payload.wrapping_sub(headers.l4);
        let bytes: &mut [u8; HEADER_BYTES] = bytemuck::cast_mut(&mut self.words);
        let is_whole = self.len >= Tcp::LEN && self.len <= LONGEST;
        if !is_whole || !packet.copy(headers.l4, self.len, bytes) {
            return false;
        }
        self.at = Tcp::LEN;
        tables.scan(self);
        true
    }

    /// Notes what the option at `at` says; `true` behind the last. What does not end
    /// within the header ends the reading, as it does for the kernel.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        let at = self.at & (HEADER_BYTES as u32 - 1);
        let kind = self.byte(at);
        if kind == kind::END || at >= self.len {
            return true;
        }
        if kind == kind::NOTHING {
            self.at = at + 1;
            return false;
        }
        let len = self.byte(at + 1);
        if len < 2 || at + u32::from(len) > self.len {
            return true;
        }
        self.option(at, kind, len);
        self.at = at + u32::from(len);
        false
    }

    #[inline(always)]
    fn option(&mut self, at: u32, kind: u8, len: u8) {
        match (kind, len) {
            kind::MSS => {
                self.options.mss = u16::from_be_bytes([self.byte(at + 2), self.byte(at + 3)]);
                self.options.present |= has::MSS;
            }
            kind::SCALE => {
                self.options.scale = self.byte(at + 2).min(14);
                self.options.present |= has::SCALE;
            }
            kind::SACK_PERMITTED => self.options.present |= has::SACK_PERMITTED,
            kind::TIMESTAMPS => {
                self.options.tsval = self.number(at + 2);
                self.options.tsecr = self.number(at + 6);
                self.options.present |= has::TIMESTAMPS;
                self.timestamps_at = at + 2;
            }
            (kind::SACK, _) => {
                self.sack_at = at + 2;
                self.sack_len = u32::from(len) - 2;
            }
            _ => {}
        }
    }

    #[inline(always)]
    fn byte(&self, at: u32) -> u8 {
        let bytes: &[u8; HEADER_BYTES] = bytemuck::cast_ref(&self.words);
        bytes[at as usize & (HEADER_BYTES - 1)]
    }

    /// The number in network byte order at any place.
    #[inline(always)]
    pub(crate) fn number(&self, at: u32) -> u32 {
        u32::from_be_bytes([self.byte(at), self.byte(at + 1), self.byte(at + 2), self.byte(at + 3)])
    }

    #[inline(always)]
    pub(crate) fn set_number(&mut self, at: u32, number: u32) {
        let bytes: &mut [u8; HEADER_BYTES] = bytemuck::cast_mut(&mut self.words);
        let [a, b, c, d] = number.to_be_bytes();
        bytes[at as usize & (HEADER_BYTES - 1)] = a;
        bytes[(at + 1) as usize & (HEADER_BYTES - 1)] = b;
        bytes[(at + 2) as usize & (HEADER_BYTES - 1)] = c;
        bytes[(at + 3) as usize & (HEADER_BYTES - 1)] = d;
    }

    /// The checksum field, as it stands in memory.
    #[inline(always)]
    pub const fn checksum(&self) -> u16 {
        ((u32::from_be(self.words[4]) >> 16) as u16).to_be()
    }

    #[inline(always)]
    pub const fn set_checksum(&mut self, field: u16) {
        let urgent = u32::from_be(self.words[4]) & 0xffff;
        self.words[4] = ((u16::from_be(field) as u32) << 16 | urgent).to_be();
    }

    /// The sum of all its words.
    #[inline(always)]
    pub fn sum(&self) -> Sum {
        self.words.iter().fold(Sum::default(), |sum, word| sum.double_word(*word))
    }

    /// Whether the sender left the checksum to hardware that the frame never met:
    /// the field holds the pseudo-header's sum alone. A finished checksum may look
    /// like that by chance; without payload it is known by being right.
    #[inline(always)]
    pub fn is_unfinished(&self, headers: &Headers) -> bool {
        if !checksum::is_partial(headers, self.checksum()) {
            return false;
        }
        let tuple = &headers.tuple;
        let pseudo = Sum::pseudo_header(tuple.src, tuple.dst, protocol::TCP, self.len);
        let whole = self.words.iter().fold(pseudo, |sum, word| sum.double_word(*word));
        headers.payload_len != 0 || whole.finish() != 0
    }
}
