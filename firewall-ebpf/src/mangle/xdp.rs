//! In XDP: what stands in the packet is changed at once; the rest is left to TC ingress.

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    helpers::{bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
};
use firewall_common::{
    addr::{Addr, Family},
    checksum::{Difference, is_left_to_hardware, replaced},
    control::device,
    headers::Headers,
    mangle::{
        change,
        parcel::{Parcel, kind},
        rewrite::{self, Frame},
    },
    nat::desk::done,
    packet::Packet,
    rule::Chain,
    scratch::Scratch,
    tables::Tables,
};

use super::{left_to_stack, put_down};
use crate::{
    nat,
    packet::XdpPacket,
    proxy,
    stage::decision,
    tables::Maps,
    verifier::opaque,
    xdp::{self, note},
};

/// Delivers an accepted packet that rules have changed; gives the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_mangled(ctx: *mut xdp_md, decided: u32) -> u32 {
    let packet = &XdpPacket { ctx };
    let maps = &Maps::of_xdp(ctx);
    let Some(scratch) = maps.scratch() else { return XDP_DROP };
    if scratch.mangling.has(change::IN_PACKET) && xdp_rewrite(ctx) == 0 {
        return XDP_DROP;
    }
    let is_proxied = decided & decision::PROXIED != 0;
    // To this host: the source is the one that its socket knows.
    if scratch.walk.chain == Chain::Input as u8
        && scratch.nat.has(done::LEAVES)
        && nat::xdp::xdp_leave(ctx) == 0
    {
        return XDP_DROP;
    }
    match decided & decision::ACTION {
        decision::FORWARD => xdp::xdp_forward(ctx, decided),
        decision::HOLD => {
            scratch.punt.mark = scratch.mangling.routing_mark();
            if is_proxied { proxy::xdp::xdp_proxied(ctx, decided) } else { xdp::xdp_hold(ctx) }
        }
        _ if scratch.mangling.has(change::MARK) => {
            let kind = if is_proxied { kind::PROXIED } else { kind::INPUT };
            leave(packet, maps, Parcel::of(&scratch.mangling, kind));
            XDP_PASS
        }
        _ if is_proxied => proxy::xdp::xdp_proxied(ctx, decided),
        _ => XDP_PASS,
    }
}

/// Leaves a forwarded packet to the stack, with its parcel; `false` where the driver has no
/// room for the note.
#[inline(always)]
pub fn forward(packet: &XdpPacket, maps: &Maps, scratch: &mut Scratch, is_proxied: bool) -> bool {
    let left = left_to_stack(maps, scratch);
    if left.ttl != scratch.mangling.ttl {
        xdp_hop_limit(packet.ctx, left.ttl.into());
    }
    let kind = if is_proxied { kind::PROXIED } else { kind::FORWARDED };
    leave(packet, maps, Parcel::of(&left, kind).leaving(&scratch.nat))
}

#[inline(always)]
fn leave(packet: &XdpPacket, maps: &Maps, parcel: Parcel) -> bool {
    let Some(number) = put_down(parcel) else { return false };
    let flags = maps.device(packet.ifindex()).map_or(0, |found| found.flags);
    if flags & device::GENERIC != 0 {
        xdp::sign(packet, maps, note::PARCEL | number);
        return true;
    }
    xdp::leave_note(packet, note::PARCEL | number)
}

/// Writes what has changed in the packet on the desk; gives whether that was possible.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_rewrite(ctx: *mut xdp_md) -> u32 {
    let packet = &XdpPacket { ctx };
    let Some(scratch) = Maps::of_xdp(ctx).scratch() else { return 0 };
    let Scratch { headers, mangling, options_desk, .. } = scratch;
    u32::from(rewrite::rewrite(packet, headers, mangling, options_desk))
}

/// Writes the TTL of the packet on the desk.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_hop_limit(ctx: *mut xdp_md, ttl: u32) -> u32 {
    let packet = &XdpPacket { ctx };
    let Some(scratch) = Maps::of_xdp(ctx).scratch() else { return 0 };
    u32::from(rewrite::hop_limit(packet, &mut scratch.headers, ttl as u8))
}

impl Frame for XdpPacket {
    #[inline(always)]
    fn write(&self, at: u32, word: u16) -> bool {
        Self::write(self, at, word)
    }

    #[inline(always)]
    fn write_uncovered(&self, at: u32, word: u16) -> bool {
        self.write(at, word)
    }

    #[inline(always)]
    fn paste(&self, at: u32, len: u32, from: &[u8; 64]) -> bool {
        let len = opaque(len as usize) & 63;
        let from = from.as_ptr().cast_mut().cast();
        // SAFETY: the length is below that of the array; as above.
        len != 0 && unsafe { bpf_xdp_store_bytes(self.ctx, at, from, len as u32) == 0 }
    }

    #[inline(always)]
    fn grow(&self, len: u32) -> bool {
        let delta = len as i32 - self.len() as i32;
        // SAFETY: no pointer into the packet is held across the call.
        delta <= 0 || unsafe { bpf_xdp_adjust_tail(self.ctx, delta) == 0 }
    }

    #[inline(always)]
    fn follow(&self, headers: &Headers, at: u32, was: u16, now: u16) -> bool {
        if is_unfinished(self, headers) {
            return true;
        }
        let Some(sum) = self.read::<u16>(at) else { return false };
        self.write(at, replaced(sum, was, now))
    }

    #[inline(always)]
    fn follow_pseudo(&self, headers: &Headers, at: u32, was: u16, now: u16) -> bool {
        let Some(sum) = self.read::<u16>(at) else { return false };
        // The sum itself stands there, not yet turned over.
        match is_unfinished(self, headers) {
            true => self.write(at, !replaced(!sum, was, now)),
            false => self.write(at, replaced(sum, was, now)),
        }
    }

    #[inline(always)]
    fn write_address(&self, at: u32, address: &Addr, _is_covered: bool) -> bool {
        match address.family() {
            Family::Ipv4 => Self::write(self, at, address.words[3]),
            Family::Ipv6 => Self::write(self, at, *address),
        }
    }

    #[inline(always)]
    fn is_unfinished(&self, headers: &Headers) -> bool {
        is_unfinished(self, headers)
    }

    #[inline(always)]
    fn mend(
        &self,
        at: u32,
        _family: Family,
        pseudo: Difference,
        covered: Difference,
        may_be_none: bool,
        is_unfinished: bool,
    ) -> bool {
        let Some(sum) = self.read::<u16>(at) else { return false };
        match Difference::mended(sum, pseudo, covered, may_be_none, is_unfinished) {
            Some(now) => Self::write(self, at, now),
            None => true,
        }
    }
}

/// Whether the sender, a virtual peer, left the checksum to hardware.
#[inline(always)]
fn is_unfinished(packet: &XdpPacket, headers: &Headers) -> bool {
    let maps = Maps::of_xdp(packet.ctx);
    let flags = maps.device(packet.ifindex()).map_or(0, |found| found.flags);
    flags & device::PARTIAL_CHECKSUMS != 0 && is_left_to_hardware(packet, headers)
}
