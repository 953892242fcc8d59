//! In XDP a frame becomes one frame: a SYN its cookie, a client's ACK the SYN to the
//! server, a redirected segment its translation. Everything else is handed over to TC
//! ingress, which can make two packets of one and knows what hardware will finish.

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    helpers::{bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
};
use firewall_common::{
    control::device,
    packet::Packet,
    reject::{Answer, Lengths, is_answerable},
    rule::RejectKind,
    synproxy::{self, translate},
    tables::Tables,
    wire::Ethernet,
};

use super::{compose, turned};
use crate::{
    answer, nat,
    packet::{XdpPacket, header_len},
    stage::{self, decision},
    tables::{Maps, now},
    xdp,
};

/// Answers a SYN with its cookie; gives the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_cookie(ctx: *mut xdp_md) -> u32 {
    let packet = &XdpPacket { ctx };
    let maps = &Maps::of_xdp(ctx);
    let Some(scratch) = maps.scratch() else { return XDP_DROP };
    if nat::xdp::xdp_undo(ctx) == 0 {
        return XDP_DROP;
    }
    if !is_answerable(&scratch.headers, RejectKind::TcpReset)
        || !stage::read_header(maps, scratch)
        || !synproxy::answer(maps, scratch, now())
    {
        return XDP_DROP;
    }
    let Some(was) = packet.read::<Ethernet>(0) else { return XDP_DROP };
    let l3 = scratch.headers.l3;
    let Some((written, len)) = compose(maps, &scratch.proxy.segment, turned(was), false) else {
        return XDP_DROP;
    };
    match write_over(packet, written, l3, len) {
        true => xdp::send_back(packet, maps),
        false => XDP_DROP,
    }
}

/// Makes an ACK with a right cookie the SYN that it proves; gives whether it is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_prove(ctx: *mut xdp_md) -> u32 {
    let packet = &XdpPacket { ctx };
    let maps = &Maps::of_xdp(ctx);
    let Some(scratch) = maps.scratch() else { return 0 };
    if !stage::read_header(maps, scratch) {
        return 0;
    }
    let is_unfinished = has_unfinished_checksums(packet, maps)
        && scratch.proxy.header.is_unfinished(&scratch.headers);
    synproxy::prove(scratch);
    let Some(ethernet) = packet.read::<Ethernet>(0) else { return 0 };
    let l3 = scratch.headers.l3;
    let segment = &scratch.proxy.segment;
    match compose(maps, segment, ethernet, is_unfinished) {
        Some((written, len)) => u32::from(write_over(packet, written, l3, len)),
        None => 0,
    }
}

/// Delivers an accepted packet of a proxied flow; gives the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_proxied(ctx: *mut xdp_md, decided: u32) -> u32 {
    let packet = &XdpPacket { ctx };
    let maps = &Maps::of_xdp(ctx);
    match decided & decision::ACTION {
        decision::FORWARD => xdp::xdp_forward(ctx, decided),
        // The copy for the helper is of what goes on.
        decision::HOLD => match xdp_translate(ctx) {
            0 => XDP_DROP,
            _ => xdp::xdp_hold(ctx),
        },
        _ if hand_over(packet, maps) => XDP_PASS,
        // A driver that has no room for the note is no virtual one.
        _ => match xdp_translate(ctx) {
            0 => XDP_DROP,
            _ => XDP_PASS,
        },
    }
}

/// Rewrites the frame's numbers in place; gives whether that was possible.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_translate(ctx: *mut xdp_md) -> u32 {
    let packet = &XdpPacket { ctx };
    let maps = &Maps::of_xdp(ctx);
    let Some(scratch) = maps.scratch() else { return 0 };
    if !stage::read_header(maps, scratch) {
        return 0;
    }
    let is_unfinished = has_unfinished_checksums(packet, maps)
        && scratch.proxy.header.is_unfinished(&scratch.headers);
    let header = &mut scratch.proxy.header;
    let difference = translate::translate(header, &scratch.proxy.translation);
    if !is_unfinished {
        header.set_checksum(translate::after(header.checksum(), difference));
    }
    let len = header_len(header.len);
    let at = scratch.headers.l4;
    // SAFETY: `header_len` gives at most the size of the words.
    let is_written = len != 0
        && unsafe {
            bpf_xdp_store_bytes(ctx, at, header.words.as_mut_ptr().cast(), len as u32) == 0
        };
    u32::from(is_written)
}

/// Leaves the translation to TC ingress; `false` where it cannot be told.
#[inline(always)]
pub fn hand_over(packet: &XdpPacket, maps: &Maps) -> bool {
    if flags(packet, maps) & device::GENERIC != 0 {
        xdp::sign(packet, maps, xdp::note::PROXIED);
        return true;
    }
    xdp::leave_note(packet, xdp::note::PROXIED)
}

#[inline(always)]
fn has_unfinished_checksums(packet: &XdpPacket, maps: &Maps) -> bool {
    flags(packet, maps) & device::PARTIAL_CHECKSUMS != 0
}

#[inline(always)]
fn flags(packet: &XdpPacket, maps: &Maps) -> u32 {
    maps.device(packet.ifindex()).map_or(0, |found| found.flags)
}

/// Puts headers of `len` bytes in the place of all that stands behind `l3`.
#[inline(always)]
fn write_over(packet: &XdpPacket, written: &mut Answer, l3: u32, len: u32) -> bool {
    let delta = (l3 + len) as i32 - packet.len() as i32;
    let lengths = Lengths { headers: len, quoted: 0 };
    // SAFETY: no pointer into the packet is held across the calls, and each length
    // is at most that of its piece.
    unsafe {
        (delta == 0 || bpf_xdp_adjust_tail(packet.ctx, delta) == 0)
            && answer::store(written, lengths, l3, |offset, from, len| {
                bpf_xdp_store_bytes(packet.ctx, offset, from, len) == 0
            })
    }
}
