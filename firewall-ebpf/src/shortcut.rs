//! The short way: [`firewall_common::shortcut`] decides, here the frame is read, and in XDP
//! sent on.

use core::mem::{offset_of, size_of};

use aya_ebpf::{
    bindings::{
        __sk_buff,
        xdp_action::{XDP_DROP, XDP_REDIRECT},
        xdp_md,
    },
    helpers::bpf_redirect,
};
use firewall_common::{
    checksum,
    hop::{Exit, Hop},
    packet::Packet as _,
    shortcut::{self, Ip, Ipv4, Ipv6, Plain, Turned},
    wire::{self, Ethernet, Ports, Tcp, Udp},
};

use crate::{
    packet::{SkbPacket, XdpPacket},
    tables::{Maps, now},
};

/// What [`xdp_shortcut`] gives for a frame that is to go the long way: no XDP action.
pub const DECLINED: u32 = u32::MAX;

const L3: usize = size_of::<Ethernet>();
const ETHER_TYPE: usize = L3 - size_of::<u16>();

/// What a program sees of a frame.
pub trait View {
    /// Where its first bytes begin and end.
    fn first_bytes(&self) -> (usize, usize);
    /// Its length, as far as it counts for headers that must lie within; `first` are the bytes above.
    fn extent(&self, first: usize) -> u32;
    fn ifindex(&self) -> u32;
    fn maps(&self) -> Maps;
    /// How it leaves.
    fn exit(&self) -> Exit;
}

impl View for XdpPacket {
    #[inline(always)]
    fn first_bytes(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }

    #[inline(always)]
    fn extent(&self, first: usize) -> u32 {
        first as u32
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        Self::ifindex(self)
    }

    #[inline(always)]
    fn maps(&self) -> Maps {
        Maps::of_xdp(self.ctx)
    }

    #[inline(always)]
    fn exit(&self) -> Exit {
        Exit::Redirect
    }
}

impl View for SkbPacket {
    #[inline(always)]
    fn first_bytes(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }

    #[inline(always)]
    fn extent(&self, _first: usize) -> u32 {
        self.len()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        Self::ifindex(self)
    }

    #[inline(always)]
    fn maps(&self) -> Maps {
        Maps::of_tc(self.skb, false)
    }

    #[inline(always)]
    fn exit(&self) -> Exit {
        Exit::Stack
    }
}

/// Of a header of either family: how it is read and written in place.
pub trait InPlace: Ip {
    /// # Safety
    /// The header stands there, and nobody writes it as long as it is in use.
    unsafe fn at(place: usize) -> Self;

    /// # Safety
    /// The header stands there.
    unsafe fn write_addresses(at: usize, turned: &Turned<Self::Address>);

    /// Takes one from the TTL or hop limit.
    ///
    /// # Safety
    /// As above.
    unsafe fn count_down(at: usize);
}

impl InPlace for Ipv4 {
    #[inline(always)]
    unsafe fn at(place: usize) -> Self {
        // SAFETY: by the caller.
        Self(unsafe { *(place as *const [u32; 5]) })
    }

    #[inline(always)]
    unsafe fn write_addresses(at: usize, turned: &Turned<u32>) {
        let ip = at as *mut wire::Ipv4;
        // SAFETY: by the caller.
        unsafe {
            (*ip).src = turned.ends.src;
            (*ip).dst = turned.ends.dst;
            (*ip).checksum = turned.header_checksum;
        }
    }

    #[inline(always)]
    unsafe fn count_down(at: usize) {
        let ip = at as *mut wire::Ipv4;
        // SAFETY: by the caller.
        unsafe {
            (*ip).ttl = (*ip).ttl.wrapping_sub(1);
            (*ip).checksum = checksum::after_ttl_decrement((*ip).checksum);
        }
    }
}

impl InPlace for Ipv6<'_> {
    #[inline(always)]
    unsafe fn at(place: usize) -> Self {
        // SAFETY: by the caller.
        Self(unsafe { &*(place as *const [u64; 5]) })
    }

    #[inline(always)]
    unsafe fn write_addresses(at: usize, turned: &Turned<Self::Address>) {
        let (src, dst) = (offset_of!(wire::Ipv6, src), offset_of!(wire::Ipv6, dst));
        // SAFETY: by the caller.
        unsafe {
            *((at + src) as *mut [u64; 2]) = turned.ends.src.0;
            *((at + dst) as *mut [u64; 2]) = turned.ends.dst.0;
        }
    }

    #[inline(always)]
    unsafe fn count_down(at: usize) {
        let ip = at as *mut wire::Ipv6;
        // SAFETY: by the caller.
        unsafe { (*ip).hop_limit = (*ip).hop_limit.wrapping_sub(1) };
    }
}

/// The first words of a frame, unless it is too short for them.
#[inline(always)]
pub fn read<I: InPlace>(packet: &impl View) -> Option<Plain<I>> {
    let (data, end) = packet.first_bytes();
    if data + Plain::<I>::LEN > end {
        return None;
    }
    // SAFETY: what is read was found to lie within the packet; the kernel loads words from
    // any address.
    unsafe {
        let tcp = *((data + Plain::<I>::L4) as *const [u32; 5]);
        let has_options = bytemuck::cast::<_, Tcp>(tcp).header_len() > Tcp::LEN;
        let first_option = match has_options && data + Plain::<I>::LEN + size_of::<u32>() <= end {
            true => *((data + Plain::<I>::LEN) as *const u32),
            false => 0,
        };
        let (low, high) = (*(data as *const u32), *((data + 4) as *const u16));
        Some(Plain {
            station: u64::from(low) | u64::from(high) << 32,
            ether_type: *((data + ETHER_TYPE) as *const u16),
            ip: I::at(data + L3),
            tcp,
            first_option,
            available: packet.extent(end - data) - L3 as u32,
        })
    }
}

/// Sends a frame of IPv4 on that needs nothing but what its flow remembers; gives the XDP action,
/// or [`DECLINED`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_shortcut(ctx: *mut xdp_md) -> u32 {
    send_on::<Ipv4>(ctx)
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_shortcut6(ctx: *mut xdp_md) -> u32 {
    send_on::<Ipv6<'_>>(ctx)
}

/// Judges an untranslated packet of IPv4 at TC that needs nothing but what its flow remembers, and
/// the stack; gives 1, or 0 where it is to go the long way.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_shortcut(skb: *mut __sk_buff) -> u32 {
    let_on::<Ipv4>(skb)
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_shortcut6(skb: *mut __sk_buff) -> u32 {
    let_on::<Ipv6<'_>>(skb)
}

#[inline(always)]
fn let_on<I: InPlace>(skb: *mut __sk_buff) -> u32 {
    let packet = SkbPacket { skb };
    let Some(plain) = read::<I>(&packet) else { return 0 };
    if !plain.is_eligible() {
        return 0;
    }
    let ifindex = packet.ifindex();
    u32::from(shortcut::follow(&plain, ifindex, Exit::Stack, &packet.maps(), now()).is_some())
}

#[inline(always)]
fn send_on<I: InPlace>(ctx: *mut xdp_md) -> u32 {
    let packet = XdpPacket { ctx };
    let Some(plain) = read::<I>(&packet) else { return DECLINED };
    if !plain.is_eligible() {
        return DECLINED;
    }
    let maps = Maps::of_xdp(ctx);
    let ifindex = packet.ifindex();
    let Some(onward) = shortcut::follow(&plain, ifindex, Exit::Redirect, &maps, now()) else {
        return DECLINED;
    };
    if !onward.ends.are(&plain.ends()) && !turn(&packet, &plain, &Turned::of(&plain, onward.ends)) {
        return XDP_DROP;
    }
    if !rewrite::<I>(&packet, onward.hop) {
        return XDP_DROP;
    }
    // SAFETY: the helper only notes the interface.
    unsafe { bpf_redirect(onward.hop.out_ifindex, 0) as u32 }
}

/// Writes other ends.
#[inline(always)]
fn turn<I: InPlace>(packet: &XdpPacket, plain: &Plain<I>, turned: &Turned<I::Address>) -> bool {
    let data = packet.data();
    if data + Plain::<I>::LEN > packet.data_end() {
        return false;
    }
    let l4 = data + Plain::<I>::L4;
    // SAFETY: the headers were just found to lie within the packet.
    unsafe {
        I::write_addresses(data + L3, turned);
        let ports = l4 as *mut Ports;
        (*ports).sport = turned.ends.sport;
        (*ports).dport = turned.ends.dport;
        match plain.is_tcp() {
            true => *((l4 + offset_of!(Tcp, checksum)) as *mut u16) = turned.checksum,
            false => *((l4 + offset_of!(Udp, checksum)) as *mut u16) = turned.checksum,
        }
    }
    true
}

/// Writes the hop's addresses and takes one from the TTL.
#[inline(always)]
fn rewrite<I: InPlace>(packet: &XdpPacket, hop: &Hop) -> bool {
    let data = packet.data();
    if data + Plain::<I>::L4 > packet.data_end() {
        return false;
    }
    // SAFETY: the headers were just found to lie within the packet.
    unsafe {
        *(data as *mut [u32; 3]) = hop.addresses;
        I::count_down(data + L3);
    }
    true
}

/// Whether a frame without a tag is one of IPv6.
#[inline(always)]
pub fn is_ipv6(packet: &impl View) -> bool {
    let (data, end) = packet.first_bytes();
    if data + L3 > end {
        return false;
    }
    // SAFETY: as above.
    unsafe { *((data + ETHER_TYPE) as *const u16) == Ipv6::<'_>::ETHER_TYPE.to_be() }
}

const _: () = assert!(DECLINED != XDP_REDIRECT);
