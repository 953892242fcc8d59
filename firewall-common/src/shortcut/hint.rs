//! Hints: where packets to a wire face were led the last time, for the short way.
//!
//! A hint may be wrong: its flow may be over or have another face now, another CPU may be writing
//! it, its mark may be another packet's. It saves a look into the table of translations where it
//! leads to a flow that says itself that it has the ends of the packet
//! ([`super::arrival::Arrival::is_right`]); else it is cleared. So nobody has to take hints back
//! when a flow ends (`docs/adr/0019-hints-for-what-comes-to-a-wire-face.md`).

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::{Address, Ends, Halves};

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

/// Which of the places that belong to a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    First,
    /// The neighbour of the first.
    Second,
}

/// The ends of a packet and its protocol as one number. Others may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    #[inline(always)]
    pub fn of<A: Address>(wire: &Ends<A>, protocol: u8) -> Self {
        // Odd, without a pattern: from the golden ratio of 2^64, and from splitmix64.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        const OTHER: u64 = 0xbf58_476d_1ce4_e5b9;
        const FURTHER: u64 = 0x94d0_49bb_1331_11eb;
        let [first, second] = A::mixed(wire.src, wire.dst);
        let ports = ports(wire) | u64::from(protocol) << 32;
        let sum = first.wrapping_mul(SPREAD).wrapping_add(ports.wrapping_mul(OTHER));
        Self(sum.wrapping_add(second.wrapping_mul(FURTHER)))
    }

    /// Where its hint stands in a table with so many places, as the binary logarithm (at least one): the
    /// high bits are the best ones of a product.
    #[inline(always)]
    pub const fn place(self, part: Part, bits: u32) -> u32 {
        let first = self.0.wrapping_shr(u64::BITS.wrapping_sub(bits)) as u32;
        match part {
            Part::First => first,
            Part::Second => first ^ 1,
        }
    }
}

impl Hint {
    /// None: no flow has these ends.
    pub const NONE: Self = Self { mark: 0, inside: 0 };

    /// That packets of this mark have these ends inside.
    #[inline(always)]
    pub const fn new(mark: Mark, inside: &Ends<u32>) -> Self {
        Self { mark: mark.0, inside: inside.dst as u64 | ports(inside) << 32 }
    }

    #[inline(always)]
    pub const fn is_of(&self, mark: Mark) -> bool {
        self.mark == mark.0
    }

    /// The ends that a packet of this mark, which has come with these, may have inside.
    #[inline(always)]
    pub const fn inside(&self, mark: Mark, wire: &Ends<u32>) -> Option<Ends<u32>> {
        if !self.is_of(mark) {
            return None;
        }
        let (sport, dport) = ((self.inside >> 32) as u16, (self.inside >> 48) as u16);
        Some(Ends { src: wire.src, dst: self.inside as u32, sport, dport })
    }
}

/// A hint of IPv6: what of the inside does not fit into the first place stands in the neighbouring one.
///
/// Either may be another hint's by then. That the second belongs to the first it tells by a part of
/// the mark, which saves a look in vain, and is no more believed than all the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint6 {
    /// Its mark, and the first half of the destination's address.
    pub first: Hint,
    /// In place of a mark both ports and the low half of the mark, then the address's second half.
    pub second: Hint,
}

impl Hint6 {
    /// That packets of this mark have these ends inside.
    #[inline(always)]
    pub const fn new(mark: Mark, inside: &Ends<Halves>) -> Self {
        let Halves([front, back]) = inside.dst;
        let rest = ports(inside) | mark.0 << 32;
        Self {
            first: Hint { mark: mark.0, inside: front },
            second: Hint { mark: rest, inside: back },
        }
    }

    /// The ends that a packet of this mark, which has come with these, may have inside.
    #[inline(always)]
    pub const fn inside(&self, mark: Mark, wire: &Ends<Halves>) -> Option<Ends<Halves>> {
        let Self { first, second } = self;
        if !first.is_of(mark) || second.mark >> 32 != mark.0 & u32::MAX as u64 {
            return None;
        }
        let (sport, dport) = (second.mark as u16, (second.mark >> 16) as u16);
        Some(Ends { src: wire.src, dst: Halves([first.inside, second.inside]), sport, dport })
    }
}

/// Both, the source's in the low half.
#[inline(always)]
const fn ports<A>(ends: &Ends<A>) -> u64 {
    ends.sport as u64 | (ends.dport as u64) << 16
}

const _: () = assert!(size_of::<Hint>() == 16);
