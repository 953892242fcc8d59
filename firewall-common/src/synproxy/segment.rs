//! The segments that the proxy itself says, as whole IP packets.

use bytemuck::Zeroable;

use crate::{
    addr::{Addr, Family},
    checksum::Sum,
    flow::protocol,
    reject::{Answer, HEADER_WORDS},
    wire::{Ipv4, Ipv6, Tcp},
};

use super::header::{Options, has};

/// A segment without payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Segment {
    pub src: Addr,
    pub dst: Addr,
    pub sport: u16,
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub options: Options,
    /// As it stands in the header.
    pub window: u16,
    pub flags: u8,
    pub ttl: u8,
    pub tos: u8,
}

/// Words of a TCP header with all the options that the proxy uses.
const TCP_WORDS: usize = 10;

/// Writes the packet's headers, which are all of it; gives their length. Whoever
/// asks for an unfinished checksum leaves it to hardware or to the stack.
#[inline(always)]
pub fn write(answer: &mut Answer, segment: &Segment, is_unfinished: bool) -> u32 {
    answer.headers = [0; HEADER_WORDS];
    match segment.src.family() {
        Family::Ipv4 => {
            let len = put_tcp::<5>(answer, segment, is_unfinished);
            put_ipv4(answer, segment, len);
            Ipv4::LEN + len
        }
        Family::Ipv6 => {
            let len = put_tcp::<10>(answer, segment, is_unfinished);
            put_ipv6(answer, segment, len);
            Ipv6::LEN + len
        }
    }
}

/// Writes the TCP header behind an IP header of `AT` words; gives its length.
#[inline(always)]
fn put_tcp<const AT: usize>(answer: &mut Answer, segment: &Segment, is_unfinished: bool) -> u32 {
    let words = put_options::<AT>(answer, &segment.options);
    let len = words * 4;
    let tcp = Tcp {
        sport: segment.sport.to_be(),
        dport: segment.dport.to_be(),
        seq: segment.seq.to_be(),
        ack: segment.ack.to_be(),
        data_offset: (words << 4) as u8,
        flags: segment.flags,
        window: segment.window.to_be(),
        checksum: 0,
        urgent: 0,
    };
    let fixed: [u32; 5] = bytemuck::cast(tcp);
    put(answer, AT, fixed);
    let pseudo = Sum::pseudo_header(segment.src, segment.dst, protocol::TCP, len);
    let all = answer.headers.iter().skip(AT).take(TCP_WORDS);
    let checksum = match is_unfinished {
        true => pseudo.folded(),
        false => all.fold(pseudo, |sum, word| sum.double_word(*word)).finish(),
    };
    let fixed: [u32; 5] = bytemuck::cast(Tcp { checksum, ..tcp });
    put(answer, AT, fixed);
    len
}

/// Writes the options behind the fixed header; gives the words of both.
#[inline(always)]
fn put_options<const AT: usize>(answer: &mut Answer, options: &Options) -> u32 {
    const NOTHING: u8 = 1;
    let mut words = 5;
    if options.has(has::MSS) {
        let [high, low] = options.mss.to_be_bytes();
        put_word::<AT>(answer, &mut words, [2, 4, high, low]);
    }
    if options.has(has::TIMESTAMPS) {
        let sack = options.has(has::SACK_PERMITTED);
        let first = if sack { [4, 2] } else { [NOTHING, NOTHING] };
        put_word::<AT>(answer, &mut words, [first[0], first[1], 8, 10]);
        put_word::<AT>(answer, &mut words, options.tsval.to_be_bytes());
        put_word::<AT>(answer, &mut words, options.tsecr.to_be_bytes());
    }
    if options.has(has::SCALE) {
        put_word::<AT>(answer, &mut words, [NOTHING, 3, 3, options.scale]);
    }
    words
}

#[inline(always)]
fn put_word<const AT: usize>(answer: &mut Answer, at: &mut u32, bytes: [u8; 4]) {
    if let Some(place) = answer.headers.get_mut(AT + *at as usize) {
        *place = u32::from_ne_bytes(bytes);
    }
    *at += 1;
}

#[inline(always)]
fn put_ipv4(answer: &mut Answer, segment: &Segment, payload: u32) {
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: segment.tos,
        total_len: ((Ipv4::LEN + payload) as u16).to_be(),
        id: 0,
        fragment: 0x4000u16.to_be(),
        ttl: segment.ttl,
        protocol: protocol::TCP,
        checksum: 0,
        src: segment.src.words[3],
        dst: segment.dst.words[3],
    };
    let words: [u32; 5] = bytemuck::cast(ip);
    ip.checksum = words.iter().fold(Sum::default(), |sum, word| sum.double_word(*word)).finish();
    let words: [u32; 5] = bytemuck::cast(ip);
    put(answer, 0, words);
}

#[inline(always)]
fn put_ipv6(answer: &mut Answer, segment: &Segment, payload: u32) {
    let ip = Ipv6 {
        version_class_label: (0x6000_0000 | u32::from(segment.tos) << 20).to_be(),
        payload_len: (payload as u16).to_be(),
        next_header: protocol::TCP,
        hop_limit: segment.ttl,
        src: segment.src,
        dst: segment.dst,
    };
    let words: [u32; 10] = bytemuck::cast(ip);
    put(answer, 0, words);
}

#[inline(always)]
fn put<const N: usize>(answer: &mut Answer, at: usize, words: [u32; N]) {
    for (place, word) in answer.headers.iter_mut().skip(at).zip(words) {
        *place = word;
    }
}
