//! In TC a server's SYN/ACK becomes two packets: one goes on to the client, its copy
//! turns round as if the client had sent it. It enters by the interface of the client
//! once more and takes the host's own way to the server, be that another host or this.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT},
    helpers::{
        bpf_clone_redirect, bpf_l4_csum_replace, bpf_skb_change_head, bpf_skb_change_tail,
        bpf_skb_store_bytes,
    },
};
use bytemuck::Zeroable;
use firewall_common::{
    conntrack,
    control::{REINJECT_INGRESS_MARK, device},
    flow::{Direction, State, status},
    headers::Parsed,
    packet::Packet,
    reject::{Answer, Lengths, is_answerable},
    rule::RejectKind,
    scratch::Scratch,
    synproxy::{
        self,
        translate::{self, Translation},
    },
    tables::Tables,
    wire::{
        Ethernet, Tcp, ether_type,
        tcp_flag::{ACK, SYN},
    },
};

use super::{compose, turned};
use crate::{
    answer,
    mangle::tc::tc_carry,
    nat,
    packet::{SkbPacket, header_len},
    stage,
    tables::{Maps, now},
    tc::{self, NEXT},
};

/// Answers a SYN with its cookie; gives the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_cookie(skb: *mut __sk_buff, is_egress: u32) -> i32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return TC_ACT_SHOT };
    if nat::tc::tc_undo(skb, is_egress) == 0 {
        return TC_ACT_SHOT;
    }
    if !is_answerable(&scratch.headers, RejectKind::TcpReset)
        || !stage::read_header(maps, scratch)
        || !synproxy::answer(maps, scratch, now())
    {
        return TC_ACT_SHOT;
    }
    let is_unfinished = scratch.proxy.header.is_unfinished(&scratch.headers);
    let l3 = scratch.headers.l3;
    let ethernet = turned(link(packet, l3));
    let segment = &scratch.proxy.segment;
    let Some((written, len)) = compose(maps, segment, ethernet, is_unfinished) else {
        return TC_ACT_SHOT;
    };
    if !resize(packet, l3 + len) || !store(packet, written, l3, len) {
        return TC_ACT_SHOT;
    }
    tc::send_back(packet, is_egress != 0)
}

/// Makes an ACK with a right cookie the SYN that it proves; gives whether it is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_prove(skb: *mut __sk_buff, is_egress: u32) -> u32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return 0 };
    if !stage::read_header(maps, scratch) {
        return 0;
    }
    let is_unfinished = scratch.proxy.header.is_unfinished(&scratch.headers);
    synproxy::prove(scratch);
    let l3 = scratch.headers.l3;
    let segment = &scratch.proxy.segment;
    match compose(maps, segment, link(packet, l3), is_unfinished) {
        Some((written, len)) => {
            u32::from(resize(packet, l3 + len) && store(packet, written, l3, len))
        }
        None => 0,
    }
}

/// Gives an accepted packet of a proxied flow the numbers of the other side; gives the
/// action. XDP hands packets over with no more than that they are such.
#[inline(always)]
pub fn deliver(skb: *mut __sk_buff, is_egress: u32, has_ethernet: u32) -> i32 {
    match tc_translate(skb, is_egress, has_ethernet) {
        ANNOUNCED => {
            tc_acknowledge(skb, is_egress);
            tc_announce(skb, is_egress)
        }
        action => action,
    }
}

/// What [`tc_translate`] gives for a SYN/ACK, which it leaves as it is.
const ANNOUNCED: i32 = 1_000;

/// Rewrites the packet's numbers in place; gives the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_translate(skb: *mut __sk_buff, is_egress: u32, has_ethernet: u32) -> i32 {
    let maps = &Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return TC_ACT_SHOT };
    let parsed = Parsed::unpack(stage::tc_headers(skb, &mut scratch.headers, has_ethernet));
    if !matches!(parsed, Ok(Parsed::Ip)) || !stage::read_header(maps, scratch) {
        return TC_ACT_SHOT;
    }
    let sender = maps.key_of(&scratch.headers.tuple, &mut scratch.key);
    let Some((_, flow)) = conntrack::find(maps, &scratch.key, now()) else { return TC_ACT_SHOT };
    if !flow.has(status::PROXIED) || flow.state == State::SynSent as u8 {
        return TC_ACT_SHOT;
    }
    let direction = flow.direction(sender);
    scratch.flow = *flow;
    let is_announced = matches!(direction, Direction::Reply)
        && scratch.headers.tcp_flags & (SYN | ACK) == SYN | ACK;
    if is_announced {
        return ANNOUNCED;
    }
    let header = &mut scratch.proxy.header;
    let difference = translate::translate(header, &Translation::of(&scratch.flow, direction));
    let at = scratch.headers.l4;
    let field = at + core::mem::offset_of!(Tcp, checksum) as u32;
    let len = header_len(header.len);
    // SAFETY: `header_len` gives at most the size of the words; no packet pointer is
    // held across the calls.
    let is_written = len != 0
        && unsafe {
            bpf_skb_store_bytes(skb.cast(), at, header.words.as_mut_ptr().cast(), len as u32, 0)
                == 0
                // The kernel knows whether the checksum is finished.
                && bpf_l4_csum_replace(skb, field, 0, u64::from(difference), 0) == 0
        };
    if is_written { NEXT } else { TC_ACT_SHOT }
}

/// Sends the client's acknowledgement to the server; headers and flow are on the desk.
/// What fails the server makes good: it says SYN/ACK again.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_acknowledge(skb: *mut __sk_buff, is_egress: u32) -> u32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return 0 };
    let Scratch { proxy, headers, flow, .. } = scratch;
    proxy.link = link(packet, headers.l3);
    let out = match is_egress {
        0 => stage::route(maps, headers, packet.ifindex()).1,
        _ => packet.ifindex(),
    };
    let Some(found) = maps.device(out) else { return 0 };
    let is_unfinished = proxy.header.is_unfinished(headers);
    proxy.segment = synproxy::acknowledgement(headers, &proxy.header, flow);
    let kind = if headers.version == 4 { ether_type::IPV4 } else { ether_type::IPV6 };
    // Generic XDP lets what bears our token pass.
    let ethernet = Ethernet { dst: found.mac, src: maps.options().token, ether_type: kind.to_be() };
    if found.flags & device::ETHERNET != 0 && headers.l3 == 0 {
        const LEN: u32 = size_of::<Ethernet>() as u32;
        // SAFETY: no packet pointer is held across the call.
        if unsafe { bpf_skb_change_head(skb, LEN, 0) } != 0 {
            return 0;
        }
        headers.l3 += LEN;
        headers.l4 += LEN;
        headers.payload += LEN;
    }
    let l3 = headers.l3;
    let Some((written, len)) = compose(maps, &proxy.segment, ethernet, is_unfinished) else {
        return 0;
    };
    if !resize(packet, l3 + len) || !store(packet, written, l3, len) {
        return 0;
    }
    let (mark, tc_index) = (packet.mark(), packet.tc_index());
    packet.set_mark(REINJECT_INGRESS_MARK);
    // A server elsewhere knows the client by another name where that is translated.
    if is_egress == 0 && tc_carry(skb, u32::from(l3 != 0), 0) == 0 {
        return 0;
    }
    // SAFETY: as above.
    let answer = unsafe { bpf_clone_redirect(skb, out, u64::from(BPF_F_INGRESS)) };
    packet.set_mark(mark);
    packet.set_tc_index(tc_index);
    u32::from(answer == 0)
}

/// Tells the client of its window, behind [`tc_acknowledge`]; gives the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_announce(skb: *mut __sk_buff, is_egress: u32) -> i32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return TC_ACT_SHOT };
    let Scratch { proxy, headers, flow, .. } = scratch;
    let is_unfinished = proxy.header.is_unfinished(headers);
    proxy.segment = synproxy::announcement(headers, &proxy.header, flow);
    let l3 = headers.l3;
    let Some((written, len)) = compose(maps, &proxy.segment, proxy.link, is_unfinished) else {
        return TC_ACT_SHOT;
    };
    match resize(packet, l3 + len) && store(packet, written, l3, len) {
        true => NEXT,
        false => TC_ACT_SHOT,
    }
}

/// The frame's Ethernet header, anything where it has none.
#[inline(always)]
fn link(packet: &SkbPacket, l3: u32) -> Ethernet {
    match packet.read::<Ethernet>(0) {
        Some(ethernet) if l3 != 0 => ethernet,
        _ => Ethernet::zeroed(),
    }
}

#[inline(always)]
fn resize(packet: &SkbPacket, len: u32) -> bool {
    // SAFETY: no packet pointer is held across the call.
    len == packet.len() || unsafe { bpf_skb_change_tail(packet.skb, len, 0) == 0 }
}

/// Writes the pieces of a frame and keeps what the kernel knows of its checksum.
#[inline(always)]
fn store(packet: &SkbPacket, written: &mut Answer, l3: u32, len: u32) -> bool {
    let lengths = Lengths { headers: len, quoted: 0 };
    answer::store(written, lengths, l3, |offset, from, len| {
        // SAFETY: each length is at most that of its piece.
        unsafe {
            let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
            bpf_skb_store_bytes(packet.skb.cast(), offset, from, len, flags) == 0
        }
    })
}
