//! Packets of IPv4 whose header has options (RFC 791 section 3.1).

use super::{Scenario, scenario};
use crate::{
    oracle::{
        Talk,
        frame::{Content, Frame, Message},
        talk::{ack, data, syn, syn_ack},
    },
    wire::End::{self, Client, Server},
};

const PADDING: [u8; 4] = [1, 1, 1, 0];
/// Routers are to look at it (RFC 2113).
const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];
/// As much as a header holds.
const LONGEST: [u8; 40] = [1; 40];

const EACH: [&[u8]; 3] = [&PADDING, &ROUTER_ALERT, &LONGEST];

fn udp(talk: &mut Talk, from: End, options: &'static [u8]) {
    let frame = Frame::new(from, Content::Udp { payload: 12 });
    talk.send(Frame { ip_options: options, ..frame });
}

/// The last thing that this end said, with options.
fn again(talk: &mut Talk, from: End, options: &'static [u8]) {
    let frame = talk.last_of(from);
    talk.send(Frame { ip_options: options, ..frame });
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("datagrams both ways", |talk| {
        for options in EACH {
            udp(talk, Client, options);
            udp(talk, Server, options);
        }
    }),
    scenario("a datagram with, its answer without", |talk| {
        udp(talk, Client, &ROUTER_ALERT);
        talk.udp(Server, 12);
        talk.udp(Client, 12);
    }),
    scenario("segments that are said again with options", |talk| {
        talk.client(syn());
        again(talk, Client, &PADDING);
        talk.server(syn_ack());
        again(talk, Server, &LONGEST);
        talk.client(ack());
        talk.client(data(100));
        again(talk, Client, &LONGEST);
        talk.server(ack());
        again(talk, Server, &ROUTER_ALERT);
        talk.close();
    }),
    scenario("an echo and its reply", |talk| {
        for (from, kind) in [(Client, 8), (Server, 0)] {
            let message = Message { kind, code: 0, rest: 7 << 16 | 1, payload: vec![1; 8] };
            let frame = Frame::new(from, Content::Icmp(message));
            talk.send(Frame { ip_options: &LONGEST, ..frame });
        }
    }),
    scenario("an error that quotes a packet with options", |talk| {
        udp(talk, Client, &LONGEST);
        talk.error(Server, 3, 3);
        udp(talk, Client, &ROUTER_ALERT);
        talk.error(Server, 3, 1);
    }),
];
