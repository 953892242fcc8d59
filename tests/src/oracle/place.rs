//! Where a script is played: the addresses of its two ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{Family, wire::End};

/// The client's side is 198.18.0.0/16 and the server's 198.19.0.0/16 (RFC 2544), in
/// IPv6 2001:db8:c::/48 and 2001:db8:5::/48 (RFC 3849).
pub const CLIENTS_V4: &str = "198.18.0.0/16";
pub const SERVERS_V4: &str = "198.19.0.0/16";
pub const CLIENTS_V6: &str = "2001:db8:c::/48";
pub const SERVERS_V6: &str = "2001:db8:5::/48";

const CLIENT_PORT: u16 = 40_000;
const SERVER_PORT: u16 = 5_000;

/// The endpoints of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub client: SocketAddr,
    pub server: SocketAddr,
}

impl Place {
    /// How many places there are: the last addresses of each side are kept for
    /// routers and sentinels.
    pub const COUNT: u16 = 0xff00;

    /// The place of this number, of which no address is another place's.
    pub fn numbered(family: Family, number: u16) -> Self {
        Self {
            client: SocketAddr::new(address(End::Client, family, number), CLIENT_PORT),
            server: SocketAddr::new(address(End::Server, family, number), SERVER_PORT),
        }
    }

    /// An endpoint; a script's further flows have other ports of the client.
    pub fn endpoint(&self, end: End, flow: u16) -> SocketAddr {
        match end {
            End::Client => SocketAddr::new(self.client.ip(), self.client.port().wrapping_add(flow)),
            End::Server => self.server,
        }
    }

    /// A router on the way to an end, which may report errors.
    pub fn router(&self, end: End) -> IpAddr {
        address(end, self.family(), 0xfffe)
    }

    pub const fn family(&self) -> Family {
        if self.client.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// The number of the place that an address belongs to; `None` for other addresses.
pub fn number(address: IpAddr) -> Option<u16> {
    let number = match address {
        IpAddr::V4(address) => {
            let [198, 18 | 19, high, low] = address.octets() else { return None };
            u16::from_be_bytes([high, low]).checked_sub(1)?
        }
        IpAddr::V6(address) => {
            let [0x2001, 0xdb8, 0xc | 5, 0, 0, 0, 0, number] = address.segments() else {
                return None;
            };
            number.checked_sub(1)?
        }
    };
    (number < Place::COUNT).then_some(number)
}

/// The end at whose side an address stands.
pub fn end(address: IpAddr) -> Option<End> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [198, 18, ..] => Some(End::Client),
            [198, 19, ..] => Some(End::Server),
            _ => None,
        },
        IpAddr::V6(address) => match address.segments() {
            [0x2001, 0xdb8, 0xc, ..] => Some(End::Client),
            [0x2001, 0xdb8, 5, ..] => Some(End::Server),
            _ => None,
        },
    }
}

/// The address of this number at one side; the numbers of places come first.
pub fn address(end: End, family: Family, number: u16) -> IpAddr {
    let [high, low] = number.wrapping_add(1).to_be_bytes();
    match (family, end) {
        (Family::V4, End::Client) => Ipv4Addr::new(198, 18, high, low).into(),
        (Family::V4, End::Server) => Ipv4Addr::new(198, 19, high, low).into(),
        (Family::V6, end) => {
            let side = if end == End::Client { 0xc } else { 5 };
            let number = u16::from_be_bytes([high, low]);
            Ipv6Addr::new(0x2001, 0xdb8, side, 0, 0, 0, 0, number).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_its_place() {
        for family in [Family::V4, Family::V6] {
            for wanted in [0, 1, 255, 256, Place::COUNT - 1] {
                let place = Place::numbered(family, wanted);
                assert_eq!(number(place.client.ip()), Some(wanted));
                assert_eq!(number(place.server.ip()), Some(wanted));
                assert_eq!(end(place.client.ip()), Some(End::Client));
                assert_eq!(end(place.server.ip()), Some(End::Server));
            }
            assert_eq!(number(Place::numbered(family, 0).router(End::Server)), None);
        }
    }
}
