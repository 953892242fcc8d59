//! A TCP segment against its connection: what the state machine of [`super::tcp`]
//! says, where the segment lies in the windows of [`super::window`], and what to
//! make of the two.
//!
//! The box in the middle may be wrong about a connection: a host may have
//! forgotten it and begin anew, and a segment that it let through may never have
//! arrived. So some segments pass without being believed, and the answer decides.

use crate::{
    control::option,
    flow::{Direction, Flow, Last, State, last, status, window},
    seq::Seq,
    time::Nanos,
};

use super::{
    tcp::{self, Next, Segment},
    window::{Connection, Place, Seen},
};

/// An INVALID segment shortens the time of a flow that has more left than this.
const DOUBT_AFTER: Nanos = Nanos::from_secs(120);

/// What a segment does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Invalid,
    /// The old connection is over: this SYN begins another one.
    Reopen,
    /// It passes; nothing is counted and no time is won.
    Tolerated,
    To(State),
    /// To this state if it lies in the windows: [`compare`] tells.
    Compare(State),
}

impl Judgement {
    const INVALID: u32 = 0;
    const REOPEN: u32 = 1;
    const TOLERATED: u32 = 2;
    const TO: u32 = 16;
    const COMPARE: u32 = 32;

    /// As functions of the kernel return it.
    #[inline(always)]
    pub const fn pack(self) -> u32 {
        match self {
            Self::Invalid => Self::INVALID,
            Self::Reopen => Self::REOPEN,
            Self::Tolerated => Self::TOLERATED,
            Self::To(state) => Self::TO + state as u32,
            Self::Compare(state) => Self::COMPARE + state as u32,
        }
    }

    /// The inverse of [`Judgement::pack`]; what it never gave is INVALID.
    #[inline(always)]
    pub const fn unpack(packed: u32) -> Self {
        let Some(state) = State::from_byte(packed as u8 & 15) else { return Self::Invalid };
        match packed & !15 {
            Self::TO => Self::To(state),
            Self::COMPARE => Self::Compare(state),
            _ => match packed {
                Self::REOPEN => Self::Reopen,
                Self::TOLERATED => Self::Tolerated,
                _ => Self::Invalid,
            },
        }
    }
}

/// Judges a segment of a known flow by its state. `connection` comes out as the
/// segment will leave it, if it need not be compared with the windows yet.
/// `options` are bits of [`option`].
#[inline(always)]
pub fn judge(
    flow: &Flow,
    direction: Direction,
    seen: &Seen,
    options: u32,
    connection: &mut Connection,
) -> Judgement {
    connection.take(flow, direction);
    let Some(was) = State::from_byte(flow.state) else { return Judgement::Invalid };
    let next = match tcp::next(direction, seen.segment, was) {
        Next::Invalid => return Judgement::Invalid,
        Next::Reopen if is_over(connection, direction) => return Judgement::Reopen,
        Next::Reopen | Next::Ignore => {
            if !answers_tolerated_syn(&connection.last, direction, seen) {
                tolerate(connection, direction, seen, was);
                return Judgement::Tolerated;
            }
            connection.resume();
            State::SynRecv
        }
        Next::To(next) => next,
    };
    match (seen.segment, next) {
        (Segment::Ack, State::TimeWait) if is_challenge(&connection.last, direction, was) => {
            connection.last.flags &= !last::CHALLENGE_EXPECTED;
            Judgement::Tolerated
        }
        (_, State::SynSent2) => {
            connection.last.flags |= last::SIMULTANEOUS_OPEN;
            Judgement::Compare(next)
        }
        (Segment::Ack, State::SynRecv)
            if matches!(direction, Direction::Reply)
                && connection.last.flags & last::SIMULTANEOUS_OPEN != 0 =>
        {
            Judgement::Compare(State::Established)
        }
        (Segment::Rst, State::Close) => reset(flow, was, connection, direction, seen, options),
        _ => Judgement::Compare(next),
    }
}

/// Judges the first segment of a connection by what it is.
#[inline(always)]
pub fn begin(seen: &Seen, options: u32, connection: &mut Connection) -> Judgement {
    let Some(state) = tcp::first(seen.segment, options & option::TCP_LOOSE != 0) else {
        return Judgement::Invalid;
    };
    connection.begin(seen);
    Judgement::Compare(state)
}

/// Judges a segment by the windows: `was` is the state of its flow
/// ([`State::None`] when it begins it), and `next` where the segment leads.
#[inline(always)]
pub fn compare(
    direction: Direction,
    seen: &Seen,
    was: State,
    next: State,
    options: u32,
    connection: &mut Connection,
) -> Judgement {
    let is_liberal = options & option::TCP_BE_LIBERAL != 0;
    match connection.place(direction, seen, was, is_liberal) {
        Place::Inside => believed(connection, direction, seen, was, next),
        // What does not fit cannot begin a connection.
        Place::Beside if !matches!(was, State::None) => Judgement::Tolerated,
        Place::Beside | Place::Outside => Judgement::Invalid,
    }
}

/// Makes less of a flow that answers one segment outside its windows with another:
/// the hosts may know what we do not, that it is over.
#[inline(always)]
pub fn doubt(
    flow: &mut Flow,
    direction: Direction,
    segment: Segment,
    unacknowledged: Nanos,
    now: Nanos,
) {
    if !flow.has(status::ASSURED) || !matches!(segment, Segment::Fin | Segment::Rst) {
        return;
    }
    let last = &mut flow.last;
    let is_answer = last.direction != direction as u8
        && (last.segment == Segment::Fin.number() || last.segment == Segment::Rst.number());
    if !is_answer {
        last.segment = segment.number();
        last.direction = direction as u8;
        return;
    }
    let left = flow.expires.since(now);
    if left.0 >= DOUBT_AFTER.0 && left.is_after(unacknowledged) {
        flow.expires = now.after(unacknowledged);
    }
}

#[inline(always)]
fn believed(
    connection: &mut Connection,
    direction: Direction,
    seen: &Seen,
    was: State,
    next: State,
) -> Judgement {
    connection.last.segment = seen.segment.number();
    connection.last.direction = direction as u8;
    if matches!(next, State::FinWait) && !matches!(was, State::FinWait) {
        connection.sender.flags |= window::CLOSED_FIRST;
    }
    Judgement::To(next)
}

/// Whether both know that the connection is over: it was closed, or this side has
/// just reset it.
#[inline(always)]
fn is_over(connection: &Connection, direction: Direction) -> bool {
    let Connection { sender, receiver, last, .. } = connection;
    (sender.flags | receiver.flags) & window::CLOSED_FIRST != 0
        || (last.segment == Segment::Rst.number() && last.direction == direction as u8)
}

/// Whether this SYN-ACK answers the SYN that passed without being believed: then
/// the hosts agree, and we were wrong.
#[inline(always)]
fn answers_tolerated_syn(last: &Last, direction: Direction, seen: &Seen) -> bool {
    matches!(seen.segment, Segment::SynAck)
        && last.segment == Segment::Syn.number()
        && last.direction != direction as u8
        && seen.ack == last.end
}

/// Notes a segment that may be wrong, or we are: its answer will tell.
#[inline(always)]
fn tolerate(connection: &mut Connection, direction: Direction, seen: &Seen, was: State) {
    connection.remember(direction, seen);
    let last = &mut connection.last;
    match (direction, seen.segment) {
        (Direction::Original, Segment::Syn) => {
            last.scale = seen.scale;
            last.flags = seen.offers;
            // Its answer may look like the last acknowledgement.
            if matches!(was, State::LastAck) {
                last.flags |= last::CHALLENGE_EXPECTED;
            }
        }
        // A challenge to a SYN: a reset with that number answers it.
        (Direction::Reply, Segment::Ack) if matches!(was, State::SynSent) => last.ack = seen.ack,
        _ => {}
    }
}

/// Whether an acknowledgement is no last one, but the challenge to a SYN.
#[inline(always)]
fn is_challenge(last: &Last, direction: Direction, was: State) -> bool {
    matches!(was, State::LastAck)
        && last.direction != direction as u8
        && last.segment == Segment::Syn.number()
        && last.flags & last::CHALLENGE_EXPECTED != 0
}

/// A reset ends the connection, unless it may be forged.
#[inline(always)]
fn reset(
    flow: &Flow,
    was: State,
    connection: &mut Connection,
    direction: Direction,
    seen: &Seen,
    options: u32,
) -> Judgement {
    // On its way out the endpoints may be in use again: our numbers are old.
    if matches!(
        was,
        State::FinWait | State::CloseWait | State::LastAck | State::TimeWait | State::Close
    ) {
        return believed(connection, direction, seen, was, State::Close);
    }
    let Connection { receiver, last, .. } = connection;
    let is_established = matches!(was, State::Established) && flow.has(status::ASSURED);
    let mut next = State::Close;
    if receiver.has(window::MAX_ACK_KNOWN) && last.segment != Segment::Syn.number() {
        if seen.seq.0 == 0 && !is_established {
            return Judgement::Compare(State::Close);
        }
        if seen.seq.is_before(receiver.max_ack) && options & option::TCP_IGNORE_INVALID_RST == 0 {
            return Judgement::Invalid;
        }
        let is_exact = seen.seq == receiver.max_ack || follows(last, direction, seen.seq);
        if !is_established || is_exact {
            return Judgement::Compare(State::Close);
        }
        // The receiver will answer with a challenge (RFC 5961 section 3.2).
        next = was;
    }
    if answers_tolerated(flow, was, last, direction, seen) {
        return believed(connection, direction, seen, was, State::Close);
    }
    Judgement::Compare(next)
}

/// Whether a reset comes right behind the last segment of its sender.
#[inline(always)]
fn follows(last: &Last, direction: Direction, seq: Seq) -> bool {
    last.segment == Segment::Ack.number() && last.direction == direction as u8 && seq == last.end
}

/// Whether a reset answers a segment that passed without being believed.
#[inline(always)]
fn answers_tolerated(
    flow: &Flow,
    was: State,
    last: &Last,
    direction: Direction,
    seen: &Seen,
) -> bool {
    let after_syn = flow.has(status::SEEN_REPLY) && last.segment == Segment::Syn.number();
    let after_ack = last.segment == Segment::Ack.number();
    let half_open = !flow.has(status::ASSURED) && after_ack;
    let is_answer = last.direction != direction as u8 && seen.ack == last.end;
    let after_challenge = matches!(was, State::SynSent)
        && after_ack
        && last.direction == Direction::Reply as u8
        && seen.seq == last.ack;
    ((after_syn || half_open) && is_answer) || after_challenge
}
