//! One end of a TCP connection: what it says, and what it has heard.

use std::ops::Range;

use super::Segment;

/// Acknowledges every segment at once, and takes whatever it has not had and has room for.
#[derive(Clone, Debug)]
pub struct Host {
    /// The numbers of the first bytes, its own and its peer's.
    first: u32,
    peers_first: u32,
    text: Vec<u8>,
    acknowledged: usize,
    heard: Vec<Option<u8>>,
    /// Bytes at the beginning of what was heard without a gap.
    received: usize,
    /// Those that its application has read, and how many more there is room for.
    read: usize,
    room: usize,
    /// Bytes that its peer takes, as that has said last.
    allowed: u16,
}

impl Host {
    /// The first bytes of both directions have these numbers.
    pub const fn new(first: u32, peers_first: u32) -> Self {
        Self {
            first,
            peers_first,
            text: Vec::new(),
            acknowledged: 0,
            heard: Vec::new(),
            received: 0,
            read: 0,
            room: usize::MAX,
            allowed: u16::MAX,
        }
    }

    /// The same, with room for so many bytes that its application has not read.
    #[must_use]
    pub fn with_room(self, room: usize) -> Self {
        Self { room, ..self }
    }

    /// Has this to say, too.
    pub fn say(&mut self, text: &[u8]) {
        self.text.extend(text);
    }

    /// All that it has said.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// What of its text its peer has not acknowledged.
    pub const fn unacknowledged(&self) -> Range<usize> {
        self.acknowledged..self.text.len()
    }

    /// What of its text its peer would take.
    pub fn allowed(&self) -> usize {
        self.acknowledged + usize::from(self.allowed)
    }

    fn window(&self) -> u16 {
        let free = self.room - (self.received - self.read);
        free.try_into().unwrap_or(u16::MAX)
    }

    /// The segment with these bytes of its text, none of them for an acknowledgement alone.
    pub fn segment(&self, range: Range<usize>) -> Segment {
        Segment {
            seq: self.first.wrapping_add(range.start as u32),
            ack: self.peers_first.wrapping_add(self.received as u32),
            window: self.window(),
            payload: self.text[range].to_vec(),
            is_last: false,
        }
    }

    /// What it acknowledges with.
    pub fn acknowledgement(&self) -> Segment {
        self.segment(self.text.len()..self.text.len())
    }

    /// # Panics
    /// When a byte differs from what came in its place, unless that is acknowledged, or when
    /// something is acknowledged that was not sent.
    pub fn take(&mut self, segment: &Segment) {
        self.hear(segment.seq, &segment.payload);
        let acknowledged = segment.ack.wrapping_sub(self.first).cast_signed();
        let acknowledged = usize::try_from(acknowledged).unwrap_or_default();
        assert!(acknowledged <= self.text.len(), "more was acknowledged than sent");
        if acknowledged >= self.acknowledged {
            (self.acknowledged, self.allowed) = (acknowledged, segment.window);
        }
    }

    /// Its application reads what has come.
    pub const fn read(&mut self) {
        self.read = self.received;
    }

    fn hear(&mut self, seq: u32, payload: &[u8]) {
        for (number, byte) in (0..).zip(payload) {
            let number = seq.wrapping_add(number).wrapping_sub(self.peers_first);
            let place = usize::try_from(number.cast_signed()).unwrap_or_default();
            // What it has acknowledged it does not look at: a forgotten edit may lie there.
            if number.cast_signed() < 0 || place < self.received {
                continue;
            }
            if place >= self.read.saturating_add(self.room) {
                break;
            }
            if self.heard.len() <= place {
                self.heard.resize(place + 1, None);
            }
            let before = self.heard[place].replace(*byte);
            assert!(before.is_none_or(|before| before == *byte), "byte {place} has changed");
        }
        while self.heard.get(self.received).is_some_and(Option::is_some) {
            self.received += 1;
        }
    }

    /// All that has come without a gap.
    pub fn heard(&self) -> Vec<u8> {
        self.heard[..self.received].iter().flatten().copied().collect()
    }

    /// The number that it waits for.
    pub const fn awaits(&self) -> u32 {
        self.peers_first.wrapping_add(self.received as u32)
    }
}
