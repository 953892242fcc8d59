//! The chunks of an SCTP packet (RFC 9260 section 3.2): which there are, whether they
//! may stand together, and whether the packet's checksum is right.
//!
//! They are looked at one a step, so that the kernel's programs can leave the walk to
//! a loop of the kernel.

use bytemuck::{Pod, Zeroable};

use crate::{
    crc32c::Crc32c,
    headers::{Fragment, Headers},
    packet::Packet,
    wire::Sctp,
};

use super::sctp::Chunk;

/// Chunks in the longest packet, each as short as can be.
pub const MAX_CHUNKS: u32 = 16_384;
/// The longest packet whose checksum is read: as for TCP, beyond it stands what the
/// stack has joined.
const MAX_VERIFIED: u32 = 2_048;
/// Steps in which such a packet is summed up, and one more.
pub const MAX_SUM_STEPS: u32 = MAX_VERIFIED / SUM_STEP + 1;
const SUM_STEP: u32 = 32;

/// Type, flags and length of a chunk.
const CHUNK_HEADER: u32 = 4;
/// The same, and all fixed fields of an INIT or INIT ACK.
const INIT_HEADER: u32 = 20;

/// Types as a set: a bit each, and one for all that is above.
pub(super) const DATA: u32 = 1 << 0;
const HIGH_TYPES: u32 = 1 << 31;
/// May only stand alone.
const ALONE: u32 = Chunk::Init.bit() | Chunk::InitAck.bit() | Chunk::ShutdownComplete.bit();
/// May only stand first.
const FIRST: u32 = ALONE | Chunk::CookieEcho.bit() | Chunk::CookieAck.bit();
/// Say something about the association.
pub(super) const TELLING: u32 = FIRST
    | Chunk::Heartbeat.bit()
    | Chunk::HeartbeatAck.bit()
    | Chunk::Abort.bit()
    | Chunk::Shutdown.bit()
    | Chunk::ShutdownAck.bit()
    | Chunk::Error.bit();

/// Whether the checksum is to be right.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    Unread = 0,
    Right = 1,
    /// Or left to hardware that the packet never meets: zero.
    RightOrPartial = 2,
}

impl Sum {
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Unread,
            1 => Self::Right,
            _ => Self::RightOrPartial,
        }
    }
}

/// A packet's chunks, and where the walk through them is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Chunks {
    /// Part of the packet: from the chunk on that is looked at.
    bytes: [u8; 64],
    /// The packet's verification tag.
    pub(super) tag: u32,
    /// Where the walk is, and where the packet ends.
    at: u32,
    end: u32,
    /// The types of all chunks, and how many there are.
    pub(super) types: u32,
    count: u32,
    crc: Crc32c,
    /// The checksum as it stands in the packet.
    field: u32,
    is_invalid: u32,
}

impl Chunks {
    /// Begins the survey.
    #[inline(always)]
    pub fn begin<P: Packet + ?Sized>(&mut self, packet: &P, headers: &Headers) {
        self.rewind(headers);
        (self.types, self.count, self.is_invalid) = (0, 0, 0);
        match packet.read::<Sctp>(headers.l4) {
            Some(header) => {
                self.tag = u32::from_be(header.tag);
                self.field = header.checksum;
            }
            None => self.is_invalid = 1,
        }
    }

    /// Goes back to the first chunk.
    #[inline(always)]
    pub const fn rewind(&mut self, headers: &Headers) {
        self.at = headers.payload;
        self.end = headers.payload.wrapping_add(headers.payload_len);
    }

    /// Looks at one chunk; `true` when none is left or the packet is INVALID.
    #[inline(always)]
    pub fn survey<P: Packet + ?Sized>(&mut self, packet: &P) -> bool {
        if !self.read(packet) {
            return true;
        }
        let bit = self.chunk_bit();
        // Neither behind one that stands alone, nor itself behind another.
        let is_misplaced = self.count != 0 && (bit & FIRST != 0 || self.types & ALONE != 0);
        if is_misplaced || self.chunk_len() == 0 {
            return self.refuse();
        }
        self.types |= bit;
        self.count = self.count.wrapping_add(1);
        self.go_on()
    }

    /// Begins to sum up the packet; `false` when its sum need not be right, or is
    /// not worth reading: of data, the receiver will tell.
    #[inline(always)]
    pub fn begin_sum(&mut self, headers: &Headers, sum: Sum) -> bool {
        let is_whole = headers.fragment == Fragment::Whole as u8;
        let len = headers.payload_len.wrapping_add(Sctp::LEN);
        let is_partial = matches!(sum, Sum::RightOrPartial) && self.field == 0;
        if matches!(sum, Sum::Unread) || is_partial || !is_whole || len > MAX_VERIFIED {
            return false;
        }
        self.at = headers.l4;
        self.end = headers.l4.wrapping_add(len);
        self.crc = Crc32c::START;
        true
    }

    /// Adds the next bytes; `true` when none are left. `begin` is where the packet's
    /// header stands, whose checksum counts as zero.
    #[inline(always)]
    pub fn add<P: Packet + ?Sized>(&mut self, packet: &P, begin: u32) -> bool {
        let left = self.end.wrapping_sub(self.at);
        let size = if left < SUM_STEP { left } else { SUM_STEP };
        if size == 0 || !packet.copy(self.at, size, &mut self.bytes) {
            return true;
        }
        if self.at == begin {
            self.bytes[8] = 0;
            self.bytes[9] = 0;
            self.bytes[10] = 0;
            self.bytes[11] = 0;
        }
        let mut crc = self.crc;
        for at in 0..SUM_STEP {
            if at >= size {
                break;
            }
            crc = crc.byte(self.bytes[(at & 63) as usize]);
        }
        self.crc = crc;
        self.at = self.at.wrapping_add(size);
        false
    }

    /// Compares the sum with what the packet says.
    #[inline(always)]
    pub const fn end_sum(&mut self) {
        if self.at == self.end && self.crc.finish() != self.field {
            self.is_invalid = 1;
        }
    }

    /// The tag that an INIT or INIT ACK tells; `None` when it is cut off.
    #[inline(always)]
    pub(super) fn init_tag<P: Packet + ?Sized>(&mut self, packet: &P) -> Option<u32> {
        let fits = self.end.wrapping_sub(self.at) >= INIT_HEADER;
        if !fits || !packet.copy(self.at, INIT_HEADER, &mut self.bytes) {
            return None;
        }
        let [_, _, _, _, a, b, c, d, ..] = self.bytes;
        Some(u32::from_be_bytes([a, b, c, d]))
    }

    #[inline(always)]
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline(always)]
    pub(super) const fn is_invalid(&self) -> bool {
        self.is_invalid != 0
    }

    #[inline(always)]
    pub(super) const fn chunk_type(&self) -> u8 {
        self.bytes[0]
    }

    #[inline(always)]
    pub(super) const fn chunk_flags(&self) -> u8 {
        self.bytes[1]
    }

    /// Reads the header of the next chunk; `false` when none is left.
    #[inline(always)]
    pub(super) fn read<P: Packet + ?Sized>(&mut self, packet: &P) -> bool {
        let is_inside = self.at < self.end && self.end.wrapping_sub(self.at) >= CHUNK_HEADER;
        self.is_invalid == 0 && is_inside && packet.copy(self.at, CHUNK_HEADER, &mut self.bytes)
    }

    #[inline(always)]
    const fn chunk_len(&self) -> u32 {
        let [_, _, high, low, ..] = self.bytes;
        u16::from_be_bytes([high, low]) as u32
    }

    #[inline(always)]
    const fn chunk_bit(&self) -> u32 {
        let chunk_type = self.bytes[0] as u32;
        if chunk_type < 31 { 1 << (chunk_type & 31) } else { HIGH_TYPES }
    }

    #[inline(always)]
    pub(super) const fn go_on(&mut self) -> bool {
        // Chunks begin at whole words.
        self.at = self.at.wrapping_add((self.chunk_len().wrapping_add(3)) & !3);
        false
    }

    #[inline(always)]
    pub(super) const fn refuse(&mut self) -> bool {
        self.is_invalid = 1;
        true
    }
}
