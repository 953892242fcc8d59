//! Segments that come again: after `tcp_max_retrans` of them the flow's time is cut.

use super::{Scenario, scenario};
use crate::oracle::{
    Settings,
    talk::{ack, data, fin, syn, syn_ack},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("data sent again twice", |talk| {
        talk.open();
        talk.client(data(100));
        talk.client(data(100).seq(-100));
        talk.client(data(100).seq(-100));
    }),
    scenario("data sent again three times", |talk| {
        talk.open();
        talk.client(data(100));
        for _ in 0..3 {
            talk.client(data(100).seq(-100));
        }
    }),
    scenario("data sent again four times, then acknowledged", |talk| {
        talk.open();
        talk.client(data(100));
        for _ in 0..4 {
            talk.client(data(100).seq(-100));
        }
        talk.server(ack());
    }),
    scenario("data sent again four times, then more data", |talk| {
        talk.open();
        talk.client(data(100));
        for _ in 0..4 {
            talk.client(data(100).seq(-100));
        }
        talk.client(data(100));
    }),
    scenario("data sent again with a duplicate ACK between", |talk| {
        talk.open();
        talk.client(data(100));
        for _ in 0..4 {
            talk.client(data(100).seq(-100));
            talk.server(ack().ack(-100));
        }
    }),
    scenario("data sent again with another window", |talk| {
        talk.open();
        talk.client(data(100));
        for window in 1..6 {
            talk.client(data(100).seq(-100).window(8_000 + window));
        }
    }),
    scenario("data sent again in smaller pieces", |talk| {
        talk.open();
        talk.client(data(100));
        for length in [50, 25, 25, 25, 25] {
            talk.client(data(length).seq(-100));
        }
    }),
    scenario("the same ACK over and over", |talk| {
        talk.open();
        talk.client(data(100));
        for _ in 0..6 {
            talk.server(ack());
        }
    }),
    scenario("a SYN sent again often", |talk| {
        talk.client(syn());
        for _ in 0..5 {
            talk.client(syn().seq(-1));
        }
    }),
    scenario("a SYN-ACK sent again often", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        for _ in 0..5 {
            talk.server(syn_ack().seq(-1));
        }
    }),
    scenario("a FIN sent again often", |talk| {
        talk.open();
        talk.client(fin());
        for _ in 0..5 {
            talk.client(fin().seq(-1));
        }
        talk.server(ack());
    }),
    scenario("data of the server sent again often", |talk| {
        talk.open();
        talk.server(data(100));
        for _ in 0..5 {
            talk.server(data(100).seq(-100));
        }
    }),
    scenario("one retransmission is enough when the switch says so", |talk| {
        talk.open();
        talk.client(data(100));
        talk.client(data(100).seq(-100));
    })
    .under(Settings::ONE_RETRANSMISSION),
    scenario("none is enough when there was none", |talk| {
        talk.open();
        talk.client(data(100));
        talk.server(ack());
    })
    .under(Settings::ONE_RETRANSMISSION),
    scenario("unacknowledged data", |talk| {
        talk.open();
        talk.client(data(100));
    }),
    scenario("unacknowledged data of both", |talk| {
        talk.open();
        talk.client(data(100));
        talk.server(data(100).ack(-100));
        talk.client(ack());
    }),
    scenario("data acknowledged in part", |talk| {
        talk.open();
        talk.client(data(100));
        talk.server(ack().ack(-50));
    }),
];
