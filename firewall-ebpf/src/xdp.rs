//! XDP: what comes in on an Ethernet interface.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
    helpers::{bpf_redirect, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
    macros::xdp,
    programs::XdpContext,
};
use firewall_common::{
    addr::Family,
    checksum,
    control::device,
    event::Hook,
    flow::protocol,
    headers::{Fragment, Headers},
    packet::Packet,
    path,
    rule::{Chain, RejectKind},
    tables::{Place, Tables},
    verdict::{Stat, Verdict},
    wire::{Ethernet, Ipv4, Ipv6, Tcp, Udp},
};

use crate::{
    answer,
    maps::DELIVERY,
    packet::XdpPacket,
    punt,
    route::Fib,
    tables::{Maps, Program, now},
};

/// In front of a frame that TC ingress is to send back out: the metadata.
pub const REFLECT: u32 = 0x7265_666c;

#[xdp(frags)]
pub fn firewall_xdp(ctx: XdpContext) -> u32 {
    let packet = XdpPacket { ctx: ctx.ctx };
    let maps = Maps { program: Program::Xdp, ctx: ctx.ctx.cast(), ingress_ifindex: 0 };
    let ifindex = packet.ifindex();
    if is_ours_coming_back(&packet, &maps, ifindex) {
        maps.count(Stat::Reinjected as u32);
        return XDP_PASS;
    }
    let Some(scratch) = maps.scratch() else { return XDP_ABORTED };
    let place = Place { hook: Hook::Ingress, ifindex, has_ethernet: true };
    match path::filter(&packet, place, &maps, scratch, now()) {
        Verdict::Accept(Chain::Forward) => forward(&packet, &maps, &scratch.headers, ifindex),
        Verdict::Accept(_) | Verdict::Pass(_) => XDP_PASS,
        Verdict::Punt(_) => {
            scratch.punt.ifindex = ifindex;
            scratch.punt.hook = Hook::Ingress as u8;
            punt::hold(&packet, &maps, &mut scratch.punt);
            XDP_DROP
        }
        Verdict::Drop(_) => XDP_DROP,
        Verdict::Reject(kind) => reject(&packet, &maps, &scratch.headers, ifindex, kind),
    }
}

/// In generic mode a frame that the daemon sends back passes here again: its
/// source address is the token that the daemon wrote.
#[inline(always)]
fn is_ours_coming_back(packet: &XdpPacket, maps: &Maps, ifindex: u32) -> bool {
    let Some(found) = maps.device(ifindex) else { return false };
    if found.flags & device::GENERIC == 0 {
        return false;
    }
    packet.read::<Ethernet>(0).is_some_and(|ethernet| ethernet.src == maps.options().token)
}

/// Sends a forwarded packet straight out, or by way of the stack where only the
/// stack can do it.
#[inline(always)]
fn forward(packet: &XdpPacket, maps: &Maps, headers: &Headers, ifindex: u32) -> u32 {
    let Some(delivery) = DELIVERY.get(Program::Xdp as u32) else { return XDP_PASS };
    let fib = &delivery.fib;
    let may_redirect = delivery.is_direct()
        && headers.vlan == 0
        && headers.ttl > 1
        && maps.device(fib.ifindex).is_some_and(|out| out.flags & device::TAKES_REDIRECT != 0)
        && !has_partial_checksum(packet, maps, headers, ifindex);
    if may_redirect && rewrite(packet, headers, fib) {
        maps.count(Stat::ForwardFast as u32);
        // SAFETY: the helper only notes the interface.
        return unsafe { bpf_redirect(fib.ifindex, 0) } as u32;
    }
    maps.count(Stat::ForwardStack as u32);
    XDP_PASS
}

/// Whether the sender, a virtual peer, left the checksum to hardware.
#[inline(always)]
fn has_partial_checksum(packet: &XdpPacket, maps: &Maps, headers: &Headers, ifindex: u32) -> bool {
    let may_be =
        maps.device(ifindex).is_none_or(|found| found.flags & device::PARTIAL_CHECKSUMS != 0);
    if !may_be || headers.fragment != Fragment::Whole as u8 {
        return false;
    }
    let field = match headers.tuple.protocol {
        protocol::TCP => packet.read::<Tcp>(headers.l4).map(|tcp| tcp.checksum),
        protocol::UDP => packet.read::<Udp>(headers.l4).map(|udp| udp.checksum),
        _ => return false,
    };
    field.is_some_and(|field| checksum::is_partial(headers, field))
}

/// Writes the next hop's addresses and takes one from the TTL.
#[inline(always)]
fn rewrite(packet: &XdpPacket, headers: &Headers, fib: &Fib) -> bool {
    const L3: usize = size_of::<Ethernet>();
    let data = packet.data();
    let end = packet.data_end();
    if data + L3 + size_of::<Ipv6>() > end && !matches!(headers.family(), Family::Ipv4) {
        return false;
    }
    if data + L3 + size_of::<Ipv4>() > end {
        return false;
    }
    // SAFETY: the headers were just found to lie within the packet.
    unsafe {
        let ethernet = data as *mut Ethernet;
        (*ethernet).dst = fib.destination_mac;
        (*ethernet).src = fib.source_mac;
        match headers.family() {
            Family::Ipv4 => {
                let ip = (data + L3) as *mut Ipv4;
                (*ip).ttl = (*ip).ttl.wrapping_sub(1);
                (*ip).checksum = checksum::after_ttl_decrement((*ip).checksum);
            }
            Family::Ipv6 => {
                let ip = (data + L3) as *mut Ipv4;
                // The hop limit of IPv6 stands at byte 7.
                let hop_limit = ip.cast::<u8>().add(7);
                *hop_limit = (*hop_limit).wrapping_sub(1);
            }
        }
    }
    true
}

/// Turns the frame into its own answer and sends it back.
#[inline(always)]
fn reject(
    packet: &XdpPacket,
    maps: &Maps,
    headers: &Headers,
    ifindex: u32,
    kind: RejectKind,
) -> u32 {
    let Some((written, lengths)) = answer::compose(packet, maps, headers, ifindex, kind) else {
        return XDP_DROP;
    };
    let len = headers.l3 + lengths.headers + lengths.quoted;
    let delta = len as i32 - packet.len() as i32;
    // SAFETY: each length is at most that of the piece; no packet pointer is
    // held across the calls.
    unsafe {
        if bpf_xdp_adjust_tail(packet.ctx, delta) != 0 {
            return XDP_DROP;
        }
        let stored = answer::store(written, lengths, headers.l3, |offset, from, len| {
            bpf_xdp_store_bytes(packet.ctx, offset, from, len) == 0
        });
        if !stored {
            return XDP_DROP;
        }
    }
    let sends = maps
        .device(ifindex)
        .is_some_and(|found| found.flags & (device::TAKES_REDIRECT | device::GENERIC) != 0);
    if sends || !ask_to_reflect(packet) { XDP_TX } else { XDP_PASS }
}

/// Marks the frame for TC ingress to send it out again.
#[inline(always)]
fn ask_to_reflect(packet: &XdpPacket) -> bool {
    // SAFETY: room for one word is made, checked, and written.
    unsafe {
        if bpf_xdp_adjust_meta(packet.ctx, -(size_of::<u32>() as i32)) != 0 {
            return false;
        }
        let meta = core::ptr::read_volatile(&raw const (*packet.ctx).data_meta) as usize;
        if meta + size_of::<u32>() > packet.data() {
            return false;
        }
        *(meta as *mut u32) = REFLECT;
    }
    true
}
