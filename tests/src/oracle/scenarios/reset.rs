//! Resets: exact, in the window, out of it, and as answers.

use super::{Scenario, scenario};
use crate::oracle::{
    Settings, Talk,
    talk::{ack, data, fin, rst, rst_ack, syn, syn_ack},
};

fn busy(talk: &mut Talk) {
    talk.open();
    talk.client(data(100));
    talk.server(data(100));
    talk.client(ack());
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("an exact reset of the client", |talk| {
        busy(talk);
        talk.client(rst());
        talk.server(data(10));
    }),
    scenario("an exact reset of the server with ACK", |talk| {
        busy(talk);
        talk.server(rst_ack());
        talk.client(data(10));
    }),
    scenario("a reset in the window but not exact", |talk| {
        busy(talk);
        talk.client(rst().seq(100));
        talk.server(ack());
        talk.server(data(10));
    }),
    scenario("a reset of the server in the window but not exact", |talk| {
        busy(talk);
        talk.server(rst().seq(1));
        talk.client(ack());
        talk.server(rst_ack().seq(8_000));
        talk.client(data(10));
    }),
    scenario("a reset that answers a challenge", |talk| {
        busy(talk);
        talk.client(rst().seq(100));
        talk.server(ack());
        talk.client(rst());
    }),
    scenario("a reset at the edge of the window and behind it", |talk| {
        busy(talk);
        for offset in [8_191, 8_192, 8_193, 16_383, 16_384, 16_385] {
            talk.client(rst().seq(offset));
        }
        talk.client(data(10));
    }),
    scenario("a reset out of the window", |talk| {
        busy(talk);
        talk.client(rst().seq(100_000));
        talk.server(rst().seq(100_000));
        talk.client(rst_ack().seq(-100_000));
        talk.client(data(10));
    }),
    scenario("a reset below the last ACK", |talk| {
        busy(talk);
        talk.client(rst().seq(-1));
        talk.client(rst().seq(-100));
        talk.server(rst().seq(-1));
        talk.server(rst_ack().seq(-50));
        talk.client(data(10));
    }),
    scenario("a reset with an ACK of unsent data", |talk| {
        busy(talk);
        talk.client(rst_ack().ack(5_000));
        talk.client(rst_ack().ack(-100_000));
        talk.client(data(10));
    }),
    scenario("a reset with an ACK flag and number zero", |talk| {
        talk.open();
        talk.server(rst_ack().ack(-1_000_001));
        talk.client(data(10));
    }),
    scenario("a reset after a reset", |talk| {
        busy(talk);
        talk.client(rst());
        talk.client(rst());
        talk.server(rst());
        talk.client(data(10));
    }),
    scenario("a reset after both FINs", |talk| {
        busy(talk);
        talk.close();
        talk.client(rst());
    }),
    scenario("a reset after one FIN", |talk| {
        busy(talk);
        talk.client(fin());
        talk.server(data(100));
        talk.client(rst());
    }),
    scenario("a reset out of nothing", |talk| {
        talk.client(rst());
        talk.server(rst_ack());
    }),
    scenario("a reset with data", |talk| {
        busy(talk);
        talk.client(rst().len(20));
        talk.client(data(10));
    }),
    scenario("a reset of the server in place of the SYN-ACK, out of window", |talk| {
        talk.client(syn());
        talk.server(rst_ack().seq(77_777).ack(0));
    }),
    scenario("a reset of the client between SYN-ACK and ACK, not exact", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.client(rst().seq(10));
        talk.client(ack());
    }),
    scenario("a reset right behind the last ACK", |talk| {
        talk.open();
        talk.client(rst());
    }),
    scenario("a reset of the server right behind the handshake", |talk| {
        talk.open();
        talk.server(rst().seq(0));
        talk.client(data(1));
    }),
    scenario("a reset below the last ACK counts when the switch says so", |talk| {
        busy(talk);
        talk.client(rst().seq(-1));
        talk.server(rst().seq(-100));
        talk.client(rst().seq(-100_000));
        talk.client(data(10));
    })
    .under(Settings::IGNORE_INVALID_RST),
    scenario("a reset out of the window with the switch", |talk| {
        busy(talk);
        talk.client(rst().seq(100_000));
        talk.client(data(10));
    })
    .under(Settings::IGNORE_INVALID_RST),
];
