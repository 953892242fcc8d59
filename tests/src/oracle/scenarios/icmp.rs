//! Questions of ICMP and ICMPv6, and their answers.

use super::{Scenario, scenario};
use crate::{
    oracle::{Content, Frame, frame::Message},
    wire::End::{self, Client, Server},
};

pub(super) const V4_SCENARIOS: &[Scenario] = &[
    scenario("echo and reply", |talk| {
        talk.icmp(Client, 8, 77);
        talk.icmp(Server, 0, 77);
        talk.icmp(Client, 8, 77);
        talk.icmp(Server, 0, 77);
    }),
    scenario("timestamp, information and mask and their replies", |talk| {
        for (identifier, (request, reply)) in (1..).zip([(13, 14), (15, 16), (17, 18)]) {
            talk.icmp(Client, request, identifier);
            talk.icmp(Server, reply, identifier);
        }
    }),
    scenario("replies that nobody asked for", |talk| {
        for reply in [0, 14, 16, 18] {
            talk.icmp(Server, reply, 9);
        }
    }),
    scenario("a reply with another identifier, and of another type", |talk| {
        talk.icmp(Client, 8, 77);
        talk.icmp(Server, 0, 78);
        talk.icmp(Server, 14, 77);
        talk.icmp(Client, 0, 77);
    }),
    scenario("both ends ping with one identifier", |talk| {
        talk.icmp(Client, 8, 5);
        talk.icmp(Server, 8, 5);
        talk.icmp(Client, 0, 5);
        talk.icmp(Server, 0, 5);
    }),
    scenario("echo with a code", |talk| {
        talk.send(message(Client, 8, 3, 4));
        talk.send(message(Server, 0, 3, 4));
        talk.send(message(Server, 0, 0, 4));
    }),
    scenario("every other type", |talk| {
        for kind in (1..=255).filter(|kind| ![8, 13, 15, 17].contains(kind)) {
            talk.send(message(Client, kind, 0, kind.into()));
        }
    }),
    scenario("a message that is cut off", |talk| {
        talk.other(Client, 1, &[8, 0, 0xf7]);
        talk.other(Client, 1, &[8, 0, 0xf7, 0xff]);
        talk.other(Client, 1, &[8, 0, 0xf7, 0xff, 0, 0, 0]);
        talk.other(Client, 1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    }),
];

pub(super) const V6_SCENARIOS: &[Scenario] = &[
    scenario("echo and reply", |talk| {
        talk.icmp(Client, 128, 77);
        talk.icmp(Server, 129, 77);
        talk.icmp(Client, 128, 77);
    }),
    scenario("node information and its reply", |talk| {
        talk.icmp(Client, 139, 5);
        talk.icmp(Server, 140, 5);
    }),
    scenario("replies that nobody asked for", |talk| {
        talk.icmp(Server, 129, 9);
        talk.icmp(Server, 140, 9);
    }),
    scenario("a reply with another identifier", |talk| {
        talk.icmp(Client, 128, 77);
        talk.icmp(Server, 129, 78);
        talk.icmp(Server, 140, 77);
    }),
    scenario("both ends ping with one identifier", |talk| {
        talk.icmp(Client, 128, 5);
        talk.icmp(Server, 128, 5);
        talk.icmp(Client, 129, 5);
        talk.icmp(Server, 129, 5);
    }),
    scenario("every other type", |talk| {
        for kind in (0..=255).filter(|kind| ![128, 139].contains(kind)) {
            talk.send(message(Client, kind, 0, kind.into()));
        }
    }),
    scenario("a message that is cut off", |talk| {
        talk.other(Client, 58, &[128, 0, 0xf7]);
        talk.other(Client, 58, &[128, 0, 0xf7, 0xff, 0, 0, 0]);
    }),
];

fn message(from: End, kind: u8, code: u8, identifier: u16) -> Frame {
    let rest = u32::from(identifier) << 16 | 1;
    Frame::new(from, Content::Icmp(Message { kind, code, rest, payload: vec![7; 16] }))
}
