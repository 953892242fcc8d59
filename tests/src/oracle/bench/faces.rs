//! What a gateway has made of the ends of a talk: who answers, answers whom the packet seemed
//! to come from.

use std::net::IpAddr;

use super::arrival::Arrival;
use crate::oracle::rulebook::{Content, Draft};

/// Source and destination of a packet, with their ports; of ICMP the identifier, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) addresses: [IpAddr; 2],
    pub(super) ports: [u16; 2],
}

/// The ends with which the first packet of a talk was sent, and those with which it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faces {
    sent: Ends,
    seen: Ends,
}

impl Ends {
    pub(super) fn of(draft: &Draft) -> Self {
        let ports = match &draft.content {
            Content::Tcp { ports, .. } | Content::Udp { ports, .. } => *ports,
            Content::Icmp { rest: [high, low, ..], .. } => [u16::from_be_bytes([*high, *low]); 2],
            Content::Other { .. } => [0; 2],
        };
        Self { addresses: [draft.source, draft.destination], ports }
    }

    const fn reversed(self) -> Self {
        let ([a, b], [c, d]) = (self.addresses, self.ports);
        Self { addresses: [b, a], ports: [d, c] }
    }

    fn put_into(self, mut draft: Draft) -> Draft {
        [draft.source, draft.destination] = self.addresses;
        match &mut draft.content {
            Content::Tcp { ports, .. } | Content::Udp { ports, .. } => *ports = self.ports,
            Content::Icmp { rest, .. } => rest[..2].copy_from_slice(&self.ports[0].to_be_bytes()),
            Content::Other { .. } => {}
        }
        draft
    }
}

impl Faces {
    pub(super) fn new(sent: &Draft, arrival: &Arrival) -> Self {
        Self { sent: Ends::of(sent), seen: arrival.ends() }
    }

    /// The packet as its sender makes it. `None` for what speaks about a translated packet:
    /// its draft quotes another one.
    pub(super) fn turn(&self, draft: Draft) -> Option<Draft> {
        let ends = Ends::of(&draft);
        if self.sent == self.seen || ends == self.sent {
            Some(draft)
        } else if ends == self.sent.reversed() {
            Some(self.seen.reversed().put_into(draft))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::End;

    fn draft(source: &str, destination: &str, ports: [u16; 2]) -> Draft {
        Draft {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            hops: 64,
            tos: 0,
            extensions: Vec::new(),
            content: Content::Udp { ports, payload: 4 },
        }
    }

    #[test]
    fn an_answer_goes_to_whom_the_packet_seemed_to_come_from() {
        let sent = draft("192.168.1.5", "198.51.100.7", [4000, 53]);
        let seen = draft("203.0.113.1", "198.51.100.7", [1024, 53]);
        let arrival = Arrival::read(End::Client, &seen.bytes(7)).unwrap();
        assert!(arrival.carries(7, &sent) && !arrival.carries(8, &sent));
        let faces = Faces::new(&sent, &arrival);
        let answer = draft("198.51.100.7", "192.168.1.5", [53, 4000]);
        assert_eq!(faces.turn(answer), Some(draft("198.51.100.7", "203.0.113.1", [53, 1024])));
        assert_eq!(faces.turn(sent.clone()), Some(sent));
        assert_eq!(faces.turn(draft("198.51.100.9", "192.168.1.5", [1, 1])), None);
    }

    #[test]
    fn what_is_not_translated_is_left_as_it_is() {
        let sent = draft("192.168.1.5", "198.51.100.7", [4000, 53]);
        let arrival = Arrival::read(End::Client, &sent.bytes(7)).unwrap();
        let other = draft("198.51.100.9", "192.168.1.5", [1, 1]);
        assert_eq!(Faces::new(&sent, &arrival).turn(other.clone()), Some(other));
    }
}
