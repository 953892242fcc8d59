//! Flags that no TCP sends together, and those that look so.

use super::{Scenario, scenario};
use crate::{
    oracle::{
        Talk,
        talk::{ack, data, flags},
    },
    packet::flag::{ACK, FIN, PSH, RST, SYN, URG},
};

/// NULL, XMAS and their like.
const STRANGE: [u8; 14] = [
    0,
    FIN,
    PSH,
    URG,
    FIN | PSH | URG,
    SYN | FIN,
    SYN | RST,
    SYN | FIN | ACK,
    SYN | RST | ACK,
    SYN | ACK | URG,
    FIN | RST,
    FIN | RST | ACK,
    RST | PSH,
    0x3f,
];

fn established(talk: &mut Talk) {
    talk.open();
    talk.client(data(10));
    talk.server(ack());
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("every strange set begins nothing", |talk| {
        for (flow, strange) in (0..).zip(STRANGE) {
            talk.flow(flow);
            talk.client(flags(strange));
        }
    }),
    scenario("every strange set of the client in a connection", |talk| {
        established(talk);
        for strange in STRANGE {
            talk.client(flags(strange).stray());
        }
        talk.client(data(10));
    }),
    scenario("every strange set of the server in a connection", |talk| {
        established(talk);
        for strange in STRANGE {
            talk.server(flags(strange).stray());
        }
        talk.server(data(10));
    }),
    scenario("every set of flags in a connection of its own", |talk| {
        for set in 0..=255 {
            talk.flow(u16::from(set));
            talk.open();
            talk.client(flags(set).stray());
            talk.server(data(10));
        }
    }),
    scenario("every set of flags out of nothing", |talk| {
        for set in 0..=255 {
            talk.flow(u16::from(set));
            talk.client(flags(set));
            talk.server(ack());
        }
    }),
];
