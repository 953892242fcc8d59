//! Whose socket sends a packet, as far as no helper of the kernel tells: the group of the
//! process that opened it, as the credentials of its file have it.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_probe_read_kernel};

use crate::maps::{SOCKET, SOCKET_LAYOUT};

/// A packet that no process has sent.
pub const NOBODY: u64 = u64::MAX;

/// States of a socket: waiting for stray segments, and asked for but not accepted yet.
const TIME_WAIT: u32 = 6;
const NEW_SYN_RECV: u32 = 12;

/// The group, or [`NOBODY`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn group_of(skb: *mut __sk_buff) -> u64 {
    let Some(layout) = SOCKET_LAYOUT.get(0) else { return NOBODY };
    if layout.is_known == 0 {
        return NOBODY;
    }
    // SAFETY: the kernel hands a valid context to the program.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return NOBODY;
    }
    // SAFETY: it was just found to be there.
    let state = unsafe { (&raw const (*socket).state).read_volatile() };
    if state == TIME_WAIT {
        return NOBODY;
    }
    let Some(mut at) = number(socket as u64) else { return NOBODY };
    // The answer to a SYN is sent by what listens.
    if state == NEW_SYN_RECV {
        at = follow(at, layout.listener);
    }
    at = follow(at, layout.socket);
    at = follow(at, layout.file);
    at = follow(at, layout.credentials);
    if at == 0 {
        return NOBODY;
    }
    read::<u32>(at, layout.group).map_or(NOBODY, u64::from)
}

/// An address as a plain number: the verifier allows no way from a socket to what its
/// helpers do not tell.
#[inline(always)]
fn number(address: u64) -> Option<u64> {
    let desk = SOCKET.get_ptr_mut(0)?;
    // SAFETY: this CPU's word, which one packet uses at a time.
    unsafe {
        desk.write_volatile(address);
        Some(desk.read_volatile())
    }
}

/// The pointer that stands at an offset; 0 where there is none.
#[inline(always)]
fn follow(at: u64, offset: u32) -> u64 {
    match at {
        0 => 0,
        _ => read::<u64>(at, offset).unwrap_or(0),
    }
}

#[inline(always)]
fn read<T: Default>(at: u64, offset: u32) -> Option<T> {
    let mut value = T::default();
    let from = at.wrapping_add(u64::from(offset));
    // SAFETY: the kernel reads as many bytes as the value has, and says when it cannot.
    let result = unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, from as *const _)
    };
    if result == 0 { Some(value) } else { None }
}
