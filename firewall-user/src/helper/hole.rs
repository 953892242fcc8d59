//! The permission that one data connection needs.

use std::{fmt, net::IpAddr};

use firewall_common::expectation::ExpectationKey;
use firewall_common::flow::protocol;

/// One flow from `src`, any port, to `dst` port `dport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hole {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub dport: u16,
    /// One of [`protocol`].
    pub protocol: u8,
}

impl Hole {
    pub const fn tcp(src: IpAddr, dst: IpAddr, dport: u16) -> Self {
        Self { src, dst, dport, protocol: protocol::TCP }
    }

    pub const fn udp(src: IpAddr, dst: IpAddr, dport: u16) -> Self {
        Self { src, dst, dport, protocol: protocol::UDP }
    }

    /// The key of this hole in the expectation map.
    pub fn key(&self) -> ExpectationKey {
        ExpectationKey {
            src: self.src.into(),
            dst: self.dst.into(),
            dport: self.dport,
            protocol: self.protocol,
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
        let ExpectationKey { src, dst, dport, protocol, .. } = key;
        Self { src: src.to_ip(), dst: dst.to_ip(), dport, protocol }
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
            let [src, dst] = [src, dst].map(|host| host.parse().unwrap());
            for hole in [Hole::tcp(src, dst, 40_123), Hole::udp(src, dst, 40_123)] {
                assert_eq!(Hole::from(hole.key()), hole);
            }
        }
    }
}
