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
    helper::{Emission, Hole, Names, Place, Reader as _, Replacement, Rewriter, emit, text_at},
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
    /// Whether it does. Else it has gone on in part, or there was no room for so many at once;
    /// then it stays as it is, and opens nothing.
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
        let Segment { seq, ref payload, is_last, .. } = *segment;
        let received = self.acknowledged(direction);
        let known = self.known(direction, seq)?;
        let shift = &mut self.shifts[direction.index() & 1];
        if !Rewriter::new(shift, received).has_room(seq) && known < payload.len() {
            return (known > 0).then(|| {
                let Emission { seq, bytes } = emit(shift, seq, &payload[..known]);
                Segment { seq, ack, payload: bytes, is_last: false }
            });
        }
        self.reader.acknowledged(direction, ack);
        let read = self.reader.segment(direction, seq, payload);
        let unfinished = self.reader.unfinished(direction).filter(|_| !is_last);
        let mut replaced = Vec::new();
        for announced in read.announced() {
            let old = text_at(self.shift(direction), seq, payload, announced.place);
            let Some(told) = self.endpoint(announced.hole) else { continue };
            let replacement = Replacement::of(announced, old, told);
            replaced.extend(replacement.map(|it| (announced.hole, it)));
        }
        let (holes, replacements): (Vec<_>, Vec<_>) = replaced.into_iter().unzip();
        let shift = &mut self.shifts[direction.index() & 1];
        let stands = Rewriter::new(shift, received).revise(seq, &replacements, unfinished.as_ref());
        let mut emission = emit(shift, seq, payload);
        if emission.bytes.is_empty() {
            emission.nudge(unfinished.map(|begun| begun.before));
        }
        for ((hole, replacement), stands) in holes.into_iter().zip(replacements).zip(stands) {
            let Replacement { place, text } = replacement;
            self.told.push(Told { direction, hole, place, text, stands });
        }
        let Emission { seq, bytes } = emission;
        Some(Segment { seq, ack, payload: bytes, is_last })
    }

    /// How many bytes of a segment were read already; `None` where something is missing before.
    fn known(&mut self, direction: Direction, seq: u32) -> Option<usize> {
        if let Some(received) = self.acknowledged(direction) {
            self.reader.acknowledged(direction.reversed(), received.0);
        }
        let Some(expected) = self.reader.expects(direction) else { return Some(0) };
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
