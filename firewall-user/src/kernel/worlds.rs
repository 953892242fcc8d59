//! Which sets have their names under which of the two rulesets.
//!
//! Rules name slots. Sets that come together with new rules have slots of their own, beside
//! those of the old ones with the same names: the word that makes the new rules count makes
//! the new sets count. Which of them a name means, and which a list shows, follows from the
//! ruleset in force by a bit of each slot: its *worlds*. But for the time of such a change,
//! and of a trial of it, every set is in both.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use firewall_common::{
    control::slot,
    set::{NAME, SLOTS},
};

use super::{raw::Raw, sets::SetTables, view::View};

/// The map.
const WORLDS: &str = "set_worlds";
/// Of a slot that both rulesets know.
const BOTH: u64 = 0b11;

/// A set that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub slot: u32,
    pub store: u32,
}

/// Under which rulesets a slot is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// That in force.
    Present,
    /// The next one.
    Next,
}

impl SetTables {
    /// All sets, by their slots.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn names(&self) -> Result<Vec<Named>> {
        let (worlds, bit) = (self.worlds()?, self.bit(World::Present)?);
        let mut all = self.taken()?;
        all.retain(|set| worlds[set.slot as usize] & bit != 0);
        Ok(all)
    }

    /// The sets of whichever ruleset, also of one that does not count.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn taken(&self) -> Result<Vec<Named>> {
        let stores: Vec<u32> = self.array("set_slots", 0, SLOTS)?;
        if stores.iter().all(|store| *store == 0) {
            return Ok(Vec::new());
        }
        let names: Vec<[u8; NAME]> = self.array("set_names", 0, SLOTS)?;
        let named = (0..).zip(stores).zip(names).filter(|((_, store), _)| *store != 0);
        Ok(named.map(|((slot, store), name)| Named { name: text(&name), slot, store }).collect())
    }

    /// Has the slot lead to this store, 0 for none, under this name and both rulesets.
    ///
    /// # Errors
    /// When the maps cannot be written.
    pub fn set_slot(&self, slot: u32, name: &str, store: u32) -> Result<()> {
        self.lead(slot, name, store)?;
        self.set_worlds(slot, if store == 0 { 0 } else { BOTH })
    }

    /// As [`SetTables::set_slot`], of a slot that nobody has, under one ruleset only.
    ///
    /// # Errors
    /// As there.
    pub fn set_slot_in(&self, world: World, slot: u32, name: &str, store: u32) -> Result<()> {
        let bit = self.bit(world)?;
        self.set_worlds(slot, bit)?;
        self.lead(slot, name, store)
    }

    /// Has a slot be known under one ruleset only.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn keep_in(&self, world: World, slot: u32) -> Result<()> {
        self.set_worlds(slot, self.bit(world)?)
    }

    /// Whether both rulesets know the same sets.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn is_settled(&self) -> Result<bool> {
        Ok(self.worlds()?.iter().all(|worlds| matches!(*worlds, 0 | BOTH)))
    }

    /// The sets of the ruleset in force become those of both; others go. The caller holds
    /// [`super::pins::Pins::lock_sets`].
    ///
    /// # Errors
    /// When sets are on trial, or a map cannot be read or written.
    pub fn settle(&self) -> Result<()> {
        if self.is_settled()? {
            return Ok(());
        }
        if self.maps.former_generation()?.is_some() {
            bail!(
                "an earlier `firewall apply --confirm` has brought sets and still waits: \
                 `firewall confirm` keeps them"
            );
        }
        let (worlds, bit) = (self.worlds()?, self.bit(World::Present)?);
        let mut gone = Vec::new();
        let mut kept = HashSet::new();
        for set in self.taken()? {
            if worlds[set.slot as usize] & bit == 0 {
                gone.push(set);
            } else {
                kept.insert(set.store);
                self.set_worlds(set.slot, BOTH)?;
            }
        }
        for set in &gone {
            self.set_slot(set.slot, "", 0)?;
        }
        // Half of a slot, which a command that was killed has left.
        let taken: HashSet<u32> = self.taken()?.into_iter().map(|set| set.slot).collect();
        for slot in (0..SLOTS).filter(|slot| !taken.contains(slot)) {
            if worlds[slot as usize] != 0 {
                self.set_worlds(slot, 0)?;
            }
        }
        let stores = gone.into_iter().map(|set| set.store).filter(|store| !kept.contains(store));
        self.give_back(&stores.collect::<Vec<_>>())
    }

    fn lead(&self, slot: u32, name: &str, store: u32) -> Result<()> {
        let mut bytes = [0; NAME];
        for (place, byte) in bytes.iter_mut().take(NAME - 1).zip(name.bytes()) {
            *place = byte;
        }
        let mut names = self.maps.array("set_names")?;
        names.set(slot, Raw(bytes), 0).context("cannot write map set_names")?;
        let mut slots = self.maps.array("set_slots")?;
        slots.set(slot, Raw(store), 0).context("cannot write map set_slots")
    }

    /// The bit of a ruleset's place; the next one takes the place that is not in force.
    fn bit(&self, world: World) -> Result<u64> {
        let present = slot(self.maps.generation()?);
        Ok(match world {
            World::Present => 1 << present,
            World::Next => 1 << (1 - present),
        })
    }

    fn worlds(&self) -> Result<Vec<u64>> {
        let map = self.maps.open_map(WORLDS)?;
        let view: View<u64> = View::to_read(map, 0, SLOTS as usize)
            .with_context(|| format!("cannot read map {WORLDS}"))?;
        Ok(view.to_vec())
    }

    fn set_worlds(&self, slot: u32, worlds: u64) -> Result<()> {
        let mut map = self.maps.array::<u64>(WORLDS)?;
        map.set(slot, Raw(worlds), 0).with_context(|| format!("cannot write map {WORLDS}"))
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
