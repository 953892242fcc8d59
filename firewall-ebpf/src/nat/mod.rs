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
    nat::{Translation, birth, claim, departure, face},
    scratch::Scratch,
    time::Nanos,
};

use crate::{
    maps::{EMBRYONIC_TRANSLATIONS, FACES, TRANSLATIONS},
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
    let found = match TRANSLATIONS.get_ptr_mut(key) {
        Some(found) => found,
        None => EMBRYONIC_TRANSLATIONS.get_ptr_mut(key)?,
    };
    // SAFETY: the memory stays mapped while the program runs.
    Some(unsafe { &mut *found })
}

/// The way in under a wire face of a confirmed flow.
#[inline(always)]
pub fn kept_translation(key: &FlowKey) -> Option<&'static Translation> {
    // SAFETY: as above.
    unsafe { TRANSLATIONS.get(key) }
}

#[inline(always)]
pub fn add(key: &FlowKey, translation: &Translation) -> bool {
    EMBRYONIC_TRANSLATIONS.insert(key, translation, u64::from(BPF_NOEXIST)).is_ok()
}

#[inline(always)]
pub fn forget(key: &FlowKey) {
    let _ = TRANSLATIONS.remove(key);
    let _ = EMBRYONIC_TRANSLATIONS.remove(key);
}

/// Moves a way in to where floods cannot reach it.
#[inline(always)]
pub fn keep(key: &FlowKey) -> bool {
    let Some(found) = EMBRYONIC_TRANSLATIONS.get_ptr_mut(key) else { return true };
    // SAFETY: as above.
    let is_kept = TRANSLATIONS.insert(key, unsafe { &*found }, u64::from(BPF_ANY)).is_ok();
    if is_kept {
        let _ = EMBRYONIC_TRANSLATIONS.remove(key);
    }
    is_kept
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
