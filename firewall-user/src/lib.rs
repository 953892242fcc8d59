//! The user side of the firewall.
pub mod daemon;
pub mod ftp;
pub mod kernel;
pub mod netlink;
pub mod rules;
