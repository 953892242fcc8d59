//! What both families carry: TCP, UDP, IPsec, and other protocols by number.

use std::fmt::{self, Write as _};

use super::{super::frame::Bytes, Line};

const TCP_HEADER: usize = 20;

/// In the order in which they are printed (`nf_log_dump_tcp_header`).
const TCP_FLAGS: [(u8, &str); 8] = [
    (0x80, "CWR "),
    (0x40, "ECE "),
    (0x20, "URG "),
    (0x10, "ACK "),
    (0x08, "PSH "),
    (0x04, "RST "),
    (0x02, "SYN "),
    (0x01, "FIN "),
];

impl Line<'_> {
    /// `is_later`: a later fragment, without transport header.
    pub(super) fn transport(
        &mut self,
        protocol: u8,
        packet: Bytes<'_>,
        is_later: bool,
    ) -> fmt::Result {
        match protocol {
            6 => self.tcp(packet, is_later),
            17 => self.udp("UDP", packet, is_later),
            136 => self.udp("UDPLITE", packet, is_later),
            50 => self.ipsec("ESP", packet, 0, is_later),
            51 => self.ipsec("AH", packet, 4, is_later),
            _ => write!(self, "PROTO={protocol} "),
        }
    }

    fn tcp(&mut self, tcp: Bytes<'_>, is_later: bool) -> fmt::Result {
        self.write_str("PROTO=TCP ")?;
        if is_later {
            return Ok(());
        }
        let Some(header) = tcp.array::<TCP_HEADER>(0) else { return self.incomplete(tcp) };
        let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
        write!(self, "SPT={} DPT={} ", half(0), half(2))?;
        if self.format.tcp_sequence {
            write!(self, "SEQ={} ACK={} ", word(4), word(8))?;
        }
        let reserved = (header[12] & 0xf) << 2;
        write!(self, "WINDOW={} RES=0x{reserved:02x} ", half(14))?;
        for (_, name) in TCP_FLAGS.iter().filter(|(bit, _)| header[13] & bit != 0) {
            self.write_str(name)?;
        }
        write!(self, "URGP={} ", half(18))?;
        self.tcp_options(tcp, usize::from(header[12] >> 4) * 4)
    }

    fn tcp_options(&mut self, tcp: Bytes<'_>, header_len: usize) -> fmt::Result {
        if !self.format.tcp_options || header_len <= TCP_HEADER {
            return Ok(());
        }
        match tcp.slice(TCP_HEADER, header_len - TCP_HEADER) {
            Some(options) => self.options(options),
            None => self.write_str("OPT (TRUNCATED) "),
        }
    }

    fn udp(&mut self, name: &str, udp: Bytes<'_>, is_later: bool) -> fmt::Result {
        write!(self, "PROTO={name} ")?;
        if is_later {
            return Ok(());
        }
        match (udp.u16(0), udp.u16(2), udp.u16(4), udp.u16(6)) {
            (Some(source), Some(destination), Some(len), Some(_checksum)) => {
                write!(self, "SPT={source} DPT={destination} LEN={len} ")
            }
            _ => self.incomplete(udp),
        }
    }

    fn ipsec(&mut self, name: &str, header: Bytes<'_>, spi: usize, is_later: bool) -> fmt::Result {
        write!(self, "PROTO={name} ")?;
        match header.u32(spi) {
            _ if is_later => Ok(()),
            Some(spi) => write!(self, "SPI={spi:#x} "),
            None => self.incomplete(header),
        }
    }
}
