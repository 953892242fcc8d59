//! What conditions keep in mind by key, as it stands in the maps: a walk that is told
//! again moves its own copy.

use std::{cell::RefCell, collections::HashMap};

use bytemuck::Zeroable;
use firewall_common::extra::{
    Lists,
    recent::{RecentEntry, RecentKey, Sightings},
};

#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub recent: RefCell<HashMap<RecentKey, RecentEntry>>,
}

impl Lists for Kept {
    fn recent(&self, key: &RecentKey, hits: u32) -> Option<Sightings> {
        self.recent.borrow().get(key).map(|entry| entry.look(hits))
    }

    fn note_recent(&self, key: &RecentKey, tick: u32, ttl: u32) {
        let mut lists = self.recent.borrow_mut();
        lists.entry(*key).or_insert_with(RecentEntry::zeroed).note(tick, ttl);
    }

    fn forget_recent(&self, key: &RecentKey) {
        self.recent.borrow_mut().remove(key);
    }
}
