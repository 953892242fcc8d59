//! The flow tables as a whole: listed, emptied and swept in batches, in memory that
//! does not grow with them.

use std::ops::ControlFlow;

use anyhow::Result;
use aya::maps::{HashMap, MapData};
use firewall_common::{
    addr::Family,
    expectation::Master,
    flow::{Flow, FlowKey, Tuple},
    tables::FlowTable,
    time::Nanos,
};

use super::{
    families::{ByFamily, flow_names},
    maps::{Maps, get},
    raw::Raw,
};

/// Both tables, kept open.
#[derive(Debug)]
pub struct FlowTables {
    assured: ByFamily<Flow>,
    embryonic: ByFamily<Flow>,
}

impl FlowTables {
    /// # Errors
    /// When the maps cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        let open = |table| ByFamily::open(maps, flow_names(table));
        Ok(Self { assured: open(FlowTable::Assured)?, embryonic: open(FlowTable::Embryonic)? })
    }

    const fn table(&self, table: FlowTable) -> &ByFamily<Flow> {
        match table {
            FlowTable::Assured => &self.assured,
            FlowTable::Embryonic => &self.embryonic,
        }
    }

    /// Shows every flow that lives now until `visit` says to stop; it may take out
    /// what it is shown.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn for_each(
        &self,
        now: Nanos,
        mut visit: impl FnMut(FlowTable, &FlowKey, &Flow) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut is_stopped = false;
        for table in [FlowTable::Assured, FlowTable::Embryonic] {
            if is_stopped {
                break;
            }
            let show = |key: &FlowKey, flow: &Flow| {
                if flow.is_expired(now) {
                    return ControlFlow::Continue(());
                }
                let answer = visit(table, key, flow);
                is_stopped = answer.is_break();
                answer
            };
            self.table(table).for_each_until(show)?;
        }
        Ok(())
    }

    /// How many flows live now.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn count(&self, now: Nanos) -> Result<u64> {
        let mut count = 0;
        self.for_each(now, |_, _, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Takes a flow out; `None` when it was gone. It is as it was in the end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&self, table: FlowTable, key: &FlowKey) -> Result<Option<Flow>> {
        self.table(table).take(key)
    }

    /// Takes all flows out, expired ones included.
    ///
    /// # Errors
    /// When a table cannot be emptied.
    pub fn take_all(&self, mut ended: impl FnMut(&FlowKey, &Flow)) -> Result<()> {
        for table in [FlowTable::Embryonic, FlowTable::Assured] {
            self.table(table).take_all(&mut ended)?;
        }
        Ok(())
    }

    /// Takes all flows of a family out, expired ones included.
    ///
    /// # Errors
    /// When a table cannot be emptied.
    pub fn take_all_of(
        &self,
        family: Family,
        mut ended: impl FnMut(&FlowKey, &Flow),
    ) -> Result<()> {
        for table in [FlowTable::Embryonic, FlowTable::Assured] {
            self.table(table).take_all_of(family, &mut ended)?;
        }
        Ok(())
    }

    /// Puts a flow in where none stands.
    ///
    /// # Errors
    /// When one stands there, or the table is full.
    pub fn insert(&self, table: FlowTable, key: FlowKey, flow: Flow) -> Result<()> {
        self.table(table).add(&key, &flow)
    }
}

/// The control connections that have announced flows, kept open.
#[derive(Debug)]
pub struct Masters(HashMap<MapData, Raw<FlowKey>, Raw<Master>>);

impl Masters {
    /// # Errors
    /// When the map cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        Ok(Self(maps.hash("masters")?))
    }

    /// The control connection that announced a flow, in its original direction.
    /// Entries outlive their flows: that of an earlier flow with the same endpoints
    /// may still be there, and does not count.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn of(&self, key: &FlowKey, flow: &Flow) -> Result<Option<Tuple>> {
        let master = get(&self.0, key)?;
        let own = master.filter(|master: &Master| master.child_created == flow.created);
        Ok(own.map(|master| master.tuple))
    }
}
