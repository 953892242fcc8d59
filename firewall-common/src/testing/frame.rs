//! Frames built header by header, with right lengths and checksums.

use std::net::IpAddr;

use bytemuck::{Zeroable, bytes_of};

use crate::{
    addr::Addr,
    checksum::Sum,
    crc32c::Crc32c,
    flow::protocol,
    wire::{
        Ethernet, Icmp, Ipv4, Ipv6, Ipv6Extension, Sctp, Tcp, Udp, UdpLite, VlanTag, ether_type,
        tcp_flag::SYN,
    },
};

/// A frame to order. `build` puts its parts together.
#[derive(Clone, Debug)]
pub struct Frame {
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    vlan: Vec<u16>,
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    protocol: u8,
    /// IPv4 options, or IPv6 extension headers by number and body.
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    fragment: Option<(u16, bool, u32)>,
    transport: Vec<u8>,
    /// Where the transport's checksum stands, and whether it covers addresses.
    checksum: Option<(usize, bool)>,
    payload: Vec<u8>,
    is_spoilt: bool,
    has_ethernet: bool,
    has_wrong_checksum: bool,
}

impl Frame {
    /// A frame from one host to another; `src` and `dst` are of one family.
    ///
    /// # Panics
    /// When an address cannot be read.
    pub fn between(src: &str, dst: &str) -> Self {
        Self {
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            vlan: Vec::new(),
            src: src.parse().expect("an address"),
            dst: dst.parse().expect("an address"),
            ttl: 64,
            protocol: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            transport: Vec::new(),
            checksum: None,
            payload: Vec::new(),
            is_spoilt: false,
            has_ethernet: true,
            has_wrong_checksum: false,
        }
    }

    #[must_use]
    pub const fn macs(mut self, src: [u8; 6], dst: [u8; 6]) -> Self {
        self.source_mac = src;
        self.destination_mac = dst;
        self
    }

    #[must_use]
    pub const fn without_ethernet(mut self) -> Self {
        self.has_ethernet = false;
        self
    }

    /// A further tag, inside those that were given before.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan.push(id);
        self
    }

    #[must_use]
    pub const fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// IPv4 options; filled up to whole words.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// An IPv6 extension header with a body of six bytes.
    #[must_use]
    pub fn extension(mut self, number: u8) -> Self {
        self.extensions.push((number, vec![0; 6]));
        self
    }

    /// Makes it the fragment at an offset in units of 8 bytes.
    #[must_use]
    pub const fn fragment(mut self, offset: u16, has_more: bool, id: u32) -> Self {
        self.fragment = Some((offset, has_more, id));
        self
    }

    /// A segment whose numbers fit those of its like from the other side: the client,
    /// which has the higher port, begins at 1,000 and the server at 5,000.
    #[must_use]
    pub fn tcp(self, sport: u16, dport: u16, flags: u8) -> Self {
        let (own, other) = if sport > dport { (1_000, 5_000) } else { (5_000, 1_000) };
        let after_syn = u32::from(flags & SYN == 0);
        self.tcp_at(sport, dport, flags, own + after_syn, other + 1)
    }

    #[must_use]
    pub fn tcp_at(mut self, sport: u16, dport: u16, flags: u8, seq: u32, ack: u32) -> Self {
        let tcp = Tcp {
            sport: sport.to_be(),
            dport: dport.to_be(),
            seq: seq.to_be(),
            ack: ack.to_be(),
            data_offset: 0x50,
            flags,
            window: 0xffff,
            ..Tcp::zeroed()
        };
        self.protocol = protocol::TCP;
        self.transport = bytes_of(&tcp).to_vec();
        self.checksum = Some((std::mem::offset_of!(Tcp, checksum), true));
        self
    }

    /// The window that a segment announces, as it stands in the header; 65,535
    /// without.
    #[must_use]
    pub fn window(mut self, window: u16) -> Self {
        let at = std::mem::offset_of!(Tcp, window);
        self.transport[at..at + 2].copy_from_slice(&window.to_be_bytes());
        self
    }

    /// The options of a segment, at most 40 bytes; filled up to whole words.
    #[must_use]
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        self.transport.truncate(Tcp::LEN as usize);
        self.transport.extend(options);
        self.transport.resize(self.transport.len().next_multiple_of(4), 0);
        let words = (self.transport.len() / 4) as u8;
        self.transport[std::mem::offset_of!(Tcp, data_offset)] = words << 4;
        self
    }

    /// Spoils the checksum of the transport header.
    #[must_use]
    pub const fn wrong_checksum(mut self) -> Self {
        self.has_wrong_checksum = true;
        self
    }

    #[must_use]
    pub fn udp(mut self, sport: u16, dport: u16) -> Self {
        let udp = Udp { sport: sport.to_be(), dport: dport.to_be(), ..Udp::zeroed() };
        self.protocol = protocol::UDP;
        self.transport = bytes_of(&udp).to_vec();
        self.checksum = Some((std::mem::offset_of!(Udp, checksum), true));
        self
    }

    /// An SCTP packet with this verification tag; chunks are its payload.
    #[must_use]
    pub fn sctp(mut self, sport: u16, dport: u16, tag: u32) -> Self {
        let header =
            Sctp { sport: sport.to_be(), dport: dport.to_be(), tag: tag.to_be(), checksum: 0 };
        self.protocol = protocol::SCTP;
        self.transport = bytes_of(&header).to_vec();
        self.checksum = None;
        self
    }

    /// A UDP-Lite packet whose checksum covers all of it.
    #[must_use]
    pub fn udplite(mut self, sport: u16, dport: u16) -> Self {
        let udp = UdpLite { sport: sport.to_be(), dport: dport.to_be(), ..UdpLite::zeroed() };
        self.protocol = protocol::UDPLITE;
        self.transport = bytes_of(&udp).to_vec();
        self.checksum = Some((std::mem::offset_of!(UdpLite, checksum), true));
        self
    }

    /// ICMP or ICMPv6, by the family of the addresses.
    #[must_use]
    pub fn icmp(mut self, icmp_type: u8, code: u8, id: u16) -> Self {
        let icmp = Icmp { icmp_type, code, id: id.to_be(), ..Icmp::zeroed() };
        self.protocol = if self.src.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
        self.transport = bytes_of(&icmp).to_vec();
        self.checksum = Some((std::mem::offset_of!(Icmp, checksum), !self.src.is_ipv4()));
        self
    }

    /// An ICMP error that quotes another frame.
    #[must_use]
    pub fn icmp_error(self, icmp_type: u8, code: u8, quoted: &Self) -> Self {
        let quoted = quoted.clone().without_ethernet().build();
        self.icmp(icmp_type, code, 0).payload(&quoted)
    }

    /// Another protocol, by its number.
    #[must_use]
    pub const fn protocol(mut self, number: u8) -> Self {
        self.protocol = number;
        self
    }

    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// A bit of the last byte has turned over behind the checksum's back.
    #[must_use]
    pub const fn spoilt(mut self) -> Self {
        self.is_spoilt = true;
        self
    }

    pub fn build(&self) -> Vec<u8> {
        let body = self.body();
        let packet = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.into(), dst.into(), &body),
            _ => self.ipv6(self.src.into(), self.dst.into(), &body),
        };
        if !self.has_ethernet {
            return packet;
        }
        let mut frame = Vec::new();
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        for id in &self.vlan {
            frame.extend(ether_type::VLAN.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        const { assert!(size_of::<VlanTag>() == 4 && size_of::<Ethernet>() == 14) };
        let kind = if self.src.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        frame
    }

    /// The transport header and the payload.
    fn body(&self) -> Vec<u8> {
        let mut body = self.transport.clone();
        body.extend(&self.payload);
        let len = body.len() as u32;
        if self.protocol == protocol::UDP {
            let at = std::mem::offset_of!(Udp, len);
            body[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
        }
        if self.protocol == protocol::SCTP && body.len() >= Sctp::LEN as usize {
            let sum = body.iter().fold(Crc32c::START, |sum, byte| sum.byte(*byte)).finish();
            let at = std::mem::offset_of!(Sctp, checksum);
            body[at..at + 4].copy_from_slice(&sum.to_ne_bytes());
        }
        if let Some((at, has_pseudo_header)) = self.checksum {
            let start = match has_pseudo_header {
                true => Sum::pseudo_header(self.src.into(), self.dst.into(), self.protocol, len),
                false => Sum::default(),
            };
            let mut checksum = sum(start, &body).finish();
            if self.has_wrong_checksum {
                checksum = checksum.wrapping_add(1);
            }
            body[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
        }
        if self.is_spoilt
            && let Some(last) = body.last_mut()
        {
            *last ^= 1;
        }
        body
    }

    fn ipv4(&self, src: Addr, dst: Addr, body: &[u8]) -> Vec<u8> {
        let header_len = Ipv4::LEN as usize + self.options.len();
        let (offset, has_more, id) = self.fragment.unwrap_or_default();
        let mut ip = Ipv4 {
            version_ihl: 0x40 | (header_len / 4) as u8,
            tos: 0,
            total_len: ((header_len + body.len()) as u16).to_be(),
            id: (id as u16).to_be(),
            fragment: (offset | if has_more { 0x2000 } else { 0 }).to_be(),
            ttl: self.ttl,
            protocol: self.protocol,
            checksum: 0,
            src: src.words[3],
            dst: dst.words[3],
        };
        let mut header = bytes_of(&ip).to_vec();
        header.extend(&self.options);
        ip.checksum = sum(Sum::default(), &header).finish();
        let mut packet = bytes_of(&ip).to_vec();
        packet.extend(&self.options);
        packet.extend(body);
        packet
    }

    fn ipv6(&self, src: Addr, dst: Addr, body: &[u8]) -> Vec<u8> {
        const FRAGMENT: u8 = 44;
        let mut rest = body.to_vec();
        let mut next = self.protocol;
        if let Some((offset, has_more, id)) = self.fragment {
            let mut header = vec![next, 0];
            header.extend((offset << 3 | u16::from(has_more)).to_be_bytes());
            header.extend(id.to_be_bytes());
            header.extend(rest);
            (rest, next) = (header, FRAGMENT);
        }
        for (number, content) in self.extensions.iter().rev() {
            let head = Ipv6Extension { next_header: next, len: 0 };
            let mut header = bytes_of(&head).to_vec();
            header.extend(content);
            header.extend(rest);
            (rest, next) = (header, *number);
        }
        let ip = Ipv6 {
            version_class_label: 0x6000_0000u32.to_be(),
            payload_len: (rest.len() as u16).to_be(),
            next_header: next,
            hop_limit: self.ttl,
            src,
            dst,
        };
        let mut packet = bytes_of(&ip).to_vec();
        packet.extend(rest);
        packet
    }
}

fn sum(start: Sum, bytes: &[u8]) -> Sum {
    bytes.chunks(2).fold(start, |sum, pair| {
        sum.word(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
    })
}
