//! The only part that knows aya: programs, maps and links, and where they are
//! pinned.

pub mod attach;
mod batch;
mod clock;
pub mod counters;
mod cpus;
mod families;
pub mod fill;
pub mod first_fragments;
pub mod flows;
pub mod in_force;
pub mod load;
pub mod maps;
pub mod pins;
pub(crate) mod quiescence;
mod raw;
pub mod recent;
pub mod rehearsal;
pub mod rings;
pub mod ruleset;
pub mod sets;
pub mod settings;
pub mod sweep;
mod texts;
pub mod trial;
mod types;
pub mod unread;
mod view;
pub mod workbench;
pub mod worlds;
