//! Sets in memory: a slot is its place, and leads to the store behind it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use bytemuck::Zeroable;

use crate::set::{Entry, EntryKey, Kind, SetHeader};

/// Sets by their slots.
#[derive(Debug, Default)]
pub struct Sets {
    all: Vec<Set>,
    /// [`crate::tables::Rules::set_changes`]; who changes one here says so himself.
    pub changes: Cell<u64>,
    /// [`crate::tables::Rules::take_fleeting`].
    pub(super) is_fleeting: Cell<bool>,
}

#[derive(Debug)]
struct Set {
    header: SetHeader,
    entries: RefCell<HashMap<EntryKey, Entry>>,
}

impl Sets {
    /// Adds a set of this kind for IPv4; gives its slot. `change` says what else it is.
    pub fn add(&mut self, kind: Kind, change: impl FnOnce(&mut SetHeader)) -> u32 {
        let mut header = SetHeader::zeroed();
        header.kind = kind as u8;
        header.family = if kind.has_address() { 4 } else { 0 };
        header.maxelem = 65_536;
        change(&mut header);
        self.all.push(Set { header, entries: RefCell::default() });
        self.all.len() as u32 - 1
    }

    /// Puts an element in, and its prefix length among those that are looked for.
    pub fn insert(&mut self, slot: u32, key: EntryKey, entry: Entry) {
        let set = &mut self.all[slot as usize];
        set.header.add_prefix(key.prefix);
        set.entries.borrow_mut().insert(key, entry);
    }

    /// An element of a slot's set.
    pub fn get(&self, slot: u32, key: &EntryKey) -> Option<Entry> {
        self.all[slot as usize].entries.borrow().get(key).copied()
    }

    fn of_store(&self, store: u32) -> Option<&Set> {
        self.all.get((store as usize).checked_sub(1)?)
    }

    pub(super) fn store(&self, slot: u32) -> Option<u32> {
        ((slot as usize) < self.all.len()).then_some(slot + 1)
    }

    pub(super) fn header(&self, store: u32) -> Option<&SetHeader> {
        Some(&self.of_store(store)?.header)
    }

    pub(super) fn entry(&self, store: u32, key: &EntryKey) -> Option<Entry> {
        self.of_store(store)?.entries.borrow().get(key).copied()
    }

    pub(super) fn count(&self, store: u32, key: &EntryKey, bytes: u64) {
        if let Some(set) = self.of_store(store)
            && let Some(entry) = set.entries.borrow_mut().get_mut(key)
        {
            entry.packets += 1;
            entry.bytes += bytes;
        }
    }

    pub(super) fn put(&self, store: u32, key: &EntryKey, entry: &Entry) -> bool {
        let Some(set) = self.of_store(store) else { return false };
        let mut entries = set.entries.borrow_mut();
        let has_room = entries.contains_key(key) || entries.len() < set.header.maxelem as usize;
        if has_room {
            entries.insert(*key, *entry);
        }
        has_room
    }

    pub(super) fn remove(&self, store: u32, key: &EntryKey) -> bool {
        self.of_store(store).is_some_and(|set| set.entries.borrow_mut().remove(key).is_some())
    }
}
