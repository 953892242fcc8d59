//! Returning the memory of what has expired.
//!
//! A table is read in batches. What has expired in a batch is looked at once more
//! and removed before the next is read, so that memory does not grow with the
//! table. A batch of deletions would be faster, but between the look and the
//! deletion a connection could begin anew under the same key and be lost: a
//! handshake fits into a batch, and not into two system calls. What did fit
//! between them goes back.
//!
//! Between batches the sweep rests, and nothing waits for it. While it reads, packets
//! find less of their flows in the caches of the CPU. So where little has expired it
//! rests nineteen times as long as a batch took; where much has, only as long, and
//! takes half of one CPU, for that memory may be wanted.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use aya::maps::{HashMap, MapData};
use bytemuck::Pod;
use firewall_common::{
    expectation::{Expectation, ExpectationKey, Master},
    flow::{Flow, FlowKey},
    fragment::{FragmentGrant, FragmentKey},
    ipv4_key::Ipv4Key,
    nat::{Mapping, MappingKey, Translation, arrival::is_face_of},
    set::{Entry, EntryKey, set_flag},
    tables::FlowTable,
    time::Nanos,
};

use super::{
    batch,
    families::{ByFamily, Names, TRANSLATIONS, flow_names},
    maps::{Maps, get},
    raw::Raw,
    sets::{CommentBytes, Inner, SetTables},
};

/// A master is written a moment before its flow.
const MASTER_BEFORE_FLOW: Nanos = Nanos::from_secs(2);

/// A face is claimed a moment before its flow is created.
const CLAIM_BEFORE_FLOW: Nanos = Nanos::from_secs(2);
/// What is left of translations counts no more, and is looked for in every eighth sweep: each
/// is a look at its flow.
const TRANSLATIONS_EVERY: u32 = 8;

/// A batch of which one in so many entries was removed is one of which much has expired.
const MUCH: u64 = 16;
/// How many times as long as a batch took the sweep rests behind one of which little has.
const LEISURE: u32 = 19;
/// It rests no longer, however long it waited for its CPU.
const LONGEST_REST: Duration = Duration::from_millis(40);

/// An insertion where nothing stands.
const BPF_NOEXIST: u64 = 1;
/// After a batch whose ends are told the sweep rests so long: whoever is told takes a
/// fraction of its queue at once.
const REST_WHEN_TOLD: Duration = Duration::from_millis(20);

/// Hears of flows that have ended, as they were in the end.
pub type Told<'t> = &'t mut dyn FnMut(&FlowKey, &Flow);

/// What a sweep has seen of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries that were there.
    pub found: u64,
    /// Of them, expired ones that were removed.
    pub removed: u64,
    /// Entries that the table has room for.
    pub size: u64,
}

impl Swept {
    pub const fn left(&self) -> u64 {
        self.found.saturating_sub(self.removed)
    }
}

/// What a sweep has seen of a table of which each family has a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweptFamilies {
    pub ipv4: Swept,
    pub ipv6: Swept,
}

/// What a sweep has seen of all tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    pub assured: SweptFamilies,
    pub embryonic: SweptFamilies,
    pub expectations: Swept,
    pub masters: Swept,
    pub fragments: Swept,
    /// What the last sweep of them has seen, which may be another one.
    pub translations: SweptFamilies,
    pub embryonic_translations: SweptFamilies,
    /// As translations.
    pub mappings: Swept,
}

/// The tables, kept open.
#[derive(Debug)]
pub struct Sweeper {
    assured: Families<Flow>,
    embryonic: Families<Flow>,
    /// The same, to look at one flow while something else is removed.
    flows: [ByFamily<Flow>; 2],
    expectations: Table<ExpectationKey, Expectation>,
    masters: Table<FlowKey, Master>,
    fragments: Table<FragmentKey, FragmentGrant>,
    translations: [Families<Translation>; 2],
    translations_swept: [SweptFamilies; 2],
    mappings: Table<MappingKey, Mapping>,
    /// The same, to look at one entry while another is removed.
    holders: Entries<MappingKey, Mapping>,
    mappings_swept: Swept,
    /// Sweeps so far.
    count: u32,
    sets: SetTables,
}

impl Sweeper {
    /// # Errors
    /// When a map cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        let [assured, embryonic] = [FlowTable::Assured, FlowTable::Embryonic].map(flow_names);
        let [kept, others] = TRANSLATIONS;
        Ok(Self {
            assured: Families::open(maps, assured)?,
            embryonic: Families::open(maps, embryonic)?,
            flows: [ByFamily::open(maps, assured)?, ByFamily::open(maps, embryonic)?],
            expectations: Table::open(maps, "expectations")?,
            masters: Table::open(maps, "masters")?,
            fragments: Table::open(maps, "fragments")?,
            translations: [Families::open(maps, kept)?, Families::open(maps, others)?],
            translations_swept: [SweptFamilies::default(); 2],
            mappings: Table::open(maps, "mappings")?,
            holders: maps.hash("mappings")?,
            mappings_swept: Swept::default(),
            count: 0,
            sets: SetTables::of(maps),
        })
    }

    /// Removes what had expired at `now`. Embryonic flows and fragments are swept
    /// too: their tables recycle the entry that was used longest ago, which may be
    /// alive while others have expired. Flows that have lost what they cannot go on
    /// without (`has_lost`) are removed with them. Each flow that ends is `told`. When
    /// `stop` is set it ends early, having seen a part.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn sweep(
        &mut self,
        now: Nanos,
        stop: &AtomicBool,
        has_lost: &dyn Fn(&Flow) -> bool,
        told: Option<Told<'_>>,
    ) -> Result<Sweep> {
        let rest = if told.is_some() { REST_WHEN_TOLD } else { Duration::ZERO };
        let mut nobody = |_: &FlowKey, _: &Flow| {};
        let told = told.unwrap_or(&mut nobody);
        let flows = Pace { stop, rest };
        let is_over = |_: &FlowKey, flow: &Flow| Ok(flow.is_expired(now) || has_lost(flow));
        let assured = self.assured.sweep(&flows, is_over, &mut *told)?;
        let embryonic = self.embryonic.sweep(&flows, is_over, &mut *told)?;
        let pace = Pace { stop, rest: Duration::ZERO };
        let expectations = self.expectations.sweep(
            &pace,
            |_, expectation| Ok(!expectation.expires.is_after(now)),
            |_, _| {},
        )?;
        let fragments =
            self.fragments.sweep(&pace, |_, grant| Ok(!grant.expires.is_after(now)), |_, _| {})?;
        let flows = &self.flows;
        let is_orphan = |key: &FlowKey, master: &Master| {
            Ok(now.since(master.child_created).is_after(MASTER_BEFORE_FLOW)
                && !has_flow(flows, key, master)?)
        };
        let masters = self.masters.sweep(&pace, is_orphan, |_, _| {})?;
        if self.count.is_multiple_of(TRANSLATIONS_EVERY) {
            let is_left = |key: &FlowKey, translation: &Translation| {
                Ok(now.since(translation.claimed).is_after(CLAIM_BEFORE_FLOW)
                    && !has_face(flows, key, translation)?)
            };
            for (table, swept) in self.translations.iter_mut().zip(&mut self.translations_swept) {
                *swept = table.sweep(&pace, is_left, |_, _| {})?;
            }
            let holders = &self.holders;
            let is_over = |key: &MappingKey, mapping: &Mapping| is_free(holders, key, mapping, now);
            self.mappings_swept = self.mappings.sweep(&pace, is_over, |_, _| {})?;
        }
        self.count = self.count.wrapping_add(1);
        self.sweep_sets(now, &pace)?;
        let [translations, embryonic_translations] = self.translations_swept;
        Ok(Sweep {
            assured,
            embryonic,
            expectations,
            masters,
            fragments,
            translations,
            embryonic_translations,
            mappings: self.mappings_swept,
        })
    }
}

impl Sweeper {
    /// Removes what has expired in the sets that have timeouts. Whoever adds it anew
    /// meanwhile has the lock, which is not taken for more than a batch.
    fn sweep_sets(&self, now: Nanos, pace: &Pace<'_>) -> Result<()> {
        self.sets.end_forgotten_change()?;
        for set in self.sets.names()? {
            if !self.sets.header(set.store)?.has(set_flag::TIMEOUT) {
                continue;
            }
            // One that is replaced meanwhile is swept the next time.
            let Ok(entries) = self.sets.entries(set.store) else { continue };
            let comments = self.sets.comments(set.store).ok();
            let mut failed = Ok(());
            let mut begin = Instant::now();
            entries.for_each_batch(|keys, values| {
                let expired = keys.iter().zip(values).filter(|(_, entry)| entry.is_expired(now));
                let expired: Vec<_> = expired.map(|(key, _)| *key).collect();
                failed = self.remove_elements(&entries, comments.as_ref(), &expired, now);
                let go_on = pace.rest(begin, keys.len() as u64, expired.len() as u64);
                begin = Instant::now();
                if failed.is_err() { ControlFlow::Break(()) } else { go_on }
            })?;
            failed?;
        }
        Ok(())
    }

    fn remove_elements(
        &self,
        entries: &Inner<Entry>,
        comments: Option<&Inner<CommentBytes>>,
        keys: &[EntryKey],
        now: Nanos,
    ) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let _lock = self.sets.lock()?;
        let mut change = None;
        for key in keys {
            if entries.get(key)?.is_none_or(|entry| !entry.is_expired(now)) {
                continue;
            }
            match entries.take(key)? {
                // A packet has put it in again.
                Some(entry) if !entry.is_expired(now) => {
                    entries.put(key, &entry)?;
                    // Who looked meanwhile has missed it.
                    change.get_or_insert(self.sets.begin_change()?);
                }
                _ => {
                    if let Some(comments) = comments {
                        comments.remove(key)?;
                    }
                }
            }
        }
        Ok(())
    }
}

type Entries<K, V> = HashMap<MapData, Raw<K>, Raw<V>>;

/// Whether the data connection is there whose master this is.
fn has_flow(flows: &[ByFamily<Flow>; 2], key: &FlowKey, master: &Master) -> Result<bool> {
    for table in flows {
        if table.get(key)?.is_some_and(|flow| flow.created == master.child_created) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a flow is there that has this face.
fn has_face(flows: &[ByFamily<Flow>; 2], key: &FlowKey, translation: &Translation) -> Result<bool> {
    let wire = key.tuple(translation.sender());
    let mut inside = wire;
    translation.apply(&mut inside);
    let (key, sender) = FlowKey::of(&inside);
    for table in flows {
        let flow = table.get(&key)?;
        if flow.is_some_and(|flow| is_face_of(&flow, flow.direction(sender), &wire)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an entry of a mapping counts no more: that of an outside port does while an inside
/// endpoint names it.
fn is_free(
    mappings: &Entries<MappingKey, Mapping>,
    key: &MappingKey,
    mapping: &Mapping,
    now: Nanos,
) -> Result<bool> {
    if mapping.until.is_after(now) {
        return Ok(false);
    }
    if key.is_inside() {
        return Ok(true);
    }
    let holder = get(mappings, &key.holder(mapping))?;
    Ok(!holder.is_some_and(|holder| holder.names(key.port, now)))
}

/// A table's maps.
#[derive(Debug)]
struct Families<V> {
    ipv4: Table<Ipv4Key, V>,
    ipv6: Table<FlowKey, V>,
}

impl<V: Pod> Families<V> {
    fn open(maps: &Maps, [ipv4, ipv6]: Names) -> Result<Self> {
        Ok(Self { ipv4: Table::open(maps, ipv4)?, ipv6: Table::open(maps, ipv6)? })
    }

    fn sweep(
        &mut self,
        pace: &Pace<'_>,
        is_over: impl Fn(&FlowKey, &V) -> Result<bool>,
        mut ended: impl FnMut(&FlowKey, &V),
    ) -> Result<SweptFamilies> {
        let ipv4 = self.ipv4.sweep(
            pace,
            |key, value| is_over(&key.wide(), value),
            |key, value| ended(&key.wide(), value),
        )?;
        Ok(SweptFamilies { ipv4, ipv6: self.ipv6.sweep(pace, is_over, ended)? })
    }
}

#[derive(Debug)]
struct Table<K, V> {
    data: MapData,
    entries: Entries<K, V>,
    size: u32,
}

impl<K: Pod, V: Pod> Table<K, V> {
    fn open(maps: &Maps, name: &str) -> Result<Self> {
        let data = maps.data(name)?;
        Ok(Self { size: data.info()?.max_entries(), data, entries: maps.hash(name)? })
    }

    fn sweep(
        &mut self,
        pace: &Pace<'_>,
        is_over: impl Fn(&K, &V) -> Result<bool>,
        mut ended: impl FnMut(&K, &V),
    ) -> Result<Swept> {
        let Self { data, entries, size } = self;
        let mut swept = Swept { size: u64::from(*size), ..Swept::default() };
        let mut failed = Ok(());
        let mut begin = Instant::now();
        batch::for_each_batch(data.fd(), |keys: &[K], values: &[V]| {
            swept.found += keys.len() as u64;
            let removed = match remove_expired(data, entries, keys, values, &is_over, &mut ended) {
                Ok(removed) => removed,
                Err(error) => {
                    failed = Err(error);
                    return ControlFlow::Break(());
                }
            };
            swept.removed += removed;
            let go_on = pace.rest(begin, keys.len() as u64, removed);
            begin = Instant::now();
            go_on
        })?;
        failed.map(|()| swept)
    }
}

fn remove_expired<K: Pod, V: Pod>(
    data: &MapData,
    entries: &mut Entries<K, V>,
    keys: &[K],
    values: &[V],
    is_over: impl Fn(&K, &V) -> Result<bool>,
    mut ended: impl FnMut(&K, &V),
) -> Result<u64> {
    let mut removed = 0;
    for (key, value) in keys.iter().zip(values) {
        // It may have been replaced since it was read.
        if !is_over(key, value)?
            || !get(entries, key)?.map_or(Ok(false), |value| is_over(key, &value))?
        {
            continue;
        }
        match batch::take::<K, V>(data.fd(), key)? {
            Some(value) if is_over(key, &value)? => {
                removed += 1;
                ended(key, &value);
            }
            // One that stands there already is younger still.
            Some(value) => drop(entries.insert(Raw(*key), Raw(value), BPF_NOEXIST)),
            None => {}
        }
    }
    Ok(removed)
}

struct Pace<'s> {
    stop: &'s AtomicBool,
    /// After a batch in which something was removed, at least.
    rest: Duration,
}

impl Pace<'_> {
    /// Rests behind a batch of so many entries, unless the sweep is to stop.
    fn rest(&self, begin: Instant, found: u64, removed: u64) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        thread::sleep(self.rest_after(begin.elapsed(), found, removed));
        ControlFlow::Continue(())
    }

    fn rest_after(&self, took: Duration, found: u64, removed: u64) -> Duration {
        let least = if removed == 0 { Duration::ZERO } else { self.rest };
        if removed * MUCH >= found {
            return took.max(least);
        }
        (took * LEISURE).min(LONGEST_REST).max(took).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(1);

    fn rest_after(rest: Duration, took: Duration, found: u64, removed: u64) -> Duration {
        Pace { stop: &AtomicBool::new(false), rest }.rest_after(took, found, removed)
    }

    #[test]
    fn a_walk_past_the_living_leaves_the_cpu_to_others() {
        for removed in [0, 1, 255] {
            assert_eq!(rest_after(Duration::ZERO, TOOK, 4_096, removed), TOOK * 19);
        }
    }

    #[test]
    fn the_dead_are_removed_at_half_the_speed_of_a_cpu() {
        for removed in [256, 4_096] {
            assert_eq!(rest_after(Duration::ZERO, TOOK, 4_096, removed), TOOK);
        }
    }

    #[test]
    fn a_batch_that_had_to_wait_for_its_cpu_is_followed_by_no_longer_rest() {
        let late = Duration::from_millis(30);
        assert_eq!(rest_after(Duration::ZERO, late, 4_096, 0), Duration::from_millis(40));
        let later = Duration::from_millis(70);
        assert_eq!(rest_after(Duration::ZERO, later, 4_096, 0), later);
    }

    #[test]
    fn whoever_is_told_has_time_for_it() {
        let rest = Duration::from_millis(20);
        assert_eq!(rest_after(rest, TOOK, 4_096, 4_096), rest);
        assert_eq!(rest_after(rest, TOOK, 4_096, 0), TOOK * 19);
    }
}
