//! The two ruleset generations: one is judged by, the other is written to.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use anyhow::{Context, Result, ensure};
use bytemuck::{Pod, Zeroable};
use firewall_common::{
    classifier::LINES_PER_GENERATION,
    control::slot,
    extra::{
        EXTRAS_PER_GENERATION, Extra,
        bucket::BucketKey,
        connections::{Place, PlaceKey},
        need,
        text::{PATTERNS_PER_GENERATION, Pattern, Window},
    },
    flow::Flow,
    rule::{Counter, PORT_SETS_PER_GENERATION, PortSet, RULES_PER_GENERATION, Rule, RulesetHeader},
    tables::FlowTable,
};

use super::{
    batch, counters,
    maps::{Maps, now},
    quiescence::wait_for_programs,
    raw::Raw,
    sets::SetTables,
    texts::{OfGeneration, Texts},
    types::socket_layout,
    view::View,
};
use crate::{
    explain::{lists::Kept, walk::RuleTables},
    rules::{Compiled, classifier},
};

/// A compiled ruleset, ready for the maps.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub header: RulesetHeader,
    pub rules: &'a [Rule],
    pub port_sets: &'a [PortSet],
    /// Of each rule, what it has counted under earlier generations.
    pub bases: &'a [Counter],
    pub extras: &'a [Extra],
    /// How many of its rules name each slot of a set.
    pub set_references: &'a [u32],
    /// What `-m string` searches for.
    pub texts_searched: &'a [Pattern],
    /// What it was compiled from, IPv4 and IPv6.
    pub texts: [&'a str; 2],
    /// Where its rules were written, likewise.
    pub sources: [&'a str; 2],
}

/// A connection, and its flow if that lives.
pub(super) type Counted = (Place, Option<(FlowTable, Flow)>);

/// Tells which interface patterns of a ruleset a name fits.
pub type Patterns<'a> = &'a dyn Fn(&str) -> u64;

impl Maps {
    /// Makes this ruleset the one that every later packet is judged by, for good or on
    /// trial for so long; gives its generation. Nobody counts for the generation before
    /// any more when it returns. The caller holds [`super::pins::Pins::lock_ruleset`].
    ///
    /// # Errors
    /// What went wrong, a trial under way among it; the former ruleset then still stands.
    pub fn install(
        &self,
        image: Image<'_>,
        patterns: Patterns<'_>,
        trial: Option<Duration>,
    ) -> Result<u32> {
        if image.header.needs & need::GROUP != 0 {
            socket_layout().context("--gid-owner cannot work here")?;
        }
        let (in_force, generation) = self.next_in_force()?;
        self.tell_clock()?;
        let slot = slot(generation);
        self.write_rules(slot, &image).context("cannot write the rules")?;
        let texts = OfGeneration { rules: image.texts, sources: image.sources };
        Texts::open(self)?.keep(generation, texts)?;
        for (ifindex, mut device) in self.devices()? {
            device.patterns[slot as usize & 1] = patterns(device.name());
            self.set_device(ifindex, device)?;
        }
        self.switch(in_force, trial)?;
        wait_for_programs();
        Ok(generation)
    }

    fn write_rules(&self, slot: u32, image: &Image<'_>) -> Result<()> {
        ensure!(image.rules.len() <= RULES_PER_GENERATION as usize, "too many rules");
        ensure!(image.port_sets.len() <= PORT_SETS_PER_GENERATION as usize, "too many port lists");
        ensure!(image.bases.len() == image.rules.len(), "a base for each rule");
        ensure!(image.extras.len() <= EXTRAS_PER_GENERATION as usize, "too many conditions");
        let rules = slot * RULES_PER_GENERATION;
        self.write_array("rules", rules, image.rules)?;
        self.write_array("rule_bases", rules, image.bases)?;
        counters::clear(self.open_map("rule_counters")?, slot, image.rules.len())?;
        let index = classifier::build(&image.header, image.rules, image.port_sets);
        self.write_array("rule_index", slot * LINES_PER_GENERATION, &index)?;
        let sets = slot * PORT_SETS_PER_GENERATION;
        self.write_array("port_sets", sets, image.port_sets)?;
        let extras = slot * EXTRAS_PER_GENERATION;
        batch::write_array(self.open_map("extras")?, extras, image.extras, 1)?;
        let patterns = slot * PATTERNS_PER_GENERATION;
        self.write_array("patterns", patterns, image.texts_searched)?;
        let memory = vec![0u64; image.extras.len()];
        self.write_array("extra_memory", extras, &memory)?;
        SetTables::of(self).set_references(slot, image.set_references)?;
        self.array::<RulesetHeader>("rulesets")?.set(slot, Raw(image.header), 0)?;
        Ok(())
    }

    /// Writes places of an array that can be shown ([`View`]), from `start` on.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn write_array<V: Pod>(&self, name: &str, start: u32, values: &[V]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let view = View::to_write(self.open_map(name)?, start, values.len());
        let mut view = view.with_context(|| format!("cannot write map {name}"))?;
        view.copy_from_slice(values);
        Ok(())
    }

    /// A generation as the programs read it, as much of each table as `compiled` fills.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn rule_tables(&self, generation: u32, compiled: &Compiled) -> Result<RuleTables> {
        let slot = slot(generation);
        let [rules, sets] = [compiled.rules.len(), compiled.port_sets.len()];
        let extras = compiled.extras.len();
        let memory = self.extra_memory(slot * EXTRAS_PER_GENERATION, extras)?;
        Ok(RuleTables {
            header: self.array::<RulesetHeader>("rulesets")?.get(&slot, 0)?.0,
            rules: batch::read_array(
                self.data("rules")?.fd(),
                slot * RULES_PER_GENERATION,
                rules,
                1,
            )?,
            port_sets: batch::read_array(
                self.data("port_sets")?.fd(),
                slot * PORT_SETS_PER_GENERATION,
                sets,
                1,
            )?,
            extras: batch::read_array(
                self.data("extras")?.fd(),
                slot * EXTRAS_PER_GENERATION,
                extras,
                1,
            )?,
            patterns: compiled.texts.clone(),
            window: Window::zeroed(),
            memory: RefCell::new(memory),
            sets: SetTables::of(self).view()?,
            kept: Kept {
                recent: RefCell::new(self.recent()?.into_iter().collect()),
                buckets: RefCell::new(self.buckets()?.into_iter().collect()),
                places: RefCell::new(self.counted_places()?),
            },
        })
    }

    /// The connections that `-m connlimit` has seen, each with its flow if that lives.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub(super) fn counted(&self) -> Result<Vec<(PlaceKey, Counted)>> {
        let now = now();
        let places = self.entries::<PlaceKey, Place>("counted")?.into_iter();
        places.map(|(key, place)| Ok((key, (place, self.flow(&place.flow, now)?)))).collect()
    }

    fn counted_places(&self) -> Result<HashMap<PlaceKey, (Place, Option<Flow>)>> {
        let places = self.counted()?.into_iter();
        Ok(places.map(|(key, (place, flow))| (key, (place, flow.map(|(_, flow)| flow)))).collect())
    }

    /// The buckets of `-m hashlimit`.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub(super) fn buckets(&self) -> Result<Vec<(BucketKey, u64)>> {
        self.entries("buckets")
    }

    /// What extra conditions keep in mind, from a place on.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub(super) fn extra_memory(&self, first: u32, count: usize) -> Result<Vec<u64>> {
        batch::read_array(self.data("extra_memory")?.fd(), first, count, 1)
            .context("cannot read what limits keep in mind")
    }
}
