//! What the JSON lines share (DESIGN.md, contracts).

use std::net::IpAddr;

use firewall_common::{
    addr::{Addr, Family},
    flow::Tuple,
};
use serde::Serialize;

/// A control connection, in its original direction.
#[derive(Clone, Debug, Serialize)]
pub struct Master {
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
}

impl Master {
    pub fn of(tuple: &Tuple) -> Self {
        Self {
            src: tuple.src.to_ip(),
            dst: tuple.dst.to_ip(),
            sport: tuple.sport,
            dport: tuple.dport,
        }
    }
}

pub const fn family(address: Addr) -> &'static str {
    match address.family() {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

/// One line.
pub fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers, texts and lists have a JSON form")
}
