//! The packet inside an ICMP error (RFC 792, RFC 4443 section 3): IP header
//! and at least the ports.

use crate::{
    addr::{Addr, Family},
    flow::{Tuple, protocol},
    headers::{Headers, icmp_request},
    packet::Packet,
    transport::gre_call,
    wire::{Icmp, Ipv4, Ipv6, Ipv6Extension, Ipv6Fragment, Ports},
};

use super::icmp::{Class, classify};

const MAX_EXTENSION_HEADERS: u32 = 4;

/// Reads the quoted packet's endpoints into `tuple`, as its sender wrote them;
/// `false` when they cannot be read or when it is an error itself.
#[inline(always)]
pub fn read<P: Packet + ?Sized>(packet: &P, headers: &Headers, tuple: &mut Tuple) -> bool {
    *tuple = Tuple::default();
    let l4 = match headers.family() {
        Family::Ipv4 => ipv4(packet, headers.payload, tuple),
        Family::Ipv6 => ipv6(packet, headers.payload, tuple),
    };
    match l4 {
        Some(l4) if l4 >= headers.payload => transport(packet, l4, tuple),
        _ => false,
    }
}

/// Where the transport header of the quoted packet stands.
#[inline(always)]
pub fn transport_at<P: Packet + ?Sized>(packet: &P, headers: &Headers) -> Option<u32> {
    let mut tuple = Tuple::default();
    match headers.family() {
        Family::Ipv4 => ipv4(packet, headers.payload, &mut tuple),
        Family::Ipv6 => ipv6(packet, headers.payload, &mut tuple),
    }
}

#[inline(always)]
fn ipv4<P: Packet + ?Sized>(packet: &P, l3: u32, tuple: &mut Tuple) -> Option<u32> {
    let ip: Ipv4 = packet.read(l3)?;
    if ip.version() != 4 || ip.header_len() < Ipv4::LEN || ip.fragment_offset() != 0 {
        return None;
    }
    tuple.src = Addr::v4(ip.src);
    tuple.dst = Addr::v4(ip.dst);
    tuple.protocol = ip.protocol;
    Some(l3 + ip.header_len())
}

#[inline(always)]
fn ipv6<P: Packet + ?Sized>(packet: &P, l3: u32, tuple: &mut Tuple) -> Option<u32> {
    let ip: Ipv6 = packet.read(l3)?;
    if ip.version() != 6 {
        return None;
    }
    tuple.src = ip.src;
    tuple.dst = ip.dst;
    tuple.protocol = ip.next_header;
    let mut l4 = l3 + Ipv6::LEN;
    for _ in 0..MAX_EXTENSION_HEADERS {
        let unit = match tuple.protocol {
            0 | 43 | 60 => 8,
            51 => 4,
            44 => {
                let fragment: Ipv6Fragment = packet.read(l4)?;
                if fragment.fragment_offset() != 0 {
                    return None;
                }
                tuple.protocol = fragment.next_header;
                l4 += size_of::<Ipv6Fragment>() as u32;
                continue;
            }
            _ => return Some(l4),
        };
        let extension: Ipv6Extension = packet.read(l4)?;
        tuple.protocol = extension.next_header;
        l4 += u32::from(extension.len) * unit + 8;
    }
    Some(l4)
}

#[inline(always)]
fn transport<P: Packet + ?Sized>(packet: &P, l4: u32, tuple: &mut Tuple) -> bool {
    match tuple.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDPLITE => {
            let Some(ports) = packet.read::<Ports>(l4) else { return false };
            tuple.sport = u16::from_be(ports.sport);
            tuple.dport = u16::from_be(ports.dport);
            true
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let Some(icmp) = packet.read::<Icmp>(l4) else { return false };
            // An error about an error is never sent (RFC 1122 section 3.2.2).
            if !matches!(classify(tuple.protocol, icmp.icmp_type), Class::Request | Class::Reply) {
                return false;
            }
            let (request, is_reply) = icmp_request(tuple.protocol, icmp.icmp_type);
            tuple.icmp_type = request;
            tuple.icmp_code = icmp.code;
            let id = u16::from_be(icmp.id);
            if is_reply {
                tuple.dport = id;
            } else {
                tuple.sport = id;
            }
            true
        }
        protocol::GRE => match gre_call(packet, l4) {
            Some(call) => {
                tuple.dport = call;
                true
            }
            None => false,
        },
        _ => true,
    }
}
