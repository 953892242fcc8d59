//! Two gateways side by side, one with nf_conntrack and one with the firewall, and
//! the hands that play scripts through both.

mod clock;
mod crossing;
mod datagram;
mod gateway;
mod judge;
mod listing;
mod port;
mod reference;
pub mod ruling;
mod session;
mod subject;

pub use gateway::MTU;
pub use session::{Bench, Sites};
pub use subject::Hook;
