//! The user side of the firewall.

pub mod cli;
pub mod commands;
pub mod compat;
pub mod config;
pub mod daemon;
pub mod explain;
pub mod ftp;
pub mod helper;
pub mod kernel;
pub mod listing;
pub mod log;
pub mod names;
pub mod netlink;
pub mod notify;
pub mod preflight;
pub mod pressure;
pub mod role;
pub mod rules;
pub mod ruleset;
pub mod session;
pub mod sets;
pub mod settings;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tftp;
pub mod watch;
pub mod why;
