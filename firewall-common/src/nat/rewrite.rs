//! Writing other ends into a packet, with the checksums that go with them (RFC 1624).

use core::mem::offset_of;

use crate::{
    addr::Family,
    checksum::Difference,
    conntrack::quoted,
    flow::{Tuple, protocol},
    headers::Headers,
    mangle::rewrite::Frame,
    wire::{Icmp, Ipv4, Ipv6, Tcp, Udp, UdpLite},
};

/// Where IPv4 has its checksum.
const IPV4_CHECKSUM: u32 = offset_of!(Ipv4, checksum) as u32;

/// Has a packet with the ends `from` bear those of `to`; `headers` are those of the packet as
/// it is. The ends of an ICMP error are those of an answer to the packet that it quotes: it
/// goes to the same destination, and comes from the same source where that changes. `false`
/// when the packet cannot be written.
#[inline(always)]
pub fn ends<F: Frame + ?Sized>(frame: &F, headers: &Headers, from: &Tuple, to: &Tuple) -> bool {
    if headers.is_icmp_error() {
        error_ends(frame, headers, from, to)
    } else {
        plain_ends(frame, headers, from, to)
    }
}

/// [`ends`] of a packet that is no ICMP error.
#[inline(always)]
pub fn plain_ends<F: Frame + ?Sized>(
    frame: &F,
    headers: &Headers,
    from: &Tuple,
    to: &Tuple,
) -> bool {
    write(frame, headers, from, to, |covered| {
        let (was, now) = ((from.sport, from.dport), (to.sport, to.dport));
        ports(frame, headers.l4, from.protocol, was, now, covered)
    })
}

/// [`ends`] of an ICMP error.
#[inline(always)]
pub fn error_ends<F: Frame + ?Sized>(
    frame: &F,
    headers: &Headers,
    from: &Tuple,
    to: &Tuple,
) -> bool {
    write(frame, headers, from, to, |covered| quoted_ends(frame, headers, from, to, covered))
}

/// Writes the addresses, what `transport` writes, and the checksums.
#[inline(always)]
fn write<F: Frame + ?Sized>(
    frame: &F,
    headers: &Headers,
    from: &Tuple,
    to: &Tuple,
    transport: impl FnOnce(&mut Difference) -> bool,
) -> bool {
    let family = headers.family();
    let (src_at, dst_at) = places(family, headers.l3);
    let (has_src, has_dst) = (from.src != to.src, from.dst != to.dst);
    let mut pseudo = Difference::default();
    if has_src {
        pseudo = pseudo.addr(&headers.tuple.src, &to.src);
    }
    if has_dst {
        pseudo = pseudo.addr(&headers.tuple.dst, &to.dst);
    }
    // What hardware has summed up must stay the sum of what it has seen.
    let has_sum = !headers.is_later_fragment() && sum_at(headers).is_some();
    let is_covered = matches!(family, Family::Ipv4) || has_sum;
    let is_unfinished = has_sum && frame.is_unfinished(headers);
    if has_src && !frame.write_address(src_at, &to.src, is_covered)
        || has_dst && !frame.write_address(dst_at, &to.dst, is_covered)
        || matches!(family, Family::Ipv4) && !mend_header(frame, headers.l3, pseudo)
    {
        return false;
    }
    if headers.is_later_fragment() {
        return true;
    }
    let mut covered = Difference::default();
    let is_written = transport(&mut covered);
    let Some(at) = sum_at(headers) else { return is_written };
    // ICMP has no pseudo-header.
    let is_bare = headers.tuple.protocol == protocol::ICMP;
    let pseudo = if is_bare { Difference::default() } else { pseudo };
    let may_be_none = headers.tuple.protocol == protocol::UDP;
    is_written && frame.mend(at, family, pseudo, covered, may_be_none, is_unfinished)
}

#[inline(always)]
const fn places(family: Family, l3: u32) -> (u32, u32) {
    match family {
        Family::Ipv4 => (l3 + offset_of!(Ipv4, src) as u32, l3 + offset_of!(Ipv4, dst) as u32),
        Family::Ipv6 => (l3 + offset_of!(Ipv6, src) as u32, l3 + offset_of!(Ipv6, dst) as u32),
    }
}

/// Where the transport header has its checksum, if it has one that can follow.
#[inline(always)]
const fn sum_at(headers: &Headers) -> Option<u32> {
    match sum_within(headers.tuple.protocol) {
        Some(within) => Some(headers.l4 + within),
        None => None,
    }
}

#[inline(always)]
const fn sum_within(protocol: u8) -> Option<u32> {
    Some(match protocol {
        protocol::TCP => offset_of!(Tcp, checksum) as u32,
        protocol::UDP => offset_of!(Udp, checksum) as u32,
        protocol::UDPLITE => offset_of!(UdpLite, checksum) as u32,
        protocol::ICMP | protocol::ICMPV6 => offset_of!(Icmp, checksum) as u32,
        _ => return None,
    })
}

/// The checksum of an IPv4 header follows.
#[inline(always)]
fn mend_header<F: Frame + ?Sized>(frame: &F, l3: u32, change: Difference) -> bool {
    let at = l3 + IPV4_CHECKSUM;
    let Some(sum) = frame.read::<u16>(at) else { return false };
    frame.write(at, change.applied(sum))
}

/// The source's and the destination's port, or the identifier, of the transport header at
/// `l4`.
#[inline(always)]
fn ports<F: Frame + ?Sized>(
    frame: &F,
    l4: u32,
    protocol: u8,
    was: (u16, u16),
    now: (u16, u16),
    change: &mut Difference,
) -> bool {
    match protocol {
        protocol::TCP | protocol::UDP | protocol::UDPLITE => {
            port(frame, l4, was.0, now.0, change) && port(frame, l4 + 2, was.1, now.1, change)
        }
        // One of them is the identifier, the other is zero in both.
        protocol::ICMP | protocol::ICMPV6 => {
            let at = l4 + offset_of!(Icmp, id) as u32;
            port(frame, at, was.0, now.0, change) && port(frame, at, was.1, now.1, change)
        }
        _ => true,
    }
}

#[inline(always)]
fn port<F: Frame + ?Sized>(
    frame: &F,
    at: u32,
    was: u16,
    now: u16,
    change: &mut Difference,
) -> bool {
    if was == now {
        return true;
    }
    *change = change.word(was.to_be(), now.to_be());
    frame.write(at, now.to_be())
}

/// The packet that an ICMP error quotes, and which goes the other way; as much of it as there
/// is. What changes is covered by the checksum of the message.
#[inline(always)]
fn quoted_ends<F: Frame + ?Sized>(
    frame: &F,
    headers: &Headers,
    from: &Tuple,
    to: &Tuple,
    change: &mut Difference,
) -> bool {
    let (l3, family) = (headers.payload, headers.family());
    let Some(l4) = quoted::transport_at(frame, headers) else { return false };
    let (src_at, dst_at) = places(family, l3);
    // Between this packet and the one that it quotes source and destination change places.
    let addresses = Difference::default().addr(&from.dst, &to.dst).addr(&from.src, &to.src);
    if from.dst != to.dst && !frame.write_address(src_at, &to.dst, true)
        || from.src != to.src && !frame.write_address(dst_at, &to.src, true)
    {
        return false;
    }
    match family {
        // The header's checksum makes up for them.
        Family::Ipv4 if !mend_header(frame, l3, addresses) => return false,
        Family::Ipv4 => {}
        Family::Ipv6 => *change = change.and(addresses),
    }
    let mut covered = Difference::default();
    let (was, now) = ((from.dport, from.sport), (to.dport, to.sport));
    if !ports(frame, l4, from.protocol, was, now, &mut covered) {
        return false;
    }
    *change = change.and(covered);
    let Some(within) = sum_within(from.protocol) else { return true };
    // Routers quote as little as eight bytes of TCP.
    let Some(was) = frame.read::<u16>(l4 + within) else { return true };
    if from.protocol == protocol::UDP && was == 0 || !is_quoted(headers, l4 + within + 2) {
        return true;
    }
    let is_bare = from.protocol == protocol::ICMP;
    let all = if is_bare { covered } else { covered.and(addresses) };
    let now = all.applied(was);
    *change = change.word(was, now);
    frame.write(l4 + within, now)
}

/// Whether the message reaches as far as this place.
#[inline(always)]
const fn is_quoted(headers: &Headers, end: u32) -> bool {
    end <= headers.l3 + headers.ip_len
}
