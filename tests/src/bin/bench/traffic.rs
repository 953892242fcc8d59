//! The packets of the bench: many clients in 10.0.0.0/8 talk to one server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::{
    bench::{PORT_BITS, TEMPLATE, TEMPLATE6, Traffic, order, varies},
    testing::Frame,
    wire::tcp_flag::{ACK, PSH, RST, SYN},
};

/// Behind the server's link.
pub const SERVER: &str = "198.51.100.2";
/// Of client 0; the others follow.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
/// The lowest port of a client; the highest is so many bits above it.
const CLIENT_PORT: u16 = 20_000;
pub const SERVED: u16 = 80;
/// Where clients are served whom the gateway hides, and what it hides client 0 behind; the others
/// follow.
const SERVED_HIDDEN: u16 = 443;
const HIDDEN: Ipv4Addr = Ipv4Addr::new(100, 0, 0, 0);
/// The same of IPv6.
pub const SERVER6: &str = "2001:db8:2::2";
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
const HIDDEN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0);
/// From which FTP servers connect.
const DATA: u16 = 20;
/// Of echo requests.
const PING: u16 = 7;
/// No rule lets this port in.
const CLOSED: u16 = 81;

/// Where the transport checksum stands in the frame.
const TCP_CHECKSUM: u32 = 14 + 20 + 16;
const UDP_CHECKSUM: u32 = 14 + 20 + 6;
const ICMP_CHECKSUM: u32 = 14 + 20 + 2;
const TCP_CHECKSUM6: u32 = 14 + 40 + 16;
/// Types of ICMP.
const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;

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
    Echo,
    EchoReply,
    /// The first of a connection that the server makes, as FTP announces it.
    Announced,
}

impl Kind {
    /// Whether it comes from the clients.
    pub const fn is_original(self) -> bool {
        !matches!(
            self,
            Self::SynAck | Self::Reply | Self::Answer | Self::EchoReply | Self::Announced
        )
    }

    /// As it comes to the gateway, of a connection to this port; the server knows the clients
    /// by that address.
    fn frame(self, served: u16, known_by: IpAddr) -> Frame {
        let (client, server): (IpAddr, _) = match known_by {
            IpAddr::V4(_) => (CLIENT.into(), SERVER),
            IpAddr::V6(_) => (CLIENT6.into(), SERVER6),
        };
        let (client, known_by) = (client.to_string(), known_by.to_string());
        let frame = match self.is_original() {
            true => Frame::between(&client, server),
            false => Frame::between(server, &known_by),
        };
        match self {
            Self::Syn => frame.tcp(CLIENT_PORT, served, SYN),
            Self::SynAck => frame.tcp(served, CLIENT_PORT, SYN | ACK),
            Self::Ack | Self::Original => frame.tcp(CLIENT_PORT, served, ACK),
            Self::Reply => frame.tcp(served, CLIENT_PORT, ACK),
            Self::Invalid => frame.tcp(CLIENT_PORT, served, SYN | RST),
            Self::Refused => frame.tcp(CLIENT_PORT, CLOSED, SYN),
            Self::Datagram => frame.udp(CLIENT_PORT, SERVED),
            Self::Answer => frame.udp(SERVED, CLIENT_PORT),
            Self::Echo => frame.icmp(ECHO, 0, PING),
            Self::EchoReply => frame.icmp(ECHO_REPLY, 0, PING),
            Self::Announced => frame.tcp(DATA, CLIENT_PORT, SYN),
        }
    }

    const fn checksum_at(self) -> u32 {
        match self {
            Self::Datagram | Self::Answer => UDP_CHECKSUM,
            Self::Echo | Self::EchoReply => ICMP_CHECKSUM,
            _ => TCP_CHECKSUM,
        }
    }
}

/// A frame, and how the next ones differ from it.
#[derive(Clone, Debug)]
pub struct Packets {
    /// The program that makes them.
    pub maker: &'static str,
    pub frame: Vec<u8>,
    pub traffic: Traffic,
}

impl Packets {
    /// So many bytes from the first address on, of one of so many clients each, between two
    /// stations.
    pub fn of(kind: Kind, len: usize, clients: u32, macs: [[u8; 6]; 2]) -> Self {
        Self::made(kind, len, clients, macs, kind.frame(SERVED, CLIENT.into()))
    }

    /// The same of connections whose clients the gateway hides; the server's packets are
    /// addressed to what it hides them behind.
    pub fn hidden(kind: Kind, len: usize, clients: u32, macs: [[u8; 6]; 2]) -> Self {
        Self::made(kind, len, clients, macs, kind.frame(SERVED_HIDDEN, HIDDEN.into()))
    }

    /// Segments of IPv6 without data, of clients that the gateway hides or not.
    pub fn of_ipv6(kind: Kind, clients: u32, macs: [[u8; 6]; 2], is_hidden: bool) -> Self {
        let frame = match is_hidden {
            true => kind.frame(SERVED_HIDDEN, HIDDEN6.into()),
            false => kind.frame(SERVED, CLIENT6.into()),
        };
        let mut packets = Self::made(kind, 0, clients, macs, frame);
        packets.maker = "shape6";
        packets.traffic.template.copy_from_slice(&packets.frame[..TEMPLATE6]);
        packets.traffic.checksum_at = TCP_CHECKSUM6;
        packets
    }

    fn made(kind: Kind, len: usize, clients: u32, macs: [[u8; 6]; 2], bare: Frame) -> Self {
        let [from, to] = macs;
        let bare = bare.macs(from, to);
        let missing = (len + ETHERNET).saturating_sub(bare.build().len());
        let is_data = len > 64;
        let mut frame = match kind {
            Kind::Original | Kind::Reply if is_data => data(kind, missing).macs(from, to).build(),
            Kind::Datagram | Kind::Answer => bare.payload(&vec![0; missing]).build(),
            _ => bare.build(),
        };
        frame.resize(frame.len().max(SHORTEST), 0);
        let mut template = [0; TEMPLATE6];
        template[..TEMPLATE].copy_from_slice(&frame[..TEMPLATE]);
        let traffic = Traffic {
            template,
            varies: if kind.is_original() { varies::SOURCE } else { varies::DESTINATION },
            order: order::RANDOM,
            clients,
            next: 0,
            checksum_at: kind.checksum_at(),
            out_ifindex: 0,
        };
        Self { maker: "shape", frame, traffic }
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

/// Address and port of a client.
pub fn client(number: u32) -> (Ipv4Addr, u16) {
    let (host, port) = (number >> PORT_BITS, number & ((1 << PORT_BITS) - 1));
    (Ipv4Addr::from(u32::from(CLIENT) + host), CLIENT_PORT + port as u16)
}

/// All clients that there can be: they share 2^21 addresses.
pub const CLIENTS: u32 = 1 << 31;
