//! A packet in words, and its bytes.

use std::net::IpAddr;

use crate::{
    oracle::frame::set_tag,
    packet::wire::{checksum, ipv4, ipv6, pseudo_header, short},
};

pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const GRE: u8 = 47;
    pub const ICMPV6: u8 = 58;
    pub const UDPLITE: u8 = 136;
}

/// Flags of TCP.
pub mod flag {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub hops: u8,
    /// The second byte of the IPv4 header, the traffic class of IPv6.
    pub tos: u8,
    /// Numbers of the extension headers of IPv6 before the content, in their order.
    pub extensions: Vec<u8>,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Tcp {
        ports: [u16; 2],
        flags: u8,
        seq: u32,
        ack: u32,
        options: &'static [u8],
        payload: usize,
    },
    Udp {
        ports: [u16; 2],
        payload: usize,
    },
    /// A message of ICMP or ICMPv6, as the addresses are.
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
        payload: Vec<u8>,
    },
    Other {
        protocol: u8,
        payload: usize,
    },
}

impl Draft {
    /// What the other end sends back, with this content.
    pub fn back(&self, content: Content) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            hops: 64,
            tos: 0,
            extensions: Vec::new(),
            content,
        }
    }

    pub const fn protocol(&self) -> u8 {
        match self.content {
            Content::Tcp { .. } => protocol::TCP,
            Content::Udp { .. } => protocol::UDP,
            Content::Icmp { .. } if self.source.is_ipv4() => protocol::ICMP,
            Content::Icmp { .. } => protocol::ICMPV6,
            Content::Other { protocol, .. } => protocol,
        }
    }

    /// The bytes from the IP header on; the tag is the identification of IPv4, the flow
    /// label of IPv6.
    pub fn bytes(&self, tag: u32) -> Vec<u8> {
        let ends = ends(self.source, self.destination);
        let transport = self.transport(&ends);
        let is_v4 = self.source.is_ipv4();
        let make = if is_v4 { ipv4 } else { ipv6 };
        let extensions = self.extension_headers();
        let first = self.extensions.first().copied().unwrap_or(self.protocol());
        let mut packet = make(first, &ends, extensions.len() + transport.len());
        if is_v4 {
            (packet[1], packet[8]) = (self.tos, self.hops);
            packet[10..12].fill(0);
            let sum = checksum(&[&packet]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            packet[0] |= self.tos >> 4;
            (packet[1], packet[7]) = (self.tos << 4, self.hops);
        }
        packet.extend(extensions);
        packet.extend(transport);
        set_tag(&mut packet, tag);
        packet
    }

    /// Each of eight bytes: options that are padding, or a route that is at its end.
    fn extension_headers(&self) -> Vec<u8> {
        let behind = self.extensions.iter().skip(1).copied().chain([self.protocol()]);
        let header = |(number, next): (&u8, u8)| match *number {
            protocol::ROUTING => [next, 0, 4, 0, 0, 0, 0, 0],
            _ => [next, 0, 1, 4, 0, 0, 0, 0],
        };
        self.extensions.iter().zip(behind).flat_map(header).collect()
    }

    fn transport(&self, ends: &[u8]) -> Vec<u8> {
        let (mut bytes, sum_at) = match &self.content {
            Content::Tcp { ports, flags, seq, ack, options, payload } => {
                let words = 5 + options.len() as u8 / 4;
                let head = [words << 4, *flags, 0x80, 0, 0, 0, 0, 0];
                let numbers = [seq.to_be_bytes(), ack.to_be_bytes()].concat();
                ([&both(*ports)[..], &numbers, &head, options, &filling(*payload)].concat(), 16)
            }
            Content::Udp { ports, payload } => {
                let length = short(8 + payload).to_be_bytes();
                ([&both(*ports)[..], &length, &[0, 0], &filling(*payload)].concat(), 6)
            }
            Content::Icmp { kind, code, rest, payload } => {
                ([&[*kind, *code, 0, 0][..], rest, payload].concat(), 2)
            }
            Content::Other { payload, .. } => return vec![0; *payload],
        };
        let pseudo = match self.protocol() {
            protocol::ICMP => Vec::new(),
            number => pseudo_header(number, ends, bytes.len()),
        };
        let sum = match checksum(&[&pseudo, &bytes]) {
            0 if self.protocol() == protocol::UDP => 0xffff,
            sum => sum,
        };
        bytes[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

fn both(ports: [u16; 2]) -> [u8; 4] {
    let [[a, b], [c, d]] = ports.map(u16::to_be_bytes);
    [a, b, c, d]
}

fn filling(length: usize) -> Vec<u8> {
    vec![b'.'; length]
}

/// Source and destination, as they stand in a header.
fn ends(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    [octets(source), octets(destination)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_becomes_a_packet_with_right_sums() {
        let draft = Draft {
            source: "192.0.2.1".parse().unwrap(),
            destination: "198.51.100.1".parse().unwrap(),
            hops: 7,
            tos: 0x10,
            extensions: Vec::new(),
            content: Content::Udp { ports: [1024, 53], payload: 3 },
        };
        let packet = draft.bytes(77);
        assert_eq!(packet.len(), 31);
        assert_eq!((packet[1], packet[8], packet[9]), (0x10, 7, protocol::UDP));
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let pseudo = pseudo_header(protocol::UDP, &packet[12..20], 11);
        assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
        let (source, destination) = ("2001:db8::1", "2001:db8::2");
        let [source, destination] = [source, destination].map(|it| it.parse().unwrap());
        let behind = Draft { source, destination, extensions: vec![0, 60], ..draft.clone() };
        let packet = behind.bytes(77);
        assert_eq!(packet.len(), 40 + 16 + 11);
        assert_eq!((packet[6], packet[40], packet[48]), (0, 60, protocol::UDP));
        assert_eq!(draft.back(draft.content.clone()).source, draft.destination);
    }
}
