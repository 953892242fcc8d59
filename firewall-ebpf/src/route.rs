//! Where the routing table sends a packet: `bpf_fib_lookup`.

use core::{ffi::c_void, mem::size_of};

use aya_ebpf::helpers::{bpf_check_mtu, bpf_fib_lookup};
use bytemuck::Zeroable;
use firewall_common::{
    addr::{Addr, Family},
    headers::Headers,
    rule::Chain,
    scratch::Scratch,
};

use crate::{maps::DELIVERY, tables::Program};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Answers of `bpf_fib_lookup`, as the kernel's `BPF_FIB_LKUP_RET_*`.
mod answer {
    pub const SUCCESS: i64 = 0;
    pub const BLACKHOLE: i64 = 1;
    pub const UNREACHABLE: i64 = 2;
    pub const PROHIBIT: i64 = 3;
    pub const NOT_FORWARDED: i64 = 4;
    pub const FORWARDING_DISABLED: i64 = 5;
    pub const UNSUPPORTED_TUNNEL: i64 = 6;
    pub const NO_NEIGHBOUR: i64 = 7;
    pub const FRAGMENTATION_NEEDED: i64 = 8;
}

/// Look by the mark, too (`BPF_FIB_LOOKUP_MARK`); kernels before 6.10 refuse it.
const BY_MARK: u32 = 1 << 5;
/// Look as for a packet of this host (`BPF_FIB_LOOKUP_OUTPUT`).
const AS_OUTPUT: u32 = 1 << 1;
/// Look for no neighbour (`BPF_FIB_LOOKUP_SKIP_NEIGH`).
const WITHOUT_NEIGHBOUR: u32 = 1 << 2;
/// Give the source address that this host would use, too (`BPF_FIB_LOOKUP_SRC`).
const WITH_SOURCE: u32 = 1 << 4;

/// `struct bpf_fib_lookup`, with plain fields in place of its unions.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct Fib {
    pub family: u8,
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
    /// Length of the packet in, MTU out.
    pub len: u16,
    /// Ingress in, egress out.
    pub ifindex: u32,
    /// TOS, or flow label and class.
    pub class: u32,
    pub src: [u32; 4],
    pub dst: [u32; 4],
    pub vlan: u32,
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
}

impl Fib {
    /// Asks for the way from one address to another; for that of IPv6 without the traffic class.
    #[inline(always)]
    pub const fn between(&mut self, family: Family, src: Addr, dst: Addr, tos: u8) {
        match family {
            Family::Ipv4 => {
                self.family = AF_INET;
                self.class = tos as u32;
                self.src = [src.words[3], 0, 0, 0];
                self.dst = [dst.words[3], 0, 0, 0];
            }
            Family::Ipv6 => {
                self.family = AF_INET6;
                self.class = 0;
                self.src = src.words;
                self.dst = dst.words;
            }
        }
    }
}

/// The interface of a forwarded packet that leaves by none, or by one that the
/// lookup does not tell: not 0, which stands for the host itself.
const NOWHERE: u32 = u32::MAX;

/// What the lookup said about the packet at hand.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Delivery {
    pub fib: Fib,
    pub answer: i64,
}

impl Delivery {
    /// The next hop is known, if not yet its address.
    pub const fn has_next_hop(&self) -> bool {
        matches!(self.answer, answer::SUCCESS | answer::NO_NEIGHBOUR | answer::FRAGMENTATION_NEEDED)
    }

    /// The host forwards nothing, and is told of no hop: the one by which a packet of its own
    /// leaves the interface that it is at must do.
    pub const fn is_untold(&self) -> bool {
        self.answer == answer::FORWARDING_DISABLED
    }

    /// The packet may go straight out of `fib.ifindex`.
    pub const fn is_direct(&self) -> bool {
        self.answer == answer::SUCCESS
    }
}

/// Asks where the packet goes and keeps the answer for its delivery: the chain,
/// and the interface by which it will leave.
#[inline(always)]
pub fn look_up(
    program: Program,
    ctx: *mut c_void,
    ifindex: u32,
    headers: &Headers,
) -> (Chain, u32) {
    let Some(delivery) = DELIVERY.get_ptr_mut(program as u32) else { return (Chain::Input, 0) };
    // SAFETY: one program runs on one CPU at a time.
    let delivery = unsafe { &mut *delivery };
    let tuple = &headers.tuple;
    // The lookup would follow the default route.
    if tuple.dst.is_for_many() {
        delivery.answer = answer::NOT_FORWARDED;
        return (Chain::Input, 0);
    }
    ask(&mut delivery.fib, headers, ifindex, tuple.src, tuple.dst);
    delivery.answer = answer(ctx, &mut delivery.fib, 0);
    chain_of(ctx, delivery, headers, ifindex, 0)
}

/// The same for a packet that bears a mark.
#[inline(always)]
pub fn look_up_marked(
    program: Program,
    ctx: *mut c_void,
    ifindex: u32,
    headers: &Headers,
    mark: u32,
) -> (Chain, u32) {
    let Some(delivery) = DELIVERY.get_ptr_mut(program as u32) else { return (Chain::Input, 0) };
    // SAFETY: as above.
    let delivery = unsafe { &mut *delivery };
    let tuple = &headers.tuple;
    if !tuple.dst.is_for_many() {
        ask(&mut delivery.fib, headers, ifindex, tuple.src, tuple.dst);
        bear(&mut delivery.fib, mark);
        delivery.answer = answer(ctx, &mut delivery.fib, BY_MARK);
        if delivery.answer >= 0 {
            return chain_of(ctx, delivery, headers, ifindex, mark);
        }
    }
    look_up(program, ctx, ifindex, headers)
}

/// The question's mark stands where its answer has the addresses.
#[inline(always)]
fn bear(fib: &mut Fib, mark: u32) {
    let [a, b, c, d] = mark.to_ne_bytes();
    fib.source_mac = [a, b, c, d, 0, 0];
}

/// The smaller MTU of a packet's way and the way back; 0 when neither is known.
#[inline(always)]
pub fn path_mtu(
    ctx: *mut c_void,
    headers: &Headers,
    in_ifindex: u32,
    out_ifindex: u32,
    mark: u32,
) -> u32 {
    let mut fib = Fib::zeroed();
    let from = if in_ifindex != 0 { in_ifindex } else { out_ifindex };
    let tuple = &headers.tuple;
    ask(&mut fib, headers, from, tuple.src, tuple.dst);
    let there = mtu_of_way(ctx, &mut fib, mark, out_ifindex);
    ask(&mut fib, headers, from, tuple.dst, tuple.src);
    let back = mtu_of_way(ctx, &mut fib, mark, in_ifindex);
    match there.min(back) {
        u32::MAX => 0,
        least => least,
    }
}

/// The MTU of a route, or else of the interface.
#[inline(always)]
fn mtu_of_way(ctx: *mut c_void, fib: &mut Fib, mark: u32, ifindex: u32) -> u32 {
    bear(fib, mark);
    let flags = if mark == 0 { 0 } else { BY_MARK };
    match answer(ctx, fib, flags | WITHOUT_NEIGHBOUR) {
        answer::SUCCESS => u32::from(fib.len),
        _ => mtu_of(ctx, ifindex),
    }
}

/// The MTU of an interface; the largest number for none.
#[inline(always)]
fn mtu_of(ctx: *mut c_void, ifindex: u32) -> u32 {
    let mut mtu: u32 = 0;
    if ifindex == 0 || ifindex == NOWHERE {
        return u32::MAX;
    }
    // SAFETY: the helper writes one word.
    unsafe { bpf_check_mtu(ctx, ifindex, &raw mut mtu, 0, 0) };
    if mtu == 0 { u32::MAX } else { mtu }
}

#[inline(always)]
fn chain_of(
    ctx: *mut c_void,
    delivery: &mut Delivery,
    headers: &Headers,
    ifindex: u32,
    mark: u32,
) -> (Chain, u32) {
    match delivery.answer {
        answer::SUCCESS | answer::NO_NEIGHBOUR => (Chain::Forward, delivery.fib.ifindex),
        answer::FRAGMENTATION_NEEDED => {
            (Chain::Forward, too_narrow(ctx, &mut delivery.fib, headers, ifindex, mark))
        }
        // The stack will refuse it, in its own words, or knows the way.
        answer::BLACKHOLE | answer::UNREACHABLE | answer::PROHIBIT => (Chain::Forward, NOWHERE),
        answer::UNSUPPORTED_TUNNEL => (Chain::Forward, NOWHERE),
        // To this host, or to nowhere: both end in the stack.
        _ => (Chain::Input, 0),
    }
}

/// The interface whose MTU is too small for the packet. The answer that says so
/// does not name it; one about a packet of no length does.
#[inline(always)]
fn too_narrow(ctx: *mut c_void, fib: &mut Fib, headers: &Headers, ifindex: u32, mark: u32) -> u32 {
    let tuple = &headers.tuple;
    ask(fib, headers, ifindex, tuple.src, tuple.dst);
    fib.len = 0;
    let flags = if mark == 0 { 0 } else { BY_MARK };
    if mark != 0 {
        bear(fib, mark);
    }
    match answer(ctx, fib, flags) {
        // TC looks at the device's MTU all the same, once it has named it.
        answer::SUCCESS | answer::NO_NEIGHBOUR | answer::FRAGMENTATION_NEEDED => fib.ifindex,
        _ => NOWHERE,
    }
}

/// Whether the packet in question may go straight out of `fib.ifindex`.
#[inline(always)]
pub fn is_direct(ctx: *mut c_void, fib: &mut Fib) -> bool {
    answer(ctx, fib, 0) == answer::SUCCESS
}

#[inline(always)]
fn answer(ctx: *mut c_void, fib: &mut Fib, flags: u32) -> i64 {
    // SAFETY: what is asked is as large as the helper is told.
    unsafe { bpf_fib_lookup(ctx, (&raw mut *fib).cast(), size_of::<Fib>() as i32, flags) }
}

/// The address that this host answers the packet's sender from.
#[inline(always)]
pub fn own_address(program: Program, ctx: *mut c_void, ifindex: u32, headers: &Headers) -> Addr {
    let fallback = headers.tuple.dst;
    let Some(delivery) = DELIVERY.get_ptr_mut(program as u32) else { return fallback };
    // SAFETY: as above.
    let fib = unsafe { &mut (*delivery).fib };
    ask(fib, headers, ifindex, fallback, headers.tuple.src);
    // SAFETY: as above.
    let answer = unsafe {
        bpf_fib_lookup(ctx, (&raw mut *fib).cast(), size_of::<Fib>() as i32, WITH_SOURCE)
    };
    match (answer, headers.family()) {
        (answer::SUCCESS | answer::NO_NEIGHBOUR, Family::Ipv4) => Addr::v4(fib.src[0]),
        (answer::SUCCESS | answer::NO_NEIGHBOUR, Family::Ipv6) => Addr { words: fib.src },
        _ => fallback,
    }
}

/// Puts the address that this host would use towards the source of the packet in `scratch`,
/// or else its destination, into `scratch.nat.address`; `false` when there is none. The
/// packet's own route stays on the desk.
#[inline(always)]
pub fn source_address(ctx: *mut c_void, scratch: &mut Scratch, towards_source: bool) -> bool {
    let mut fib = Fib::zeroed();
    let Scratch { headers, walk, nat, .. } = scratch;
    let tuple = &headers.tuple;
    let (from, towards) =
        if towards_source { (tuple.dst, tuple.src) } else { (tuple.src, tuple.dst) };
    let is_own = walk.in_ifindex == 0;
    let ifindex = if is_own { walk.out_ifindex } else { walk.in_ifindex };
    ask(&mut fib, headers, ifindex, from, towards);
    // No packet: no MTU is too small for it.
    fib.len = 0;
    let way = if is_own { AS_OUTPUT } else { 0 };
    let flags = WITH_SOURCE | WITHOUT_NEIGHBOUR | way;
    nat.address = match (answer(ctx, &mut fib, flags), headers.family()) {
        (answer::SUCCESS, Family::Ipv4) => Addr::v4(fib.src[0]),
        (answer::SUCCESS, Family::Ipv6) => Addr { words: fib.src },
        // A host that forwards nothing is not told: what comes in comes to an address of its
        // own, and what it sends has one.
        (answer::FORWARDING_DISABLED, _) if towards_source || is_own => from,
        _ => return false,
    };
    true
}

#[inline(always)]
fn ask(fib: &mut Fib, headers: &Headers, ifindex: u32, src: Addr, dst: Addr) {
    fib.protocol = headers.tuple.protocol;
    fib.sport = headers.tuple.sport.to_be();
    fib.dport = headers.tuple.dport.to_be();
    fib.len = headers.ip_len as u16;
    fib.ifindex = ifindex;
    fib.vlan = 0;
    fib.between(headers.family(), src, dst, headers.tos);
}
