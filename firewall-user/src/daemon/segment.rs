//! A held TCP segment, written anew: other numbers, another payload.

use std::mem::offset_of;

use bytemuck::Zeroable;
use firewall_common::{
    addr::Family,
    checksum::{Sum, is_partial},
    event::Punt,
    flow::protocol,
    headers::{Fragment, Headers},
    packet::Packet,
    wire::{
        Ipv4, Ipv6, Tcp,
        tcp_flag::{ACK, FIN, PSH, URG},
    },
};

/// What every link carries, from the IP header on (RFC 791 section 3.2, RFC 8200 section 5).
const SMALLEST_MTU: [u32; 2] = [576, 1_280];
/// Bytes of the longest packet.
const LONGEST: usize = 65_535;

/// A segment that is whole, and whose checksum is right or left to hardware.
#[derive(Debug)]
pub struct Segment<'f> {
    frame: &'f [u8],
    headers: Headers,
    tcp: Tcp,
    is_partial: bool,
    is_cut_later: bool,
}

/// Where a part of the receiver's stream goes.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    pub seq: u32,
    pub ack: u32,
}

impl<'f> Segment<'f> {
    /// `None` when its receiver would not take it.
    pub fn read(punt: &Punt, frame: &'f [u8]) -> Option<Self> {
        let mut headers = Headers::zeroed();
        headers.parse(frame, punt.l3 != 0).ok()?;
        let is_tcp = headers.tuple.protocol == protocol::TCP;
        if !is_tcp || headers.fragment != Fragment::Whole as u8 || headers.is_damaged != 0 {
            return None;
        }
        let tcp: Tcp = frame.read(headers.l4)?;
        let is_partial = is_partial(&headers, tcp.checksum);
        let is_cut_later = punt.gso_size != 0;
        let segment = Self { frame, headers, tcp, is_partial, is_cut_later };
        let end = headers.payload + headers.payload_len;
        let bytes = frame.get(headers.l4 as usize..end as usize)?;
        (is_partial || segment.sum(bytes).finish() == 0).then_some(segment)
    }

    pub fn payload(&self) -> &'f [u8] {
        let Headers { payload, payload_len, .. } = self.headers;
        &self.frame[payload as usize..(payload + payload_len) as usize]
    }

    /// Its first bytes alone, of which there are more: what follows them, and its end, come
    /// again.
    #[must_use]
    pub const fn up_to(&self, len: usize) -> Self {
        let Self { frame, mut headers, mut tcp, is_partial, is_cut_later } = *self;
        headers.ip_len = headers.ip_len - headers.payload_len + len as u32;
        headers.payload_len = len as u32;
        headers.tcp_flags &= !FIN;
        tcp.flags &= !FIN;
        Self { frame, headers, tcp, is_partial, is_cut_later }
    }

    /// The same in parts of no more bytes, each a segment by itself, with the place of its first
    /// byte.
    pub fn cut(&self, most: usize) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let (seq, ack) = (u32::from_be(self.tcp.seq), self.ack());
        let (payload, most) = (self.payload(), most.max(1));
        payload.chunks(most).enumerate().map(move |(number, part)| {
            let at = number * most;
            let numbers = Numbers { seq: seq.wrapping_add(at as u32), ack };
            let is_last = at + part.len() == payload.len();
            (at, self.frame(numbers, part, is_last, &|edge| edge))
        })
    }

    /// As it stands in the segment: the number that its receiver knows.
    pub const fn ack(&self) -> u32 {
        u32::from_be(self.tcp.ack)
    }

    pub const fn is_last(&self) -> bool {
        self.headers.tcp_flags & FIN != 0
    }

    /// The frames that carry this payload in its place. None is longer than it, but where
    /// every link carries it. `turn` is for numbers that it acknowledges selectively.
    pub fn frames(
        &self,
        numbers: Numbers,
        payload: &[u8],
        turn: impl Fn(u32) -> u32,
    ) -> Vec<Vec<u8>> {
        let head = self.headers.ip_len - self.headers.payload_len;
        let smallest = SMALLEST_MTU[usize::from(self.headers.version == 6)];
        let most = self.headers.ip_len.max(smallest).saturating_sub(head).max(1) as usize;
        let most = if self.is_cut_later { LONGEST - head as usize } else { most };
        if payload.len() <= most {
            return vec![self.frame(numbers, payload, true, &turn)];
        }
        let mut frames = Vec::new();
        let mut seq = numbers.seq;
        let mut parts = payload.chunks(most).peekable();
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            frames.push(self.frame(Numbers { seq, ..numbers }, part, is_last, &turn));
            seq = seq.wrapping_add(part.len() as u32);
        }
        frames
    }

    fn frame(
        &self,
        numbers: Numbers,
        payload: &[u8],
        is_last: bool,
        turn: &impl Fn(u32) -> u32,
    ) -> Vec<u8> {
        let Headers { l3, l4, payload: payload_at, payload_len, ip_len, .. } = self.headers;
        let mut frame = self.frame[..payload_at as usize].to_vec();
        frame.extend(payload);
        let length = ip_len - payload_len + payload.len() as u32;
        write_length(&mut frame, l3 as usize, self.headers.family(), length as u16);
        let flags = match is_last {
            true => self.tcp.flags,
            false => self.tcp.flags & !(FIN | PSH),
        };
        let tcp = Tcp {
            seq: numbers.seq.to_be(),
            ack: numbers.ack.to_be(),
            flags,
            checksum: 0,
            urgent: self.urgent(payload.len()),
            ..self.tcp
        };
        let at = l4 as usize;
        frame[at..at + size_of::<Tcp>()].copy_from_slice(bytemuck::bytes_of(&tcp));
        if flags & ACK != 0 {
            turn_blocks(&mut frame[at + size_of::<Tcp>()..payload_at as usize], turn);
        }
        let checksum = match self.is_partial {
            true => self.sum_of_ends(frame.len() - at).folded(),
            false => self.sum(&frame[at..]).finish(),
        };
        let field = at + offset_of!(Tcp, checksum);
        frame[field..field + 2].copy_from_slice(&checksum.to_ne_bytes());
        frame
    }

    /// Where urgent data ends: as far from the segment's end as it was.
    const fn urgent(&self, len: usize) -> u16 {
        if self.tcp.flags & URG == 0 {
            return self.tcp.urgent;
        }
        let moved = len as i64 - self.headers.payload_len as i64;
        let urgent = u16::from_be(self.tcp.urgent) as i64 + moved;
        if urgent < 0 { 0 } else { (urgent as u16).to_be() }
    }

    fn sum_of_ends(&self, len: usize) -> Sum {
        let tuple = &self.headers.tuple;
        Sum::pseudo_header(tuple.src, tuple.dst, protocol::TCP, len as u32)
    }

    fn sum(&self, bytes: &[u8]) -> Sum {
        bytes.chunks(2).fold(self.sum_of_ends(bytes.len()), |sum, pair| {
            sum.word(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
        })
    }
}

/// Writes how long a packet is, from its IP header on, and the checksum of that.
fn write_length(frame: &mut [u8], l3: usize, family: Family, length: u16) {
    if matches!(family, Family::Ipv6) {
        let at = l3 + offset_of!(Ipv6, payload_len);
        let behind = length - size_of::<Ipv6>() as u16;
        frame[at..at + 2].copy_from_slice(&behind.to_be_bytes());
        return;
    }
    let at = l3 + offset_of!(Ipv4, total_len);
    frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
    let field = l3 + offset_of!(Ipv4, checksum);
    frame[field..field + 2].fill(0);
    let header_len = usize::from(frame[l3] & 15) * 4;
    let header = &frame[l3..l3 + header_len];
    let sum = header
        .chunks_exact(2)
        .fold(Sum::default(), |sum, pair| sum.word(u16::from_ne_bytes([pair[0], pair[1]])));
    frame[field..field + 2].copy_from_slice(&sum.finish().to_ne_bytes());
}

/// Turns the edges of SACK blocks (RFC 2018 section 3) among a header's options.
fn turn_blocks(options: &mut [u8], turn: &impl Fn(u32) -> u32) {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SACK: u8 = 5;
    let mut at = 0;
    while let Some(kind) = options.get(at).copied().filter(|kind| *kind != END) {
        if kind == NOTHING {
            at += 1;
            continue;
        }
        let len = options.get(at + 1).copied().map_or(0, usize::from);
        let Some(body) = options.get_mut(at + 2..at + len) else { return };
        if kind == SACK {
            for edge in body.chunks_exact_mut(4) {
                let number = u32::from_be_bytes([edge[0], edge[1], edge[2], edge[3]]);
                edge.copy_from_slice(&turn(number).to_be_bytes());
            }
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use firewall_common::testing::frame::Frame;

    use super::*;

    const NUMBERS: Numbers = Numbers { seq: 2_000, ack: 7_000 };
    const SACK: [u8; 12] = [1, 1, 5, 10, 0, 0, 0, 100, 0, 0, 0, 200];

    fn frames() -> [Vec<u8>; 2] {
        [("192.0.2.2", "198.51.100.2"), ("2001:db8::2", "2001:db8:1::2")].map(|(src, dst)| {
            let frame = Frame::between(src, dst).tcp_at(4_000, 21, ACK | PSH, 1_000, 5_000);
            frame.tcp_options(&SACK).payload(b"PORT 192,0,2,2,4,1\r\n").build()
        })
    }

    fn punt() -> Punt {
        Punt { l3: 14, ..Punt::default() }
    }

    /// What a receiver would read: numbers, payload and blocks, of a sound frame.
    fn read(frame: &[u8]) -> (u32, u32, Vec<u8>, Vec<u8>) {
        let segment = Segment::read(&punt(), frame).expect("a sound segment");
        let Headers { l4, payload, seq, ack, .. } = segment.headers;
        let options = frame[l4 as usize + 20..payload as usize].to_vec();
        (seq, ack, segment.payload().to_vec(), options)
    }

    #[test]
    fn another_payload_of_any_length_makes_a_sound_segment_in_both_families() {
        for frame in frames() {
            let segment = Segment::read(&punt(), &frame).unwrap();
            for payload in [&b""[..], b"x", b"PORT 198,51,100,1,4,1\r\n", &[b'a'; 400]] {
                let written = segment.frames(NUMBERS, payload, |number| number + 7);
                let [written] = &written[..] else { panic!("{} frames", written.len()) };
                let (seq, ack, read, options) = read(written);
                assert_eq!((seq, ack, &read[..]), (2_000, 7_000, payload));
                assert_eq!((options[7], options[11]), (107, 207));
            }
        }
    }

    #[test]
    fn what_a_link_may_not_carry_is_sent_in_two() {
        for frame in frames() {
            let segment = Segment::read(&punt(), &frame).unwrap();
            let payload = [b'a'; 1_300];
            let written = segment.frames(NUMBERS, &payload, |number| number);
            let parts: Vec<_> = written.iter().map(|frame| read(frame)).collect();
            assert!(parts.len() > 1 && written.iter().all(|it| it.len() <= 14 + 1_280));
            let mut next = NUMBERS.seq;
            for (seq, _, payload, _) in &parts {
                assert_eq!(*seq, next);
                next += payload.len() as u32;
            }
            assert_eq!(next, NUMBERS.seq + 1_300);
        }
    }

    #[test]
    fn the_first_bytes_alone_are_a_sound_segment_without_an_end() {
        for (src, dst) in [("192.0.2.2", "198.51.100.2"), ("2001:db8::2", "2001:db8:1::2")] {
            let frame = Frame::between(src, dst).tcp_at(4_000, 21, ACK | FIN, 1_000, 5_000);
            let frame = frame.payload(b"NOOP\r\nQUIT\r\n").build();
            let segment = Segment::read(&punt(), &frame).unwrap().up_to(6);
            assert!(segment.payload() == b"NOOP\r\n" && !segment.is_last());
            let written = segment.frames(NUMBERS, segment.payload(), |it| it);
            let read = Segment::read(&punt(), &written[0]).unwrap();
            assert!(read.payload() == b"NOOP\r\n" && !read.is_last());
        }
    }

    #[test]
    fn parts_are_sound_segments_and_the_last_one_alone_ends_the_stream() {
        let text: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
        let frame = Frame::between("192.0.2.2", "198.51.100.2")
            .tcp_at(4_000, 21, ACK | FIN | PSH, u32::MAX - 5_000, 5_000)
            .payload(&text)
            .build();
        let whole = Segment::read(&punt(), &frame).unwrap();
        let parts: Vec<_> = whole.cut(4_096).collect();
        assert_eq!(parts.len(), 3);
        let mut joined: Vec<u8> = Vec::new();
        for (number, (at, frame)) in parts.iter().enumerate() {
            let part = Segment::read(&punt(), frame).expect("a sound segment");
            assert_eq!(*at, joined.len());
            let seq = (u32::MAX - 5_000).wrapping_add(*at as u32);
            assert_eq!((part.headers.seq, part.ack()), (seq, 5_000));
            assert_eq!(part.is_last(), number == 2);
            assert!(part.payload().len() <= 4_096);
            joined.extend(part.payload());
        }
        assert_eq!(joined, text);
    }

    #[test]
    fn damaged_segments_are_none() {
        for mut frame in frames() {
            *frame.last_mut().unwrap() ^= 1;
            assert!(Segment::read(&punt(), &frame).is_none());
        }
    }

    #[test]
    fn a_sum_that_is_left_to_hardware_stays_so() {
        for mut frame in frames() {
            let mut headers = Headers::zeroed();
            headers.parse(&frame[..], true).unwrap();
            let len = frame.len() as u32 - headers.l4;
            let Headers { tuple, l4, .. } = headers;
            let sum = Sum::pseudo_header(tuple.src, tuple.dst, protocol::TCP, len).folded();
            let at = l4 as usize + offset_of!(Tcp, checksum);
            frame[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
            let segment = Segment::read(&punt(), &frame).unwrap();
            assert!(segment.is_partial);
            let written = segment.frames(NUMBERS, b"a longer payload than before", |it| it);
            assert!(Segment::read(&punt(), &written[0]).unwrap().is_partial);
        }
    }
}
