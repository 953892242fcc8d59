//! Frames read back into packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Body, ICMP, ICMPV6, Message, Packet, Segment, TCP, UDP, checksum, pseudo_header};

/// A packet that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub packet: Packet,
    /// The transport checksum is right, or as a virtual device leaves it: begun,
    /// with the sum of the pseudo-header alone.
    pub sound: bool,
}

impl Seen {
    /// `None` for what the scenarios do not look at: other protocols, options,
    /// extension headers.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let ip = frame.get(14..)?;
        match u16::from_be_bytes(array(frame, 12)?) {
            0x0800 if ip.first() == Some(&0x45) => {
                let [source, destination] = [12, 16].map(|at| array::<4>(ip, at));
                let [source, destination] = [source?, destination?].map(Ipv4Addr::from);
                let transport = ip.get(20..u16::from_be_bytes(array(ip, 2)?).into())?;
                Self::transport(*ip.get(9)?, [source.into(), destination.into()], transport)
            }
            0x86dd => {
                let [source, destination] = [8, 24].map(|at| array::<16>(ip, at));
                let [source, destination] = [source?, destination?].map(Ipv6Addr::from);
                let length = usize::from(u16::from_be_bytes(array(ip, 4)?));
                let transport = ip.get(40..40 + length)?;
                Self::transport(*ip.get(6)?, [source.into(), destination.into()], transport)
            }
            _ => None,
        }
    }

    fn transport(protocol: u8, ends: [IpAddr; 2], bytes: &[u8]) -> Option<Self> {
        let body = match protocol {
            TCP => Body::Tcp(Segment {
                seq: u32::from_be_bytes(array(bytes, 4)?),
                ack: u32::from_be_bytes(array(bytes, 8)?),
                flags: *bytes.get(13)?,
                payload: bytes.get(usize::from(bytes.get(12)? >> 4) * 4..)?.into(),
            }),
            UDP => Body::Udp(bytes.get(8..)?.into()),
            ICMP | ICMPV6 => Body::Icmp(Message {
                kind: *bytes.first()?,
                code: *bytes.get(1)?,
                rest: u32::from_be_bytes(array(bytes, 4)?),
                payload: bytes.get(8..)?.into(),
            }),
            _ => return None,
        };
        let ports = match body {
            Body::Icmp(_) => [0, 0],
            _ => [u16::from_be_bytes(array(bytes, 0)?), u16::from_be_bytes(array(bytes, 2)?)],
        };
        let pseudo = match protocol {
            ICMP => Vec::new(),
            _ => pseudo_header(protocol, &ends.map(octets).concat(), bytes.len()),
        };
        let begun = match body {
            Body::Tcp(_) => Some(array(bytes, 16)?),
            Body::Udp(_) => Some(array(bytes, 6)?),
            Body::Icmp(_) => None,
        };
        let is_begun = begun.is_some_and(|sum| u16::from_be_bytes(sum) == !checksum(&[&pseudo]));
        let sound = checksum(&[&pseudo, bytes]) == 0 || is_begun;
        let [source, destination] = [0, 1].map(|end| SocketAddr::new(ends[end], ports[end]));
        Some(Self { packet: Packet { source, destination, body }, sound })
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
