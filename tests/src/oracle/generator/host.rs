//! An end that speaks TCP: enough of it to open, send, acknowledge, close and begin
//! again (RFC 9293, RFC 7323, RFC 2018).

use fastrand::Rng;

use crate::{
    oracle::{frame::Segment, options::TcpOption},
    packet::flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN},
};

/// How far an end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Will connect, or wait for it.
    Idle,
    SynSent,
    SynReceived,
    Open,
    /// Both have closed, or one has reset.
    Over,
}

#[derive(Clone, Debug)]
pub(super) struct Host {
    is_client: bool,
    pub(super) phase: Phase,
    pub(super) isn: u32,
    /// The number that follows what was sent.
    pub(super) next: u32,
    /// The first number that is not acknowledged.
    pub(super) unacknowledged: u32,
    /// The number that follows what was heard in order.
    pub(super) heard: u32,
    /// Blocks that came early.
    early: Vec<(u32, u32)>,
    /// Bytes that this end takes, and that the other one takes.
    pub(super) window: u32,
    pub(super) their_window: u32,
    offers: Offers,
    theirs: Option<Offers>,
    has_sent_fin: bool,
    has_heard_fin: bool,
    owed: Option<Owed>,
}

/// What a SYN offers.
#[derive(Clone, Copy, Debug)]
struct Offers {
    scale: Option<u8>,
    sack: bool,
    timestamps: bool,
    ecn: bool,
}

/// An answer that what was heard demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Ack,
    SynAck,
    /// With this number, or in answer to what acknowledged nothing.
    Reset(u32),
}

impl Host {
    pub(super) fn new(rng: &mut Rng, is_client: bool) -> Self {
        let isn = first_number(rng);
        Self {
            is_client,
            phase: Phase::Idle,
            isn,
            next: isn,
            unacknowledged: isn,
            heard: 0,
            early: Vec::new(),
            window: [1_000, 8_192, 29_200, 65_535, 200_000][rng.usize(..5)],
            their_window: 0,
            offers: Offers::choose(rng),
            theirs: None,
            has_sent_fin: false,
            has_heard_fin: false,
            owed: None,
        }
    }

    /// As if the handshake had been long ago.
    pub(super) fn have_talked(client: &mut Self, server: &mut Self) {
        (client.phase, server.phase) = (Phase::Open, Phase::Open);
        (client.heard, server.heard) = (server.next, client.next);
        (client.their_window, server.their_window) = (server.window, client.window);
        (client.theirs, server.theirs) = (Some(server.offers), Some(client.offers));
    }

    /// The next segment; `None` when there is nothing to say.
    pub(super) fn speak(&mut self, rng: &mut Rng) -> Option<Segment> {
        if let Some(owed) = self.owed
            && rng.u8(..10) < 8
        {
            self.owed = None;
            return Some(self.answer(owed));
        }
        match self.phase {
            Phase::Idle if self.is_client || rng.u8(..60) == 0 => {
                self.phase = Phase::SynSent;
                Some(self.syn(rng))
            }
            Phase::Idle => None,
            Phase::SynSent if rng.u8(..4) == 0 => Some(self.again(SYN)),
            Phase::SynReceived if rng.u8(..4) == 0 => Some(self.again(SYN | ACK)),
            Phase::SynSent | Phase::SynReceived => None,
            Phase::Open => Some(self.talk(rng)),
            Phase::Over => self.linger(rng),
        }
    }

    fn answer(&mut self, owed: Owed) -> Segment {
        match owed {
            Owed::Ack => self.ack(),
            Owed::SynAck => self.again(SYN | ACK),
            Owed::Reset(seq) => Segment { flags: RST, seq, ..Segment::default() },
        }
    }

    fn syn(&mut self, rng: &mut Rng) -> Segment {
        let payload = if rng.u8(..12) == 0 { rng.usize(1..500) } else { 0 };
        self.next = self.isn.wrapping_add(1 + payload as u32);
        Segment { payload, ..self.again(SYN) }
    }

    /// A SYN or SYN-ACK, perhaps once more.
    fn again(&mut self, flags: u8) -> Segment {
        self.next = latest(self.next, self.isn.wrapping_add(1));
        let is_answer = flags & ACK != 0;
        let ecn = match (self.offers.ecn, is_answer) {
            (true, false) => ECE | CWR,
            (true, true) if self.theirs.is_some_and(|theirs| theirs.ecn) => ECE,
            _ => 0,
        };
        Segment {
            flags: flags | ecn,
            seq: self.isn,
            ack: if is_answer { self.heard } else { 0 },
            window: self.window.min(65_535) as u16,
            options: self.offers.options(self.theirs.filter(|_| is_answer)),
            payload: 0,
        }
    }

    /// An end that is open does one of the many things.
    fn talk(&mut self, rng: &mut Rng) -> Segment {
        match rng.u8(..100) {
            0..=44 if !self.has_sent_fin => self.data(rng),
            0..=64 => self.ack(),
            65..=74 => self.retransmission(rng),
            75..=78 => Segment { seq: self.next.wrapping_sub(1), ..self.ack() },
            79..=86 => {
                self.window = [0, 1, 500, 8_192, 65_535, 400_000][rng.usize(..6)];
                self.ack()
            }
            87..=94 => self.fin(),
            95 => {
                self.phase = Phase::Over;
                Segment { flags: RST | (ACK * rng.u8(..2)), ..self.ack() }
            }
            _ => self.ack(),
        }
    }

    fn data(&mut self, rng: &mut Rng) -> Segment {
        let in_flight = self.next.wrapping_sub(self.unacknowledged);
        let room = self.their_window.saturating_sub(in_flight);
        let wanted = [1, 100, 536, 1_460][rng.usize(..4)];
        // A probe where the window is shut.
        let payload = wanted.min(room).max(1) as usize;
        let segment = Segment { flags: ACK | PSH, payload, ..self.ack() };
        self.next = self.next.wrapping_add(payload as u32);
        segment
    }

    fn retransmission(&self, rng: &mut Rng) -> Segment {
        let sent = self.next.wrapping_sub(self.unacknowledged);
        let payload = sent.min(rng.u32(1..1_461)) as usize;
        Segment { seq: self.unacknowledged, payload, flags: ACK | PSH, ..self.ack() }
    }

    fn fin(&mut self) -> Segment {
        if self.has_sent_fin {
            return Segment { flags: FIN | ACK, seq: self.next.wrapping_sub(1), ..self.ack() };
        }
        let segment = Segment { flags: FIN | ACK, ..self.ack() };
        self.has_sent_fin = true;
        self.next = self.next.wrapping_add(1);
        self.settle();
        segment
    }

    pub(super) fn ack(&self) -> Segment {
        Segment {
            flags: ACK,
            seq: self.next,
            ack: self.heard,
            window: (self.window >> self.shift()).min(65_535) as u16,
            options: self.acknowledging(),
            payload: 0,
        }
    }

    fn acknowledging(&self) -> Vec<TcpOption> {
        let agreed =
            |of: fn(&Offers) -> bool| of(&self.offers) && self.theirs.as_ref().is_some_and(of);
        let mut options = Vec::new();
        if agreed(|offers| offers.timestamps) {
            options.push(TcpOption::Timestamps { value: self.next, echo: self.heard });
        }
        if agreed(|offers| offers.sack) && !self.early.is_empty() {
            options.push(TcpOption::Sack(self.early.iter().rev().take(3).copied().collect()));
        }
        options
    }

    /// Its windows are shifted by so much, when both ends have offered that.
    fn shift(&self) -> u8 {
        let theirs = self.theirs.and_then(|theirs| theirs.scale);
        self.offers.scale.filter(|_| theirs.is_some()).unwrap_or(0).min(14)
    }

    fn their_shift(&self) -> u8 {
        let theirs = self.theirs.and_then(|theirs| theirs.scale);
        theirs.filter(|_| self.offers.scale.is_some()).unwrap_or(0).min(14)
    }

    /// What comes after the end: late words, and another beginning.
    fn linger(&mut self, rng: &mut Rng) -> Option<Segment> {
        match rng.u8(..10) {
            0 => Some(self.ack()),
            1 => Some(Segment { flags: FIN | ACK, seq: self.next.wrapping_sub(1), ..self.ack() }),
            2 => Some(Segment { flags: RST, ..self.ack() }),
            3..=5 if self.is_client => {
                let apart = rng.u32(1..300_000);
                let isn = if rng.bool() {
                    self.next.wrapping_add(apart)
                } else {
                    self.next.wrapping_sub(apart)
                };
                *self = Self { isn, next: isn, unacknowledged: isn, ..Self::new(rng, true) };
                self.phase = Phase::SynSent;
                Some(self.syn(rng))
            }
            _ => None,
        }
    }

    pub(super) fn hear(&mut self, segment: &Segment) {
        match segment.flags & (SYN | ACK | FIN | RST) {
            flags if flags & RST != 0 => self.hear_reset(segment),
            flags if flags & SYN != 0 => self.hear_syn(segment, flags & ACK != 0),
            _ => self.hear_data(segment),
        }
    }

    fn hear_reset(&mut self, segment: &Segment) {
        match segment.seq.wrapping_sub(self.heard) {
            0 => self.phase = Phase::Over,
            _ if self.phase == Phase::SynSent && segment.ack == self.next => {
                self.phase = Phase::Over;
            }
            offset if offset < self.window => self.owed = Some(Owed::Ack),
            _ => {}
        }
    }

    fn hear_syn(&mut self, segment: &Segment, is_answer: bool) {
        match (self.phase, is_answer) {
            (Phase::Idle, false) => self.greet(segment, Phase::SynReceived, Owed::SynAck),
            (Phase::Over, false) if !self.is_client => {
                let isn = self.next.wrapping_add(77_777);
                (self.isn, self.next, self.unacknowledged) = (isn, isn, isn);
                (self.has_sent_fin, self.has_heard_fin) = (false, false);
                self.greet(segment, Phase::SynReceived, Owed::SynAck);
            }
            (Phase::SynSent, false) => self.greet(segment, Phase::SynReceived, Owed::SynAck),
            (Phase::SynSent, true) if segment.ack == self.next => {
                self.greet(segment, Phase::Open, Owed::Ack);
                self.unacknowledged = segment.ack;
            }
            (Phase::SynSent | Phase::Idle | Phase::Over, true) => {
                self.owed = Some(Owed::Reset(segment.ack));
            }
            _ => self.owed = Some(Owed::Ack),
        }
    }

    fn greet(&mut self, syn: &Segment, phase: Phase, owed: Owed) {
        self.phase = phase;
        self.heard = syn.seq.wrapping_add(1 + syn.payload as u32);
        self.their_window = syn.window.into();
        self.theirs = Some(Offers::of(syn));
        self.early.clear();
        self.owed = Some(owed);
    }

    fn hear_data(&mut self, segment: &Segment) {
        match self.phase {
            Phase::Idle | Phase::SynSent => {
                self.owed = Some(Owed::Reset(segment.ack));
                return;
            }
            Phase::SynReceived if segment.ack == self.next => self.phase = Phase::Open,
            Phase::SynReceived | Phase::Open | Phase::Over => {}
        }
        if is_between(self.unacknowledged, segment.ack, self.next) {
            self.unacknowledged = segment.ack;
            self.their_window = u32::from(segment.window) << self.their_shift();
        }
        let is_fin = segment.flags & FIN != 0;
        let length = segment.payload as u32 + u32::from(is_fin);
        if length > 0 {
            self.owed = Some(Owed::Ack);
        }
        let end = segment.seq.wrapping_add(length);
        if segment.seq == self.heard {
            self.heard = end;
            self.has_heard_fin |= is_fin;
            self.catch_up();
        } else if length > 0
            && is_between(self.heard, segment.seq, self.heard.wrapping_add(self.window))
        {
            self.early.push((segment.seq, end));
        }
        self.settle();
    }

    /// What came early may be next now.
    fn catch_up(&mut self) {
        while let Some(place) = self.early.iter().position(|(from, _)| *from == self.heard) {
            self.heard = self.early.remove(place).1;
        }
        let heard = self.heard;
        self.early.retain(|(from, _)| (from.wrapping_sub(heard) as i32) > 0);
    }

    fn settle(&mut self) {
        if self.has_sent_fin && self.has_heard_fin && self.unacknowledged == self.next {
            self.phase = Phase::Over;
        }
    }
}

impl Offers {
    fn choose(rng: &mut Rng) -> Self {
        let scale = [None, Some(0), Some(2), Some(7), Some(14), Some(rng.u8(..))][rng.usize(..6)];
        Self { scale, sack: rng.bool(), timestamps: rng.bool(), ecn: rng.u8(..4) == 0 }
    }

    fn of(segment: &Segment) -> Self {
        let has = |wanted: fn(&TcpOption) -> bool| segment.options.iter().any(wanted);
        Self {
            scale: segment.options.iter().find_map(|option| match option {
                TcpOption::Scale(shift) => Some(*shift),
                _ => None,
            }),
            sack: has(|option| matches!(option, TcpOption::SackPermitted)),
            timestamps: has(|option| matches!(option, TcpOption::Timestamps { .. })),
            ecn: segment.flags & (ECE | CWR) == ECE | CWR,
        }
    }

    /// Those of a SYN, or of an answer to these offers.
    fn options(self, asked: Option<Self>) -> Vec<TcpOption> {
        let may = |of: fn(&Self) -> bool| of(&self) && asked.as_ref().is_none_or(of);
        let mut options = vec![TcpOption::Mss(1_460)];
        if may(|offers| offers.sack) {
            options.push(TcpOption::SackPermitted);
        }
        if may(|offers| offers.timestamps) {
            options.push(TcpOption::Timestamps { value: 1, echo: 0 });
        }
        if let Some(shift) = self.scale
            && may(|offers| offers.scale.is_some())
        {
            options.push(TcpOption::Scale(shift));
        }
        options
    }
}

/// Half of them close to where numbers wrap.
fn first_number(rng: &mut Rng) -> u32 {
    match rng.u8(..4) {
        0 => 0u32.wrapping_sub(rng.u32(..5_000)),
        1 => 0x8000_0000 - rng.u32(..5_000),
        _ => rng.u32(..),
    }
}

const fn latest(a: u32, b: u32) -> u32 {
    if (a.wrapping_sub(b) as i32) > 0 { a } else { b }
}

const fn is_between(low: u32, number: u32, high: u32) -> bool {
    number.wrapping_sub(low) <= high.wrapping_sub(low)
}
