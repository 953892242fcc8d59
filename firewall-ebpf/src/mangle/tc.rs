//! In TC: marks are the kernel's, and what is changed behind routing is changed on the way
//! out.

use core::{ffi::c_void, mem::size_of};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT,
        bpf_redir_neigh,
    },
    helpers::{bpf_l4_csum_replace, bpf_redirect_neigh, bpf_skb_change_tail, bpf_skb_store_bytes},
};
use firewall_common::{
    addr::{Addr, Family},
    checksum::Difference,
    event::Hook,
    fragment::Visit,
    headers::{Headers, Parsed},
    mangle::{
        change,
        parcel::{Parcel, kind},
        rewrite::{self, Frame},
    },
    nat::desk::done,
    packet::Packet,
    rule::Chain,
    scratch::Scratch,
    tables::{Place, Tables as _},
};

use super::{NUMBER, left_to_stack, put_down};
use crate::{
    maps::{DELIVERY, PARCELS},
    nat,
    packet::SkbPacket,
    proxy, stage,
    tables::{Maps, Program},
    tc::{FORWARDED, NEXT},
    verifier::opaque,
};

/// The `skb->tc_index` of a packet with a parcel: this and the number.
const PARCEL: u32 = 0x8000;
/// The `skb->tc_index` of a packet of this host that leaves by another interface than the one
/// that it was judged at.
pub const REROUTED: u32 = 0xf7b2;

/// The number of the parcel that a packet bears in `skb->tc_index`.
#[inline(always)]
pub const fn parcel_of(tc_index: u32) -> Option<u32> {
    if tc_index & !NUMBER == PARCEL { Some(tc_index & NUMBER) } else { None }
}

/// An accepted packet that came in and that rules have changed: 0 when it cannot be.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_mangled_ingress(skb: *mut __sk_buff, is_forwarded: u32) -> u32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, false);
    let Some(scratch) = maps.scratch() else { return 0 };
    if scratch.mangling.has(change::IN_PACKET) && tc_rewrite(skb, 0) == 0 {
        return 0;
    }
    scratch.punt.mark = scratch.mangling.routing_mark();
    let mut left = scratch.mangling;
    if is_forwarded != 0 {
        left = left_to_stack(maps, scratch);
        if left.ttl != scratch.mangling.ttl && !tc_set_hops(packet, scratch, left.ttl) {
            return 0;
        }
    }
    if left.has(change::MARK) {
        packet.set_mark(left.mark);
    }
    if is_forwarded == 0 && scratch.nat.has(done::LEAVES) {
        // To this host: the source is the one that its socket knows. One that is held on its
        // way through is recognized when it comes back.
        let is_input = scratch.walk.chain == Chain::Input as u8;
        return if is_input { nat::tc::tc_leave(skb, 0) } else { 1 };
    }
    packet.set_tc_index(index_of(Parcel::of(&left, kind::FORWARDED).leaving(&scratch.nat)));
    1
}

/// The `skb->tc_index` of a forwarded packet.
#[inline(always)]
fn index_of(parcel: Parcel) -> u32 {
    if !parcel.goes_on() {
        return FORWARDED;
    }
    match put_down(parcel) {
        Some(number) => PARCEL | number,
        None => FORWARDED,
    }
}

/// A judged frame that enters once more: one that the daemon sends back, with the mark that
/// rules have set, since its own tells whose it is, or one that is said for a client.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_carry(skb: *mut __sk_buff, has_ethernet: u32, mark: u32) -> u32 {
    let packet = &SkbPacket { skb };
    let changes = if mark == 0 { 0 } else { change::MARK };
    let mut parcel = Parcel { mark, changes, kind: kind::FORWARDED, ..Parcel::default() };
    if nat::tc::tc_recognize(skb, has_ethernet) != 0
        && let Some(scratch) = Maps::of_tc(skb, true).scratch()
    {
        parcel = parcel.leaving(&scratch.nat);
    }
    if mark == 0 && parcel.leaves == 0 {
        packet.set_tc_index(FORWARDED);
        return 1;
    }
    let Some(number) = put_down(parcel) else { return 0 };
    packet.set_tc_index(PARCEL | number);
    1
}

/// A packet that XDP has judged, and left with its parcel; gives the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_receive(skb: *mut __sk_buff, number: u32, has_ethernet: u32) -> i32 {
    let packet = &SkbPacket { skb };
    let Some(parcel) = PARCELS.get(number & NUMBER).copied() else { return TC_ACT_SHOT };
    if parcel.kind == kind::PROXIED && proxy::tc::deliver(skb, 0, has_ethernet) != NEXT {
        return TC_ACT_SHOT;
    }
    packet.set_mark(if parcel.has(change::MARK) { parcel.mark } else { 0 });
    if parcel.kind != kind::INPUT {
        let goes_on = parcel.goes_on();
        packet.set_tc_index(if goes_on { PARCEL | number & NUMBER } else { FORWARDED });
    }
    NEXT
}

/// A forwarded packet that leaves, with its parcel; gives the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_send_off(skb: *mut __sk_buff, number: u32, has_ethernet: u32) -> i32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, true);
    let Some(scratch) = maps.scratch() else { return TC_ACT_SHOT };
    let Some(parcel) = PARCELS.get(number & NUMBER).copied() else { return TC_ACT_SHOT };
    packet.set_tc_index(0);
    if parcel.has(change::MARK_OUT) {
        packet.set_mark(parcel.mark_out);
    }
    if !parcel.has(change::TTL_OUT) && parcel.leaves == 0 {
        return NEXT;
    }
    let parsed = Parsed::unpack(stage::tc_headers(skb, &mut scratch.headers, has_ethernet));
    let is_written = matches!(parsed, Ok(Parsed::Ip))
        && (!parcel.has(change::TTL_OUT) || tc_set_hops(packet, scratch, parcel.ttl_out))
        && (parcel.leaves == 0 || nat::tc::put_right(packet, scratch, &parcel));
    if is_written { NEXT } else { TC_ACT_SHOT }
}

/// An accepted packet that leaves and that rules have changed, but for its source; gives the
/// action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_mangled_egress(skb: *mut __sk_buff) -> i32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, true);
    let Some(scratch) = maps.scratch() else { return TC_ACT_SHOT };
    if scratch.mangling.has(change::IN_PACKET) && tc_rewrite(skb, 1) == 0 {
        return TC_ACT_SHOT;
    }
    scratch.punt.mark = scratch.mangling.routing_mark();
    if scratch.mangling.has(change::MARK) {
        packet.set_mark(scratch.mangling.mark);
    }
    NEXT
}

/// Sends a packet of this host out by the interface that its mark has led to; gives the
/// action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_redirect(skb: *mut __sk_buff) -> i32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, true);
    let Some(scratch) = maps.scratch() else { return TC_ACT_SHOT };
    let Some(delivery) = DELIVERY.get(Program::TcEgress as u32) else { return TC_ACT_SHOT };
    let mut hop = NextHop::of(&scratch.headers, delivery.fib.dst);
    packet.set_tc_index(REROUTED);
    let out = scratch.walk.out_ifindex;
    if delivery.is_untold() || delivery.fib.ifindex != out {
        // The helper looks for the hop by itself: there is none, or one of another interface.
        // SAFETY: it reads nothing.
        return unsafe { bpf_redirect_neigh(out, core::ptr::null_mut(), 0, 0) as i32 };
    }
    let len = size_of::<NextHop>() as i32;
    // SAFETY: the helper reads what is as large as it is told.
    unsafe { bpf_redirect_neigh(out, (&raw mut hop).cast::<bpf_redir_neigh>(), len, 0) as i32 }
}

/// A frame that the daemon has held sets out once more, to where its destination and the mark
/// that rules have set lead; gives the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_lead(skb: *mut __sk_buff, has_ethernet: u32) -> i32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, true);
    let Some(scratch) = maps.scratch() else { return TC_ACT_SHOT };
    let mark = packet.priority();
    packet.set_mark(mark);
    packet.set_priority(0);
    let parsed = Parsed::unpack(stage::tc_headers(skb, &mut scratch.headers, has_ethernet));
    if !matches!(parsed, Ok(Parsed::Ip)) {
        return TC_ACT_SHOT;
    }
    let (hook, ifindex) = (Hook::Egress, packet.ifindex());
    let place = Place { hook, ifindex, has_ethernet: has_ethernet != 0, visit: Visit::New };
    let route = maps.reroute(place, &scratch.headers, mark);
    // Where there is no way any more its sender repeats it, and is told so.
    if !maps.has_next_hop() {
        return TC_ACT_SHOT;
    }
    scratch.walk.out_ifindex = route.out_ifindex;
    tc_redirect(skb)
}

/// `struct bpf_redir_neigh`, with a plain field in the place of its union.
#[repr(C)]
struct NextHop {
    family: u32,
    address: [u32; 4],
}

impl NextHop {
    #[inline(always)]
    fn of(headers: &Headers, address: [u32; 4]) -> Self {
        const AF_INET: u32 = 2;
        const AF_INET6: u32 = 10;
        let family = match headers.family() {
            Family::Ipv4 => AF_INET,
            Family::Ipv6 => AF_INET6,
        };
        Self { family, address }
    }
}

/// Writes what has changed in the packet on the desk; gives whether that was possible.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_rewrite(skb: *mut __sk_buff, is_egress: u32) -> u32 {
    let packet = &SkbPacket { skb };
    let Some(scratch) = Maps::of_tc(skb, is_egress != 0).scratch() else { return 0 };
    let Scratch { headers, mangling, options_desk, .. } = scratch;
    u32::from(rewrite::rewrite(packet, headers, mangling, options_desk))
}

#[inline(always)]
fn tc_set_hops(packet: &SkbPacket, scratch: &mut Scratch, ttl: u8) -> bool {
    rewrite::hop_limit(packet, &mut scratch.headers, ttl)
}

impl Frame for SkbPacket {
    #[inline(always)]
    fn write(&self, at: u32, word: u16) -> bool {
        let mut word = word;
        store(self, at, (&raw mut word).cast(), 2, 0)
    }

    #[inline(always)]
    fn write_uncovered(&self, at: u32, word: u16) -> bool {
        let mut word = word;
        store(self, at, (&raw mut word).cast(), 2, u64::from(BPF_F_RECOMPUTE_CSUM))
    }

    #[inline(always)]
    fn paste(&self, at: u32, len: u32, from: &[u8; 64]) -> bool {
        let len = opaque(len as usize) & 63;
        len != 0 && store(self, at, from.as_ptr().cast_mut().cast(), len as u32, 0)
    }

    #[inline(always)]
    fn grow(&self, len: u32) -> bool {
        // SAFETY: no pointer into the packet is held across the call.
        len <= self.len() || unsafe { bpf_skb_change_tail(self.skb, len, 0) == 0 }
    }

    #[inline(always)]
    fn follow(&self, _headers: &Headers, at: u32, was: u16, now: u16) -> bool {
        replace(self, at, was, now, 0)
    }

    #[inline(always)]
    fn follow_pseudo(&self, _headers: &Headers, at: u32, was: u16, now: u16) -> bool {
        replace(self, at, was, now, u64::from(BPF_F_PSEUDO_HDR))
    }

    #[inline(always)]
    fn write_address(&self, at: u32, address: &Addr, is_covered: bool) -> bool {
        let flags = if is_covered { 0 } else { u64::from(BPF_F_RECOMPUTE_CSUM) };
        match address.family() {
            Family::Ipv4 => {
                let mut word = address.words[3];
                store(self, at, (&raw mut word).cast(), 4, flags)
            }
            Family::Ipv6 => {
                let from = core::ptr::from_ref(address).cast_mut().cast();
                store(self, at, from, size_of::<Addr>() as u32, flags)
            }
        }
    }

    /// The kernel knows it.
    #[inline(always)]
    fn is_unfinished(&self, _headers: &Headers) -> bool {
        false
    }

    #[inline(always)]
    fn mend(
        &self,
        at: u32,
        family: Family,
        pseudo: Difference,
        covered: Difference,
        may_be_none: bool,
        _is_unfinished: bool,
    ) -> bool {
        let zero = if may_be_none { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        // Of IPv6 the kernel asks to be told, from 6.16 on: no other checksum makes up for
        // the addresses.
        let flags = zero | u64::from(BPF_F_PSEUDO_HDR);
        let is_mended = match family {
            Family::Ipv4 => differ(self, at, pseudo, flags),
            Family::Ipv6 => {
                differ(self, at, pseudo, flags | IPV6) || differ(self, at, pseudo, flags)
            }
        };
        is_mended && differ(self, at, covered, zero)
    }
}

/// `BPF_F_IPV6`.
const IPV6: u64 = 1 << 7;

/// Has the transport's checksum follow a difference.
#[inline(always)]
fn differ(packet: &SkbPacket, at: u32, difference: Difference, flags: u64) -> bool {
    // SAFETY: as above.
    unsafe { bpf_l4_csum_replace(packet.skb, at, 0, difference.folded().into(), flags) == 0 }
}

#[inline(always)]
fn store(packet: &SkbPacket, at: u32, from: *mut c_void, len: u32, flags: u64) -> bool {
    // SAFETY: by the callers, `from` has as many bytes; no packet pointer is held.
    unsafe { bpf_skb_store_bytes(packet.skb.cast(), at, from, len, flags) == 0 }
}

/// Has the transport's checksum follow: the kernel knows whether it is finished.
#[inline(always)]
fn replace(packet: &SkbPacket, at: u32, was: u16, now: u16, flags: u64) -> bool {
    const WORD: u64 = 2;
    // SAFETY: as above.
    unsafe { bpf_l4_csum_replace(packet.skb, at, was.into(), now.into(), flags | WORD) == 0 }
}
