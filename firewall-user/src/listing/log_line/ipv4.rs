//! IPv4 and ICMP (`dump_ipv4_packet`).

use std::{
    fmt::{self, Write as _},
    net::Ipv4Addr,
};

use super::{super::frame::Bytes, Line};

const HEADER: usize = 20;
const ICMP_HEADER: usize = 8;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

impl Line<'_> {
    pub(super) fn ipv4(&mut self, packet: Bytes<'_>, is_quoted: bool) -> fmt::Result {
        let Some(header) = packet.array::<HEADER>(0) else {
            return self.write_str("TRUNCATED ");
        };
        let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let address =
            |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        write!(self, "SRC={} DST={} ", address(12), address(16))?;
        let (total_len, tos, ttl) = (half(2), header[1], header[8]);
        let (class, precedence) = (tos & 0x1e, tos & 0xe0);
        write!(self, "LEN={total_len} TOS=0x{class:02X} PREC=0x{precedence:02X} ")?;
        write!(self, "TTL={ttl} ID={} ", half(4))?;
        self.ipv4_fragment(half(6))?;

        let header_len = usize::from(header[0] & 0xf) * 4;
        self.ipv4_options(packet, header_len)?;
        // The frame's padding is no part of the packet; what an error quotes may
        // be shorter than its header says.
        let packet = if is_quoted { packet } else { packet.first(usize::from(total_len)) };
        let is_later = half(6) & FRAGMENT_OFFSET != 0;
        match header[9] {
            1 => self.icmp(packet.behind(header_len), is_later, is_quoted),
            protocol => self.transport(protocol, packet.behind(header_len), is_later),
        }
    }

    fn ipv4_fragment(&mut self, fragment: u16) -> fmt::Result {
        if fragment & DONT_FRAGMENT != 0 {
            self.write_str("DF ")?;
        }
        if fragment & MORE_FRAGMENTS != 0 {
            self.write_str("MF ")?;
        }
        match fragment & FRAGMENT_OFFSET {
            0 => Ok(()),
            offset => write!(self, "FRAG:{offset} "),
        }
    }

    fn ipv4_options(&mut self, packet: Bytes<'_>, header_len: usize) -> fmt::Result {
        if !self.format.ip_options || header_len <= HEADER {
            return Ok(());
        }
        match packet.slice(HEADER, header_len - HEADER) {
            Some(options) => self.options(options),
            None => self.write_str("TRUNCATED "),
        }
    }

    fn icmp(&mut self, icmp: Bytes<'_>, is_later: bool, is_quoted: bool) -> fmt::Result {
        self.write_str("PROTO=ICMP ")?;
        if is_later {
            return Ok(());
        }
        let (Some(kind), Some(code), Some(rest)) = (icmp.u8(0), icmp.u8(1), icmp.array::<4>(4))
        else {
            return self.incomplete(icmp);
        };
        write!(self, "TYPE={kind} CODE={code} ")?;
        if icmp.len() < icmp_len(kind) {
            return self.incomplete(icmp);
        }
        let [high, low] = [[rest[0], rest[1]], [rest[2], rest[3]]].map(u16::from_be_bytes);
        match kind {
            0 | 8 => write!(self, "ID={high} SEQ={low} "),
            12 => write!(self, "PARAMETER={} ", rest[0]),
            3 | 4 | 5 | 11 => {
                if kind == 5 {
                    write!(self, "GATEWAY={} ", Ipv4Addr::from(rest))?;
                }
                if !is_quoted {
                    self.write_str("[")?;
                    self.ipv4(icmp.behind(ICMP_HEADER), true)?;
                    self.write_str("] ")?;
                }
                if (kind, code) == (3, 4) { write!(self, "MTU={low} ") } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }
}

/// The least that a message of this type has to hold.
const fn icmp_len(kind: u8) -> usize {
    match kind {
        0 | 8 => 4,
        3 | 4 | 5 | 11 | 12 => 8 + HEADER,
        13 | 14 => 20,
        17 | 18 => 12,
        _ => 0,
    }
}
