//! Connections that were running before the tracker saw them.

use super::{Scenario, scenario};
use crate::oracle::{
    Settings,
    talk::{ack, data, fin, rst, rst_ack, syn, syn_ack},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("by data of the client, answered", |talk| {
        talk.client(data(100));
        talk.server(ack());
        talk.server(data(1_000));
        talk.client(ack());
    }),
    scenario("by an ACK of the server, answered", |talk| {
        talk.server(ack());
        talk.client(data(100));
        talk.server(ack());
    }),
    scenario("never answered", |talk| {
        talk.client(data(100));
        talk.client(data(100));
        talk.client(data(100));
    }),
    scenario("with windows that are scaled by nobody knows how much", |talk| {
        talk.client(data(100).window(100));
        talk.server(ack().window(100));
        talk.client(data(1_000));
        talk.client(data(1_000).seq(60_000));
        talk.server(data(1_000).seq(900_000));
        talk.client(data(100).seq(10_000_000));
    }),
    scenario("answered by RST", |talk| {
        talk.client(data(100));
        talk.server(rst());
    }),
    scenario("and closed", |talk| {
        talk.client(data(100));
        talk.server(ack());
        talk.close();
    }),
    scenario("and closed by RST", |talk| {
        talk.client(data(100));
        talk.server(ack());
        talk.client(rst_ack());
        talk.server(data(10));
    }),
    scenario("at its FIN", |talk| {
        talk.client(fin());
        talk.server(ack());
        talk.server(fin());
        talk.client(ack());
    }),
    scenario("and a SYN on top", |talk| {
        talk.client(data(100));
        talk.server(ack());
        talk.restart(70_000, 70_000);
        talk.client(syn());
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("with ACK numbers that nobody can know", |talk| {
        talk.client(data(100));
        talk.server(ack().ack(70_000));
        talk.server(ack().ack(-70_000));
        talk.client(data(100));
    }),
    scenario("that is not wanted", |talk| {
        talk.client(data(100));
        talk.server(ack());
        talk.server(data(100));
        talk.client(fin());
        talk.client(rst());
    })
    .under(Settings::STRICT),
    scenario("that is not wanted, after a handshake that is", |talk| {
        talk.open();
        talk.client(data(100));
        talk.server(ack());
        talk.client(rst());
        talk.client(data(100));
    })
    .under(Settings::STRICT),
];
