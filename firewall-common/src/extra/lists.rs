//! What conditions keep in mind of addresses and connections, in tables by key: maps in
//! the kernel, plain memory in tests and in `firewall explain`.

use super::recent::{RecentKey, Sightings};

/// The tables behind `-m recent` and its like. Entries that nobody has used for longest
/// give way to new ones.
pub trait Lists {
    /// What is known of an address; `hits` as in [`super::recent::RecentEntry::look`].
    fn recent(&self, key: &RecentKey, hits: u32) -> Option<Sightings>;
    /// Notes that an address was seen, for the first time or again.
    fn note_recent(&self, key: &RecentKey, tick: u32, ttl: u32);
    fn forget_recent(&self, key: &RecentKey);
}
