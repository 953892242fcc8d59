//! What the daemon does with the segments of one translated control connection, and the
//! programs with its acknowledgements.
//!
//! `daemon::helper::rewriting` does the same with frames and maps.

use std::net::{IpAddr, SocketAddr};

use firewall_common::{
    flow::Direction,
    seq::Seq,
    shift::{Shift, Shifts},
    time::Nanos,
};

use super::Segment;
use crate::{
    ftp::Conversation,
    helper::{
        Emission, Hole, Names, Place, Reader as _, Replacement, Rewriter, emit, parts, passed_over,
        text_at, told_within,
    },
};

/// Turned over in a port that is told: it stays unprivileged, and is another one.
const OTHER: u16 = 0x1f0;

/// An announcement that is to name another endpoint for its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub direction: Direction,
    /// As its sender means it.
    pub hole: Hole,
    pub place: Place,
    /// What its receiver reads.
    pub text: Vec<u8>,
    /// Whether it does. Else it has gone on in part; then it stays as it is, and opens nothing.
    pub stands: bool,
}

#[derive(Debug)]
pub struct Middle {
    reader: Conversation,
    hosts: [IpAddr; 2],
    names: Names,
    shifts: [Shift; 2],
    /// What the receiver of a direction has acknowledged, in its sender's numbers.
    acknowledged: [Option<Seq>; 2],
    told: Vec<Told>,
}

impl Middle {
    /// Between a client and a server that know each other by these names. The reader has not
    /// read anything.
    pub fn new(reader: Conversation, hosts: [IpAddr; 2], names: Names) -> Self {
        Self {
            reader: reader.known_as(names),
            hosts,
            names,
            shifts: [Shift::default(); 2],
            acknowledged: [None; 2],
            told: Vec::new(),
        }
    }

    /// They have shaken hands: the first bytes of both directions have these numbers.
    pub fn begins(&mut self, first: [u32; 2]) {
        self.acknowledged = first.map(|first| Some(Seq(first)));
    }

    /// Another daemon goes on, with what stands in the map.
    pub fn taken_over_by(&mut self, reader: Conversation) {
        self.reader = reader.known_as(self.names);
    }

    pub const fn hosts(&self) -> [IpAddr; 2] {
        self.hosts
    }

    pub const fn names(&self) -> Names {
        self.names
    }

    /// The hole that stands, as it is.
    pub fn hole(&self) -> Option<Hole> {
        self.reader.hole()
    }

    /// Every announcement that names another endpoint, in their order.
    pub fn told(&self) -> &[Told] {
        &self.told
    }

    /// Whether the other side knows where a hole leads that was announced.
    pub fn is_told(&self, hole: Hole) -> bool {
        let latest = self.told.iter().rev().find(|told| told.hole == hole);
        self.endpoint(hole).is_none() || latest.is_some_and(|told| told.stands)
    }

    pub const fn shift(&self, direction: Direction) -> &Shift {
        &self.shifts[direction.index() & 1]
    }

    /// As the map holds them, of a flow of this time.
    pub fn shifts(&self, created: Nanos) -> Shifts {
        Shifts { created, sides: self.shifts }
    }

    /// What of this direction has arrived, in its sender's numbers.
    pub const fn acknowledged(&self, direction: Direction) -> Option<Seq> {
        self.acknowledged[direction.index() & 1]
    }

    /// Gives what goes on in the place of a segment; nothing when its sender must repeat it.
    pub fn cross(&mut self, direction: Direction, segment: &Segment) -> Option<Segment> {
        let ack = self.heed(direction, segment.ack);
        if segment.payload.is_empty() {
            let seq = self.shift(direction).forward(segment.seq);
            return Some(Segment { seq, ack, ..segment.clone() });
        }
        match self.names.of_sender(direction) {
            Some(_) => self.rewrite(direction, segment, ack),
            None => Some(self.read(direction, segment, ack)),
        }
    }

    /// The number that a segment of this direction acknowledges, as who has sent that knows it.
    fn heed(&mut self, direction: Direction, ack: u32) -> u32 {
        let other = direction.reversed();
        let ack = self.shift(other).back(ack);
        let before = &mut self.acknowledged[other.index() & 1];
        if before.is_none_or(|before| Seq(ack).is_after(before)) {
            *before = Some(Seq(ack));
        }
        ack
    }

    /// A direction whose text stays as it is.
    fn read(&mut self, direction: Direction, segment: &Segment, ack: u32) -> Segment {
        self.known(direction, segment.seq);
        self.reader.acknowledged(direction, ack);
        self.reader.segment(direction, segment.seq, &segment.payload);
        Segment { ack, ..segment.clone() }
    }

    fn rewrite(&mut self, direction: Direction, segment: &Segment, ack: u32) -> Option<Segment> {
        let Segment { seq, ref payload, is_last, window, .. } = *segment;
        let received = self.acknowledged(direction);
        let known = self.known(direction, seq)?.min(payload.len());
        self.reader.acknowledged(direction, ack);
        let (mut len, mut before) = (known, None);
        for (seq, part) in parts(seq, payload, known) {
            let shift = &mut self.shifts[direction.index() & 1];
            if !part.is_empty() && !Rewriter::new(shift, received).has_room(seq) {
                break;
            }
            before = self.read_part(direction, seq, part, is_last);
            len += part.len();
        }
        if len == 0 {
            return None;
        }
        let mut emission = emit(self.shift(direction), seq, &payload[..len]);
        if emission.bytes.is_empty() {
            emission.nudge(before);
        }
        let Emission { seq, bytes } = emission;
        let is_last = is_last && len == payload.len();
        Some(Segment { seq, ack, window, payload: bytes, is_last })
    }

    /// Reads a part of a line; gives what stands before that which is withheld.
    fn read_part(
        &mut self,
        direction: Direction,
        seq: u32,
        part: &[u8],
        is_last: bool,
    ) -> Option<u8> {
        let received = self.acknowledged(direction);
        let read = self.reader.segment(direction, seq, part);
        let unfinished = self.reader.unfinished(direction).filter(|_| !is_last);
        assert!(read.announced().len() <= 1, "a line has announced {:?}", read.announced());
        let replaced = read.announced().first().and_then(|announced| {
            let old = text_at(self.shift(direction), seq, part, announced.place);
            let told = self.endpoint(announced.hole)?;
            Some((announced.hole, Replacement::of(announced, old, told)?))
        });
        let shift = &mut self.shifts[direction.index() & 1];
        let replacement = replaced.as_ref().map(|(_, replacement)| replacement);
        let stands = Rewriter::new(shift, received).revise(seq, replacement, unfinished.as_ref());
        if let Some((hole, Replacement { place, text })) = replaced {
            self.told.push(Told { direction, hole, place, text, stands });
        }
        unfinished.map(|begun| begun.before)
    }

    /// How many bytes of a segment were read already; `None` where something is missing before.
    fn known(&mut self, direction: Direction, seq: u32) -> Option<usize> {
        let received = self.acknowledged(direction);
        if let Some(reached) = passed_over(self.reader.expects(direction), received, seq) {
            self.reader.acknowledged(direction.reversed(), reached);
        }
        let Some(expected) = self.reader.expects(direction) else {
            return Some(told_within(self.shift(direction), seq));
        };
        let is_early = Seq(seq).is_after(Seq(expected));
        (!is_early).then(|| expected.wrapping_sub(seq) as usize)
    }

    /// What the other side is told of where a hole leads; `None` where it knows that itself, or
    /// where it leads is somebody else's.
    pub fn endpoint(&self, hole: Hole) -> Option<SocketAddr> {
        let name = match self.hosts {
            [client, _] if hole.dst == client => self.names.client,
            [_, server] if hole.dst == server => self.names.server,
            _ => None,
        }?;
        Some(SocketAddr::new(name, hole.dport ^ OTHER))
    }
}
