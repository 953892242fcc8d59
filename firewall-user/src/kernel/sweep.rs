//! Returning the memory of what has expired.
//!
//! A table is read in batches. What has expired in a batch is looked at once more
//! and removed before the next is read, so that memory does not grow with the
//! table. A batch of deletions would be faster, but between the look and the
//! deletion a connection could begin anew under the same key and be lost: a
//! handshake fits into a batch, and not into two system calls.
//!
//! Between batches the sweep rests as long as the batch took: of one CPU it takes
//! half at most, and nothing else waits for it.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::Result;
use aya::maps::{HashMap, MapData};
use bytemuck::Pod;
use firewall_common::{
    expectation::{Expectation, ExpectationKey, Master},
    flow::{Flow, FlowKey},
    tables::{FragmentGrant, FragmentKey},
    time::Nanos,
};

use super::{
    batch,
    maps::{Maps, get, remove},
    raw::Raw,
};

/// A master is written a moment before its flow.
const MASTER_BEFORE_FLOW: Nanos = Nanos::from_secs(2);

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

/// What a sweep has seen of all tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    pub assured: Swept,
    pub embryonic: Swept,
    pub expectations: Swept,
    pub masters: Swept,
    pub fragments: Swept,
}

/// The tables, kept open.
#[derive(Debug)]
pub struct Sweeper {
    assured: Table<FlowKey, Flow>,
    embryonic: Table<FlowKey, Flow>,
    expectations: Table<ExpectationKey, Expectation>,
    masters: Table<FlowKey, Master>,
    fragments: Table<FragmentKey, FragmentGrant>,
}

impl Sweeper {
    /// # Errors
    /// When a map cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        Ok(Self {
            assured: Table::open(maps, "assured")?,
            embryonic: Table::open(maps, "embryonic")?,
            expectations: Table::open(maps, "expectations")?,
            masters: Table::open(maps, "masters")?,
            fragments: Table::open(maps, "fragments")?,
        })
    }

    /// Removes what had expired at `now`. Embryonic flows and fragments are swept
    /// too: their tables recycle the entry that was used longest ago, which may be
    /// alive while others have expired. When `stop` is set it ends early, having
    /// seen a part.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn sweep(&mut self, now: Nanos, stop: &AtomicBool) -> Result<Sweep> {
        let pace = Pace { stop };
        let is_over = |_: &FlowKey, flow: &Flow| Ok(flow.is_expired(now));
        let assured = self.assured.sweep(&pace, is_over)?;
        let embryonic = self.embryonic.sweep(&pace, is_over)?;
        let expectations = self
            .expectations
            .sweep(&pace, |_, expectation| Ok(!expectation.expires.is_after(now)))?;
        let fragments = self.fragments.sweep(&pace, |_, grant| Ok(!grant.expires.is_after(now)))?;
        let flows = [&self.assured.entries, &self.embryonic.entries];
        let masters = self.masters.sweep(&pace, |key, master| {
            Ok(now.since(master.child_created).is_after(MASTER_BEFORE_FLOW)
                && !has_flow(flows, key, master)?)
        })?;
        Ok(Sweep { assured, embryonic, expectations, masters, fragments })
    }
}

type Entries<K, V> = HashMap<MapData, Raw<K>, Raw<V>>;

/// Whether the data connection is there whose master this is.
fn has_flow(flows: [&Entries<FlowKey, Flow>; 2], key: &FlowKey, master: &Master) -> Result<bool> {
    for table in flows {
        if get(table, key)?.is_some_and(|flow| flow.created == master.child_created) {
            return Ok(true);
        }
    }
    Ok(false)
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
    ) -> Result<Swept> {
        let Self { data, entries, size } = self;
        let mut swept = Swept { size: u64::from(*size), ..Swept::default() };
        let mut failed = Ok(());
        let mut begin = Instant::now();
        batch::for_each_batch(data.fd(), |keys: &[K], values: &[V]| {
            swept.found += keys.len() as u64;
            match remove_expired(entries, keys, values, &is_over) {
                Ok(removed) => swept.removed += removed,
                Err(error) => {
                    failed = Err(error);
                    return ControlFlow::Break(());
                }
            }
            let go_on = pace.rest(begin);
            begin = Instant::now();
            go_on
        })?;
        failed.map(|()| swept)
    }
}

fn remove_expired<K: Pod, V: Pod>(
    entries: &mut Entries<K, V>,
    keys: &[K],
    values: &[V],
    is_over: impl Fn(&K, &V) -> Result<bool>,
) -> Result<u64> {
    let mut removed = 0;
    for (key, value) in keys.iter().zip(values) {
        if !is_over(key, value)? {
            continue;
        }
        // It may have been replaced since it was read.
        if let Some(value) = get(entries, key)?
            && is_over(key, &value)?
        {
            removed += u64::from(remove(entries, *key)?);
        }
    }
    Ok(removed)
}

struct Pace<'s> {
    stop: &'s AtomicBool,
}

impl Pace<'_> {
    fn rest(&self, begin: Instant) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        thread::sleep(begin.elapsed());
        ControlFlow::Continue(())
    }
}
