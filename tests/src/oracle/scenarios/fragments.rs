//! Datagrams in pieces, in every order. Each has 8 bytes of UDP header.

use super::{Scenario, scenario};
use crate::{
    oracle::{Content, Frame, Talk, frame::Segment},
    packet::flag,
    wire::End::{self, Client, Server},
};

/// Header and payload.
const LENGTH: usize = 8 + 1_000;

fn datagram(from: End) -> Frame {
    Frame::new(from, Content::Udp { payload: LENGTH - 8 })
}

fn in_order(talk: &mut Talk, from: End, number: u16) {
    talk.pieces(&datagram(from), number, &[0..400, 400..800, 800..LENGTH]);
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("in order, both ways", |talk| {
        in_order(talk, Client, 1);
        in_order(talk, Server, 2);
        in_order(talk, Client, 3);
    }),
    scenario("the last one first", |talk| {
        talk.pieces(&datagram(Client), 1, &[800..LENGTH, 400..800, 0..400]);
        talk.pieces(&datagram(Server), 2, &[400..800, 0..400, 800..LENGTH]);
    }),
    scenario("the first one last, of a flow that is known", |talk| {
        talk.udp(Client, 10);
        talk.udp(Server, 10);
        talk.pieces(&datagram(Client), 1, &[400..800, 800..LENGTH, 0..400]);
    }),
    scenario("the first one never", |talk| {
        talk.pieces(&datagram(Client), 1, &[400..800, 800..LENGTH]);
    }),
    scenario("the middle one never", |talk| {
        talk.pieces(&datagram(Client), 1, &[0..400, 800..LENGTH]);
    }),
    scenario("the last one never", |talk| {
        talk.pieces(&datagram(Client), 1, &[0..400, 400..800]);
    }),
    scenario("one of them twice", |talk| {
        talk.pieces(&datagram(Client), 1, &[0..400, 400..800, 400..800, 800..LENGTH]);
        talk.pieces(&datagram(Client), 2, &[0..400, 0..400, 400..800, 800..LENGTH]);
    }),
    scenario("overlapping the first", |talk| {
        talk.pieces(&datagram(Client), 1, &[0..400, 392..800, 800..LENGTH]);
    }),
    scenario("overlapping a later one", |talk| {
        talk.pieces(&datagram(Client), 1, &[0..400, 400..800, 792..LENGTH]);
    }),
    scenario("a piece behind the end", |talk| {
        talk.pieces(&datagram(Client), 1, &[0..400, 800..LENGTH, 1_600..1_700, 400..800]);
    }),
    scenario("a first piece without the whole header", |talk| {
        let segment = Segment { flags: flag::SYN, payload: 100, ..Segment::default() };
        talk.pieces(&Frame::new(Client, Content::Tcp(segment)), 1, &[0..8, 8..64, 64..120]);
    }),
    scenario("two datagrams between each other", |talk| {
        let (one, other) = (datagram(Client), datagram(Client));
        talk.piece(&one, 1, 0..400);
        talk.piece(&other, 2, 0..400);
        talk.piece(&one, 1, 400..LENGTH);
        talk.piece(&other, 2, 400..LENGTH);
    }),
    scenario("a datagram in one piece", |talk| {
        talk.piece(&datagram(Client), 1, 0..LENGTH);
    }),
    scenario("another protocol in pieces", |talk| {
        let whole = Frame::new(Client, Content::Other { protocol: 253, bytes: vec![7; 200] });
        talk.pieces(&whole, 1, &[0..96, 96..200]);
    }),
    scenario("a segment in pieces", |talk| {
        talk.open();
        let segment = Segment {
            flags: flag::ACK | flag::PSH,
            seq: 0,
            ack: 0,
            window: 8_192,
            options: vec![],
            payload: 1_000,
        };
        let mut frame = talk.last_of(Client);
        if let Content::Tcp(last) = &frame.content {
            let segment = Segment { seq: last.seq, ack: last.ack, ..segment };
            frame.content = Content::Tcp(segment);
        }
        talk.pieces(&frame, 1, &[0..400, 400..800, 800..1_020]);
    }),
];
