//! One honest TCP connection, segment by segment, with sequence numbers that fit.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::packet::{Packet, Segment, flag};

/// The second byte of the addresses of established clients: 10.1.0.0/16.
pub const ESTABLISHED: u8 = 1;
/// Of those that connect during the flood: 10.2.0.0/16.
pub const NEWCOMERS: u8 = 2;

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 77), 443);
const CLIENT_PORT: u16 = 40_000;
/// The initial sequence numbers.
const CLIENT: u32 = 1_000;
const SERVERS: u32 = 5_000;
/// What both say in each exchange.
const WORD: &[u8] = b"x";

/// A client of a network, and its connection to the server.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    client: SocketAddr,
    /// Words that each side has said.
    said: u32,
}

impl Caller {
    pub fn new(network: u8, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(10, network, high, low);
        Self { client: SocketAddrV4::new(address, CLIENT_PORT).into(), said: 0 }
    }

    pub fn syn(&self) -> Packet {
        self.there(flag::SYN, CLIENT, 0, b"")
    }

    pub fn syn_ack(&self) -> Packet {
        self.back(flag::SYN | flag::ACK, SERVERS, CLIENT + 1, b"")
    }

    pub fn ack(&self) -> Packet {
        self.there(flag::ACK, CLIENT + 1, SERVERS + 1, b"")
    }

    /// The client says a word, and the server one that acknowledges it.
    pub fn exchange(&mut self) -> [Packet; 2] {
        let flags = flag::PSH | flag::ACK;
        let (client, server) = (CLIENT + 1 + self.said, SERVERS + 1 + self.said);
        let said = WORD.len() as u32;
        self.said += said;
        [self.there(flags, client, server, WORD), self.back(flags, server, client + said, WORD)]
    }

    /// The client aborts.
    pub fn reset(&self) -> Packet {
        self.there(flag::RST, CLIENT + 1 + self.said, 0, b"")
    }

    fn there(&self, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Packet {
        let segment = Segment { flags, seq, ack, payload: payload.into() };
        Packet::tcp(self.client, SERVER.into(), segment)
    }

    fn back(&self, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Packet {
        let segment = Segment { flags, seq, ack, payload: payload.into() };
        Packet::tcp(SERVER.into(), self.client, segment)
    }
}
