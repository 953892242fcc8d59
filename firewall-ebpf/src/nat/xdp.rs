//! In XDP: the frame's bytes are written in place.

use core::ffi::c_void;

use aya_ebpf::{bindings::xdp_md, helpers::bpf_loop};
use firewall_common::{
    event::Hook,
    flow::Tuple,
    fragment::Visit,
    headers::Headers,
    nat::{arrival, birth, claim, rewrite},
    path,
    scratch::Scratch,
    tables::{Place, Tables},
    time::Nanos,
};

use super::sockets;
use crate::{packet::XdpPacket, route, tables::Maps};

/// Puts the destination of the packet on the desk right; 0 when it cannot be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_come_in(ctx: *mut xdp_md, scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let (packet, maps) = (XdpPacket { ctx }, Maps::of_xdp(ctx));
    u32::from(arrival::come_in(&packet, &maps, scratch, Nanos(now)))
}

/// Puts the packet back as it came; 0 when it cannot be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_undo(ctx: *mut xdp_md) -> u32 {
    let maps = Maps::of_xdp(ctx);
    let Some(scratch) = maps.scratch() else { return 0 };
    u32::from(arrival::undo(&maps, scratch))
}

/// Between the rules before routing and those behind it; 0 when the destination cannot be had.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_take_turn(ctx: *mut xdp_md, scratch: *mut Scratch, needs: u32) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let ifindex = XdpPacket { ctx }.ifindex();
    let place = Place { hook: Hook::Ingress, ifindex, has_ethernet: true, visit: Visit::New };
    u32::from(path::take_turn(&Maps::of_xdp(ctx), scratch, place, needs))
}

/// Gives a new flow its faces; 0 when there is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_bind(ctx: *mut xdp_md, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(birth::bind(&Maps::of_xdp(ctx), scratch))
}

/// Tries the face on the desk.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_attempt(ctx: *mut xdp_md, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(claim::attempt(&Maps::of_xdp(ctx), scratch))
}

/// Whether a socket of this host would receive a packet with these ends.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_has_socket(ctx: *mut xdp_md, tuple: *const Tuple) -> u32 {
    // SAFETY: as above.
    let Some(tuple) = (unsafe { tuple.as_ref() }) else { return 0 };
    u32::from(sockets::has(ctx.cast(), tuple))
}

/// Tries one port after another.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_search_port(ctx: *mut xdp_md, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let mut desk: (*mut xdp_md, *mut Scratch) = (ctx, scratch);
    // SAFETY: the callback has the signature that the helper wants, and its argument lives on
    // this stack.
    unsafe { bpf_loop(claim::MAX_TRIES, port_step as *mut c_void, (&raw mut desk).cast(), 0) };
    0
}

unsafe extern "C" fn port_step(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: the caller passes a pointer to its pair, and waits.
    let (ctx, scratch) = unsafe { *desk.cast::<(*mut xdp_md, *mut Scratch)>() };
    // SAFETY: nobody else uses it meanwhile.
    i64::from(claim::step(&Maps::of_xdp(ctx), unsafe { &mut *scratch }))
}

/// The packet leaves: its source is put right; 0 when it cannot be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_leave(ctx: *mut xdp_md) -> u32 {
    let maps = Maps::of_xdp(ctx);
    let Some(scratch) = maps.scratch() else { return 0 };
    u32::from(maps.turn(&scratch.headers, &scratch.nat.inside, &scratch.nat.leaving))
}

/// Writes other ends into an ICMP error, and into the packet that it quotes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_turn_error(
    ctx: *mut xdp_md,
    headers: *const Headers,
    from: *const Tuple,
    to: *const Tuple,
) -> u32 {
    // SAFETY: null, or memory of these types that nobody writes meanwhile.
    let (headers, from, to) = unsafe { (headers.as_ref(), from.as_ref(), to.as_ref()) };
    let (Some(headers), Some(from), Some(to)) = (headers, from, to) else { return 0 };
    u32::from(rewrite::error_ends(&XdpPacket { ctx }, headers, from, to))
}

/// Writes other ends into a packet that is no ICMP error.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_turn(
    ctx: *mut xdp_md,
    headers: *const Headers,
    from: *const Tuple,
    to: *const Tuple,
) -> u32 {
    // SAFETY: null, or memory of these types that nobody writes meanwhile.
    let (headers, from, to) = unsafe { (headers.as_ref(), from.as_ref(), to.as_ref()) };
    let (Some(headers), Some(from), Some(to)) = (headers, from, to) else { return 0 };
    u32::from(rewrite::plain_ends(&XdpPacket { ctx }, headers, from, to))
}

/// The address that this host would use towards the source of the packet on the desk
/// (`towards_source` not 0) or its destination; 0 when there is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_own_address(
    ctx: *mut xdp_md,
    scratch: *mut Scratch,
    towards_source: u32,
) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(route::source_address(ctx.cast(), scratch, towards_source != 0))
}
