//! What the two hosts of a translated control connection know each other by.

use std::net::IpAddr;

use firewall_common::flow::{Direction, Flow, status};

/// The address by which the other side knows a host, where that is not its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The client's, as the server knows it: behind SNAT or MASQUERADE.
    pub client: Option<IpAddr>,
    /// The server's, as the client knows it: behind DNAT or REDIRECT.
    pub server: Option<IpAddr>,
}

impl Names {
    pub fn of(flow: &Flow) -> Self {
        let name = |bit, direction: Direction| {
            flow.has(bit).then(|| flow.faces.source[direction.index()].to_ip())
        };
        Self {
            client: name(status::SOURCE_TRANSLATED, Direction::Original),
            server: name(status::DESTINATION_TRANSLATED, Direction::Reply),
        }
    }

    /// The one of who sends in this direction.
    pub const fn of_sender(&self, direction: Direction) -> Option<IpAddr> {
        match direction {
            Direction::Original => self.client,
            Direction::Reply => self.server,
        }
    }
}
