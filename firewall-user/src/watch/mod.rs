//! Watching a running firewall: what its daemon tells to other processes, and how
//! they ask for it.
//!
//! Watchers connect to a socket of the instance, say what they want to hear, and
//! from then on receive [`wire::Message`]s. Each has a queue of its own; what does
//! not fit there, or did not fit into a ring of the kernel, is counted and told.

use std::path::{Path, PathBuf};

use crate::kernel::pins::Pins;

pub mod client;
pub mod ended;
pub mod wire;

/// Where watchers of an instance connect.
pub fn socket_path(pins: &Pins) -> PathBuf {
    let name: String = pins
        .root()
        .to_string_lossy()
        .trim_start_matches('/')
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .collect();
    Path::new("/run/firewall").join(format!("{name}.sock"))
}
