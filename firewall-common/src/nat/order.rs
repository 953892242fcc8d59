//! What a rule of table nat wants: SNAT, DNAT, MASQUERADE, REDIRECT, NETMAP.

use crate::{addr::Addr, rule::Rule};

/// What becomes of which end.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The source becomes one of the addresses and ports.
    Source = 1,
    /// The destination becomes one of the addresses and ports.
    Destination = 2,
    /// The source becomes the address that this host would use towards the destination.
    Masquerade = 3,
    /// The destination becomes this host: the address of the interface that the packet came
    /// in by, or the loopback address for its own packets.
    Redirect = 4,
    /// The network part of the destination (before routing) or of the source (behind it)
    /// becomes that of [`Order::first`], under the mask [`Order::last`].
    Netmap = 5,
}

impl Kind {
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Source,
            2 => Self::Destination,
            3 => Self::Masquerade,
            4 => Self::Redirect,
            5 => Self::Netmap,
            _ => return None,
        })
    }
}

/// Bits of [`Order::flags`].
pub mod flag {
    /// [`super::Order::first_port`] and [`super::Order::last_port`] count.
    pub const PORTS: u8 = 1 << 0;
    /// `--random`: the port is chosen by a hash of the endpoints and a secret.
    pub const RANDOM: u8 = 1 << 1;
    /// `--random-fully`: by chance.
    pub const RANDOM_FULLY: u8 = 1 << 2;
    /// `--persistent`: a client gets the same address of a range for every destination.
    pub const PERSISTENT: u8 = 1 << 3;
    /// [`super::Order::first`] and [`super::Order::last`] count: there is an extra.
    pub const ADDRESSES: u8 = 1 << 4;
    /// [`super::Order::base`] counts: the port is as far from the first one of the range as it was
    /// from that. There is an extra, behind that of the addresses, if there is one.
    pub const SHIFTED: u8 = 1 << 5;
}

/// A rule's wish, as [`Order::unpack`] reads it.
///
/// In the compiled rule the target is [`crate::rule::Target::Translate`]; the argument has
/// the index of an [`crate::extra::Extra`] in its low half (when [`flag::ADDRESSES`] is
/// set), the kind in the byte above and the flags in the highest; [`Rule::mask`] has the
/// first port in its high half and the last in its low half. The extra's arguments are the
/// words of `first` and of `last`, as in [`Addr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub kind: Kind,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Both ends belong to the range; of [`Kind::Netmap`] the prefix and its mask.
    pub first: Addr,
    pub last: Addr,
    /// For ICMP the range of identifiers.
    pub first_port: u16,
    pub last_port: u16,
    pub base: u16,
}

impl Order {
    /// The argument and the mask of the rule; `extra` is the index of the extra with
    /// [`Order::words`].
    pub const fn pack(&self, extra: u16) -> (u32, u32) {
        let argument = extra as u32 | (self.kind as u32) << 16 | (self.flags as u32) << 24;
        (argument, (self.first_port as u32) << 16 | self.last_port as u32)
    }

    /// The arguments of the extra.
    pub const fn words(&self) -> [u32; 8] {
        let ([a, b, c, d], [e, f, g, h]) = (self.first.words, self.last.words);
        [a, b, c, d, e, f, g, h]
    }

    /// The index of the extra that a rule's argument names, if it names one.
    #[inline(always)]
    pub const fn extra_of(rule: &Rule) -> Option<u32> {
        match (rule.argument >> 24) as u8 & flag::ADDRESSES {
            0 => None,
            _ => Some(rule.argument & 0xffff),
        }
    }

    /// The index of the extra whose first argument is the base, if there is one.
    #[inline(always)]
    pub const fn base_of(rule: &Rule) -> Option<u32> {
        let flags = (rule.argument >> 24) as u8;
        let behind = (flags & flag::ADDRESSES != 0) as u32;
        match flags & flag::SHIFTED {
            0 => None,
            _ => Some((rule.argument & 0xffff) + behind),
        }
    }

    /// The inverse of [`Order::pack`] and [`Order::words`]; without an extra its words are
    /// zero.
    #[inline(always)]
    pub const fn unpack(argument: u32, mask: u32, words: &[u32; 8], base: u16) -> Option<Self> {
        let Some(kind) = Kind::from_byte((argument >> 16) as u8) else { return None };
        let [a, b, c, d, e, f, g, h] = *words;
        Some(Self {
            kind,
            flags: (argument >> 24) as u8,
            first: Addr { words: [a, b, c, d] },
            last: Addr { words: [e, f, g, h] },
            first_port: (mask >> 16) as u16,
            last_port: mask as u16,
            base,
        })
    }

    #[inline(always)]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_packed() {
        let order = Order {
            kind: Kind::Destination,
            flags: flag::PORTS | flag::ADDRESSES | flag::RANDOM,
            first: Addr::v4(0x0100_a8c0),
            last: Addr::v4(0x0900_a8c0),
            first_port: 8_080,
            last_port: 65_535,
            base: 8_000,
        };
        let (argument, mask) = order.pack(8_191);
        assert_eq!(Order::unpack(argument, mask, &order.words(), 8_000), Some(order));
        let rule = Rule { argument, mask, ..Rule::default() };
        assert_eq!(Order::extra_of(&rule), Some(8_191));
    }

    #[test]
    fn an_order_without_addresses_names_no_extra() {
        let order = Order {
            kind: Kind::Masquerade,
            flags: flag::RANDOM_FULLY,
            first: Addr::ANY,
            last: Addr::ANY,
            first_port: 0,
            last_port: 0,
            base: 0,
        };
        let (argument, mask) = order.pack(0);
        let rule = Rule { argument, mask, ..Rule::default() };
        assert_eq!(Order::extra_of(&rule), None);
        assert_eq!(Order::unpack(argument, mask, &[0; 8], 0), Some(order));
    }
}
