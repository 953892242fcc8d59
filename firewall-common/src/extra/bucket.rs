//! `-m hashlimit`: a token bucket for each address or port that a rule tells apart.
//!
//! A bucket is one word, [`super::memory::spend`]. One that is not there is full.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::{
    Asking, Extra, Facts,
    facts::{address, number},
    memory,
};
use crate::{addr::Addr, tables::Rules};

/// Buckets of all rules together.
pub const MAX_BUCKETS: u32 = 65_536;

/// Whose bucket it is: what a rule does not tell apart is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct BucketKey {
    /// [`group_id`] of the rule's name.
    pub group: u64,
    /// Masked.
    pub src: Addr,
    /// Masked.
    pub dst: Addr,
    pub sport: u32,
    pub dport: u32,
}

/// What tells buckets apart, as bits of [`Extra::subject`].
pub mod mode {
    pub const SRC_IP: u8 = 1 << 0;
    pub const SRC_PORT: u8 = 1 << 1;
    pub const DST_IP: u8 = 1 << 2;
    pub const DST_PORT: u8 = 1 << 3;
    /// Not that, but how a packet costs: by its bytes.
    pub const BYTES: u8 = 1 << 4;
}

/// The number of the buckets with this name; those of the two families are apart.
pub const fn group_id(name: &str, is_ipv6: bool) -> u64 {
    super::name_id(if is_ipv6 { b'6' } else { b'4' }, name.as_bytes())
}

/// Whether a packet's bucket has what it costs, and takes it; its key is written to `key`.
/// The arguments: the group;
/// nanoseconds for one packet, or for 1,024 bytes; nanoseconds that earn what may come at
/// once; the bits of the source's mask, and in the next byte of the destination's. All
/// but the last are two words, low word first.
#[inline(always)]
pub fn holds<T: Rules>(
    tables: &T,
    extra: &Extra,
    facts: &Facts,
    asking: Asking,
    key: &mut BucketKey,
) -> bool {
    let [group_low, group_high, cost_low, cost_high, burst_low, burst_high, bits, _] =
        &extra.arguments;
    let told = extra.subject;
    let has = |bit: u8| told & bit != 0;
    let of_port = |bit: u8, place: u8| {
        if has(bit) && facts.has_number(place, true) { facts.number(place, false) } else { 0 }
    };
    let of_address = |bit: u8, place: u8, length: u32| {
        if has(bit) { leading(facts.address(place), length & 0xff) } else { Addr::ANY }
    };
    key.group = super::wide(*group_high, *group_low);
    key.src = of_address(mode::SRC_IP, address::SOURCE, *bits);
    key.dst = of_address(mode::DST_IP, address::DESTINATION, bits >> 8);
    key.sport = of_port(mode::SRC_PORT, number::SPORT);
    key.dport = of_port(mode::DST_PORT, number::DPORT);
    let (cost, burst) = (super::wide(*cost_high, *cost_low), super::wide(*burst_high, *burst_low));
    let cost = match has(mode::BYTES) {
        true => cost.wrapping_mul(u64::from(facts.number(number::LENGTH, false))) >> 10,
        false => cost,
    };
    let now = facts.now;
    let holds = tables.spend(asking, key, |spent| memory::spend(spent, now, cost, burst));
    holds != (extra.invert != 0)
}

/// The first bits of an address; all of IPv4 have the first 96 in common.
#[inline(always)]
const fn leading(address: Addr, length: u32) -> Addr {
    let [a, b, c, d] = address.words;
    let words = [
        a & ones(length),
        b & ones(less(length, 32)),
        c & ones(less(length, 64)),
        d & ones(less(length, 96)),
    ];
    Addr { words }
}

#[inline(always)]
const fn less(length: u32, bits: u32) -> u32 {
    length.saturating_sub(bits)
}

/// A word, in network order, whose first bits are ones.
#[inline(always)]
const fn ones(bits: u32) -> u32 {
    let mask = if bits >= 32 { u32::MAX } else { !(u32::MAX >> (bits & 31)) };
    mask.to_be()
}

const _: () = assert!(size_of::<BucketKey>() == 48);

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    #[test]
    fn the_first_bits_of_an_address_are_those_of_its_mask() {
        let address =
            Addr::from("2001:db8:1234:5678:9abc:def0:1234:5678".parse::<IpAddr>().unwrap());
        for length in 0..=128 {
            let mask = Addr::mask(crate::addr::Family::Ipv6, length);
            assert_eq!(leading(address, length.into()), address.and(mask), "/{length}");
        }
    }
}
