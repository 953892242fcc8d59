//! The sets' maps: slots, names, headers, and for each store a hash map of its own.
//!
//! The inner maps are made here, as large as each set may become; aya knows neither how
//! to make nor how to find one by the number that the outer map gives.

use std::{
    collections::HashMap, fs::File, io, marker::PhantomData, ops::ControlFlow, os::fd::OwnedFd,
    rc::Rc, sync::atomic::Ordering,
};

use anyhow::{Context, Result};
use bytemuck::Pod;
use firewall_common::{
    control::slot,
    generation::stamp,
    set::{COMMENT, Entry, EntryKey, HOST, SLOTS, STORES, SetHeader},
};
use nix::fcntl::Flock;

use super::{
    batch,
    maps::Maps,
    quiescence::wait_for_programs,
    raw::Raw,
    view::{View, WritableView},
};

/// The outer maps.
const ENTRIES: &str = "SET_ENTRIES";
const COMMENTS: &str = "SET_COMMENTS";

/// A comment with zero bytes behind it.
pub type CommentBytes = [u8; COMMENT];

/// The sets of an instance as their names stand: what is changed is changed under
/// [`super::pins::Pins::lock_sets`].
#[derive(Clone, Debug)]
pub struct SetTables {
    pub(super) maps: Maps,
}

impl SetTables {
    pub fn of(maps: &Maps) -> Self {
        Self { maps: maps.clone() }
    }

    /// Waits for the lock of those who change sets.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn lock(&self) -> Result<Option<Flock<File>>> {
        self.maps.pins().lock_sets()
    }

    /// # Errors
    /// As [`SetTables::names`].
    pub fn header(&self, store: u32) -> Result<SetHeader> {
        Ok(self.maps.array::<SetHeader>("sets")?.get(&store, 0)?.0)
    }

    /// The stores that no slot leads to. A command that was killed may have left something
    /// there: whoever makes a store begins anew.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn free_stores(&self) -> Result<Vec<u32>> {
        let taken: Vec<u32> = self.array("set_slots", 0, SLOTS)?;
        Ok((1..STORES).filter(|store| !taken.contains(store)).collect())
    }

    /// All sets, to be looked into as packets are.
    ///
    /// # Errors
    /// As [`SetTables::names`].
    pub fn view(&self) -> Result<SetView> {
        let mut view = SetView { slots: self.array("set_slots", 0, SLOTS)?, ..SetView::default() };
        for store in view.slots.iter().filter(|store| **store != 0) {
            let mut header = self.header(*store)?;
            if self.has_hosts(*store)? {
                header.add_prefix(HOST);
            }
            view.stores.insert(*store, (header, Rc::new(self.entries(*store)?)));
        }
        Ok(view)
    }

    /// How many rules in force name each slot.
    ///
    /// # Errors
    /// As [`SetTables::names`].
    pub fn references(&self) -> Result<Vec<u32>> {
        let of = |generation| self.references_of(slot(generation));
        let mut counts = of(self.maps.generation()?)?;
        // Rules that may come back ask their sets then.
        if let Some(former) = self.maps.former_generation()? {
            for (count, also) in counts.iter_mut().zip(of(former)?) {
                *count += also;
            }
        }
        Ok(counts)
    }

    /// Says so for a generation that is about to be.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_references(&self, generation_slot: u32, counts: &[u32]) -> Result<()> {
        let counts: Vec<_> = counts.iter().map(|count| u64::from(*count)).collect();
        self.maps.write_array("set_references", generation_slot * SLOTS, &counts)
    }

    fn references_of(&self, generation_slot: u32) -> Result<Vec<u32>> {
        let map = self.maps.open_map("set_references")?;
        let view: View<u64> = View::to_read(map, generation_slot * SLOTS, SLOTS as usize)
            .context("cannot read map set_references")?;
        Ok(view.iter().map(|count| *count as u32).collect())
    }

    /// Whether packets have brought single addresses into a set of networks.
    ///
    /// # Errors
    /// As [`SetTables::names`].
    pub fn has_hosts(&self, store: u32) -> Result<bool> {
        Ok(self.maps.array::<u32>("set_hosts")?.get(&store, 0)?.0 != 0)
    }

    /// The elements of a store.
    ///
    /// # Errors
    /// When they are gone, or the map cannot be opened.
    pub fn entries(&self, store: u32) -> Result<Inner<Entry>> {
        self.inner(ENTRIES, store)
    }

    /// The comments of a store's elements, which it has only when it was made so.
    ///
    /// # Errors
    /// As [`SetTables::entries`].
    pub fn comments(&self, store: u32) -> Result<Inner<CommentBytes>> {
        self.inner(COMMENTS, store)
    }

    fn inner<V: Pod>(&self, outer: &str, store: u32) -> Result<Inner<V>> {
        let found = batch::inner_map(self.maps.data(outer)?.fd(), store);
        let fd = found.with_context(|| format!("cannot open store {store} of map {outer}"))?;
        Ok(Inner { fd, values: PhantomData })
    }

    /// Makes a store of this header, empty and with no slot yet.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn make(&self, store: u32, header: &SetHeader) -> Result<()> {
        self.make_inner::<Entry>(ENTRIES, store, header.maxelem)?;
        if header.has(firewall_common::set::set_flag::COMMENT) {
            self.make_inner::<CommentBytes>(COMMENTS, store, header.maxelem)?;
        }
        self.maps.array::<u32>("set_hosts")?.set(store, Raw(0), 0)?;
        self.set_header(store, header)
    }

    fn make_inner<V: Pod>(&self, outer: &str, store: u32, entries: u32) -> Result<()> {
        let (key, value) = (size_of::<EntryKey>() as u32, size_of::<V>() as u32);
        let map = self.maps.data(outer)?;
        batch::make_hash(key, value, entries)
            .and_then(|inner| batch::set_inner(map.fd(), store, &inner))
            .with_context(|| format!("cannot make room for {entries} elements"))
    }

    /// # Errors
    /// When the map cannot be written.
    pub fn set_header(&self, store: u32, header: &SetHeader) -> Result<()> {
        self.maps.array("sets")?.set(store, Raw(*header), 0).context("cannot write map sets")
    }

    /// Gives stores back, to which no slot leads any more.
    ///
    /// # Errors
    /// When the maps cannot be written.
    pub fn give_back(&self, stores: &[u32]) -> Result<()> {
        if stores.is_empty() {
            return Ok(());
        }
        // A program may be at an element; the kernel keeps that for it.
        wait_for_programs();
        let empty = bytemuck::Zeroable::zeroed();
        for store in stores {
            for outer in [ENTRIES, COMMENTS] {
                batch::remove_inner(self.maps.data(outer)?.fd(), *store)
                    .with_context(|| format!("cannot empty map {outer}"))?;
            }
            self.set_header(*store, &empty)?;
        }
        Ok(())
    }

    /// Says that sets are being changed: from now on, and until the change is ended, no verdict is
    /// remembered of them, and none that was remembered counts. Whoever changes one in force says
    /// so before, under the lock.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn begin_change(&self) -> Result<Change> {
        const CHANGES: &str = "set_changes";
        let map = self.maps.open_map(CHANGES)?;
        let view: WritableView<u64> =
            View::to_write(map, 0, 1).with_context(|| format!("cannot write map {CHANGES}"))?;
        view.shared(0).fetch_or(stamp::IS_CHANGING, Ordering::SeqCst);
        Ok(Change(view))
    }

    /// Ends a change whose command has ended before it.
    ///
    /// # Errors
    /// When the maps cannot be read or written.
    pub fn end_forgotten_change(&self) -> Result<()> {
        let changes: Vec<u64> = self.array("set_changes", 0, 1)?;
        if changes.iter().any(|changes| changes & stamp::IS_CHANGING != 0) {
            let _lock = self.lock()?;
            drop(self.begin_change()?);
        }
        Ok(())
    }

    pub(super) fn array<V: Pod>(&self, name: &str, start: u32, count: u32) -> Result<Vec<V>> {
        batch::read_array(self.maps.data(name)?.fd(), start, count as usize, 1)
            .with_context(|| format!("cannot read map {name}"))
    }
}

/// A change of sets on its way; it ends with this.
#[derive(Debug)]
pub struct Change(WritableView<u64>);

impl Drop for Change {
    fn drop(&mut self) {
        let changes = self.0.shared(0);
        // Before the mark goes, so that what was remembered before is of another time.
        changes.fetch_add(1, Ordering::SeqCst);
        changes.fetch_and(!stamp::IS_CHANGING, Ordering::SeqCst);
    }
}

/// The sets at one moment; their elements are read when they are asked for.
#[derive(Clone, Debug, Default)]
pub struct SetView {
    slots: Vec<u32>,
    stores: HashMap<u32, (SetHeader, Rc<Inner<Entry>>)>,
}

impl SetView {
    /// The store of a slot.
    pub fn store(&self, slot: u32) -> Option<u32> {
        self.slots.get(slot as usize).copied().filter(|store| *store != 0)
    }

    pub fn header(&self, store: u32) -> Option<&SetHeader> {
        self.stores.get(&store).map(|(header, _)| header)
    }

    /// An element, expired or not; none that cannot be read.
    pub fn entry(&self, store: u32, key: &EntryKey) -> Option<Entry> {
        let (_, entries) = self.stores.get(&store)?;
        entries.get(key).ok().flatten()
    }
}

/// The elements of one store, or their comments.
#[derive(Debug)]
pub struct Inner<V> {
    fd: OwnedFd,
    values: PhantomData<V>,
}

impl<V: Pod> Inner<V> {
    /// # Errors
    /// What the kernel said.
    pub fn get(&self, key: &EntryKey) -> io::Result<Option<V>> {
        batch::get(&self.fd, key)
    }

    /// # Errors
    /// What the kernel said: `E2BIG` when there is no room.
    pub fn put(&self, key: &EntryKey, value: &V) -> io::Result<()> {
        batch::put(&self.fd, key, value)
    }

    /// As [`Inner::put`], many at once.
    ///
    /// # Errors
    /// What the kernel said; some may have been put in before.
    pub fn put_all(&self, keys: &[EntryKey], values: &[V]) -> io::Result<()> {
        batch::put_all(&self.fd, keys, values)
    }

    /// `false` when it was not there.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn remove(&self, key: &EntryKey) -> io::Result<bool> {
        Ok(batch::take::<EntryKey, V>(&self.fd, key)?.is_some())
    }

    /// As [`Inner::remove`]; gives what it was.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn take(&self, key: &EntryKey) -> io::Result<Option<V>> {
        batch::take(&self.fd, key)
    }

    /// Shows all elements, until told to stop.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn for_each(&self, visit: impl FnMut(&EntryKey, &V) -> ControlFlow<()>) -> io::Result<()> {
        batch::for_each_until(&self.fd, visit)
    }

    /// Shows batches of elements, which may be removed meanwhile.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn for_each_batch(
        &self,
        visit: impl FnMut(&[EntryKey], &[V]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        batch::for_each_batch(&self.fd, visit)
    }
}
