//! The answer of a REJECT: a TCP reset (RFC 9293 section 3.10.7.1) or an ICMP
//! error (RFC 792, RFC 4443), as a whole frame to the sender.

use crate::{
    addr::{Addr, Family},
    checksum::Sum,
    conntrack::icmp::{Class, classify},
    flow::protocol,
    headers::{Fragment, Headers},
    rule::RejectKind,
    wire::{Ethernet, Icmp, Ipv4, Ipv6, Tcp, tcp_flag},
};

/// How much of the rejected packet, from its IP header on, an answer quotes at most: what
/// makes it 576 bytes long (RFC 1812 section 4.3.2.3), in IPv6 1,280 (RFC 4443 section 2.4).
const QUOTED_V4: u32 = 576 - Ipv4::LEN - Icmp::LEN;
const QUOTED_V6: u32 = 1_280 - Ipv6::LEN - Icmp::LEN;
/// Words of the longest quotation, and one behind it: to the kernel's verifier its end may
/// stand there.
pub const QUOTED_WORDS: usize = QUOTED_V6 as usize / 4 + 1;
/// Words of the longest headers behind Ethernet: IPv6 and TCP with the options of
/// [`crate::synproxy::segment`].
pub const HEADER_WORDS: usize = 20;
const TTL: u8 = 64;

/// The frame of the answer, in the pieces in which it is written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Keeps what follows the Ethernet header aligned.
    pub _pad: [u8; 2],
    pub ethernet: Ethernet,
    pub headers: [u32; HEADER_WORDS],
    /// The start of the rejected packet. Behind its end the word that it ends in is zero.
    pub quoted: [u32; QUOTED_WORDS],
}

/// How many bytes of an [`Answer`] count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Of `headers`.
    pub headers: u32,
    /// Of `quoted`.
    pub quoted: u32,
}

/// Whether a packet may be answered at all: no error about an error, about a
/// fragment, or to a group (RFC 1122 section 3.2.2); no reset for a reset.
#[inline(always)]
pub fn is_answerable(headers: &Headers, kind: RejectKind) -> bool {
    let tuple = &headers.tuple;
    let is_error = match tuple.protocol {
        protocol::ICMP => {
            !matches!(classify(tuple.protocol, headers.icmp_type), Class::Request | Class::Reply)
        }
        // RFC 4443 section 2.1.
        protocol::ICMPV6 => headers.icmp_type < 128,
        _ => false,
    };
    if is_error
        || headers.fragment != Fragment::Whole as u8
        || headers.vlan != 0
        || headers.destination_mac[0] & 1 != 0
        || is_unanswerable_source(tuple.src)
    {
        return false;
    }
    match kind {
        RejectKind::TcpReset => {
            tuple.protocol == protocol::TCP && !headers.has_tcp_flag(tcp_flag::RST)
        }
        _ => true,
    }
}

/// Unspecified, multicast and broadcast sources.
#[inline(always)]
const fn is_unanswerable_source(src: Addr) -> bool {
    let [first, _, _, last] = src.words;
    match src.family() {
        Family::Ipv4 => last == 0 || u32::from_be(last) >= 0xe000_0000,
        Family::Ipv6 => u32::from_be(first) >> 24 == 0xff || (first == 0 && last == 0),
    }
}

/// How much of the rejected packet the answer quotes.
#[inline(always)]
pub const fn quoted_len(headers: &Headers, kind: RejectKind) -> u32 {
    let most = match (kind, headers.family()) {
        (RejectKind::TcpReset, _) => 0,
        (_, Family::Ipv4) => QUOTED_V4,
        (_, Family::Ipv6) => QUOTED_V6,
    };
    if headers.ip_len < most { headers.ip_len } else { most }
}

/// Writes the headers of the answer that `source` gives; `answer.quoted` and
/// `answer.ethernet` stand already.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub fn write(answer: &mut Answer, headers: &Headers, kind: RejectKind, source: Addr) -> Lengths {
    let quoted = quoted_len(headers, kind);
    let headers = match (headers.family(), kind) {
        (Family::Ipv4, RejectKind::TcpReset) => {
            put_ipv4(answer, headers, headers.tuple.dst, protocol::TCP, Tcp::LEN);
            put_reset::<5>(answer, headers)
        }
        (Family::Ipv6, RejectKind::TcpReset) => {
            put_ipv6(answer, headers, headers.tuple.dst, protocol::TCP, Tcp::LEN);
            put_reset::<10>(answer, headers)
        }
        (Family::Ipv4, _) => {
            put_ipv4(answer, headers, source, protocol::ICMP, Icmp::LEN + quoted);
            put_icmp::<5>(answer, Sum::default(), quoted, 3, icmp_code(kind))
        }
        (Family::Ipv6, _) => {
            put_ipv6(answer, headers, source, protocol::ICMPV6, Icmp::LEN + quoted);
            let len = Icmp::LEN + quoted;
            let sum = Sum::pseudo_header(source, headers.tuple.src, protocol::ICMPV6, len);
            put_icmp::<10>(answer, sum, quoted, 1, icmpv6_code(kind))
        }
    };
    Lengths { headers, quoted }
}

#[inline(always)]
fn put_ipv4(answer: &mut Answer, rejected: &Headers, source: Addr, protocol: u8, payload: u32) {
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_len: ((Ipv4::LEN + payload) as u16).to_be(),
        id: 0,
        fragment: 0x4000u16.to_be(),
        ttl: TTL,
        protocol,
        checksum: 0,
        src: source.words[3],
        dst: rejected.tuple.src.words[3],
    };
    let words: [u32; 5] = bytemuck::cast(ip);
    ip.checksum = words.iter().fold(Sum::default(), |sum, word| sum.double_word(*word)).finish();
    let words: [u32; 5] = bytemuck::cast(ip);
    put(&mut answer.headers, 0, words);
}

#[inline(always)]
fn put_ipv6(answer: &mut Answer, rejected: &Headers, source: Addr, protocol: u8, payload: u32) {
    let ip = Ipv6 {
        version_class_label: 0x6000_0000u32.to_be(),
        payload_len: (payload as u16).to_be(),
        next_header: protocol,
        hop_limit: TTL,
        src: source,
        dst: rejected.tuple.src,
    };
    let words: [u32; 10] = bytemuck::cast(ip);
    put(&mut answer.headers, 0, words);
}

/// Writes the reset behind an IP header of `AT` words; gives the length of both.
#[inline(always)]
fn put_reset<const AT: usize>(answer: &mut Answer, rejected: &Headers) -> u32 {
    let tuple = &rejected.tuple;
    let (seq, ack, flags) = if rejected.has_tcp_flag(tcp_flag::ACK) {
        (rejected.ack, 0, tcp_flag::RST)
    } else {
        let controls = u32::from(rejected.has_tcp_flag(tcp_flag::SYN))
            + u32::from(rejected.has_tcp_flag(tcp_flag::FIN));
        let next = rejected.seq.wrapping_add(rejected.payload_len).wrapping_add(controls);
        (0, next, tcp_flag::RST | tcp_flag::ACK)
    };
    let mut tcp = Tcp {
        sport: tuple.dport.to_be(),
        dport: tuple.sport.to_be(),
        seq: seq.to_be(),
        ack: ack.to_be(),
        data_offset: 0x50,
        flags,
        window: 0,
        checksum: 0,
        urgent: 0,
    };
    let words: [u32; 5] = bytemuck::cast(tcp);
    let pseudo = Sum::pseudo_header(tuple.dst, tuple.src, protocol::TCP, Tcp::LEN);
    tcp.checksum = words.iter().fold(pseudo, |sum, word| sum.double_word(*word)).finish();
    let words: [u32; 5] = bytemuck::cast(tcp);
    put(&mut answer.headers, AT, words);
    AT as u32 * 4 + Tcp::LEN
}

/// Writes the ICMP header behind an IP header of `AT` words; gives the length
/// of both.
#[inline(always)]
fn put_icmp<const AT: usize>(
    answer: &mut Answer,
    pseudo: Sum,
    quoted: u32,
    icmp_type: u8,
    code: u8,
) -> u32 {
    let mut icmp = Icmp { icmp_type, code, checksum: 0, id: 0, sequence: 0 };
    let words: [u32; 2] = bytemuck::cast(icmp);
    let sum = words.iter().fold(pseudo, |sum, word| sum.double_word(*word));
    icmp.checksum = add_quoted(sum, &answer.quoted, quoted).finish();
    let words: [u32; 2] = bytemuck::cast(icmp);
    put(&mut answer.headers, AT, words);
    AT as u32 * 4 + Icmp::LEN
}

/// Adds the first bytes of a quotation, `length` of them.
#[inline(always)]
fn add_quoted(mut sum: Sum, words: &[u32; QUOTED_WORDS], length: u32) -> Sum {
    for (number, word) in words.iter().enumerate() {
        if number as u32 * 4 >= length {
            break;
        }
        sum = sum.double_word(*word);
    }
    sum
}

#[inline(always)]
fn put<const N: usize>(headers: &mut [u32; HEADER_WORDS], at: usize, words: [u32; N]) {
    for (place, word) in headers.iter_mut().skip(at).zip(words) {
        *place = word;
    }
}

/// Codes of destination unreachable (RFC 792, RFC 1812 section 5.2.7.1).
const fn icmp_code(kind: RejectKind) -> u8 {
    match kind {
        RejectKind::NetUnreachable | RejectKind::NoRoute => 0,
        RejectKind::HostUnreachable | RejectKind::AddrUnreachable => 1,
        RejectKind::ProtoUnreachable => 2,
        RejectKind::PortUnreachable | RejectKind::TcpReset => 3,
        RejectKind::NetProhibited => 9,
        RejectKind::HostProhibited => 10,
        RejectKind::AdminProhibited | RejectKind::PolicyFail | RejectKind::RejectRoute => 13,
    }
}

/// Codes of destination unreachable (RFC 4443 section 3.1).
const fn icmpv6_code(kind: RejectKind) -> u8 {
    match kind {
        RejectKind::NoRoute | RejectKind::NetUnreachable => 0,
        RejectKind::AdminProhibited | RejectKind::NetProhibited | RejectKind::HostProhibited => 1,
        RejectKind::AddrUnreachable | RejectKind::HostUnreachable => 3,
        RejectKind::PortUnreachable | RejectKind::ProtoUnreachable | RejectKind::TcpReset => 4,
        RejectKind::PolicyFail => 5,
        RejectKind::RejectRoute => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_answered(protocol: u8, icmp_type: u8) -> bool {
        let mut headers = Headers { icmp_type, ..Headers::default() };
        headers.tuple.protocol = protocol;
        headers.tuple.src = match protocol {
            protocol::ICMPV6 => Addr { words: [1; 4] },
            _ => Addr::v4(u32::from_ne_bytes([192, 0, 2, 1])),
        };
        is_answerable(&headers, RejectKind::PortUnreachable)
    }

    #[test]
    fn errors_are_not_answered_and_all_else_of_icmp_is() {
        for (icmp_type, expected) in [(8, true), (0, true), (3, false), (11, false), (200, false)] {
            assert_eq!(is_answered(protocol::ICMP, icmp_type), expected, "{icmp_type}");
        }
        for (icmp_type, expected) in [(1, false), (4, false), (128, true), (135, true), (143, true)]
        {
            assert_eq!(is_answered(protocol::ICMPV6, icmp_type), expected, "{icmp_type}");
        }
    }
}
