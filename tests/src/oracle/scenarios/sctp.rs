//! Associations of SCTP (RFC 9260), chunk by chunk.

use super::{Scenario, scenario};
use crate::{
    oracle::{
        Content, Frame, Talk,
        place::Place,
        sctp::{Chunk, packet},
    },
    wire::End::{self, Client, Server},
};

const SCTP: u8 = 132;
/// The tags that client and server ask to be called by.
const TAGS: [u32; 2] = [0x1111_1111, 0x2222_2222];

/// A packet with this tag.
fn tagged(talk: &mut Talk, from: End, tag: u32, chunks: &[Chunk]) {
    let place = Place::numbered(talk.family(), 0);
    let ports = [place.endpoint(from, 0).port(), place.endpoint(from.other(), 0).port()];
    let bytes = packet(ports, tag, chunks);
    talk.send(Frame::new(from, Content::Other { protocol: SCTP, bytes }));
}

/// A packet with the tag that the other end asked for.
fn say(talk: &mut Talk, from: End, chunk: Chunk) {
    tagged(talk, from, TAGS[from.other() as usize], &[chunk]);
}

fn init(talk: &mut Talk) {
    tagged(talk, Client, 0, &[Chunk::Init(TAGS[0])]);
}

fn open(talk: &mut Talk) {
    init(talk);
    say(talk, Server, Chunk::InitAck(TAGS[1]));
    say(talk, Client, Chunk::CookieEcho);
    say(talk, Server, Chunk::CookieAck);
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("INIT alone", init),
    scenario("INIT and its answer", |talk| {
        init(talk);
        say(talk, Server, Chunk::InitAck(TAGS[1]));
    }),
    scenario("the cookie on its way", |talk| {
        init(talk);
        say(talk, Server, Chunk::InitAck(TAGS[1]));
        say(talk, Client, Chunk::CookieEcho);
    }),
    scenario("an association and data both ways", |talk| {
        open(talk);
        say(talk, Client, Chunk::Data);
        say(talk, Server, Chunk::Sack);
        say(talk, Server, Chunk::Data);
    }),
    scenario("a close by the client", |talk| {
        open(talk);
        say(talk, Client, Chunk::Shutdown);
        say(talk, Server, Chunk::ShutdownAck);
        say(talk, Client, Chunk::ShutdownComplete);
    }),
    scenario("half a close by the server", |talk| {
        open(talk);
        say(talk, Server, Chunk::Shutdown);
        say(talk, Client, Chunk::ShutdownAck);
    }),
    scenario("a close that has begun", |talk| {
        open(talk);
        say(talk, Client, Chunk::Shutdown);
    }),
    scenario("an abort", |talk| {
        open(talk);
        say(talk, Server, Chunk::Abort);
        say(talk, Client, Chunk::Data);
    }),
    scenario("an abort in place of an answer", |talk| {
        init(talk);
        say(talk, Server, Chunk::Abort);
    }),
    scenario("a heartbeat out of nothing, answered", |talk| {
        say(talk, Client, Chunk::Heartbeat);
        say(talk, Server, Chunk::HeartbeatAck);
        say(talk, Client, Chunk::Data);
    }),
    scenario("heartbeats of an association", |talk| {
        open(talk);
        say(talk, Client, Chunk::Heartbeat);
        say(talk, Server, Chunk::HeartbeatAck);
        say(talk, Server, Chunk::Heartbeat);
        say(talk, Client, Chunk::HeartbeatAck);
    }),
    scenario("data out of nothing", |talk| {
        say(talk, Client, Chunk::Data);
        say(talk, Server, Chunk::Sack);
    }),
    scenario("a wrong tag", |talk| {
        open(talk);
        tagged(talk, Client, 0x3333_3333, &[Chunk::Data]);
        tagged(talk, Server, 0, &[Chunk::Data]);
        tagged(talk, Client, 0x3333_3333, &[Chunk::Abort]);
        say(talk, Client, Chunk::Data);
    }),
    scenario("INIT with a tag of its own, and with none to be called by", |talk| {
        tagged(talk, Client, 7, &[Chunk::Init(TAGS[0])]);
        tagged(talk, Client, 0, &[Chunk::Init(0)]);
    }),
    scenario("INIT again, and INIT in an association", |talk| {
        init(talk);
        init(talk);
        open(talk);
        tagged(talk, Client, 0, &[Chunk::Init(0x4444_4444)]);
        say(talk, Client, Chunk::Data);
    }),
    scenario("INIT of both ends", |talk| {
        init(talk);
        tagged(talk, Server, 0, &[Chunk::Init(TAGS[1])]);
        say(talk, Server, Chunk::InitAck(TAGS[1]));
        say(talk, Client, Chunk::InitAck(TAGS[0]));
        say(talk, Client, Chunk::CookieEcho);
        say(talk, Server, Chunk::CookieAck);
    }),
    scenario("cookie and data in one packet", |talk| {
        init(talk);
        say(talk, Server, Chunk::InitAck(TAGS[1]));
        tagged(talk, Client, TAGS[1], &[Chunk::CookieEcho, Chunk::Data]);
        tagged(talk, Server, TAGS[0], &[Chunk::CookieAck, Chunk::Sack]);
    }),
    scenario("chunks that must stand alone, and do not", |talk| {
        tagged(talk, Client, 0, &[Chunk::Init(TAGS[0]), Chunk::Data]);
        tagged(talk, Client, 0, &[Chunk::Data, Chunk::Init(TAGS[0])]);
        open(talk);
        tagged(talk, Client, TAGS[1], &[Chunk::Data, Chunk::ShutdownComplete]);
    }),
    scenario("a packet without chunks, with a broken one, and with unknown ones", |talk| {
        tagged(talk, Client, 0, &[]);
        open(talk);
        tagged(talk, Client, TAGS[1], &[]);
        tagged(talk, Client, TAGS[1], &[Chunk::Broken]);
        tagged(talk, Client, TAGS[1], &[Chunk::Unknown(200)]);
    }),
    scenario("a wrong checksum", |talk| {
        init(talk);
        let mut frame = talk.last_of(Client);
        if let Content::Other { bytes, .. } = &mut frame.content {
            bytes[8] ^= 0xff;
        }
        talk.send(frame);
        say(talk, Server, Chunk::InitAck(TAGS[1]));
    }),
    scenario("after its end once more", |talk| {
        open(talk);
        say(talk, Client, Chunk::Shutdown);
        say(talk, Server, Chunk::ShutdownAck);
        say(talk, Client, Chunk::ShutdownComplete);
        open(talk);
    }),
];
