//! Headers as they stand in a packet.
//!
//! Plain `repr(C)` structs whose fields need no padding: the kernel reads them
//! with word loads. All multi-byte fields are in network byte order; the
//! accessors give host order.

use bytemuck::{Pod, Zeroable};

use crate::addr::Addr;

/// EtherTypes (IEEE 802 numbers).
pub mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const IPV6: u16 = 0x86dd;
    pub const VLAN: u16 = 0x8100;
    pub const QINQ: u16 = 0x88a8;
}

/// Bits of the flags byte of a TCP header.
pub mod tcp_flag {
    pub const FIN: u8 = 1 << 0;
    pub const SYN: u8 = 1 << 1;
    pub const RST: u8 = 1 << 2;
    pub const PSH: u8 = 1 << 3;
    pub const ACK: u8 = 1 << 4;
    pub const URG: u8 = 1 << 5;
    pub const ECE: u8 = 1 << 6;
    pub const CWR: u8 = 1 << 7;
    /// What a segment has that begins or ends a connection.
    pub const BEGINS_OR_ENDS: u8 = SYN | FIN | RST;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ethernet {
    pub dst: [u8; 6],
    pub src: [u8; 6],
    pub ether_type: u16,
}

/// IEEE 802.1Q tag control information and the EtherType behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct VlanTag {
    pub control: u16,
    pub ether_type: u16,
}

/// RFC 791 section 3.1, without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ipv4 {
    pub version_ihl: u8,
    pub tos: u8,
    pub total_len: u16,
    pub id: u16,
    pub fragment: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub src: u32,
    pub dst: u32,
}

impl Ipv4 {
    pub const LEN: u32 = 20;
    const MORE_FRAGMENTS: u16 = 0x2000;
    const FRAGMENT_OFFSET: u16 = 0x1fff;

    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Bytes of header and options.
    #[inline(always)]
    pub const fn header_len(&self) -> u32 {
        (self.version_ihl & 0xf) as u32 * 4
    }

    #[inline(always)]
    pub const fn has_more_fragments(&self) -> bool {
        u16::from_be(self.fragment) & Self::MORE_FRAGMENTS != 0
    }

    /// In units of 8 bytes.
    #[inline(always)]
    pub const fn fragment_offset(&self) -> u16 {
        u16::from_be(self.fragment) & Self::FRAGMENT_OFFSET
    }
}

/// RFC 8200 section 3.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ipv6 {
    pub version_class_label: u32,
    pub payload_len: u16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub src: Addr,
    pub dst: Addr,
}

impl Ipv6 {
    pub const LEN: u32 = 40;

    #[inline(always)]
    pub const fn version(&self) -> u8 {
        (u32::from_be(self.version_class_label) >> 28) as u8
    }

    /// The traffic class.
    #[inline(always)]
    pub const fn class(&self) -> u8 {
        (u32::from_be(self.version_class_label) >> 20) as u8
    }
}

/// The head that hop-by-hop, routing, destination options and authentication
/// headers share (RFC 8200 section 4, RFC 4302 section 2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ipv6Extension {
    pub next_header: u8,
    pub len: u8,
}

/// RFC 8200 section 4.5.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ipv6Fragment {
    pub next_header: u8,
    pub _reserved: u8,
    pub offset_more: u16,
    pub id: u32,
}

impl Ipv6Fragment {
    #[inline(always)]
    pub const fn has_more_fragments(&self) -> bool {
        u16::from_be(self.offset_more) & 1 != 0
    }

    /// In units of 8 bytes.
    #[inline(always)]
    pub const fn fragment_offset(&self) -> u16 {
        u16::from_be(self.offset_more) >> 3
    }
}

/// RFC 9293 section 3.1, without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Tcp {
    pub sport: u16,
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub data_offset: u8,
    pub flags: u8,
    pub window: u16,
    pub checksum: u16,
    pub urgent: u16,
}

impl Tcp {
    pub const LEN: u32 = 20;

    /// Bytes of header and options.
    #[inline(always)]
    pub const fn header_len(&self) -> u32 {
        (self.data_offset >> 4) as u32 * 4
    }
}

/// RFC 768.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Udp {
    pub sport: u16,
    pub dport: u16,
    pub len: u16,
    pub checksum: u16,
}

/// RFC 3828: like UDP, but the third field says how much the checksum covers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct UdpLite {
    pub sport: u16,
    pub dport: u16,
    pub coverage: u16,
    pub checksum: u16,
}

impl UdpLite {
    pub const LEN: u32 = 8;
}

/// The common header of RFC 9260 section 3.1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Sctp {
    pub sport: u16,
    pub dport: u16,
    pub tag: u32,
    pub checksum: u32,
}

impl Sctp {
    pub const LEN: u32 = 12;
}

/// RFC 2784, and what version 1 has behind it (RFC 2637 section 4.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Gre {
    pub flags_version: u16,
    pub protocol: u16,
}

impl Gre {
    pub const LEN: u32 = 4;
    /// The version that carries PPP for PPTP.
    pub const PPTP: u16 = 1;
    pub const PPP: u16 = 0x880b;

    #[inline(always)]
    pub const fn version(&self) -> u16 {
        u16::from_be(self.flags_version) & 7
    }
}

/// Behind the header of GRE version 1 (RFC 2637 section 4.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct GreCall {
    pub payload_len: u16,
    pub call_id: u16,
}

/// RFC 792 and RFC 4443; `id` and `sequence` of the query messages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Icmp {
    pub icmp_type: u8,
    pub code: u8,
    pub checksum: u16,
    pub id: u16,
    pub sequence: u16,
}

impl Icmp {
    pub const LEN: u32 = 8;
}

/// The first four bytes of TCP, UDP, SCTP and UDP-Lite: all that an ICMP error need quote.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Ports {
    pub sport: u16,
    pub dport: u16,
}
