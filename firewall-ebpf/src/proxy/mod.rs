//! SYNPROXY carried out: [`firewall_common::synproxy`] says what is sent, here it is
//! written over the frame at hand.

pub mod tc;
pub mod xdp;

use bytemuck::Zeroable;
use firewall_common::{
    reject::Answer,
    synproxy::{
        Proof,
        segment::{self, Segment},
    },
    wire::Ethernet,
};

use crate::{maps::DESK, tables::Maps};

/// Writes a segment to the program's desk; gives it with the length of its headers.
#[inline(always)]
fn compose(
    maps: &Maps,
    segment: &Segment,
    ethernet: Ethernet,
    is_unfinished: bool,
) -> Option<(&'static mut Answer, u32)> {
    let desk = DESK.get_ptr_mut(maps.program as u32)?;
    // SAFETY: one program runs on one CPU at a time.
    let desk = unsafe { &mut *desk };
    desk.ethernet = ethernet;
    let len = write_segment(desk, segment, u32::from(is_unfinished));
    Some((desk, len))
}

/// [`segment::write`], as one of the [`crate::stage`]s.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn write_segment(
    answer: *mut Answer,
    segment: *const Segment,
    is_unfinished: u32,
) -> u32 {
    // SAFETY: null, or memory of these types that nobody else uses meanwhile.
    let (answer, segment) = unsafe { (answer.as_mut(), segment.as_ref()) };
    let (Some(answer), Some(segment)) = (answer, segment) else { return 0 };
    segment::write(answer, segment, is_unfinished != 0)
}

/// The way back of a frame.
#[inline(always)]
const fn turned(was: Ethernet) -> Ethernet {
    Ethernet { dst: was.src, src: was.dst, ether_type: was.ether_type }
}

/// What was proven holds for one packet.
#[inline(always)]
pub fn forget_proof(maps: &Maps) {
    if let Some(scratch) = maps.scratch() {
        scratch.proxy.proof = Proof::zeroed();
    }
}
