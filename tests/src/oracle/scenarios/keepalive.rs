//! Probes of idle connections: one byte, or none, below what comes next.

use super::{Scenario, scenario};
use crate::oracle::{
    Talk,
    talk::{ack, data, rst},
};

fn idle(talk: &mut Talk) {
    talk.open();
    talk.client(data(100));
    talk.server(data(100));
    talk.client(ack());
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("an empty probe and its reply", |talk| {
        idle(talk);
        talk.client(ack().seq(-1));
        talk.server(ack());
    }),
    scenario("a probe with a byte and its reply", |talk| {
        idle(talk);
        talk.client(data(1).seq(-1));
        talk.server(ack());
    }),
    scenario("probes of the server", |talk| {
        idle(talk);
        talk.server(ack().seq(-1));
        talk.client(ack());
        talk.server(data(1).seq(-1));
        talk.client(ack());
    }),
    scenario("probes that nobody answers", |talk| {
        idle(talk);
        for _ in 0..6 {
            talk.client(ack().seq(-1));
        }
    }),
    scenario("a probe that RST answers", |talk| {
        idle(talk);
        talk.client(ack().seq(-1));
        talk.server(rst());
    }),
];
