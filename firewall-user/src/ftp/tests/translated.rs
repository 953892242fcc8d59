//! Every written conversation through a gateway that translates: cut anywhere, each side reads
//! what was meant for it, and what opens does not depend on the cuts.

use std::net::IpAddr;

use firewall_common::{flow::Direction, shift::edit};

use super::{fixtures, numbers::Numbers, script::Case};
use crate::{
    helper::{Hole, Names, Reader as _},
    testing::{Middle, Step, Talk},
};

/// Cuts of all conversations together, in each arrangement.
const CUTS: usize = 10_000;
const CUTS_WITH_FULL: usize = 1_000_000;
/// Of each turn.
const MOST_CUTS: usize = 5;
const FIRST: [u32; 2] = [u32::MAX - 50, 7];
const BOTH_WAYS: [Direction; 2] = [Direction::Original, Direction::Reply];

/// The names of client and server in each family.
const IPV4: [&str; 2] = ["203.0.113.117", "192.0.2.200"];
const IPV6: [&str; 2] = ["2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", "2001:db8::ffff"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrangement {
    Masqueraded,
    Forwarded,
    Both,
}

impl Arrangement {
    const ALL: [Self; 3] = [Self::Masqueraded, Self::Forwarded, Self::Both];

    fn names(self, case: &Case) -> Names {
        let [client, _] = case.hosts();
        let [client, server]: [IpAddr; 2] =
            if client.is_ipv4() { IPV4 } else { IPV6 }.map(|name| name.parse().unwrap());
        Names {
            client: (self != Self::Forwarded).then_some(client),
            server: (self != Self::Masqueraded).then_some(server),
        }
    }

    fn talk(self, case: &Case) -> Talk {
        Talk::new(Middle::new(case.conversation(), case.hosts(), self.names(case)), FIRST)
    }
}

/// Plays a conversation whose turns come in pieces; gives the hole after each turn.
fn play(
    case: &Case,
    arrangement: Arrangement,
    numbers: &mut Numbers,
    cuts: usize,
) -> Vec<Option<Hole>> {
    let mut talk = arrangement.talk(case);
    let mut holes = Vec::new();
    for (direction, text) in case.turns() {
        let pieces = numbers.pieces(&text, cuts);
        let mut steps = pieces.iter().map(|piece| Step { len: piece.len(), ..Step::default() });
        talk.say(direction, &text, &mut steps);
        let hole = talk.middle().hole();
        let is_known = hole.is_none_or(|hole| talk.middle().is_told(hole));
        assert!(is_known, "{}, {arrangement:?}: {hole:?} is not told", case.title);
        holes.push(hole);
    }
    talk.end();
    for direction in BOTH_WAYS {
        let [heard, wanted] = [talk.heard(direction), spliced(&talk, direction)]
            .map(|text| text.escape_ascii().to_string());
        assert_eq!(heard, wanted, "{}, {arrangement:?}, {direction:?}", case.title);
    }
    holes
}

/// What a direction's receiver should have: all that was said, with what was told in the places
/// of what was announced.
fn spliced(talk: &Talk, direction: Direction) -> Vec<u8> {
    let (said, first) = (talk.said(direction), FIRST[direction.index()]);
    let (mut wanted, mut at) = (Vec::new(), 0);
    let told = talk.middle().told().iter();
    for told in told.filter(|told| told.stands && told.direction == direction) {
        let start = told.place.at.wrapping_sub(first) as usize;
        wanted.extend(&said[at..start]);
        wanted.extend(&told.text);
        at = start + usize::from(told.place.len);
    }
    wanted.extend(&said[at..]);
    // The beginning of an announcement that has no end is not told to anybody.
    let last = talk.middle().shift(direction).edits().last();
    let withheld = last.filter(|it| it.has(edit::WITHHELD)).map_or(0, |it| it.text().len());
    wanted.truncate(wanted.len() - withheld);
    wanted
}

fn plain() -> Vec<Case> {
    let plain = fixtures::all().into_iter().map(|(_, case)| case).filter(Case::is_plain);
    plain.collect()
}

#[test]
fn cut_anywhere_a_translated_conversation_opens_the_same_and_loses_no_byte() {
    let cases = plain();
    let is_full = std::env::var("FIREWALL_FULL").as_deref() == Ok("1");
    let all = if is_full { CUTS_WITH_FULL } else { CUTS };
    let (mut cuts, mut opened) = (0, 0);
    for arrangement in Arrangement::ALL {
        for case in &cases {
            let mut numbers = Numbers::default();
            let whole = play(case, arrangement, &mut numbers, 0);
            opened += whole.iter().flatten().count();
            let turns = case.turns().len();
            for each in (1..=MOST_CUTS).cycle().take(all.div_ceil(cases.len() * turns)) {
                let cut = play(case, arrangement, &mut numbers, each);
                assert_eq!(cut, whole, "{}, {arrangement:?}", case.title);
                cuts += turns * each;
            }
        }
    }
    assert!(cuts >= all * Arrangement::ALL.len() && opened > 300, "{cuts} cuts, {opened} open");
}

/// The hole as it is known on the client's link (0) or the server's (1).
fn seen_from(link: usize, middle: &Middle, hole: Hole) -> Hole {
    let [client, server] = middle.hosts();
    let Names { client: clients_name, server: servers_name } = middle.names();
    let ends = match link {
        0 => [client, servers_name.unwrap_or(server)],
        _ => [clients_name.unwrap_or(client), server],
    };
    let (src, dst, is_told) = match hole.dst == client {
        true => (ends[1], ends[0], link == 1),
        false => (ends[0], ends[1], link == 0),
    };
    let told = middle.endpoint(hole).filter(|_| is_told);
    Hole { src, dst, dport: told.map_or(hole.dport, |told| told.port()), ..hole }
}

/// Whoever reads along on one of the links, as another firewall does, opens what the gateway
/// opens: with the addresses that are known there, and the ports that were told there.
#[test]
fn who_reads_along_on_either_side_opens_the_same_as_it_is_known_there() {
    let cases = plain().into_iter().filter(Case::is_strict);
    let mut opened = 0;
    for (case, arrangement) in cases.flat_map(|case| Arrangement::ALL.map(|it| (case.clone(), it)))
    {
        let mut talk = arrangement.talk(&case);
        let [client, server] = talk.middle().hosts();
        let Names { client: clients_name, server: servers_name } = talk.middle().names();
        let mut readers =
            [[client, servers_name.unwrap_or(server)], [clients_name.unwrap_or(client), server]]
                .map(|hosts| case.conversation_between(hosts));
        let mut heard = [0, 0];
        for (direction, text) in case.turns() {
            let said = talk.said(direction).len();
            talk.say(direction, &text, &mut std::iter::empty());
            let arrived = talk.heard(direction);
            let side = direction.index();
            let [near, far] = [side, 1 - side];
            readers[near].segment(direction, said as u32, &text);
            readers[far].segment(direction, heard[side] as u32, &arrived[heard[side]..]);
            heard[side] = arrived.len();
            for (link, reader) in readers.iter().enumerate() {
                let wanted = talk.middle().hole().map(|hole| seen_from(link, talk.middle(), hole));
                assert_eq!(reader.hole(), wanted, "{}, {arrangement:?}, link {link}", case.title);
                opened += usize::from(wanted.is_some());
            }
        }
    }
    assert!(opened > 300, "only {opened}");
}
