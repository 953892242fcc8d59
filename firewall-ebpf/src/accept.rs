//! What an accepted packet brings about. As the [`crate::stage`]s, functions that the verifier
//! checks by themselves: it need not follow every way in which a packet came to be accepted.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use firewall_common::{
    conntrack::Tracked,
    flow::Flow,
    packet::Packet,
    path,
    rule::Chain,
    scratch::Scratch,
    time::Nanos,
    verdict::{DropReason, Packed, Verdict},
};

use crate::{
    packet::{SkbPacket, XdpPacket},
    tables::Maps,
};

/// What was found of the packet and the chain that accepted it, in one argument.
#[inline(always)]
pub fn pack(tracked: &Tracked<'_>, chain: Chain) -> u64 {
    u64::from(tracked.pack()) | (chain as u64) << CHAIN
}

const CHAIN: u32 = 32;

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_accept(
    ctx: *mut xdp_md,
    scratch: *mut Scratch,
    flow: *mut Flow,
    found: u64,
    now: u64,
) -> u32 {
    accept(&XdpPacket { ctx }, &Maps::of_xdp(ctx), scratch, flow, found, now)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_accept(
    skb: *mut __sk_buff,
    scratch: *mut Scratch,
    flow: *mut Flow,
    found: u64,
    now: u64,
) -> u32 {
    accept(&SkbPacket { skb }, &Maps::of_tc(skb, false), scratch, flow, found, now)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_accept_leaving(
    skb: *mut __sk_buff,
    scratch: *mut Scratch,
    flow: *mut Flow,
    found: u64,
    now: u64,
) -> u32 {
    accept(&SkbPacket { skb }, &Maps::of_tc(skb, true), scratch, flow, found, now)
}

#[inline(always)]
fn accept<P: Packet>(
    packet: &P,
    maps: &Maps,
    scratch: *mut Scratch,
    flow: *mut Flow,
    found: u64,
    now: u64,
) -> u32 {
    const BROKEN: u32 = Packed::of(Verdict::Drop(DropReason::RulesetBroken)).0;
    // SAFETY: null, or memory of these types; others may use the flow meanwhile, of whose
    // words each is read as it was or is.
    let (scratch, flow) = unsafe { (scratch.as_mut(), flow.as_mut()) };
    let Some(scratch) = scratch else { return BROKEN };
    let Some(chain) = Chain::from_byte((found >> CHAIN) as u8) else { return BROKEN };
    let mut tracked = Tracked::unpack(found as u32, flow);
    Packed::of(path::accept(packet, maps, scratch, &mut tracked, chain, Nanos(now))).0
}
