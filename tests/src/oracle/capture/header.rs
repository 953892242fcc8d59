//! Reading IP headers of recorded packets.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

/// The packet without padding, when the recording has it whole.
pub(super) fn trimmed(packet: &[u8]) -> Result<&[u8], &'static str> {
    const SHORT: &str = "cut off by the recording";
    let length = match packet.first().ok_or(SHORT)? >> 4 {
        4 => usize::from(half(packet, 2).ok_or(SHORT)?),
        6 => 40 + usize::from(half(packet, 4).ok_or(SHORT)?),
        _ => return Err("neither IPv4 nor IPv6"),
    };
    let shortest = if packet[0] >> 4 == 4 { 20 } else { 40 };
    if length < shortest {
        return Err("with a length that is less than its header's");
    }
    packet.get(..length).ok_or(SHORT)
}

/// Source and destination.
pub(super) fn ends(packet: &[u8]) -> Option<[IpAddr; 2]> {
    match packet.first()? >> 4 {
        4 => Some([v4(packet, 12)?, v4(packet, 16)?]),
        6 => Some([v6(packet, 8)?, v6(packet, 24)?]),
        _ => None,
    }
}

fn v4(packet: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

fn v6(packet: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets).into())
}

/// The transport protocol and where its header begins; of a later fragment there is
/// no header.
pub(super) fn transport(packet: &[u8]) -> Option<(u8, usize)> {
    if packet.first()? >> 4 == 4 {
        let is_first = half(packet, 6)? & 0x1fff == 0;
        return is_first.then_some((*packet.get(9)?, usize::from(packet[0] & 15) * 4));
    }
    let (mut next, mut at) = (*packet.get(6)?, 40);
    loop {
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => 8 * (1 + usize::from(*packet.get(at + 1)?)),
            AUTHENTICATION => 4 * (2 + usize::from(*packet.get(at + 1)?)),
            FRAGMENT if half(packet, at + 2)? & !7 != 0 => return None,
            FRAGMENT => 8,
            _ => return Some((next, at)),
        };
        (next, at) = (*packet.get(at)?, at + length);
    }
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// A piece of a datagram.
#[derive(Debug)]
pub(super) struct Fragment {
    /// What all pieces of one datagram have in common.
    pub(super) identity: Vec<u8>,
    pub(super) bytes: Range<usize>,
}

/// `None` for a whole datagram, and for a fragment behind other extension headers,
/// which is played as it is.
pub(super) fn fragment(packet: &[u8]) -> Option<Fragment> {
    let (identity, start, header) = match packet.first()? >> 4 {
        4 => {
            let place = half(packet, 6)?;
            if place & 0x3fff == 0 {
                return None;
            }
            let identity = [packet.get(12..20)?, packet.get(4..6)?, packet.get(9..10)?].concat();
            (identity, usize::from(place & 0x1fff) * 8, usize::from(packet[0] & 15) * 4)
        }
        6 if packet.get(6) == Some(&FRAGMENT) => {
            let identity = [packet.get(8..40)?, packet.get(44..48)?].concat();
            (identity, usize::from(half(packet, 42)? & !7), 48)
        }
        _ => return None,
    };
    let length = packet.len().checked_sub(header)?;
    Some(Fragment { identity, bytes: start..start + length })
}

pub(super) fn half(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}
