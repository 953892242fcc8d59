//! What the LOG target writes: the line that the kernel's nf_log_syslog writes
//! for the same packet (net/netfilter/nf_log_syslog.c).
//!
//! The line has no trailing blank and neither user nor mark. A header that the
//! event has not captured reads `INCOMPLETE`, as one that the packet lacks.

mod ipv4;
mod ipv6;
mod transport;

use std::fmt::{self, Write as _};

use firewall_common::event::Event;

use super::frame::Bytes;
use crate::rules::log_option;

/// What a LOG rule says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFormat<'f> {
    /// `--log-prefix`
    pub prefix: &'f str,
    /// `--log-tcp-sequence`
    pub tcp_sequence: bool,
    /// `--log-tcp-options`
    pub tcp_options: bool,
    /// `--log-ip-options`
    pub ip_options: bool,
}

impl<'f> LogFormat<'f> {
    /// `options` are bits of [`log_option`]; `--log-uid` and `--log-macdecode`
    /// have no effect here.
    pub const fn new(prefix: &'f str, options: u8) -> Self {
        Self {
            prefix,
            tcp_sequence: options & log_option::TCP_SEQUENCE != 0,
            tcp_options: options & log_option::TCP_OPTIONS != 0,
            ip_options: options & log_option::IP_OPTIONS != 0,
        }
    }
}

/// The names of a packet's interfaces; empty for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interfaces<'i> {
    pub input: &'i str,
    pub output: &'i str,
}

/// Ethernet's header without tags.
const LINK_HEADER: usize = 14;

/// `PREFIXIN=eth0 OUT=eth1 MAC=… SRC=… DST=… LEN=60 … PROTO=TCP SPT=… DPT=… …`
pub fn text(event: &Event, format: &LogFormat<'_>, interfaces: Interfaces<'_>) -> String {
    let mut line = Line { text: String::with_capacity(320), format };
    line.event(event, interfaces).expect("a String takes all");
    line.text.truncate(line.text.trim_end().len());
    line.text
}

/// A line in the making; every word leaves a blank behind it.
struct Line<'f> {
    text: String,
    format: &'f LogFormat<'f>,
}

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        Ok(())
    }
}

impl Line<'_> {
    fn event(&mut self, event: &Event, interfaces: Interfaces<'_>) -> fmt::Result {
        let Interfaces { input, output } = interfaces;
        write!(self, "{}IN={input} OUT={output} ", self.format.prefix)?;
        let frame = Bytes::of(event);
        if !input.is_empty() {
            self.mac(frame, usize::from(event.l3))?;
        }
        let packet = frame.behind(usize::from(event.l3));
        match packet.u8(0).map(|byte| byte >> 4) {
            Some(4) => self.ipv4(packet, false),
            Some(6) => self.ipv6(packet, false),
            _ => self.write_str("TRUNCATED "),
        }
    }

    fn mac(&mut self, frame: Bytes<'_>, l3: usize) -> fmt::Result {
        let header = frame.slice(0, LINK_HEADER.min(l3)).unwrap_or_default();
        let bytes: Vec<_> = header.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(self, "MAC={} ", bytes.join(":"))
    }

    /// `OPT (020405B4) `, for the headers that have options.
    fn options(&mut self, bytes: &[u8]) -> fmt::Result {
        self.write_str("OPT (")?;
        for byte in bytes {
            write!(self, "{byte:02X}")?;
        }
        self.write_str(") ")
    }

    fn incomplete(&mut self, packet: Bytes<'_>) -> fmt::Result {
        write!(self, "INCOMPLETE [{} bytes] ", packet.len())
    }
}

#[cfg(test)]
mod tests;
