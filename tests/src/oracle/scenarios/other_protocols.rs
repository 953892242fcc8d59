//! Protocols that are tracked by their addresses, or by little more.

use super::{Scenario, scenario};
use crate::wire::End::{Client, Server};

const IPIP: u8 = 4;
const DCCP: u8 = 33;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AH: u8 = 51;
const EXPERIMENT: u8 = 253;

/// DCCP-Request, -Response and -Ack with 48 bit numbers; checksums of zero.
const DCCP_REQUEST: [u8; 20] =
    [0x9c, 0x40, 0x13, 0x88, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1];
const DCCP_RESPONSE: [u8; 28] = [
    0x13, 0x88, 0x9c, 0x40, 7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1,
];

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("GRE one way", |talk| {
        talk.other(Client, GRE, &[0, 0, 8, 0, 1, 2, 3, 4]);
    }),
    scenario("GRE both ways", |talk| {
        talk.other(Client, GRE, &[0, 0, 8, 0, 1, 2, 3, 4]);
        talk.other(Server, GRE, &[0, 0, 8, 0, 1, 2, 3, 4]);
        talk.other(Client, GRE, &[0, 0, 8, 0, 1, 2, 3, 4]);
    }),
    scenario("GRE with a key, and with another", |talk| {
        talk.other(Client, GRE, &[0x20, 0, 8, 0, 0, 0, 0, 1, 9, 9]);
        talk.other(Client, GRE, &[0x20, 0, 8, 0, 0, 0, 0, 2, 9, 9]);
        talk.other(Server, GRE, &[0x20, 0, 8, 0, 0, 0, 0, 1, 9, 9]);
    }),
    scenario("the GRE of PPTP", |talk| {
        // Version 1 with key: the payload's length and the peer's call.
        talk.other(Client, GRE, &[0x20, 1, 0x88, 0x0b, 0, 4, 0, 7, 1, 2, 3, 4]);
        talk.other(Server, GRE, &[0x20, 1, 0x88, 0x0b, 0, 4, 0, 9, 1, 2, 3, 4]);
        talk.other(Client, GRE, &[0x20, 1, 0x88, 0x0b, 0, 4, 0, 7, 1, 2, 3, 4]);
    }),
    scenario("GRE that is cut off", |talk| {
        talk.other(Client, GRE, &[0x20]);
        talk.other(Client, GRE, &[0x20, 1, 0x88, 0x0b, 0, 4]);
    }),
    scenario("ESP both ways, with two numbers", |talk| {
        talk.other(Client, ESP, &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9]);
        talk.other(Server, ESP, &[0, 0, 2, 0, 0, 0, 0, 1, 9, 9, 9, 9]);
        talk.other(Client, ESP, &[0, 0, 1, 0, 0, 0, 0, 2, 9, 9, 9, 9]);
    }),
    scenario("DCCP both ways", |talk| {
        talk.other(Client, DCCP, &DCCP_REQUEST);
        talk.other(Server, DCCP, &DCCP_RESPONSE);
        talk.other(Client, DCCP, &DCCP_REQUEST);
    }),
    scenario("IP in IP", |talk| {
        talk.other(Client, IPIP, &[0x45; 40]);
        talk.other(Server, IPIP, &[0x45; 40]);
    }),
    scenario("a protocol without a name, both ways", |talk| {
        talk.other(Client, EXPERIMENT, &[1; 40]);
        talk.other(Server, EXPERIMENT, &[2; 40]);
        talk.other(Client, EXPERIMENT, &[3; 40]);
    }),
    scenario("a protocol without a name, one way and empty", |talk| {
        talk.other(Client, EXPERIMENT, &[]);
    }),
    scenario("every protocol number that has no header of its own here", |talk| {
        let known = [0, 1, 6, 17, 43, 44, 58, 59, 60, AH, 132, 135, 136, 139, 140, 255];
        for protocol in (0..=255).filter(|protocol| !known.contains(protocol)) {
            talk.other(Client, protocol, &[0; 40]);
        }
    }),
];
