//! A client, a gateway that spells announcements anew, and a server, on links that lose,
//! repeat and mix up segments.

use std::net::IpAddr;

use firewall_common::flow::Direction;
use proptest::{collection::vec, prelude::*};

use crate::{
    ftp::Conversation,
    helper::{Beginning, Names},
    testing::{Middle, Segment, Step, Talk},
};

const CLIENT: &str = "10.0.0.2";
const SERVER: &str = "198.51.100.2";
/// What each is called by the other.
const CLIENTS_NAME: &str = "203.0.113.117";
const SERVERS_NAME: &str = "192.0.2.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Who is known by another name.
#[derive(Clone, Copy, Debug)]
struct Hidden {
    client: bool,
    server: bool,
}

impl Hidden {
    const BOTH: Self = Self { client: true, server: true };

    fn middle(self) -> Middle {
        let hosts = [CLIENT, SERVER].map(ip);
        let names = Names {
            client: self.client.then(|| ip(CLIENTS_NAME)),
            server: self.server.then(|| ip(SERVERS_NAME)),
        };
        let [client, server] = hosts;
        let reader = Conversation::new(client, server, Beginning::Seen, Default::default());
        Middle::new(reader, hosts, names)
    }
}

/// What the gateway tells of a port.
const fn told(port: u16) -> u16 {
    port ^ 0x1f0
}

fn host_port(host: &str, port: u16) -> String {
    format!("{},{},{}", host.replace('.', ","), port >> 8, port & 255)
}

/// A command, and the reply to it.
#[derive(Clone, Debug)]
enum Exchange {
    Port(u16),
    Eprt(u16),
    Pasv(u16),
    Epsv(u16),
    /// Not understood: it goes on as it is.
    Broken(u8),
    Other(u8),
}

impl Exchange {
    /// What the client says, of an endpoint of its own.
    fn command(&self, host: &str, turn: impl Fn(u16) -> u16) -> String {
        match self {
            Self::Port(port) => format!("PORT {}\r\n", host_port(host, turn(*port))),
            Self::Eprt(port) => format!("EPRT |1|{host}|{}|\r\n", turn(*port)),
            Self::Pasv(_) => "PASV\r\n".to_owned(),
            Self::Epsv(_) => "EPSV\r\n".to_owned(),
            Self::Broken(number) => format!("PORT 10,0,{number}\r\n"),
            Self::Other(number) => format!("RETR file{number}\r\n"),
        }
    }

    /// What the server says, of an endpoint of its own.
    fn reply(&self, host: &str, turn: impl Fn(u16) -> u16) -> String {
        match self {
            Self::Port(_) | Self::Eprt(_) => "200 ok\r\n".to_owned(),
            Self::Pasv(port) => format!("227 Passive ({}).\r\n", host_port(host, turn(*port))),
            Self::Epsv(port) => format!("229 Extended (|||{}|)\r\n", turn(*port)),
            Self::Broken(_) => "501 what?\r\n".to_owned(),
            Self::Other(number) => format!("150 here\r\n226-file{number}\r\n226 done\r\n"),
        }
    }

    fn said(&self, direction: Direction) -> String {
        match direction {
            Direction::Original => self.command(CLIENT, |port| port),
            Direction::Reply => self.reply(SERVER, |port| port),
        }
    }

    /// As the other side is to read it.
    fn heard(&self, direction: Direction, hidden: Hidden) -> String {
        match direction {
            Direction::Original if hidden.client => self.command(CLIENTS_NAME, told),
            Direction::Reply if hidden.server => self.reply(SERVERS_NAME, told),
            _ => self.said(direction),
        }
    }
}

fn exchange() -> impl Strategy<Value = Exchange> {
    prop_oneof![
        (1_024u16..=65_000).prop_map(Exchange::Port),
        (1_024u16..=65_000).prop_map(Exchange::Eprt),
        (1_024u16..=65_000).prop_map(Exchange::Pasv),
        (1_024u16..=65_000).prop_map(Exchange::Epsv),
        any::<u8>().prop_map(Exchange::Broken),
        any::<u8>().prop_map(Exchange::Other),
    ]
}

/// Commands that are sent without waiting for the replies between them, then those.
fn turns() -> impl Strategy<Value = Vec<Vec<Exchange>>> {
    vec(vec(exchange(), 1..5), 1..6)
}

fn hidden() -> impl Strategy<Value = Hidden> {
    prop_oneof![
        Just(Hidden::BOTH),
        Just(Hidden { server: false, ..Hidden::BOTH }),
        Just(Hidden { client: false, ..Hidden::BOTH }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = vec(any::<u8>(), 5).prop_map(|dice| {
        let bits = dice.iter().enumerate().filter(|(_, dice)| **dice < 60);
        bits.fold(0, |fate, (bit, _)| fate | 1 << bit)
    });
    // So few bytes announce no more than there is always room for.
    let step = (-30isize..60, 1usize..38, fate);
    vec(step.prop_map(|(ahead, len, fate)| Step { ahead: ahead.min(30), len, fate }), 1..200)
}

const BOTH_WAYS: [Direction; 2] = [Direction::Original, Direction::Reply];

proptest! {
    /// Nothing that happens on the way is out of any tracker's window, nor changes what is read.
    #[test]
    fn whatever_is_lost_both_sides_read_what_was_meant(
        first: [u32; 2],
        hidden in hidden(),
        turns in turns(),
        steps in steps(),
    ) {
        let mut talk = Talk::new(hidden.middle(), first).tracked();
        let mut steps = steps.into_iter();
        let mut wanted = ["USER a\r\n".to_owned(), "220 ready\r\n230 ok\r\n".to_owned()];
        talk.say(Direction::Reply, b"220 ready\r\n", &mut steps);
        talk.say(Direction::Original, b"USER a\r\n", &mut steps);
        talk.say(Direction::Reply, b"230 ok\r\n", &mut steps);
        for turn in &turns {
            for direction in BOTH_WAYS {
                let said: String = turn.iter().map(|it| it.said(direction)).collect();
                talk.say(direction, said.as_bytes(), &mut steps);
                wanted[direction.index()].extend(turn.iter().map(|it| it.heard(direction, hidden)));
            }
        }
        talk.end();
        for direction in BOTH_WAYS {
            let heard = String::from_utf8(talk.heard(direction)).unwrap();
            prop_assert_eq!(&heard, &wanted[direction.index()]);
        }
        prop_assert!(talk.middle().told().iter().all(|told| told.stands));
    }
}

/// A gateway that has heard the server's greeting.
fn greeted() -> Middle {
    let mut middle = Hidden { server: false, ..Hidden::BOTH }.middle();
    middle.begins([100, 1]);
    middle.cross(Direction::Reply, &segment(1, 100, b"220 ready\r\n")).expect("a greeting");
    middle
}

fn segment(seq: u32, ack: u32, payload: &[u8]) -> Segment {
    Segment { seq, ack, payload: payload.to_vec(), is_last: false }
}

fn say(middle: &mut Middle, seq: u32, payload: &[u8]) -> Option<Segment> {
    middle.cross(Direction::Original, &segment(seq, 12, payload))
}

#[test]
fn letters_are_answered_and_arrive_together() {
    let mut talk = Talk::new(Hidden::BOTH.middle(), [100, 1]);
    talk.say(Direction::Reply, b"220 ready\r\n", &mut std::iter::empty());
    for letter in b"USER a\r\nPORT 10,0,0,2,8,1\r\n" {
        // Each is acknowledged before the next is sent.
        let at_once = Step { len: 1, ..Step::default() };
        talk.say(Direction::Original, &[*letter], &mut std::iter::once(at_once));
    }
    let wanted = format!("USER a\r\nPORT {}\r\n", host_port(CLIENTS_NAME, told(0x801)));
    assert_eq!(talk.heard(Direction::Original), wanted.into_bytes());
}

#[test]
fn a_segment_that_overtakes_is_let_go_of() {
    let mut middle = greeted();
    assert!(say(&mut middle, 108, b"NOOP\r\n").is_none());
    assert!(say(&mut middle, 100, b"USER a\r\n").is_some());
    assert!(say(&mut middle, 114, b"PORT 10,0,0,2,8,1\r\n").is_none());
    assert!(say(&mut middle, 108, b"NOOP\r\n").is_some());
    let gone_on = say(&mut middle, 114, b"PORT 10,0,0,2,8,1\r\nNOOP\r\n").unwrap();
    assert!(gone_on.payload.starts_with(b"PORT 203,0,113,117,"), "{gone_on:?}");
}

#[test]
fn while_four_texts_have_not_arrived_segments_wait() {
    let mut middle = greeted();
    let mut seq = 100;
    let mut say = |middle: &mut Middle, text: &[u8]| {
        let gone_on = say(middle, seq, text);
        seq += if gone_on.is_some() { text.len() as u32 } else { 0 };
        gone_on.is_some()
    };
    assert!(say(&mut middle, b"USER a\r\n"));
    for _ in 0..3 {
        assert!(say(&mut middle, b"PORT 10,0,0,2,8,1\r\n"));
    }
    assert!(!say(&mut middle, b"NOOP\r\n"));
    let first = middle.shift(Direction::Original).forward(127);
    middle.cross(Direction::Reply, &segment(12, first, b"")).expect("an acknowledgement");
    assert!(say(&mut middle, b"NOOP\r\n"));
}
