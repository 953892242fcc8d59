//! Other addresses for recorded packets, and for the packets that they quote.

use std::{collections::HashMap, net::IpAddr};

use super::header::{self, half};
use crate::{
    Family,
    oracle::{
        frame::{ICMP, ICMPV6, TCP, UDP, adjusted},
        place::{self, Place},
    },
    wire::End,
};

/// Of two hosts the first one heard is the client.
#[derive(Debug, Default)]
pub(super) struct Readdress {
    pairs: HashMap<[IpAddr; 2], Pair>,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    number: u16,
    client: IpAddr,
}

impl Readdress {
    /// The packet with its new addresses, and the new source.
    pub(super) fn packet(&mut self, packet: &[u8]) -> Result<(Vec<u8>, IpAddr), &'static str> {
        const SHORT: &str = "without a whole IP header";
        let [source, destination] = header::ends(packet).ok_or(SHORT)?;
        let mut packet = packet.to_vec();
        let mapped = match quoted_place(&packet) {
            Some(at) => self.quoting(&mut packet, at, source)?,
            None => self.talking(source, destination)?,
        };
        change_ends(&mut packet, mapped);
        live_on(&mut packet);
        Ok((packet, mapped[0]))
    }

    fn talking(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
    ) -> Result<[IpAddr; 2], &'static str> {
        let pair = self.pair(source, destination)?;
        Ok([pair.address(source), pair.address(destination)])
    }

    /// An error belongs to the packet that it quotes: it goes to that one's source,
    /// and comes from its destination or from a router before it.
    fn quoting(
        &mut self,
        packet: &mut [u8],
        at: usize,
        reporter: IpAddr,
    ) -> Result<[IpAddr; 2], &'static str> {
        let quoted = &mut packet[at..];
        let [source, destination] =
            header::ends(quoted).ok_or("an ICMP error that quotes no addresses")?;
        let pair = self.pair(source, destination)?;
        let ends = [pair.address(source), pair.address(destination)];
        let before = quoted.to_vec();
        change_ends(quoted, ends);
        let after = quoted.to_vec();
        keep_sum(packet, at, &before, &after);
        let from = if reporter == destination { ends[1] } else { router(ends[1]) };
        Ok([from, ends[0]])
    }

    fn pair(&mut self, source: IpAddr, destination: IpAddr) -> Result<Pair, &'static str> {
        let key = [source.min(destination), source.max(destination)];
        let number = self.pairs.len() as u16;
        if number >= Place::COUNT && !self.pairs.contains_key(&key) {
            return Err("of more hosts than the bench has places for");
        }
        Ok(*self.pairs.entry(key).or_insert(Pair { number, client: source }))
    }
}

impl Pair {
    fn address(self, host: IpAddr) -> IpAddr {
        let end = if host == self.client { End::Client } else { End::Server };
        place::address(end, family(host), self.number)
    }
}

const fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// The router at the side of an address.
fn router(address: IpAddr) -> IpAddr {
    let end = place::end(address).unwrap_or(End::Server);
    Place::numbered(family(address), 0).router(end)
}

/// Where the packet begins that an ICMP error quotes.
fn quoted_place(packet: &[u8]) -> Option<usize> {
    let (protocol, at) = header::transport(packet)?;
    let kind = *packet.get(at)?;
    let is_error = match protocol {
        ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        ICMPV6 => kind < 128,
        _ => false,
    };
    let quoted = packet.get(at + 8..)?;
    let same_version = quoted.first()? >> 4 == packet[0] >> 4;
    (is_error && same_version).then_some(at + 8)
}

/// Writes other addresses; checksums stay as right or wrong as they were. That of a
/// transport header which is cut off is left out.
fn change_ends(packet: &mut [u8], ends: [IpAddr; 2]) {
    let before = packet.to_vec();
    let (at, new) = match ends {
        [IpAddr::V4(source), IpAddr::V4(destination)] => {
            (12, [source.octets(), destination.octets()].concat())
        }
        [IpAddr::V6(source), IpAddr::V6(destination)] => {
            (8, [source.octets(), destination.octets()].concat())
        }
        _ => return,
    };
    let place = at..at + new.len();
    packet[place.clone()].copy_from_slice(&new);
    let changed = |sum: u16| changed_sum(sum, &before[place.clone()], &new);
    if at == 12
        && let Some(sum) = half(packet, 10)
    {
        write(packet, 10, changed(sum));
    }
    let Some((protocol, header)) = header::transport(packet) else { return };
    let Some(offset) = sum_in(protocol) else { return };
    match half(packet, header + offset) {
        // Not computed by the sender.
        Some(0) if protocol == UDP => {}
        Some(sum) => write(packet, header + offset, changed(sum)),
        None => {}
    }
}

/// Where the checksum of a protocol stands that covers the addresses.
const fn sum_in(protocol: u8) -> Option<usize> {
    const DCCP: u8 = 33;
    const UDPLITE: u8 = 136;
    match protocol {
        TCP => Some(16),
        UDP | DCCP | UDPLITE => Some(6),
        ICMPV6 => Some(2),
        _ => None,
    }
}

/// The checksum of an ICMP error after its quote has changed.
fn keep_sum(packet: &mut [u8], quote: usize, before: &[u8], after: &[u8]) {
    let at = quote - 8 + 2;
    if let Some(sum) = half(packet, at) {
        write(packet, at, changed_sum(sum, before, after));
    }
}

fn changed_sum(sum: u16, before: &[u8], after: &[u8]) -> u16 {
    let word = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes.get(1).copied().unwrap_or(0)]);
    let words = before.chunks(2).zip(after.chunks(2));
    words.fold(sum, |sum, (before, after)| adjusted(sum, word(before), word(after)))
}

fn write(packet: &mut [u8], at: usize, value: u16) {
    packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Makes sure that the gateway forwards the packet, and takes the DSCP, which the
/// bench needs for itself.
pub(super) fn live_on(packet: &mut [u8]) {
    const HOPS: u8 = 64;
    if packet[0] >> 4 == 4 {
        let before = [half(packet, 0), half(packet, 8)];
        packet[1] &= 3;
        if packet[8] < 2 {
            packet[8] = HOPS;
        }
        let after = [half(packet, 0), half(packet, 8)];
        let Some(mut sum) = half(packet, 10) else { return };
        for (before, after) in before.into_iter().zip(after) {
            sum = adjusted(sum, before.unwrap_or(0), after.unwrap_or(0));
        }
        write(packet, 10, sum);
    } else {
        packet[0] &= 0xf0;
        packet[1] &= 0x3f;
        if packet[7] < 2 {
            packet[7] = HOPS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{IcmpError, Packet, Seen};

    fn read(ip: &[u8]) -> Seen {
        let kind: u16 = if ip[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
        Seen::read(&[&[2; 12][..], &kind.to_be_bytes(), ip].concat()).unwrap()
    }

    fn ends(family: Family) -> [std::net::SocketAddr; 2] {
        let texts = match family {
            Family::V4 => ["203.0.113.9:1025", "10.0.0.1:80"],
            Family::V6 => ["[fd00::9]:1025", "[2001:db8:99::1]:80"],
        };
        texts.map(|text| text.parse().unwrap())
    }

    #[test]
    fn both_directions_come_to_one_place_with_right_checksums() {
        for family in [Family::V4, Family::V6] {
            let [client, server] = ends(family);
            let place = Place::numbered(family, 0);
            let mut readdress = Readdress::default();
            let (there, source) = readdress.packet(&Packet::syn(client, server).ip()).unwrap();
            assert_eq!(source, place.client.ip());
            let there = read(&there);
            assert!(there.sound);
            assert_eq!(there.packet.destination.ip(), place.server.ip());
            assert_eq!(there.packet.destination.port(), 80);
            let (back, source) = readdress.packet(&Packet::udp(server, client, b"!").ip()).unwrap();
            assert_eq!(source, place.server.ip());
            assert!(read(&back).sound);
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let [client, server] = ends(Family::V4);
        let mut packet = Packet::udp(client, server, b"what").ip();
        packet[30] ^= 1;
        let (packet, _) = Readdress::default().packet(&packet).unwrap();
        assert!(!read(&packet).sound);
    }

    #[test]
    fn an_error_follows_the_packet_that_it_quotes() {
        for family in [Family::V4, Family::V6] {
            let [client, server] = ends(family);
            let place = Place::numbered(family, 0);
            let question = Packet::udp(client, server, b"what");
            let mut readdress = Readdress::default();
            let (mapped, _) = readdress.packet(&question.ip()).unwrap();
            let router = match family {
                Family::V4 => "192.0.2.99",
                Family::V6 => "2001:db8::99",
            };
            for (reporter, expected) in [
                (server.ip(), place.server.ip()),
                (router.parse().unwrap(), place.router(End::Server)),
            ] {
                let error = question.error(reporter, IcmpError::PortUnreachable);
                let (error, source) = readdress.packet(&error.ip()).unwrap();
                assert_eq!(source, expected);
                let error = read(&error);
                assert!(error.sound);
                let crate::packet::Body::Icmp(message) = &error.packet.body else { panic!() };
                assert_eq!(message.payload, mapped[..message.payload.len()]);
            }
        }
    }
}
