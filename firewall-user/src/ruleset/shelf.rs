//! The sets that rules find when they come into force: those that are there, or others that
//! come with them.

use std::{collections::HashMap, fs::File as Directory, time::Duration};

use anyhow::Result;
use firewall_common::set::SLOTS;
use nix::fcntl::Flock;

use crate::{
    kernel::{maps::Maps, sets::SetTables},
    rules::Compiled,
    sets::{File, Replacement},
};

/// Sets that nobody else changes while this is there.
#[derive(Debug)]
pub struct Shelf<'m> {
    maps: &'m Maps,
    /// What comes with the rules.
    new: Option<Replacement>,
    /// Whether that stands beside the old sets, and does not count yet.
    is_put: bool,
    /// The lock.
    _lock: Option<Flock<Directory>>,
}

impl<'m> Shelf<'m> {
    /// Waits for the lock of sets, and reads what comes. The caller holds that of the
    /// ruleset.
    ///
    /// # Errors
    /// What is wrong with the file, a trial that is under way, or what the maps said.
    pub fn take(maps: &'m Maps, file: Option<&File>) -> Result<Self> {
        // What a trial has left is cleared away under the same lock.
        maps.refuse_trial()?;
        maps.end_trial()?;
        let lock = maps.pins().lock_sets()?;
        let tables = SetTables::of(maps);
        tables.settle()?;
        let new = match file {
            Some(file) => Some(Replacement::read(&tables, file)?),
            None => None,
        };
        Ok(Self { maps, new, is_put: false, _lock: lock })
    }

    /// Whether no other sets come.
    pub fn is_as_before(&self) -> bool {
        self.new.as_ref().is_none_or(Replacement::is_empty)
    }

    /// Gives the sets that the rules name their slots; gives how many rules name each.
    ///
    /// # Errors
    /// Each set that is not there, with the rule that names it.
    pub fn bind(&self, compiled: &mut Compiled) -> Result<Vec<u32>> {
        bind(self.maps, self.new.as_ref(), compiled)
    }

    /// Puts the sets that come beside the old ones.
    ///
    /// # Errors
    /// What the kernel said, or that there is no room.
    pub fn put(&mut self) -> Result<()> {
        let Some(new) = self.new.as_mut().filter(|new| !new.is_empty()) else { return Ok(()) };
        self.is_put = true;
        new.put()
    }

    /// The rules that know the new sets are in force: the others go, unless they may come
    /// back.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn settle(mut self, trial: Option<Duration>) -> Result<()> {
        self.is_put = false;
        if trial.is_some() { Ok(()) } else { SetTables::of(self.maps).settle() }
    }
}

impl Drop for Shelf<'_> {
    /// The new rules did not come: nor do their sets.
    fn drop(&mut self) {
        if self.is_put
            && let Err(error) = SetTables::of(self.maps).settle()
        {
            tracing::error!("sets that came to nothing are still there: {error:#}");
        }
    }
}

/// As [`Shelf::bind`], of sets that are only looked at.
///
/// # Errors
/// As there.
pub fn bind(maps: &Maps, new: Option<&Replacement>, compiled: &mut Compiled) -> Result<Vec<u32>> {
    let mut counts = vec![0; SLOTS as usize];
    if compiled.set_uses.is_empty() {
        return Ok(counts);
    }
    let names = if new.is_none() { SetTables::of(maps).names()? } else { Vec::new() };
    let slots: HashMap<_, _> = names.iter().map(|set| (set.name.as_str(), set.slot)).collect();
    let slot_of = |name: &str| match new {
        Some(new) => new.slot(name),
        None => slots.get(name).copied(),
    };
    compiled.bind(&slot_of)?;
    for slot in compiled.set_uses.iter().filter_map(|set| slot_of(&set.name)) {
        counts[slot as usize] += 1;
    }
    Ok(counts)
}
