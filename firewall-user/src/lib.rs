//! The user side of the firewall.
pub mod cli;
pub mod ftp;
pub mod kernel;
pub mod listing;
pub mod log;
pub mod netlink;
pub mod notify;
pub mod preflight;
pub mod rules;
