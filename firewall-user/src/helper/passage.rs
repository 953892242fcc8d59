//! The permission that stands while an encrypted control connection lives.

use std::{fmt, net::IpAddr};

use firewall_common::{expectation::ExpectationKey, flow::protocol};

use crate::ftp::PortRange;

/// Any number of TCP connections from `src`, any port, to these ports of `dst`, as packets to it
/// come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Passage {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Where they are led, if `dst` is only a name of it.
    pub inside: Option<IpAddr>,
    pub ports: PortRange,
}

impl Passage {
    /// Its key in the expectation map: port 0, which no connection has.
    pub fn key(&self) -> ExpectationKey {
        ExpectationKey {
            src: self.src.into(),
            dst: self.dst.into(),
            dport: 0,
            protocol: protocol::TCP,
            _pad: 0,
        }
    }
}

impl fmt::Display for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dst {
            IpAddr::V4(dst) => write!(f, "{} -> {dst}:{}", self.src, self.ports),
            IpAddr::V6(dst) => write!(f, "{} -> [{dst}]:{}", self.src, self.ports),
        }
    }
}
