//! Who lives where: the gateway's own addresses, and on which side others are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wish::Network;
use crate::{Family, wire::End};

/// Networks that are routed to the inside; all others lie outside.
pub const INSIDE_V4: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.19.0.0/16"];
pub const INSIDE_V6: [&str; 2] = ["fc00::/7", "2001:db8:5::/48"];

/// The next hop on both sides.
pub const NEIGHBOUR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// The gateway's address towards an end.
pub const fn own(end: End, family: Family) -> IpAddr {
    match (family, end) {
        (Family::V4, End::Client) => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
        (Family::V4, End::Server) => IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1)),
        (Family::V6, End::Client) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        (Family::V6, End::Server) => IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1)),
    }
}

/// The end to which an address is routed.
pub(super) fn side(address: IpAddr) -> End {
    let networks: &[&str] = if address.is_ipv4() { &INSIDE_V4 } else { &INSIDE_V6 };
    let mut networks = networks.iter().filter_map(|network| Network::parse(network));
    if networks.any(|network| network.holds(address)) { End::Server } else { End::Client }
}

/// Whether it is one of the gateway's.
pub fn is_own(address: IpAddr) -> bool {
    [Family::V4, Family::V6]
        .into_iter()
        .any(|family| [End::Client, End::Server].iter().any(|end| own(*end, family) == address))
}

/// Groups that the gateway has joined.
pub const GROUPS_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::new(239, 255, 255, 250)];
pub const GROUPS_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xf)];

/// Destinations that the gateway takes in though they are nobody's: its groups, and all
/// hosts of a link.
pub(super) fn for_many(network: &Network) -> Vec<IpAddr> {
    let v4 = GROUPS_V4.into_iter().chain([Ipv4Addr::BROADCAST]).map(IpAddr::from);
    let all = v4.chain(GROUPS_V6.map(IpAddr::from));
    all.filter(|address| network.holds(*address)).collect()
}

/// Whether a host may send from it, so that the stack does not drop it by itself.
pub(super) fn is_honest_source(address: IpAddr) -> bool {
    let is_martian = match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            first == 0 || first == 127 || first >= 224
        }
        IpAddr::V6(address) => address.is_multicast() || address.is_loopback() || is_zero(address),
    };
    !is_martian && !is_own(address)
}

/// Whether packets to it can be routed to one of the ends.
pub(super) fn is_reachable(address: IpAddr) -> bool {
    is_honest_source(address) && !is_link_local(address)
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_zero(address: Ipv6Addr) -> bool {
    address.is_unspecified() || address.to_ipv4().is_some()
}

/// One of a few hosts on a side.
pub(super) fn somebody(dice: &mut fastrand::Rng, end: End, family: Family) -> IpAddr {
    let host = dice.u8(2..10);
    match (family, end) {
        (Family::V4, End::Client) => Ipv4Addr::new(198, 18, 0, host).into(),
        (Family::V4, End::Server) => match dice.u8(..3) {
            0 => Ipv4Addr::new(198, 19, 0, host).into(),
            1 => Ipv4Addr::new(10, 1, 2, host).into(),
            _ => Ipv4Addr::new(192, 168, 1, host).into(),
        },
        (Family::V6, End::Client) => {
            Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, host.into()).into()
        }
        (Family::V6, End::Server) => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_live_on_the_side_to_which_they_are_routed() {
        let mut dice = fastrand::Rng::with_seed(1);
        for family in [Family::V4, Family::V6] {
            for end in [End::Client, End::Server] {
                let host = somebody(&mut dice, end, family);
                assert_eq!(side(host), end, "{host}");
                assert!(is_reachable(host) && !is_own(host), "{host}");
            }
        }
    }
}
