//! `-m recent`: lists of addresses and of when each was seen, as xt_recent keeps them.
//!
//! A list is known by its name, and shared by all rules that name it, in both families.
//! An entry keeps the time of its last [`STAMPS`] sightings. They stand in their order,
//! so that "so many within so long" is told by one of them.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::{Asking, Extra, Facts, facts::number};
use crate::{addr::Addr, tables::Rules, time::Nanos};

/// Sightings that an entry remembers.
pub const STAMPS: usize = 256;
/// The most that `--hitcount` may ask for, as in the kernel.
pub const MAX_HITS: u32 = 255;
/// Entries of all lists together.
pub const MAX_ENTRIES: u32 = 8_192;
/// A hundredth of a second.
const TICK: u64 = 10_000_000;
/// Ticks in a second.
pub const TICKS: u32 = 100;

/// An address in a list.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct RecentKey {
    /// [`list_id`] of its name.
    pub list: u64,
    /// Masked.
    pub address: Addr,
}

/// When an address was seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RecentEntry {
    /// Sightings so far; the one with number n stands at n modulo [`STAMPS`].
    pub count: u64,
    /// As the last one came in; 0 when it was put in by hand.
    pub ttl: u32,
    pub _pad: u32,
    /// In ticks of the coarse clock, which wrap around.
    pub stamps: [u32; STAMPS],
}

/// The number of the list with this name.
pub const fn list_id(name: &str) -> u64 {
    super::name_id(b'r', name.as_bytes())
}

/// What is asked of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sightings {
    pub count: u64,
    pub ttl: u32,
    /// The sighting that was asked for, counted from the last one.
    pub stamp: u32,
}

impl RecentEntry {
    /// What is known of it; `hits` of 1 asks for the last sighting, 2 for the one before.
    #[inline(always)]
    pub const fn look(&self, hits: u32) -> Sightings {
        let place = self.count.wrapping_sub(hits as u64) as usize & (STAMPS - 1);
        Sightings { count: self.count, ttl: self.ttl, stamp: self.stamps[place] }
    }

    /// Notes another sighting.
    pub const fn note(&mut self, tick: u32, ttl: u32) {
        self.put(self.count, tick, ttl);
        self.count += 1;
    }

    /// Writes the sighting with this number, counted from 0.
    #[inline(always)]
    pub const fn put(&mut self, number: u64, tick: u32, ttl: u32) {
        self.stamps[number as usize & (STAMPS - 1)] = tick;
        self.ttl = ttl;
    }
}

/// The time as entries keep it.
#[inline(always)]
pub const fn tick(now: Nanos) -> u32 {
    (now.0 / TICK) as u32
}

/// What a rule does with its list, as bits of [`Extra::subject`].
pub mod action {
    pub const SET: u8 = 0;
    pub const CHECK: u8 = 1;
    pub const UPDATE: u8 = 2;
    pub const REMOVE: u8 = 3;
    /// Less the flags.
    pub const MASK: u8 = 3;
    /// The destination's address, not the source's.
    pub const DESTINATION: u8 = 1 << 2;
    /// Only what comes with the same TTL as the last time.
    pub const TTL: u8 = 1 << 3;
    /// An entry whose last sighting is too old goes away.
    pub const REAP: u8 = 1 << 4;
}

/// Whether a condition holds, and what it does to its list. The arguments: the list in two
/// words, low word first; seconds, 0 for any; hits; the mask.
#[inline(always)]
pub fn holds<T: Rules>(tables: &T, extra: &Extra, facts: &Facts, asking: Asking) -> bool {
    let [low, high, seconds, hits, a, b, c, d] = extra.arguments;
    let flags = extra.subject;
    let place = if flags & action::DESTINATION == 0 {
        super::facts::address::SOURCE
    } else {
        super::facts::address::DESTINATION
    };
    let address = facts.address(place).and(Addr { words: [a, b, c, d] });
    let key = RecentKey { list: super::wide(high, low), address };
    let (now, ttl) = (tick(facts.now), facts.number(number::ARRIVAL_TTL, false));
    let hits = if hits == 0 { 1 } else { hits };
    let is_inverted = extra.invert != 0;
    let what = flags & action::MASK;
    let found = tables.recent(&key, hits);
    let Some(seen) = found else {
        if what != action::SET {
            return is_inverted;
        }
        if !asking.is_question {
            tables.note_recent(&key, now, ttl);
        }
        return !is_inverted;
    };
    if flags & action::TTL != 0 && seen.ttl != 0 && ttl != 0 && seen.ttl != ttl {
        return is_inverted;
    }
    let is_recent =
        |ticks: u32| seconds == 0 || u64::from(ticks) <= u64::from(seconds) * u64::from(TICKS);
    let fits = match what {
        action::SET | action::REMOVE => true,
        _ => seen.count >= u64::from(hits) && is_recent(now.wrapping_sub(seen.stamp)),
    };
    let holds = fits != is_inverted;
    if asking.is_question {
        return holds;
    }
    if what == action::SET || what == action::UPDATE && holds {
        tables.note_recent(&key, now, ttl);
    } else if what == action::REMOVE
        || flags & action::REAP != 0 && is_stale(tables, &key, now, seconds)
    {
        tables.forget_recent(&key);
    }
    holds
}

/// Whether the last sighting lies further back than so many seconds.
#[inline(always)]
fn is_stale<T: Rules>(tables: &T, key: &RecentKey, now: u32, seconds: u32) -> bool {
    let Some(last) = tables.recent(key, 1) else { return false };
    u64::from(now.wrapping_sub(last.stamp)) > u64::from(seconds) * u64::from(TICKS)
}

const _: () = assert!(size_of::<RecentKey>() == 24);
const _: () = assert!(size_of::<RecentEntry>() == 1_040);
