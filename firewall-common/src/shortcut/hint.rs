//! Hints: where packets to a wire face were led the last time, for the short way.
//!
//! A hint may be wrong: its flow may be over or have another face now, another CPU may be writing
//! it, its mark may be another packet's. It saves a look into the table of translations where it
//! leads to a flow that says itself that it has the ends of the packet
//! ([`super::arrival::Arrival::is_right`]); else it is cleared. So nobody has to take hints back
//! when a flow ends (`docs/adr/0019-hints-for-what-comes-to-a-wire-face.md`).

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::Ends;

/// Places in the table `hints`, as the binary logarithm, where nobody says otherwise: one for each of
/// so many flows as there may be by default.
pub const PLACE_BITS: u32 = 18;

/// Four of them fill a line of the cache. Each word is read and written at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hint {
    /// The [`Mark`] of the packets that are meant.
    pub mark: u64,
    /// What they have inside, from the low bits on: the destination's address, the source's port
    /// (16 bits), the destination's (16), in the order of memory. The source's address is the
    /// packet's own.
    pub inside: u64,
}

/// The ends of a packet and its protocol as one number. Others may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    #[inline(always)]
    pub const fn of(wire: &Ends, protocol: u8) -> Self {
        // Odd, without a pattern: from the golden ratio of 2^64, and from splitmix64.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        const OTHER: u64 = 0xbf58_476d_1ce4_e5b9;
        let addresses = wire.src as u64 | (wire.dst as u64) << 32;
        let ports = ports(wire) | (protocol as u64) << 32;
        Self(addresses.wrapping_mul(SPREAD).wrapping_add(ports.wrapping_mul(OTHER)))
    }

    /// Where its hint stands in a table with so many places, as the binary logarithm: the high bits
    /// are the best ones of a product.
    #[inline(always)]
    pub const fn place(self, bits: u32) -> u32 {
        self.0.wrapping_shr(u64::BITS.wrapping_sub(bits)) as u32
    }
}

impl Hint {
    /// None: no flow has these ends.
    pub const NONE: Self = Self { mark: 0, inside: 0 };

    /// That packets of this mark have these ends inside.
    #[inline(always)]
    pub const fn new(mark: Mark, inside: &Ends) -> Self {
        Self { mark: mark.0, inside: inside.dst as u64 | ports(inside) << 32 }
    }

    /// The ends that a packet of this mark, which has come with these, may have inside.
    #[inline(always)]
    pub const fn inside(&self, mark: Mark, wire: &Ends) -> Option<Ends> {
        if self.mark != mark.0 {
            return None;
        }
        let (sport, dport) = ((self.inside >> 32) as u16, (self.inside >> 48) as u16);
        Some(Ends { src: wire.src, dst: self.inside as u32, sport, dport })
    }
}

/// Both, the source's in the low half.
#[inline(always)]
const fn ports(ends: &Ends) -> u64 {
    ends.sport as u64 | (ends.dport as u64) << 16
}

const _: () = assert!(size_of::<Hint>() == 16);
