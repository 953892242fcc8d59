//! Selective acknowledgements (RFC 2018): the tracker counts what they name as
//! acknowledged.

use super::{Scenario, scenario};
use crate::oracle::{
    Talk,
    options::TcpOption,
    talk::{Say, ack, data, syn, syn_ack},
};

fn open(talk: &mut Talk) {
    talk.open_with(syn().sack_permitted().scale(2), syn_ack().sack_permitted().scale(2));
}

/// The server has data up to here and misses the first hundred bytes of it.
fn with_hole(talk: &mut Talk, answer: Say) {
    talk.client(data(100));
    talk.client(data(1_000));
    talk.server(answer);
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("a block behind a hole", |talk| {
        open(talk);
        with_hole(talk, ack().ack(-1_100).sack(&[(-1_000, 0)]));
        talk.client(data(100).seq(-1_100));
        talk.server(ack());
    }),
    scenario("an ACK that is too old, with a block that is not", |talk| {
        open(talk);
        for _ in 0..80 {
            talk.client(data(1_000));
            talk.server(ack());
        }
        talk.client(data(1_000));
        talk.server(ack().ack(-80_000).option(TcpOption::Raw(vec![1; 4])));
        talk.server(ack().ack(-80_000).sack(&[(0x1_0000, 0x1_0001)]));
        talk.server(ack().ack(-80_000).sack(&[(-101, 0)]));
    }),
    scenario("a block of unsent data", |talk| {
        open(talk);
        with_hole(talk, ack().ack(-1_100).sack(&[(50_000, 60_000)]));
        talk.server(ack().sack(&[(1, 2)]));
        talk.server(ack());
    }),
    scenario("four blocks, the third one highest", |talk| {
        open(talk);
        with_hole(talk, ack().ack(-1_100).sack(&[(0, 1), (-500, -400), (-100, 0), (-1000, -900)]));
        talk.client(data(100));
    }),
    scenario("blocks beside timestamps", |talk| {
        talk.open_with(
            syn().sack_permitted().timestamps(1, 0),
            syn_ack().sack_permitted().timestamps(1, 1),
        );
        with_hole(talk, ack().timestamps(2, 2).ack(-1_100).sack(&[(-100, 0)]));
        talk.client(data(100));
    }),
    scenario("blocks that nobody has permitted", |talk| {
        talk.open();
        with_hole(talk, ack().ack(-1_100).sack(&[(50_000, 60_000)]));
        talk.server(ack());
    }),
    scenario("only one end permits blocks", |talk| {
        talk.open_with(syn().sack_permitted(), syn_ack());
        with_hole(talk, ack().ack(-1_100).sack(&[(50_000, 60_000)]));
        talk.server(ack());
    }),
    scenario("a broken block", |talk| {
        open(talk);
        with_hole(
            talk,
            ack().ack(-1_100).option(TcpOption::Raw(vec![5, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1])),
        );
        with_hole(talk, ack().ack(-1_100).option(TcpOption::Raw(vec![5, 2, 1, 1])));
        talk.server(ack().option(TcpOption::Raw(vec![5, 40, 1, 1])));
    }),
    scenario("a duplicate that was selectively acknowledged", |talk| {
        open(talk);
        talk.client(data(1_000));
        talk.server(ack());
        talk.client(data(1_000).seq(-1_000));
        talk.server(ack().sack(&[(-1000, 0)]));
        talk.client(data(10));
    }),
];
