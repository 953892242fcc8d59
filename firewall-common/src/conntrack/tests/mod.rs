//! Connections segment by segment: what state, windows and tolerance make of each.

mod challenges;
mod closing;
mod handshake;
mod resets;
mod windows;

use super::{
    connection::{self, Judgement},
    tcp::Segment,
    window::{Connection, Seen},
};
use crate::{
    control::option::TCP_LOOSE,
    flow::{Direction, Flow, State, Window, status, window},
    seq::Seq,
    time::Nanos,
};

use Direction::{Original, Reply};

/// Initial sequence numbers of client and server: plain ones, and those of
/// connections whose numbers, or the comparisons with them, go around the circle.
const BEGINNINGS: [[u32; 2]; 5] = [
    [1_000, 5_000],
    [u32::MAX, u32::MAX],
    [u32::MAX - 8_192, u32::MAX - 100],
    [0x7fff_ffff, 0x7fff_f000],
    [0x8000_0000, 0],
];

/// The window that both sides announce unless a test says otherwise.
const WINDOW: u16 = 8_192;

/// A connection as the tables would hold it, and what its sides have sent.
#[derive(Clone, Debug)]
struct Talk {
    flow: Flow,
    bits: u32,
    /// The next number of client and server.
    next: [Seq; 2],
}

impl Talk {
    fn new(isn: [u32; 2]) -> Self {
        Self { flow: Flow::default(), bits: TCP_LOOSE, next: isn.map(Seq) }
    }

    /// Has shaken hands; no options.
    fn established(isn: [u32; 2]) -> Self {
        let mut talk = Self::new(isn);
        talk.shake_hands([None, None]);
        talk
    }

    /// Has a SYN and its answer behind it.
    fn answered(isn: [u32; 2]) -> Self {
        let mut talk = Self::new(isn);
        let syn = talk.syn(None);
        talk.send(Original, syn);
        let syn_ack = talk.syn_ack(None);
        talk.send(Reply, syn_ack);
        talk
    }

    /// Has shaken hands, each side with the scale that it offers.
    fn scaled(isn: [u32; 2], scales: [Option<u8>; 2]) -> Self {
        let mut talk = Self::new(isn);
        talk.shake_hands(scales);
        talk
    }

    fn shake_hands(&mut self, [client, server]: [Option<u8>; 2]) {
        let syn = self.syn(client);
        assert_eq!(self.send(Original, syn), Judgement::To(State::SynSent));
        let syn_ack = self.syn_ack(server);
        assert_eq!(self.send(Reply, syn_ack), Judgement::To(State::SynRecv));
        let ack = self.ack(Original);
        assert_eq!(self.send(Original, ack), Judgement::To(State::Established));
        assert!(self.flow.has(status::ASSURED));
    }

    fn syn(&self, scale: Option<u8>) -> Seen {
        offering(Segment::Syn, self.next[0], Seq(0), scale)
    }

    fn syn_ack(&self, scale: Option<u8>) -> Seen {
        offering(Segment::SynAck, self.next[1], self.next[0], scale)
    }

    /// An acknowledgement of all, at the end of what was sent.
    fn ack(&self, direction: Direction) -> Seen {
        self.data(direction, 0)
    }

    fn data(&self, direction: Direction, len: u32) -> Seen {
        let (own, other) = (direction.index(), direction.reversed().index());
        segment(Segment::Ack, self.next[own], len, self.next[other])
    }

    fn fin(&self, direction: Direction) -> Seen {
        Seen { end: self.next[direction.index()].plus(1), ..self.of(Segment::Fin, direction) }
    }

    fn rst(&self, direction: Direction) -> Seen {
        self.of(Segment::Rst, direction)
    }

    fn of(&self, kind: Segment, direction: Direction) -> Seen {
        Seen { segment: kind, ..self.ack(direction) }
    }

    /// Judges a segment as the tracker does, and commits it as an accepted one.
    fn send(&mut self, direction: Direction, seen: Seen) -> Judgement {
        let (judgement, connection) = self.judge(direction, &seen);
        match judgement {
            Judgement::To(state) => {
                connection.settle(&mut self.flow, direction, Seq::advance);
                let confirms = state == State::Established
                    && matches!(self.state(), State::SynRecv | State::Established)
                    && self.flow.has(status::SEEN_REPLY);
                self.flow.status |= u8::from(confirms) * status::ASSURED;
                self.flow.state = state as u8;
                self.hear(direction);
                if seen.end.is_after(self.next[direction.index()]) {
                    self.next[direction.index()] = seen.end;
                }
            }
            Judgement::Tolerated => {
                connection.settle(&mut self.flow, direction, Seq::advance);
                self.hear(direction);
            }
            Judgement::Invalid | Judgement::Reopen | Judgement::Compare(_) => {}
        }
        judgement
    }

    /// Judges a segment and changes nothing.
    fn judge(&self, direction: Direction, seen: &Seen) -> (Judgement, Connection) {
        let mut connection = Connection::default();
        let was = self.state();
        let judgement = match was {
            State::None => connection::begin(seen, self.bits, &mut connection),
            _ => connection::judge(&self.flow, direction, seen, self.bits, &mut connection),
        };
        assert_eq!(Judgement::unpack(judgement.pack()), judgement);
        let judgement = match judgement {
            Judgement::Compare(next) => {
                connection::compare(direction, seen, was, next, self.bits, &mut connection)
            }
            decided => decided,
        };
        (judgement, connection)
    }

    /// As [`Talk::send`], on a copy.
    fn would(&self, direction: Direction, seen: Seen) -> Judgement {
        self.judge(direction, &seen).0
    }

    fn hear(&mut self, direction: Direction) {
        if direction == Reply {
            self.flow.status |= status::SEEN_REPLY;
        }
    }

    fn state(&self) -> State {
        State::from_byte(self.flow.state).expect("a state")
    }

    const fn window(&self, direction: Direction) -> &Window {
        &self.flow.side(direction).window
    }
}

fn segment(kind: Segment, seq: Seq, len: u32, ack: Seq) -> Seen {
    Seen {
        segment: kind,
        has_syn: matches!(kind, Segment::Syn | Segment::SynAck),
        has_ack: !matches!(kind, Segment::Syn),
        seq,
        end: seq.plus(len),
        ack,
        sack: ack,
        window: WINDOW,
        scale: 0,
        offers: 0,
        has_options: false,
    }
}

/// A SYN, with an offer to scale windows or without options.
fn offering(kind: Segment, seq: Seq, ack: Seq, scale: Option<u8>) -> Seen {
    Seen {
        scale: scale.unwrap_or(0),
        offers: if scale.is_some() { window::SCALES } else { 0 },
        has_options: scale.is_some(),
        ..segment(kind, seq, 1, ack)
    }
}

/// The same segment at another place.
fn at(seen: Seen, seq: Seq) -> Seen {
    let len = seen.end.since(seen.seq);
    Seen { seq, end: seq.plus(len), ..seen }
}

fn acknowledging(seen: Seen, ack: Seq) -> Seen {
    Seen { ack, sack: ack, ..seen }
}
