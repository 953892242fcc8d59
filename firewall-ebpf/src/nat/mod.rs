//! Translation, carried out: [`firewall_common::nat`] says what, here it is looked up and
//! written. As the [`crate::stage`]s, functions that the verifier checks by themselves.

mod sockets;
pub mod tc;
pub mod xdp;

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_or};

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use firewall_common::{
    addr::Addr,
    flow::{Flow, FlowKey},
    ipv4_key::Ipv4Key,
    nat::{Mapping, MappingKey, Translation, birth, claim, departure, face, mapping},
    scratch::Scratch,
    shortcut::hint::{Hint, Mark, Part},
    time::Nanos,
};

use crate::{
    families::{NEW_WAYS_IN, WAYS_IN, find_way_in},
    maps::{FACES, HINT_BITS, HINTS, MAPPINGS, TRANSLATIONS, TRANSLATIONS6},
    stage,
    tables::Maps,
};

/// Whether anything may be translated that is addressed so.
#[inline(always)]
pub fn is_face(address: &Addr) -> bool {
    let (word, bit) = face(address);
    FACES.get(word).is_some_and(|bits| *bits & bit != 0)
}

#[inline(always)]
pub fn note_face(address: &Addr) {
    let (word, bit) = face(address);
    let Some(bits) = FACES.get_ptr_mut(word) else { return };
    // SAFETY: the word is the map's, and all CPUs add to it so.
    unsafe { atomic_or::<u64, u64, { SeqCst }>(bits, bit) };
}

/// The way in under a wire face, of a confirmed flow first.
#[inline(always)]
pub fn translation(key: &FlowKey) -> Option<&'static mut Translation> {
    find_way_in(key)
}

/// The way in under a wire face of a confirmed flow of IPv4.
#[inline(always)]
pub fn kept_translation(key: &Ipv4Key) -> Option<&'static Translation> {
    // SAFETY: the memory stays mapped while the program runs.
    unsafe { TRANSLATIONS.get(key) }
}

/// The same of IPv6.
#[inline(always)]
pub fn kept_translation6(key: &FlowKey) -> Option<&'static Translation> {
    // SAFETY: as above.
    unsafe { TRANSLATIONS6.get(key) }
}

/// Each word is read once: another CPU may be writing.
#[inline(always)]
pub fn hint(mark: Mark, part: Part) -> Hint {
    let place = mark.place(part, HINT_BITS.load());
    let Some(hint) = HINTS.get_ptr(place) else { return Hint::NONE };
    // SAFETY: the entry is the map's, and any words in it are a hint.
    unsafe {
        Hint {
            mark: (&raw const (*hint).mark).read_volatile(),
            inside: (&raw const (*hint).inside).read_volatile(),
        }
    }
}

#[inline(always)]
pub fn note_hint(mark: Mark, part: Part, hint: &Hint) {
    let place = mark.place(part, HINT_BITS.load());
    let Some(entry) = HINTS.get_ptr_mut(place) else { return };
    // SAFETY: as above.
    unsafe {
        (&raw mut (*entry).mark).write_volatile(hint.mark);
        (&raw mut (*entry).inside).write_volatile(hint.inside);
    }
}

#[inline(always)]
pub fn add(key: &FlowKey, translation: &Translation) -> bool {
    NEW_WAYS_IN.put(key, translation, BPF_NOEXIST)
}

#[inline(always)]
pub fn forget(key: &FlowKey) {
    let _ = WAYS_IN.take(key);
    let _ = NEW_WAYS_IN.take(key);
}

/// Moves a way in to where floods cannot reach it.
#[inline(always)]
pub fn keep(key: &FlowKey) -> bool {
    let Some(found) = NEW_WAYS_IN.find(key) else { return true };
    let is_kept = WAYS_IN.put(key, found, BPF_ANY);
    if is_kept {
        let _ = NEW_WAYS_IN.take(key);
    }
    is_kept
}

/// One of the two entries of a mapping.
#[inline(always)]
pub fn find_mapping(key: &MappingKey) -> Option<&'static mut Mapping> {
    let found = MAPPINGS.get_ptr_mut(key)?;
    // SAFETY: as above.
    Some(unsafe { &mut *found })
}

#[inline(always)]
pub fn add_mapping(key: &MappingKey, mapping: &Mapping) -> bool {
    MAPPINGS.insert(key, mapping, u64::from(BPF_NOEXIST)).is_ok()
}

/// A packet of a translated flow: with which ends it leaves; 0 when it is none of it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn go_out(scratch: *mut Scratch, flow: *const Flow, is_reply: u32) -> u32 {
    // SAFETY: null, or memory of these types; others may write the flow meanwhile, of whose
    // words each is read as it was or is.
    let (scratch, flow) = unsafe { (scratch.as_mut(), flow.as_ref()) };
    let (Some(scratch), Some(flow)) = (scratch, flow) else { return 0 };
    u32::from(departure::go_out(scratch, flow, stage::direction_of(is_reply)))
}

/// Has table nat asked about the packet on the desk, which begins a flow.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn begin_flow(scratch: *mut Scratch, is_announced: u32, now: u64) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    birth::begin(&Maps::without_packet(), scratch, is_announced != 0, Nanos(now));
    0
}

/// Keeps the ways in of a flow that was confirmed.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn keep_faces(scratch: *mut Scratch, flow: *const Flow) -> u32 {
    // SAFETY: null, or memory of these types; others may write the flow meanwhile.
    let (scratch, flow) = unsafe { (scratch.as_mut(), flow.as_ref()) };
    let (Some(scratch), Some(flow)) = (scratch, flow) else { return 0 };
    claim::keep(&Maps::without_packet(), scratch, flow);
    0
}

/// Puts the port of the inside endpoint's mapping into hand; 0 when it has none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn recall_port(scratch: *mut Scratch) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(mapping::recall(&Maps::without_packet(), scratch))
}

/// Keeps the outside endpoint in hand for the inside one; 0 when it is another's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reserve_port(scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(mapping::reserve(&Maps::without_packet(), scratch))
}

/// Makes the mapping of the port in hand; 0 when the inside endpoint has another.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note_mapping(scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(mapping::note(&Maps::without_packet(), scratch))
}

/// Has the mapping of a flow live as long as that.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn renew_mapping(key: *const FlowKey, flow: *const Flow) -> u32 {
    // SAFETY: null, or memory of these types; others may write the flow meanwhile.
    let (key, flow) = unsafe { (key.as_ref(), flow.as_ref()) };
    let (Some(key), Some(flow)) = (key, flow) else { return 0 };
    mapping::renew(&Maps::without_packet(), key, flow);
    0
}
