//! An SCTP packet against its association: the verification tag that it must carry
//! (RFC 9260 section 8.5), and what its chunks do one by one.
//!
//! A packet is walked through twice. The first walk, the survey of [`super::chunks`],
//! sees which chunks there are; the second follows those that say something about the
//! association. A packet of DATA and SACK needs the first alone.
//! The behaviour is that of nf_conntrack_proto_sctp.c; an INVALID packet changes
//! nothing here, not even by the chunks before the one that made it so.

use bytemuck::{Pod, Zeroable};

use crate::{
    flow::{Direction, Flow},
    headers::Headers,
    packet::Packet,
    seq::Seq,
};

use super::{
    chunks::{Chunks, DATA, Sum, TELLING},
    sctp::{self, Chunk, State},
};

/// Bits of [`crate::flow::Last::flags`] in a flow of SCTP.
mod flag {
    /// This side has sent an INIT that no COOKIE ACK has settled.
    pub const INIT_OF_ORIGINAL: u8 = 1 << 0;
    pub const INIT_OF_REPLY: u8 = 1 << 1;
    /// A HEARTBEAT came with another tag: the peer may have begun anew.
    pub const HEARTBEAT_DOUBTED: u8 = 1 << 2;
    /// It came in the reply direction.
    pub const DOUBTED_REPLY: u8 = 1 << 3;
}

/// The sender of an ABORT or SHUTDOWN COMPLETE had no tag of its own: it reflects.
const REFLECTED: u8 = 1;

/// Never begin anything (RFC 9260 section 8.4).
const NEVER_NEW: u32 = Chunk::Abort.bit() | Chunk::ShutdownComplete.bit() | Chunk::CookieAck.bit();
/// Have rules of their own for the tag (RFC 9260 section 8.5.1).
const OWN_TAG_RULE: u32 = Chunk::Init.bit()
    | Chunk::ShutdownComplete.bit()
    | Chunk::CookieEcho.bit()
    | Chunk::Abort.bit()
    | Chunk::ShutdownAck.bit()
    | Chunk::Heartbeat.bit()
    | Chunk::HeartbeatAck.bit();

/// What a packet does to its association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Invalid,
    /// It passes; nothing is counted and no time is won.
    Tolerated,
    To(State),
}

impl Outcome {
    const INVALID: u32 = 0;
    const TOLERATED: u32 = 1;
    const TO: u32 = 16;

    /// As functions of the kernel return it.
    #[inline(always)]
    pub const fn pack(self) -> u32 {
        match self {
            Self::Invalid => Self::INVALID,
            Self::Tolerated => Self::TOLERATED,
            Self::To(state) => Self::TO + state as u32,
        }
    }

    /// The inverse of [`Outcome::pack`]; what it never gave is INVALID.
    #[inline(always)]
    pub const fn unpack(packed: u32) -> Self {
        match (packed, State::from_byte(packed as u8 & 15)) {
            (Self::TOLERATED, _) => Self::Tolerated,
            (Self::TO.., Some(state)) => Self::To(state),
            _ => Self::Invalid,
        }
    }
}

/// An association while a packet is judged: a copy, which takes effect when the
/// packet is accepted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Association {
    pub chunks: Chunks,
    /// The tags that packets of this direction, and of the other, must carry; 0 for
    /// one that is not known.
    own: u32,
    other: u32,
    /// A [`State`].
    state: u8,
    /// Bits of [`flag`].
    flags: u8,
    /// A [`Direction`].
    direction: u8,
    /// No flow is known.
    is_fresh: u8,
    is_tolerated: u8,
    /// A chunk has led to [`State::Established`], or left it so.
    is_established: u8,
    _pad: [u8; 2],
}

impl Association {
    /// Copies what the flow knows, `None` for the first packet of one.
    #[inline(always)]
    pub fn take(&mut self, flow: Option<&Flow>, direction: Direction) {
        self.direction = direction as u8;
        (self.own, self.other, self.state, self.flags) = (0, 0, State::None as u8, 0);
        self.is_fresh = u8::from(flow.is_none());
        self.is_tolerated = 0;
        self.is_established = 0;
        let Some(flow) = flow else { return };
        let [original, reply] = [flow.sides[0].window.end.0, flow.sides[1].window.end.0];
        (self.own, self.other) = match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        };
        self.state = flow.state;
        self.flags = flow.last.flags;
    }

    /// Writes everything but the state back.
    #[inline(always)]
    pub const fn settle(&self, flow: &mut Flow, direction: Direction) {
        let (original, reply) = match direction {
            Direction::Original => (self.own, self.other),
            Direction::Reply => (self.other, self.own),
        };
        let [first, second] = &mut flow.sides;
        first.window.end = Seq(original);
        second.window.end = Seq(reply);
        flow.last.flags = self.flags;
    }

    /// Whether this packet has led to [`State::Established`], be it on to another.
    #[inline(always)]
    pub const fn is_established(&self) -> bool {
        self.is_established != 0 || self.state == State::Established as u8
    }

    /// The state that the packet leaves behind, as the byte in the map.
    #[inline(always)]
    pub const fn state(&self) -> u8 {
        self.state
    }

    /// Draws the conclusion from the survey; `true` when the chunks must be followed.
    #[inline(always)]
    pub const fn needs_following(&mut self) -> bool {
        let Chunks { types, tag, .. } = self.chunks;
        if self.is_fresh != 0 {
            if types & NEVER_NEW != 0 || types & !TELLING != 0 {
                self.chunks.refuse();
            }
            if types & Chunk::Heartbeat.bit() != 0 {
                self.own = tag;
            }
            // Out of the blue: its answer reflects the tag.
            if types & Chunk::ShutdownAck.bit() != 0 {
                self.other = tag;
            }
        }
        if self.chunks.is_empty() {
            self.chunks.refuse();
        }
        if types & OWN_TAG_RULE == 0 && tag != self.own {
            self.chunks.refuse();
        }
        !self.chunks.is_invalid() && types & TELLING != 0
    }

    /// Follows one chunk; `true` when none is left or the packet is INVALID.
    #[inline(always)]
    pub fn follow<P: Packet + ?Sized>(&mut self, packet: &P) -> bool {
        if !self.chunks.read(packet) {
            return true;
        }
        let Some(chunk) = Chunk::from_type(self.chunks.chunk_type()) else {
            return self.chunks.go_on();
        };
        match self.check_tag(chunk) {
            Tag::Wrong => return self.chunks.refuse(),
            Tag::Doubted => return self.chunks.go_on(),
            Tag::Right => {}
        }
        let Some(was) = State::from_byte(self.state) else { return self.chunks.refuse() };
        let direction = if self.is_reply() { Direction::Reply } else { Direction::Original };
        let Some(next) = sctp::next(direction, chunk, was) else { return self.chunks.refuse() };
        if matches!(chunk, Chunk::Init | Chunk::InitAck) && !self.learn_tag(packet, chunk) {
            return self.chunks.refuse();
        }
        // An INIT again wins no time, or a port could be held for ever.
        if matches!((chunk, was, next), (Chunk::Init, State::Closed, State::Closed)) {
            self.is_tolerated = 1;
        }
        self.state = next as u8;
        self.is_established |= u8::from(matches!(next, State::Established));
        self.chunks.go_on()
    }

    /// What the walks have found.
    #[inline(always)]
    pub const fn outcome(&self) -> Outcome {
        match State::from_byte(self.state) {
            Some(state) if !self.chunks.is_invalid() => {
                if self.is_tolerated != 0 {
                    return Outcome::Tolerated;
                }
                Outcome::To(state)
            }
            _ => Outcome::Invalid,
        }
    }

    #[inline(always)]
    fn check_tag(&mut self, chunk: Chunk) -> Tag {
        let is_right = match chunk {
            // Nobody has told a tag yet.
            Chunk::Init => self.chunks.tag == 0,
            Chunk::Abort | Chunk::ShutdownComplete => {
                let wanted =
                    if self.chunks.chunk_flags() & REFLECTED == 0 { self.own } else { self.other };
                self.chunks.tag == wanted
            }
            Chunk::CookieEcho => self.chunks.tag == self.own,
            Chunk::CookieAck => {
                self.flags &= !(flag::INIT_OF_ORIGINAL | flag::INIT_OF_REPLY);
                true
            }
            Chunk::Heartbeat | Chunk::HeartbeatAck => return self.check_heartbeat(chunk),
            // The survey has compared the tag, or the chunk may carry any.
            Chunk::InitAck | Chunk::Shutdown | Chunk::ShutdownAck | Chunk::Error => true,
        };
        if is_right { Tag::Right } else { Tag::Wrong }
    }

    /// A path's first HEARTBEAT tells its tag. One with another tag is let through
    /// alone: when it is acknowledged, the peers have agreed on new tags.
    #[inline(always)]
    fn check_heartbeat(&mut self, chunk: Chunk) -> Tag {
        let Chunks { tag, types, .. } = self.chunks;
        if self.own == 0 {
            self.own = tag;
            return Tag::Right;
        }
        if self.own == tag {
            self.flags &= !flag::HEARTBEAT_DOUBTED;
            return Tag::Right;
        }
        if types & DATA != 0 || self.is_tolerated != 0 {
            return Tag::Wrong;
        }
        let direction = if self.is_reply() { flag::DOUBTED_REPLY } else { 0 };
        if matches!(chunk, Chunk::Heartbeat) {
            self.flags &= !flag::DOUBTED_REPLY;
            self.flags |= flag::HEARTBEAT_DOUBTED | direction;
            self.is_tolerated = 1;
            return Tag::Doubted;
        }
        let answers = self.flags & flag::HEARTBEAT_DOUBTED != 0
            && self.flags & flag::DOUBTED_REPLY != direction;
        if !answers {
            return Tag::Wrong;
        }
        self.flags &= !flag::HEARTBEAT_DOUBTED;
        self.own = tag;
        self.other = 0;
        Tag::Right
    }

    /// Takes the tag that an INIT or INIT ACK tells: the other side will use it.
    #[inline(always)]
    fn learn_tag<P: Packet + ?Sized>(&mut self, packet: &P, chunk: Chunk) -> bool {
        let Some(told) = self.chunks.init_tag(packet) else { return false };
        let (own, other) = match self.is_reply() {
            false => (flag::INIT_OF_ORIGINAL, flag::INIT_OF_REPLY),
            true => (flag::INIT_OF_REPLY, flag::INIT_OF_ORIGINAL),
        };
        if matches!(chunk, Chunk::Init) {
            if self.flags & own != 0 {
                self.flags &= !other;
            }
            self.flags |= own;
        } else {
            let asked = self.flags & other != 0;
            // Unasked it cannot change the tag; nor when both sides have asked.
            let is_other = (!asked && self.other != 0) || (asked && self.flags & own != 0);
            if is_other && self.other != told {
                return false;
            }
        }
        self.other = told;
        true
    }

    #[inline(always)]
    const fn is_reply(&self) -> bool {
        self.direction != 0
    }
}

/// What the verification tag says of a chunk.
enum Tag {
    Right,
    Wrong,
    /// Wrong, and let through: the answer will tell.
    Doubted,
}

/// Judges a packet by its chunks, from the survey on: what [`Packet::judge_chunks`]
/// does where there is no verifier.
#[inline(always)]
pub fn judge<P: Packet + ?Sized>(
    packet: &P,
    flow: Option<&Flow>,
    headers: &Headers,
    association: &mut Association,
    direction: Direction,
    sum: Sum,
) -> Outcome {
    association.take(flow, direction);
    association.chunks.begin(packet, headers);
    while !association.chunks.survey(packet) {}
    if association.needs_following() {
        if association.chunks.begin_sum(headers, sum) {
            while !association.chunks.add(packet, headers.l4) {}
            association.chunks.end_sum();
        }
        association.chunks.rewind(headers);
        while !association.follow(packet) {}
    }
    association.outcome()
}
