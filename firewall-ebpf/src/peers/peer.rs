//! What the firewall is compared with.

use core::mem::size_of;

use aya_ebpf::{
    bindings::{
        bpf_fib_lookup as Fib,
        xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
        xdp_md,
    },
    helpers::{bpf_fib_lookup, bpf_redirect},
    macros::{map, xdp},
    maps::{HashMap, LpmTrie, lpm_trie::Key},
    programs::XdpContext,
};
use firewall_common::{checksum, flow::Flow, ipv4_key::Ipv4Key, wire::Ipv6};

use crate::frame::{headers, headers6};

/// Flows as the firewall holds those of IPv4; as large as the bench asks.
#[map(name = "flows")]
static FLOWS: HashMap<Ipv4Key, Flow> = HashMap::with_max_entries(1, 0);

/// A list of prefixes to drop.
#[map(name = "blocked")]
static BLOCKED: LpmTrie<u32, u32> =
    LpmTrie::with_max_entries(1, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The floor of everything.
#[xdp(frags)]
pub fn pass(_: XdpContext) -> u32 {
    XDP_PASS
}

/// The most that a firewall can refuse.
#[xdp(frags)]
pub fn drop_all(_: XdpContext) -> u32 {
    XDP_DROP
}

/// Reads the headers, and no more.
#[xdp(frags)]
pub fn parse(ctx: XdpContext) -> u32 {
    match headers(ctx.ctx) {
        Some(headers) if headers.ports.dport != 0 => XDP_PASS,
        _ => XDP_DROP,
    }
}

/// One lookup among flows as the firewall keeps them.
#[xdp(frags)]
pub fn look_up(ctx: XdpContext) -> u32 {
    let Some(headers) = headers(ctx.ctx) else { return XDP_ABORTED };
    let (sport, dport) = (u16::from_be(headers.ports.sport), u16::from_be(headers.ports.dport));
    let (src, dst) = ((headers.ip.src, sport), (headers.ip.dst, dport));
    let (key, _) = Ipv4Key::between(headers.ip.protocol, src, dst);
    match FLOWS.get_ptr_mut(&key) {
        // SAFETY: the entry is read as one word.
        Some(flow) if unsafe { (*flow).expires.0 } != 0 => XDP_PASS,
        _ => XDP_DROP,
    }
}

/// A list of prefixes, and nothing else.
#[xdp(frags)]
pub fn block(ctx: XdpContext) -> u32 {
    let Some(headers) = headers(ctx.ctx) else { return XDP_ABORTED };
    match BLOCKED.get(&Key::new(32, headers.ip.src)) {
        Some(_) => XDP_DROP,
        None => XDP_PASS,
    }
}

/// A router that keeps no state: reads, asks the routing table, sends on.
#[xdp(frags)]
pub fn router(ctx: XdpContext) -> u32 {
    forward(ctx.ctx).unwrap_or(XDP_PASS)
}

/// The same for IPv6.
#[xdp(frags)]
pub fn router6(ctx: XdpContext) -> u32 {
    forward6(ctx.ctx).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn forward6(ctx: *mut xdp_md) -> Option<u32> {
    let (_, ip) = headers6(ctx)?;
    if ip.hop_limit <= 1 {
        return None;
    }
    // SAFETY: numbers and arrays of numbers.
    let mut fib: Fib = unsafe { core::mem::zeroed() };
    fib.family = AF_INET6;
    fib.l4_protocol = ip.next_header;
    fib.__bindgen_anon_1.tot_len = u16::from_be(ip.payload_len).wrapping_add(Ipv6::LEN as u16);
    fib.__bindgen_anon_3.ipv6_src = ip.src.words;
    fib.__bindgen_anon_4.ipv6_dst = ip.dst.words;
    // SAFETY: as in `forward`.
    let found = unsafe {
        fib.ifindex = (*ctx).ingress_ifindex;
        bpf_fib_lookup(ctx.cast(), (&raw mut fib).cast(), size_of::<Fib>() as i32, 0)
    };
    if found != 0 {
        return None;
    }
    let (ethernet, ip) = headers6(ctx)?;
    ip.hop_limit -= 1;
    ethernet.dst = fib.dmac;
    ethernet.src = fib.smac;
    // SAFETY: the helper only notes the interface.
    Some(unsafe { bpf_redirect(fib.ifindex, 0) } as u32)
}

#[inline(always)]
fn forward(ctx: *mut xdp_md) -> Option<u32> {
    let headers = headers(ctx)?;
    if headers.ip.ttl <= 1 {
        return None;
    }
    // SAFETY: numbers and arrays of numbers.
    let mut fib: Fib = unsafe { core::mem::zeroed() };
    fib.family = AF_INET;
    fib.l4_protocol = headers.ip.protocol;
    fib.__bindgen_anon_1.tot_len = u16::from_be(headers.ip.total_len);
    fib.__bindgen_anon_3.ipv4_src = headers.ip.src;
    fib.__bindgen_anon_4.ipv4_dst = headers.ip.dst;
    // SAFETY: the context is the kernel's, and what is asked is as large as the helper is
    // told.
    let found = unsafe {
        fib.ifindex = (*ctx).ingress_ifindex;
        bpf_fib_lookup(ctx.cast(), (&raw mut fib).cast(), size_of::<Fib>() as i32, 0)
    };
    if found != 0 {
        return None;
    }
    let headers = crate::frame::headers(ctx)?;
    headers.ip.ttl -= 1;
    headers.ip.checksum = checksum::after_ttl_decrement(headers.ip.checksum);
    headers.ethernet.dst = fib.dmac;
    headers.ethernet.src = fib.smac;
    // SAFETY: the helper only notes the interface.
    Some(unsafe { bpf_redirect(fib.ifindex, 0) } as u32)
}
