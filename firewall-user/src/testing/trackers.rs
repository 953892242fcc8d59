//! Three trackers of one connection, as the programs have them: on the client's link, on the
//! server's, and in the gateway, which translates it and knows its shifts.

use std::net::IpAddr;

use firewall_common::{
    addr::Family,
    event::Hook,
    flow::{Direction, Flow, FlowKey, window},
    headers::Headers,
    seq::Seq,
    testing::{Frame, Memory},
    time::Nanos,
    verdict::Verdict,
    wire::tcp_flag::{ACK, FIN, PSH, SYN},
};

use super::{Middle, Segment};
use crate::{
    helper::Names,
    rules::{self, BuiltinServices},
};

const NOW: Nanos = Nanos::from_secs(1_000);
const CLIENT_PORT: u16 = 40_000;
const SERVER_PORT: u16 = 21;
const INVALID_IS_DROPPED: &str =
    "*filter\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n";

/// The numbers of a segment behind the gateway's tracker.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    seq: u32,
    ack: u32,
    /// It goes to the daemon, which turns its own number.
    is_held: bool,
}

/// Each one panics when a segment is INVALID for it.
#[derive(Debug)]
pub struct Trackers {
    /// Client and server, as they are known on the client's link and on the server's.
    ends: [[IpAddr; 2]; 2],
    links: [Memory; 2],
    gateway: Memory,
}

impl Trackers {
    /// They have seen the handshake of these hosts, whose first bytes have these numbers.
    pub fn new(hosts: [IpAddr; 2], names: Names, first: [u32; 2]) -> Self {
        let [client, server] = hosts;
        let ends =
            [[client, names.server.unwrap_or(server)], [names.client.unwrap_or(client), server]];
        let family = if client.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let nat = translation(hosts, names);
        let links = [(); 2].map(|()| ruled(INVALID_IS_DROPPED, family));
        let gateway = ruled(&format!("{nat}{INVALID_IS_DROPPED}"), family);
        let trackers = Self { ends, links, gateway };
        let [client, server] = first.map(|first| first.wrapping_sub(1));
        trackers.shakes(Direction::Original, SYN, client, 0);
        trackers.shakes(Direction::Reply, SYN | ACK, server, first[0]);
        trackers.shakes(Direction::Original, ACK, first[0], first[1]);
        trackers
    }

    fn shakes(&self, direction: Direction, flags: u8, seq: u32, ack: u32) {
        for link in [0, 1] {
            let frame = self.frame(link, direction, flags, seq, ack).build();
            accepted(self.links[link].filter(&frame, NOW), &frame);
        }
        let frame = self.frame(direction.index(), direction, flags, seq, ack).build();
        accepted(self.gateway.cross(Hook::Ingress, 1, &frame, NOW).0, &frame);
    }

    /// A segment is sent.
    pub fn leaves(&self, direction: Direction, segment: &Segment) {
        self.passes(direction.index(), direction, segment);
    }

    /// One gets to its receiver.
    pub fn arrives(&self, direction: Direction, segment: &Segment) {
        self.passes(direction.reversed().index(), direction, segment);
    }

    fn passes(&self, link: usize, direction: Direction, segment: &Segment) {
        let frame = self.of(link, direction, segment);
        accepted(self.links[link].filter(&frame, NOW), &frame);
    }

    /// The programs judge a segment that comes in.
    pub fn crosses(&self, direction: Direction, segment: &Segment) -> Seen {
        let frame = self.of(direction.index(), direction, segment);
        let (verdict, bytes) = self.gateway.cross(Hook::Ingress, 1, &frame, NOW);
        accepted(verdict, &frame);
        if matches!(verdict, Verdict::Punt(_)) {
            let punt = self.gateway.scratch().punt;
            return Seen { seq: punt.seq, ack: punt.ack, is_held: true };
        }
        let mut headers = Headers::default();
        headers.parse(&bytes[..], true).expect("a packet");
        Seen { seq: headers.seq, ack: headers.ack, is_held: false }
    }

    /// What goes on has the numbers that the programs give it, and the daemon knows what has
    /// arrived as they do; then they are told where text was written anew.
    pub fn agree(
        &mut self,
        direction: Direction,
        seen: &Seen,
        gone_on: Option<&Segment>,
        middle: &Middle,
    ) {
        if let Some(gone_on) = gone_on {
            assert_eq!(seen.ack, gone_on.ack, "what {direction:?} acknowledges");
            assert!(seen.is_held || seen.seq == gone_on.seq, "{seen:?}, but {gone_on:?}");
            assert!(seen.is_held || gone_on.payload.is_empty(), "{gone_on:?} was not held");
        }
        let (key, flow) = self.flow();
        for direction in [Direction::Original, Direction::Reply] {
            let Some(known) = middle.acknowledged(direction) else { continue };
            assert_eq!(acknowledged(&flow, direction), Some(known), "of {direction:?}");
        }
        self.gateway.shifts.insert(key, middle.shifts(flow.created));
    }

    /// The gateway's only one.
    fn flow(&self) -> (FlowKey, Flow) {
        let flows = self.gateway.flows();
        assert_eq!(flows.len(), 1, "{flows:?}");
        (flows[0].1, flows[0].2)
    }

    fn of(&self, link: usize, direction: Direction, segment: &Segment) -> Vec<u8> {
        let Segment { seq, ack, window, ref payload, is_last } = *segment;
        let push = if payload.is_empty() { 0 } else { PSH };
        let last = if is_last { FIN } else { 0 };
        let frame = self.frame(link, direction, ACK | push | last, seq, ack);
        frame.window(window).payload(payload).build()
    }

    fn frame(&self, link: usize, direction: Direction, flags: u8, seq: u32, ack: u32) -> Frame {
        let [client, server] = self.ends[link].map(|end| end.to_string());
        match direction {
            Direction::Original => {
                Frame::between(&client, &server).tcp_at(CLIENT_PORT, SERVER_PORT, flags, seq, ack)
            }
            Direction::Reply => {
                Frame::between(&server, &client).tcp_at(SERVER_PORT, CLIENT_PORT, flags, seq, ack)
            }
        }
    }
}

fn accepted(verdict: Verdict, frame: &[u8]) {
    let is_accepted = matches!(verdict, Verdict::Accept(_) | Verdict::Punt(_));
    assert!(is_accepted, "{verdict:?} for {}", frame.escape_ascii());
}

/// What the receiver of a direction has acknowledged, in its sender's numbers.
fn acknowledged(flow: &Flow, direction: Direction) -> Option<Seq> {
    let window = flow.side(direction.reversed()).window;
    window.has(window::MAX_ACK_KNOWN).then_some(window.max_ack)
}

/// Rules of table nat that give the hosts these names.
fn translation([_, server]: [IpAddr; 2], names: Names) -> String {
    let mut rules = String::from("*nat\n");
    if names.server.is_some() {
        rules += &format!("-A PREROUTING -p tcp -j DNAT --to-destination {server}\n");
    }
    if let Some(client) = names.client {
        rules += &format!("-A POSTROUTING -p tcp -j SNAT --to-source {client}\n");
    }
    rules + "COMMIT\n"
}

/// Tables in memory with these rules, whose daemon is there.
fn ruled(text: &str, family: Family) -> Memory {
    let of = |wanted: Family| {
        let text = if wanted == family { text } else { "" };
        rules::parse("rules", text, wanted, &BuiltinServices).expect("rules")
    };
    let compiled = rules::compile(&of(Family::Ipv4), &of(Family::Ipv6)).expect("rules compile");
    Memory::with(|memory| {
        memory.heartbeat = NOW;
        memory.header = compiled.header;
        memory.rules = compiled.rules;
        memory.port_sets = compiled.port_sets;
        memory.extras = compiled.extras;
        memory.patterns = compiled.texts;
    })
}
