//! The header of either family, as the short way reads it.

use crate::{
    addr::Family,
    checksum::{Difference, Sum},
    hop,
    wire::{self, ether_type},
};

use super::{Address, Halves};

/// Of the type byte and what follows it: no options.
const VERSION_AND_LENGTH: u8 = 0x45;
/// More fragments, or an offset.
const FRAGMENT: u16 = 0x3fff_u16.to_be();

/// A header that the transport header follows at once; addresses are in the order of memory.
pub trait Ip: Copy {
    type Address: Address;
    const FAMILY: Family;
    const ETHER_TYPE: u16;
    const LEN: u32;
    /// Whether a datagram may come without a checksum.
    const MAY_LACK_CHECKSUM: bool;

    /// Whether it is one, without options, of no fragment.
    fn is_bare(&self) -> bool;
    /// Whether its own checksum is right, where it has one.
    fn has_right_checksum(&self) -> bool;
    /// What becomes of its own checksum when its addresses change; 0 where it has none.
    fn checksum_behind(&self, addresses: Difference) -> u16;
    fn protocol(&self) -> u8;
    /// Bytes from it on, padding excluded.
    fn total_len(&self) -> u32;
    /// TTL or hop limit.
    fn hop_limit(&self) -> u8;
    /// Type of service or traffic class.
    fn tos(&self) -> u8;
    /// What is asked of the routing table beside addresses and ports: as [`hop::Hop::class`].
    fn route_class(&self) -> u8;
    fn source(&self) -> Self::Address;
    fn destination(&self) -> Self::Address;
}

/// In words in the order of memory.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4(pub [u32; 5]);

impl Ipv4 {
    #[inline(always)]
    fn fields(&self) -> wire::Ipv4 {
        bytemuck::cast(self.0)
    }
}

impl Ip for Ipv4 {
    type Address = u32;
    const FAMILY: Family = Family::Ipv4;
    const ETHER_TYPE: u16 = ether_type::IPV4;
    const LEN: u32 = wire::Ipv4::LEN;
    const MAY_LACK_CHECKSUM: bool = true;

    #[inline(always)]
    fn is_bare(&self) -> bool {
        let ip = self.fields();
        ip.version_ihl == VERSION_AND_LENGTH && ip.fragment & FRAGMENT == 0
    }

    #[inline(always)]
    fn has_right_checksum(&self) -> bool {
        let [a, b, c, d, e] = self.0;
        let sum = Sum::default().double_word(a).double_word(b).double_word(c);
        sum.double_word(d).double_word(e).folded() == 0xffff
    }

    #[inline(always)]
    fn checksum_behind(&self, addresses: Difference) -> u16 {
        addresses.applied(self.fields().checksum)
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.fields().protocol
    }

    #[inline(always)]
    fn total_len(&self) -> u32 {
        u32::from(u16::from_be(self.fields().total_len))
    }

    #[inline(always)]
    fn hop_limit(&self) -> u8 {
        self.fields().ttl
    }

    #[inline(always)]
    fn tos(&self) -> u8 {
        self.fields().tos
    }

    #[inline(always)]
    fn route_class(&self) -> u8 {
        hop::dscp(self.tos())
    }

    #[inline(always)]
    fn source(&self) -> u32 {
        self.fields().src
    }

    #[inline(always)]
    fn destination(&self) -> u32 {
        self.fields().dst
    }
}

/// Where it stands: it is larger than what a program of the kernel keeps at hand. Its addresses are
/// two words each.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'p>(pub &'p [u64; 5]);

impl Ipv6<'_> {
    /// Version, traffic class and flow label; from the bit 32 on the length of what follows (16
    /// bits), its protocol (8), the hop limit (8).
    #[inline(always)]
    const fn first(&self) -> u64 {
        let [first, ..] = *self.0;
        first
    }
}

impl Ip for Ipv6<'_> {
    type Address = Halves;
    const FAMILY: Family = Family::Ipv6;
    const ETHER_TYPE: u16 = ether_type::IPV6;
    const LEN: u32 = wire::Ipv6::LEN;
    const MAY_LACK_CHECKSUM: bool = false;

    /// A fragment has a header of its own for that.
    #[inline(always)]
    fn is_bare(&self) -> bool {
        self.first() & 0xf0 == 0x60
    }

    #[inline(always)]
    fn has_right_checksum(&self) -> bool {
        true
    }

    #[inline(always)]
    fn checksum_behind(&self, _addresses: Difference) -> u16 {
        0
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        (self.first() >> 48) as u8
    }

    /// Of a jumbogram too few for any transport header.
    #[inline(always)]
    fn total_len(&self) -> u32 {
        u32::from(u16::from_be((self.first() >> 32) as u16)) + Self::LEN
    }

    #[inline(always)]
    fn hop_limit(&self) -> u8 {
        (self.first() >> 56) as u8
    }

    #[inline(always)]
    fn tos(&self) -> u8 {
        (u32::from_be(self.first() as u32) >> 20) as u8
    }

    /// As everywhere the routing table is asked without the traffic class.
    #[inline(always)]
    fn route_class(&self) -> u8 {
        hop::IPV6
    }

    #[inline(always)]
    fn source(&self) -> Halves {
        let [_, a, b, _, _] = *self.0;
        Halves([a, b])
    }

    #[inline(always)]
    fn destination(&self) -> Halves {
        let [_, _, _, a, b] = *self.0;
        Halves([a, b])
    }
}
