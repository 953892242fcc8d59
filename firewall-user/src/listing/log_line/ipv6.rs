//! IPv6 with extension headers, and ICMPv6 (`dump_ipv6_packet`).

use std::fmt::{self, Write as _};

use super::{super::frame::Bytes, Line};

const HEADER: usize = 40;
const ICMP_HEADER: usize = 8;
/// Headers that are followed; a packet cannot make the line endless.
const MOST_EXTENSIONS: usize = 8;

const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;

/// Where the walk along the extension headers has come to.
struct Upper<'b> {
    protocol: u8,
    packet: Bytes<'b>,
    is_later: bool,
}

impl Line<'_> {
    pub(super) fn ipv6(&mut self, packet: Bytes<'_>, is_quoted: bool) -> fmt::Result {
        let Some(header) = packet.array::<HEADER>(0) else {
            return self.write_str("TRUNCATED ");
        };
        self.address("SRC", &header[8..24])?;
        self.address("DST", &header[24..40])?;
        let first = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let len = usize::from(u16::from_be_bytes([header[4], header[5]])) + HEADER;
        let (class, label) = (first >> 20 & 0xff, first & 0xf_ffff);
        write!(self, "LEN={len} TC={class} HOPLIMIT={} FLOWLBL={label} ", header[7])?;

        let packet = if is_quoted { packet } else { packet.first(len) };
        let upper = Upper { protocol: header[6], packet: packet.behind(HEADER), is_later: false };
        match self.extensions(upper)? {
            None => Ok(()),
            Some(Upper { protocol: ICMPV6, packet, is_later }) => {
                self.icmpv6(packet, is_later, is_quoted)
            }
            Some(Upper { protocol, packet, is_later }) => {
                self.transport(protocol, packet, is_later)
            }
        }
    }

    /// `SRC=2001:0db8:0000:…`: the kernel shortens nothing here.
    fn address(&mut self, name: &str, bytes: &[u8]) -> fmt::Result {
        let groups: Vec<_> =
            bytes.chunks(2).map(|pair| format!("{:02x}{:02x}", pair[0], pair[1])).collect();
        write!(self, "{name}={} ", groups.join(":"))
    }

    /// Walks to the upper-layer header; `None` where the line ends before it.
    fn extensions<'b>(&mut self, mut at: Upper<'b>) -> Result<Option<Upper<'b>>, fmt::Error> {
        for _ in 0..MOST_EXTENSIONS {
            if !matches!(at.protocol, 0 | 43 | FRAGMENT | AUTHENTICATION | 60) {
                return Ok(Some(at));
            }
            let Some([next, length]) = at.packet.array(0) else {
                self.write_str("TRUNCATED")?;
                return Ok(None);
            };
            self.option_word("OPT ( ")?;
            let header_len = match at.protocol {
                FRAGMENT => {
                    let Some(is_later) = self.fragment(at.packet)? else { return Ok(None) };
                    at.is_later = is_later;
                    8
                }
                _ if at.is_later => {
                    self.option_word(")")?;
                    return Ok(None);
                }
                AUTHENTICATION => {
                    self.authentication(at.packet)?;
                    (usize::from(length) + 2) * 4
                }
                _ => (usize::from(length) + 1) * 8,
            };
            self.option_word(") ")?;
            at.protocol = next;
            at.packet = at.packet.behind(header_len);
        }
        Ok(None)
    }

    fn option_word(&mut self, word: &str) -> fmt::Result {
        if self.format.ip_options { self.write_str(word) } else { Ok(()) }
    }

    /// Gives whether this is a later fragment, `None` when it cannot be read.
    fn fragment(&mut self, header: Bytes<'_>) -> Result<Option<bool>, fmt::Error> {
        let (Some(offset), Some(id)) = (header.u16(2), header.u32(4)) else {
            self.write_str("FRAG:TRUNCATED ")?;
            return Ok(None);
        };
        write!(self, "FRAG:{} ", offset & 0xfff8)?;
        if offset & 1 != 0 {
            self.write_str("INCOMPLETE ")?;
        }
        write!(self, "ID:{id:08x} ")?;
        Ok(Some(offset & 0xfff8 != 0))
    }

    fn authentication(&mut self, header: Bytes<'_>) -> fmt::Result {
        if !self.format.ip_options {
            return Ok(());
        }
        match header.u32(4) {
            Some(spi) => write!(self, "AH SPI={spi:#x} "),
            None => self.incomplete(header),
        }
    }

    fn icmpv6(&mut self, icmp: Bytes<'_>, is_later: bool, is_quoted: bool) -> fmt::Result {
        self.write_str("PROTO=ICMPv6 ")?;
        if is_later {
            return Ok(());
        }
        let (Some(kind), Some(code), Some(rest)) = (icmp.u8(0), icmp.u8(1), icmp.u32(4)) else {
            return self.incomplete(icmp);
        };
        write!(self, "TYPE={kind} CODE={code} ")?;
        match kind {
            128 | 129 => write!(self, "ID={} SEQ={} ", rest >> 16, rest & 0xffff),
            1..=4 => {
                if kind == 4 {
                    write!(self, "POINTER={rest:08x} ")?;
                }
                if !is_quoted {
                    self.write_str("[")?;
                    self.ipv6(icmp.behind(ICMP_HEADER), true)?;
                    self.write_str("] ")?;
                }
                if kind == 2 { write!(self, "MTU={rest} ") } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }
}
