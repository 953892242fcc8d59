//! IP addresses as the tables hold them: IPv4 as v4-mapped IPv6 (RFC 4291
//! section 2.5.5.2), in four words of network byte order.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

/// The family of a packet, a rule or a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// The third word of an address of IPv4, behind two of zeros.
pub const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// An address of either family; the words are in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Addr {
    pub words: [u32; 4],
}

impl Addr {
    /// All zero: `::`, and the address and mask of a rule that matches any.
    pub const ANY: Self = Self { words: [0; 4] };

    /// `word` is the address as it stands in the packet.
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self { words: [0, 0, MAPPED, word] }
    }

    #[inline(always)]
    pub const fn family(self) -> Family {
        match self.words {
            [0, 0, MAPPED, _] => Family::Ipv4,
            _ => Family::Ipv6,
        }
    }

    /// Whether the bits under `mask` equal `prefix`, which holds no others.
    #[inline(always)]
    pub const fn matches(self, prefix: Self, mask: Self) -> bool {
        let [a, b, c, d] = self.words;
        let [p, q, r, s] = prefix.words;
        let [k, l, m, n] = mask.words;
        ((a & k) ^ p) | ((b & l) ^ q) | ((c & m) ^ r) | ((d & n) ^ s) == 0
    }

    /// Whether it stands for many: a multicast group, or all hosts of a link
    /// (255.255.255.255). No router sends such a packet on by its table of routes.
    #[inline(always)]
    pub const fn is_for_many(self) -> bool {
        let [first, _, _, last] = self.words;
        match self.family() {
            Family::Ipv4 => u32::from_be(last) >> 28 == 0xe || last == u32::MAX,
            Family::Ipv6 => u32::from_be(first) >> 24 == 0xff,
        }
    }

    /// The mask of the first `length` bits of an address of `family`.
    pub fn mask(family: Family, length: u8) -> Self {
        let bits = match family {
            Family::Ipv4 => 96 + u32::from(length.min(32)),
            Family::Ipv6 => u32::from(length.min(128)),
        };
        let ones = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        Self::from(Ipv6Addr::from(ones))
    }

    pub fn and(self, mask: Self) -> Self {
        let mut words = self.words;
        for (word, mask) in words.iter_mut().zip(mask.words) {
            *word &= mask;
        }
        Self { words }
    }

    pub fn to_ip(self) -> IpAddr {
        let mut bytes = [0; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(self.words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        Ipv6Addr::from(bytes).to_canonical()
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(u32::from_ne_bytes(address.octets()))
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(address: Ipv6Addr) -> Self {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(address.octets().chunks_exact(4)) {
            *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Self { words }
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_round_trip_in_both_families() {
        for text in ["192.0.2.1", "2001:db8::1", "::"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(Addr::from(ip).to_ip(), ip);
        }
    }

    #[test]
    fn a_prefix_matches_its_addresses_and_no_others() {
        let prefix = Addr::from(Ipv4Addr::new(192, 0, 2, 0));
        let mask = Addr::mask(Family::Ipv4, 24);
        assert!(Addr::from(Ipv4Addr::new(192, 0, 2, 77)).matches(prefix, mask));
        assert!(!Addr::from(Ipv4Addr::new(192, 0, 3, 77)).matches(prefix, mask));
        assert!(!Addr::from("2001:db8::1".parse::<Ipv6Addr>().unwrap()).matches(prefix, mask));
    }

    #[test]
    fn groups_and_the_broadcast_of_a_link_are_for_many() {
        let of = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap()).is_for_many();
        for many in ["224.0.0.251", "239.255.255.250", "255.255.255.255", "ff02::fb"] {
            assert!(of(many), "{many}");
        }
        for one in ["192.0.2.255", "223.255.255.255", "240.0.0.1", "2001:db8::1", "fe80::1"] {
            assert!(!of(one), "{one}");
        }
    }

    #[test]
    fn masks_have_the_length_asked_for() {
        assert_eq!(Addr::mask(Family::Ipv6, 0), Addr::ANY);
        assert_eq!(Addr::mask(Family::Ipv4, 32), Addr::mask(Family::Ipv6, 128));
        assert_eq!(Addr::mask(Family::Ipv4, 0), Addr::mask(Family::Ipv6, 96));
    }
}
