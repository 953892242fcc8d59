//! The requests of one client's port.

use std::net::{IpAddr, SocketAddr};

use firewall_common::flow::Direction;

use super::{note::Note, request};
use crate::helper::{Actions, Hole, Reader};

/// Ports below are of services, not of clients.
const UNPRIVILEGED: u16 = 1024;

/// Follows what one client's port asks a server.
#[derive(Clone, Debug)]
pub struct Exchange {
    client: SocketAddr,
    server: IpAddr,
    standing: Option<Hole>,
}

impl Exchange {
    pub const fn new(client: SocketAddr, server: IpAddr) -> Self {
        Self { client, server, standing: None }
    }

    fn request(&mut self, datagram: &[u8], actions: &mut Actions) {
        let client = self.client.ip();
        if let Err(why) = request::check(datagram) {
            return actions.note(Note::NoRequest { client, why });
        }
        if self.client.port() < UNPRIVILEGED {
            return;
        }
        self.close(actions);
        let hole = Hole::udp(self.server, client, self.client.port());
        self.standing = Some(hole);
        actions.open(hole);
    }

    fn close(&mut self, actions: &mut Actions) {
        if let Some(hole) = self.standing.take() {
            actions.close(hole);
        }
    }
}

impl Reader for Exchange {
    fn segment(&mut self, direction: Direction, _seq: u32, payload: &[u8]) -> Actions {
        let mut actions = Actions::default();
        if direction == Direction::Original {
            self.request(payload, &mut actions);
        }
        actions
    }

    fn ended(&mut self) -> Actions {
        let mut actions = Actions::default();
        self.close(&mut actions);
        actions
    }

    fn hole(&self) -> Option<Hole> {
        self.standing
    }

    fn restore_hole(&mut self, hole: Hole) {
        self.standing = Some(hole);
    }

    fn copy(&self) -> Box<dyn Reader> {
        Box::new(self.clone())
    }

    fn heap(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::Action;

    const REQUEST: &[u8] = b"\0\x01boot\0octet\0";

    fn exchange(port: u16) -> Exchange {
        Exchange::new(SocketAddr::new("192.0.2.7".parse().unwrap(), port), server())
    }

    fn server() -> IpAddr {
        "198.51.100.1".parse().unwrap()
    }

    #[test]
    fn a_request_opens_the_way_back_to_the_clients_port() {
        let mut exchange = exchange(2070);
        let hole = Hole::udp(server(), "192.0.2.7".parse().unwrap(), 2070);
        assert_eq!(
            exchange.segment(Direction::Original, 0, REQUEST).as_slice(),
            [Action::Open(hole)]
        );
        let again = exchange.segment(Direction::Original, 0, REQUEST);
        assert_eq!(again.as_slice(), [Action::Close(hole), Action::Open(hole)]);
        assert_eq!(exchange.ended().as_slice(), [Action::Close(hole)]);
    }

    #[test]
    fn nothing_else_opens_anything() {
        let data = b"\0\x03\0\x01data";
        let told = exchange(2070).segment(Direction::Original, 0, data);
        let [Action::Note(note)] = told.as_slice() else { panic!("{told:?}") };
        assert!(note.to_string().contains("192.0.2.7 is no TFTP request"), "{note}");
        assert!(exchange(2070).segment(Direction::Reply, 0, REQUEST).is_empty());
        assert!(exchange(69).segment(Direction::Original, 0, REQUEST).is_empty());
    }
}
