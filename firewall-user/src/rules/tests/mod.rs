//! Tests that see the whole pipeline: printed forms against those of iptables,
//! messages, round trips, and compiled rules against a plain interpreter.

mod classifier;
mod differential;
mod extra;
mod field;
mod fixtures;
mod interpreter;
mod limits;
mod mangle;
mod messages;
mod nat;
mod patch;
mod random;
mod robustness;
mod sets;
mod shadowed;
mod synproxy;
