//! A file of rules, and packets that its rules ask for.
//!
//! ```text
//!   RulesFile ─► staged text ─► Book ─► Wish ─► Talk ─► Draft ─► bytes
//!   (header)     (interfaces,   (rules by      (what both
//!                 rates)         chain)         ends say)
//! ```
//!
//! Nothing here knows namespaces or sockets; [`super::bench::stage`] plays what is
//! written here.

mod book;
mod draft;
mod file;
mod land;
mod staging;
mod talk;
mod wish;

pub use book::{Book, Course};
pub use draft::{Content, Draft, protocol};
pub use file::{Expected, RulesFile, read_all};
pub use land::{GROUPS_V4, GROUPS_V6, INSIDE_V4, INSIDE_V6, NEIGHBOUR, is_own, own};
pub use talk::{Speaker, Step, Talks};
pub use wish::Wish;
