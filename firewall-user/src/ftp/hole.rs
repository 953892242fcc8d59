//! The permission that one data connection needs.

use std::{fmt, net::IpAddr};

use firewall_common::expectation::ExpectationKey;
use firewall_common::flow::protocol;

/// One TCP connection from `src`, any port, to `dst` port `dport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hole {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub dport: u16,
}

impl Hole {
    /// The key of this hole in the expectation map.
    pub fn key(&self) -> ExpectationKey {
        ExpectationKey {
            src: self.src.into(),
            dst: self.dst.into(),
            dport: self.dport,
            protocol: protocol::TCP,
            _pad: 0,
        }
    }
}

impl From<Hole> for ExpectationKey {
    fn from(hole: Hole) -> Self {
        hole.key()
    }
}

/// From the map, where a daemon that starts finds what the former one opened.
impl From<ExpectationKey> for Hole {
    fn from(key: ExpectationKey) -> Self {
        Self { src: key.src.to_ip(), dst: key.dst.to_ip(), dport: key.dport }
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dst {
            IpAddr::V4(dst) => write!(f, "{} -> {dst}:{}", self.src, self.dport),
            IpAddr::V6(dst) => write!(f, "{} -> [{dst}]:{}", self.src, self.dport),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_survives_the_map_in_both_families() {
        for (src, dst) in [("192.0.2.7", "198.51.100.1"), ("2001:db8::7", "2001:db8::1")] {
            let hole = Hole { src: src.parse().unwrap(), dst: dst.parse().unwrap(), dport: 40_123 };
            assert_eq!(Hole::from(hole.key()), hole);
            assert_eq!(hole.key().protocol, protocol::TCP);
        }
    }
}
