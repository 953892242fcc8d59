//! The host's own sockets, which a gateway that lends out its address must not lose packets of.

use core::{ffi::c_void, mem::size_of};

use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use bytemuck::Zeroable;
use firewall_common::{
    addr::Family,
    flow::{Tuple, protocol},
};

/// In the network namespace of the packet (`BPF_F_CURRENT_NETNS`).
const HERE: u64 = u64::MAX;

/// `struct bpf_sock_tuple`, of IPv4. Ports and addresses are in network order.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
struct Ends4 {
    src: u32,
    dst: u32,
    sport: u16,
    dport: u16,
}

/// The same of IPv6.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
struct Ends6 {
    src: [u32; 4],
    dst: [u32; 4],
    sport: u16,
    dport: u16,
}

/// Whether one is connected by these ends, waits for connections, or is bound to their
/// destination.
#[inline(always)]
pub fn has(ctx: *mut c_void, tuple: &Tuple) -> bool {
    let Tuple { src, dst, .. } = tuple;
    let (sport, dport) = (tuple.sport.to_be(), tuple.dport.to_be());
    match dst.family() {
        Family::Ipv4 => {
            let mut ends = Ends4 { src: src.words[3], dst: dst.words[3], sport, dport };
            find(ctx, tuple.protocol, &mut ends)
        }
        Family::Ipv6 => {
            let mut ends = Ends6 { src: src.words, dst: dst.words, sport, dport };
            find(ctx, tuple.protocol, &mut ends)
        }
    }
}

#[inline(always)]
fn find<T>(ctx: *mut c_void, ip_protocol: u8, ends: &mut T) -> bool {
    let ends: *mut T = ends;
    let size = size_of::<T>() as u32;
    // SAFETY: the helper reads as many bytes as it is told, and what it gives is given back.
    unsafe {
        let socket = match ip_protocol {
            protocol::TCP => bpf_skc_lookup_tcp(ctx, ends.cast(), size, HERE, 0),
            protocol::UDP => bpf_sk_lookup_udp(ctx, ends.cast(), size, HERE, 0),
            _ => return false,
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
    }
    true
}
