//! Conversations written down.
//!
//! A file holds cases, each begun by a line `== title`. A case may set
//! `client IP`, `server IP`, `start missed` or `start forgotten`, `loose NETWORK`,
//! `refuse PORTS`, `tls-range PORTS`. `C: …` and `S: …` are what the hosts send, each line in
//! one segment that ends in CR LF; behind it stands what must come of it, all of it, in
//! order: `open SRC -> DST:PORT`, `close …`, `admit SRC -> DST:PORTS`, `dismiss …`,
//! `encrypted`, `decrypted`, `note WORDS` (part of the text). `end` ends the control
//! connection. Marks within what is sent:
//! - `<cut>`: a new segment begins here,
//! - `<more>` at the end: the next line of the same side is in the same segment,
//! - `<lf>` at the end: LF alone; `<none>`: no end at all,
//! - `<xNN>`: this byte,
//! - `<many N>`: N times the letter x; `<blanks N>`: N blanks,
//! - `<repeat N LINE>`: N times this line,
//! - `<tls N>`: a record of TLS with N bytes in it.
//!
//! `C~:` sends its segments last first, `C=:` sends at the place of the line
//! before, as a retransmission does; what `C?:` sends passes by unread, and the other
//! side acknowledges it; what `C!:` sends is lost, and the other side acknowledges it all the same.

use std::{collections::BTreeSet, fmt, net::IpAddr, sync::Arc};

use firewall_common::flow::Direction;

use crate::{
    ftp::{Conversation, Policy},
    helper::{Action, Actions, Beginning, Hole, Passage, Reader as _},
};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Send { direction: Direction, order: Order, text: Vec<Vec<u8>> },
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Forward,
    Backward,
    /// At the sequence number of the former line.
    Again,
    /// It passes by unread, and is acknowledged.
    Unread,
    /// It does not get there, and is acknowledged.
    Lost,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { direction, order, text } => {
                write!(f, "{direction:?} {order:?} {}", text.concat().escape_ascii())
            }
            Self::End => f.write_str("the end"),
        }
    }
}

/// One conversation and what must come of each step.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) title: String,
    client: String,
    server: String,
    pub(super) beginning: Beginning,
    policy: Policy,
    pub(super) steps: Vec<(Step, Vec<String>)>,
}

impl Case {
    fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            client: "192.0.2.7".to_owned(),
            server: "198.51.100.1".to_owned(),
            beginning: Beginning::Seen,
            policy: Policy::default(),
            steps: Vec::new(),
        }
    }

    /// Client and server.
    pub(super) fn hosts(&self) -> [IpAddr; 2] {
        [&self.client, &self.server].map(|host| host.parse().unwrap())
    }

    pub(super) fn conversation(&self) -> Conversation {
        self.conversation_between(self.hosts())
    }

    /// The same one, of other hosts.
    pub(super) fn conversation_between(&self, [client, server]: [IpAddr; 2]) -> Conversation {
        Conversation::new(client, server, self.beginning, Arc::new(self.policy.clone()))
    }

    /// Whether it is made of plain lines, which any segmentation preserves.
    pub(super) fn is_plain(&self) -> bool {
        self.steps.iter().all(|(step, _)| match step {
            Step::Send { order, .. } => *order == Order::Forward,
            Step::End => true,
        })
    }

    /// Whether its first segments may come in any order: its start is known, and what
    /// it is does not show in the first of them alone, as TLS does.
    pub(super) fn may_reorder(&self) -> bool {
        let is_text = |(_, text): &(Direction, Vec<u8>)| {
            !text.first().is_some_and(|first| (20..=23).contains(first))
        };
        self.beginning == Beginning::Seen && self.turns().first().is_none_or(is_text)
    }

    /// Whether no host may name another.
    pub(super) fn is_strict(&self) -> bool {
        self.policy.loose.is_empty()
    }

    pub(super) fn is_between_its_hosts(&self, hole: Hole) -> bool {
        let [client, server] = self.hosts();
        [(client, server), (server, client)].contains(&(hole.src, hole.dst))
    }

    /// What one direction says before the other does, joined.
    pub(super) fn turns(&self) -> Vec<(Direction, Vec<u8>)> {
        let mut turns: Vec<(Direction, Vec<u8>)> = Vec::new();
        for (step, _) in &self.steps {
            let Step::Send { direction, text, .. } = step else { continue };
            match turns.last_mut().filter(|(last, _)| last == direction) {
                Some((_, turn)) => turn.extend(text.concat()),
                None => turns.push((*direction, text.concat())),
            }
        }
        turns
    }
}

/// A connection whose holes are kept as the map would keep them.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) conversation: Conversation,
    next: [u32; 2],
    former: [u32; 2],
    map: BTreeSet<Hole>,
    passage: Option<Passage>,
}

impl Wire {
    pub(super) fn new(case: &Case, isn: [u32; 2]) -> Self {
        let mut conversation = case.conversation();
        if case.beginning == Beginning::Seen {
            conversation.starts_at(Direction::Original, isn[0]);
            conversation.starts_at(Direction::Reply, isn[1]);
        }
        Self { conversation, next: isn, former: isn, map: BTreeSet::new(), passage: None }
    }

    pub(super) fn step(&mut self, step: &Step) -> Vec<Action> {
        let Step::Send { direction, order, text } = step else {
            let actions = self.conversation.ended();
            return self.apply(actions);
        };
        let side = direction.index();
        if *order == Order::Again {
            self.next[side] = self.former[side];
        }
        self.former[side] = self.next[side];
        let mut segments = Vec::new();
        for segment in text {
            segments.push((self.next[side], segment));
            self.next[side] = self.next[side].wrapping_add(segment.len() as u32);
        }
        if *order == Order::Lost {
            self.conversation.doubt();
        }
        if matches!(order, Order::Unread | Order::Lost) {
            let receiver = direction.reversed();
            let actions = self.conversation.acknowledged(receiver, self.next[side]);
            return self.apply(actions);
        }
        if *order == Order::Backward {
            segments.reverse();
        }
        segments
            .into_iter()
            .flat_map(|(seq, segment)| self.segment(*direction, seq, segment))
            .collect()
    }

    pub(super) fn segment(
        &mut self,
        direction: Direction,
        seq: u32,
        payload: &[u8],
    ) -> Vec<Action> {
        let actions = self.conversation.segment(direction, seq, payload);
        assert!(self.conversation.memory() <= Conversation::MAX_MEMORY);
        self.apply(actions)
    }

    /// The map holds what the conversation says, after every segment.
    fn apply(&mut self, actions: Actions) -> Vec<Action> {
        for action in &actions {
            match action {
                Action::Open(hole) => assert!(self.map.insert(*hole), "{hole} was open"),
                Action::Close(hole) => assert!(self.map.remove(hole), "{hole} was not open"),
                Action::Admit(passage) => assert_eq!(self.passage.replace(*passage), None),
                Action::Dismiss(passage) => assert_eq!(self.passage.take(), Some(*passage)),
                Action::Encrypted | Action::Decrypted | Action::Note(_) => {}
            }
        }
        assert_eq!(self.map.iter().copied().next(), self.conversation.hole());
        assert!(self.map.len() <= 1);
        actions.into_iter().collect()
    }
}

/// Reads a file of cases.
pub(super) fn cases(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut joined: Option<Vec<u8>> = None;
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix("== ") {
            cases.push(Case::new(title));
            continue;
        }
        let case = cases.last_mut().expect("a case begins with == title");
        statement(case, line, &mut joined);
    }
    cases
}

fn statement(case: &mut Case, line: &str, joined: &mut Option<Vec<u8>>) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "C:" => send(case, Direction::Original, Order::Forward, rest, joined),
        "C~:" => send(case, Direction::Original, Order::Backward, rest, joined),
        "C=:" => send(case, Direction::Original, Order::Again, rest, joined),
        "C?:" => send(case, Direction::Original, Order::Unread, rest, joined),
        "C!:" => send(case, Direction::Original, Order::Lost, rest, joined),
        "S!:" => send(case, Direction::Reply, Order::Lost, rest, joined),
        "S?:" => send(case, Direction::Reply, Order::Unread, rest, joined),
        "S:" => send(case, Direction::Reply, Order::Forward, rest, joined),
        "S~:" => send(case, Direction::Reply, Order::Backward, rest, joined),
        "S=:" => send(case, Direction::Reply, Order::Again, rest, joined),
        "client" => case.client = rest.to_owned(),
        "server" => case.server = rest.to_owned(),
        "start" if rest == "missed" => case.beginning = Beginning::Missed,
        "start" if rest == "forgotten" => case.beginning = Beginning::Forgotten,
        "loose" => case.policy.loose.push(rest.parse().unwrap()),
        "refuse" => case.policy.refused_ports.push(rest.parse().unwrap()),
        "tls-range" => case.policy.tls_passive_range = Some(rest.parse().unwrap()),
        "end" => case.steps.push((Step::End, Vec::new())),
        "open" | "close" | "admit" | "dismiss" | "encrypted" | "decrypted" | "note" => {
            case.steps.last_mut().expect("something was sent").1.push(line.to_owned());
        }
        _ => panic!("{}: {line}", case.title),
    }
}

fn send(
    case: &mut Case,
    direction: Direction,
    order: Order,
    line: &str,
    joined: &mut Option<Vec<u8>>,
) {
    let mut text = vec![joined.take().unwrap_or_default()];
    let has_more = write(line, &mut text);
    if has_more {
        *joined = Some(text.concat());
    } else {
        case.steps.push((Step::Send { direction, order, text }, Vec::new()));
    }
}

/// Writes a line with its marks; whether it is to be joined with the next.
fn write(line: &str, segments: &mut Vec<Vec<u8>>) -> bool {
    let (line, has_more) = line.strip_suffix("<more>").map_or((line, false), |line| (line, true));
    let (line, end) = match (line.strip_suffix("<lf>"), line.strip_suffix("<none>")) {
        (Some(line), _) => (line, "\n"),
        (None, Some(line)) => (line, ""),
        (None, None) => (line, "\r\n"),
    };
    let line = format!("{line}{end}");
    let mut rest = line.as_str();
    while let Some((text, marked)) = rest.split_once('<') {
        let (mark, behind) = marked.split_once('>').expect("a mark ends with >");
        segments.last_mut().expect("there is always one").extend_from_slice(text.as_bytes());
        match mark {
            "cut" => segments.push(Vec::new()),
            _ => segments.last_mut().expect("there is always one").extend(bytes(mark)),
        }
        rest = behind;
    }
    segments.last_mut().expect("there is always one").extend_from_slice(rest.as_bytes());
    has_more
}

/// The bytes for which a mark stands.
fn bytes(mark: &str) -> Vec<u8> {
    let words: Vec<_> = mark.split(' ').collect();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    match words[..] {
        ["many", count] => vec![b'x'; number(count)],
        ["blanks", count] => vec![b' '; number(count)],
        ["repeat", count, ref line @ ..] => {
            format!("{}\r\n", line.join(" ")).repeat(number(count)).into_bytes()
        }
        ["tls", count] => {
            let len = u16::try_from(number(count)).expect("the length of a record");
            [&[23, 3, 3], &len.to_be_bytes()[..], &vec![b'x'; number(count)]].concat()
        }
        [byte] if byte.starts_with('x') => vec![u8::from_str_radix(&byte[1..], 16).unwrap()],
        _ => panic!("unknown mark <{mark}>"),
    }
}
