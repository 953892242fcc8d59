//! The frame that stands for a packet that somebody asks about.

use std::net::IpAddr;

use firewall_common::{
    addr::Addr,
    checksum::Sum,
    crc32c::Crc32c,
    flow::{Tuple, protocol},
    headers::icmp_request,
    wire::{ether_type, tcp_flag},
};

use super::chunk;

/// A packet, by what rules and tracking look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    /// Of protocols with ports.
    pub sport: u16,
    pub dport: u16,
    /// TCP: bits of [`tcp_flag`]. SCTP: the type of its chunk.
    pub flags: u8,
    /// TCP; chosen by the flow where they are not given.
    pub seq: Option<u32>,
    pub ack: Option<u32>,
    /// ICMP and ICMPv6.
    pub icmp: (u8, u8),
    pub icmp_id: u16,
    /// Bytes behind the transport header.
    pub payload: u16,
}

/// The numbers of a TCP segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// SCTP: the verification tag.
    pub seq: u32,
    pub ack: u32,
}

/// Locally administered, and nobody's.
const SENDER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const TTL: u8 = 64;

impl Asked {
    /// As [`firewall_common::headers::Headers`] will read it.
    pub fn tuple(&self) -> Tuple {
        let (src, dst) = (Addr::from(self.src), Addr::from(self.dst));
        let tuple = Tuple { src, dst, protocol: self.protocol, ..Tuple::default() };
        if !self.is_icmp() {
            return Tuple { sport: self.sport, dport: self.dport, ..tuple };
        }
        let (icmp_type, is_reply) = icmp_request(self.protocol, self.icmp.0);
        let (sport, dport) = if is_reply { (0, self.icmp_id) } else { (self.icmp_id, 0) };
        Tuple { sport, dport, icmp_type, icmp_code: self.icmp.1, ..tuple }
    }

    pub const fn is_icmp(&self) -> bool {
        matches!(self.protocol, protocol::ICMP | protocol::ICMPV6)
    }

    /// The answer to it: from its destination to its source. `None` for an ICMP message, or
    /// a chunk of SCTP, that nobody answers.
    pub fn answer(&self) -> Option<Self> {
        let is_syn = self.flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
        let icmp = match (self.protocol, self.icmp.0) {
            (protocol::ICMP, 8) => 0,
            (protocol::ICMP, kind @ (13 | 15 | 17)) | (protocol::ICMPV6, kind @ (128 | 139)) => {
                kind + 1
            }
            (protocol::ICMP | protocol::ICMPV6, _) => return None,
            _ => 0,
        };
        let flags = match self.protocol {
            protocol::SCTP => chunk::answer(self.flags)?,
            _ if is_syn => tcp_flag::SYN | tcp_flag::ACK,
            _ => tcp_flag::ACK,
        };
        Some(Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            flags,
            icmp: (icmp, self.icmp.1),
            seq: None,
            ack: None,
            payload: 0,
            ..*self
        })
    }

    /// The frame, checksums right. With `mac` it begins with an Ethernet header to that
    /// address.
    pub fn frame(&self, mac: Option<[u8; 6]>, numbers: Numbers) -> Vec<u8> {
        let transport = self.transport(numbers);
        let mut frame = Vec::new();
        if let Some(mac) = mac {
            frame.extend_from_slice(&mac);
            frame.extend_from_slice(&SENDER);
            let kind = if self.src.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
            frame.extend_from_slice(&kind.to_be_bytes());
        }
        frame.extend(self.network(transport.len() as u16));
        frame.extend(transport);
        frame
    }

    fn network(&self, len: u16) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let [high, low] = (20 + len).to_be_bytes();
                let head = [0x45, 0, high, low, 0, 1, 0x40, 0, TTL, self.protocol, 0, 0];
                let mut header = [&head[..], &src.octets(), &dst.octets()].concat();
                let sum = sum(Sum::default(), &header).finish();
                header[10..12].copy_from_slice(&sum.to_ne_bytes());
                header
            }
            (src, dst) => {
                let [high, low] = len.to_be_bytes();
                let head = [0x60, 0, 0, 0, high, low, self.protocol, TTL];
                [&head[..], &octets(src), &octets(dst)].concat()
            }
        }
    }

    fn transport(&self, numbers: Numbers) -> Vec<u8> {
        let ports = [self.sport.to_be_bytes(), self.dport.to_be_bytes()].concat();
        let (mut bytes, checksum) = match self.protocol {
            protocol::TCP => {
                let seq = [numbers.seq.to_be_bytes(), numbers.ack.to_be_bytes()].concat();
                let rest = [0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0];
                ([&ports[..], &seq, &rest].concat(), Some(16))
            }
            protocol::UDP | protocol::UDPLITE => {
                let len = (8 + self.payload).to_be_bytes();
                ([&ports[..], &len, &[0, 0]].concat(), Some(6))
            }
            protocol::ICMP | protocol::ICMPV6 => {
                let (kind, code) = self.icmp;
                let id = self.icmp_id.to_be_bytes();
                (vec![kind, code, 0, 0, id[0], id[1], 0, 1], Some(2))
            }
            protocol::SCTP => return self.sctp(&ports, numbers.seq),
            _ => (vec![0; 8], None),
        };
        bytes.resize(bytes.len() + usize::from(self.payload), 0);
        if let Some(at) = checksum {
            let start = match self.protocol {
                protocol::ICMP => Sum::default(),
                number => {
                    let (src, dst) = (self.src.into(), self.dst.into());
                    Sum::pseudo_header(src, dst, number, bytes.len() as u32)
                }
            };
            let sum = sum(start, &bytes).finish();
            // Zero means "none" in UDP (RFC 768).
            let sum = if sum == 0 && self.protocol == protocol::UDP { 0xffff } else { sum };
            bytes[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
        }
        bytes
    }
}

impl Asked {
    fn sctp(&self, ports: &[u8], tag: u32) -> Vec<u8> {
        let chunk = chunk::bytes(self.flags, self.payload);
        let mut bytes = [ports, &tag.to_be_bytes(), &[0; 4], &chunk].concat();
        let sum = bytes.iter().fold(Crc32c::START, |sum, byte| sum.byte(*byte)).finish();
        bytes[8..12].copy_from_slice(&sum.to_ne_bytes());
        bytes
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn sum(start: Sum, bytes: &[u8]) -> Sum {
    bytes.chunks(2).fold(start, |sum, pair| {
        let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
        sum.word(u16::from_ne_bytes(word))
    })
}

#[cfg(test)]
mod tests {
    use firewall_common::{
        checksum::Verification,
        headers::{Headers, Parsed},
        packet::Packet,
    };

    use super::*;

    fn asked(src: &str, dst: &str, protocol: u8) -> Asked {
        Asked {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            protocol,
            sport: 40_000,
            dport: 51_000,
            flags: tcp_flag::SYN,
            seq: None,
            ack: None,
            icmp: (if protocol == protocol::ICMP { 8 } else { 128 }, 0),
            icmp_id: 7,
            payload: 3,
        }
    }

    fn all() -> Vec<Asked> {
        let v4 = [protocol::TCP, protocol::UDP, protocol::SCTP, protocol::ICMP, 89];
        let v6 = [protocol::TCP, protocol::UDP, protocol::SCTP, protocol::ICMPV6, 89];
        let four = v4.map(|number| asked("192.0.2.7", "198.51.100.9", number));
        let six = v6.map(|number| asked("2001:db8::7", "2001:db8:1::9", number));
        four.into_iter().chain(six).collect()
    }

    #[test]
    fn the_datapath_reads_what_was_asked() {
        for asked in all() {
            for mac in [Some([2, 3, 4, 5, 6, 7]), None] {
                let frame = asked.frame(mac, Numbers { seq: 5, ack: 6 });
                let mut headers = Headers::default();
                let parsed = headers.parse(&frame[..], mac.is_some());
                assert_eq!(parsed, Ok(Parsed::Ip), "{asked:?}");
                let tuple = asked.tuple();
                let has_ports = asked.protocol != 89;
                let ports = if has_ports { (tuple.sport, tuple.dport) } else { (0, 0) };
                assert_eq!((headers.tuple.src, headers.tuple.dst), (tuple.src, tuple.dst));
                assert_eq!((headers.tuple.sport, headers.tuple.dport), ports, "{asked:?}");
                assert_eq!(headers.is_damaged, 0);
                let is_right = match asked.protocol {
                    protocol::SCTP => has_right_crc(&frame[headers.l4 as usize..]),
                    // It has no checksum that is known.
                    89 => true,
                    _ => {
                        let mut desk = Verification::of(&headers);
                        frame[..].has_right_checksum(&headers, &mut desk, false)
                    }
                };
                assert!(is_right, "{asked:?}");
            }
        }
    }

    /// CRC32c bit by bit, over the packet with zeros in its place (RFC 9260 appendix A).
    fn has_right_crc(packet: &[u8]) -> bool {
        const PLACE: std::ops::Range<usize> = 8..12;
        let mut empty = packet.to_vec();
        empty[PLACE].fill(0);
        let crc = empty.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
                0 => crc >> 1,
                _ => crc >> 1 ^ 0x82f6_3b78,
            })
        });
        packet[PLACE] == (!crc).to_le_bytes()
    }

    #[test]
    fn the_answer_to_a_syn_is_a_syn_ack_the_other_way() {
        let syn = asked("192.0.2.7", "198.51.100.9", protocol::TCP);
        let answer = syn.answer().unwrap();
        assert_eq!((answer.src, answer.sport), (syn.dst, 51_000));
        assert_eq!(answer.flags, tcp_flag::SYN | tcp_flag::ACK);
        assert_eq!(answer.tuple(), syn.tuple().reversed());
    }

    #[test]
    fn the_answer_to_a_ping_belongs_to_its_flow_and_an_error_has_none() {
        for (src, dst, number) in
            [("192.0.2.7", "192.0.2.9", protocol::ICMP), ("2001:db8::7", "2001:db8::9", 58)]
        {
            let ping = asked(src, dst, number);
            assert_eq!(ping.answer().unwrap().tuple(), ping.tuple().reversed());
            assert_eq!(Asked { icmp: (3, 0), ..ping }.answer(), None);
        }
    }
}
