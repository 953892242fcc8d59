//! Frames in words, for reports.

use std::fmt;

use super::{
    Content, Frame,
    frame::{Checksum, Report, Reporter, Segment},
    options::TcpOption,
};

/// `client: SYN seq 1000 win 8192 <mss 1460>`
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sender())?;
        if self.flow != 0 {
            write!(f, " (flow {})", self.flow)?;
        }
        write!(f, ": {}", self.content)?;
        match self.checksum {
            Checksum::Right => {}
            Checksum::Wrong => f.write_str(", wrong checksum")?,
            Checksum::Absent => f.write_str(", no checksum")?,
            Checksum::WrongInHeader => f.write_str(", wrong checksum of the IP header")?,
        }
        match &self.piece {
            Some(piece) => write!(f, ", bytes {:?} of it", piece.bytes),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(segment) => segment.fmt(f),
            Self::Udp { payload } => write!(f, "UDP with {payload} bytes"),
            Self::Icmp(message) => write!(f, "ICMP {}/{}", message.kind, message.code),
            Self::Error(Report { kind, code, about, quote, by, .. }) => {
                let by = match by {
                    Reporter::End => "",
                    Reporter::Router => " by a router",
                    Reporter::ToStranger => " to a stranger",
                };
                write!(f, "ICMP {kind}/{code}{by} about {quote} bytes of [{about}]")
            }
            Self::Other { protocol, bytes } => {
                write!(f, "protocol {protocol} with {} bytes", bytes.len())?;
                bytes.iter().take(8).try_for_each(|byte| write!(f, " {byte:02x}"))
            }
            Self::Raw(bytes) => write!(f, "a packet of {} bytes", bytes.len()),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let set = NAMES.iter().enumerate().filter(|(bit, _)| self.flags & 1 << bit != 0);
        let names: Vec<_> = set.map(|(_, name)| *name).collect();
        write!(f, "{}", if names.is_empty() { "no flags".into() } else { names.join(" ") })?;
        write!(f, " seq {} ack {} win {}", self.seq, self.ack, self.window)?;
        if self.payload > 0 {
            write!(f, " len {}", self.payload)?;
        }
        self.options.iter().try_for_each(|option| write!(f, " <{option}>"))
    }
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mss(size) => write!(f, "mss {size}"),
            Self::Scale(shift) => write!(f, "scale {shift}"),
            Self::SackPermitted => f.write_str("sack permitted"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(from, to)| write!(f, " {from}-{to}"))
            }
            Self::Timestamps { value, echo } => write!(f, "timestamps {value} {echo}"),
            Self::FastOpen(cookie) => write!(f, "fast open, {} bytes", cookie.len()),
            Self::Raw(bytes) => write!(f, "bytes {bytes:02x?}"),
        }
    }
}
