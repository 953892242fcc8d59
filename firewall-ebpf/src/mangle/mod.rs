//! What rules change, carried out: [`firewall_common::mangle`] says what, here it is written
//! into the packet at hand.
//!
//! A mark, and what is to change behind routing, go with the packet as a parcel: XDP leaves
//! its number in a note, TC ingress writes the mark and leaves the number to TC egress.

pub mod tc;
pub mod xdp;

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_xadd};

use firewall_common::{
    mangle::{
        Mangling,
        parcel::{PARCELS as AT_ONCE, Parcel},
    },
    scratch::Scratch,
};

use crate::{
    maps::{PARCEL_COUNT, PARCELS},
    tables::{Maps, is_ours},
};

/// The bits of a parcel's number.
pub const NUMBER: u32 = AT_ONCE - 1;

/// Puts a parcel down; gives its number.
#[inline(always)]
fn put_down(parcel: Parcel) -> Option<u32> {
    let count = PARCEL_COUNT.get_ptr_mut(0)?;
    // SAFETY: the word is the map's, and all CPUs add to it so.
    let number = unsafe { atomic_xadd::<u32, u32, { SeqCst }>(count, 1) } & NUMBER;
    let place = PARCELS.get_ptr_mut(number)?;
    // SAFETY: the number is this packet's until as many others have come.
    unsafe { *place = parcel };
    Some(number)
}

/// What is left to do with a packet that the stack forwards: everything at once, when nobody
/// of us sees it leave.
#[inline(always)]
fn left_to_stack(maps: &Maps, scratch: &Scratch) -> Mangling {
    match is_ours(maps, scratch.walk.out_ifindex) {
        true => scratch.mangling,
        false => scratch.mangling.at_once(),
    }
}
