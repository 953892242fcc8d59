//! What the firewall decides, without I/O and without a clock.
//!
//! The kernel programs, the unit tests, the property tests and the tools run
//! these same lines. A packet comes in through [`packet::Packet`], state through
//! [`tables::Tables`], and the time as an argument; [`path::filter`] tells the
//! whole journey.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]

pub mod addr;
pub mod answer;
pub mod bench;
pub mod checksum;
pub mod classifier;
pub mod conntrack;
pub mod control;
pub mod crc32c;
pub mod event;
pub mod expectation;
pub mod extra;
pub mod flow;
pub mod flow_event;
pub mod fragment;
pub mod generation;
pub mod headers;
pub mod helper_stats;
pub mod hop;
pub mod ipv4_key;
pub mod mangle;
pub mod nat;
pub mod packet;
pub mod path;
pub mod pressure;
pub mod reject;
pub mod report;
pub mod rule;
pub mod ruleset_text;
pub mod scratch;
pub mod seq;
pub mod set;
pub mod shift;
pub mod shortcut;
pub mod synproxy;
pub mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod transport;
pub mod unread;
pub mod verdict;
pub mod walk;
pub mod wire;
