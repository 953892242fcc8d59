//! The ends of a packet of IPv4 as its bytes have them, and what is written where they change.

use crate::{
    addr::Addr,
    checksum::Difference,
    flow::{Direction, Flow, Sender, Tuple, protocol, status},
    ipv4_key::Ipv4Key,
    nat::{Faces, Translation},
};

use super::Plain;

/// Addresses and ports, in the order of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub src: u32,
    pub dst: u32,
    pub sport: u16,
    pub dport: u16,
}

impl Ends {
    #[inline(always)]
    pub fn tuple(&self, protocol: u8) -> Tuple {
        Tuple {
            src: Addr::v4(self.src),
            dst: Addr::v4(self.dst),
            sport: u16::from_be(self.sport),
            dport: u16::from_be(self.dport),
            protocol,
            ..Tuple::default()
        }
    }

    /// Both ports as one word, in the order of memory.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        bytemuck::cast([self.sport, self.dport])
    }

    /// The key of their flow, and which of its endpoints sends.
    #[inline(always)]
    pub const fn key(&self, protocol: u8) -> (Ipv4Key, Sender) {
        let (sport, dport) = (u16::from_be(self.sport), u16::from_be(self.dport));
        Ipv4Key::between(protocol, (self.src, sport), (self.dst, dport))
    }

    /// What they are inside, where a wire face leads there.
    #[inline(always)]
    pub const fn inside(translation: &Translation) -> Self {
        let [.., low] = translation.low.words;
        let [.., high] = translation.high.words;
        let (low_port, high_port) = (translation.low_port.to_be(), translation.high_port.to_be());
        match translation.sender() {
            Sender::Low => Self { src: low, dst: high, sport: low_port, dport: high_port },
            Sender::High => Self { src: high, dst: low, sport: high_port, dport: low_port },
        }
    }

    /// With which ends a packet leaves that has these inside: as
    /// [`crate::nat::departure::leave`] has it.
    #[inline(always)]
    pub const fn leaving(mut self, faces: &Faces, direction: Direction) -> Self {
        let [original, reply] = &faces.source;
        let [source_port, destination_port] = faces.port;
        let (source, port) = match direction {
            Direction::Original => (original, source_port),
            Direction::Reply => (reply, destination_port),
        };
        let [.., address] = source.words;
        self.src = address;
        self.sport = port.to_be();
        if matches!(direction, Direction::Reply) {
            self.dport = faces.client_port.to_be();
        }
        self
    }
}

/// Whether packets of this direction leave with other ends than they have inside.
#[inline(always)]
pub const fn leaves_translated(flow: &Flow, direction: Direction) -> bool {
    flow.has(match direction {
        Direction::Original => status::SOURCE_TRANSLATED,
        Direction::Reply => status::DESTINATION_TRANSLATED,
    })
}

/// What is written into a packet that gets other ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned {
    pub ends: Ends,
    /// Of the IP header, its TTL as it came.
    pub header_checksum: u16,
    /// Of the transport header.
    pub checksum: u16,
}

impl Turned {
    /// As [`crate::nat::rewrite::plain_ends`] has it, of an eligible packet whose checksum
    /// nobody has left to hardware.
    #[inline(always)]
    pub fn of(plain: &Plain, ends: Ends) -> Self {
        let was = plain.ends();
        let addresses =
            Difference::default().double_word(was.src, ends.src).double_word(was.dst, ends.dst);
        let ports = Difference::default().word(was.sport, ends.sport).word(was.dport, ends.dport);
        let may_be_none = plain.ip().protocol == protocol::UDP;
        let field = plain.checksum();
        let checksum = match Difference::mended(field, addresses, ports, may_be_none, false) {
            Some(checksum) => checksum,
            None => field,
        };
        Self { ends, header_checksum: addresses.applied(plain.ip().checksum), checksum }
    }
}
