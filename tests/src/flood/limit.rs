//! How many connections the kernel's own tracking holds.

use std::fs;

use anyhow::{Context as _, Result};

const PATH: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Another `nf_conntrack_max`; the one before comes back on drop. It holds for all
/// namespaces of the machine: only the first one's can be written.
#[derive(Debug)]
pub struct ConntrackMax {
    before: String,
}

impl ConntrackMax {
    /// # Errors
    /// When the setting cannot be read or written.
    pub fn set(entries: u32) -> Result<Self> {
        let before = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
        fs::write(PATH, entries.to_string()).with_context(|| format!("cannot write {PATH}"))?;
        Ok(Self { before })
    }
}

impl Drop for ConntrackMax {
    fn drop(&mut self) {
        if let Err(error) = fs::write(PATH, &self.before) {
            eprintln!("{PATH} stays changed: {error}; it was {}", self.before.trim());
        }
    }
}
