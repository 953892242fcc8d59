//! A gateway under a flood of SYNs, with established and with new connections beside it.
//!
//! ```text
//!   client                          gateway                 server
//!   flood        10.128.0.0/9 ──►                      ──►  198.51.100.78
//!   established  10.1.0.0/16  ◄─► eth0         eth1    ◄─►  198.51.100.77
//!   newcomers    10.2.0.0/16  ◄─►                      ◄─►  198.51.100.77
//! ```
//!
//! All addresses but the gateway's are ghosts: no kernel answers for them. Nothing is in
//! time here: what comes when is counted in SYNs of the flood.

mod burst;
mod caller;
mod limit;
mod siege;
mod site;
mod syns;

pub use burst::Burst;
pub use caller::{Caller, ESTABLISHED, NEWCOMERS};
pub use limit::ConntrackMax;
pub use siege::{Course, Plan, Siege};
pub use site::Site;
pub use syns::Syns;
