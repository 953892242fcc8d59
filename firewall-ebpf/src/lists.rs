//! What conditions keep in mind by key: the maps as [`Lists`].

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use firewall_common::extra::{
    Lists,
    recent::{RecentKey, Sightings},
};

use crate::{
    maps::{BLANK_RECENT, RECENT},
    tables::{Maps, RuleMaps},
};

impl Lists for RuleMaps {
    #[inline(always)]
    fn recent(&self, key: &RecentKey, hits: u32) -> Option<Sightings> {
        // SAFETY: an entry that changes meanwhile is read as it was or is, word by word.
        Some(unsafe { RECENT.get(key) }?.look(hits))
    }

    #[inline(always)]
    fn note_recent(&self, key: &RecentKey, tick: u32, ttl: u32) {
        let entry = match RECENT.get_ptr_mut(key) {
            Some(entry) => entry,
            None => {
                let Some(blank) = BLANK_RECENT.get(0) else { return };
                // Another CPU may be faster: then its entry is the one.
                let _ = RECENT.insert(key, blank, u64::from(BPF_NOEXIST));
                let Some(entry) = RECENT.get_ptr_mut(key) else { return };
                entry
            }
        };
        // SAFETY: the memory stays mapped while the program runs; each CPU takes a number
        // of its own, and with it a place that the others leave alone.
        unsafe {
            let number = atomic_xadd::<u64, u64, { SeqCst }>(&raw mut (*entry).count, 1);
            (*entry).put(number, tick, ttl);
        }
    }

    #[inline(always)]
    fn forget_recent(&self, key: &RecentKey) {
        let _ = RECENT.remove(key);
    }
}

impl Lists for Maps {
    #[inline(always)]
    fn recent(&self, key: &RecentKey, hits: u32) -> Option<Sightings> {
        RuleMaps.recent(key, hits)
    }

    #[inline(always)]
    fn note_recent(&self, key: &RecentKey, tick: u32, ttl: u32) {
        RuleMaps.note_recent(key, tick, ttl);
    }

    #[inline(always)]
    fn forget_recent(&self, key: &RecentKey) {
        RuleMaps.forget_recent(key);
    }
}
