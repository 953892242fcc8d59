//! Datagrams of IPv6 behind extension headers (RFC 8200 section 4).

use super::{Scenario, scenario};
use crate::{
    oracle::Talk,
    wire::End::{self, Client, Server},
};

const HOP_BY_HOP: u8 = 0;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const NONE: u8 = 59;
const DESTINATION: u8 = 60;

/// What stands behind the number of the next header in 8 bytes of padding.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
/// Type 4 with no segments left and no address.
const NO_ROUTE: [u8; 7] = [0, 4, 0, 0, 0, 0, 0];
/// Sixteen bytes with a number of the association, one of the packet, and no proof.
const NO_PROOF: [u8; 15] = [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0];

/// Ports as a place has them, length 12, no checksum, four bytes.
const fn datagram(from: End) -> [u8; 12] {
    match from {
        Client => [0x9c, 0x40, 0x13, 0x88, 0, 12, 0, 0, 1, 2, 3, 4],
        Server => [0x13, 0x88, 0x9c, 0x40, 0, 12, 0, 0, 1, 2, 3, 4],
    }
}

/// A datagram behind headers, each with its number and what follows the next one's.
fn behind(talk: &mut Talk, from: End, headers: &[(u8, &[u8])]) {
    let numbers = headers.iter().map(|(number, _)| *number).skip(1).chain([UDP]);
    let bytes = headers.iter().zip(numbers);
    let mut bytes: Vec<u8> =
        bytes.flat_map(|((_, rest), next)| [&[next][..], rest].concat()).collect();
    bytes.extend(datagram(from));
    let first = headers.first().map_or(UDP, |(number, _)| *number);
    talk.other(from, first, &bytes);
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("each alone, both ways", |talk| {
        let headers: [(u8, &[u8]); 4] = [
            (HOP_BY_HOP, &PADDING),
            (DESTINATION, &PADDING),
            (ROUTING, &NO_ROUTE),
            (AUTHENTICATION, &NO_PROOF),
        ];
        for header in headers {
            behind(talk, Client, &[header]);
            behind(talk, Server, &[header]);
        }
    }),
    scenario("one behind the other", |talk| {
        let chain: [(u8, &[u8]); 4] = [
            (HOP_BY_HOP, &PADDING),
            (DESTINATION, &PADDING),
            (ROUTING, &NO_ROUTE),
            (DESTINATION, &PADDING),
        ];
        behind(talk, Client, &chain);
        behind(talk, Server, &chain);
        talk.other(Client, UDP, &datagram(Client));
    }),
    scenario("no next header", |talk| {
        talk.other(Client, NONE, &[]);
        talk.other(Client, NONE, &[1, 2, 3, 4]);
        talk.other(Client, DESTINATION, &[&[NONE][..], &PADDING].concat());
    }),
    scenario("a header that is cut off, and one that is longer than the packet", |talk| {
        talk.other(Client, DESTINATION, &[UDP, 0, 1]);
        talk.other(Client, DESTINATION, &[UDP, 9, 1, 4, 0, 0, 0, 0]);
    }),
];
