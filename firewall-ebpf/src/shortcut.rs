//! The short way in XDP: [`firewall_common::shortcut`] decides, here the frame is read and
//! sent on.

use core::mem::{offset_of, size_of};

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_REDIRECT},
        xdp_md,
    },
    helpers::bpf_redirect,
};
use firewall_common::{
    checksum,
    flow::protocol,
    hop::Hop,
    shortcut::{self, Plain, Turned},
    wire::{Ethernet, Ipv4, Ports, Tcp, Udp},
};

use crate::{
    packet::XdpPacket,
    tables::{Maps, now},
};

/// What [`xdp_shortcut`] gives for a frame that is to go the long way: no XDP action.
pub const DECLINED: u32 = u32::MAX;

const L3: usize = size_of::<Ethernet>();
const L4: usize = L3 + size_of::<Ipv4>();
const ETHER_TYPE: usize = L3 - size_of::<u16>();

/// The first words of a frame, unless it is too short for them.
#[inline(always)]
pub fn read(packet: &XdpPacket) -> Option<Plain> {
    let (data, end) = (packet.data(), packet.data_end());
    if data + Plain::LEN > end {
        return None;
    }
    // SAFETY: what is read was found to lie within the packet; the kernel loads words from
    // any address.
    unsafe {
        let tcp = *((data + L4) as *const [u32; 5]);
        let has_options = bytemuck::cast::<_, Tcp>(tcp).header_len() > Tcp::LEN;
        let first_option = match has_options && data + Plain::LEN + size_of::<u32>() <= end {
            true => *((data + Plain::LEN) as *const u32),
            false => 0,
        };
        let (low, high) = (*(data as *const u32), *((data + 4) as *const u16));
        Some(Plain {
            station: u64::from(low) | u64::from(high) << 32,
            ether_type: *((data + ETHER_TYPE) as *const u16),
            ip: *((data + L3) as *const [u32; 5]),
            tcp,
            first_option,
            available: (end - data - L3) as u32,
        })
    }
}

/// Sends a frame on that needs nothing but what its flow remembers; gives the XDP action, or
/// [`DECLINED`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_shortcut(ctx: *mut xdp_md) -> u32 {
    let packet = XdpPacket { ctx };
    let Some(plain) = read(&packet) else { return DECLINED };
    if !plain.is_eligible() {
        return DECLINED;
    }
    let maps = Maps::of_xdp(ctx);
    let Some(onward) = shortcut::follow(&plain, packet.ifindex(), &maps, now()) else {
        return DECLINED;
    };
    if onward.ends != plain.ends() && !turn(&packet, &plain, &Turned::of(&plain, onward.ends)) {
        return XDP_DROP;
    }
    if !rewrite(&packet, onward.hop) {
        return XDP_DROP;
    }
    // SAFETY: the helper only notes the interface.
    unsafe { bpf_redirect(onward.hop.out_ifindex, 0) as u32 }
}

/// Writes other ends.
#[inline(always)]
fn turn(packet: &XdpPacket, plain: &Plain, turned: &Turned) -> bool {
    const IN_TCP: usize = L4 + offset_of!(Tcp, checksum);
    const IN_UDP: usize = L4 + offset_of!(Udp, checksum);
    let data = packet.data();
    if data + Plain::LEN > packet.data_end() {
        return false;
    }
    // SAFETY: the headers were just found to lie within the packet.
    unsafe {
        let ip = (data + L3) as *mut Ipv4;
        (*ip).src = turned.ends.src;
        (*ip).dst = turned.ends.dst;
        (*ip).checksum = turned.header_checksum;
        let ports = (data + L4) as *mut Ports;
        (*ports).sport = turned.ends.sport;
        (*ports).dport = turned.ends.dport;
        match plain.ip().protocol {
            protocol::TCP => *((data + IN_TCP) as *mut u16) = turned.checksum,
            _ => *((data + IN_UDP) as *mut u16) = turned.checksum,
        }
    }
    true
}

/// Writes the hop's addresses and takes one from the TTL.
#[inline(always)]
fn rewrite(packet: &XdpPacket, hop: &Hop) -> bool {
    let data = packet.data();
    if data + L4 > packet.data_end() {
        return false;
    }
    // SAFETY: the headers were just found to lie within the packet.
    unsafe {
        *(data as *mut [u32; 3]) = hop.addresses;
        let ip = (data + L3) as *mut Ipv4;
        (*ip).ttl = (*ip).ttl.wrapping_sub(1);
        (*ip).checksum = checksum::after_ttl_decrement((*ip).checksum);
    }
    true
}

const _: () = assert!(DECLINED != XDP_REDIRECT && L4 + size_of::<Tcp>() == Plain::LEN);
