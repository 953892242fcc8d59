//! What people and scripts read: flows, expectations, counters, events, status.
//!
//! Everything here turns a value into text: as conntrack(8), the kernel's log or
//! a plain table print it, or as one JSON object to a line. No line ends in a
//! newline; nothing here asks the kernel or the clock.

pub mod event;
pub mod expectation;
pub mod flow;
pub(crate) mod frame;
pub mod gauge;
pub mod helper_event;
pub mod helper_stats;
pub(crate) mod json;
pub mod line;
pub mod log_line;
pub mod lost;
pub(crate) mod protocol;
pub mod recent;
pub mod settings;
pub mod state;
pub mod stats;
pub mod status;
pub(crate) mod time;

#[cfg(test)]
pub(crate) mod fixtures;
