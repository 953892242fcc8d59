//! The ways from the wire to the inside, as the maps hold them.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::Addr,
    flow::{Direction, Flow, FlowKey, Sender, Tuple, status},
    time::Nanos,
};

/// Bits of [`Translation::flags`].
pub mod flag {
    /// Packets whose sender is the key's high endpoint are concerned, else those of its low
    /// one. A packet of the other one is no packet of this flow.
    pub const FROM_HIGH: u8 = 1 << 0;
}

/// What the endpoints of a wire face, which is the key ([`FlowKey`]), are inside: `low` is
/// what becomes of the key's low endpoint, `high` of the high one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Translation {
    pub low: Addr,
    pub high: Addr,
    pub low_port: u16,
    pub high_port: u16,
    /// Bits of [`flag`].
    pub flags: u8,
    pub _pad: [u8; 3],
    /// When it was claimed. It holds as long as its flow is there and has this face.
    pub claimed: Nanos,
}

impl Translation {
    /// Becomes the way to these ends inside, of packets that this endpoint of the key sends.
    #[inline(always)]
    pub const fn lead(&mut self, sender: Sender, inside: &Tuple, claimed: Nanos) {
        if matches!(sender, Sender::High) {
            (self.low, self.low_port) = (inside.dst, inside.dport);
            (self.high, self.high_port) = (inside.src, inside.sport);
            self.flags = flag::FROM_HIGH;
        } else {
            (self.low, self.low_port) = (inside.src, inside.sport);
            (self.high, self.high_port) = (inside.dst, inside.dport);
            self.flags = 0;
        }
        self._pad = [0; 3];
        self.claimed = claimed;
    }

    /// Whether both lead to the same ends, from the same sender.
    #[inline(always)]
    pub fn leads_to(&self, other: &Self) -> bool {
        self.low == other.low
            && self.high == other.high
            && self.low_port == other.low_port
            && self.high_port == other.high_port
            && self.flags == other.flags
    }

    /// Which endpoint of the key sends the packets that are concerned.
    #[inline(always)]
    pub const fn sender(&self) -> Sender {
        if self.flags & flag::FROM_HIGH == 0 { Sender::Low } else { Sender::High }
    }

    /// Whether packets of this endpoint of the key are concerned.
    #[inline(always)]
    pub const fn is_from(&self, sender: Sender) -> bool {
        matches!(sender, Sender::High) == (self.flags & flag::FROM_HIGH != 0)
    }

    /// Turns a packet of the right sender from the wire to the inside.
    #[inline(always)]
    pub const fn apply(&self, tuple: &mut Tuple) {
        if self.flags & flag::FROM_HIGH == 0 {
            (tuple.src, tuple.sport) = (self.low, self.low_port);
            (tuple.dst, tuple.dport) = (self.high, self.high_port);
        } else {
            (tuple.src, tuple.sport) = (self.high, self.high_port);
            (tuple.dst, tuple.dport) = (self.low, self.low_port);
        }
    }
}

/// Bits of [`Faces::flags`].
pub mod face {
    /// The source is that of an interface (MASQUERADE): the flow ends when that loses it.
    pub const MASQUERADE: u8 = 1 << 0;
    /// Its source is that of a mapping, which it keeps alive ([`super::super::mapping`]).
    pub const MAPPED: u8 = 1 << 1;
}

/// What the ends of a flow are called on the wire, in [`Flow::faces`]. Each holds under its
/// bit of the status only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Faces {
    /// The source that packets leave with, by their [`Direction`]: of the original direction
    /// with [`status::SOURCE_TRANSLATED`], of replies with
    /// [`status::DESTINATION_TRANSLATED`], when it is whom the client talks to.
    pub source: [Addr; 2],
    /// With it; of ICMP the identifier.
    pub port: [u16; 2],
    /// With [`status::DESTINATION_TRANSLATED`]: the client's own port. Inside it has another
    /// one where two connections would be the same.
    pub client_port: u16,
    /// Bits of [`face`].
    pub flags: u8,
    pub _pad: u8,
}

const NO_TUPLE: Tuple = Tuple {
    src: Addr::ANY,
    dst: Addr::ANY,
    sport: 0,
    dport: 0,
    protocol: 0,
    icmp_type: 0,
    icmp_code: 0,
    _pad: 0,
};

impl Flow {
    /// The packets of the original direction, as the client sends them; `key` is the flow's.
    /// What conntrack(8) prints first.
    #[inline(always)]
    pub const fn wire_original(&self, key: &FlowKey) -> Tuple {
        let mut tuple = NO_TUPLE;
        self.write_wire_original(key, &mut tuple);
        tuple
    }

    /// The same in place.
    #[inline(always)]
    pub const fn write_wire_original(&self, key: &FlowKey, tuple: &mut Tuple) {
        key.write_tuple(self.originator(), tuple);
        if self.has(status::DESTINATION_TRANSLATED) {
            tuple.sport = self.faces.client_port;
            tuple.dst = self.faces.source[Direction::Reply.index()];
            tuple.dport = self.faces.port[Direction::Reply.index()];
        }
    }

    /// The packets of the reply direction, as the server sends them. What conntrack(8) prints
    /// second.
    #[inline(always)]
    pub const fn wire_reply(&self, key: &FlowKey) -> Tuple {
        let mut tuple = NO_TUPLE;
        self.write_wire_reply(key, &mut tuple);
        tuple
    }

    /// The same in place.
    #[inline(always)]
    pub const fn write_wire_reply(&self, key: &FlowKey, tuple: &mut Tuple) {
        key.write_tuple(self.originator().other(), tuple);
        if self.has(status::SOURCE_TRANSLATED) {
            tuple.dst = self.faces.source[Direction::Original.index()];
            tuple.dport = self.faces.port[Direction::Original.index()];
        }
    }

    /// How it is translated, as the kernel says it: bits of [`status`].
    pub fn translations(&self, key: &FlowKey) -> u8 {
        translations(&self.wire_original(key), &self.wire_reply(key))
    }

    #[inline(always)]
    pub const fn is_translated(&self) -> bool {
        self.has(status::SOURCE_TRANSLATED | status::DESTINATION_TRANSLATED)
    }
}

/// How a connection with these packets on the wire is translated: bits of [`status`]. Who is given
/// another source port, because its own is another connection's, has its source translated
/// (IPS_SRC_NAT), though here that stands with the destination.
#[inline(always)]
pub fn translations(original: &Tuple, reply: &Tuple) -> u8 {
    let mut bits = 0;
    if original.src != reply.dst || original.sport != reply.dport {
        bits |= status::SOURCE_TRANSLATED;
    }
    if original.dst != reply.src || original.dport != reply.sport {
        bits |= status::DESTINATION_TRANSLATED;
    }
    bits
}

const _: () = assert!(size_of::<Translation>() == 48);
const _: () = assert!(size_of::<Faces>() == 40);

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::flow::protocol;

    fn tuple(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> Tuple {
        Tuple {
            src: Ipv4Addr::from(src).into(),
            dst: Ipv4Addr::from(dst).into(),
            sport,
            dport,
            protocol: protocol::TCP,
            ..Tuple::default()
        }
    }

    #[test]
    fn what_is_found_under_a_wire_face_leads_inside() {
        let inside = tuple([10, 0, 0, 2], 4_001, [192, 168, 1, 5], 80);
        for wire in [
            tuple([10, 0, 0, 2], 4_000, [198, 51, 100, 1], 80),
            tuple([10, 0, 0, 2], 4_000, [1, 1, 1, 1], 8_080),
        ] {
            let (_, sender) = FlowKey::of(&wire);
            let mut translation = Translation::default();
            translation.lead(sender, &inside, Nanos(7));
            assert!(translation.is_from(sender));
            assert_eq!(translation.sender(), sender);
            let (_, other) = FlowKey::of(&wire.reversed());
            assert!(!translation.is_from(other));
            let mut packet = wire;
            translation.apply(&mut packet);
            assert_eq!(packet, inside);
        }
    }

    #[test]
    fn a_flow_knows_both_its_wire_faces() {
        let inside = tuple([10, 0, 0, 2], 4_001, [192, 168, 1, 5], 80);
        let (key, originator) = FlowKey::of(&inside);
        let mut flow = Flow { originator: originator as u8, ..Flow::default() };
        assert_eq!(flow.wire_original(&key), inside);
        assert_eq!(flow.wire_reply(&key), inside.reversed());
        flow.status = status::SOURCE_TRANSLATED | status::DESTINATION_TRANSLATED;
        flow.faces = Faces {
            source: [Ipv4Addr::new(203, 0, 113, 1).into(), Ipv4Addr::new(198, 51, 100, 1).into()],
            port: [61_000, 8_080],
            client_port: 4_000,
            ..Faces::default()
        };
        let original = tuple([10, 0, 0, 2], 4_000, [198, 51, 100, 1], 8_080);
        assert_eq!(flow.wire_original(&key), original);
        let reply = tuple([192, 168, 1, 5], 80, [203, 0, 113, 1], 61_000);
        assert_eq!(flow.wire_reply(&key), reply);
    }
}
