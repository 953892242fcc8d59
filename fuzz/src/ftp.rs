//! Any bytes on a control connection, cut into any segments.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use arbitrary::{Arbitrary, Unstructured};
use firewall_common::flow::Direction;
use firewall_user::{
    ftp::{Conversation, Policy},
    helper::{Action, Actions, Beginning, Hole, Passage, Reader as _},
};

/// What happens on the connection.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    start_seen: bool,
    is_ipv6: bool,
    isn: [u32; 2],
    steps: Vec<Step<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// Bytes at the end of what this side has said.
    Say { from_client: bool, bytes: &'a [u8] },
    /// A line of those that matter, cut at a place.
    Line { from_client: bool, line: u8, cut: u8 },
    /// Bytes somewhere near: earlier, overlapping, or ahead.
    Out { from_client: bool, distance: i16, bytes: &'a [u8] },
    /// This side has received all up to here.
    Acknowledge { from_client: bool, distance: i16 },
    /// A record of TLS, of up to 255 bytes.
    Record { from_client: bool, len: u8 },
    /// What is buffered is lost for want of space.
    Shed,
}

/// Lines that open, answer and end negotiations; a mutation finds the rest.
const LINES: [&str; 20] = [
    "220 ready\r\n",
    "USER a\r\n",
    "331 password\r\n",
    "PASS b\r\n",
    "230 welcome\r\n",
    "PASV\r\n",
    "227 Entering Passive Mode (198,51,100,2,200,10).\r\n",
    "EPSV\r\n",
    "229 Entering Extended Passive Mode (|||51210|)\r\n",
    "PORT 192,0,2,2,200,10\r\n",
    "EPRT |2|2001:db8:1::2|51210|\r\n",
    "200 done\r\n",
    "AUTH TLS\r\n",
    "234 go ahead\r\n",
    "500 what?\r\n",
    "EPSV ALL\r\n",
    "RETR a\r\n",
    "226 done\r\n",
    "REIN\r\n",
    "227-first\n227 (10,0,0,1,0,21)\r\n",
];

pub fn ftp(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    Wire::new(&input).run(&input.steps);
}

/// The conversation and the holes that stand in the map because of it.
struct Wire {
    conversation: Conversation,
    hosts: [IpAddr; 2],
    next: [u32; 2],
    holes: BTreeSet<Hole>,
    passage: Option<Passage>,
}

impl Wire {
    fn new(input: &Input<'_>) -> Self {
        let hosts = match input.is_ipv6 {
            false => ["192.0.2.2", "198.51.100.2"],
            true => ["2001:db8:1::2", "2001:db8:2::2"],
        };
        let hosts = hosts.map(|host| host.parse().expect("an address"));
        let [client, server] = hosts;
        let tls_passive_range = "50000-50100".parse().ok();
        let policy = Arc::new(Policy { tls_passive_range, ..Policy::default() });
        let beginning = if input.start_seen { Beginning::Seen } else { Beginning::Missed };
        let conversation = Conversation::new(client, server, beginning, policy);
        Self { conversation, hosts, next: input.isn, holes: BTreeSet::new(), passage: None }
    }

    fn run(&mut self, steps: &[Step<'_>]) {
        for step in steps {
            self.step(step);
            assert!(self.conversation.memory() <= Conversation::MAX_MEMORY);
        }
        let actions = self.conversation.ended();
        self.apply(&actions);
        assert!(self.holes.is_empty(), "a hole outlived its connection");
        assert_eq!(self.passage, None, "a passage outlived its connection");
    }

    fn step(&mut self, step: &Step<'_>) {
        match *step {
            Step::Say { from_client, bytes } => self.say(side(from_client), bytes),
            Step::Line { from_client, line, cut } => {
                let line = LINES[usize::from(line) % LINES.len()].as_bytes();
                let (head, tail) = line.split_at(usize::from(cut) % line.len());
                self.say(side(from_client), head);
                self.say(side(from_client), tail);
            }
            Step::Out { from_client, distance, bytes } => {
                let direction = side(from_client);
                let seq = near(self.next[direction.index()], distance);
                let actions = self.conversation.segment(direction, seq, bytes);
                self.apply(&actions);
            }
            Step::Record { from_client, len } => {
                let record = [&[23, 3, 3, 0, len], &vec![b'P'; usize::from(len)][..]].concat();
                self.say(side(from_client), &record);
            }
            Step::Shed => self.conversation.shed(),
            Step::Acknowledge { from_client, distance } => {
                let direction = side(from_client);
                let ack = near(self.next[direction.reversed().index()], distance);
                let actions = self.conversation.acknowledged(direction, ack);
                self.apply(&actions);
            }
        }
    }

    fn say(&mut self, direction: Direction, bytes: &[u8]) {
        let next = &mut self.next[direction.index()];
        let seq = *next;
        *next = next.wrapping_add(bytes.len() as u32);
        let actions = self.conversation.segment(direction, seq, bytes);
        self.apply(&actions);
    }

    /// At most one hole stands, and only between the two hosts.
    fn apply(&mut self, actions: &Actions) {
        for action in actions {
            match action {
                Action::Open(hole) => assert!(self.holes.insert(*hole), "{hole} was open"),
                Action::Close(hole) => assert!(self.holes.remove(hole), "{hole} was not open"),
                Action::Admit(passage) => {
                    assert!(self.conversation.is_encrypted());
                    assert_eq!(self.passage.replace(*passage), None);
                }
                Action::Dismiss(passage) => assert_eq!(self.passage.take(), Some(*passage)),
                Action::Encrypted | Action::Decrypted => {}
                Action::Note(note) => assert!(!note.to_string().is_empty()),
            }
        }
        assert!(self.holes.len() <= 1);
        assert_eq!(self.holes.first().copied(), self.conversation.hole());
        let [client, server] = self.hosts;
        for hole in &self.holes {
            assert!([(client, server), (server, client)].contains(&(hole.src, hole.dst)));
            assert!(hole.dport >= 1024, "{hole}");
        }
    }
}

const fn side(from_client: bool) -> Direction {
    if from_client { Direction::Original } else { Direction::Reply }
}

const fn near(seq: u32, distance: i16) -> u32 {
    seq.wrapping_add_signed(distance as i32)
}
