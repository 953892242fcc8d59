//! A conversation through the gateway, over links that lose, repeat and delay segments.

use firewall_common::flow::Direction;

use super::{Host, Middle, Segment, Trackers};

/// Bits of [`Step::fate`].
pub mod fate {
    /// The segment, or what takes its place, is lost behind the gateway.
    pub const LOST: u8 = 1 << 0;
    /// It comes twice.
    pub const REPEATED: u8 = 1 << 1;
    /// Its acknowledgement is lost behind the gateway.
    pub const ANSWER_LOST: u8 = 1 << 2;
    /// It comes after that of the next step.
    pub const LATE: u8 = 1 << 3;
    /// Its acknowledgement does.
    pub const ANSWER_LATE: u8 = 1 << 4;
    /// Its receiver's application reads nothing meanwhile.
    pub const UNREAD: u8 = 1 << 5;
}

/// A segment that is sent, and what becomes of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    /// Where it begins, from the first byte that is not acknowledged.
    pub ahead: isize,
    /// Bytes.
    pub len: usize,
    /// Bits of [`fate`].
    pub fate: u8,
}

/// Bytes of a segment, once everything is sent in order.
const IN_ORDER: usize = 7;

/// Two hosts, and the gateway between them.
#[derive(Debug)]
pub struct Talk {
    hosts: [Host; 2],
    middle: Middle,
    trackers: Option<Trackers>,
    /// What has left the gateway, by the direction of who is to get it, and has not arrived.
    late: Vec<(Direction, Segment)>,
}

impl Talk {
    /// The first bytes of client and server have these numbers.
    pub fn new(mut middle: Middle, first: [u32; 2]) -> Self {
        middle.begins(first);
        let hosts = [Host::new(first[0], first[1]), Host::new(first[1], first[0])];
        Self { hosts, middle, trackers: None, late: Vec::new() }
    }

    /// Has every segment judged.
    #[must_use]
    pub fn tracked(self) -> Self {
        let first = [0, 1].map(|side: usize| self.hosts[side].acknowledgement().seq);
        let trackers = Trackers::new(self.middle.hosts(), self.middle.names(), first);
        Self { trackers: Some(trackers), ..self }
    }

    /// Client and server have room for so many bytes that their applications have not read.
    #[must_use]
    pub fn with_room(self, [client, server]: [usize; 2]) -> Self {
        let [of_client, of_server] = self.hosts;
        let hosts = [of_client.with_room(client), of_server.with_room(server)];
        Self { hosts, ..self }
    }

    pub const fn middle(&self) -> &Middle {
        &self.middle
    }

    /// What the sender of a direction has said.
    pub fn said(&self, direction: Direction) -> &[u8] {
        self.hosts[direction.index()].text()
    }

    /// What the receiver of a direction has heard.
    pub fn heard(&self, direction: Direction) -> Vec<u8> {
        self.hosts[direction.reversed().index()].heard()
    }

    /// The sender of a direction says a text. The steps say how, one after another, until it is
    /// acknowledged; when they are spent, the rest goes in order and undisturbed.
    ///
    /// # Panics
    /// When that does not bring all of it to the receiver, but for the beginning of an
    /// announcement that is withheld.
    pub fn say(
        &mut self,
        direction: Direction,
        text: &[u8],
        steps: &mut impl Iterator<Item = Step>,
    ) {
        self.hosts[direction.index()].say(text);
        // Each segment may only repeat what waits for an acknowledgement.
        let mut patience = 2 * text.len();
        while !self.hosts[direction.index()].unacknowledged().is_empty() {
            let step = steps.next().unwrap_or_else(|| {
                patience = patience.checked_sub(1).expect("everything is acknowledged in the end");
                Step { len: IN_ORDER, ..Step::default() }
            });
            self.step(direction, step);
        }
        for (direction, segment) in std::mem::take(&mut self.late) {
            self.arrive(direction, &segment, 0);
        }
    }

    /// Neither has anything more to say: the end comes where the receiver awaits it.
    pub fn end(&mut self) {
        for direction in [Direction::Original, Direction::Reply] {
            let end = self.hosts[direction.index()].acknowledgement();
            let end = Segment { is_last: true, ..end };
            let gone_on = self.cross(direction, &end).expect("an end is never let go of");
            let receiver = &self.hosts[direction.reversed().index()];
            assert_eq!(gone_on.seq, receiver.awaits(), "the end of {direction:?}");
        }
    }

    fn step(&mut self, direction: Direction, step: Step) {
        let before = std::mem::take(&mut self.late);
        let host = &self.hosts[direction.index()];
        let rest = host.unacknowledged();
        // One byte asks whether there is room again (RFC 9293 section 3.8.6.1).
        let end = rest.end.min(host.allowed().max(rest.start + 1));
        let from = rest.start.saturating_add_signed(step.ahead).min(end);
        let to = from.saturating_add(step.len).min(end);
        if from < to {
            let segment = host.segment(from..to);
            self.send(direction, &segment, step.fate);
        }
        for (direction, segment) in before {
            self.arrive(direction, &segment, 0);
        }
    }

    fn send(&mut self, direction: Direction, segment: &Segment, fate: u8) {
        let Some(gone_on) = self.cross(direction, segment) else { return };
        if fate & fate::LOST != 0 {
            return;
        }
        if fate & fate::LATE != 0 {
            return self.late.push((direction, gone_on));
        }
        if fate & fate::REPEATED != 0 {
            self.take(direction, &gone_on);
        }
        self.arrive(direction, &gone_on, fate);
    }

    /// A segment arrives, and is answered unless it is an answer itself.
    fn arrive(&mut self, direction: Direction, segment: &Segment, fate: u8) {
        self.take(direction, segment);
        let back = direction.reversed();
        if fate & fate::UNREAD == 0 {
            self.hosts[back.index()].read();
        }
        if segment.payload.is_empty() {
            return;
        }
        let answer = self.hosts[back.index()].acknowledgement();
        let Some(gone_on) = self.cross(back, &answer) else { return };
        match fate {
            fate if fate & fate::ANSWER_LOST != 0 => {}
            fate if fate & fate::ANSWER_LATE != 0 => self.late.push((back, gone_on)),
            _ => self.take(back, &gone_on),
        }
    }

    fn take(&mut self, direction: Direction, segment: &Segment) {
        if let Some(trackers) = &self.trackers {
            trackers.arrives(direction, segment);
        }
        self.hosts[direction.reversed().index()].take(segment);
    }

    fn cross(&mut self, direction: Direction, segment: &Segment) -> Option<Segment> {
        let Self { middle, trackers, .. } = self;
        let Some(trackers) = trackers else { return middle.cross(direction, segment) };
        trackers.leaves(direction, segment);
        let seen = trackers.crosses(direction, segment);
        let gone_on = middle.cross(direction, segment);
        trackers.agree(direction, &seen, gone_on.as_ref(), middle);
        gone_on
    }
}
