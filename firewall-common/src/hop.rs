//! Next hops as the short way remembers them, and how long it may.
//!
//! A direction of a flow names its hop, and when the routing table last said so. The
//! hop's own entry is shared by all flows that leave by it.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::time::Nanos;

/// Places in the table `hops`.
pub const HOPS: u32 = 4_096;

/// The number of no hop: packets of this direction need the stack, as long as nobody hears news.
pub const NOWHERE: u16 = u16::MAX;

/// An answer of the routing table holds as long as the clock shows the same tick: at most
/// 2^29 ns, which is about half a second.
const TICK_BITS: u32 = 29;

/// The tick of a point in time; none is 0.
#[inline(always)]
pub const fn tick(now: Nanos) -> u32 {
    (now.0 >> TICK_BITS) as u32 + 1
}

/// Which way a direction of a flow leaves, and since when: one word, so that two CPUs see all
/// of it or nothing.
///
/// From the highest bits down: the tick in which the routing table was asked, what the daemon had
/// counted by then of the changes that may make the answer another (16 bits), and the place
/// in `hops` (16 bits). Zero says that nobody has asked.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Way(pub u64);

impl Way {
    const HOP_BITS: u32 = 16;

    #[inline(always)]
    pub const fn new(tick: u32, epoch: u16, hop: u16) -> Self {
        Self(Self::asked(tick, epoch) << Self::HOP_BITS | hop as u64)
    }

    #[inline(always)]
    const fn asked(tick: u32, epoch: u16) -> u64 {
        (tick as u64) << 16 | epoch as u64
    }

    /// Whether the routing table would still say so, as far as anybody knows.
    #[inline(always)]
    pub const fn is_fresh(self, tick: u32, epoch: u16) -> bool {
        self.0 >> Self::HOP_BITS == Self::asked(tick, epoch)
    }

    /// The place in `hops`.
    #[inline(always)]
    pub const fn hop(self) -> u16 {
        self.0 as u16
    }
}

/// A next hop, for packets that come in by one interface: what must be true of them, and
/// what is written into them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hop {
    /// Who may use the entry: [`Claim`].
    pub claim: u64,
    /// The address of the interface that the packet comes in by, as [`station`] packs it.
    pub station: u64,
    pub in_ifindex: u32,
    pub out_ifindex: u32,
    /// The first twelve bytes of the frame as it leaves: destination, source.
    pub addresses: [u32; 3],
    /// Bytes of the longest IP packet that the route takes.
    pub mtu: u16,
    /// For what the route was asked beside the ends: the DSCP of IPv4 ([`dscp`]), or [`IPV6`].
    pub class: u8,
    /// How they leave: an [`Exit`]. One that XDP can redirect is another hop than one for the stack.
    pub exit: u8,
}

/// How a packet leaves that takes the short way.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By a redirect, with what the hop says written into it: from XDP.
    Redirect = 0,
    /// By the stack, as it came: from TC.
    Stack = 1,
}

impl Hop {
    /// Whether an entry of the table is this hop.
    #[inline(always)]
    pub const fn is_same(&self, other: &Self) -> bool {
        let [a, b, c] = self.addresses;
        let [d, e, f] = other.addresses;
        self.station == other.station
            && self.in_ifindex == other.in_ifindex
            && self.out_ifindex == other.out_ifindex
            && a == d
            && b == e
            && c == f
            && self.mtu == other.mtu
            && self.class == other.class
            && self.exit == other.exit
    }

    /// Where in the table to look for it first.
    #[inline(always)]
    pub const fn place(&self) -> u32 {
        // The golden ratio of 2^32 spreads neighbours.
        const SPREAD: u32 = 0x9e37_79b1;
        let [a, b, c] = self.addresses;
        let mix = a ^ b.rotate_left(11) ^ c.rotate_left(22) ^ self.station as u32;
        let kind = (self.class as u32) << 16 ^ (self.exit as u32) << 24;
        let ways = self.in_ifindex.rotate_left(8) ^ self.out_ifindex ^ kind;
        (mix ^ ways).wrapping_mul(SPREAD) >> 16
    }
}

/// A station's address as one number: its bytes from the lowest on, then zeroes.
#[inline(always)]
pub const fn station(address: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = address;
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

/// The bits of a type of service by which routes are chosen (RFC 2474).
#[inline(always)]
pub const fn dscp(tos: u8) -> u8 {
    tos & 0xfc
}

/// The class of every packet of IPv6, whose traffic class the routing table is not told: no DSCP, so
/// that no hop is one for both families.
pub const IPV6: u8 = 1;

/// Who may use an entry, as [`Hop::claim`] holds it: nobody (0), whoever is writing it, or
/// every flow that was told so since the tick that stands there.
///
/// An entry is written anew only when no flow can name it any more: a way is as old as its
/// tick, and that of the entry is no older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim(pub u64);

impl Claim {
    /// Ticks after which nobody uses an entry that nobody has confirmed.
    const LIFE: u32 = 8;
    const WRITTEN: u64 = 1;

    /// Somebody is writing it.
    #[inline(always)]
    pub const fn writing(tick: u32) -> Self {
        Self((tick as u64) << 32)
    }

    /// It holds since this tick.
    #[inline(always)]
    pub const fn ready(tick: u32) -> Self {
        Self((tick as u64) << 32 | Self::WRITTEN)
    }

    #[inline(always)]
    pub const fn is_ready(self) -> bool {
        self.0 & Self::WRITTEN != 0
    }

    #[inline(always)]
    const fn tick(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether the entry may be given to another hop.
    #[inline(always)]
    pub const fn is_free(self, tick: u32) -> bool {
        self.0 == 0 || tick.wrapping_sub(self.tick()) >= Self::LIFE && tick > self.tick()
    }
}

const _: () = assert!(size_of::<Way>() == 8);
const _: () = assert!(size_of::<Hop>() == 40);
const _: () = assert!(HOPS.is_power_of_two() && HOPS <= NOWHERE as u32);
const _: () = assert!(IPV6 != dscp(IPV6));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_old_after_a_second_whatever_the_clock_shows() {
        let second = Nanos::from_secs(1);
        for start in [0, 1, 536_870_911, 536_870_912, u64::from(u32::MAX)] {
            let then = Nanos(start);
            let way = Way::new(tick(then), 0, 0);
            assert!(way.is_fresh(tick(then), 0));
            assert!(!way.is_fresh(tick(then.after(second)), 0), "{start}");
        }
    }

    #[test]
    fn no_way_is_fresh_that_nobody_has_asked_for() {
        assert!(!Way::default().is_fresh(tick(Nanos::ZERO), 0));
    }

    #[test]
    fn news_make_every_way_old() {
        let way = Way::new(7, 3, 0xffff);
        assert!(way.is_fresh(7, 3) && !way.is_fresh(7, 4));
    }

    #[test]
    fn an_entry_is_given_away_only_when_nobody_can_name_it() {
        assert!(Claim(0).is_free(1));
        for claim in [Claim::ready(100), Claim::writing(100)] {
            assert!(!claim.is_free(100) && !claim.is_free(99) && !claim.is_free(107));
            assert!(claim.is_free(108));
        }
        assert!(Claim::ready(5).is_ready() && !Claim::writing(5).is_ready());
    }
}
