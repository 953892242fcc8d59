//! How connections end.

use super::{Scenario, scenario};
use crate::oracle::talk::{ack, data, fin, syn, syn_ack};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("by the client, in four segments", |talk| {
        talk.open();
        talk.close();
    }),
    scenario("by the server, in four segments", |talk| {
        talk.open();
        talk.server(fin());
        talk.client(ack());
        talk.client(fin());
        talk.server(ack());
    }),
    scenario("by the client, in three segments", |talk| {
        talk.open();
        talk.client(fin());
        talk.server(fin());
        talk.client(ack());
    }),
    scenario("by both at once", |talk| {
        talk.open();
        talk.client(fin());
        talk.server(fin().ack(-1));
        talk.client(ack());
        talk.server(ack());
    }),
    scenario("half, with data coming on", |talk| {
        talk.open();
        talk.client(fin());
        talk.server(ack());
        for _ in 0..5 {
            talk.server(data(1_000));
            talk.client(ack());
        }
        talk.server(fin());
        talk.client(ack());
    }),
    scenario("half, no ACK yet", |talk| {
        talk.open();
        talk.client(fin());
    }),
    scenario("half, with the ACK", |talk| {
        talk.open();
        talk.client(fin());
        talk.server(ack());
    }),
    scenario("both FINs, the last ACK missing", |talk| {
        talk.open();
        talk.client(fin());
        talk.server(ack());
        talk.server(fin());
    }),
    scenario("with data in the FINs", |talk| {
        talk.open();
        talk.client(fin().len(100));
        talk.server(fin().len(100));
        talk.client(ack());
    }),
    scenario("right after the handshake's SYN-ACK", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.client(fin());
        talk.server(fin());
        talk.client(ack());
    }),
    scenario("by the server before the last ACK of the handshake", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.server(fin());
        talk.client(ack());
    }),
    scenario("and data behind the FIN", |talk| {
        talk.open();
        talk.client(fin());
        talk.client(data(100));
        talk.server(ack());
        talk.server(fin());
        talk.client(ack());
        talk.client(data(100));
        talk.server(data(100));
    }),
    scenario("and FIN and ACK once more in TIME_WAIT", |talk| {
        talk.open();
        talk.close();
        talk.server(fin().seq(-1));
        talk.client(ack());
        talk.client(fin().seq(-1));
        talk.server(ack());
    }),
    scenario("with a FIN out of the window", |talk| {
        talk.open();
        talk.client(fin().seq(100_000));
        talk.client(fin());
        talk.server(ack());
    }),
    scenario("with a FIN in the window but not next", |talk| {
        talk.open();
        talk.client(fin().seq(1_000));
        talk.server(ack());
        talk.client(data(1_000));
        talk.server(ack().ack(1));
    }),
    scenario("with a FIN that overshoots", |talk| {
        talk.open();
        talk.client(fin().seq(9_000));
        talk.server(ack());
    }),
];
