//! The packets of the bench: many clients in 10.0.0.0/8 talk to one server.

use std::net::Ipv4Addr;

use firewall_common::{
    bench::{TEMPLATE, Traffic, order, varies},
    testing::Frame,
    wire::tcp_flag::{ACK, PSH, RST, SYN},
};

/// Behind the server's link.
pub const SERVER: &str = "198.51.100.2";
/// Of client 0; the others follow.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
/// The lowest port of a client; the highest is so many bits above it.
const CLIENT_PORT: u16 = 20_000;
const SERVED: u16 = 80;
/// No rule lets this port in.
const CLOSED: u16 = 81;

/// Where the transport checksum stands in the frame.
const TCP_CHECKSUM: u32 = 14 + 20 + 16;
const UDP_CHECKSUM: u32 = 14 + 20 + 6;

/// What a packet is to the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The handshake, which makes a flow established.
    Syn,
    SynAck,
    Ack,
    /// A segment of the client's.
    Original,
    /// A segment of the server's.
    Reply,
    /// Two flags that no TCP sends together.
    Invalid,
    /// The first of a connection that no rule lets in.
    Refused,
    Datagram,
    Answer,
}

impl Kind {
    /// Whether it comes from the clients.
    pub const fn is_original(self) -> bool {
        !matches!(self, Self::SynAck | Self::Reply | Self::Answer)
    }

    fn frame(self) -> Frame {
        let client = CLIENT.to_string();
        let (src, dst) =
            if self.is_original() { (client.as_str(), SERVER) } else { (SERVER, client.as_str()) };
        let frame = Frame::between(src, dst);
        match self {
            Self::Syn => frame.tcp(CLIENT_PORT, SERVED, SYN),
            Self::SynAck => frame.tcp(SERVED, CLIENT_PORT, SYN | ACK),
            Self::Ack | Self::Original => frame.tcp(CLIENT_PORT, SERVED, ACK),
            Self::Reply => frame.tcp(SERVED, CLIENT_PORT, ACK),
            Self::Invalid => frame.tcp(CLIENT_PORT, SERVED, SYN | RST),
            Self::Refused => frame.tcp(CLIENT_PORT, CLOSED, SYN),
            Self::Datagram => frame.udp(CLIENT_PORT, SERVED),
            Self::Answer => frame.udp(SERVED, CLIENT_PORT),
        }
    }

    const fn checksum_at(self) -> u32 {
        match self {
            Self::Datagram | Self::Answer => UDP_CHECKSUM,
            _ => TCP_CHECKSUM,
        }
    }
}

/// A frame, and how the next ones differ from it.
#[derive(Clone, Debug)]
pub struct Packets {
    pub frame: Vec<u8>,
    pub traffic: Traffic,
}

impl Packets {
    /// So many bytes from the first address on, of one of so many clients each, between two
    /// stations.
    pub fn of(kind: Kind, len: usize, clients: u32, macs: [[u8; 6]; 2]) -> Self {
        let [from, to] = macs;
        let bare = kind.frame().macs(from, to).build();
        let missing = (len + ETHERNET).saturating_sub(bare.len());
        let is_data = len > 64;
        let frame = match kind {
            Kind::Original | Kind::Reply if is_data => data(kind, missing).macs(from, to).build(),
            Kind::Datagram | Kind::Answer => {
                kind.frame().payload(&vec![0; missing]).macs(from, to).build()
            }
            _ => bare,
        };
        let mut frame = frame;
        frame.resize(frame.len().max(SHORTEST), 0);
        let mut template = [0; TEMPLATE];
        template.copy_from_slice(&frame[..TEMPLATE]);
        let traffic = Traffic {
            template,
            varies: if kind.is_original() { varies::SOURCE } else { varies::DESTINATION },
            order: order::RANDOM,
            clients,
            next: 0,
            checksum_at: kind.checksum_at(),
            out_ifindex: 0,
        };
        Self { frame, traffic }
    }

    /// One client after the other, beginning with this one.
    #[must_use]
    pub const fn in_turn(mut self, first: u32) -> Self {
        self.traffic.order = order::IN_TURN;
        self.traffic.next = first;
        self
    }

    #[must_use]
    pub const fn by(mut self, ifindex: u32) -> Self {
        self.traffic.out_ifindex = ifindex;
        self
    }
}

const ETHERNET: usize = 14;
/// Bytes of a frame without its checksum (IEEE 802.3).
const SHORTEST: usize = 60;

fn data(kind: Kind, len: usize) -> Frame {
    let client = CLIENT.to_string();
    let payload = vec![0; len];
    let frame = match kind {
        Kind::Reply => Frame::between(SERVER, &client).tcp(SERVED, CLIENT_PORT, ACK | PSH),
        _ => Frame::between(&client, SERVER).tcp(CLIENT_PORT, SERVED, ACK | PSH),
    };
    frame.payload(&payload)
}

/// All clients that there can be: they share 2^21 addresses.
pub const CLIENTS: u32 = 1 << 31;
