//! What conditions keep in mind of addresses and connections, in tables by key: maps in
//! the kernel, plain memory in tests and in `firewall explain`.

use crate::{flow::FlowKey, tables::Rules, time::Nanos};

use super::{
    Asking,
    bucket::BucketKey,
    connections::{Count, Found, Place, PlaceKey},
    recent::{RecentKey, Sightings},
};

/// The tables behind `-m recent` and its like. Entries that nobody has used for longest
/// give way to new ones.
pub trait Lists {
    /// What is known of an address; `hits` as in [`super::recent::RecentEntry::look`].
    fn recent(&self, key: &RecentKey, hits: u32) -> Option<Sightings>;
    /// Notes that an address was seen, for the first time or again.
    fn note_recent(&self, key: &RecentKey, tick: u32, ttl: u32);
    fn forget_recent(&self, key: &RecentKey);
    /// Changes a bucket of `-m hashlimit`, unless the rules are only asked; gives whether
    /// it held what was wanted. One that is not there is 0.
    fn spend(&self, asking: Asking, key: &BucketKey, change: impl Fn(u64) -> (u64, bool)) -> bool
    where
        Self: Sized;
    /// What stands in a place of `-m connlimit`, and the `last` of it.
    fn connection(&self, key: &PlaceKey, own: &FlowKey, now: Nanos) -> (Found, u32);
    /// Writes a connection into a place that is empty, or where still stands the one that
    /// began at `before`.
    fn take_place(&self, key: &PlaceKey, before: Nanos, place: &Place);
    /// Notes in the first place how far places are taken.
    fn set_last_place(&self, key: &PlaceKey, last: u32);
    /// Calls [`Count::step`] until it says to stop.
    #[inline(always)]
    fn count_places(&self, count: &mut Count)
    where
        Self: Rules + Sized,
    {
        for _ in 0..=super::connections::MAX_LIMIT {
            if count.step(self) {
                return;
            }
        }
    }
}
