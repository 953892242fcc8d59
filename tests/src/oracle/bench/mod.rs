//! Two gateways side by side, one with nf_conntrack and one with the firewall, and
//! the hands that play scripts through both.

mod arrival;
mod clock;
mod crossing;
mod datagram;
mod faces;
mod gateway;
mod host;
mod judge;
mod listing;
mod openings;
mod peer;
mod port;
mod reference;
pub mod ruling;
mod session;
pub mod stage;
mod subject;
mod tally;

pub use gateway::MTU;
pub use openings::Openings;
pub use session::{Bench, Sites};
pub use subject::Hook;
