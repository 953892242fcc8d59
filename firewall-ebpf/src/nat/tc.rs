//! In TC: what comes in where XDP cannot be, what this host sends, and what leaves behind the
//! stack.

use core::ffi::c_void;

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_loop};
use firewall_common::{
    conntrack,
    event::Hook,
    flow::Tuple,
    fragment::Visit,
    headers::{Headers, Parsed},
    mangle::parcel::Parcel,
    nat::{arrival, birth, claim, departure, desk::done, rewrite},
    path,
    scratch::Scratch,
    tables::{Place, Tables},
    time::Nanos,
};

use super::sockets;
use crate::{
    packet::SkbPacket,
    route, stage,
    tables::{Maps, now},
};

/// Puts the destination of the packet on the desk right; 0 when it cannot be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_come_in(skb: *mut __sk_buff, scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let (packet, maps) = (SkbPacket { skb }, Maps::of_tc(skb, false));
    u32::from(arrival::come_in(&packet, &maps, scratch, Nanos(now)))
}

/// Puts the packet back as it came; 0 when it cannot be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_undo(skb: *mut __sk_buff, is_egress: u32) -> u32 {
    let maps = Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return 0 };
    u32::from(arrival::undo(&maps, scratch))
}

/// Between the rules before routing and those behind it; 0 when the destination cannot be had.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_take_turn(
    skb: *mut __sk_buff,
    scratch: *mut Scratch,
    needs: u32,
    is_egress: u32,
) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let hook = if is_egress != 0 { Hook::Egress } else { Hook::Ingress };
    let ifindex = SkbPacket { skb }.ifindex();
    let place = Place { hook, ifindex, has_ethernet: true, visit: Visit::New };
    u32::from(path::take_turn(&Maps::of_tc(skb, is_egress != 0), scratch, place, needs))
}

/// Gives a new flow its faces; 0 when there is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_bind(skb: *mut __sk_buff, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(birth::bind(&Maps::of_tc(skb, false), scratch))
}

/// Tries the face on the desk.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_attempt(skb: *mut __sk_buff, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(claim::attempt(&Maps::of_tc(skb, false), scratch))
}

/// Whether a socket of this host would receive a packet with these ends.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_has_socket(skb: *mut __sk_buff, tuple: *const Tuple) -> u32 {
    // SAFETY: as above.
    let Some(tuple) = (unsafe { tuple.as_ref() }) else { return 0 };
    u32::from(sockets::has(skb.cast(), tuple))
}

/// Tries one port after another.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_search_port(skb: *mut __sk_buff, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let mut desk: (*mut __sk_buff, *mut Scratch) = (skb, scratch);
    // SAFETY: the callback has the signature that the helper wants, and its argument lives on
    // this stack.
    unsafe { bpf_loop(claim::MAX_TRIES, port_step as *mut c_void, (&raw mut desk).cast(), 0) };
    0
}

unsafe extern "C" fn port_step(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: the caller passes a pointer to its pair, and waits.
    let (skb, scratch) = unsafe { *desk.cast::<(*mut __sk_buff, *mut Scratch)>() };
    // SAFETY: nobody else uses it meanwhile.
    i64::from(claim::step(&Maps::of_tc(skb, false), unsafe { &mut *scratch }))
}

/// The packet leaves: its source is put right; 0 when it cannot be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_leave(skb: *mut __sk_buff, is_egress: u32) -> u32 {
    let maps = Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return 0 };
    u32::from(maps.turn(&scratch.headers, &scratch.nat.inside, &scratch.nat.leaving))
}

/// A packet that leaves behind the stack, with its parcel: its source is put right; 0 when it
/// cannot be written. Its headers are on the desk.
#[inline(always)]
pub fn put_right(packet: &SkbPacket, scratch: &mut Scratch, parcel: &Parcel) -> bool {
    let Scratch { headers, nat, quoted, .. } = scratch;
    nat.inside = headers.tuple;
    if headers.is_icmp_error() {
        if stage::tc_quoted(packet.skb, headers, quoted) == 0 {
            return false;
        }
        nat.inside = quoted.reversed();
    }
    nat.leaving = nat.inside;
    if headers.is_later_fragment() {
        nat.leaving.src = parcel.source;
    } else {
        parcel.apply(&mut nat.leaving);
    }
    Maps::of_tc(packet.skb, true).turn(headers, &nat.inside, &nat.leaving)
}

/// Finds out with which ends a packet leaves that the daemon has held, whose headers are
/// read to the desk; 0 when with those that it has.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_recognize(skb: *mut __sk_buff, has_ethernet: u32) -> u32 {
    let maps = Maps::of_tc(skb, true);
    let Some(scratch) = maps.scratch() else { return 0 };
    scratch.nat.begin();
    let parsed = Parsed::unpack(stage::tc_headers(skb, &mut scratch.headers, has_ethernet));
    if !matches!(parsed, Ok(Parsed::Ip)) || scratch.headers.is_later_fragment() {
        return 0;
    }
    let sender = maps.key_of(&scratch.headers.tuple, &mut scratch.key);
    let Some((_, flow)) = conntrack::find(&maps, &scratch.key, now()) else { return 0 };
    departure::leave(scratch, flow, flow.direction(sender));
    u32::from(scratch.nat.has(done::LEAVES))
}

/// Writes other ends into an ICMP error, and into the packet that it quotes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_turn_error(
    skb: *mut __sk_buff,
    headers: *const Headers,
    from: *const Tuple,
    to: *const Tuple,
) -> u32 {
    // SAFETY: null, or memory of these types that nobody writes meanwhile.
    let (headers, from, to) = unsafe { (headers.as_ref(), from.as_ref(), to.as_ref()) };
    let (Some(headers), Some(from), Some(to)) = (headers, from, to) else { return 0 };
    u32::from(rewrite::error_ends(&SkbPacket { skb }, headers, from, to))
}

/// Writes other ends into a packet that is no ICMP error.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_turn(
    skb: *mut __sk_buff,
    headers: *const Headers,
    from: *const Tuple,
    to: *const Tuple,
) -> u32 {
    // SAFETY: null, or memory of these types that nobody writes meanwhile.
    let (headers, from, to) = unsafe { (headers.as_ref(), from.as_ref(), to.as_ref()) };
    let (Some(headers), Some(from), Some(to)) = (headers, from, to) else { return 0 };
    u32::from(rewrite::plain_ends(&SkbPacket { skb }, headers, from, to))
}

/// As [`super::xdp::xdp_own_address`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_own_address(
    skb: *mut __sk_buff,
    scratch: *mut Scratch,
    towards_source: u32,
) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(route::source_address(skb.cast(), scratch, towards_source != 0))
}
