//! Frames as these programs need them: Ethernet, IPv4 without options, ports.

use core::mem::size_of;

use aya_ebpf::bindings::xdp_md;
use firewall_common::wire::{Ethernet, Ipv4, Ports};

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
