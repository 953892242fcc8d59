//! From the frame's bytes to the facts that tracking and rules look at.
//!
//! Ethernet with up to two VLAN tags (or no link header), IPv4 with options,
//! IPv6 with extension headers (RFC 8200 section 4), TCP, UDP, ICMP, ICMPv6; SCTP,
//! UDP-Lite and GRE as far as [`crate::transport`] reads them; any other protocol
//! by its number. What contradicts itself is a
//! [`DropReason`], never a guess.

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::{Addr, Family},
    checksum::Sum,
    conntrack::icmp::{Class, classify},
    flow::{Tuple, protocol},
    packet::Packet,
    verdict::DropReason,
    wire::{
        Ethernet, Icmp, Ipv4, Ipv6, Ipv6Fragment, Sctp, Tcp, Udp, UdpLite, VlanTag, ether_type,
        tcp_flag::BEGINS_OR_ENDS,
    },
};

const MAX_VLAN_TAGS: u32 = 2;
const MAX_EXTENSION_HEADERS: u32 = 6;

/// Bytes that the offset of a fragment counts in.
pub const FRAGMENT_UNIT: u32 = 8;
/// Bytes behind the IP header of the longest datagram.
const MAX_DATAGRAM: u32 = 65_535;

/// Whether a packet is a fragment, as [`Headers::fragment`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The whole datagram.
    Whole = 0,
    /// The first fragment: it holds the transport header.
    First = 1,
    /// A later one: no ports, no flags.
    Later = 2,
}

/// What was read. Offsets count from the start of the frame; numbers are in
/// host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Headers {
    pub tuple: Tuple,
    pub l3: u32,
    pub l4: u32,
    /// Bytes from the IP header on, padding excluded.
    pub ip_len: u32,
    /// First byte behind the transport header, and bytes from there on.
    pub payload: u32,
    pub payload_len: u32,
    /// Identifies the datagram that a fragment belongs to.
    pub fragment_id: u32,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// IEEE 802.1Q VLAN identifier of the outer tag, 0 for none.
    pub vlan: u16,
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
    /// 4 or 6.
    pub version: u8,
    pub ttl: u8,
    pub tos: u8,
    pub tcp_flags: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// A [`Fragment`].
    pub fragment: u8,
    /// The transport header contradicts itself: such a packet is INVALID.
    pub is_damaged: u8,
    /// In units of 8 bytes, within the datagram: where a fragment begins, and where
    /// it ends, rounded up.
    pub fragment_offset: u16,
    pub fragment_end: u16,
    /// No fragment of the datagram comes behind this one.
    pub is_last_fragment: u8,
    /// IPv6: the type of the first routing header, and its length in units of 8 bytes, 0
    /// when there is none.
    pub routing_type: u8,
    pub routing_units: u8,
    /// Nodes that it still names.
    pub routing_left: u8,
    /// IPv6: bits of [`extension`] for the headers before the transport's.
    pub extensions: u8,
    pub reserved: [u8; 3],
}

/// Bits of [`Headers::extensions`], numbered as ip6tables numbers them.
pub mod extension {
    pub const HOP_BY_HOP: u8 = 1 << 7;
    pub const DESTINATION_OPTIONS: u8 = 1 << 6;
    pub const ROUTING: u8 = 1 << 5;
    /// Of no packet: what is in fragments is judged as the whole.
    pub const FRAGMENT: u8 = 1 << 4;
    pub const AUTHENTICATION: u8 = 1 << 3;
    /// What is behind it cannot be read.
    pub const ESP: u8 = 1 << 2;
    /// Nothing comes behind it.
    pub const NO_NEXT_HEADER: u8 = 1 << 1;
    /// Any other header behind these.
    pub const UPPER_LAYER: u8 = 1 << 0;
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    Ip,
    NotIp,
}

impl Parsed {
    const IP: u32 = 0;
    const NOT_IP: u32 = 1;
    const ERROR: u32 = 2;

    /// The outcome of [`Headers::parse`] as a number, as functions of the kernel
    /// return it.
    #[inline(always)]
    pub const fn pack(outcome: Result<Self, DropReason>) -> u32 {
        match outcome {
            Ok(Self::Ip) => Self::IP,
            Ok(Self::NotIp) => Self::NOT_IP,
            Err(reason) => Self::ERROR + reason as u32,
        }
    }

    /// The inverse of [`Parsed::pack`].
    ///
    /// # Errors
    /// Those that went into it.
    #[inline(always)]
    pub fn unpack(packed: u32) -> Result<Self, DropReason> {
        match packed {
            Self::IP => Ok(Self::Ip),
            Self::NOT_IP => Ok(Self::NotIp),
            error => {
                Err(DropReason::from_byte((error - Self::ERROR) as u8)
                    .unwrap_or(DropReason::Malformed))
            }
        }
    }
}

impl Headers {
    #[inline(always)]
    pub const fn family(&self) -> Family {
        if self.version == 4 { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Whether there is something between the IP header and what it carries: options
    /// or extension headers, which routers may have to read.
    #[inline(always)]
    pub const fn has_ip_options(&self) -> bool {
        let len = match self.family() {
            Family::Ipv4 => Ipv4::LEN,
            Family::Ipv6 => Ipv6::LEN,
        };
        self.l4.wrapping_sub(self.l3) != len
    }

    /// Whether it is an ICMP message that quotes a packet of another flow.
    #[inline(always)]
    pub const fn is_icmp_error(&self) -> bool {
        let protocol = self.tuple.protocol;
        matches!(protocol, protocol::ICMP | protocol::ICMPV6)
            && !self.is_later_fragment()
            && matches!(classify(protocol, self.icmp_type), Class::Error)
    }

    #[inline(always)]
    pub const fn is_later_fragment(&self) -> bool {
        self.fragment == Fragment::Later as u8
    }

    #[inline(always)]
    pub const fn is_first_fragment(&self) -> bool {
        self.fragment == Fragment::First as u8
    }

    #[inline(always)]
    pub const fn has_tcp_flag(&self, flag: u8) -> bool {
        self.tcp_flags & flag != 0
    }

    /// Whether it is no segment that may begin or end a connection.
    #[inline(always)]
    pub const fn is_plain(&self) -> bool {
        !self.has_tcp_flag(BEGINS_OR_ENDS)
    }

    /// Bits of [`extension`]: all headers behind that of IPv6.
    #[inline(always)]
    pub const fn header_chain(&self) -> u8 {
        let last = match self.tuple.protocol {
            protocol::ESP => extension::ESP,
            protocol::NO_NEXT_HEADER => extension::NO_NEXT_HEADER,
            _ => extension::UPPER_LAYER,
        };
        self.extensions | last
    }

    /// Reads a frame into `self`.
    ///
    /// # Errors
    /// The reason to drop it, when a header is cut off or contradicts itself.
    #[inline(always)]
    pub fn parse<P: Packet + ?Sized>(
        &mut self,
        packet: &P,
        has_ethernet: bool,
    ) -> Result<Parsed, DropReason> {
        *self = Self::default();
        let kind = if has_ethernet { self.link(packet)? } else { bare(packet)? };
        match kind {
            ether_type::IPV4 => self.ipv4(packet)?,
            ether_type::IPV6 => self.ipv6(packet)?,
            _ => return Ok(Parsed::NotIp),
        }
        if self.is_later_fragment() {
            return Ok(Parsed::Ip);
        }
        packet.transport(self)?;
        Ok(Parsed::Ip)
    }

    /// Reads the Ethernet header and VLAN tags; gives the EtherType.
    #[inline(always)]
    fn link<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<u16, DropReason> {
        let ethernet: Ethernet = packet.read(0).ok_or(DropReason::Truncated)?;
        self.destination_mac = ethernet.dst;
        self.source_mac = ethernet.src;
        self.l3 = size_of::<Ethernet>() as u32;
        let mut kind = u16::from_be(ethernet.ether_type);
        for _ in 0..MAX_VLAN_TAGS {
            if kind != ether_type::VLAN && kind != ether_type::QINQ {
                return Ok(kind);
            }
            let tag: VlanTag = packet.read(self.l3).ok_or(DropReason::Truncated)?;
            if self.vlan == 0 {
                self.vlan = u16::from_be(tag.control) & 0xfff;
            }
            self.l3 += size_of::<VlanTag>() as u32;
            kind = u16::from_be(tag.ether_type);
        }
        match kind {
            ether_type::VLAN | ether_type::QINQ => Err(DropReason::TooManyHeaders),
            _ => Ok(kind),
        }
    }

    #[inline(always)]
    fn ipv4<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<(), DropReason> {
        let ip: Ipv4 = packet.read(self.l3).ok_or(DropReason::Truncated)?;
        let header_len = ip.header_len();
        if ip.version() != 4 || header_len < Ipv4::LEN {
            return Err(DropReason::Malformed);
        }
        self.ip_len(packet, u32::from(u16::from_be(ip.total_len)))?;
        if header_len > self.ip_len {
            return Err(DropReason::Malformed);
        }
        // What the stack has joined it has checked; what is told of is told anyhow.
        if !packet.is_gso() && !has_right_checksum(&ip, header_len) {
            return Err(DropReason::HeaderChecksum);
        }
        self.version = 4;
        self.ttl = ip.ttl;
        self.tos = ip.tos;
        self.l4 = self.l3 + header_len;
        self.tuple.src = Addr::v4(ip.src);
        self.tuple.dst = Addr::v4(ip.dst);
        self.tuple.protocol = ip.protocol;
        self.fragment_id = u32::from(ip.id);
        self.fragment(ip.fragment_offset(), ip.has_more_fragments())
    }

    #[inline(always)]
    fn ipv6<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<(), DropReason> {
        let ip: Ipv6 = packet.read(self.l3).ok_or(DropReason::Truncated)?;
        if ip.version() != 6 {
            return Err(DropReason::Malformed);
        }
        let payload_len = u32::from(u16::from_be(ip.payload_len));
        let announced = match payload_len {
            0 if packet.is_gso() => 0,
            // A jumbogram (RFC 2675).
            0 if ip.next_header == 0 => return Err(DropReason::Malformed),
            len => len + Ipv6::LEN,
        };
        self.ip_len(packet, announced)?;
        self.version = 6;
        self.ttl = ip.hop_limit;
        self.tos = ip.class();
        self.tuple.src = ip.src;
        self.tuple.dst = ip.dst;
        // On no wire (RFC 4291 section 2.5.5.2); in the tables they are IPv4, whose
        // flows and rules are none of this packet's.
        if matches!(ip.src.family(), Family::Ipv4) || matches!(ip.dst.family(), Family::Ipv4) {
            return Err(DropReason::Malformed);
        }
        self.l4 = self.l3 + Ipv6::LEN;
        self.tuple.protocol = ip.next_header;
        self.extension_headers(packet)
    }

    /// Walks from the IPv6 header to the upper-layer header.
    #[inline(always)]
    fn extension_headers<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<(), DropReason> {
        for _ in 0..MAX_EXTENSION_HEADERS {
            if !is_extension(self.tuple.protocol) {
                return Ok(());
            }
            packet.extension_header(self)?;
            if self.is_later_fragment() {
                return Ok(());
            }
        }
        match is_extension(self.tuple.protocol) {
            true => Err(DropReason::TooManyHeaders),
            false => Ok(()),
        }
    }

    /// Reads one extension header, at `l4`, of the kind that `tuple.protocol` says.
    ///
    /// # Errors
    /// The reason to drop the packet, when it is cut off or longer than the packet.
    #[inline(always)]
    pub fn extension_header<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<(), DropReason> {
        if self.tuple.protocol == protocol::FRAGMENT {
            return self.fragment_header(packet);
        }
        // The length of an authentication header counts words, less two.
        let unit = if self.tuple.protocol == protocol::AUTHENTICATION { 4 } else { 8 };
        // None is shorter than 8 bytes; the second two are those of a routing header.
        let [next_header, len, kind, left]: [u8; 4] =
            packet.read(self.l4).ok_or(DropReason::Truncated)?;
        self.extensions |= extension_bit(self.tuple.protocol);
        if self.tuple.protocol == protocol::ROUTING && self.routing_units == 0 {
            self.routing_units = len.saturating_add(1);
            self.routing_type = kind;
            self.routing_left = left;
        }
        self.tuple.protocol = next_header;
        self.l4 += u32::from(len) * unit + 8;
        if self.l4 - self.l3 > self.ip_len {
            return Err(DropReason::Malformed);
        }
        Ok(())
    }

    #[inline(always)]
    fn fragment_header<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<(), DropReason> {
        let header: Ipv6Fragment = packet.read(self.l4).ok_or(DropReason::Truncated)?;
        self.tuple.protocol = header.next_header;
        self.fragment_id = header.id;
        self.l4 += size_of::<Ipv6Fragment>() as u32;
        // What the frame holds behind the packet is padding.
        if self.l4 - self.l3 > self.ip_len {
            return Err(DropReason::Malformed);
        }
        self.fragment(header.fragment_offset(), header.has_more_fragments())
    }

    /// Notes which fragment it is whose payload begins at `l4`. Reassembly refuses
    /// one that carries nothing, ends within a unit though others follow, or reaches
    /// beyond the longest datagram (RFC 791 section 3.2, RFC 8200 section 4.5).
    #[inline(always)]
    fn fragment(&mut self, offset: u16, has_more: bool) -> Result<(), DropReason> {
        let kind = fragment(offset, has_more);
        self.fragment = kind as u8;
        if matches!(kind, Fragment::Whole) {
            return Ok(());
        }
        let len = self.l4_len();
        let end = (u32::from(offset) * FRAGMENT_UNIT).saturating_add(len);
        let ends_within_a_unit = has_more && !len.is_multiple_of(FRAGMENT_UNIT);
        if len == 0 || ends_within_a_unit || end > MAX_DATAGRAM {
            return Err(DropReason::Malformed);
        }
        self.fragment_offset = offset;
        self.fragment_end = end.div_ceil(FRAGMENT_UNIT) as u16;
        self.is_last_fragment = u8::from(!has_more);
        Ok(())
    }

    /// Takes the length that the IP header announces, if the frame holds it.
    #[inline(always)]
    fn ip_len<P: Packet + ?Sized>(&mut self, packet: &P, announced: u32) -> Result<(), DropReason> {
        let available = packet.len().saturating_sub(self.l3);
        self.ip_len = if announced == 0 && packet.is_gso() { available } else { announced };
        if self.ip_len > available { Err(DropReason::Truncated) } else { Ok(()) }
    }

    /// Reads the transport header, to which the others have led.
    ///
    /// # Errors
    /// As [`Headers::parse`].
    #[inline(always)]
    pub fn transport<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<(), DropReason> {
        let available = self.l4_len();
        let needed = match self.tuple.protocol {
            protocol::TCP => Tcp::LEN,
            protocol::UDP | protocol::ICMP | protocol::ICMPV6 => 8,
            protocol::UDPLITE => UdpLite::LEN,
            protocol::SCTP => Sctp::LEN,
            protocol::GRE => 0,
            _ => {
                self.payload = self.l4;
                self.payload_len = available;
                return Ok(());
            }
        };
        if available < needed {
            return Err(match self.fragment {
                0 => DropReason::Truncated,
                _ => DropReason::FragmentTiny,
            });
        }
        let header_len = match self.tuple.protocol {
            protocol::TCP => self.tcp(packet)?,
            protocol::UDP => self.udp(packet)?,
            protocol::UDPLITE => self.udplite(packet)?,
            protocol::SCTP => self.sctp(packet)?,
            protocol::GRE => self.gre(packet),
            _ => self.icmp(packet)?,
        };
        self.payload = self.l4 + header_len;
        self.payload_len = available.saturating_sub(header_len);
        Ok(())
    }

    /// Bytes from the transport header to the end of the IP packet; of a later
    /// fragment, all that it carries.
    #[inline(always)]
    pub const fn l4_len(&self) -> u32 {
        self.ip_len.saturating_sub(self.l4 - self.l3)
    }

    /// Gives the header's length, as the two below do.
    #[inline(always)]
    fn tcp<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<u32, DropReason> {
        let tcp: Tcp = packet.read(self.l4).ok_or(DropReason::Truncated)?;
        let header_len = tcp.header_len();
        if header_len < Tcp::LEN || header_len > self.l4_len() {
            return Err(DropReason::Malformed);
        }
        self.tuple.sport = u16::from_be(tcp.sport);
        self.tuple.dport = u16::from_be(tcp.dport);
        self.seq = u32::from_be(tcp.seq);
        self.ack = u32::from_be(tcp.ack);
        self.window = u16::from_be(tcp.window);
        self.tcp_flags = tcp.flags;
        Ok(header_len)
    }

    #[inline(always)]
    fn udp<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<u32, DropReason> {
        let udp: Udp = packet.read(self.l4).ok_or(DropReason::Truncated)?;
        let len = u32::from(u16::from_be(udp.len));
        let is_whole = self.fragment == Fragment::Whole as u8;
        if is_whole && !packet.is_gso() && (len < 8 || len > self.l4_len()) {
            self.is_damaged = 1;
        }
        self.tuple.sport = u16::from_be(udp.sport);
        self.tuple.dport = u16::from_be(udp.dport);
        Ok(size_of::<Udp>() as u32)
    }

    #[inline(always)]
    fn icmp<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<u32, DropReason> {
        let icmp: Icmp = packet.read(self.l4).ok_or(DropReason::Truncated)?;
        self.icmp_type = icmp.icmp_type;
        self.icmp_code = icmp.code;
        let id = u16::from_be(icmp.id);
        let (request, is_reply) = icmp_request(self.tuple.protocol, icmp.icmp_type);
        self.tuple.icmp_type = request;
        self.tuple.icmp_code = icmp.code;
        if is_reply {
            self.tuple.dport = id;
        } else {
            self.tuple.sport = id;
        }
        Ok(Icmp::LEN)
    }
}

/// Of [`extension`], for a header that [`Headers::extension_header`] reads.
#[inline(always)]
const fn extension_bit(protocol: u8) -> u8 {
    match protocol {
        protocol::HOP_BY_HOP => extension::HOP_BY_HOP,
        protocol::ROUTING => extension::ROUTING,
        protocol::AUTHENTICATION => extension::AUTHENTICATION,
        _ => extension::DESTINATION_OPTIONS,
    }
}

/// Whether another header of IPv6 stands before the upper layer's.
#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
    )
}

/// Whether the checksum of an IPv4 header is right: a router may send on no other
/// (RFC 1812 section 5.2.2). One with options is left to the stack, which reads them.
#[inline(always)]
fn has_right_checksum(ip: &Ipv4, len: u32) -> bool {
    let [a, b, c, d, e] = *bytemuck::cast_ref::<Ipv4, [u32; 5]>(ip);
    let sum = Sum::default().double_word(a).double_word(b).double_word(c);
    len != Ipv4::LEN || sum.double_word(d).double_word(e).folded() == 0xffff
}

/// The type of the request that an ICMP query or reply belongs to, and whether
/// this is the reply. Messages that are neither stand for themselves.
#[inline(always)]
pub const fn icmp_request(protocol: u8, icmp_type: u8) -> (u8, bool) {
    match (protocol, icmp_type) {
        // Echo, timestamp, information and address mask (RFC 792, RFC 950).
        (protocol::ICMP, 0) => (8, true),
        (protocol::ICMP, 14) => (13, true),
        (protocol::ICMP, 16) => (15, true),
        (protocol::ICMP, 18) => (17, true),
        // Echo (RFC 4443) and node information (RFC 4620).
        (protocol::ICMPV6, 129) => (128, true),
        (protocol::ICMPV6, 140) => (139, true),
        _ => (icmp_type, false),
    }
}

#[inline(always)]
const fn fragment(offset: u16, has_more: bool) -> Fragment {
    match (offset, has_more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// The EtherType that a frame without link header would have.
#[inline(always)]
fn bare<P: Packet + ?Sized>(packet: &P) -> Result<u16, DropReason> {
    let version: u8 = packet.read(0).ok_or(DropReason::Truncated)?;
    match version >> 4 {
        4 => Ok(ether_type::IPV4),
        6 => Ok(ether_type::IPV6),
        _ => Err(DropReason::Malformed),
    }
}
