//! What the kernel's helper gets wrong (measured on 6.18), and what comes out
//! here. Each test is a row; nothing is ever dropped, since the code here can
//! not drop.

use std::sync::Arc;

use firewall_common::flow::Direction::{self, Original, Reply};

use crate::{
    ftp::{Conversation, Policy},
    helper::{Action, Beginning, Hole, Reader as _},
};

const CLIENT: &str = "192.0.2.7";
const SERVER: &str = "198.51.100.1";
const PASSIVE: Option<u16> = Some(40_001);
const ACTIVE: Option<u16> = Some(40_001);

struct Session {
    conversation: Conversation,
    next: [u32; 2],
    said: Vec<String>,
}

impl Session {
    fn new() -> Self {
        let [client, server] = [CLIENT, SERVER].map(|host| host.parse().unwrap());
        let conversation =
            Conversation::new(client, server, Beginning::Seen, Arc::new(Policy::default()));
        Self { conversation, next: [0, 0], said: Vec::new() }
    }

    fn greeted() -> Self {
        let mut session = Self::new();
        session.say(Reply, "220 ready\r\n");
        session
    }

    fn logged_in() -> Self {
        let mut session = Self::greeted();
        session.say(Original, "USER a\r\n");
        session.say(Reply, "230 ok\r\n");
        session
    }

    fn say(&mut self, direction: Direction, text: &str) {
        let seq = self.next[direction.index()];
        self.next[direction.index()] = seq + text.len() as u32;
        self.repeat(direction, seq, text);
    }

    fn repeat(&mut self, direction: Direction, seq: u32, text: &str) {
        for action in self.conversation.segment(direction, seq, text.as_bytes()) {
            if let Action::Note(note) = action {
                self.said.push(note.to_string());
            }
        }
    }

    fn port(&self) -> Option<u16> {
        self.conversation.hole().map(|Hole { dport, .. }| dport)
    }

    fn told(&self, words: &str) -> bool {
        self.said.iter().any(|note| note.contains(words))
    }
}

/// The port that is open after these lines of a session that is logged in.
fn opened_by(texts: &[(Direction, &str)]) -> Option<u16> {
    let mut session = Session::logged_in();
    for (direction, text) in texts {
        session.say(*direction, text);
    }
    session.port()
}

#[test]
fn clean_segments_open_as_with_the_kernel() {
    let passive = [(Original, "PASV\r\n"), (Reply, "227 ok (198,51,100,1,156,65)\r\n")];
    assert_eq!(opened_by(&passive), PASSIVE);
    let extended = [(Original, "EPSV\r\n"), (Reply, "229 ok (|||40001|)\r\n")];
    assert_eq!(opened_by(&extended), PASSIVE);
    assert_eq!(opened_by(&[(Original, "PORT 192,0,2,7,156,65\r\n")]), ACTIVE);
    assert_eq!(opened_by(&[(Original, "EPRT |1|192.0.2.7|40001|\r\n")]), ACTIVE);
}

#[test]
fn port_and_227_split_over_segments_open() {
    assert_eq!(opened_by(&[(Original, "PORT 192,0,2"), (Original, ",7,156,65\r\n")]), ACTIVE);
    let split = [
        (Original, "P"),
        (Original, "ASV\r\n"),
        (Reply, "227 (198,51,"),
        (Reply, "100,1,156,65)\r\n"),
    ];
    assert_eq!(opened_by(&split), PASSIVE);
}

#[test]
fn the_same_pieces_retransmitted_do_not_hang() {
    let mut session = Session::logged_in();
    let start = session.next[0];
    session.say(Original, "PORT 192,0,2");
    session.repeat(Original, start, "PORT 192,0,2");
    assert_eq!(session.port(), None);
    session.say(Original, ",7,156,65\r\n");
    session.repeat(Original, start, "PORT 192,0,2,7,156,65\r\n");
    assert_eq!(session.port(), ACTIVE);
}

#[test]
fn odd_spellings_that_servers_understand_open() {
    assert_eq!(opened_by(&[(Original, "PORT 192,0,2,7,156,65\n")]), ACTIVE);
    assert_eq!(opened_by(&[(Original, "PORT  192, 0, 2, 7, 156, 65 \r\n")]), ACTIVE);
    assert_eq!(opened_by(&[(Original, "EPRT |1|192.0.2.7|40001\r\n")]), ACTIVE);
    let digits = [(Original, "PASV\r\n"), (Reply, "227 ok 123 (198,51,100,1,156,65)\r\n")];
    assert_eq!(opened_by(&digits), PASSIVE);
    let long = [(Original, "EPSV\r\n"), (Reply, "229 (|1|198.51.100.1|40001|)\r\n")];
    assert_eq!(opened_by(&long), PASSIVE);
}

#[test]
fn spellings_that_name_nothing_pass_and_are_told() {
    for (command, reply) in [
        ("PORT 192,0,2,7,156\r\n", "501 no\r\n"),
        ("PORT 192,0,2,7,156,65,1\r\n", "501 no\r\n"),
        ("PASV\r\n", "227 Entering Passive Mode\r\n"),
        ("EPSV\r\n", "229 (|||0|)\r\n"),
    ] {
        let mut session = Session::logged_in();
        session.say(Original, command);
        session.say(Reply, reply);
        assert_eq!(session.port(), None, "{command}");
        assert!(session.told("not understood"), "{command}");
        session.say(Original, "PORT 192,0,2,7,156,65\r\n");
        assert_eq!(session.port(), ACTIVE, "{command}");
    }
}

#[test]
fn several_lines_in_one_segment_are_not_missed() {
    let lines = [(Original, "PASV\r\n"), (Reply, "227-a\r\n227 (198,51,100,1,156,65)\r\n")];
    assert_eq!(opened_by(&lines), PASSIVE);
    let replies =
        [(Original, "TYPE I\r\nPASV\r\n"), (Reply, "200 ok\r\n227 (198,51,100,1,156,65)\r\n")];
    assert_eq!(opened_by(&replies), PASSIVE);
    assert_eq!(opened_by(&[(Original, "TYPE I\r\nPORT 192,0,2,7,156,65\r\n")]), ACTIVE);
}

#[test]
fn port_and_227_as_the_first_line_of_their_direction_are_not_missed() {
    let [client, server] = [CLIENT, SERVER].map(|host| host.parse().unwrap());
    let joined = || Conversation::new(client, server, Beginning::Missed, Arc::default());
    let mut active = joined();
    active.segment(Original, 1, b"PORT 192,0,2,7,156,65\r\n");
    active.segment(Reply, 1, b"200 ok\r\n");
    assert_eq!(active.hole().map(|hole| hole.dport), ACTIVE);
    let mut passive = joined();
    passive.segment(Original, 1, b"PASV\r\n");
    passive.segment(Reply, 1, b"227 (198,51,100,1,156,65)\r\n");
    assert_eq!(passive.hole().map(|hole| hole.dport), PASSIVE);
}

#[test]
fn another_hosts_address_is_refused_and_told() {
    let mut session = Session::logged_in();
    session.say(Original, "PORT 203,0,113,9,156,65\r\n");
    assert_eq!(session.port(), None);
    assert!(session.told("names another host 203.0.113.9"));
}

#[test]
fn privileged_ports_are_refused_and_told() {
    for port in ["0,21", "0,22", "3,255"] {
        let mut session = Session::logged_in();
        session.say(Original, &format!("PORT 192,0,2,7,{port}\r\n"));
        assert_eq!(session.port(), None);
        assert!(session.told("privileged port"));
    }
}

#[test]
fn a_227_without_pasv_opens_nothing() {
    let mut session = Session::logged_in();
    session.say(Reply, "227 (198,51,100,1,156,65)\r\n");
    assert_eq!(session.port(), None);
    assert!(session.told("answers no PASV"));
}

#[test]
fn port_before_login_opens_nothing_unless_the_server_accepts_it() {
    for (reply, port) in [("530 log in\r\n", None), ("200 ok\r\n", ACTIVE)] {
        let mut session = Session::greeted();
        session.say(Original, "PORT 192,0,2,7,156,65\r\n");
        assert_eq!(session.port(), None);
        session.say(Reply, reply);
        assert_eq!(session.port(), port);
    }
}

#[test]
fn port_answered_with_500_is_closed() {
    let lines = [(Original, "PORT 192,0,2,7,156,65\r\n"), (Reply, "500 no\r\n")];
    assert_eq!(opened_by(&lines), None);
}

#[test]
fn numbers_do_not_wrap() {
    for command in [
        "PORT 192,0,2,7,412,65\r\n",
        "PORT 192,0,2,7,156,321\r\n",
        "PORT 192,0,2,263,156,65\r\n",
        "EPRT |1|192.0.2.7|105537|\r\n",
    ] {
        let mut session = Session::logged_in();
        session.say(Original, command);
        assert_eq!(session.port(), None, "{command}");
        assert!(session.told("number above"), "{command}");
    }
}

#[test]
fn auth_tls_is_told() {
    let mut session = Session::greeted();
    session.say(Original, "AUTH TLS\r\n");
    let reply = b"234 go on\r\n";
    let actions = session.conversation.segment(Reply, session.next[1], reply);
    assert_eq!(actions.as_slice(), [Action::Encrypted]);
}

#[test]
fn a_hole_does_not_outlive_its_control_connection() {
    let mut session = Session::logged_in();
    session.say(Original, "PORT 192,0,2,7,156,65\r\n");
    let hole = session.conversation.hole().unwrap();
    assert_eq!(session.conversation.ended().as_slice(), [Action::Close(hole)]);
}

/// A helper that was away for a while: what passed unread is acknowledged by the
/// reply to it, and the next command counts.
#[test]
fn commands_that_passed_unread_do_not_end_the_following() {
    let mut session = Session::logged_in();
    session.next[Original.index()] += "NOOP\r\nTYPE I\r\n".len() as u32;
    session.next[Reply.index()] += "200 ok\r\n200 ok\r\n".len() as u32;
    for (direction, other, text) in [
        (Original, Reply, "NOOP\r\n"),
        (Reply, Original, "200 ok\r\n"),
        (Original, Reply, "PASV\r\n"),
        (Reply, Original, "227 ok (198,51,100,1,156,65)\r\n"),
    ] {
        let seen = session.next[other.index()];
        session.conversation.acknowledged(direction, seen);
        session.say(direction, text);
    }
    assert_eq!(session.port(), PASSIVE);
}
