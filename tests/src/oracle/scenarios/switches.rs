//! `tcp_be_liberal` and `checksum`: what is let through that would be INVALID.

use super::{Scenario, scenario};
use crate::oracle::{
    Settings, Talk,
    talk::{ack, data, fin, rst, syn, syn_ack},
};

fn busy(talk: &mut Talk) {
    talk.open();
    talk.client(data(100));
    talk.server(data(100));
    talk.client(ack());
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("liberal windows take data of any number", |talk| {
        busy(talk);
        talk.client(data(100).seq(1_000_000));
        talk.server(data(100).seq(-1_000_000));
        talk.client(data(100));
    })
    .under(Settings::LIBERAL),
    scenario("liberal windows take ACKs of any number", |talk| {
        busy(talk);
        talk.client(ack().ack(1_000_000));
        talk.server(ack().ack(-1_000_000));
        talk.client(data(100));
    })
    .under(Settings::LIBERAL),
    scenario("liberal windows refuse resets out of the window", |talk| {
        busy(talk);
        talk.client(rst().seq(1_000_000));
        talk.server(rst().seq(-1_000_000));
        talk.client(data(100));
        talk.client(rst());
    })
    .under(Settings::LIBERAL),
    scenario("liberal windows and a FIN of any number", |talk| {
        busy(talk);
        talk.client(fin().seq(1_000_000));
        talk.server(ack());
    })
    .under(Settings::LIBERAL),
    scenario("liberal windows and a second SYN", |talk| {
        busy(talk);
        talk.client(syn().seq(500_000));
        talk.server(syn_ack().seq(500_000));
        talk.client(ack());
    })
    .under(Settings::LIBERAL),
    scenario("liberal windows and a SYN-ACK of another number", |talk| {
        talk.client(syn());
        talk.server(syn_ack().ack(10_000).stray());
        talk.client(ack());
    })
    .under(Settings::LIBERAL),
    scenario("wrong checksums count when nobody looks at them", |talk| {
        talk.client(syn().wrong_checksum());
        talk.open();
        talk.client(data(100).wrong_checksum());
        talk.client(rst().wrong_checksum());
        talk.client(data(100));
    })
    .under(Settings::NO_CHECKSUM),
];
