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
//! [`Action`]s that come out, and only then sends the segment on. A segment is
//! never changed and never refused: what is not understood opens nothing.

mod action;
mod conversation;
pub mod dialogue;
mod hole;
mod note;
pub mod parse;
mod policy;
pub mod stream;

#[cfg(test)]
mod tests;

pub use action::{Action, Actions};
pub use conversation::Conversation;
pub use hole::Hole;
pub use note::{Announcement, Note};
pub use policy::{Network, NetworkError, Policy, Refusal};
