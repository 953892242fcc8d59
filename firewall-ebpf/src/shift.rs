//! Shifts of sequence numbers, carried out: [`firewall_common::shift`] says what. As the
//! [`crate::stage`]s, functions that the verifier checks by themselves.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use firewall_common::{
    checksum::Difference,
    flow::FlowKey,
    mangle::rewrite::Frame,
    scratch::Scratch,
    shift::{self, Shift, Shifts},
    synproxy::header::TcpHeader,
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

/// The folded sum of a header's words.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sum_of_header(header: *const TcpHeader) -> u32 {
    // SAFETY: null, or memory of this type that nobody writes meanwhile.
    let Some(header) = (unsafe { header.as_ref() }) else { return 0 };
    header.sum().folded().into()
}

/// [`shift::turn_edge`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shift_edge(header: *mut TcpHeader, other: *const Shift, edge: u32) -> u32 {
    // SAFETY: null, or memory of these types; nobody else uses the header meanwhile, and
    // nobody writes the shift.
    let (header, other) = unsafe { (header.as_mut(), other.as_ref()) };
    let (Some(header), Some(other)) = (header, other) else { return 0 };
    shift::turn_edge(header, other, edge);
    0
}

/// What [`shift_header`] gives where there is nothing to write.
const GONE: u32 = 1 << 16;

/// Writes the receiver's numbers into the header on the desk; gives what its checksum makes
/// good.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn shift_header(scratch: *mut Scratch) -> u32 {
    // SAFETY: as for [`receive_shifted`].
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return GONE };
    match shift::rewrite(&Maps::without_packet(), scratch) {
        Some(change) => change.folded().into(),
        None => GONE,
    }
}

/// Writes the numbers that the receiver knows; 0 when they cannot be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_renumber(ctx: *mut xdp_md, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    if stage::xdp_header(ctx, scratch) == 0 {
        return 0;
    }
    u32::from(store(&XdpPacket { ctx }, scratch))
}

/// The same in TC.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_renumber(skb: *mut __sk_buff, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    if stage::tc_header(skb, scratch) == 0 {
        return 0;
    }
    u32::from(store(&SkbPacket { skb }, scratch))
}

#[inline(always)]
fn store<F: Frame>(frame: &F, scratch: &mut Scratch) -> bool {
    match shift_header(scratch) {
        GONE => false,
        change => shift::store(frame, scratch, Difference::of_word(change as u16)),
    }
}
