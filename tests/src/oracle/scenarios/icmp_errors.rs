//! Reports about packets, and what they quote.

use super::{Scenario, scenario};
use crate::{
    oracle::{
        Content, Frame, Talk,
        frame::{Message, Reporter, Segment},
        talk::{ack, data, rst, syn},
    },
    packet::flag,
    wire::End::{Client, Server},
};

/// Unreachable, source quench, redirect, time exceeded, parameter problem.
const ERRORS_V4: [[u8; 2]; 7] = [[3, 0], [3, 3], [3, 4], [4, 0], [5, 1], [11, 0], [12, 0]];
/// Unreachable, too big, time exceeded, parameter problem.
const ERRORS_V6: [[u8; 2]; 5] = [[1, 0], [1, 4], [2, 0], [3, 0], [4, 1]];

const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;
const PORT_V4: [u8; 2] = [3, 3];
const PORT_V6: [u8; 2] = [1, 4];

/// Every kind of error about a flow, from its end and from a router.
fn about_flow(talk: &mut Talk, errors: &[[u8; 2]]) {
    for [kind, code] in errors {
        talk.error(Server, *kind, *code);
        talk.error_by(Reporter::Router, Server, *kind, *code, 64);
    }
}

fn about_tcp(talk: &mut Talk, errors: &[[u8; 2]]) {
    talk.client(syn());
    about_flow(talk, errors);
    talk.flow(1);
    talk.open();
    talk.client(data(100));
    about_flow(talk, errors);
    talk.server(ack());
}

fn about_datagrams(talk: &mut Talk, errors: &[[u8; 2]]) {
    talk.udp(Client, 100);
    about_flow(talk, errors);
    talk.udp(Server, 10);
    about_flow(talk, errors);
}

fn about_answers(talk: &mut Talk, [kind, code]: [u8; 2]) {
    talk.udp(Client, 10);
    talk.udp(Server, 10);
    talk.error(Client, kind, code);
    talk.error_by(Reporter::Router, Client, kind, code, 64);
}

fn about_pings(talk: &mut Talk, echo: u8, errors: &[[u8; 2]]) {
    talk.icmp(Client, echo, 7);
    about_flow(talk, errors);
}

fn about_the_unknown(talk: &mut Talk, [kind, code]: [u8; 2]) {
    let unknown = Frame { flow: 9, ..Frame::new(Client, Content::Udp { payload: 10 }) };
    talk.error_about(Reporter::End, Server, [kind, code], unknown, 64);
    let segment = Segment { flags: flag::ACK, ..Segment::default() };
    let unknown = Frame { flow: 9, ..Frame::new(Client, Content::Tcp(segment)) };
    talk.error_about(Reporter::Router, Server, [kind, code], unknown, 64);
}

fn to_a_stranger(talk: &mut Talk, [kind, code]: [u8; 2]) {
    talk.udp(Client, 10);
    talk.error_by(Reporter::ToStranger, Server, kind, code, 64);
}

/// About a packet that the reporter's own side sent.
fn the_wrong_way(talk: &mut Talk, [kind, code]: [u8; 2]) {
    talk.udp(Client, 10);
    let own = talk.last_of(Client);
    talk.error_about(Reporter::End, Client, [kind, code], own, 64);
}

fn cut_off(talk: &mut Talk, [kind, code]: [u8; 2]) {
    talk.udp(Client, 100);
    for quote in [0, 1, 3, 4, 7, 8, 9] {
        talk.error_by(Reporter::End, Server, kind, code, quote);
    }
    talk.flow(1);
    talk.open();
    talk.client(data(100));
    for quote in [0, 3, 4, 7, 8, 12, 19, 20] {
        talk.error_by(Reporter::End, Server, kind, code, quote);
    }
}

/// Quotes that end within the quoted IP header.
fn cut_off_earlier(talk: &mut Talk, [kind, code]: [u8; 2], header: usize) {
    talk.udp(Client, 100);
    for length in [0, 1, 8, header - 1] {
        let payload = vec![0x45; length];
        let message = Message { kind, code, rest: 0, payload };
        talk.send(Frame::new(Server, Content::Icmp(message)));
    }
}

fn about_an_error(talk: &mut Talk, [kind, code]: [u8; 2]) {
    talk.udp(Client, 100);
    talk.error(Server, kind, code);
    talk.error(Client, kind, code);
    talk.error_by(Reporter::Router, Client, kind, code, 200);
}

fn about_a_fragment(talk: &mut Talk, [kind, code]: [u8; 2]) {
    let datagram = Frame::new(Client, Content::Udp { payload: 100 });
    talk.send(datagram.clone());
    for bytes in [0..64, 64..108] {
        let piece = crate::oracle::frame::Piece { datagram: 1, bytes };
        let piece = Frame { piece: Some(piece), ..datagram.clone() };
        talk.error_about(Reporter::Router, Server, [kind, code], piece, 64);
    }
}

fn after_the_end(talk: &mut Talk, [kind, code]: [u8; 2]) {
    talk.open();
    talk.client(data(10));
    talk.client(rst());
    talk.error(Server, kind, code);
    talk.flow(1);
    talk.open();
    talk.close();
    talk.error_by(Reporter::Router, Server, kind, code, 8);
}

fn about_other_protocols(talk: &mut Talk, [kind, code]: [u8; 2]) {
    talk.other(Client, 50, &[0, 0, 0, 7, 0, 0, 0, 1, 9, 9, 9, 9]);
    talk.error(Server, kind, code);
    talk.other(Client, 253, &[1; 20]);
    talk.error_by(Reporter::Router, Server, kind, code, 8);
}

pub(super) const V4_SCENARIOS: &[Scenario] = &[
    scenario("about TCP", |talk| about_tcp(talk, &ERRORS_V4)),
    scenario("about datagrams", |talk| about_datagrams(talk, &ERRORS_V4)),
    scenario("about pings", |talk| about_pings(talk, ECHO_V4, &ERRORS_V4)),
    scenario("about answers", |talk| about_answers(talk, PORT_V4)),
    scenario("about the unknown", |talk| about_the_unknown(talk, PORT_V4)),
    scenario("to a stranger", |talk| to_a_stranger(talk, PORT_V4)),
    scenario("the wrong way", |talk| the_wrong_way(talk, PORT_V4)),
    scenario("cut off behind the quoted IP header", |talk| cut_off(talk, PORT_V4)),
    scenario("cut off within it", |talk| cut_off_earlier(talk, PORT_V4, 20)),
    scenario("about an error", |talk| about_an_error(talk, PORT_V4)),
    scenario("about a fragment", |talk| about_a_fragment(talk, [11, 1])),
    scenario("after the end", |talk| after_the_end(talk, PORT_V4)),
    scenario("about other protocols", |talk| about_other_protocols(talk, [3, 2])),
];

pub(super) const V6_SCENARIOS: &[Scenario] = &[
    scenario("about TCP", |talk| about_tcp(talk, &ERRORS_V6)),
    scenario("about datagrams", |talk| about_datagrams(talk, &ERRORS_V6)),
    scenario("about pings", |talk| about_pings(talk, ECHO_V6, &ERRORS_V6)),
    scenario("about answers", |talk| about_answers(talk, PORT_V6)),
    scenario("about the unknown", |talk| about_the_unknown(talk, PORT_V6)),
    scenario("to a stranger", |talk| to_a_stranger(talk, PORT_V6)),
    scenario("the wrong way", |talk| the_wrong_way(talk, PORT_V6)),
    scenario("cut off behind the quoted IP header", |talk| cut_off(talk, PORT_V6)),
    scenario("cut off within it", |talk| cut_off_earlier(talk, PORT_V6, 40)),
    scenario("about an error", |talk| about_an_error(talk, PORT_V6)),
    scenario("about a fragment", |talk| about_a_fragment(talk, [3, 1])),
    scenario("after the end", |talk| after_the_end(talk, PORT_V6)),
    scenario("about other protocols", |talk| about_other_protocols(talk, [4, 1])),
];
