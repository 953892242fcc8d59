//! An SCTP packet against its association: its chunks one by one, the verification
//! tag that it must carry (RFC 9260 section 8.5), and its checksum.
//!
//! A packet is walked through twice: the first walk, the survey, sees which chunks
//! there are and whether they may stand together; the second follows those that say
//! something about the association. A packet of DATA and SACK needs the first alone.
//! The behaviour is that of nf_conntrack_proto_sctp.c; an INVALID packet changes
//! nothing here, not even by the chunks before the one that made it so.

use bytemuck::{Pod, Zeroable};

use crate::{
    crc32c::Crc32c,
    flow::{Direction, Flow},
    headers::{Fragment, Headers},
    packet::Packet,
    seq::Seq,
    wire::Sctp,
};

use super::sctp::{self, Chunk, State};

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

/// Chunks in the longest packet, each as short as can be.
pub const MAX_CHUNKS: u32 = 16_384;
/// The longest packet whose checksum is read: as for TCP, beyond it stands what the
/// stack has joined.
const MAX_VERIFIED: u32 = 2_048;
/// Steps in which such a packet is summed up, and one more.
pub const MAX_SUM_STEPS: u32 = MAX_VERIFIED / SUM_STEP + 1;
const SUM_STEP: u32 = 32;

/// Type, flags and length of a chunk.
const CHUNK_HEADER: u32 = 4;
/// The same, and all fixed fields of an INIT or INIT ACK.
const INIT_HEADER: u32 = 20;
/// The sender of an ABORT or SHUTDOWN COMPLETE had no tag of its own: it reflects.
const REFLECTED: u8 = 1;

/// Types as a set: a bit each, and one for all that is above.
const DATA: u32 = 1 << 0;
const HIGH_TYPES: u32 = 1 << 31;
/// May only stand alone.
const ALONE: u32 = Chunk::Init.bit() | Chunk::InitAck.bit() | Chunk::ShutdownComplete.bit();
/// May only stand first.
const FIRST: u32 = ALONE | Chunk::CookieEcho.bit() | Chunk::CookieAck.bit();
/// Say something about the association.
const TELLING: u32 = FIRST
    | Chunk::Heartbeat.bit()
    | Chunk::HeartbeatAck.bit()
    | Chunk::Abort.bit()
    | Chunk::Shutdown.bit()
    | Chunk::ShutdownAck.bit()
    | Chunk::Error.bit();
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

/// Whether the checksum is to be right.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    Unread = 0,
    Right = 1,
    /// Or left to hardware that the packet never meets: zero.
    RightOrPartial = 2,
}

impl Sum {
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Unread,
            1 => Self::Right,
            _ => Self::RightOrPartial,
        }
    }
}

/// An association while a packet is judged: a copy, which takes effect when the
/// packet is accepted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Association {
    /// Part of the packet under the eyes.
    bytes: [u8; 64],
    /// The tags that packets of this direction, and of the other, must carry; 0 for
    /// one that is not known.
    own: u32,
    other: u32,
    /// The packet's tag.
    tag: u32,
    /// The walk: where it is, and where the packet ends.
    at: u32,
    end: u32,
    /// The types of all chunks, and how many there are.
    types: u32,
    count: u32,
    crc: Crc32c,
    /// The checksum as it stands in the packet.
    field: u32,
    /// A [`State`].
    state: u8,
    /// Bits of [`flag`].
    flags: u8,
    /// A [`Direction`].
    direction: u8,
    /// No flow is known.
    is_fresh: u8,
    is_invalid: u8,
    is_tolerated: u8,
    /// A chunk has led to [`State::Established`], or left it so.
    is_established: u8,
    _pad: u8,
}

impl Association {
    /// Copies what the flow knows, `None` for the first packet of one.
    #[inline(always)]
    pub fn take(&mut self, flow: Option<&Flow>, direction: Direction) {
        self.direction = direction as u8;
        (self.own, self.other, self.state, self.flags) = (0, 0, State::None as u8, 0);
        self.is_fresh = u8::from(flow.is_none());
        self.is_invalid = 0;
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

    /// Begins the survey.
    #[inline(always)]
    pub fn begin<P: Packet + ?Sized>(&mut self, packet: &P, headers: &Headers) {
        self.rewind(headers);
        (self.types, self.count) = (0, 0);
        match packet.read::<Sctp>(headers.l4) {
            Some(header) => {
                self.tag = u32::from_be(header.tag);
                self.field = header.checksum;
            }
            None => self.is_invalid = 1,
        }
    }

    /// Goes back to the first chunk.
    #[inline(always)]
    pub const fn rewind(&mut self, headers: &Headers) {
        self.at = headers.payload;
        self.end = headers.payload.wrapping_add(headers.payload_len);
    }

    /// Looks at one chunk; `true` when none is left or the packet is INVALID.
    #[inline(always)]
    pub fn survey<P: Packet + ?Sized>(&mut self, packet: &P) -> bool {
        if !self.read(packet) {
            return true;
        }
        let bit = self.chunk_bit();
        // Neither behind one that stands alone, nor itself behind another.
        let is_misplaced = self.count != 0 && (bit & FIRST != 0 || self.types & ALONE != 0);
        if is_misplaced || self.chunk_len() == 0 {
            return self.refuse();
        }
        self.types |= bit;
        self.count = self.count.wrapping_add(1);
        self.go_on()
    }

    /// Draws the conclusion from the survey; `true` when the chunks must be followed.
    #[inline(always)]
    pub const fn needs_following(&mut self) -> bool {
        let types = self.types;
        if self.count == 0 {
            self.is_invalid = 1;
        }
        if self.is_fresh != 0 {
            if types & NEVER_NEW != 0 || types & !TELLING != 0 {
                self.is_invalid = 1;
            }
            if types & Chunk::Heartbeat.bit() != 0 {
                self.own = self.tag;
            }
            // Out of the blue: its answer reflects the tag.
            if types & Chunk::ShutdownAck.bit() != 0 {
                self.other = self.tag;
            }
        }
        if types & OWN_TAG_RULE == 0 && self.tag != self.own {
            self.is_invalid = 1;
        }
        self.is_invalid == 0 && types & TELLING != 0
    }

    /// Follows one chunk; `true` when none is left or the packet is INVALID.
    #[inline(always)]
    pub fn follow<P: Packet + ?Sized>(&mut self, packet: &P) -> bool {
        if !self.read(packet) {
            return true;
        }
        let Some(chunk) = Chunk::from_type(self.bytes[0]) else { return self.go_on() };
        match self.check_tag(chunk) {
            Tag::Wrong => return self.refuse(),
            Tag::Doubted => return self.go_on(),
            Tag::Right => {}
        }
        let Some(was) = State::from_byte(self.state) else { return self.refuse() };
        let direction = if self.is_reply() { Direction::Reply } else { Direction::Original };
        let Some(next) = sctp::next(direction, chunk, was) else { return self.refuse() };
        if matches!(chunk, Chunk::Init | Chunk::InitAck) && !self.learn_tag(packet, chunk) {
            return self.refuse();
        }
        // An INIT again wins no time, or a port could be held for ever.
        if matches!((chunk, was, next), (Chunk::Init, State::Closed, State::Closed)) {
            self.is_tolerated = 1;
        }
        self.state = next as u8;
        self.is_established |= u8::from(matches!(next, State::Established));
        self.go_on()
    }

    /// What the walks have found.
    #[inline(always)]
    pub const fn outcome(&self) -> Outcome {
        match State::from_byte(self.state) {
            Some(state) if self.is_invalid == 0 => {
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
            Chunk::Init => self.tag == 0,
            Chunk::Abort | Chunk::ShutdownComplete => {
                let wanted = if self.bytes[1] & REFLECTED == 0 { self.own } else { self.other };
                self.tag == wanted
            }
            Chunk::CookieEcho => self.tag == self.own,
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
        if self.own == 0 {
            self.own = self.tag;
            return Tag::Right;
        }
        if self.own == self.tag {
            self.flags &= !flag::HEARTBEAT_DOUBTED;
            return Tag::Right;
        }
        if self.types & DATA != 0 || self.is_tolerated != 0 {
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
        self.own = self.tag;
        self.other = 0;
        Tag::Right
    }

    /// Takes the tag that an INIT or INIT ACK tells: the other side will use it.
    #[inline(always)]
    fn learn_tag<P: Packet + ?Sized>(&mut self, packet: &P, chunk: Chunk) -> bool {
        let fits = self.end.wrapping_sub(self.at) >= INIT_HEADER;
        if !fits || !packet.copy(self.at, INIT_HEADER, &mut self.bytes) {
            return false;
        }
        let [_, _, _, _, a, b, c, d, ..] = self.bytes;
        let told = u32::from_be_bytes([a, b, c, d]);
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

    /// Begins to sum up the packet; `false` when its sum need not be right, or is
    /// not worth reading: of data, the receiver will tell.
    #[inline(always)]
    pub fn begin_sum(&mut self, headers: &Headers, sum: Sum) -> bool {
        let is_whole = headers.fragment == Fragment::Whole as u8;
        let len = headers.payload_len.wrapping_add(Sctp::LEN);
        let is_partial = matches!(sum, Sum::RightOrPartial) && self.field == 0;
        if matches!(sum, Sum::Unread) || is_partial || !is_whole || len > MAX_VERIFIED {
            return false;
        }
        self.at = headers.l4;
        self.end = headers.l4.wrapping_add(len);
        self.crc = Crc32c::START;
        true
    }

    /// Adds the next bytes; `true` when none are left. `begin` is where the packet's
    /// header stands, whose checksum counts as zero.
    #[inline(always)]
    pub fn add<P: Packet + ?Sized>(&mut self, packet: &P, begin: u32) -> bool {
        let left = self.end.wrapping_sub(self.at);
        let size = if left < SUM_STEP { left } else { SUM_STEP };
        if size == 0 || !packet.copy(self.at, size, &mut self.bytes) {
            return true;
        }
        if self.at == begin {
            self.bytes[8] = 0;
            self.bytes[9] = 0;
            self.bytes[10] = 0;
            self.bytes[11] = 0;
        }
        let mut crc = self.crc;
        for at in 0..SUM_STEP {
            if at >= size {
                break;
            }
            crc = crc.byte(self.bytes[(at & 63) as usize]);
        }
        self.crc = crc;
        self.at = self.at.wrapping_add(size);
        false
    }

    /// Compares the sum with what the packet says.
    #[inline(always)]
    pub const fn end_sum(&mut self) {
        if self.at == self.end && self.crc.finish() != self.field {
            self.is_invalid = 1;
        }
    }

    #[inline(always)]
    const fn is_reply(&self) -> bool {
        self.direction != 0
    }

    /// Reads the header of the next chunk; `false` when none is left.
    #[inline(always)]
    fn read<P: Packet + ?Sized>(&mut self, packet: &P) -> bool {
        let is_inside = self.at < self.end && self.end.wrapping_sub(self.at) >= CHUNK_HEADER;
        self.is_invalid == 0 && is_inside && packet.copy(self.at, CHUNK_HEADER, &mut self.bytes)
    }

    #[inline(always)]
    const fn chunk_len(&self) -> u32 {
        let [_, _, high, low, ..] = self.bytes;
        u16::from_be_bytes([high, low]) as u32
    }

    #[inline(always)]
    const fn chunk_bit(&self) -> u32 {
        let chunk_type = self.bytes[0] as u32;
        if chunk_type < 31 { 1 << (chunk_type & 31) } else { HIGH_TYPES }
    }

    #[inline(always)]
    const fn go_on(&mut self) -> bool {
        // Chunks begin at whole words.
        self.at = self.at.wrapping_add((self.chunk_len().wrapping_add(3)) & !3);
        false
    }

    #[inline(always)]
    const fn refuse(&mut self) -> bool {
        self.is_invalid = 1;
        true
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
    association.begin(packet, headers);
    while !association.survey(packet) {}
    if association.needs_following() {
        if association.begin_sum(headers, sum) {
            while !association.add(packet, headers.l4) {}
            association.end_sum();
        }
        association.rewind(headers);
        while !association.follow(packet) {}
    }
    association.outcome()
}
