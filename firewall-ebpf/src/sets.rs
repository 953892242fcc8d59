//! Sets in the maps: what [`firewall_common::set`] asks for.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering::Relaxed, atomic_xadd},
};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC},
    btf_maps::{ArrayOfMaps, HashMap},
    helpers::bpf_loop,
    macros::btf_map,
};
use firewall_common::{
    addr::Addr,
    control::option,
    extra::Facts,
    generation::stamp,
    set::{self, COMMENT, Entry, EntryKey, STORES, Search, SetHeader},
};

use crate::{
    maps::{OPTIONS, SET_CHANGES, SET_HOSTS, SET_SEARCH, SET_SLOTS, SETS},
    rule_maps::RuleMaps,
    verifier::opaque,
};

type Entries = HashMap<EntryKey, Entry, 1_024, { BPF_F_NO_PREALLOC as usize }>;
type Comments = HashMap<EntryKey, [u8; COMMENT], 1_024, { BPF_F_NO_PREALLOC as usize }>;

/// Of each store, its elements. User space makes the inner maps, as large as each set.
#[btf_map]
pub static SET_ENTRIES: ArrayOfMaps<Entries, { STORES as usize }> = ArrayOfMaps::new();

/// Of each store with comments, those of its elements; the programs do not read them.
#[btf_map]
pub static SET_COMMENTS: ArrayOfMaps<Comments, { STORES as usize }> = ArrayOfMaps::new();

#[inline(always)]
pub fn store(slot: u32) -> Option<u32> {
    SET_SLOTS.get(slot).copied().filter(|store| *store != 0)
}

#[inline(always)]
pub fn header(store: u32) -> Option<&'static SetHeader> {
    SETS.get(store)
}

#[inline(always)]
pub fn entry(store: u32, key: &EntryKey) -> Option<Entry> {
    let entries = SET_ENTRIES.get(store)?;
    // SAFETY: an entry that is replaced meanwhile is read as it was or is.
    unsafe { entries.get(key) }.copied()
}

/// Single addresses that packets have brought count as a prefix length, too.
#[inline(always)]
pub fn prefixes(store: u32, header: &SetHeader) -> [u64; 3] {
    let [low, high, whole] = header.prefixes;
    match SET_HOSTS.get(store) {
        Some(1) => [low, high, 1],
        _ => [low, high, whole],
    }
}

#[inline(always)]
pub fn note_hosts(store: u32) {
    if let Some(noted) = SET_HOSTS.get_ptr_mut(store)
        && is_real()
    {
        // SAFETY: a word of the map, which only ever becomes 1 while the store lasts.
        unsafe { noted.write_volatile(1) };
    }
}

#[inline(always)]
pub fn count(store: u32, key: &EntryKey, bytes: u64) {
    let Some(entries) = SET_ENTRIES.get(store) else { return };
    let Some(entry) = entries.get_ptr_mut(key) else { return };
    if !is_real() {
        return;
    }
    // SAFETY: the memory stays mapped while the program runs, and others add to it in
    // the same way.
    unsafe {
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*entry).packets, 1);
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*entry).bytes, bytes);
    }
}

#[inline(always)]
pub fn put(store: u32, key: &EntryKey, entry: &Entry) -> bool {
    let Some(entries) = SET_ENTRIES.get(store) else { return false };
    is_real() && entries.insert(key, entry, u64::from(BPF_ANY)).is_ok()
}

#[inline(always)]
pub fn remove(store: u32, key: &EntryKey) -> bool {
    let Some(entries) = SET_ENTRIES.get(store) else { return false };
    is_real() && entries.remove(key).is_ok()
}

/// A rehearsal looks at the sets in force and changes none.
#[inline(always)]
fn is_real() -> bool {
    OPTIONS.get(0).is_some_and(|options| !options.has(option::REHEARSAL))
}

/// A search on its way, with the packet that it is for.
type Desk = (*mut Search, *const Facts);

/// One step, for `bpf_loop`.
unsafe extern "C" fn search_step(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: the caller passes a pointer to its pair, and waits.
    let (search, facts) = unsafe { *desk.cast::<Desk>() };
    // SAFETY: nobody else uses the search meanwhile, nor writes the facts.
    let (search, facts) = unsafe { (&mut *search, &*facts) };
    i64::from(search.step(&RuleMaps, facts))
}

#[inline(always)]
pub fn ask(words: &[u32; 8], facts: &Facts, is_question: bool) -> bool {
    let Some(search) = SET_SEARCH.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's search; one program runs on one CPU at a time.
    unsafe { &mut *search }.begin(&RuleMaps, words, facts, is_question);
    let mut desk: Desk = (search, facts);
    // SAFETY: the callback has the signature that the helper wants, and its argument
    // lives on this stack.
    unsafe {
        bpf_loop(Search::MAX_STEPS, search_step as *mut c_void, (&raw mut desk).cast(), 0);
    }
    // SAFETY: as above.
    unsafe { &*search }.holds()
}

/// [`Search::take_fleeting`] of all that this CPU has asked.
#[inline(always)]
pub fn take_fleeting() -> bool {
    // SAFETY: this CPU's search; one program runs on one CPU at a time.
    SET_SEARCH.get_ptr_mut(0).is_some_and(|search| unsafe { &mut *search }.take_fleeting())
}

#[inline(always)]
pub fn changes() -> u64 {
    SET_CHANGES.get(0).copied().unwrap_or(stamp::IS_CHANGING)
}

#[inline(always)]
pub fn note_change() {
    if let Some(changes) = SET_CHANGES.get_ptr_mut(0)
        && is_real()
    {
        // SAFETY: a word of the map, which all add to in the same way.
        unsafe { atomic_xadd::<u64, u64, { Relaxed }>(changes, 1) };
    }
}

#[inline(always)]
pub fn prefix_mask(length: u8) -> Addr {
    set::mask(length, |word| opaque(word as usize) as u64)
}
