//! What conditions keep in mind by key: the maps as [`Lists`].

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering::SeqCst, atomic_xadd},
};

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_loop};
use firewall_common::{
    extra::{
        Asking, Lists,
        bucket::BucketKey,
        connections::{Count, Found, MAX_LIMIT, Place, PlaceKey},
        recent::{RecentKey, Sightings},
    },
    flow::FlowKey,
    time::Nanos,
};

use crate::{
    families::{CONFIRMED, NEW},
    maps::{BLANK_RECENT, BUCKETS, COUNTED, RECENT},
    memory,
    rule_maps::RuleMaps,
    tables::Maps,
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

    #[inline(always)]
    fn spend(&self, asking: Asking, key: &BucketKey, change: impl Fn(u64) -> (u64, bool)) -> bool {
        if let Some(word) = BUCKETS.get_ptr_mut(key) {
            return memory::change_word(word, asking.is_question, change);
        }
        if asking.is_question {
            return change(0).1;
        }
        // Another CPU may be faster: then its bucket is the one.
        let _ = BUCKETS.insert(key, &0, u64::from(BPF_NOEXIST));
        match BUCKETS.get_ptr_mut(key) {
            Some(word) => memory::change_word(word, false, change),
            None => false,
        }
    }

    #[inline(always)]
    fn connection(&self, key: &PlaceKey, own: &FlowKey, now: Nanos) -> (Found, u32) {
        // SAFETY: as above.
        let Some(place) = (unsafe { COUNTED.get(key) }) else { return (Found::Nothing, 0) };
        let flow = match CONFIRMED.find(&place.flow) {
            Some(flow) => Some(&*flow),
            None => NEW.find(&place.flow).map(|flow| &*flow),
        };
        (place.find(own, flow, now), place.last)
    }

    #[inline(always)]
    fn take_place(&self, key: &PlaceKey, before: Nanos, place: &Place) {
        if before.0 == 0 {
            let _ = COUNTED.insert(key, place, u64::from(BPF_NOEXIST));
            return;
        }
        let Some(found) = COUNTED.get_ptr_mut(key) else { return };
        // SAFETY: the memory stays mapped while the program runs; one CPU changes the time
        // and then writes the rest.
        unsafe {
            let created = (&raw mut (*found).created).cast::<u64>();
            if memory::exchange(created, before.0, place.created.0) {
                (*found).flow = place.flow;
            }
        }
    }

    #[inline(always)]
    fn set_last_place(&self, key: &PlaceKey, last: u32) {
        let Some(place) = COUNTED.get_ptr_mut(key) else { return };
        // SAFETY: as above.
        unsafe { (*place).last = last };
    }

    #[inline(always)]
    fn count_places(&self, count: &mut Count) {
        let mut desk: *mut Count = count;
        // SAFETY: the callback has the signature that the helper wants, and its
        // argument lives on this stack.
        unsafe {
            bpf_loop(MAX_LIMIT + 1, count_step as *mut c_void, (&raw mut desk).cast(), 0);
        }
    }
}

/// One place, for `bpf_loop`.
unsafe extern "C" fn count_step(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: the caller passes a pointer to its pointer, and waits.
    let count = unsafe { &mut **desk.cast::<*mut Count>() };
    i64::from(count.step(&RuleMaps))
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

    #[inline(always)]
    fn spend(&self, asking: Asking, key: &BucketKey, change: impl Fn(u64) -> (u64, bool)) -> bool {
        RuleMaps.spend(asking, key, change)
    }

    #[inline(always)]
    fn connection(&self, key: &PlaceKey, own: &FlowKey, now: Nanos) -> (Found, u32) {
        RuleMaps.connection(key, own, now)
    }

    #[inline(always)]
    fn take_place(&self, key: &PlaceKey, before: Nanos, place: &Place) {
        RuleMaps.take_place(key, before, place);
    }

    #[inline(always)]
    fn set_last_place(&self, key: &PlaceKey, last: u32) {
        RuleMaps.set_last_place(key, last);
    }
}
