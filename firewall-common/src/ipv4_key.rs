//! The key of a flow of IPv4, as the maps of IPv4 hold it: what [`FlowKey`] says, in 16 bytes.
//!
//! A look by a key of 40 bytes costs a third more than one by 16, of which the kernel hashes all.
//! So each table of flows is two maps (`docs/adr/0017-ipv4-has-tables-of-its-own.md`). Which of
//! them holds a flow follows from its addresses alone: no packet of IPv6 has one that is IPv4
//! inside ([`crate::headers`]).

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::flow::{FlowKey, Sender};

/// The canonical key of a flow of IPv4; its low endpoint is that of [`FlowKey`].
///
/// Two words, each written at once: the kernel reads a key by words of 32 and of 64 bits, and
/// would have to wait until what was written byte by byte has come to the cache (5 ns of 22).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Ipv4Key {
    /// As the packet has them; that of the low endpoint in the low half.
    addresses: u64,
    /// From the low bits on: the port of the low endpoint (16 bits), that of the high one (16),
    /// protocol (8), ICMP type (8), ICMP code (8).
    rest: u64,
}

impl Ipv4Key {
    /// The key of the flow of packets that go from one endpoint to the other, ICMP excluded,
    /// and which of the two sends them: as [`FlowKey::of`] has it. The addresses are in the
    /// order of memory.
    #[inline(always)]
    pub const fn between(protocol: u8, src: (u32, u16), dst: (u32, u16)) -> (Self, Sender) {
        let (src, dst) = (endpoint(src), endpoint(dst));
        // All ones when they are to change places: no branch, which of two senders it is
        // cannot be foretold.
        let is_high = (dst.wrapping_sub(src) as i64 >> 63) as u64;
        let change = (src ^ dst) & is_high;
        let key = Self::packed(src ^ change, dst ^ change, protocol as u64);
        (key, if is_high == 0 { Sender::Low } else { Sender::High })
    }

    /// Of these ends, the lower one first. `kind` is protocol, ICMP type and code.
    #[inline(always)]
    pub(crate) const fn ordered(low: (u32, u16), high: (u32, u16), kind: [u8; 3]) -> Self {
        let [protocol, icmp_type, icmp_code] = kind;
        let kind = protocol as u64 | (icmp_type as u64) << 8 | (icmp_code as u64) << 16;
        Self::packed(endpoint(low), endpoint(high), kind)
    }

    #[inline(always)]
    const fn packed(low: u64, high: u64, kind: u64) -> Self {
        Self {
            addresses: low >> 16 | high >> 16 << 32,
            rest: low & 0xffff | (high & 0xffff) << 16 | kind << 32,
        }
    }

    /// Address and port of the low endpoint.
    #[inline(always)]
    pub const fn low(&self) -> (u32, u16) {
        (self.addresses as u32, self.rest as u16)
    }

    #[inline(always)]
    pub const fn high(&self) -> (u32, u16) {
        ((self.addresses >> 32) as u32, (self.rest >> 16) as u16)
    }

    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        (self.rest >> 32) as u8
    }

    #[inline(always)]
    pub const fn icmp_type(&self) -> u8 {
        (self.rest >> 40) as u8
    }

    #[inline(always)]
    pub const fn icmp_code(&self) -> u8 {
        (self.rest >> 48) as u8
    }

    /// The same key in the form of both families.
    #[inline(always)]
    pub const fn wide(&self) -> FlowKey {
        FlowKey::of_ipv4(*self)
    }

    /// The bits in which two differ.
    #[inline(always)]
    pub(crate) const fn difference(&self, other: &Self) -> u64 {
        (self.addresses ^ other.addresses) | (self.rest ^ other.rest)
    }
}

/// The lower one of two comes first in a key: by the address, then by the port.
#[inline(always)]
const fn endpoint((address, port): (u32, u16)) -> u64 {
    (address as u64) << 16 | port as u64
}

const _: () = assert!(size_of::<Ipv4Key>() == 16);

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        addr::{Addr, Family},
        flow::Tuple,
    };

    fn any_tuple() -> impl Strategy<Value = Tuple> {
        let ends = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>());
        // Few addresses, too, so that ports decide about the order.
        let near = (0..3u32, 0..3u32, 0..3u16, 0..3u16);
        let rest = (any::<u8>(), any::<u8>(), any::<u8>());
        (prop_oneof![ends, near], rest).prop_map(|(ends, (protocol, icmp_type, icmp_code))| {
            let (src, dst, sport, dport) = ends;
            let (src, dst) = (Addr::v4(src), Addr::v4(dst));
            Tuple { src, dst, sport, dport, protocol, icmp_type, icmp_code, _pad: 0 }
        })
    }

    proptest! {
        #[test]
        fn nothing_is_lost_either_way(tuple in any_tuple()) {
            let (key, _) = FlowKey::of(&tuple);
            let narrow = key.ipv4().expect("a key of IPv4");
            prop_assert_eq!(narrow.wide(), key);
        }

        #[test]
        fn two_flows_have_two_keys(a in any_tuple(), b in any_tuple()) {
            let [a, b] = [a, b].map(|tuple| FlowKey::of(&tuple).0);
            prop_assert_eq!(a == b, a.ipv4() == b.ipv4());
        }

        #[test]
        fn what_is_made_of_ends_is_what_is_made_of_a_tuple(tuple in any_tuple()) {
            let tuple = Tuple { icmp_type: 0, icmp_code: 0, ..tuple };
            let ([.., src], [.., dst]) = (tuple.src.words, tuple.dst.words);
            let (key, sender) = FlowKey::of(&tuple);
            let made = Ipv4Key::between(tuple.protocol, (src, tuple.sport), (dst, tuple.dport));
            prop_assert_eq!(made, (*key.ipv4().unwrap(), sender));
        }

        #[test]
        fn no_key_of_ipv6_is_one(a in any::<u128>(), b in any::<u128>(), v4 in any::<u32>()) {
            let [a, b] = [a, b].map(|bits| Addr::from(Ipv6Addr::from(bits)));
            let v4 = Addr::from(Ipv4Addr::from(v4));
            prop_assume!(a.family() == Family::Ipv6 && b.family() == Family::Ipv6);
            for (src, dst) in [(a, b), (a, v4), (v4, b)] {
                let (key, _) = FlowKey::of(&Tuple { src, dst, ..Tuple::default() });
                prop_assert_eq!(key.ipv4(), None);
            }
        }
    }
}
