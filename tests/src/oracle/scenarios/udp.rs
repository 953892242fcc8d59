//! Datagrams: asked, answered, and streams.

use std::time::Duration;

use super::{Scenario, scenario};
use crate::wire::End::{Client, Server};

/// Longer than the two seconds that make a stream.
const A_WHILE: Duration = Duration::from_millis(2_300);

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("one way", |talk| {
        talk.udp(Client, 10);
        talk.udp(Client, 0);
        talk.udp(Client, 1_000);
    }),
    scenario("asked and answered", |talk| {
        talk.udp(Client, 10);
        talk.udp(Server, 20);
        talk.udp(Client, 30);
    }),
    scenario("begun by the server", |talk| {
        talk.udp(Server, 10);
        talk.udp(Client, 10);
    }),
    scenario("many both ways within two seconds", |talk| {
        for length in 0..20 {
            talk.udp(Client, length);
            talk.udp(Server, length);
        }
    }),
    scenario("both ways after two seconds", |talk| {
        talk.udp(Client, 10);
        talk.udp(Server, 10);
        talk.pause(A_WHILE);
        talk.udp(Client, 10);
        talk.udp(Server, 10);
    }),
    scenario("answered only after two seconds", |talk| {
        talk.udp(Client, 10);
        talk.pause(A_WHILE);
        talk.udp(Server, 10);
    }),
    scenario("answered only after two seconds, and one more", |talk| {
        talk.udp(Client, 10);
        talk.pause(A_WHILE);
        talk.udp(Server, 10);
        talk.udp(Client, 10);
    }),
    scenario("one more of the client after two seconds", |talk| {
        talk.udp(Client, 10);
        talk.udp(Server, 10);
        talk.pause(A_WHILE);
        talk.udp(Client, 10);
    }),
    scenario("one more of the server after two seconds", |talk| {
        talk.udp(Client, 10);
        talk.udp(Server, 10);
        talk.pause(A_WHILE);
        talk.udp(Server, 10);
    }),
    scenario("one way for more than two seconds", |talk| {
        talk.udp(Client, 10);
        talk.pause(A_WHILE);
        talk.udp(Client, 10);
    }),
    scenario("with a length that is not the packet's", |talk| {
        // Source and destination port, length, no checksum, four bytes.
        let with_length = |length: u16| {
            let [high, low] = length.to_be_bytes();
            [0x9c, 0x40, 0x13, 0x88, high, low, 0, 0, 1, 2, 3, 4]
        };
        for length in [0, 7, 8, 11, 12, 13, 200] {
            talk.other(Client, 17, &with_length(length));
        }
    }),
    scenario("a header that is cut off", |talk| {
        talk.other(Client, 17, &[0x9c, 0x40, 0x13]);
        talk.other(Client, 17, &[0x9c, 0x40, 0x13, 0x88, 0, 8, 0]);
    }),
    scenario("UDP-Lite both ways", |talk| {
        // Checksum coverage 8: the header alone; the sum is wrong and looked at.
        let lite = [0x9c, 0x40, 0x13, 0x88, 0, 8, 0x12, 0x34, 1, 2, 3, 4];
        talk.other(Client, 136, &lite);
        let back = [0x13, 0x88, 0x9c, 0x40, 0, 8, 0x12, 0x34, 1, 2, 3, 4];
        talk.other(Server, 136, &back);
    }),
];
