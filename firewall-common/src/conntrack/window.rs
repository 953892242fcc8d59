//! TCP windows as a middlebox can know them.
//!
//! After Guido van Rooij, *Real Stateful TCP Packet Filtering in IP Filter*. The
//! box in the middle knows of each side what it sent and what it announced. A
//! segment belongs to the connection when it meets four conditions. With the
//! sender's `end` and `max_end`, the receiver's `end` and `max_size`, and `sack` as
//! the highest sequence number that the segment acknowledges:
//!
//! 1. it does not begin above what the receiver allows: `seq <= max_end`;
//! 2. it does not end below what the receiver can still remember:
//!    `seq + len >= end - receiver.max_size`;
//! 3. it acknowledges nothing that was not sent: `sack <= receiver.end`;
//! 4. its acknowledgement is not older than any that can be under way:
//!    `sack >= receiver.end - max(sender.max_size, 66000)`.
//!
//! Against the first: a segment that overshoots by no more than the receiver's
//! window passes without being believed, because some TCPs send more than they may.
//! Against the second and the fourth: it passes too, and changes nothing: it is old.
//! Anything else is INVALID. The behaviour is that of nf_conntrack_proto_tcp.c.

use bytemuck::{Pod, Zeroable};

use crate::{
    flow::{Direction, Flow, Last, State, Window, last, window},
    seq::Seq,
};

use super::tcp::Segment;

/// An acknowledgement may always lag behind by this much: the largest window
/// without scaling.
const MIN_ACK_LAG: u32 = 66_000;

/// A segment's numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Seen {
    pub segment: Segment,
    pub has_syn: bool,
    pub has_ack: bool,
    pub seq: Seq,
    /// The sequence number behind it: SYN and FIN count one each.
    pub end: Seq,
    pub ack: Seq,
    /// The highest sequence number that it acknowledges, SACK blocks included.
    pub sack: Seq,
    /// As it stands in the header.
    pub window: u16,
    /// What a SYN offers: its scale, and bits of [`window`].
    pub scale: u8,
    pub offers: u8,
    /// Without any, a repeated SYN takes nothing back.
    pub has_options: bool,
}

/// The windows of a connection while a segment is judged: a copy, which takes
/// effect when the packet is accepted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Connection {
    /// The side that sent the segment, and the other one.
    pub sender: Window,
    pub receiver: Window,
    pub last: Last,
    /// Not 0 when the segment begins a side's window: all is to be written back.
    pub is_rewritten: u32,
    /// What the sender's `end` and the receiver's `max_end` were when they were copied.
    pub taken: [Seq; 2],
    /// The same of the receiver's `max_size`.
    pub taken_size: u32,
}

/// What the windows say of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Inside,
    /// Too far, but not much, or too old: it passes and is not believed.
    Beside,
    Outside,
}

impl Connection {
    /// Copies what the flow knows.
    #[inline(always)]
    pub const fn take(&mut self, flow: &Flow, direction: Direction) {
        let [original, reply] = &flow.sides;
        (self.sender, self.receiver) = match direction {
            Direction::Original => (original.window, reply.window),
            Direction::Reply => (reply.window, original.window),
        };
        self.last = flow.last;
        self.is_rewritten = 0;
        self.taken = [self.sender.end, self.receiver.max_end];
        self.taken_size = self.receiver.max_size;
    }

    /// The connection that begins with this segment.
    #[inline(always)]
    pub fn begin(&mut self, seen: &Seen) {
        self.sender = Window::default();
        self.receiver = Window::default();
        self.last = Last::default();
        self.is_rewritten = 1;
        self.sender.begin(seen);
        if !seen.has_syn {
            // In the middle: how windows are scaled was said before.
            self.sender.max_end = seen.end.plus(self.sender.max_size);
            self.sender.scale = 0;
            self.sender.flags = window::SACK | window::LIBERAL;
            self.receiver.flags = window::SACK | window::LIBERAL;
        }
    }

    /// Writes the windows back: of a usual segment only what its own sender may change, so that
    /// the other direction, on another CPU, is not undone; and of numbers the higher one, so that a
    /// segment is not undone that was judged on another CPU meanwhile: its acknowledgement would be
    /// one of nothing that was sent, for ever. `advance` is [`Seq::advance`], on all CPUs at once.
    #[inline(always)]
    pub fn settle(
        &self,
        flow: &mut Flow,
        direction: Direction,
        advance: impl Fn(&mut Seq, Seq, Seq),
    ) {
        flow.last = self.last;
        let [original, reply] = &mut flow.sides;
        let (sender, receiver) = match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        };
        if self.is_rewritten != 0 {
            sender.window = self.sender;
            receiver.window = self.receiver;
            return;
        }
        let (of_sender, of_receiver) = (&mut sender.window, &mut receiver.window);
        advance(&mut of_sender.end, self.taken[0], self.sender.end);
        advance(&mut of_receiver.max_end, self.taken[1], self.receiver.max_end);
        of_sender.max_ack = self.sender.max_ack;
        of_sender.max_size = self.sender.max_size;
        of_sender.scale = self.sender.scale;
        of_sender.flags = self.sender.flags;
        of_receiver.flags = self.receiver.flags;
        // The receiver's own segments tell it, too.
        let is_wider = self.receiver.max_size != self.taken_size;
        if is_wider && of_receiver.max_size < self.receiver.max_size {
            of_receiver.max_size = self.receiver.max_size;
        }
    }

    /// Notes a segment that passes although it was not believed.
    #[inline(always)]
    pub const fn remember(&mut self, direction: Direction, seen: &Seen) {
        self.last.segment = seen.segment.number();
        self.last.direction = direction as u8;
        self.last.seq = seen.seq;
        self.last.end = seen.end;
        self.last.window = seen.window;
    }

    /// Believes the other side's SYN that was let through earlier, now that this
    /// segment answers it.
    #[inline(always)]
    pub fn resume(&mut self) {
        let last = self.last;
        self.last.flags &= !last::CHALLENGE_EXPECTED;
        self.receiver = Window {
            end: last.end,
            max_end: last.end,
            max_size: if last.window == 0 { 1 } else { u32::from(last.window) },
            scale: last.scale,
            flags: last.flags & (window::SCALES | window::SACK),
            ..Window::default()
        };
        let is_liberal = self.sender.flags & window::LIBERAL;
        self.sender = Window { flags: is_liberal, ..Window::default() };
        self.is_rewritten = 1;
    }

    /// Compares a segment with the windows, and takes over what it tells when it
    /// is inside. `state` is the connection's before this segment.
    #[inline(always)]
    pub fn place(
        &mut self,
        direction: Direction,
        seen: &Seen,
        state: State,
        is_liberal: bool,
    ) -> Place {
        // Blocks say nothing where the other side did not agree to them.
        let sack = if self.receiver.has(window::SACK) { seen.sack } else { seen.ack };
        if self.begin_side(direction, seen, sack, state) {
            return Place::Inside;
        }
        let numbers = self.read(seen, sack, state);
        let place = self.compare(&numbers);
        match place {
            Place::Inside => {
                self.take_over(direction, seen, &numbers);
                Place::Inside
            }
            _ if is_liberal || self.sender.has(window::LIBERAL) => Place::Inside,
            _ => place,
        }
    }

    /// [`Connection::place`] in place, for a segment that is no SYN, FIN or RST, of a running
    /// connection, and lies well inside windows that are known, as nearly all do; `false`,
    /// and nothing is noted, for any other. What was sent and what may be goes on by `advance`, as
    /// [`Connection::settle`] has it.
    #[inline(always)]
    pub fn take_plain(
        [sender, receiver]: [&mut Window; 2],
        last: &mut Last,
        direction: Direction,
        seen: &Seen,
        advance: impl Fn(&mut Seq, Seq, Seq),
    ) -> bool {
        let Seen { seq, end, ack, .. } = *seen;
        let (sent, read) = (sender.max_size, receiver.max_size);
        let lag = if sent > MIN_ACK_LAG { sent } else { MIN_ACK_LAG };
        // The four conditions, and that the sender keeps to what it may send: each
        // difference has the sign bit set when its condition holds.
        let begins = seq.since(sender.max_end.plus(1));
        let ends = end.since(sender.max_end.plus(1));
        let is_remembered = sender.end.minus(read).minus(1).since(end);
        let is_of_sent = ack.since(receiver.end.plus(1));
        let is_recent = receiver.end.minus(lag).minus(1).since(ack);
        let all = begins & ends & is_remembered & is_of_sent & is_recent;
        if all.cast_signed() >= 0 || sent == 0 || read == 0 {
            return false;
        }
        let size = u32::from(seen.window) << (sender.scale & 15);
        if sent < size {
            sender.max_size = size;
        }
        let sent_until = sender.end;
        if end.is_after(sent_until) {
            advance(&mut sender.end, sent_until, end);
            sender.flags |= window::UNACKNOWLEDGED;
        }
        if !sender.has(window::MAX_ACK_KNOWN) || ack.is_after(sender.max_ack) {
            sender.max_ack = ack;
            sender.flags |= window::MAX_ACK_KNOWN;
        }
        let allowed_until = receiver.max_end;
        if ack.plus(size).is_after(allowed_until.minus(1)) {
            let to = ack.plus(if size == 0 { 1 } else { size });
            advance(&mut receiver.max_end, allowed_until, to);
        }
        if ack == receiver.end && receiver.has(window::UNACKNOWLEDGED) {
            receiver.flags &= !window::UNACKNOWLEDGED;
        }
        last.count_again(direction, &Numbers { seq, end, ack, sack: ack }, seen.window);
        last.segment = Segment::Ack.number();
        true
    }

    /// The first segment of a side, or a SYN with which it begins anew; `true` when
    /// there is nothing to compare it with.
    #[inline(always)]
    fn begin_side(&mut self, direction: Direction, seen: &Seen, sack: Seq, state: State) -> bool {
        let is_first = self.sender.max_size == 0;
        let is_anew = seen.has_syn
            && !is_first
            && seen.end.is_after(self.sender.end)
            && matches!(state, State::SynSent | State::SynRecv);
        if !is_first && !is_anew {
            return false;
        }
        self.is_rewritten = 1;
        if seen.has_syn {
            self.sender.begin(seen);
            if matches!(direction, Direction::Reply) {
                self.agree_on_scale();
            }
            return !seen.has_ack && (is_first || matches!(direction, Direction::Reply));
        }
        self.begin_in_the_middle(seen, sack);
        false
    }

    #[inline(always)]
    fn begin_in_the_middle(&mut self, seen: &Seen, sack: Seq) {
        let Self { sender, receiver, .. } = self;
        let size = u32::from(seen.window) << (sender.scale & 15);
        sender.end = seen.end;
        sender.max_size = if size == 0 { 1 } else { size };
        sender.max_end = seen.end.plus(sender.max_size);
        if receiver.max_size == 0 {
            // Nothing is known of the other side: what is acknowledged was sent.
            receiver.end = sack;
            receiver.max_end = sack;
        } else if sack == receiver.end.plus(1) {
            // The answer to a keepalive, which was one below what was sent.
            receiver.end = sack;
        }
    }

    /// Windows are scaled only if both sides offer it.
    #[inline(always)]
    const fn agree_on_scale(&mut self) {
        if self.sender.flags & self.receiver.flags & window::SCALES == 0 {
            self.sender.scale = 0;
            self.receiver.scale = 0;
        }
    }

    #[inline(always)]
    fn read(&self, seen: &Seen, sack: Seq, state: State) -> Numbers {
        let mut numbers = Numbers { seq: seen.seq, end: seen.end, ack: seen.ack, sack };
        let is_reset = matches!(seen.segment, Segment::Rst);
        // Some TCPs set the flag in a reset, and leave the number out.
        if !seen.has_ack || (is_reset && seen.ack.0 == 0) {
            numbers.ack = self.receiver.end;
            numbers.sack = self.receiver.end;
        }
        // A reset that answers a SYN.
        if is_reset && seen.seq.0 == 0 && matches!(state, State::SynSent) {
            numbers.seq = self.sender.end;
            numbers.end = self.sender.end;
        }
        numbers
    }

    /// The four conditions.
    #[inline(always)]
    fn compare(&mut self, numbers: &Numbers) -> Place {
        let Self { sender, receiver, .. } = self;
        let lag = if sender.max_size > MIN_ACK_LAG { sender.max_size } else { MIN_ACK_LAG };
        let is_remembered = numbers.end.is_after(sender.end.minus(receiver.max_size).minus(1));
        let is_recent = numbers.sack.is_after(receiver.end.minus(lag).minus(1));
        let is_of_sent = numbers.sack.is_before(receiver.end.plus(1));
        if !numbers.seq.is_before(sender.max_end.plus(1)) {
            let overshoot = numbers.end.since(sender.max_end).wrapping_add(1);
            let is_little = receiver.max_size != 0 && overshoot <= receiver.max_size;
            if !(is_little & is_remembered & is_recent & is_of_sent) {
                return Place::Outside;
            }
            // When the receiver takes it, its acknowledgement must be known.
            sender.end = numbers.end;
            sender.flags |= window::UNACKNOWLEDGED;
            return Place::Beside;
        }
        if !is_of_sent {
            return Place::Outside;
        }
        if (receiver.max_size == 0) | is_remembered && is_recent {
            return Place::Inside;
        }
        Place::Beside
    }

    /// Learns from a segment that is inside.
    #[inline(always)]
    fn take_over(&mut self, direction: Direction, seen: &Seen, numbers: &Numbers) {
        let Numbers { end, ack, sack, .. } = *numbers;
        let Self { sender, receiver, .. } = self;
        let allowed = sender.max_end;
        // The window of a SYN is never scaled.
        let shift = if seen.has_syn { 0 } else { sender.scale & 15 };
        let size = u32::from(seen.window) << shift;

        let announced = size.wrapping_add(sack.since(ack));
        if sender.max_size < announced {
            sender.max_size = announced;
        }
        if end.is_after(sender.end) {
            sender.end = end;
            sender.flags |= window::UNACKNOWLEDGED;
        }
        if seen.has_ack && (!sender.has(window::MAX_ACK_KNOWN) || ack.is_after(sender.max_ack)) {
            sender.max_ack = ack;
            sender.flags |= window::MAX_ACK_KNOWN;
        }
        if receiver.max_size != 0 && end.is_after(allowed) {
            receiver.max_size = receiver.max_size.wrapping_add(end.since(allowed));
        }
        if sack.plus(size).is_after(receiver.max_end.minus(1)) {
            receiver.max_end = sack.plus(if size == 0 { 1 } else { size });
        }
        if ack == receiver.end {
            receiver.flags &= !window::UNACKNOWLEDGED;
        }
        if matches!(seen.segment, Segment::Ack) {
            self.last.count_again(direction, numbers, seen.window);
        }
    }
}

impl Last {
    /// Counts how often the same segment came.
    #[inline(always)]
    fn count_again(&mut self, direction: Direction, numbers: &Numbers, size: u16) {
        let Numbers { seq, end, ack, .. } = *numbers;
        let differs = (self.seq.0 ^ seq.0)
            | (self.end.0 ^ end.0)
            | (self.ack.0 ^ ack.0)
            | u32::from(self.window ^ size)
            | u32::from(self.direction ^ direction as u8);
        if differs == 0 {
            self.retransmissions = self.retransmissions.wrapping_add(1);
            return;
        }
        self.direction = direction as u8;
        self.seq = seq;
        self.ack = ack;
        self.end = end;
        self.window = size;
        self.retransmissions = 0;
    }
}

impl Window {
    /// What a SYN tells, or the first segment of a connection.
    #[inline(always)]
    const fn begin(&mut self, seen: &Seen) {
        self.end = seen.end;
        self.max_end = seen.end;
        self.max_size = if seen.window == 0 { 1 } else { seen.window as u32 };
        if seen.has_options {
            self.scale = seen.scale;
            self.flags = self.flags & window::LIBERAL | seen.offers;
        }
    }
}

/// The numbers that are compared.
#[derive(Clone, Copy)]
struct Numbers {
    seq: Seq,
    end: Seq,
    ack: Seq,
    sack: Seq,
}

const _: () = assert!(size_of::<Connection>() == 76);
