//! The ends of a packet as its bytes have them, and what is written where they change.

use crate::{
    checksum::Difference,
    flow::{Direction, Flow, Sender, Tuple, protocol, status},
    nat::{Faces, Translation},
};

use super::{Address, Ip, Plain};

/// Addresses and ports, in the order of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<A> {
    pub src: A,
    pub dst: A,
    pub sport: u16,
    pub dport: u16,
}

impl<A: Address> Ends<A> {
    /// Whether they are the same; of what is translated the source's address mostly tells.
    #[inline(always)]
    pub fn are(&self, others: &Self) -> bool {
        self.src == others.src
            && self.dst == others.dst
            && self.sport == others.sport
            && self.dport == others.dport
    }

    #[inline(always)]
    pub fn tuple(&self, protocol: u8) -> Tuple {
        Tuple {
            src: self.src.wide(),
            dst: self.dst.wide(),
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
    pub fn key(&self, protocol: u8) -> (A::Key, Sender) {
        A::key(self, protocol)
    }

    /// What they are inside, where a wire face leads there.
    #[inline(always)]
    pub fn inside(translation: &Translation) -> Self {
        let (low, high) = (A::narrow(&translation.low), A::narrow(&translation.high));
        let (low_port, high_port) = (translation.low_port.to_be(), translation.high_port.to_be());
        match translation.sender() {
            Sender::Low => Self { src: low, dst: high, sport: low_port, dport: high_port },
            Sender::High => Self { src: high, dst: low, sport: high_port, dport: low_port },
        }
    }

    /// With which ends a packet leaves that has these inside: as
    /// [`crate::nat::departure::leave`] has it.
    #[inline(always)]
    pub fn leaving(mut self, faces: &Faces, direction: Direction) -> Self {
        let [original, reply] = &faces.source;
        let [source_port, destination_port] = faces.port;
        let (source, port) = match direction {
            Direction::Original => (original, source_port),
            Direction::Reply => (reply, destination_port),
        };
        self.src = A::narrow(source);
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
pub struct Turned<A> {
    pub ends: Ends<A>,
    /// Of the IP header, its TTL as it came; 0 where it has none.
    pub header_checksum: u16,
    /// Of the transport header.
    pub checksum: u16,
}

impl<A: Address> Turned<A> {
    /// As [`crate::nat::rewrite::plain_ends`] has it, of an eligible packet whose checksum
    /// nobody has left to hardware.
    #[inline(always)]
    pub fn of<I: Ip<Address = A>>(plain: &Plain<I>, ends: Ends<A>) -> Self {
        let was = plain.ends();
        let addresses = ends.src.instead_of(was.src, Difference::default());
        let addresses = ends.dst.instead_of(was.dst, addresses);
        let ports = Difference::default().word(was.sport, ends.sport).word(was.dport, ends.dport);
        let may_be_none = plain.ip.protocol() == protocol::UDP;
        let field = plain.checksum();
        let checksum = match Difference::mended(field, addresses, ports, may_be_none, false) {
            Some(checksum) => checksum,
            None => field,
        };
        let header_checksum = plain.ip.checksum_behind(addresses);
        Self { ends, header_checksum, checksum }
    }
}
