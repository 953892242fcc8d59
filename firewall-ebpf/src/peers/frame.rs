//! Frames as these programs need them: Ethernet, IPv4 without options or IPv6, ports.

use core::mem::size_of;

use aya_ebpf::bindings::xdp_md;
use firewall_common::wire::{Ethernet, Ipv4, Ipv6, Ports, ether_type};

const L3: usize = size_of::<Ethernet>();
const L4: usize = L3 + size_of::<Ipv4>();
/// Bytes that must be there.
const LEN: usize = L4 + size_of::<Ports>();
/// IPv4 as the frame's type says it.
const IPV4: u16 = 0x0800_u16.to_be();

/// The headers of a frame, where they stand.
pub struct Headers<'a> {
    pub ethernet: &'a mut Ethernet,
    pub ip: &'a mut Ipv4,
    pub ports: &'a mut Ports,
}

/// `None` for any other frame.
#[inline(always)]
pub fn headers<'a>(ctx: *mut xdp_md) -> Option<Headers<'a>> {
    // SAFETY: the context is the kernel's; all was found to lie in the frame.
    let headers = unsafe {
        let data = core::ptr::read_volatile(&raw const (*ctx).data) as usize;
        if data + LEN > core::ptr::read_volatile(&raw const (*ctx).data_end) as usize {
            return None;
        }
        Headers {
            ethernet: &mut *(data as *mut Ethernet),
            ip: &mut *((data + L3) as *mut Ipv4),
            ports: &mut *((data + L4) as *mut Ports),
        }
    };
    let is_plain = headers.ethernet.ether_type == IPV4 && headers.ip.header_len() == Ipv4::LEN;
    if is_plain { Some(headers) } else { None }
}

/// The headers of a frame of IPv6, where they stand; `None` for any other.
#[inline(always)]
pub fn headers6<'a>(ctx: *mut xdp_md) -> Option<(&'a mut Ethernet, &'a mut Ipv6)> {
    // SAFETY: as above.
    let (ethernet, ip) = unsafe {
        let data = core::ptr::read_volatile(&raw const (*ctx).data) as usize;
        if data + L3 + size_of::<Ipv6>()
            > core::ptr::read_volatile(&raw const (*ctx).data_end) as usize
        {
            return None;
        }
        (&mut *(data as *mut Ethernet), &mut *((data + L3) as *mut Ipv6))
    };
    if ethernet.ether_type == ether_type::IPV6.to_be() { Some((ethernet, ip)) } else { None }
}
