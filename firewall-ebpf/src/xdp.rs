//! XDP: what comes in on an Ethernet interface.

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    helpers::{
        bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail,
        bpf_xdp_store_bytes,
    },
    macros::xdp,
    programs::XdpContext,
};
use firewall_common::{
    addr::Family,
    checksum,
    control::device,
    event::Hook,
    headers::{Fragment, Headers},
    mangle::change,
    nat::desk::done,
    packet::Packet,
    path,
    reject::Lengths,
    rule::RejectKind,
    tables::Tables,
    verdict::Stat,
    wire::{Ethernet, Ipv4, Ipv6},
};

use crate::{
    answer,
    mangle::{self, NUMBER},
    maps::DELIVERY,
    nat,
    packet::XdpPacket,
    proxy, punt,
    route::Fib,
    shortcut,
    stage::{self, decision},
    tables::{Maps, Program},
};

/// What XDP tells TC ingress about a frame, in the metadata before it.
pub mod note {
    /// An answer: send it back out.
    pub const REFLECT: u32 = 0x7265_666c;
    /// Judged by FORWARD, and left to the stack.
    pub const FORWARDED: u32 = 0x666f_7277;
    /// Judged, and a packet of a proxied flow: its numbers are not translated yet.
    pub const PROXIED: u32 = 0x7072_6f78;
    /// Judged, with a parcel of this number more: [`crate::mangle`].
    pub const PARCEL: u32 = 0x7061_0000;
}

#[xdp(frags)]
pub fn firewall_xdp(ctx: XdpContext) -> u32 {
    let ctx = ctx.ctx;
    let packet = XdpPacket { ctx };
    let mut action = shortcut::xdp_shortcut(ctx);
    if action == shortcut::DECLINED && shortcut::is_ipv6(&packet) {
        action = shortcut::xdp_shortcut6(ctx);
    }
    if action != shortcut::DECLINED {
        return action;
    }
    let maps = Maps::of_xdp(ctx);
    if is_ours_coming_back(&packet, &maps) {
        maps.count(Stat::Reinjected as u32);
        return XDP_PASS;
    }
    let mut decided = stage::xdp_filter(ctx);
    if decided == decision::AGAIN {
        decided = stage::xdp_filter(ctx);
    }
    if decided == decision::PROVE {
        if proxy::xdp::xdp_prove(ctx) == 0 {
            return XDP_DROP;
        }
        decided = stage::xdp_filter(ctx);
        proxy::forget_proof(&maps);
    }
    if decided & decision::MANGLED != 0 {
        return mangle::xdp::xdp_mangled(ctx, decided);
    }
    if decided & decision::PROXIED != 0 {
        return proxy::xdp::xdp_proxied(ctx, decided);
    }
    match decided {
        // TC ingress looks whether the stack ignores what is for another station.
        decision::PASS | decision::OTHER_STATION => XDP_PASS,
        decision::FORWARD => xdp_forward(ctx, decided),
        decision::HOLD => xdp_hold(ctx),
        decision::COOKIE => proxy::xdp::xdp_cookie(ctx),
        decision::WAIT => xdp_wait(ctx),
        decision::DROP | decision::PROVE | decision::AGAIN => XDP_DROP,
        reject => xdp_reject(ctx, reject - decision::REJECT),
    }
}

/// Copies the segment for the helper, and lets go of it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_hold(ctx: *mut xdp_md) -> u32 {
    let packet = XdpPacket { ctx };
    let maps = Maps::of_xdp(ctx);
    let Some(scratch) = maps.scratch() else { return XDP_DROP };
    scratch.punt.ifindex = packet.ifindex();
    scratch.punt.hook = Hook::Ingress as u8;
    punt::hold(&packet, &maps, scratch);
    XDP_DROP
}

/// Copies the fragment to where it waits for its first, and lets go of it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_wait(ctx: *mut xdp_md) -> u32 {
    let packet = XdpPacket { ctx };
    let maps = Maps::of_xdp(ctx);
    let Some(scratch) = maps.scratch() else { return XDP_DROP };
    scratch.early.ifindex = packet.ifindex();
    scratch.early.hook = Hook::Ingress as u8;
    punt::keep(&packet, &maps, scratch);
    XDP_DROP
}

/// In generic mode a frame that the daemon sends back passes here again: its
/// source address is the token that the daemon wrote.
#[inline(always)]
fn is_ours_coming_back(packet: &XdpPacket, maps: &Maps) -> bool {
    let Some(found) = maps.device(packet.ifindex()) else { return false };
    if found.flags & device::GENERIC == 0 {
        return false;
    }
    packet.read::<Ethernet>(0).is_some_and(|ethernet| ethernet.src == maps.options().token)
}

/// Sends a forwarded packet straight out, or by way of the stack where only the
/// stack can do it; `decided` tells whether its numbers are to be translated.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_forward(ctx: *mut xdp_md, decided: u32) -> u32 {
    let packet = &XdpPacket { ctx };
    let maps = &Maps::of_xdp(ctx);
    let ifindex = packet.ifindex();
    let Some(scratch) = maps.scratch() else { return XDP_DROP };
    let headers = &scratch.headers;
    let Some(delivery) = DELIVERY.get(Program::Xdp as u32) else { return XDP_PASS };
    let fib = &delivery.fib;
    let from = maps.device(ifindex).map_or(0, |found| found.flags);
    let is_proxied = decided & decision::PROXIED != 0;
    let may_redirect = delivery.is_direct()
        && decided & decision::ANNOUNCE == 0
        && !scratch.mangling.has(change::MARK | change::MARK_OUT)
        && path::may_bypass_stack(headers, &scratch.walk)
        && takes_redirect(maps, from, fib.ifindex)
        && !has_partial_checksum(packet, from, headers);
    if may_redirect && is_proxied && proxy::xdp::xdp_translate(ctx) == 0 {
        return XDP_DROP;
    }
    let leaves = scratch.nat.has(done::LEAVES);
    if may_redirect && leaves && nat::xdp::xdp_leave(ctx) == 0 {
        return XDP_DROP;
    }
    if may_redirect && rewrite(packet, headers, fib) {
        if scratch.mangling.has(change::TTL_OUT) {
            mangle::xdp::xdp_hop_limit(ctx, scratch.mangling.ttl_out.into());
        }
        maps.count(Stat::ForwardFast as u32);
        // SAFETY: the helper only notes the interface.
        return unsafe { bpf_redirect(fib.ifindex, 0) } as u32;
    }
    maps.count(Stat::ForwardStack as u32);
    // Without a note it is judged again on egress, and no worse.
    if scratch.mangling.has(change::ON_ITS_WAY) || leaves {
        mangle::xdp::forward(packet, maps, scratch, is_proxied);
        return XDP_PASS;
    }
    if is_proxied {
        proxy::xdp::hand_over(packet, maps);
        return XDP_PASS;
    }
    if from & device::GENERIC != 0 {
        sign(packet, maps, note::FORWARDED);
    } else {
        leave_note(packet, note::FORWARDED);
    }
    XDP_PASS
}

/// Whether a redirected frame leaves by an interface. In generic mode any does;
/// a native redirect to a driver that cannot send it is dropped without a word.
#[inline(always)]
fn takes_redirect(maps: &Maps, from: u32, out_ifindex: u32) -> bool {
    from & device::GENERIC != 0
        || maps.device(out_ifindex).is_some_and(|out| out.flags & device::TAKES_REDIRECT != 0)
}

/// Whether the sender, a virtual peer, left the checksum to hardware.
#[inline(always)]
fn has_partial_checksum(packet: &XdpPacket, from: u32, headers: &Headers) -> bool {
    from & device::PARTIAL_CHECKSUMS != 0
        && headers.fragment == Fragment::Whole as u8
        && checksum::is_left_to_hardware(packet, headers)
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
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_reject(ctx: *mut xdp_md, kind: u32) -> u32 {
    let packet = &XdpPacket { ctx };
    let maps = &Maps::of_xdp(ctx);
    let ifindex = packet.ifindex();
    let (Some(scratch), Some(kind)) = (maps.scratch(), RejectKind::from_byte(kind as u8)) else {
        return XDP_DROP;
    };
    // Its sender hears from whom it has spoken to.
    if nat::xdp::xdp_undo(ctx) == 0 {
        return XDP_DROP;
    }
    let headers = &scratch.headers;
    let Some((written, lengths)) = answer::compose(packet, maps, scratch, ifindex, kind) else {
        return XDP_DROP;
    };
    let headers_only = Lengths { quoted: 0, ..lengths };
    let is_written = make_room(packet, headers.l3, lengths)
        && answer::store(written, headers_only, headers.l3, |offset, from, len| {
            // SAFETY: the length is at most that of the piece, and no pointer into
            // the packet is held.
            unsafe { bpf_xdp_store_bytes(packet.ctx, offset, from, len) == 0 }
        });
    if !is_written || answer::xdp_may_leave(ctx) == 0 {
        return XDP_DROP;
    }
    send_back(packet, maps)
}

/// Sends a frame back to where it came from; gives the action.
#[inline(always)]
pub fn send_back(packet: &XdpPacket, maps: &Maps) -> u32 {
    let ifindex = packet.ifindex();
    let flags = maps.device(ifindex).map_or(0, |found| found.flags);
    if flags & device::GENERIC != 0 {
        return XDP_TX;
    }
    // Not XDP_TX: a virtual device sends that only to a peer with a program.
    if flags & device::TAKES_REDIRECT != 0 || !leave_note(packet, note::REFLECT) {
        // SAFETY: the helper only notes the interface.
        return unsafe { bpf_redirect(ifindex, 0) } as u32;
    }
    XDP_PASS
}

/// Brings the frame to the length of the answer. What it quotes stays where it
/// is: the frame grows in front, where there is always room, and not behind.
#[inline(always)]
fn make_room(packet: &XdpPacket, l3: u32, lengths: Lengths) -> bool {
    // SAFETY: no pointer into the packet is held across the calls.
    unsafe {
        if lengths.quoted != 0 && bpf_xdp_adjust_head(packet.ctx, -(lengths.headers as i32)) != 0 {
            return false;
        }
        let len = l3 + lengths.headers + lengths.quoted;
        let delta = len as i32 - packet.len() as i32;
        delta == 0 || (delta < 0 && bpf_xdp_adjust_tail(packet.ctx, delta) == 0)
    }
}

/// Tells TC ingress what there is to know of the frame, by its source address:
/// metadata does not outlive generic XDP, and nobody needs the address any more.
#[inline(always)]
pub fn sign(packet: &XdpPacket, maps: &Maps, note: u32) {
    let data = packet.data();
    if data + size_of::<Ethernet>() <= packet.data_end() {
        // SAFETY: the header was just found to lie within the packet.
        unsafe { (*(data as *mut Ethernet)).src = token(maps, note) };
    }
}

/// The source address that stands for a note: our token, or its neighbour.
#[inline(always)]
pub fn token(maps: &Maps, note: u32) -> [u8; 6] {
    let mut token = maps.options().token;
    let number = note & NUMBER;
    match note & !NUMBER {
        note::PARCEL => {
            token[4] ^= IS_PARCEL | (number >> 8) as u8;
            token[5] ^= number as u8;
        }
        _ => token[5] ^= u8::from(note == note::PROXIED),
    }
    token
}

/// What tells the words for parcels from those for other notes.
const IS_PARCEL: u8 = 1 << 7;

/// The parcel's number in a source address that stands for one.
#[inline(always)]
pub fn parcel_in(maps: &Maps, address: [u8; 6]) -> Option<u32> {
    let token = maps.options().token;
    let (high, low) = (token[4] ^ address[4], token[5] ^ address[5]);
    let number = u32::from(high & !IS_PARCEL) << 8 | u32::from(low);
    let is_parcel = high & IS_PARCEL != 0
        && number <= NUMBER
        && [address[0], address[1], address[2], address[3]]
            == [token[0], token[1], token[2], token[3]];
    if is_parcel { Some(number) } else { None }
}

/// Tells TC ingress what there is to know of the frame; `false` where the driver
/// has no room for it.
#[inline(always)]
pub fn leave_note(packet: &XdpPacket, note: u32) -> bool {
    // SAFETY: room for one word is made, checked, and written.
    unsafe {
        if bpf_xdp_adjust_meta(packet.ctx, -(size_of::<u32>() as i32)) != 0 {
            return false;
        }
        let meta = core::ptr::read_volatile(&raw const (*packet.ctx).data_meta) as usize;
        if meta + size_of::<u32>() > packet.data() {
            return false;
        }
        *(meta as *mut u32) = note;
    }
    true
}
