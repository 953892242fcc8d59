//! Whole networks in namespaces: what the scenarios are built from.
//!
//! ```text
//!   client                gateway                 server
//!   eth0 ───────────── eth0     eth1 ───────────── eth0
//!   192.0.2.2          192.0.2.1                   198.51.100.2
//!                               198.51.100.1
//!   2001:db8:1::2      2001:db8:1::1               2001:db8:2::2
//!                               2001:db8:2::1
//! ```
//!
//! Everything is a guard: namespaces, processes, pinned directories and files are
//! gone when their owner is dropped, also after a panic. Waiting is for something
//! that becomes true, with a deadline ([`wait`]); nothing sleeps to be in time.

pub mod capability;
pub mod client;
pub mod command;
pub mod configuration;
pub mod control;
pub mod conversation;
pub mod exchange;
pub mod files;
pub mod firewall;
pub mod flood;
pub mod foreign;
pub mod ledger;
pub mod meeting;
pub mod model;
pub mod netns;
pub mod oracle;
pub mod packet;
pub mod recorder;
pub mod retrieval;
pub mod rough_link;
pub mod server;
pub mod stats;
pub mod topology;
pub mod translation;
pub mod tun;
pub mod wait;
pub mod wire;

pub use configuration::Configuration;
pub use firewall::Firewall;
pub use netns::Netns;
pub use recorder::Recorder;
pub use rough_link::RoughLink;
pub use topology::{Family, Gateway, Offload};
pub use translation::Translation;
pub use tun::Tun;
