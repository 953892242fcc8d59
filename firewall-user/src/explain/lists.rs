//! What conditions keep in mind by key, as it stands in the maps: a walk that is told
//! again moves its own copy.

use std::{cell::RefCell, collections::HashMap};

use bytemuck::Zeroable;
use firewall_common::{
    extra::{
        Asking, Lists,
        bucket::BucketKey,
        connections::{Found, Place, PlaceKey},
        recent::{RecentEntry, RecentKey, Sightings},
    },
    flow::{Flow, FlowKey},
    time::Nanos,
};

#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub recent: RefCell<HashMap<RecentKey, RecentEntry>>,
    pub buckets: RefCell<HashMap<BucketKey, u64>>,
    /// With the flow of each connection that lives.
    pub places: RefCell<HashMap<PlaceKey, (Place, Option<Flow>)>>,
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

    fn spend(&self, asking: Asking, key: &BucketKey, change: impl Fn(u64) -> (u64, bool)) -> bool {
        let mut buckets = self.buckets.borrow_mut();
        let (next, holds) = change(buckets.get(key).copied().unwrap_or_default());
        if !asking.is_question {
            buckets.insert(*key, next);
        }
        holds
    }

    fn connection(&self, key: &PlaceKey, own: &FlowKey, now: Nanos) -> (Found, u32) {
        match self.places.borrow().get(key) {
            Some((place, flow)) => (place.find(own, flow.as_ref(), now), place.last),
            None => (Found::Nothing, 0),
        }
    }

    fn take_place(&self, key: &PlaceKey, _before: Nanos, place: &Place) {
        let mut places = self.places.borrow_mut();
        let last = places.get(key).map_or(0, |(place, _)| place.last);
        places.insert(*key, (Place { last, ..*place }, None));
    }

    fn set_last_place(&self, key: &PlaceKey, last: u32) {
        if let Some((place, _)) = self.places.borrow_mut().get_mut(key) {
            place.last = last;
        }
    }
}
