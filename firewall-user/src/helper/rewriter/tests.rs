//! A client, a gateway that spells its announcements anew, and a server, on a network that
//! loses, repeats and mixes up segments.

use std::{net::SocketAddr, sync::Arc};

use firewall_common::flow::Direction;
use proptest::prelude::*;

use super::*;
use crate::{
    ftp::{Conversation, Policy},
    helper::{Beginning, Names, Reader, spell},
};

const CLIENT: &str = "10.0.0.2";
const SERVER: &str = "198.51.100.2";
const GATEWAY: &str = "203.0.113.117";

/// What the gateway tells the server of a port.
fn told(port: u16) -> SocketAddr {
    SocketAddr::new(GATEWAY.parse().unwrap(), port ^ 0x1f0)
}

#[derive(Clone, Debug)]
enum Line {
    Port(u16),
    Eprt(u16),
    /// Not understood: it goes on as it is.
    Broken(u8),
    Other(u8),
}

impl Line {
    fn written(&self) -> String {
        match self {
            Self::Port(port) => format!("PORT 10,0,0,2,{},{}\r\n", port >> 8, port & 255),
            Self::Eprt(port) => format!("EPRT |1|{CLIENT}|{port}|\r\n"),
            Self::Broken(number) => format!("PORT 10,0,{number}\r\n"),
            Self::Other(number) => format!("RETR file{number}\r\n"),
        }
    }

    fn read(&self) -> String {
        match self {
            Self::Port(port) => {
                let port = told(*port).port();
                format!("PORT 203,0,113,117,{},{}\r\n", port >> 8, port & 255)
            }
            Self::Eprt(port) => format!("EPRT |1|{GATEWAY}|{}|\r\n", told(*port).port()),
            Self::Broken(_) | Self::Other(_) => self.written(),
        }
    }
}

/// The gateway, as the daemon does it.
struct Middle {
    reader: Conversation,
    shift: Shift,
    acknowledged: Option<Seq>,
}

impl Middle {
    fn new(isn: u32) -> Self {
        let [client, server] = [CLIENT, SERVER].map(|host| host.parse().unwrap());
        let names = Names { client: Some(told(0).ip()), server: None };
        let policy = Arc::<Policy>::default();
        let mut reader = Conversation::new(client, server, Beginning::Seen, policy).known_as(names);
        reader.starts_at(Direction::Original, isn);
        reader.segment(Direction::Reply, 1, b"220 ready\r\n");
        Self { reader, shift: Shift::default(), acknowledged: None }
    }

    fn segment(&mut self, seq: u32, payload: &[u8]) -> Option<Emission> {
        let Self { reader, shift, acknowledged } = self;
        let has_room = Rewriter::new(shift, *acknowledged).has_room(seq);
        if let Some(acknowledged) = acknowledged {
            reader.acknowledged(Direction::Reply, acknowledged.0);
        }
        let expected = reader.expects(Direction::Original);
        if expected.is_some_and(|next| Seq(seq).is_after(Seq(next))) {
            return None;
        }
        if !has_room {
            let known = expected.map_or(0, |next| next.wrapping_sub(seq) as usize);
            let again = &payload[..known.min(payload.len())];
            return (!again.is_empty()).then(|| emit(shift, seq, again));
        }
        let read = reader.segment(Direction::Original, seq, payload);
        let replacements: Vec<_> = read
            .announced()
            .iter()
            .map(|announced| Replacement {
                place: announced.place,
                text: spell(announced.form, b"|", told(announced.hole.dport)).unwrap(),
            })
            .collect();
        let unfinished = reader.unfinished(Direction::Original);
        let stands =
            Rewriter::new(shift, *acknowledged).revise(seq, &replacements, unfinished.as_ref());
        assert!(stands.iter().all(|stands| *stands), "{replacements:?}");
        let mut emission = emit(shift, seq, payload);
        if emission.bytes.is_empty() {
            emission.nudge(unfinished.map(|begun| begun.before));
        }
        Some(emission)
    }

    /// An acknowledgement on its way to the client.
    fn answer(&mut self, ack: u32) -> u32 {
        let ack = self.shift.back(ack);
        let seen = Seq(ack);
        if self.acknowledged.is_none_or(|before| seen.is_after(before)) {
            self.acknowledged = Some(seen);
        }
        ack
    }
}

/// What the server has, in its numbers.
struct Server {
    isn: u32,
    stream: Vec<Option<u8>>,
}

impl Server {
    /// Gives its acknowledgement.
    fn segment(&mut self, emission: &Emission) -> u32 {
        // What it has acknowledged it does not look at: a forgotten edit lies there.
        let acknowledged = self.received().len();
        for (number, byte) in (0..).zip(&emission.bytes) {
            let number = emission.seq.wrapping_add(number);
            let Ok(place) = usize::try_from(number.wrapping_sub(self.isn) as i32) else { continue };
            if place < acknowledged {
                continue;
            }
            if self.stream.len() <= place {
                self.stream.resize(place + 1, None);
            }
            let before = self.stream[place].replace(*byte);
            assert!(before.is_none_or(|before| before == *byte), "byte {place} has changed");
        }
        self.isn.wrapping_add(self.received().len() as u32)
    }

    fn received(&self) -> Vec<u8> {
        self.stream.iter().map_while(|byte| *byte).collect()
    }
}

/// What happens next: which segment is sent, counted from what is not acknowledged, and what
/// becomes of it and of its answer.
#[derive(Clone, Debug)]
struct Step {
    ahead: usize,
    len: usize,
    is_lost: bool,
    is_repeated: bool,
    is_answer_lost: bool,
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = prop_oneof![
        (1_024u16..=65_000).prop_map(Line::Port),
        (1_024u16..=65_000).prop_map(Line::Eprt),
        any::<u8>().prop_map(Line::Broken),
        any::<u8>().prop_map(Line::Other),
    ];
    prop::collection::vec(line, 1..12)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0usize..60, 1usize..30, any::<[u8; 3]>()).prop_map(|(ahead, len, dice)| Step {
        ahead: ahead.saturating_sub(30),
        len,
        is_lost: dice[0] < 60,
        is_repeated: dice[1] < 60,
        is_answer_lost: dice[2] < 60,
    });
    prop::collection::vec(step, 1..120)
}

fn converse(isn: u32, lines: &[Line], steps: &[Step]) -> (Vec<u8>, Vec<u8>) {
    let written: String = lines.iter().map(Line::written).collect();
    let stream = format!("USER a\r\n{written}").into_bytes();
    let wanted: String = lines.iter().map(Line::read).collect();
    let mut middle = Middle::new(isn);
    let mut server = Server { isn, stream: Vec::new() };
    let mut unacknowledged = 0;
    // In the end everything is sent in order, and arrives.
    let rest = Step { ahead: 0, len: 7, is_lost: false, is_repeated: false, is_answer_lost: false };
    let forever = std::iter::repeat_n(rest, 2 * stream.len());
    for step in steps.iter().cloned().chain(forever) {
        let from = (unacknowledged + step.ahead).min(stream.len());
        let to = (from + step.len).min(stream.len());
        if from == to {
            continue;
        }
        let seq = isn.wrapping_add(from as u32);
        let Some(emission) = middle.segment(seq, &stream[from..to]) else { continue };
        if step.is_lost {
            continue;
        }
        let mut ack = server.segment(&emission);
        if step.is_repeated {
            ack = server.segment(&emission);
        }
        let ack = middle.answer(ack);
        if !step.is_answer_lost {
            unacknowledged = unacknowledged.max(ack.wrapping_sub(isn) as usize);
        }
    }
    assert_eq!(unacknowledged, stream.len(), "not everything was acknowledged");
    (server.received(), format!("USER a\r\n{wanted}").into_bytes())
}

proptest! {
    #[test]
    fn whatever_is_lost_the_server_reads_what_was_meant(
        isn: u32,
        lines in lines(),
        steps in steps(),
    ) {
        let (got, wanted) = converse(isn, &lines, &steps);
        prop_assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&wanted));
    }
}

#[test]
fn letters_are_answered_and_arrive_together() {
    let mut middle = Middle::new(100);
    let mut server = Server { isn: 100, stream: Vec::new() };
    for (number, byte) in (100..).zip(*b"USER a\r\nPORT 10,0,0,2,8,1\r\n") {
        let emission = middle.segment(number, &[byte]).expect("in order");
        let ack = server.segment(&emission);
        // Each is acknowledged before the next is sent.
        assert_eq!(middle.answer(ack), number + 1);
    }
    let port = told(0x801).port();
    let wanted = format!("USER a\r\nPORT 203,0,113,117,{},{}\r\n", port >> 8, port & 255);
    assert_eq!(server.received(), wanted.into_bytes());
}

#[test]
fn a_segment_that_overtakes_is_let_go_of() {
    let mut middle = Middle::new(100);
    assert!(middle.segment(108, b"PORT 10,0,0,2,8,1\r\n").is_none());
    assert!(middle.segment(100, b"USER a\r\n").is_some());
    let emission = middle.segment(108, b"PORT 10,0,0,2,8,1\r\nNOOP\r\n").unwrap();
    assert!(emission.bytes.starts_with(b"PORT 203,0,113,117,"), "{emission:?}");
}

#[test]
fn while_four_texts_have_not_arrived_segments_wait() {
    let mut middle = Middle::new(100);
    let mut seq = 100;
    let mut say = |middle: &mut Middle, text: &[u8]| {
        let emission = middle.segment(seq, text);
        seq += if emission.is_some() { text.len() as u32 } else { 0 };
        emission.is_some()
    };
    assert!(say(&mut middle, b"USER a\r\n"));
    for _ in 0..3 {
        assert!(say(&mut middle, b"PORT 10,0,0,2,8,1\r\n"));
    }
    assert!(!say(&mut middle, b"NOOP\r\n"));
    let end = middle.shift.edits()[0].end();
    middle.acknowledged = Some(end);
    assert!(say(&mut middle, b"NOOP\r\n"));
}
