//! Holding a packet: a copy goes to a ring, the frame itself no further. Segments of
//! a control connection are held for the helper, fragments that come before their
//! first one until that has come.

use core::{ffi::c_void, mem::size_of};

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, maps::RingBuf};
use firewall_common::{
    event::Punt,
    flow::{helper, protocol},
    rule::Chain,
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
    unread::Unread,
    verdict::{DropReason, Stat, Verdict, drop_counter},
};

use crate::{
    answer::Quote,
    maps::{EARLY, PUNTS, UNREAD, UNREAD_UNTOLD},
    tables::{Maps, now},
    verifier::opaque,
};

/// Copies the frame to the ring for the helper, and counts the verdict; `false` when
/// there was no space, which TCP will make good.
#[inline(always)]
pub fn hold<P: Quote>(packet: &P, maps: &Maps, scratch: &mut Scratch) -> bool {
    scratch.punt.frame_len = packet.len();
    // By the fine clock: how long it is held is measured.
    // SAFETY: the call takes nothing.
    scratch.punt.at = Nanos(unsafe { bpf_ktime_get_ns() });
    let is_held = copy(packet, &PUNTS, &scratch.punt, scratch.punt.frame_len);
    if !is_held {
        miss(&scratch.punt);
    }
    let verdict = match Chain::from_byte(scratch.walk.chain) {
        Some(chain) if is_held => Verdict::Punt(chain),
        _ => Verdict::Drop(DropReason::HelperBusy),
    };
    maps.count(verdict.counter());
    is_held
}

/// Notes that the helper has not read a segment, which goes no further.
#[inline(always)]
fn miss(punt: &Punt) {
    if helper::protocol(punt.helper) != Some(protocol::TCP) {
        return;
    }
    let (way, lost) = (punt.way(), Unread::of(punt));
    if let Some(unread) = UNREAD.get_ptr_mut(way) {
        // SAFETY: the entry is the map's; others write a whole word of it, if any.
        return unsafe { (*unread).add(&lost) };
    }
    if UNREAD.insert(way, lost, 0).is_err()
        && let Some(untold) = UNREAD_UNTOLD.get_ptr_mut(0)
    {
        // SAFETY: the word is the map's.
        unsafe { untold.write(now()) };
    }
}

/// Notes that a segment reached its receiver unread.
#[inline(always)]
pub fn pass(punt: &Punt) {
    if let Some(unread) = UNREAD.get_ptr_mut(punt.way()) {
        // SAFETY: as in `miss`. Of two CPUs the later one wins, which one that loses a segment is
        // only while the daemon is not seen to be away.
        unsafe { (*unread).pass(punt) };
    }
}

/// Copies an early fragment to the ring where it waits. It counts when it is judged,
/// or here, when there was no space.
#[inline(always)]
pub fn keep<P: Quote>(packet: &P, maps: &Maps, scratch: &mut Scratch) -> bool {
    scratch.early.frame_len = packet.len();
    scratch.early.l3 = scratch.headers.l3 as u16;
    let is_kept = copy(packet, &EARLY, &scratch.early, scratch.early.frame_len);
    maps.count(match is_kept {
        true => Stat::FragmentsHeld as u32,
        false => drop_counter(DropReason::FragmentOverflow),
    });
    is_kept
}

/// Copies a record and its frame, in the smallest class that holds the frame.
#[inline(always)]
fn copy<P: Quote, R: Copy>(packet: &P, ring: &RingBuf, record: &R, frame_len: u32) -> bool {
    if frame_len <= 256 {
        copy_to::<P, R, 256>(packet, ring, record, frame_len)
    } else if frame_len <= 1_600 {
        copy_to::<P, R, 1_600>(packet, ring, record, frame_len)
    } else if frame_len <= 9_216 {
        copy_to::<P, R, 9_216>(packet, ring, record, frame_len)
    } else {
        copy_to::<P, R, 65_600>(packet, ring, record, frame_len)
    }
}

#[inline(always)]
fn copy_to<P: Quote, R: Copy, const CLASS: usize>(
    packet: &P,
    ring: &RingBuf,
    record: &R,
    frame_len: u32,
) -> bool {
    let len = opaque(frame_len as usize);
    if len == 0 || len > CLASS {
        return false;
    }
    let Some(mut entry) = ring.reserve_bytes(size_of::<R>() + CLASS, 0) else {
        return false;
    };
    let start = entry.as_mut_ptr();
    // SAFETY: the entry has room for the record and CLASS bytes, and `len` is
    // no more than that.
    let is_copied = unsafe {
        start.cast::<R>().write(*record);
        packet.quote(0, start.add(size_of::<R>()).cast::<c_void>(), len as u32)
    };
    if is_copied {
        entry.submit(0);
    } else {
        entry.discard(0);
    }
    is_copied
}
