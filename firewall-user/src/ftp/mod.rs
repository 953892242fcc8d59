//! FTP control connections: what they negotiate, and the holes that this needs.
//!
//! Three layers, and none knows its neighbour's matter:
//! - [`stream`] puts the segments of one direction in order and cuts lines
//!   (RFC 9293; knows no FTP),
//! - [`parse`] reads one line as a command or as a part of a reply (RFC 959,
//!   2228, 2428; knows no flows),
//! - [`dialogue`] decides what was negotiated (knows no bytes).
//!
//! [`Conversation`] joins them for one control connection. There is no I/O and
//! no clock here: whoever holds the segments hands them in, applies the
//! [actions](crate::helper::Action) that come out, and only then sends the segment on. A segment is
//! never changed and never refused: what is not understood opens nothing.

mod conversation;
pub mod dialogue;
mod note;
pub mod parse;
mod policy;
mod port_range;
pub mod stream;

#[cfg(test)]
mod tests;

pub use conversation::Conversation;
pub use note::{Announcement, Note};
pub use policy::{Network, NetworkError, Policy, Refusal};
pub use port_range::{PortRange, PortRangeError};
