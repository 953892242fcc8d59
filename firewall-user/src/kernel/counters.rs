//! What rules have counted: under their generation, on each CPU, and before it.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use bytemuck::Zeroable;
use firewall_common::{
    control::slot,
    rule::{Counter, RULES_PER_GENERATION, counter_place},
};

use super::{
    batch,
    maps::Maps,
    view::{View, WritableView},
};

/// What a generation's rules count now, on each CPU.
#[derive(Debug)]
pub(super) struct Live(Vec<View<Counter>>);

impl Live {
    /// Of the first `count` rules of a slot.
    ///
    /// # Errors
    /// When the map cannot be shown.
    pub(super) fn open(counters: impl AsFd, slot: u32, count: usize) -> Result<Self> {
        let view = |cpu| Ok(View::to_read(&counters, counter_place(cpu, slot), count)?);
        Ok(Self((0..cpus(&counters)?).map(view).collect::<Result<_>>()?))
    }

    /// Added up, behind what there was before.
    pub(super) fn after(&self, before: Counter, rule: usize) -> Counter {
        self.0.iter().filter_map(|cpu| cpu.now(rule)).fold(before, plus)
    }
}

/// Lets the first `count` rules of a slot count from zero.
///
/// # Errors
/// When the map cannot be shown.
pub(super) fn clear(counters: impl AsFd, slot: u32, count: usize) -> Result<()> {
    for cpu in 0..cpus(&counters)? {
        let start = counter_place(cpu, slot);
        let mut view: WritableView<Counter> = View::to_write(&counters, start, count)?;
        view.fill(Counter::zeroed());
    }
    Ok(())
}

/// How many CPUs have counters in the map.
fn cpus(counters: impl AsFd) -> Result<u32> {
    let entries = batch::max_entries(counters).context("cannot tell a map's size")?;
    Ok(entries / counter_place(1, 0))
}

impl Maps {
    /// The counters of the first `count` rules of a generation: what was counted
    /// before, and under it on all CPUs.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn rule_counters(&self, generation: u32, count: usize) -> Result<Vec<Counter>> {
        self.read_counters(slot(generation), count).context("cannot read the counters of the rules")
    }

    fn read_counters(&self, slot: u32, count: usize) -> Result<Vec<Counter>> {
        let bases = self.open_map("rule_bases")?;
        let bases: View<Counter> = View::to_read(bases, slot * RULES_PER_GENERATION, count)?;
        let live = Live::open(self.open_map("rule_counters")?, slot, count)?;
        Ok(bases.iter().enumerate().map(|(rule, base)| live.after(*base, rule)).collect())
    }

    /// Says what the rules of the generation in force had counted before it.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_rule_bases(&self, generation: u32, bases: &[Counter]) -> Result<()> {
        self.write_array("rule_bases", slot(generation) * RULES_PER_GENERATION, bases)
            .context("cannot write the counters of the rules")
    }
}

/// The counters of a generation's rules, kept open for whoever reads them often.
#[derive(Debug)]
pub struct RuleCounters {
    bases: View<Counter>,
    live: Live,
}

impl RuleCounters {
    /// # Errors
    /// When the maps cannot be read.
    pub fn open(maps: &Maps, generation: u32) -> Result<Self> {
        let slot = slot(generation);
        let (start, all) = (slot * RULES_PER_GENERATION, RULES_PER_GENERATION as usize);
        let bases = View::to_read(maps.open_map("rule_bases")?, start, all)?;
        Ok(Self { bases, live: Live::open(maps.open_map("rule_counters")?, slot, all)? })
    }

    /// The counter of the rule with this index, as [`Maps::rule_counters`] tells it; zero
    /// where there can be none.
    pub fn get(&self, index: u32) -> Counter {
        let base = self.bases.now(index as usize).unwrap_or_default();
        self.live.after(base, index as usize)
    }
}

const fn plus(one: Counter, other: Counter) -> Counter {
    Counter {
        packets: one.packets.wrapping_add(other.packets),
        bytes: one.bytes.wrapping_add(other.bytes),
    }
}
