//! A frame without addresses, and its bytes once a place is chosen.

use std::{net::SocketAddr, ops::Range};

use super::{
    Place,
    options::{self, TcpOption},
};
use crate::{
    Family,
    packet::wire::{checksum, ipv4, ipv6, pseudo_header, short},
    wire::End,
};

/// What one end sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub from: End,
    /// Which of the script's flows: it is added to the client's port.
    pub flow: u16,
    pub content: Content,
    pub checksum: Checksum,
    /// Only this piece of it is sent.
    pub piece: Option<Piece>,
    /// Of the IPv4 header, whole words.
    pub ip_options: &'static [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Right,
    Wrong,
    /// UDP: not computed.
    Absent,
    /// That of the IPv4 header is wrong, the other one right.
    WrongInHeader,
}

/// A fragment: these bytes of the transport header and payload, of the script's
/// datagram with this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub datagram: u16,
    pub bytes: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Tcp(Segment),
    Udp {
        payload: usize,
    },
    /// A message of ICMP or ICMPv6, as the family is.
    Icmp(Message),
    Error(Report),
    /// Another protocol by its number: everything behind the IP header.
    Other {
        protocol: u8,
        bytes: Vec<u8>,
    },
    /// A whole IP packet with addresses of its own.
    Raw(Vec<u8>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub options: Vec<TcpOption>,
    pub payload: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub code: u8,
    pub rest: u32,
    pub payload: Vec<u8>,
}

/// An ICMP error about a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub kind: u8,
    pub code: u8,
    pub rest: u32,
    pub about: Box<Frame>,
    /// How many bytes behind the quoted IP header.
    pub quote: usize,
    pub by: Reporter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporter {
    /// The end that sends the report.
    End,
    /// A router beside it.
    Router,
    /// The sender of the frame is not told, but this stranger of the same side.
    ToStranger,
}

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

impl Frame {
    pub const fn new(from: End, content: Content) -> Self {
        Self { from, flow: 0, content, checksum: Checksum::Right, piece: None, ip_options: &[] }
    }

    /// The bytes from the IP header on. The tag is the IPv4 identification, or the
    /// IPv6 flow label; `datagram` identifies a fragment's whole.
    pub fn ip(&self, place: &Place, tag: u32, datagram: u32) -> Vec<u8> {
        if let Content::Raw(bytes) = &self.content {
            return self.raw(bytes, tag, datagram);
        }
        let source = place.endpoint(self.from, self.flow);
        let destination = place.endpoint(self.from.other(), self.flow);
        let (source, destination) = self.ends(place, source, destination);
        let ends = ends(source, destination);
        let transport = self.transport(place, source.port(), destination.port(), &ends);
        let protocol = self.protocol(place.family());
        let mut packet = match &self.piece {
            None => whole(place.family(), protocol, &ends, &transport),
            Some(piece) => fragment(place.family(), protocol, &ends, &transport, piece, datagram),
        };
        let tag = if self.piece.is_some() && place.family() == Family::V4 { datagram } else { tag };
        if place.family() == Family::V4 && !self.ip_options.is_empty() {
            insert_options(&mut packet, self.ip_options);
        }
        set_tag(&mut packet, tag);
        if self.checksum == Checksum::WrongInHeader && place.family() == Family::V4 {
            packet[10] ^= 0x55;
        }
        packet
    }

    /// A packet as it is, but for what tells it from others.
    fn raw(&self, packet: &[u8], tag: u32, datagram: u32) -> Vec<u8> {
        let mut packet = packet.to_vec();
        let is_v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
        if self.piece.is_some() && !is_v4 {
            packet[44..48].copy_from_slice(&datagram.to_be_bytes());
        }
        set_tag(&mut packet, if self.piece.is_some() { datagram } else { tag });
        packet
    }

    fn ends(
        &self,
        place: &Place,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> (SocketAddr, SocketAddr) {
        match &self.content {
            Content::Error(Report { by: Reporter::Router, .. }) => {
                (SocketAddr::new(place.router(self.from), 0), destination)
            }
            Content::Error(Report { by: Reporter::ToStranger, .. }) => {
                (source, SocketAddr::new(place.router(self.from.other()), 0))
            }
            _ => (source, destination),
        }
    }

    /// `client` or `server`.
    pub const fn sender(&self) -> &'static str {
        match self.from {
            End::Client => "client",
            End::Server => "server",
        }
    }

    pub fn protocol(&self, family: Family) -> u8 {
        match (&self.content, family) {
            (Content::Tcp(_), _) => TCP,
            (Content::Udp { .. }, _) => UDP,
            (Content::Icmp(_) | Content::Error(_), Family::V4) => ICMP,
            (Content::Icmp(_) | Content::Error(_), Family::V6) => ICMPV6,
            (Content::Other { protocol, .. }, _) => *protocol,
            (Content::Raw(bytes), Family::V4) => bytes.get(9).copied().unwrap_or(0),
            (Content::Raw(bytes), Family::V6) => bytes.get(6).copied().unwrap_or(0),
        }
    }

    /// How many bytes stand behind the IP header when it is not cut.
    pub fn transport_len(&self, place: &Place) -> usize {
        self.transport(place, 0, 0, &[0; 32]).len()
    }

    fn transport(&self, place: &Place, sport: u16, dport: u16, ends: &[u8]) -> Vec<u8> {
        let (mut bytes, place_of_sum) = match &self.content {
            Content::Tcp(segment) => (segment.bytes(sport, dport), 16),
            Content::Udp { payload } => (udp(sport, dport, *payload), 6),
            Content::Icmp(message) => (message.bytes(), 2),
            Content::Error(report) => (report.message(place).bytes(), 2),
            Content::Other { bytes, .. } => return bytes.clone(),
            Content::Raw(_) => return Vec::new(),
        };
        let protocol = self.protocol(place.family());
        let pseudo = match protocol {
            ICMP => Vec::new(),
            protocol => pseudo_header(protocol, ends, bytes.len()),
        };
        let sum = match self.checksum {
            Checksum::Right | Checksum::WrongInHeader => match checksum(&[&pseudo, &bytes]) {
                0 if protocol == UDP => 0xffff,
                sum => sum,
            },
            Checksum::Wrong => checksum(&[&pseudo, &bytes]) ^ 0x5555,
            Checksum::Absent => 0,
        };
        bytes[place_of_sum..place_of_sum + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

impl Segment {
    fn bytes(&self, sport: u16, dport: u16) -> Vec<u8> {
        let options = options::encode(&self.options);
        let words = 5 + options.len() as u8 / 4;
        let mut bytes = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([words << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(payload(self.payload));
        bytes
    }
}

impl Message {
    fn bytes(&self) -> Vec<u8> {
        let head = [self.kind, self.code, 0, 0];
        [&head[..], &self.rest.to_be_bytes(), &self.payload].concat()
    }
}

impl Report {
    fn message(&self, place: &Place) -> Message {
        let header = if place.family() == Family::V4 { 20 } else { 40 };
        let mut payload = self.about.ip(place, 1, 1);
        payload.truncate(header + self.quote);
        Message { kind: self.kind, code: self.code, rest: self.rest, payload }
    }
}

fn udp(sport: u16, dport: u16, length: usize) -> Vec<u8> {
    let mut bytes = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    bytes.extend(short(8 + length).to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(payload(length));
    bytes
}

fn payload(length: usize) -> impl Iterator<Item = u8> {
    (0..length).map(|at| b'a' + (at % 26) as u8)
}

/// Source and destination, as they stand in a header.
fn ends(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            [source.ip().octets(), destination.ip().octets()].concat()
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            [source.ip().octets(), destination.ip().octets()].concat()
        }
        _ => panic!("a place in two families"),
    }
}

fn whole(family: Family, protocol: u8, ends: &[u8], transport: &[u8]) -> Vec<u8> {
    let header = match family {
        Family::V4 => ipv4(protocol, ends, transport.len()),
        Family::V6 => ipv6(protocol, ends, transport.len()),
    };
    [&header, transport].concat()
}

/// RFC 791 section 3.2, RFC 8200 section 4.5. What reaches behind the end of the
/// datagram is filled up.
fn fragment(
    family: Family,
    protocol: u8,
    ends: &[u8],
    transport: &[u8],
    piece: &Piece,
    datagram: u32,
) -> Vec<u8> {
    let Range { start, end } = piece.bytes.clone();
    assert!(start.is_multiple_of(8), "a fragment at {start}");
    let is_last = end >= transport.len();
    let bytes: Vec<_> = (start..end).map(|at| transport.get(at).copied().unwrap_or(b'.')).collect();
    match family {
        Family::V4 => {
            let mut header = ipv4(protocol, ends, bytes.len());
            let place = short(start / 8) | (u16::from(!is_last) << 13);
            header[6..8].copy_from_slice(&place.to_be_bytes());
            header[10..12].fill(0);
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [header, bytes].concat()
        }
        Family::V6 => {
            let place = (short(start) | u16::from(!is_last)).to_be_bytes();
            let header = ipv6(FRAGMENT_HEADER, ends, 8 + bytes.len());
            let extension = [&[protocol, 0][..], &place, &datagram.to_be_bytes()].concat();
            [header, extension, bytes].concat()
        }
    }
}

const FRAGMENT_HEADER: u8 = 44;

/// Puts options behind the fixed part of an IPv4 header.
fn insert_options(packet: &mut Vec<u8>, options: &[u8]) {
    packet.splice(20..20, options.iter().copied());
    packet[0] += (options.len() / 4) as u8;
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum(&[&packet[..20 + options.len()]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Writes the IPv4 identification, the header's checksum staying as right or wrong
/// as it was, or the IPv6 flow label.
pub fn set_tag(packet: &mut [u8], tag: u32) {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 20 => {
            let before = u16::from_be_bytes([packet[4], packet[5]]);
            let sum = u16::from_be_bytes([packet[10], packet[11]]);
            let tag = tag as u16;
            packet[4..6].copy_from_slice(&tag.to_be_bytes());
            packet[10..12].copy_from_slice(&adjusted(sum, before, tag).to_be_bytes());
        }
        Some(6) if packet.len() >= 40 => {
            let [_, high, middle, low] = (tag & 0xf_ffff).to_be_bytes();
            packet[1] = (packet[1] & 0xf0) | high;
            packet[2..4].copy_from_slice(&[middle, low]);
        }
        _ => {}
    }
}

/// The tag of a packet, 20 bits; of IPv4 only 16.
pub fn tag(packet: &[u8]) -> Option<u32> {
    match packet.first()? >> 4 {
        4 => Some(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?).into()),
        6 => Some(u32::from_be_bytes(packet.get(..4)?.try_into().ok()?) & 0xf_ffff),
        _ => None,
    }
}

/// A checksum after one of the words that it covers has changed (RFC 1624).
pub fn adjusted(sum: u16, before: u16, after: u16) -> u16 {
    let mut new = u32::from(!sum) + u32::from(!before) + u32::from(after);
    while new > 0xffff {
        new = (new & 0xffff) + (new >> 16);
    }
    !(new as u16)
}
