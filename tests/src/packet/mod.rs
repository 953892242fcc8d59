//! Packets built by hand: IPv4 and IPv6 with TCP, UDP or ICMP, checksums right.

mod fragment;
mod seen;
pub(crate) mod wire;

use std::net::{IpAddr, SocketAddr};

pub use seen::Seen;
use wire::{checksum, ipv4, ipv6, pseudo_header, short};

/// Bits of [`Segment::flags`].
pub mod flag {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
    pub const URG: u8 = 32;
    pub const ECE: u8 = 64;
    pub const CWR: u8 = 128;
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// An IP packet; the ports of an ICMP message are unused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Tcp(Segment),
    Udp(Vec<u8>),
    Icmp(Message),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub payload: Vec<u8>,
}

/// An ICMP message of either version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub code: u8,
    /// The second word of the header: identifier and number, or the MTU.
    pub rest: u32,
    pub payload: Vec<u8>,
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    PortUnreachable,
    /// Fragmentation needed (IPv4), packet too big (IPv6).
    TooBig {
        mtu: u16,
    },
}

impl Packet {
    pub fn tcp(source: SocketAddr, destination: SocketAddr, segment: Segment) -> Self {
        Self { source, destination, body: Body::Tcp(segment) }
    }

    /// The first segment of a connection.
    pub fn syn(source: SocketAddr, destination: SocketAddr) -> Self {
        let segment = Segment { flags: flag::SYN, seq: 1000, ..Segment::default() };
        Self::tcp(source, destination, segment)
    }

    pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Self {
        Self { source, destination, body: Body::Udp(payload.into()) }
    }

    /// An echo request.
    pub fn ping(source: IpAddr, destination: IpAddr, identifier: u16) -> Self {
        let kind = if source.is_ipv4() { 8 } else { 128 };
        let rest = u32::from(identifier) << 16 | 1;
        let message = Message { kind, code: 0, rest, payload: b"ping".into() };
        Self::icmp(source, destination, message)
    }

    /// The answer to an echo request, from whom it was sent to.
    pub fn pong(&self) -> Self {
        let Body::Icmp(asked) = &self.body else { panic!("{self:?} is no echo request") };
        let kind = if self.source.is_ipv4() { 0 } else { 129 };
        let message = Message { kind, ..asked.clone() };
        Self::icmp(self.destination.ip(), self.source.ip(), message)
    }

    /// What `from` reports to the sender about this packet.
    pub fn error(&self, from: IpAddr, error: IcmpError) -> Self {
        let (kind, code, rest) = match (error, self.source.is_ipv4()) {
            (IcmpError::PortUnreachable, true) => (3, 3, 0),
            (IcmpError::PortUnreachable, false) => (1, 4, 0),
            (IcmpError::TooBig { mtu }, true) => (3, 4, mtu.into()),
            (IcmpError::TooBig { mtu }, false) => (2, 0, mtu.into()),
        };
        let mut payload = self.ip();
        payload.truncate(if self.source.is_ipv4() { 28 } else { 1232 });
        Self::icmp(from, self.source.ip(), Message { kind, code, rest, payload })
    }

    fn icmp(source: IpAddr, destination: IpAddr, message: Message) -> Self {
        let [source, destination] = [source, destination].map(|ip| SocketAddr::new(ip, 0));
        Self { source, destination, body: Body::Icmp(message) }
    }

    /// The bytes of an Ethernet frame.
    pub fn frame(&self, source: [u8; 6], destination: [u8; 6]) -> Vec<u8> {
        let kind: u16 = if self.source.is_ipv4() { 0x0800 } else { 0x86dd };
        [&destination[..], &source, &kind.to_be_bytes(), &self.ip()].concat()
    }

    /// The bytes from the IP header on.
    pub fn ip(&self) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let ends = [source.octets(), destination.octets()].concat();
                let transport = self.transport(&ends);
                [ipv4(self.protocol(), &ends, transport.len()), transport].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let ends = [source.octets(), destination.octets()].concat();
                let transport = self.transport(&ends);
                [ipv6(self.protocol(), &ends, transport.len()), transport].concat()
            }
            _ => panic!("a packet between IPv4 and IPv6"),
        }
    }

    fn protocol(&self) -> u8 {
        match self.body {
            Body::Tcp(_) => TCP,
            Body::Udp(_) => UDP,
            Body::Icmp(_) if self.source.is_ipv4() => ICMP,
            Body::Icmp(_) => ICMPV6,
        }
    }

    /// The transport header and payload, between the addresses `ends`.
    fn transport(&self, ends: &[u8]) -> Vec<u8> {
        let ports = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()];
        let ports = ports.concat();
        let (mut bytes, checksum_at) = match &self.body {
            Body::Tcp(segment) => (tcp(&ports, segment), 16),
            Body::Udp(payload) => (udp(&ports, payload), 6),
            Body::Icmp(message) => (icmp(message), 2),
        };
        let pseudo = match self.protocol() {
            ICMP => Vec::new(),
            protocol => pseudo_header(protocol, ends, bytes.len()),
        };
        let sum = checksum(&[&pseudo, &bytes]);
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

fn tcp(ports: &[u8], segment: &Segment) -> Vec<u8> {
    let numbers = [segment.seq.to_be_bytes(), segment.ack.to_be_bytes()].concat();
    let [window_high, window_low] = 32_768u16.to_be_bytes();
    let tail = [5 << 4, segment.flags, window_high, window_low, 0, 0, 0, 0];
    [ports, &numbers, &tail, &segment.payload].concat()
}

fn udp(ports: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = short(8 + payload.len());
    [ports, &length.to_be_bytes(), &[0, 0], payload].concat()
}

fn icmp(message: &Message) -> Vec<u8> {
    let head = [message.kind, message.code, 0, 0];
    [&head[..], &message.rest.to_be_bytes(), &message.payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_packet_that_was_built_is_read_back_with_right_checksums() {
        let ends =
            [("192.0.2.2:1025", "198.51.100.2:21"), ("[2001:db8:1::2]:1025", "[2001:db8:2::2]:21")];
        for (source, destination) in ends {
            let segment = Segment {
                flags: flag::PSH | flag::ACK,
                seq: 7,
                ack: 9,
                payload: b"NOOP\r\n!".into(),
            };
            let packet = Packet::tcp(address(source), address(destination), segment);
            let seen = Seen::read(&packet.frame([2; 6], [4; 6])).unwrap();
            assert_eq!(seen.packet, packet);
            assert!(seen.sound);
        }
    }

    #[test]
    fn an_error_quotes_the_packet() {
        let packet = Packet::udp(address("192.0.2.2:1025"), address("198.51.100.2:53"), b"?");
        let error = packet.error("198.51.100.2".parse().unwrap(), IcmpError::PortUnreachable);
        let Body::Icmp(message) = &error.body else { panic!("not ICMP") };
        assert_eq!(message.payload, packet.ip()[..28]);
        assert_eq!(error.destination.ip(), packet.source.ip());
    }
}
