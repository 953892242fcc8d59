//! Sets: lists of addresses, networks and ports beside the rules, as ipset(8) has them.
//!
//! A rule names a set by its *slot*, which stands for the set's name; the slot leads to a
//! *store*, which holds what the set is ([`SetHeader`]) and what is in it ([`Entry`], by
//! [`EntryKey`]). Swapping two sets exchanges two words; a set that is emptied or replaced
//! gets another store by the change of one. So every packet sees a set as it was or as it
//! is, whole.
//!
//! Expiry holds at lookup, as for flows: an entry past its time is not there.

pub mod ask;
pub mod change;

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::{Addr, Family},
    time::Nanos,
};

pub use ask::{Question, Search, holds, mask};
pub use change::{change, put_in, take_out};

/// Names at once.
pub const SLOTS: u32 = 1_024;
/// Contents at once: a set that is being replaced has two for a moment. Store 0 is none.
pub const STORES: u32 = 2_048;
/// Sets in one list:set.
pub const MEMBERS: usize = 32;
/// Bytes of a name, with the zero byte behind it (IPSET_MAXNAMELEN).
pub const NAME: usize = 32;
/// Bytes of a comment, with the zero byte behind it (IPSET_MAX_COMMENT_SIZE).
pub const COMMENT: usize = 256;

/// What the elements of a set are.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    HashIp = 1,
    HashNet = 2,
    HashIpPort = 3,
    HashNetPort = 4,
    BitmapPort = 5,
    ListSet = 6,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::HashIp,
        Self::HashNet,
        Self::HashIpPort,
        Self::HashNetPort,
        Self::BitmapPort,
        Self::ListSet,
    ];

    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::HashIp,
            2 => Self::HashNet,
            3 => Self::HashIpPort,
            4 => Self::HashNetPort,
            5 => Self::BitmapPort,
            6 => Self::ListSet,
            _ => return None,
        })
    }

    /// How many of `src,dst` a rule must name.
    #[inline(always)]
    pub const fn dimensions(self) -> u32 {
        match self {
            Self::HashIpPort | Self::HashNetPort => 2,
            Self::HashIp | Self::HashNet | Self::BitmapPort | Self::ListSet => 1,
        }
    }

    #[inline(always)]
    pub const fn has_address(self) -> bool {
        !matches!(self, Self::BitmapPort | Self::ListSet)
    }

    /// Elements may be networks of any length.
    #[inline(always)]
    pub const fn has_networks(self) -> bool {
        matches!(self, Self::HashNet | Self::HashNetPort)
    }

    /// Elements are an address and a port.
    #[inline(always)]
    pub const fn has_both(self) -> bool {
        matches!(self, Self::HashIpPort | Self::HashNetPort)
    }
}

/// Bits of [`SetHeader::flags`].
pub mod set_flag {
    pub const TIMEOUT: u8 = 1 << 0;
    pub const COUNTERS: u8 = 1 << 1;
    pub const COMMENT: u8 = 1 << 2;
    /// A new element takes the place of another when there is no room; for commands only.
    pub const FORCEADD: u8 = 1 << 3;
}

/// What a set is; the value of the map `sets`, by store.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SetHeader {
    /// Bit n: there may be elements of this prefix length, which is that of the IPv6
    /// form ([`prefix_of`]). Bits are taken away only with the store.
    pub prefixes: [u64; 3],
    /// Of a list:set, in the order in which they are asked: slots plus one, 0 behind.
    pub members: [u16; MEMBERS],
    /// Seconds for an element that names none; 0 for ever.
    pub timeout: u32,
    pub maxelem: u32,
    /// As it was written; here it has no meaning.
    pub hashsize: u32,
    /// Of a bitmap:port.
    pub first: u16,
    pub last: u16,
    /// A [`Kind`]; 0 for a store that is not used.
    pub kind: u8,
    /// 4, 6, or 0 for both.
    pub family: u8,
    /// Bits of an address that count, in the family; 0 for all.
    pub netmask: u8,
    /// Bits of [`set_flag`].
    pub flags: u8,
    pub _pad: u32,
}

impl SetHeader {
    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether elements of this prefix length are looked for.
    #[inline(always)]
    pub const fn has_prefix(&self, length: u8) -> bool {
        self.prefixes[(length >> 6) as usize % 3] >> (length & 63) & 1 != 0
    }

    pub const fn add_prefix(&mut self, length: u8) {
        self.prefixes[(length >> 6) as usize % 3] |= 1 << (length & 63);
    }

    #[inline(always)]
    pub const fn is_of(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.family != 6,
            Family::Ipv6 => self.family != 4,
        }
    }
}

/// A prefix length of an address of a family, as that of its IPv6 form.
#[inline(always)]
pub const fn prefix_of(family: Family, length: u8) -> u8 {
    match family {
        Family::Ipv4 => 96 + length,
        Family::Ipv6 => length,
    }
}

/// All bits of an address.
pub const HOST: u8 = 128;

/// An element; the key of the maps in `set_entries`.
///
/// What the kind of the set has no use for is zero. A member of a list:set has its slot
/// in the last word of the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct EntryKey {
    /// Bits behind the prefix are zero.
    pub address: Addr,
    /// For ICMP its type and code.
    pub port: u16,
    pub protocol: u8,
    /// As in [`SetHeader::prefixes`].
    pub prefix: u8,
}

impl EntryKey {
    /// The member of a list:set.
    #[inline(always)]
    pub const fn member(slot: u32) -> Self {
        Self { address: Addr { words: [0, 0, 0, slot] }, port: 0, protocol: 0, prefix: 0 }
    }
}

/// Bits of [`Entry::flags`].
pub mod entry_flag {
    /// An exception from a wider network.
    pub const NOMATCH: u32 = 1 << 0;
}

/// What is known of an element.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Entry {
    pub packets: u64,
    pub bytes: u64,
    /// [`Tick::NEVER`] for one that stays.
    pub expires: Tick,
    /// Bits of [`entry_flag`].
    pub flags: u32,
}

impl Entry {
    #[inline(always)]
    pub const fn is_expired(&self, now: Nanos) -> bool {
        self.expires.0 != Tick::NEVER.0 && self.expires.0 <= Tick::of(now).0
    }
}

/// A point of time in units of 2^27 nanoseconds (134 ms), by the clock of [`Nanos`]: 18
/// years in one word, which makes an element as small as it is.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Tick(pub u32);

impl Tick {
    pub const NEVER: Self = Self(0);
    const SHIFT: u32 = 27;
    pub const LENGTH: Nanos = Nanos(1 << Self::SHIFT);

    #[inline(always)]
    pub const fn is_never(self) -> bool {
        self.0 == Self::NEVER.0
    }

    #[inline(always)]
    pub const fn of(time: Nanos) -> Self {
        Self((time.0 >> Self::SHIFT) as u32)
    }

    /// The first one that is not before so many seconds from now; never for 0 seconds.
    #[inline(always)]
    pub const fn after(now: Nanos, seconds: u32) -> Self {
        if seconds == 0 {
            return Self::NEVER;
        }
        let end = now.0.wrapping_add(seconds as u64 * 1_000_000_000);
        Self((end >> Self::SHIFT) as u32 + 1)
    }

    /// Whole seconds that are left; 0 for one that is over.
    pub const fn seconds_left(self, now: Nanos) -> u32 {
        let end = (self.0 as u64) << Self::SHIFT;
        (end.saturating_sub(now.0) / 1_000_000_000) as u32
    }
}

const _: () = assert!(size_of::<SetHeader>() == 112);
const _: () = assert!(size_of::<EntryKey>() == 20);
const _: () = assert!(size_of::<Entry>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_lives_as_long_as_it_was_given_and_hardly_longer() {
        for now in [1, 999_999_999, 77_777_777_777].map(Nanos) {
            let entry = Entry { expires: Tick::after(now, 5), ..Entry::default() };
            assert!(!entry.is_expired(Nanos(now.0 + 5_000_000_000 - 1)));
            assert!(entry.is_expired(Nanos(now.0 + 5_135_000_000)));
            assert!((4..=5).contains(&entry.expires.seconds_left(now)));
        }
        assert!(!Entry::default().is_expired(Nanos::from_secs(1_000_000)));
    }

    #[test]
    fn prefix_lengths_are_kept_as_bits() {
        let mut header = SetHeader::zeroed();
        for length in [0, 63, 64, 120, 128] {
            assert!(!header.has_prefix(length));
            header.add_prefix(length);
            assert!(header.has_prefix(length));
        }
        assert!(!header.has_prefix(127));
    }
}
