//! Arguments as validated types: what cannot be meant is refused before any
//! work is done.

use std::{fmt, net::IpAddr, num::NonZeroU16, path::PathBuf, str::FromStr, time::Duration};

use super::args::RecentEdit;
use crate::listing::{protocol, state};

/// `+192.0.2.1`, `-192.0.2.1` or `/`.
pub fn recent_edit(text: &str) -> Result<RecentEdit, String> {
    if text == "/" {
        return Ok(RecentEdit::Flush);
    }
    let address =
        |text: &str| text.parse::<IpAddr>().map_err(|_| format!("'{text}' is no address"));
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(text), _) => address(text).map(RecentEdit::Add),
        (_, Some(text)) => address(text).map(RecentEdit::Remove),
        _ => Err("write +ADDRESS, -ADDRESS or /".into()),
    }
}

/// The name of an interface, as the kernel allows it (`dev_valid_name`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

/// IFNAMSIZ without the NUL.
const LONGEST_NAME: usize = 15;

impl InterfaceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((name, _)) = text.split_once('@') {
            return Err(format!("the name ends before the `@`: {name}"));
        }
        if text.contains(',') {
            return Err("one name at a time: -i eth0 -i eth1".into());
        }
        let is_forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace();
        if text.is_empty() || text == "." || text == ".." || text.contains(is_forbidden) {
            return Err("no name of an interface".into());
        }
        if text.len() > LONGEST_NAME {
            return Err(format!("longer than the {LONGEST_NAME} bytes that a name can have"));
        }
        Ok(Self(text.into()))
    }
}

/// The ports whose connections are read as FTP control connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FtpPorts(Vec<NonZeroU16>);

impl FtpPorts {
    /// Doubles count once.
    pub fn new(mut ports: Vec<NonZeroU16>) -> Self {
        ports.sort_unstable();
        ports.dedup();
        Self(ports)
    }

    /// In ascending order, each once.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().map(|port| port.get())
    }
}

impl Default for FtpPorts {
    fn default() -> Self {
        Self(vec![NonZeroU16::new(21).expect("not zero")])
    }
}

impl fmt::Display for FtpPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.iter().map(|port| port.to_string()).collect();
        f.write_str(if ports.is_empty() { "none" } else { "" })?;
        f.write_str(&ports.join(","))
    }
}

impl FromStr for FtpPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let port = |item: &str| {
            item.trim().parse().map_err(|_| format!("`{item}` is no port; wanted e.g. 21,2121"))
        };
        Ok(Self::new(text.split(',').map(port).collect::<Result<_, _>>()?))
    }
}

/// An IP protocol, by name or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol(pub u8);

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        protocol::number(text)
            .map(Self)
            .ok_or_else(|| "no protocol; wanted e.g. tcp, udp, icmp, icmpv6 or a number".into())
    }
}

/// A protocol state, by its name in listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateName(pub &'static str);

impl FromStr for StateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        state::find(text).map(Self).ok_or_else(|| {
            let names: Vec<_> = state::names().collect();
            format!("no state; there are: {}", names.join(", "))
        })
    }
}

/// A mark and the bits of it that count: `7`, `0x10/0xff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub value: u32,
    pub mask: u32,
}

impl Mark {
    pub const fn matches(self, mark: u32) -> bool {
        mark & self.mask == self.value & self.mask
    }
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (number(value), number(mask)),
            None => (number(text), Some(u32::MAX)),
        };
        match (value, mask) {
            (Some(value), Some(mask)) => Ok(Self { value, mask }),
            _ => Err("no mark; wanted e.g. 7 or 0x10/0xff".into()),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A path that names something.
pub fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("no path".into()) } else { Ok(text.into()) }
}

/// Whole seconds, from one to a day.
pub fn seconds(text: &str) -> Result<Duration, String> {
    const DAY: u64 = 86_400;
    match text.parse() {
        Ok(seconds) if (1..=DAY).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("wanted are seconds, from 1 to {DAY}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<u16> {
        text.parse::<FtpPorts>().unwrap().iter().collect()
    }

    #[test]
    fn a_list_of_ports_is_sorted_and_free_of_doubles() {
        assert_eq!(ports("2121,21,21"), [21, 2121]);
        assert!(ports("none").is_empty());
        assert_eq!(FtpPorts::default().to_string(), "21");
        for wrong in ["0", "65536", "", "21,", "ftp"] {
            assert!(wrong.parse::<FtpPorts>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_no_interface_can_have_are_refused_with_the_reason() {
        let reason = |text: &str| text.parse::<InterfaceName>().unwrap_err();
        assert!(reason("eth0@if5").ends_with("eth0"));
        assert!(reason("eth0,eth1").contains("-i eth0 -i eth1"));
        assert!(reason("an-interface-too-long").contains("15 bytes"));
        assert!("eth0.100".parse::<InterfaceName>().is_ok());
    }

    #[test]
    fn a_mark_counts_under_its_mask() {
        let mark: Mark = "0x10/0xf0".parse().unwrap();
        assert!(mark.matches(0x1f) && !mark.matches(0x2f));
        assert!("7".parse::<Mark>().unwrap().matches(7));
        assert!("7/".parse::<Mark>().is_err());
    }
}
