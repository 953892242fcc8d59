//! Transport checksums that are wrong.

use super::{Scenario, scenario};
use crate::{
    Family,
    oracle::{
        Content, Frame,
        frame::{Checksum, Message},
        talk::{ack, data, fin, rst, syn, syn_ack},
    },
    wire::End,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("a SYN with a wrong one", |talk| {
        talk.client(syn().wrong_checksum());
        talk.open();
    }),
    scenario("a SYN-ACK with a wrong one", |talk| {
        talk.client(syn());
        talk.server(syn_ack().wrong_checksum());
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("a RST with a wrong one", |talk| {
        talk.open();
        talk.client(data(10));
        talk.client(rst().wrong_checksum());
        talk.server(ack());
    }),
    scenario("a FIN with a wrong one", |talk| {
        talk.open();
        talk.client(fin().wrong_checksum());
        talk.server(ack());
    }),
    scenario("data with a wrong one", |talk| {
        talk.open();
        talk.client(data(100).wrong_checksum());
        talk.client(data(101).wrong_checksum());
        talk.server(ack());
        talk.client(data(100));
    }),
    scenario("a datagram with a wrong one, and one without", |talk| {
        let udp =
            |checksum| Frame { checksum, ..Frame::new(End::Client, Content::Udp { payload: 33 }) };
        talk.send(udp(Checksum::Wrong));
        talk.send(udp(Checksum::Absent));
        talk.send(udp(Checksum::Right));
        talk.udp(End::Server, 10);
        talk.send(udp(Checksum::Wrong));
    }),
    scenario("an echo request with a wrong one", |talk| {
        let kind = if talk.family() == Family::V4 { 8 } else { 128 };
        let message = Message { kind, code: 0, rest: 77 << 16 | 1, payload: vec![1; 8] };
        let ping = Frame::new(End::Client, Content::Icmp(message));
        talk.send(Frame { checksum: Checksum::Wrong, ..ping.clone() });
        talk.send(ping);
    }),
    scenario("an error with a wrong one", |talk| {
        talk.udp(End::Client, 10);
        let [kind, code] = if talk.family() == Family::V4 { [3, 3] } else { [1, 4] };
        talk.error(End::Server, kind, code);
        let error = talk.last_of(End::Server);
        talk.send(Frame { checksum: Checksum::Wrong, ..error });
    }),
    scenario("an IP header with a wrong one", |talk| {
        for payload in [10, 20, 30] {
            let udp = Frame::new(End::Client, Content::Udp { payload });
            talk.send(Frame { checksum: Checksum::WrongInHeader, ..udp.clone() });
            talk.send(udp);
            talk.udp(End::Server, payload);
        }
    }),
];
