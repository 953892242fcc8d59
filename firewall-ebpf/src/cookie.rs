//! SYN cookies: the kernel's own, by its helpers for programs without a socket.
//!
//! They look at the addresses, the ports and the sequence numbers, and work whatever
//! the sysctl `net.ipv4.tcp_syncookies` says.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_tcp_raw_check_syncookie_ipv4, bpf_tcp_raw_check_syncookie_ipv6,
    bpf_tcp_raw_gen_syncookie_ipv4, bpf_tcp_raw_gen_syncookie_ipv6,
};
use bytemuck::Zeroable;
use firewall_common::{
    addr::Family,
    flow::Tuple,
    wire::{Ipv4, Ipv6, Tcp},
};

use crate::maps::COOKIES;

/// What [`make_cookie`] gives when there is none.
pub const NO_COOKIE: i64 = -1;

/// The headers that the helpers read: a desk, where the stack is short.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct Quote {
    ipv4: Ipv4,
    ipv6: Ipv6,
    tcp: Tcp,
    /// The option that tells the segment size.
    size: [u8; 4],
}

/// A larger segment than any. The kernel adds the class of the size to the cookie and
/// takes each class for right: were it not the highest, the cookie would be right for
/// the sequence numbers before this one.
const SIZE: [u8; 4] = [2, 4, 0xff, 0xff];
/// Of the TCP header with the option.
const LEN: u32 = Tcp::LEN + SIZE.len() as u32;

/// The cookie for a SYN of these endpoints, or [`NO_COOKIE`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn make_cookie(tuple: *const Tuple, seq: u32) -> i64 {
    // SAFETY: null, or memory of this type that nobody writes meanwhile.
    let Some(tuple) = (unsafe { tuple.as_ref() }) else { return NO_COOKIE };
    let Some(quote) = write(tuple, seq, 0) else { return NO_COOKIE };
    let tcp: *mut c_void = (&raw mut quote.tcp).cast();
    // SAFETY: the helpers read headers of these sizes.
    let answer = unsafe {
        match tuple.src.family() {
            Family::Ipv4 => {
                bpf_tcp_raw_gen_syncookie_ipv4((&raw mut quote.ipv4).cast(), tcp.cast(), LEN)
            }
            Family::Ipv6 => {
                bpf_tcp_raw_gen_syncookie_ipv6((&raw mut quote.ipv6).cast(), tcp.cast(), LEN)
            }
        }
    };
    // The kernel's idea of the segment size stands in the upper half.
    if answer < 0 { NO_COOKIE } else { answer & 0xffff_ffff }
}

/// 1 when the cookie is right.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn check_cookie(tuple: *const Tuple, seq: u32, cookie: u32) -> u32 {
    // SAFETY: as above.
    let Some(tuple) = (unsafe { tuple.as_ref() }) else { return 0 };
    // The helpers look at the numbers of an ACK: those that follow.
    let Some(quote) = write(tuple, seq.wrapping_add(1), cookie.wrapping_add(1)) else { return 0 };
    let tcp: *mut c_void = (&raw mut quote.tcp).cast();
    // SAFETY: as above.
    let answer = unsafe {
        match tuple.src.family() {
            Family::Ipv4 => {
                bpf_tcp_raw_check_syncookie_ipv4((&raw mut quote.ipv4).cast(), tcp.cast())
            }
            Family::Ipv6 => {
                bpf_tcp_raw_check_syncookie_ipv6((&raw mut quote.ipv6).cast(), tcp.cast())
            }
        }
    };
    u32::from(answer == 0)
}

/// Writes the headers of a segment to this CPU's desk.
#[inline(always)]
fn write(tuple: &Tuple, seq: u32, ack: u32) -> Option<&'static mut Quote> {
    let quote = COOKIES.get_ptr_mut(0)?;
    // SAFETY: one program runs on one CPU at a time, and none holds it for longer than
    // one cookie takes.
    let quote = unsafe { &mut *quote };
    quote.tcp.sport = tuple.sport.to_be();
    quote.tcp.dport = tuple.dport.to_be();
    quote.tcp.seq = seq.to_be();
    quote.tcp.ack = ack.to_be();
    quote.tcp.data_offset = (LEN * 4) as u8;
    quote.size = SIZE;
    match tuple.src.family() {
        Family::Ipv4 => {
            quote.ipv4.version_ihl = 0x45;
            quote.ipv4.src = tuple.src.words[3];
            quote.ipv4.dst = tuple.dst.words[3];
        }
        Family::Ipv6 => {
            quote.ipv6.version_class_label = 0x6000_0000u32.to_be();
            quote.ipv6.src = tuple.src;
            quote.ipv6.dst = tuple.dst;
        }
    }
    Some(quote)
}
