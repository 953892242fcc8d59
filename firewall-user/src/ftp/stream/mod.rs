//! One direction of a TCP connection as lines of text.
//!
//! Segments come in as they pass: split anywhere, joined, repeated, overlapping
//! or out of order. Whole lines of an in-order segment are handed on as slices
//! of it; only an unfinished line and out-of-order segments are copied, both
//! bounded. What the caller may rely on:
//! - every byte is read at most once, in the order of its sequence number;
//! - a byte that was read does not change: a repetition with other content is
//!   ignored, as the receiver ignores it that has the first one. A sender can
//!   make the receiver miss the copy that was read here and take another; then
//!   the other one opens nothing;
//! - where two copies wait out of order and differ, receivers disagree which
//!   one counts (RFC 9293 leaves it open), so neither is read: [`Loss::Conflict`];
//! - a gap that outlives the bounds is given up: [`Loss::Gap`]. Reading goes on
//!   after the next newline;
//! - a stream that was sealed ([`Stream::seal`]) is passed over record by record of
//!   TLS, and tells when text follows: [`Read::Clear`]. A record that is missed seals
//!   the stream for good.

mod ahead;
mod lines;
mod records;
mod seq;

use std::fmt;

use ahead::Ahead;
pub use ahead::{MAX_AHEAD_BYTES, MAX_AHEAD_PIECES};
use lines::Lines;
pub use lines::MAX_LINE;
pub use seq::Seq;

/// What was read from the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    Line(Line<'a>),
    /// A line of more than [`MAX_LINE`] bytes, of which these are the first; it is skipped up to
    /// its end.
    TooLong(Line<'a>),
    Lost(Loss),
    /// The TLS records have ended: text follows.
    Clear,
}

/// A line without its end (CR LF, LF, CR NUL LF).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub text: &'a [u8],
    /// Whether its beginning was seen; the first line of a stream that was
    /// joined in its middle may be the tail of one.
    pub whole: bool,
    /// The place of its first byte.
    pub at: Seq,
    /// Bytes before its newline.
    pub len: usize,
}

/// Why a part of the stream was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Bytes that never came by.
    Gap,
    /// Two copies of the same bytes that differ.
    Conflict,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => "missing bytes",
            Self::Conflict => "overlapping segments that contradict each other",
        })
    }
}

/// A segment further ahead is not of this connection: no peer has such a window
/// open for commands, and nothing is learnt from it.
const MAX_DISTANCE: i32 = 1 << 20;

/// The widest window of TCP (RFC 7323 section 2.3): nobody acknowledges more.
const MAX_WINDOW: i32 = 1 << 30;

/// The reader of one direction.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The first byte not yet read; unknown before the first segment.
    next: Option<Seq>,
    /// Whether any segment has come.
    begun: bool,
    lines: Lines,
    ahead: Ahead,
}

impl Stream {
    /// `start_seen`: the first segment to come is the connection's first.
    pub fn new(start_seen: bool) -> Self {
        Self { next: None, begun: false, lines: Lines::new(start_seen), ahead: Ahead::default() }
    }

    /// The connection's first byte has this number (ISN + 1). Without it, the
    /// first segment seen is taken to be the first one sent.
    pub fn starts_at(&mut self, seq: Seq) {
        if self.next.is_none() {
            self.next = Some(seq);
            self.lines = Lines::new(true);
        }
    }

    /// Whether no segment has come so far.
    pub fn is_fresh(&self) -> bool {
        !self.begun
    }

    /// From the next byte on, TLS records come.
    pub fn seal(&mut self) {
        self.lines.seal();
    }

    /// The first byte that was not read yet, once one was.
    pub fn next(&self) -> Option<Seq> {
        self.next
    }

    /// The line whose end is still to come.
    pub fn begun(&self) -> Option<Line<'_>> {
        let (text, next) = (self.lines.begun()?, self.next?);
        let (whole, at) = (self.lines.is_whole(), next.minus(text.len()));
        Some(Line { text, whole, at, len: text.len() })
    }

    /// Lets go of everything that is buffered, as if it had never come.
    pub fn shed(&mut self) {
        self.lines.shed();
        if let Some(end) = self.ahead.clear() {
            self.next = Some(end);
            self.lines.skip_to_newline();
        }
    }

    /// Bytes held on the heap.
    pub fn memory(&self) -> usize {
        self.lines.memory() + self.ahead.memory()
    }

    /// Takes in a segment and tells what can be read now.
    pub fn segment(&mut self, seq: Seq, payload: &[u8], tell: &mut impl FnMut(Read<'_>)) {
        if payload.is_empty() {
            return;
        }
        self.begun = true;
        let next = *self.next.get_or_insert(seq);
        if seq.since(next) > MAX_DISTANCE {
            return;
        }
        let known = next.bytes_after(seq).min(payload.len());
        let (seq, fresh) = (seq.plus(known), &payload[known..]);
        if fresh.is_empty() {
            return;
        }
        if !self.ahead.agrees_with(seq, fresh) {
            self.give_up_on(seq.plus(fresh.len()), tell);
        } else if seq == next {
            self.read(next, fresh, tell);
        } else {
            self.ahead.insert(next, seq, fresh);
            self.enforce_bounds(tell);
        }
    }

    /// The receiver has all bytes before `ack`: what of them did not come by here
    /// never will. Most often the gap ends with a line, so that what follows is
    /// read as after a start in the middle. Before the first segment of a stream whose
    /// start is seen, nothing has come: it begins there. What acknowledges nothing, as a SYN
    /// with data, says 0.
    pub fn acknowledged(&mut self, ack: Seq, tell: &mut impl FnMut(Read<'_>)) {
        let Some(next) = self.next else {
            self.next = (self.lines.is_whole() && ack != Seq(0)).then_some(ack);
            return;
        };
        let missing = ack.since(next);
        if next.is_before(ack) && missing <= MAX_WINDOW {
            self.lines.lose_place();
            tell(Read::Lost(Loss::Gap));
            self.read(ack, &[], tell);
        }
    }

    /// Reads what follows `next`, and whatever has waited for it.
    fn read(&mut self, next: Seq, bytes: &[u8], tell: &mut impl FnMut(Read<'_>)) {
        self.lines.feed(next, bytes, tell);
        let mut next = next.plus(bytes.len());
        while let Some(piece) = self.ahead.take_at(next) {
            let known = next.bytes_after(piece.seq()).min(piece.bytes().len());
            let rest = &piece.bytes()[known..];
            self.lines.feed(next, rest, tell);
            next = next.plus(rest.len());
        }
        self.next = Some(next);
    }

    /// Skips gaps until what waits behind them is within its bounds.
    fn enforce_bounds(&mut self, tell: &mut impl FnMut(Read<'_>)) {
        while self.ahead.is_over_bounds() {
            let Some(first) = self.ahead.first() else { return };
            self.lines.skip_to_newline();
            tell(Read::Lost(Loss::Gap));
            self.read(first, &[], tell);
        }
    }

    /// Nothing up to `end`, nor anything that waits, is read.
    fn give_up_on(&mut self, end: Seq, tell: &mut impl FnMut(Read<'_>)) {
        let waiting = self.ahead.clear();
        self.next = Some(waiting.filter(|last| end.is_before(*last)).unwrap_or(end));
        self.lines.skip_to_newline();
        tell(Read::Lost(Loss::Conflict));
    }
}

#[cfg(test)]
mod tests;
