//! The key of a flow of IPv4, as the maps of IPv4 hold it: what [`FlowKey`] says, in 16 bytes.
//!
//! A table with a key of 40 bytes costs twice what one with 16 does: the kernel hashes all of
//! it, and an element lies on more lines of the cache. So each table of flows is two maps
//! (`docs/adr/0017-ipv4-has-tables-of-its-own.md`). Which of them holds a flow follows from its
//! addresses alone: no packet of IPv6 has one that is IPv4 inside ([`crate::headers`]).

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::Addr,
    flow::{FlowKey, Sender},
};

/// The canonical key of a flow of IPv4.
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
    /// The same key, unless it is one of IPv6.
    #[inline(always)]
    pub const fn of(key: &FlowKey) -> Option<Self> {
        // One test: the verifier follows each.
        if key.low.beyond_ipv4() | key.high.beyond_ipv4() != 0 {
            return None;
        }
        let ([.., low], [.., high]) = (key.low.words, key.high.words);
        let kind = key.protocol as u64 | (key.icmp_type as u64) << 8 | (key.icmp_code as u64) << 16;
        Some(Self::packed(endpoint(low, key.low_port), endpoint(high, key.high_port), kind))
    }

    /// The key of the flow of packets that go from one endpoint to the other, ICMP excluded,
    /// and which of the two sends them: as [`FlowKey::of`] has it. The addresses are in the
    /// order of memory.
    #[inline(always)]
    pub const fn between(protocol: u8, src: (u32, u16), dst: (u32, u16)) -> (Self, Sender) {
        let (src, dst) = (endpoint(src.0, src.1), endpoint(dst.0, dst.1));
        // All ones when they are to change places: no branch, which of two senders it is
        // cannot be foretold.
        let is_high = (dst.wrapping_sub(src) as i64 >> 63) as u64;
        let change = (src ^ dst) & is_high;
        let key = Self::packed(src ^ change, dst ^ change, protocol as u64);
        (key, if is_high == 0 { Sender::Low } else { Sender::High })
    }

    #[inline(always)]
    const fn packed(low: u64, high: u64, kind: u64) -> Self {
        Self {
            addresses: low >> 16 | high >> 16 << 32,
            rest: low & 0xffff | (high & 0xffff) << 16 | kind << 32,
        }
    }

    /// The same key in the form of both families.
    #[inline(always)]
    pub const fn wide(&self) -> FlowKey {
        FlowKey {
            low: Addr::v4(self.addresses as u32),
            high: Addr::v4((self.addresses >> 32) as u32),
            low_port: self.rest as u16,
            high_port: (self.rest >> 16) as u16,
            protocol: (self.rest >> 32) as u8,
            icmp_type: (self.rest >> 40) as u8,
            icmp_code: (self.rest >> 48) as u8,
            _pad: 0,
        }
    }
}

/// The lower one of two comes first in a key: by the address, then by the port.
#[inline(always)]
const fn endpoint(address: u32, port: u16) -> u64 {
    (address as u64) << 16 | port as u64
}

const _: () = assert!(size_of::<Ipv4Key>() == 16);

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::{addr::Family, flow::Tuple};

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
            let narrow = Ipv4Key::of(&key).expect("a key of IPv4");
            prop_assert_eq!(narrow.wide(), key);
            prop_assert_eq!(Ipv4Key::of(&narrow.wide()), Some(narrow));
        }

        #[test]
        fn two_flows_have_two_keys(a in any_tuple(), b in any_tuple()) {
            let [a, b] = [a, b].map(|tuple| FlowKey::of(&tuple).0);
            prop_assert_eq!(a == b, Ipv4Key::of(&a) == Ipv4Key::of(&b));
        }

        #[test]
        fn what_is_made_of_ends_is_what_is_made_of_a_tuple(tuple in any_tuple()) {
            let tuple = Tuple { icmp_type: 0, icmp_code: 0, ..tuple };
            let ([.., src], [.., dst]) = (tuple.src.words, tuple.dst.words);
            let (key, sender) = FlowKey::of(&tuple);
            let made = Ipv4Key::between(tuple.protocol, (src, tuple.sport), (dst, tuple.dport));
            prop_assert_eq!(made, (Ipv4Key::of(&key).unwrap(), sender));
        }

        #[test]
        fn no_key_of_ipv6_is_one(a in any::<u128>(), b in any::<u128>(), v4 in any::<u32>()) {
            let [a, b] = [a, b].map(|bits| Addr::from(Ipv6Addr::from(bits)));
            let v4 = Addr::from(Ipv4Addr::from(v4));
            prop_assume!(a.family() == Family::Ipv6 && b.family() == Family::Ipv6);
            for (src, dst) in [(a, b), (a, v4), (v4, b)] {
                let (key, _) = FlowKey::of(&Tuple { src, dst, ..Tuple::default() });
                prop_assert_eq!(Ipv4Key::of(&key), None);
            }
        }
    }
}
