//! Holding a segment of a control connection: a copy goes to the ring, the
//! frame itself no further.

use core::ffi::c_void;

use firewall_common::{
    event::Punt,
    rule::Chain,
    scratch::Scratch,
    tables::Tables,
    verdict::{DropReason, Verdict},
};

use crate::{answer::Quote, maps::PUNTS, tables::Maps, verifier::opaque};

/// Copies the frame to the ring in the smallest class that holds it, and counts
/// the verdict; `false` when there was no space, which TCP will make good.
#[inline(always)]
pub fn hold<P: Quote>(packet: &P, maps: &Maps, scratch: &mut Scratch) -> bool {
    let punt = &mut scratch.punt;
    punt.frame_len = packet.len();
    let is_held = if punt.frame_len <= 256 {
        copy::<P, 256>(packet, punt)
    } else if punt.frame_len <= 1_600 {
        copy::<P, 1_600>(packet, punt)
    } else if punt.frame_len <= 9_216 {
        copy::<P, 9_216>(packet, punt)
    } else {
        copy::<P, 65_600>(packet, punt)
    };
    let verdict = match Chain::from_byte(scratch.walk.chain) {
        Some(chain) if is_held => Verdict::Punt(chain),
        _ => Verdict::Drop(DropReason::HelperBusy),
    };
    maps.count(verdict.counter());
    is_held
}

#[inline(always)]
fn copy<P: Quote, const CLASS: usize>(packet: &P, punt: &Punt) -> bool {
    let len = opaque(punt.frame_len as usize);
    if len == 0 || len > CLASS {
        return false;
    }
    let Some(mut entry) = PUNTS.reserve_bytes(size_of::<Punt>() + CLASS, 0) else {
        return false;
    };
    let start = entry.as_mut_ptr();
    // SAFETY: the entry has room for the record and CLASS bytes, and `len` is
    // no more than that.
    let is_copied = unsafe {
        start.cast::<Punt>().write(*punt);
        packet.quote(0, start.add(size_of::<Punt>()).cast::<c_void>(), len as u32)
    };
    if is_copied {
        entry.submit(0);
    } else {
        entry.discard(0);
    }
    is_copied
}
