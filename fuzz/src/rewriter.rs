//! Any text as what two hosts say behind NAT, sent in any pieces over a network that loses,
//! repeats and delays them: each gets the same bytes at the same places of its stream whatever
//! happens, in the end all of them, and its peer learns that they have arrived. What is read
//! does not depend on the network, and no tracker on the way finds a segment INVALID.
//!
//! Four bytes are the first sequence number, whose bits say whether segments are judged and how
//! much room the receivers have; the next says how many segments are sent before everything is
//! sent in order; three bytes say of each where it begins, how long it is, and what becomes of it;
//! the rest is the text. The server says the lines that begin with `<`, each when everything
//! before it has arrived.

use std::net::IpAddr;

use firewall_common::flow::Direction;
use firewall_user::{
    ftp::Conversation,
    helper::{Beginning, Hole, Names},
    testing::{Middle, Step, Talk, Told},
};

/// Longer texts only take longer.
const MAX_TEXT: usize = 2_000;
/// Begins a line of the server's.
const SERVER: u8 = b'<';

pub fn rewriter(data: &[u8]) {
    let Some((first, rest)) = data.split_first_chunk() else { return };
    let Some((count, rest)) = rest.split_first() else { return };
    let Some((steps, text)) = rest.split_at_checked(usize::from(*count) * 3) else { return };
    let text = &text[..text.len().min(MAX_TEXT)];
    let turns = turns(text);
    let first = u32::from_le_bytes(*first);
    // An odd number has its segments judged, which takes its time.
    let is_tracked = first & 1 != 0;
    let undisturbed = converse(first, is_tracked, &[], &turns);
    let disturbed = converse(first, is_tracked, steps, &turns);
    assert_eq!(disturbed, undisturbed, "what is lost decides what is read");
    let untold = disturbed.told.iter().find(|told| !told.stands);
    assert_eq!(untold, None, "what is announced is told");
}

/// Who says what, one after another.
fn turns(text: &[u8]) -> Vec<(Direction, Vec<u8>)> {
    let mut turns: Vec<(Direction, Vec<u8>)> = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (direction, line) = match line.split_first() {
            Some((&SERVER, line)) => (Direction::Reply, line),
            _ => (Direction::Original, line),
        };
        match turns.last_mut().filter(|(last, _)| *last == direction) {
            Some((_, turn)) => turn.extend(line),
            None => turns.push((direction, line.to_vec())),
        }
    }
    turns
}

/// What has come of it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    heard: [Vec<u8>; 2],
    told: Vec<Told>,
    /// After each turn.
    holes: Vec<Option<Hole>>,
}

fn converse(first: u32, is_tracked: bool, steps: &[u8], turns: &[(Direction, Vec<u8>)]) -> Outcome {
    let mut talk = Talk::new(gateway(), [first, !first]).with_room(room(first));
    if is_tracked {
        talk = talk.tracked();
    }
    talk.say(Direction::Reply, b"220 ready\r\n", &mut std::iter::empty());
    let mut steps = steps.chunks_exact(3).map(step);
    let mut holes = Vec::new();
    for (direction, text) in turns {
        talk.say(*direction, text, &mut steps);
        holes.push(talk.middle().hole());
    }
    talk.end();
    let heard = [Direction::Original, Direction::Reply].map(|direction| talk.heard(direction));
    Outcome { heard, told: talk.middle().told().to_vec(), holes }
}

/// Of client and server: every second number leaves them less than a text may grow by.
fn room(first: u32) -> [usize; 2] {
    if first & 2 == 0 {
        return [usize::MAX; 2];
    }
    [first >> 8, first >> 16].map(|bits| 1 + (bits & 127) as usize)
}

fn step(bytes: &[u8]) -> Step {
    Step { ahead: bytes[0] as isize - 128, len: bytes[1].into(), fate: bytes[2] }
}

/// Between two hosts that know each other by other names.
fn gateway() -> Middle {
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let hosts = ["10.0.0.2", "198.51.100.2"].map(ip);
    let names = Names { client: Some(ip("203.0.113.117")), server: Some(ip("192.0.2.1")) };
    let [client, server] = hosts;
    let reader = Conversation::new(client, server, Beginning::Seen, Default::default());
    Middle::new(reader, hosts, names)
}
