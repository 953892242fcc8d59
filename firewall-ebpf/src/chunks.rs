//! The chunks of SCTP packets, in functions that the verifier checks by themselves,
//! as those of [`crate::stage`].

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::bpf_loop,
};
use firewall_common::{
    conntrack::{
        association::Association,
        chunks::{MAX_CHUNKS, MAX_SUM_STEPS, Sum},
    },
    flow::{Direction, Flow},
    headers::Headers,
    packet::Packet,
};

use crate::{
    packet::{SkbPacket, XdpPacket},
    stage::direction_of,
};

/// Judges the chunks of an SCTP packet of a flow, or of none yet; gives a packed
/// [`Outcome`][firewall_common::conntrack::association::Outcome]. `how` is made by [`judge_how`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_judge_chunks(
    ctx: *mut xdp_md,
    flow: *const Flow,
    headers: *const Headers,
    association: *mut Association,
    how: u32,
) -> u32 {
    // SAFETY: null, or memory of these types; others may write the flow meanwhile,
    // of whose words each is read as it was or is.
    let (flow, headers, association) =
        unsafe { (flow.as_ref(), headers.as_ref(), association.as_mut()) };
    let (Some(headers), Some(association)) = (headers, association) else { return 0 };
    judge_chunks(XdpPacket { ctx }, flow, headers, association, how)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_judge_chunks(
    skb: *mut __sk_buff,
    flow: *const Flow,
    headers: *const Headers,
    association: *mut Association,
    how: u32,
) -> u32 {
    // SAFETY: as above.
    let (flow, headers, association) =
        unsafe { (flow.as_ref(), headers.as_ref(), association.as_mut()) };
    let (Some(headers), Some(association)) = (headers, association) else { return 0 };
    judge_chunks(SkbPacket { skb }, flow, headers, association, how)
}

/// Which way a packet goes and how its checksum is to be read, in one word.
#[inline(always)]
pub const fn judge_how(direction: Direction, sum: Sum) -> u32 {
    direction as u32 | (sum as u32) << 1
}

/// As [`firewall_common::conntrack::association::judge`], each walk a loop of the kernel's.
#[inline(always)]
fn judge_chunks<P: Packet>(
    packet: P,
    flow: Option<&Flow>,
    headers: &Headers,
    association: &mut Association,
    how: u32,
) -> u32 {
    association.take(flow, direction_of(how & 1));
    association.chunks.begin(&packet, headers);
    let begin = headers.l4;
    let mut desk = ChunkDesk { packet, association, begin };
    let argument = (&raw mut desk).cast::<c_void>();
    // SAFETY: the callbacks have the signature that the helper wants, and their
    // argument lives on this stack; nobody else uses the association meanwhile.
    unsafe {
        bpf_loop(MAX_CHUNKS, survey_step::<P> as *mut c_void, argument, 0);
        if (*desk.association).needs_following() {
            if (*desk.association).chunks.begin_sum(headers, Sum::from_number(how >> 1)) {
                bpf_loop(MAX_SUM_STEPS, add_step::<P> as *mut c_void, argument, 0);
                (*desk.association).chunks.end_sum();
            }
            (*desk.association).chunks.rewind(headers);
            bpf_loop(MAX_CHUNKS, follow_step::<P> as *mut c_void, argument, 0);
        }
        (*desk.association).outcome().pack()
    }
}

struct ChunkDesk<P> {
    packet: P,
    association: *mut Association,
    /// Where the SCTP header stands.
    begin: u32,
}

unsafe extern "C" fn survey_step<P: Packet>(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: the caller passes a pointer to its desk, and waits.
    let desk = unsafe { &mut *desk.cast::<ChunkDesk<P>>() };
    // SAFETY: as above.
    i64::from(unsafe { (*desk.association).chunks.survey(&desk.packet) })
}

unsafe extern "C" fn add_step<P: Packet>(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: as above.
    let desk = unsafe { &mut *desk.cast::<ChunkDesk<P>>() };
    // SAFETY: as above.
    i64::from(unsafe { (*desk.association).chunks.add(&desk.packet, desk.begin) })
}

unsafe extern "C" fn follow_step<P: Packet>(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: as above.
    let desk = unsafe { &mut *desk.cast::<ChunkDesk<P>>() };
    // SAFETY: as above.
    i64::from(unsafe { (*desk.association).follow(&desk.packet) })
}
