//! Makes the packets.

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_ABORTED, XDP_DROP},
        xdp_md,
    },
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_redirect},
    macros::{map, xdp},
    maps::{Array, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use firewall_common::{
    bench::{MEASURED, PACE, PORT_BITS, Pace, Seen, TEMPLATE, TEMPLATE6, Traffic, order, varies},
    checksum::Sum,
    wire::{Ipv4, Ipv6},
};

use crate::verifier::opaque;

#[map(name = "traffic")]
static TRAFFIC: Array<Traffic> = Array::with_max_entries(1, 0);

#[map(name = "measured")]
static TARGETS: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[map(name = "seen")]
static SEEN: PerCpuArray<Seen> = PerCpuArray::with_max_entries(1, 0);

#[map(name = "pace")]
static PACES: Array<Pace> = Array::with_max_entries(1, 0);

const IP: usize = 14;
const WORDS: usize = TEMPLATE / 8;
const WORDS6: usize = TEMPLATE6 / 8;

/// Where the fields stand in a frame whose template has so many words of eight bytes.
trait Form<const WORDS: usize> {
    const HEADER_CHECKSUM: Option<usize>;
    /// The words that vary.
    const ADDRESSES: [usize; 2];
    const PORTS: [usize; 2];
}

struct V4;
struct V6;

impl Form<WORDS> for V4 {
    const HEADER_CHECKSUM: Option<usize> = Some(IP + 10);
    const ADDRESSES: [usize; 2] = [IP + 12, IP + 16];
    const PORTS: [usize; 2] = [IP + 20, IP + 22];
}

impl Form<WORDS6> for V6 {
    const HEADER_CHECKSUM: Option<usize> = None;
    const ADDRESSES: [usize; 2] = [IP + 20, IP + 36];
    const PORTS: [usize; 2] = [IP + 40, IP + 42];
}

/// Makes the packet of the next client and hands it on.
#[xdp(frags)]
pub fn shape(ctx: XdpContext) -> u32 {
    hand_on::<V4, WORDS>(&ctx)
}

/// The same of IPv6.
#[xdp(frags)]
pub fn shape6(ctx: XdpContext) -> u32 {
    hand_on::<V6, WORDS6>(&ctx)
}

#[inline(always)]
fn hand_on<F: Form<WORDS>, const WORDS: usize>(ctx: &XdpContext) -> u32 {
    if write::<F, WORDS>(ctx.ctx).is_none() {
        return XDP_ABORTED;
    }
    // SAFETY: the call does not come back when the place holds a program.
    let _ = unsafe { TARGETS.tail_call(ctx, MEASURED) };
    XDP_ABORTED
}

/// Sends what [`shape`] has made.
#[xdp(frags)]
pub fn send(_: XdpContext) -> u32 {
    let Some(traffic) = TRAFFIC.get(0) else { return XDP_ABORTED };
    let Some(pace) = PACES.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: one packet at a time is sent, by one CPU; the helpers have no conditions.
    unsafe {
        count(&mut *pace);
        bpf_redirect(traffic.out_ifindex, 0) as u32
    }
}

#[inline(always)]
fn count(pace: &mut Pace) {
    if pace.sent % PACE == 0 {
        // SAFETY: the helper has no conditions.
        pace.last = unsafe { bpf_ktime_get_ns() };
        pace.until = pace.sent;
    }
    if pace.sent == 0 {
        pace.first = pace.last;
    }
    pace.sent += 1;
}

/// Counts what arrives.
#[xdp(frags)]
pub fn sink(ctx: XdpContext) -> u32 {
    let bytes = ctx.data_end().wrapping_sub(ctx.data());
    if let Some(seen) = SEEN.get_ptr_mut(0) {
        // SAFETY: the entry is this CPU's.
        unsafe {
            (*seen).packets += 1;
            (*seen).bytes += bytes as u64;
        }
    }
    XDP_DROP
}

#[inline(always)]
fn write<F: Form<WORDS>, const WORDS: usize>(ctx: *mut xdp_md) -> Option<()> {
    let traffic = TRAFFIC.get_ptr_mut(0)?;
    // SAFETY: one packet at a time is made, by one CPU.
    let traffic = unsafe { &mut *traffic };
    let client = next(traffic);
    let (host, port) = (client >> PORT_BITS, client & ((1 << PORT_BITS) - 1));
    // SAFETY: the context is the kernel's; the template was found to fit.
    unsafe {
        let data = core::ptr::read_volatile(&raw const (*ctx).data) as usize;
        let end = core::ptr::read_volatile(&raw const (*ctx).data_end) as usize;
        if data + 8 * WORDS > end {
            return None;
        }
        *(data as *mut [u64; WORDS]) = *traffic.template.as_ptr().cast::<[u64; WORDS]>();
        let side = usize::from(traffic.varies == varies::DESTINATION);
        let address = (data + F::ADDRESSES[side & 1]) as *mut u32;
        let was = address.read_unaligned();
        let now = (u32::from_be(was) + host).to_be();
        address.write_unaligned(now);
        let place = (data + F::PORTS[side & 1]) as *mut u16;
        let was_port = place.read_unaligned();
        let now_port = (u16::from_be(was_port).wrapping_add(port as u16)).to_be();
        place.write_unaligned(now_port);

        if let Some(at) = F::HEADER_CHECKSUM {
            let checksum = (data + at) as *mut u16;
            let sum = without(checksum.read_unaligned(), was).double_word(now);
            checksum.write_unaligned(sum.finish());
        }
        // Behind the addresses and ports, and before the end of the template.
        let at = opaque(data + (opaque(traffic.checksum_at as usize) & 127));
        if at + size_of::<u16>() > end {
            return None;
        }
        let checksum = at as *mut u16;
        let sum =
            without(checksum.read_unaligned(), was).double_word(now).word(!was_port).word(now_port);
        checksum.write_unaligned(sum.finish());
    }
    Some(())
}

/// The sum under a checksum, less one address.
#[inline(always)]
fn without(checksum: u16, address: u32) -> Sum {
    Sum::default().word(!checksum).double_word(!address)
}

#[inline(always)]
fn next(traffic: &mut Traffic) -> u32 {
    if traffic.order == order::RANDOM {
        // SAFETY: the helper has no conditions.
        let random = u64::from(unsafe { bpf_get_prandom_u32() });
        return (random * u64::from(traffic.clients) >> 32) as u32;
    }
    let client = traffic.next;
    traffic.next = if client + 1 < traffic.clients { client + 1 } else { 0 };
    client
}

const _: () = assert!(<V4 as Form<WORDS>>::PORTS[1] + 2 <= TEMPLATE && Ipv4::LEN == 20);
const _: () = assert!(<V6 as Form<WORDS6>>::PORTS[1] + 2 <= TEMPLATE6 && Ipv6::LEN == 40);
