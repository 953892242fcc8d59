//! A SYN where a connection is known already, and what answers it.

use super::{Scenario, scenario};
use crate::oracle::{
    Talk,
    talk::{ack, data, fin, rst, rst_ack, syn, syn_ack},
};

fn busy(talk: &mut Talk) {
    talk.open_with(syn().scale(3).sack_permitted(), syn_ack().scale(3).sack_permitted());
    talk.client(data(100));
    talk.server(data(100));
    talk.client(ack());
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("a SYN of the client in an established connection, challenged", |talk| {
        busy(talk);
        talk.client(syn().seq(50_000));
        talk.server(ack());
        talk.client(rst().seq(0));
        talk.client(data(10));
    }),
    scenario("a SYN that is challenged, and the challenge answered by RST", |talk| {
        busy(talk);
        talk.client(syn().seq(500_000));
        talk.server(ack());
        talk.client(rst());
        talk.restart(500_000, 70_000);
        talk.open();
        talk.client(data(10));
    }),
    scenario("a SYN that is answered by a SYN-ACK: the server had forgotten", |talk| {
        busy(talk);
        talk.restart(900_000, 900_000);
        talk.client(syn().scale(5));
        talk.server(syn_ack().scale(5));
        talk.client(ack());
        talk.client(data(10));
        talk.server(data(10));
    }),
    scenario("a SYN of the client again with its first number", |talk| {
        busy(talk);
        talk.restart(0, 0);
        talk.client(syn());
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("a SYN-ACK that answers an older SYN than the last", |talk| {
        busy(talk);
        talk.client(syn().seq(500_000));
        talk.client(syn().seq(600_000));
        talk.server(syn_ack().ack(500_001).stray());
        talk.server(syn_ack().ack(600_001).stray());
        talk.client(ack());
    }),
    scenario("a SYN that is answered by RST", |talk| {
        busy(talk);
        talk.client(syn().seq(500_000));
        talk.server(rst_ack().ack(500_001));
        talk.client(data(10));
    }),
    scenario("a SYN that is answered by RST without ACK", |talk| {
        busy(talk);
        talk.client(syn().seq(500_000));
        talk.server(rst());
        talk.client(data(10));
    }),
    scenario("a SYN of the server in an established connection", |talk| {
        busy(talk);
        talk.server(syn().seq(50_000));
        talk.client(ack());
        talk.server(rst());
    }),
    scenario("a SYN-ACK of the client in an established connection", |talk| {
        busy(talk);
        talk.client(syn_ack());
        talk.client(data(10));
    }),
    scenario("a SYN-ACK of the server in an established connection", |talk| {
        busy(talk);
        talk.server(syn_ack().stray());
        talk.client(rst());
        talk.server(syn_ack().seq(100_000));
    }),
    scenario("a SYN after half a close", |talk| {
        busy(talk);
        talk.client(fin());
        talk.server(ack());
        talk.client(syn().seq(100_000));
        talk.server(ack());
        talk.client(rst());
    }),
    scenario("a SYN after half a close, answered by SYN-ACK", |talk| {
        busy(talk);
        talk.server(fin());
        talk.client(ack());
        talk.restart(100_000, 100_000);
        talk.open();
    }),
    scenario("a SYN while the server's FIN waits for its ACK", |talk| {
        busy(talk);
        talk.client(fin());
        talk.server(fin());
        talk.client(syn().seq(100_000));
        talk.server(ack());
        talk.client(ack());
    }),
    scenario("a SYN with a higher number in TIME_WAIT", |talk| {
        busy(talk);
        talk.close();
        talk.restart(100_000, 100_000);
        talk.open();
        talk.client(data(10));
    }),
    scenario("a SYN with a lower number in TIME_WAIT", |talk| {
        busy(talk);
        talk.close();
        talk.restart(-100_000, -100_000);
        talk.open();
        talk.client(data(10));
    }),
    scenario("a SYN in TIME_WAIT that is challenged", |talk| {
        busy(talk);
        talk.close();
        talk.client(syn().seq(-500));
        talk.server(ack());
        talk.client(rst());
        talk.client(syn().seq(100_000));
    }),
    scenario("a SYN of the server in TIME_WAIT", |talk| {
        busy(talk);
        talk.close();
        talk.restart(50_000, 50_000);
        talk.server(syn());
        talk.client(syn_ack());
        talk.server(ack());
        talk.client(data(10));
    }),
    scenario("a SYN after RST", |talk| {
        busy(talk);
        talk.client(rst());
        talk.restart(50_000, 50_000);
        talk.open();
    }),
    scenario("a SYN of the server after RST of the client", |talk| {
        busy(talk);
        talk.client(rst());
        talk.restart(50_000, 50_000);
        talk.server(syn());
        talk.client(syn_ack());
        talk.server(ack());
    }),
    scenario("a SYN of the server after its own RST", |talk| {
        busy(talk);
        talk.server(rst());
        talk.restart(50_000, 50_000);
        talk.server(syn());
        talk.client(syn_ack());
        talk.server(ack());
    }),
    scenario("a SYN-ACK in TIME_WAIT and after RST", |talk| {
        busy(talk);
        talk.close();
        talk.server(syn_ack());
        talk.client(syn_ack());
        talk.flow(1);
        busy(talk);
        talk.client(rst());
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("a SYN in SYN_RECV with another number", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.client(syn().seq(100_000));
        talk.server(ack());
        talk.client(ack());
    }),
    scenario("a SYN in SYN_RECV, answered anew", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.restart(100_000, 100_000);
        talk.open();
        talk.client(data(10));
    }),
    scenario("a SYN of the server in SYN_RECV", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.server(syn().seq(100_000));
        talk.client(ack());
    }),
    scenario("two SYNs in an established connection, then the challenge", |talk| {
        busy(talk);
        talk.client(syn().seq(100_000));
        talk.client(syn().seq(100_000));
        talk.server(ack());
        talk.client(data(10));
    }),
];
