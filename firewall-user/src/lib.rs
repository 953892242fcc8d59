//! The user side of the firewall.

pub mod cli;
pub mod daemon;
pub mod ftp;
pub mod kernel;
pub mod listing;
pub mod netlink;
pub mod preflight;
pub mod rules;
