//! The lists of `-m recent`, read and changed by hand.

use anyhow::{Context, Result};
use bytemuck::Zeroable;
use firewall_common::{
    addr::Addr,
    extra::recent::{RecentEntry, RecentKey, tick},
};

use super::maps::{Maps, get, insert, now, remove};

impl Maps {
    /// The entries of all lists.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn recent(&self) -> Result<Vec<(RecentKey, RecentEntry)>> {
        self.entries("recent")
    }

    /// Notes that an address has been seen now.
    ///
    /// # Errors
    /// When the map cannot be changed.
    pub fn add_recent(&self, list: u64, address: Addr) -> Result<()> {
        let mut map = self.hash::<RecentKey, RecentEntry>("recent")?;
        let key = RecentKey { list, address };
        let known = get(&map, &key)?;
        let mut entry = known.unwrap_or_else(RecentEntry::zeroed);
        entry.note(tick(now()), entry.ttl);
        insert(&mut map, key, entry).context("cannot write map recent")
    }

    /// `false` when the address was not there.
    ///
    /// # Errors
    /// When the map cannot be changed.
    pub fn remove_recent(&self, list: u64, address: Addr) -> Result<bool> {
        remove(&mut self.hash::<RecentKey, RecentEntry>("recent")?, RecentKey { list, address })
    }

    /// Empties a list.
    ///
    /// # Errors
    /// When the map cannot be changed.
    pub fn flush_recent(&self, list: u64) -> Result<()> {
        let mut map = self.hash::<RecentKey, RecentEntry>("recent")?;
        for (key, _) in self.recent()? {
            if key.list == list {
                remove(&mut map, key)?;
            }
        }
        Ok(())
    }
}
