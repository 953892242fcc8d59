//! Tables of which each family has a map: that of IPv4 with a key of 16 bytes, that of IPv6 with
//! one of 40. Where the packet is known to be IPv4 the map of IPv4 is asked at once.

use aya_ebpf::maps::{HashMap, LruHashMap};
use firewall_common::{
    conntrack::first_live,
    flow::{Flow, FlowKey},
    ipv4_key::Ipv4Key,
    nat::Translation,
    tables::FlowTable,
    time::Nanos,
};

use crate::maps::{
    ASSURED, ASSURED6, EMBRYONIC, EMBRYONIC_TRANSLATIONS, EMBRYONIC_TRANSLATIONS6, EMBRYONIC6,
    TRANSLATIONS, TRANSLATIONS6,
};

/// A table: its two maps.
#[derive(Clone, Copy)]
pub struct Table<A: 'static, B: 'static> {
    ipv4: &'static A,
    ipv6: &'static B,
}

type Hashes<V> = Table<HashMap<Ipv4Key, V>, HashMap<FlowKey, V>>;
type Lrus<V> = Table<LruHashMap<Ipv4Key, V>, LruHashMap<FlowKey, V>>;

pub const CONFIRMED: Hashes<Flow> = Table { ipv4: &ASSURED, ipv6: &ASSURED6 };
pub const NEW: Lrus<Flow> = Table { ipv4: &EMBRYONIC, ipv6: &EMBRYONIC6 };
pub const WAYS_IN: Hashes<Translation> = Table { ipv4: &TRANSLATIONS, ipv6: &TRANSLATIONS6 };
pub const NEW_WAYS_IN: Lrus<Translation> =
    Table { ipv4: &EMBRYONIC_TRANSLATIONS, ipv6: &EMBRYONIC_TRANSLATIONS6 };

/// What both kinds of maps can do.
pub trait Entries<K, V> {
    fn find(&self, key: &K) -> Option<&'static mut V>;
    /// `false` when the flags forbid it, or there is no space.
    fn put(&self, key: &K, value: &V, flags: u32) -> bool;
    /// `true` for the one caller that did.
    fn take(&self, key: &K) -> bool;
}

macro_rules! entries {
    ($map:ident) => {
        impl<K, V: 'static> Entries<K, V> for $map<K, V> {
            #[inline(always)]
            fn find(&self, key: &K) -> Option<&'static mut V> {
                let found = self.get_ptr_mut(key)?;
                // SAFETY: the memory stays mapped while the program runs.
                Some(unsafe { &mut *found })
            }

            #[inline(always)]
            fn put(&self, key: &K, value: &V, flags: u32) -> bool {
                self.insert(key, value, u64::from(flags)).is_ok()
            }

            #[inline(always)]
            fn take(&self, key: &K) -> bool {
                self.remove(key).is_ok()
            }
        }
    };
}

entries!(HashMap);
entries!(LruHashMap);

impl<A, B> Table<A, B> {
    #[inline(always)]
    pub fn find<V: 'static>(&self, key: &FlowKey) -> Option<&'static mut V>
    where
        A: Entries<Ipv4Key, V>,
        B: Entries<FlowKey, V>,
    {
        match key.ipv4() {
            Some(key) => self.ipv4.find(key),
            None => self.ipv6.find(key),
        }
    }

    /// `false` when the flags forbid it, or there is no space.
    #[inline(always)]
    pub fn put<V>(&self, key: &FlowKey, value: &V, flags: u32) -> bool
    where
        A: Entries<Ipv4Key, V>,
        B: Entries<FlowKey, V>,
    {
        match key.ipv4() {
            Some(key) => self.ipv4.put(key, value, flags),
            None => self.ipv6.put(key, value, flags),
        }
    }

    /// `true` for the one caller that did.
    #[inline(always)]
    pub fn take<V>(&self, key: &FlowKey) -> bool
    where
        A: Entries<Ipv4Key, V>,
        B: Entries<FlowKey, V>,
    {
        match key.ipv4() {
            Some(key) => self.ipv4.take(key),
            None => self.ipv6.take(key),
        }
    }
}

/// A live flow, the confirmed ones first.
#[inline(always)]
pub fn find_live(key: &FlowKey, now: Nanos) -> Option<(FlowTable, &'static mut Flow)> {
    match key.ipv4() {
        Some(key) => first_live(ASSURED.find(key), || EMBRYONIC.find(key), now),
        None => first_live(ASSURED6.find(key), || EMBRYONIC6.find(key), now),
    }
}

/// The way in under a wire face, of a confirmed flow first.
#[inline(always)]
pub fn find_way_in(key: &FlowKey) -> Option<&'static mut Translation> {
    match key.ipv4() {
        Some(key) => TRANSLATIONS.find(key).or_else(|| EMBRYONIC_TRANSLATIONS.find(key)),
        None => TRANSLATIONS6.find(key).or_else(|| EMBRYONIC_TRANSLATIONS6.find(key)),
    }
}
