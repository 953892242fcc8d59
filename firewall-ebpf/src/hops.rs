//! The table of next hops: who is asked for one asks the routing table.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use bytemuck::Zeroable;
use firewall_common::{
    addr::Addr,
    control::device,
    hop::{Claim, Exit, HOPS, Hop, NOWHERE, station},
    shortcut::{Address, Ends, Halves, Ip, Ipv4, Ipv6, Plain},
    tables::Tables,
};

use crate::{
    maps::HOPS as TABLE,
    memory,
    packet::{SkbPacket, XdpPacket},
    route::{self, Fib},
    shortcut::{self, InPlace, View},
    tables::Maps,
    verifier::opaque,
};

/// What [`xdp_confirm`] gives where there is no hop.
pub const NONE: u32 = u32::MAX;
/// Places of the table in which a hop may stand.
const PLACES: u32 = 4;

/// The hop of a number.
#[inline(always)]
pub fn hop(number: u16) -> Option<&'static Hop> {
    TABLE.get(u32::from(number))
}

/// What [`xdp_confirm`] has given.
#[inline(always)]
pub const fn number(answer: u32) -> Option<u16> {
    match answer {
        NONE => None,
        number => Some(number as u16),
    }
}

/// The place in the table of the hop by which the frame at hand, an eligible packet of IPv4, goes
/// on to this interface, as the routing table says now; [`NOWHERE`] where no frame between these
/// interfaces is redirected, [`NONE`] where this one needs the stack, or goes another way. `dst` and
/// `ports`, the source's first, are what it has inside, in the order of memory.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_confirm(
    ctx: *mut xdp_md,
    out_ifindex: u32,
    tick: u32,
    dst: u32,
    ports: u32,
) -> u32 {
    confirm::<Ipv4>(&XdpPacket { ctx }, out_ifindex, tick, dst, ports)
}

/// The same at TC, for packets that the stack sends on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_confirm(
    skb: *mut __sk_buff,
    out_ifindex: u32,
    tick: u32,
    dst: u32,
    ports: u32,
) -> u32 {
    confirm::<Ipv4>(&SkbPacket { skb }, out_ifindex, tick, dst, ports)
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_confirm6(
    ctx: *mut xdp_md,
    out_ifindex: u32,
    tick: u32,
    dst: *const Addr,
    ports: u32,
) -> u32 {
    // SAFETY: null, or an address that nobody writes meanwhile.
    let Some(dst) = (unsafe { dst.as_ref() }) else { return NONE };
    confirm::<Ipv6<'_>>(&XdpPacket { ctx }, out_ifindex, tick, Halves::narrow(dst), ports)
}

/// The same at TC.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_confirm6(
    skb: *mut __sk_buff,
    out_ifindex: u32,
    tick: u32,
    dst: *const Addr,
    ports: u32,
) -> u32 {
    // SAFETY: as above.
    let Some(dst) = (unsafe { dst.as_ref() }) else { return NONE };
    confirm::<Ipv6<'_>>(&SkbPacket { skb }, out_ifindex, tick, Halves::narrow(dst), ports)
}

#[inline(always)]
fn confirm<I: InPlace>(
    packet: &impl View,
    out_ifindex: u32,
    tick: u32,
    dst: I::Address,
    ports: u32,
) -> u32 {
    let maps = packet.maps();
    let exit = packet.exit();
    let in_ifindex = packet.ifindex();
    let Some(from) = maps.device(in_ifindex) else { return NONE };
    let Some(out) = maps.device(out_ifindex) else { return NONE };
    let takes_redirect = out.flags & device::TAKES_REDIRECT != 0;
    // In generic mode the daemon's own frames come by here, and are told by their source.
    let is_redirected = from.flags & device::GENERIC == 0 && takes_redirect;
    if matches!(exit, Exit::Redirect) && !is_redirected {
        return u32::from(NOWHERE);
    }
    let Some(plain) = shortcut::read::<I>(packet) else { return NONE };
    let mut fib = Fib::zeroed();
    fib.ifindex = in_ifindex;
    let [sport, dport] = bytemuck::cast(ports);
    let inside = Ends { dst, sport, dport, ..plain.ends() };
    if !ask(maps.ctx, exit, &plain, &inside, &mut fib) || fib.ifindex != out_ifindex {
        return NONE;
    }
    let [a, b, c, d, e, f] = fib.destination_mac;
    let [g, h, i, j, k, l] = fib.source_mac;
    let hop = Hop {
        claim: Claim::ready(tick).0,
        station: station(from.mac),
        in_ifindex,
        out_ifindex,
        addresses: [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
        ],
        mtu: fib.len,
        class: plain.ip.route_class(),
        exit: exit as u8,
    };
    place(&hop, tick)
}

/// Has the routing table say where the frame goes, which has these ends inside; `false` where only
/// the stack knows.
#[inline(always)]
fn ask<I: Ip>(
    ctx: *mut c_void,
    exit: Exit,
    plain: &Plain<I>,
    inside: &Ends<I::Address>,
    fib: &mut Fib,
) -> bool {
    let (src, dst) = (inside.src.wide(), inside.dst.wide());
    if dst.is_for_many() {
        return false;
    }
    fib.protocol = plain.ip.protocol();
    fib.sport = inside.sport;
    fib.dport = inside.dport;
    // Of none the kernel looks whether the packet itself is too long, which joined segments are not.
    fib.len = match exit {
        Exit::Redirect => plain.ip_len() as u16,
        Exit::Stack => 0,
    };
    fib.between(I::FAMILY, src, dst, plain.ip.tos());
    route::is_direct(ctx, fib)
}

/// Finds the hop in the table, or puts it there; gives its place.
#[inline(always)]
fn place(hop: &Hop, tick: u32) -> u32 {
    let first = hop.place();
    for further in 0..PLACES {
        let number = opaque((first + further) as usize) as u32 & (HOPS - 1);
        let Some(entry) = TABLE.get_ptr_mut(number) else { return NONE };
        // SAFETY: the entry is the map's; its first word tells whether the others hold.
        let claim = unsafe { (&raw const (*entry).claim).read_volatile() };
        // SAFETY: as above.
        let is_same = unsafe { (*entry).is_same(hop) };
        let is_found = Claim(claim).is_ready() && is_same;
        if is_found {
            return if keep(entry, claim, tick) { number } else { NONE };
        }
        if Claim(claim).is_free(tick) {
            return if write(entry, claim, hop, tick) { number } else { NONE };
        }
    }
    NONE
}

/// Holds an entry for as long as this tick; `false` when somebody else was faster.
#[inline(always)]
fn keep(entry: *mut Hop, claim: u64, tick: u32) -> bool {
    let now = Claim::ready(tick).0;
    // SAFETY: the word is the map's.
    claim == now || memory::exchange(unsafe { &raw mut (*entry).claim }, claim, now)
}

/// Writes an entry that nobody uses; `false` when somebody else was faster.
#[inline(always)]
fn write(entry: *mut Hop, claim: u64, hop: &Hop, tick: u32) -> bool {
    let (writing, ready) = (Claim::writing(tick).0, Claim::ready(tick).0);
    // SAFETY: the word is the map's.
    let word = unsafe { &raw mut (*entry).claim };
    if !memory::exchange(word, claim, writing) {
        return false;
    }
    // SAFETY: the entry is ours until its first word says that it is ready.
    unsafe {
        (*entry).station = hop.station;
        (*entry).in_ifindex = hop.in_ifindex;
        (*entry).out_ifindex = hop.out_ifindex;
        (*entry).addresses = hop.addresses;
        (*entry).mtu = hop.mtu;
        (*entry).class = hop.class;
        (*entry).exit = hop.exit;
    }
    memory::exchange(word, writing, ready)
}

const _: () = assert!(offset_of!(Hop, claim) == 0);
