//! Shifts of sequence numbers, carried out: [`firewall_common::shift`] says what. As the
//! [`crate::stage`]s, functions that the verifier checks by themselves.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use firewall_common::{
    flow::FlowKey,
    scratch::Scratch,
    shift::{self, Shift, Shifts},
    time::Nanos,
};

use crate::{
    maps::SEQUENCE_SHIFTS,
    packet::{SkbPacket, XdpPacket},
    stage,
    tables::Maps,
};

/// The shifts under a flow's key.
#[inline(always)]
pub fn of(key: &FlowKey) -> Option<&'static Shifts> {
    // SAFETY: an entry that is replaced meanwhile is read as it was.
    unsafe { SEQUENCE_SHIFTS.get(key) }
}

/// [`Shift::forward`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shift_forward(shift: *const Shift, number: u32) -> u32 {
    // SAFETY: null, or memory of this type that nobody writes.
    let Some(shift) = (unsafe { shift.as_ref() }) else { return number };
    shift.forward(number)
}

/// [`Shift::back`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shift_back(shift: *const Shift, number: u32) -> u32 {
    // SAFETY: as above.
    let Some(shift) = (unsafe { shift.as_ref() }) else { return number };
    shift.back(number)
}

/// Takes the segment on the desk for tracking: [`shift::receive`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn receive_shifted(scratch: *mut Scratch, created: u64, is_reply: u32) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let direction = stage::direction_of(is_reply);
    shift::receive(&Maps::without_packet(), scratch, Nanos(created), direction);
    0
}

/// Writes the numbers that the receiver knows; 0 when they cannot be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_renumber(ctx: *mut xdp_md, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(shift::renumber(&XdpPacket { ctx }, &Maps::of_xdp(ctx), scratch))
}

/// The same in TC.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_renumber(skb: *mut __sk_buff, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(shift::renumber(&SkbPacket { skb }, &Maps::of_tc(skb, false), scratch))
}
