//! The answer of a REJECT, composed on the program's desk and written over the
//! rejected frame.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use firewall_common::{
    answer,
    packet::Packet,
    reject::{self, Answer, HEADER_WORDS, Lengths, QUOTED_WORDS},
    rule::{Chain, RejectKind},
    scratch::Scratch,
    wire::Ethernet,
};

use crate::{
    maps::DESK,
    packet::{SkbPacket, XdpPacket},
    route,
    tables::{Maps, now},
    verifier::opaque,
};

/// Packets that can be quoted.
pub trait Quote: Packet {
    fn context(&self) -> *mut c_void;
    /// # Safety
    /// `into` has room for `len` bytes, and the verifier can see it.
    unsafe fn quote(&self, offset: u32, into: *mut c_void, len: u32) -> bool;
}

impl Quote for XdpPacket {
    fn context(&self) -> *mut c_void {
        self.ctx.cast()
    }

    #[inline(always)]
    unsafe fn quote(&self, offset: u32, into: *mut c_void, len: u32) -> bool {
        // SAFETY: by the caller.
        unsafe { self.load(offset, into, len) }
    }
}

impl Quote for SkbPacket {
    fn context(&self) -> *mut c_void {
        self.skb.cast()
    }

    #[inline(always)]
    unsafe fn quote(&self, offset: u32, into: *mut c_void, len: u32) -> bool {
        // SAFETY: by the caller.
        unsafe { self.load(offset, into, len) }
    }
}

/// Composes the answer to the packet at hand, which came in by `ifindex`; `None` when it
/// may not be answered.
#[inline(always)]
pub fn compose<P: Quote>(
    packet: &P,
    maps: &Maps,
    scratch: &Scratch,
    ifindex: u32,
    kind: RejectKind,
) -> Option<(&'static mut Answer, Lengths)> {
    let headers = &scratch.headers;
    if !reject::is_answerable(headers, kind) {
        return None;
    }
    let desk = DESK.get_ptr_mut(maps.program as u32)?;
    // SAFETY: one program runs on one CPU at a time.
    let desk = unsafe { &mut *desk };
    let quoted = opaque(reject::quoted_len(headers, kind) as usize);
    if let Some(end) = desk.quoted.get_mut(quoted / 4) {
        *end = 0;
    }
    if quoted > 0 && quoted <= QUOTED_WORDS * 4 {
        // SAFETY: the length was just bounded.
        let is_read =
            unsafe { packet.quote(headers.l3, desk.quoted.as_mut_ptr().cast(), quoted as u32) };
        if !is_read {
            return None;
        }
    }
    if headers.l3 != 0 {
        let was = packet.read::<Ethernet>(0)?;
        desk.ethernet = Ethernet { dst: was.src, src: was.dst, ether_type: was.ether_type };
    }
    let source = match kind {
        RejectKind::TcpReset => headers.tuple.dst,
        // Who speaks to an address of this host hears from that one.
        _ if scratch.walk.chain == Chain::Input as u8 => headers.tuple.dst,
        _ => route::own_address(maps.program, packet.context(), ifindex, headers),
    };
    let lengths = reject::write(desk, headers, kind, source);
    Some((desk, lengths))
}

/// Hands the pieces of a frame whose IP header stands at `l3` to `put(offset, bytes, length)`.
#[inline(always)]
pub fn store(
    answer: &mut Answer,
    lengths: Lengths,
    l3: u32,
    mut put: impl FnMut(u32, *mut c_void, u32) -> bool,
) -> bool {
    let headers = opaque(lengths.headers as usize);
    if headers == 0 || headers > HEADER_WORDS * 4 {
        return false;
    }
    let quoted = opaque(lengths.quoted as usize);
    (l3 == 0 || put(0, (&raw mut answer.ethernet).cast(), size_of::<Ethernet>() as u32))
        && put(l3, answer.headers.as_mut_ptr().cast(), headers as u32)
        && (quoted == 0
            || quoted > QUOTED_WORDS * 4
            || put(l3 + headers as u32, answer.quoted.as_mut_ptr().cast(), quoted as u32))
}

/// Whether the rules let the answer out that was written over the frame; 0 for no. As the
/// [`crate::stage`]s, functions that the verifier checks by themselves.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_may_leave(ctx: *mut xdp_md) -> u32 {
    may_leave(&XdpPacket { ctx }, &Maps::of_xdp(ctx))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_may_leave(skb: *mut __sk_buff, is_egress: u32) -> u32 {
    may_leave(&SkbPacket { skb }, &Maps::of_tc(skb, is_egress != 0))
}

#[inline(always)]
fn may_leave<P: Packet>(packet: &P, maps: &Maps) -> u32 {
    let (Some(answered), Some(scratch)) = (maps.scratch(), maps.answers()) else { return 0 };
    u32::from(answer::may_leave(packet, maps, answered, scratch, now()))
}
