//! What came out of a gateway, as far as two gateways must agree about it.

use std::{fmt, net::IpAddr};

use super::faces::Ends;
use crate::{
    oracle::{
        frame::tag as tag_of,
        rulebook::{Draft, protocol},
    },
    wire::End,
};

/// A packet at one of the ends.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) end: End,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hops: u8,
    length: usize,
    content: Content,
    /// All of it.
    bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Tcp { ports: [u16; 2], flags: u8, seq: u32, ack: u32 },
    Udp { ports: [u16; 2] },
    Icmp { kind: u8, code: u8, id: u16, quoted: Option<(u8, IpAddr, IpAddr)> },
    Other,
}

impl Arrival {
    /// Reads a packet from its IP header on. `None` for what hosts tell routers and
    /// neighbours unasked, and for what is no packet.
    pub(super) fn read(end: End, packet: &[u8]) -> Option<Self> {
        let (protocol, source, destination, rest) = header(packet)?;
        if destination.is_multicast() {
            return None;
        }
        let hops = if source.is_ipv4() { packet[8] } else { packet[7] };
        let content = content(protocol, rest)?;
        let (length, bytes) = (packet.len(), packet.to_vec());
        Some(Self { end, source, destination, protocol, hops, length, content, bytes })
    }

    /// Whether this is the packet that was sent, as far as its addresses tell.
    pub(super) fn is(&self, sent: &Draft) -> bool {
        (self.source, self.destination) == (sent.source, sent.destination)
    }

    /// Whether this is the packet that was sent with this tag, whatever a gateway has made of
    /// its ends. The tag of an answer may be the same.
    pub(super) fn carries(&self, tag: u32, sent: &Draft) -> bool {
        tag_of(&self.bytes) == Some(tag) && self.destination != sent.source
    }

    pub(super) const fn ends(&self) -> Ends {
        let ports = match self.content {
            Content::Tcp { ports, .. } | Content::Udp { ports } => ports,
            Content::Icmp { id, .. } => [id; 2],
            Content::Other => [0; 2],
        };
        Ends { addresses: [self.source, self.destination], ports }
    }

    /// The same without a source port that the gateway has chosen: which one is its own
    /// affair, and with it the checksum.
    pub(super) fn without_free_port(mut self, sent: &Draft) -> Self {
        let [sent, _] = Ends::of(sent).ports;
        let free = match &mut self.content {
            Content::Tcp { ports: [free, _], .. }
            | Content::Udp { ports: [free, _] }
            | Content::Icmp { id: free, .. } => free,
            Content::Other => return self,
        };
        if *free != sent {
            *free = 0;
            self.bytes.clear();
        }
        self
    }

    /// The number that the sender of a SYN/ACK chose.
    pub(super) const fn chosen_number(&self) -> Option<u32> {
        match self.content {
            Content::Tcp { flags, seq, .. } if flags & 0x12 == 0x12 => Some(seq),
            _ => None,
        }
    }

    /// The same without what gateways may do in different ways when they answer a
    /// packet: all that is not told in words, and the length of what an error quotes.
    pub(super) fn told_in_words(mut self) -> Self {
        self.bytes.clear();
        if let Content::Icmp { quoted: Some(_), .. } = self.content {
            self.length = 0;
        }
        self
    }

    /// The same without numbers that the gateway chooses, or that answer those.
    pub(super) fn without_numbers(mut self) -> Self {
        if let Content::Tcp { seq, ack, .. } = &mut self.content {
            (*seq, *ack) = (0, 0);
        }
        self
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { end, source, destination, protocol, hops, length, content, bytes } = self;
        write!(
            formatter,
            "at the {end:?}: {source} > {destination} protocol {protocol} hops {hops} \
             length {length} {content:?} {bytes:02x?}"
        )
    }
}

/// Protocol, addresses, and what stands behind the header.
fn header(packet: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    let v4 = |at| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let v6 = |at| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    match packet.first()? >> 4 {
        4 => {
            let rest = packet.get(usize::from(packet[0] & 15) * 4..)?;
            Some((*packet.get(9)?, v4(12)?, v4(16)?, rest))
        }
        6 => Some((*packet.get(6)?, v6(8)?, v6(24)?, packet.get(40..)?)),
        _ => None,
    }
}

fn content(number: u8, bytes: &[u8]) -> Option<Content> {
    let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some(match number {
        protocol::TCP => Content::Tcp {
            ports: [half(0)?, half(2)?],
            flags: *bytes.get(13)?,
            seq: word(4)?,
            ack: word(8)?,
        },
        protocol::UDP => Content::Udp { ports: [half(0)?, half(2)?] },
        protocol::ICMP | protocol::ICMPV6 => {
            let quoted = bytes.get(8..).and_then(header);
            let quoted =
                quoted.map(|(number, source, destination, _)| (number, source, destination));
            Content::Icmp { kind: *bytes.first()?, code: *bytes.get(1)?, id: half(4)?, quoted }
        }
        _ => Content::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::rulebook;

    fn packet(ports: [u16; 2]) -> Vec<u8> {
        let draft = Draft {
            source: "192.0.2.1".parse().unwrap(),
            destination: "198.51.100.1".parse().unwrap(),
            hops: 64,
            tos: 0,
            extensions: Vec::new(),
            content: rulebook::Content::Udp { ports, payload: 4 },
        };
        draft.bytes(1)
    }

    #[test]
    fn packets_to_other_ports_are_told_apart() {
        let [one, other] = [80, 81].map(|port| Arrival::read(End::Client, &packet([1, port])));
        assert!(one.is_some() && one != other);
        assert_eq!(one, Arrival::read(End::Client, &packet([1, 80])));
        assert_ne!(one, Arrival::read(End::Server, &packet([1, 80])));
    }
}
