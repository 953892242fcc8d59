//! Asking the rules, where they may change the packet: it is routed anew in between. As the
//! [`crate::stage`]s, functions that the verifier checks by themselves.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use firewall_common::{
    event::Hook, fragment::Visit, headers::Headers, path, rule::Chain, scratch::Scratch,
    tables::Place, walk::Outcome,
};

use crate::{
    packet::{SkbPacket, XdpPacket},
    route,
    stage::{pack_route, unpack_route},
    tables::{Maps, Program},
};

/// What the rules say, and make, of the packet on the desk; an [`Outcome`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_decide(ctx: *mut xdp_md, scratch: *mut Scratch) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return Outcome::Broken as u32 };
    let packet = XdpPacket { ctx };
    let place = Place {
        hook: Hook::Ingress,
        ifindex: packet.ifindex(),
        has_ethernet: true,
        visit: Visit::New,
    };
    path::decide(&Maps::of_xdp(ctx), scratch, place) as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_decide(skb: *mut __sk_buff, scratch: *mut Scratch, is_egress: u32) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return Outcome::Broken as u32 };
    let packet = SkbPacket { skb };
    let hook = if is_egress != 0 { Hook::Egress } else { Hook::Ingress };
    let place = Place { hook, ifindex: packet.ifindex(), has_ethernet: true, visit: Visit::New };
    path::decide(&Maps::of_tc(skb, is_egress != 0), scratch, place) as u32
}

/// Where a packet goes that bears a mark, and by which interface it will leave.
#[inline(always)]
pub fn reroute(maps: &Maps, headers: &Headers, ifindex: u32, mark: u32) -> (Chain, u32) {
    let answer = match maps.program {
        Program::Xdp => xdp_reroute(maps.ctx.cast(), headers, ifindex, mark),
        Program::TcIngress => tc_reroute(maps.ctx.cast(), headers, ifindex, mark, 0),
        Program::TcEgress => tc_reroute(maps.ctx.cast(), headers, ifindex, mark, 1),
    };
    unpack_route(answer)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_reroute(
    ctx: *mut xdp_md,
    headers: *const Headers,
    ifindex: u32,
    mark: u32,
) -> u64 {
    // SAFETY: null, or memory of this type that nobody writes meanwhile.
    let Some(headers) = (unsafe { headers.as_ref() }) else { return 0 };
    let ctx = ctx.cast::<c_void>();
    pack_route(route::look_up_marked(Program::Xdp, ctx, ifindex, headers, mark))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_reroute(
    skb: *mut __sk_buff,
    headers: *const Headers,
    ifindex: u32,
    mark: u32,
    is_egress: u32,
) -> u64 {
    // SAFETY: as above.
    let Some(headers) = (unsafe { headers.as_ref() }) else { return 0 };
    let program = if is_egress != 0 { Program::TcEgress } else { Program::TcIngress };
    pack_route(route::look_up_marked(program, skb.cast::<c_void>(), ifindex, headers, mark))
}

/// The smaller MTU of a packet's way and the way back; 0 when it is not known.
#[inline(always)]
pub fn path_mtu(maps: &Maps, scratch: &Scratch, mark: u32) -> u32 {
    match maps.program {
        Program::Xdp => xdp_path_mtu(maps.ctx.cast(), scratch, mark),
        Program::TcIngress | Program::TcEgress => tc_path_mtu(maps.ctx.cast(), scratch, mark),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_path_mtu(ctx: *mut xdp_md, scratch: *const Scratch, mark: u32) -> u32 {
    // SAFETY: as above.
    let Some(Scratch { headers, walk, .. }) = (unsafe { scratch.as_ref() }) else { return 0 };
    route::path_mtu(ctx.cast(), headers, walk.in_ifindex, walk.out_ifindex, mark)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_path_mtu(skb: *mut __sk_buff, scratch: *const Scratch, mark: u32) -> u32 {
    // SAFETY: as above.
    let Some(Scratch { headers, walk, .. }) = (unsafe { scratch.as_ref() }) else { return 0 };
    route::path_mtu(skb.cast(), headers, walk.in_ifindex, walk.out_ifindex, mark)
}
