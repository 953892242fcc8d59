//! TC: what leaves, what comes in where XDP cannot be, and what the daemon
//! sends back.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_STOLEN},
    helpers::{bpf_redirect, bpf_skb_change_tail, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use firewall_common::{
    control::{REINJECT_EGRESS_MARK, REINJECT_INGRESS_MARK, device},
    event::Hook,
    rule::RejectKind,
    tables::Tables,
    verdict::Stat,
};

use crate::{
    answer,
    packet::SkbPacket,
    punt,
    stage::{self, decision},
    tables::{Maps, is_ours},
    xdp::REFLECT,
};

#[classifier]
pub fn firewall_ingress(ctx: TcContext) -> i32 {
    ingress(ctx.skb.skb)
}

#[classifier]
pub fn firewall_egress(ctx: TcContext) -> i32 {
    egress(ctx.skb.skb)
}

#[inline(always)]
fn ingress(skb: *mut __sk_buff) -> i32 {
    let packet = SkbPacket::new(skb);
    let ifindex = packet.ifindex();
    let maps = Maps::of_tc(skb, false);
    if packet.mark() == REINJECT_INGRESS_MARK {
        packet.set_mark(0);
        maps.count(Stat::Reinjected as u32);
        return TC_ACT_OK;
    }
    if is_to_reflect(&packet) {
        packet.set_mark(REINJECT_EGRESS_MARK);
        // SAFETY: the helper only notes the interface.
        return unsafe { bpf_redirect(ifindex, 0) } as i32;
    }
    let Some(found) = maps.device(ifindex) else { return TC_ACT_OK };
    if found.flags & device::TC == 0 {
        return TC_ACT_OK;
    }
    let has_ethernet = found.flags & device::ETHERNET != 0;
    match stage::tc_filter(skb, u32::from(has_ethernet), 0) {
        decision::PASS => TC_ACT_OK,
        decision::FORWARD => {
            maps.count(Stat::ForwardStack as u32);
            TC_ACT_OK
        }
        decision::HOLD => {
            tc_hold(skb, 0);
            TC_ACT_SHOT
        }
        decision::DROP => TC_ACT_SHOT,
        reject => tc_reject(skb, reject - decision::REJECT, 0),
    }
}

#[inline(always)]
fn egress(skb: *mut __sk_buff) -> i32 {
    let packet = SkbPacket::new(skb);
    let ifindex = packet.ifindex();
    let ingress_ifindex = packet.ingress_ifindex();
    let maps = Maps::of_tc(skb, true);
    // Judged when it came in.
    if ingress_ifindex != 0 && is_ours(&maps, ingress_ifindex) {
        return TC_ACT_OK;
    }
    let found = maps.device(ifindex);
    match packet.mark() {
        REINJECT_INGRESS_MARK => return turn_back(&packet, &maps, ifindex),
        REINJECT_EGRESS_MARK => {
            packet.set_mark(0);
            return TC_ACT_OK;
        }
        _ => {}
    }
    let has_ethernet = found.is_none_or(|found| found.flags & device::ETHERNET != 0);
    match stage::tc_filter(skb, u32::from(has_ethernet), 1) {
        decision::PASS | decision::FORWARD => TC_ACT_OK,
        decision::HOLD => {
            tc_hold(skb, 1);
            // A refusal would look like a failed send to the local TCP.
            TC_ACT_STOLEN
        }
        decision::DROP => TC_ACT_SHOT,
        // The sender of a forwarded packet lies behind another interface.
        _ if ingress_ifindex != 0 => TC_ACT_SHOT,
        reject => tc_reject(skb, reject - decision::REJECT, 1),
    }
}

/// A frame that the daemon sends back to the ingress of this interface.
#[inline(always)]
fn turn_back(packet: &SkbPacket, maps: &Maps, ifindex: u32) -> i32 {
    // Only TC ingress needs the mark; the stack and the admin's rules do not.
    if maps.device(ifindex).is_some_and(|found| found.flags & device::TC == 0) {
        packet.set_mark(0);
        maps.count(Stat::Reinjected as u32);
    }
    // SAFETY: the helper only notes the interface.
    unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) as i32 }
}

/// Copies the segment for the helper.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_hold(skb: *mut __sk_buff, is_egress: u32) -> u32 {
    let packet = SkbPacket { skb };
    let maps = Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return 0 };
    scratch.punt.ifindex = packet.ifindex();
    scratch.punt.hook = if is_egress != 0 { Hook::Egress } else { Hook::Ingress } as u8;
    scratch.punt.gso_size = packet.gso_size();
    u32::from(punt::hold(&packet, &maps, scratch))
}

/// Whether XDP wrote an answer that this interface sends only from here.
#[inline(always)]
fn is_to_reflect(packet: &SkbPacket) -> bool {
    // SAFETY: the word is read after it was found to lie before the packet.
    unsafe {
        let meta = core::ptr::read_volatile(&raw const (*packet.skb).data_meta) as usize;
        meta + size_of::<u32>() <= packet.data() && *(meta as *const u32) == REFLECT
    }
}

/// Turns the packet into its own answer and sends it to where it came from:
/// back out on ingress, up again (`BPF_F_INGRESS`) on egress.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_reject(skb: *mut __sk_buff, kind: u32, is_egress: u32) -> i32 {
    let packet = SkbPacket { skb };
    let maps = Maps::of_tc(skb, is_egress != 0);
    let direction = if is_egress != 0 { u64::from(BPF_F_INGRESS) } else { 0 };
    let ifindex = packet.ifindex();
    let (Some(scratch), Some(kind)) = (maps.scratch(), RejectKind::from_byte(kind as u8)) else {
        return TC_ACT_SHOT;
    };
    let Some((written, lengths)) = answer::compose(&packet, &maps, &scratch.headers, ifindex, kind)
    else {
        return TC_ACT_SHOT;
    };
    let l3 = scratch.headers.l3;
    // SAFETY: each length is at most that of the piece; no packet pointer is
    // held across the calls.
    let is_stored = unsafe {
        bpf_skb_change_tail(packet.skb, l3 + lengths.headers + lengths.quoted, 0) == 0
            && answer::store(written, lengths, l3, |offset, from, len| {
                bpf_skb_store_bytes(packet.skb.cast(), offset, from, len, 0) == 0
            })
    };
    if !is_stored {
        return TC_ACT_SHOT;
    }
    packet.set_mark(if direction == 0 { REINJECT_EGRESS_MARK } else { REINJECT_INGRESS_MARK });
    // SAFETY: the helper only notes the interface.
    unsafe { bpf_redirect(ifindex, direction) as i32 }
}
