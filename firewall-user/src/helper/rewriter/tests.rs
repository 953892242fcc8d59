//! A client, a gateway that spells announcements anew, and a server, on links that lose,
//! repeat and mix up segments.

use std::net::IpAddr;

use firewall_common::flow::Direction;
use proptest::{collection::vec, prelude::*};

use crate::{
    ftp::Conversation,
    helper::{Beginning, Names},
    testing::{Host, Middle, Segment, Step, Talk},
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
    let fate = vec(any::<u8>(), 6).prop_map(|dice| {
        let bits = dice.iter().enumerate().filter(|(_, dice)| **dice < 60);
        bits.fold(0, |fate, (bit, _)| fate | 1 << bit)
    });
    let step = (-30isize..60, 1usize..120, fate);
    vec(step.prop_map(|(ahead, len, fate)| Step { ahead: ahead.min(30), len, fate }), 1..200)
}

/// Of client and server: sometimes less than the text grows by.
fn room() -> impl Strategy<Value = [usize; 2]> {
    prop_oneof![Just([usize::MAX; 2]), [1usize..150, 1usize..150]]
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
        room in room(),
    ) {
        let mut talk = Talk::new(hidden.middle(), first).with_room(room).tracked();
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
    Segment { seq, ack, window: u16::MAX, payload: payload.to_vec(), is_last: false }
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

/// A client that has asked by this command, and the server's reply to it in pieces of this length:
/// what the client reads of that.
fn answered(command: &str, reply: &str, len: usize) -> String {
    let mut talk = Talk::new(Hidden::BOTH.middle(), [100, 1]).tracked();
    let mut at_once = std::iter::empty();
    talk.say(Direction::Reply, b"220 ready\r\n", &mut at_once);
    talk.say(Direction::Original, command.as_bytes(), &mut at_once);
    let steps = vec![Step { len, ..Step::default() }; reply.len()];
    talk.say(Direction::Reply, reply.as_bytes(), &mut steps.into_iter());
    assert!(talk.middle().told().iter().all(|told| told.stands), "{:?}", talk.middle().told());
    let hole = talk.middle().hole().expect("a hole");
    assert!(talk.middle().is_told(hole), "{hole} is not told");
    let heard = String::from_utf8(talk.heard(Direction::Reply)).unwrap();
    heard.strip_prefix("220 ready\r\n").expect("the greeting").to_owned()
}

#[test]
fn however_long_the_line_is_around_an_announcement_in_pieces_it_is_told() {
    let [said, wanted] = [(SERVER, 0x801), (SERVERS_NAME, told(0x801))].map(|(host, port)| {
        let [before, behind] = ["7 files, (2 new), ", " words"].map(|text| text.repeat(40));
        format!("227 {before}({}){behind}.\r\n", host_port(host, port))
    });
    for len in [1, 2, 7, 100, 150, 2_000] {
        assert_eq!(answered("PASV\r\n", &said, len), wanted, "in pieces of {len} bytes");
    }
}

#[test]
fn what_looks_like_a_beginning_within_a_beginning_is_told_in_pieces() {
    let said = format!("229 it is (||2|!!|1|1|{SERVER}|2049|).\r\n");
    let wanted = format!("229 it is (||2|!!|1|1|{SERVERS_NAME}|{}|).\r\n", told(2_049));
    for len in 1..said.len() {
        assert_eq!(answered("EPSV\r\n", &said, len), wanted, "in pieces of {len} bytes");
    }
}

#[test]
fn a_reply_too_long_to_be_read_says_the_same_however_it_comes() {
    let said = format!("227 ({}) {}\r\n", host_port(SERVER, 0x801), "words ".repeat(500));
    let heard = [1, 700, 2_100, said.len()].map(|len| {
        let mut talk = Talk::new(Hidden::BOTH.middle(), [100, 1]);
        let steps = vec![Step { len, ..Step::default() }; said.len()];
        talk.say(Direction::Reply, b"220 ready\r\n", &mut std::iter::empty());
        talk.say(Direction::Original, b"PASV\r\n", &mut std::iter::empty());
        talk.say(Direction::Reply, said.as_bytes(), &mut steps.into_iter());
        assert_eq!(talk.middle().hole(), None);
        talk.heard(Direction::Reply)
    });
    assert!(heard.iter().all(|it| *it == heard[0]), "it depends on the pieces");
}

#[test]
fn a_reply_to_another_question_stays_as_it_is_in_pieces_too() {
    let said = format!("227 ({})\r\n", host_port(SERVER, 0x801));
    for len in [3, 11, said.len()] {
        let mut talk = Talk::new(Hidden::BOTH.middle(), [100, 1]);
        let steps = vec![Step { len, ..Step::default() }; said.len()];
        talk.say(Direction::Reply, b"220 ready\r\n", &mut std::iter::empty());
        talk.say(Direction::Original, b"EPSV\r\n", &mut std::iter::empty());
        talk.say(Direction::Reply, said.as_bytes(), &mut steps.into_iter());
        let heard = String::from_utf8(talk.heard(Direction::Reply)).unwrap();
        assert_eq!(heard, format!("220 ready\r\n{said}"), "in pieces of {len} bytes");
        assert_eq!(talk.middle().hole(), None);
    }
}

#[test]
fn an_argument_with_no_end_in_sight_opens_nothing_however_it_comes() {
    let said = format!("PORT {}{}\r\n", host_port(CLIENT, 0x801), " ".repeat(60));
    for len in [1, 30, said.len()] {
        let mut talk = Talk::new(Hidden::BOTH.middle(), [100, 1]).tracked();
        let steps = vec![Step { len, ..Step::default() }; said.len()];
        talk.say(Direction::Reply, b"220 ready\r\n", &mut std::iter::empty());
        talk.say(Direction::Original, said.as_bytes(), &mut steps.into_iter());
        let heard = String::from_utf8(talk.heard(Direction::Original)).unwrap();
        assert_eq!(heard, said, "in pieces of {len} bytes");
        assert_eq!((talk.middle().told().len(), talk.middle().hole()), (0, None));
    }
}

#[test]
fn more_announcements_in_one_segment_than_there_is_room_for_are_all_told() {
    let ports = [0x801, 0x802, 0x803, 0x804, 0x805, 0x806, 0x807];
    let [said, wanted] = [(CLIENT, false), (CLIENTS_NAME, true)].map(|(host, is_told)| {
        let port = |port| if is_told { told(port) } else { port };
        let lines = ports.map(|it| format!("PORT {}\r\n", host_port(host, port(it))));
        format!("NOOP\r\n{}NOOP\r\n", lines.concat())
    });
    let mut talk = Talk::new(Hidden::BOTH.middle(), [100, 1]).tracked();
    talk.say(Direction::Reply, b"220 ready\r\n", &mut std::iter::empty());
    let whole = Step { len: said.len(), ..Step::default() };
    // As many as are remembered arrive with each.
    talk.say(Direction::Original, said.as_bytes(), &mut std::iter::repeat_n(whole, 2));
    assert_eq!(String::from_utf8(talk.heard(Direction::Original)).unwrap(), wanted);
    let told = talk.middle().told();
    assert!(told.len() == ports.len() && told.iter().all(|told| told.stands), "{told:?}");
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
fn a_text_that_outgrows_its_receivers_window_arrives_in_parts() {
    let mut middle = greeted();
    let [mut client, mut server] = [Host::new(100, 12), Host::new(12, 100).with_room(20)];
    client.say(b"PORT 10,0,0,2,8,1\r\n");
    let mut heard = Vec::new();
    for _ in 0..2 {
        let gone_on = middle.cross(Direction::Original, &client.segment(0..19)).expect("a segment");
        server.take(&gone_on);
        let answer = middle.cross(Direction::Reply, &server.acknowledgement()).expect("an answer");
        client.take(&answer);
        server.read();
        heard.push(server.heard().len());
    }
    // What has come of a text in part has not arrived.
    let wanted = format!("PORT {}\r\n", host_port(CLIENTS_NAME, told(0x801)));
    assert_eq!((server.heard(), heard), (wanted.clone().into_bytes(), vec![20, wanted.len()]));
    assert!(client.unacknowledged().is_empty());
}

/// A login, and an announcement behind it.
const SESSION: &[u8] = b"USER a\r\nPORT 10,0,0,2,8,1\r\n";

fn opens_nothing(middle: &mut Middle) {
    let replies = b"331 password\r\n230 welcome\r\n200 port\r\n";
    middle.cross(Direction::Reply, &segment(12, 100, replies)).expect("replies");
    assert_eq!(middle.hole(), None);
}

#[test]
fn a_server_that_claims_to_have_a_request_does_not_hide_it() {
    let mut middle = greeted();
    let request = b"POST / HTTP/1.1\r\n\r\n";
    let behind = 100 + request.len() as u32;
    middle.cross(Direction::Reply, &segment(12, behind, b"")).expect("an acknowledgement");
    say(&mut middle, 100, request).expect("a request");
    say(&mut middle, behind, SESSION).expect("a body");
    opens_nothing(&mut middle);
}

#[test]
fn where_the_clients_first_line_was_not_seen_nothing_opens() {
    let mut middle = greeted();
    middle.cross(Direction::Reply, &segment(12, 120, b"")).expect("an acknowledgement");
    say(&mut middle, 120, SESSION).expect("what follows");
    opens_nothing(&mut middle);
}

#[test]
fn a_session_that_is_seen_from_its_first_line_on_opens() {
    let mut middle = greeted();
    say(&mut middle, 100, SESSION).expect("a session");
    let replies = b"331 password\r\n230 welcome\r\n200 port\r\n";
    middle.cross(Direction::Reply, &segment(12, 100, replies)).expect("replies");
    assert!(middle.hole().is_some());
}

#[test]
fn what_a_former_daemon_has_told_is_the_same_when_it_is_repeated() {
    for times in 1..=4 {
        let mut middle = greeted();
        let line = b"PORT 10,0,0,2,8,1\r\n";
        let sent: Vec<_> = (0..times).map(|at| (100 + at * line.len() as u32, &line[..])).collect();
        let told: Vec<_> = sent.iter().map(|(seq, line)| say(&mut middle, *seq, line)).collect();
        let shift = *middle.shift(Direction::Original);
        let [client, server] = [CLIENT, SERVER].map(ip);
        let reader = Conversation::new(client, server, Beginning::Missed, Default::default());
        middle.taken_over_by(reader);
        for ((seq, line), told) in sent.into_iter().zip(told) {
            let [told, again] = [told, say(&mut middle, seq, line)].map(|it| it.expect("a text"));
            // The end of the last line has no room while four texts have not arrived.
            let end = if times == 4 && seq > 150 { 2 } else { 0 };
            let bytes = told.payload.len() - end;
            assert_eq!((again.seq, &*again.payload), (told.seq, &told.payload[..bytes]));
        }
        assert_eq!(*middle.shift(Direction::Original), shift);
    }
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
    for _ in 0..4 {
        assert!(say(&mut middle, b"PORT 10,0,0,2,8,1\r\n"));
    }
    assert!(!say(&mut middle, b"NOOP\r\n"));
    let first = middle.shift(Direction::Original).forward(127);
    middle.cross(Direction::Reply, &segment(12, first, b"")).expect("an acknowledgement");
    assert!(say(&mut middle, b"NOOP\r\n"));
}
