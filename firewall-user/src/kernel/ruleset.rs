//! The two ruleset generations: one is judged by, the other is written to.

use std::{cell::RefCell, collections::HashMap, fmt, time::Duration};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray};
use bytemuck::Zeroable;
use firewall_common::{
    addr::Family,
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
    ruleset_text::{CHUNK, CONFIGURATION, ChunkKey, SOURCES},
    tables::FlowTable,
};

use super::{
    batch,
    maps::{Maps, cpus, get, insert, now, remove},
    quiescence::wait_for_programs,
    raw::Raw,
    sets::SetTables,
    types::socket_layout,
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

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

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
        let (in_force, generation, replaced) = self.next_in_force()?;
        self.tell_clock()?;
        let slot = slot(generation);
        self.write_rules(slot, &image).context("cannot write the rules")?;
        self.forget_texts(replaced)?;
        // What an install that was cut off has left.
        self.forget_texts(generation)?;
        for (family, text) in FAMILIES.into_iter().zip(image.texts) {
            let key = chunk_key(generation, family);
            self.write_text(key, text).context("cannot keep the rules' text")?;
        }
        self.write_sources(generation, image.sources)?;
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
        let start = slot * RULES_PER_GENERATION;
        batch::write_array(self.data("rules")?.fd(), start, image.rules, 1)?;
        let (cpus, rules) = (cpus()?, image.rules.len());
        let zeroes = vec![Counter::zeroed(); cpus * rules];
        batch::write_array(self.data("rule_counters")?.fd(), start, &zeroes, cpus)?;
        batch::write_array(self.data("rule_bases")?.fd(), start, image.bases, 1)?;
        let index = classifier::build(&image.header, image.rules, image.port_sets);
        batch::write_array(self.data("rule_index")?.fd(), slot * LINES_PER_GENERATION, &index, 1)?;
        let sets = slot * PORT_SETS_PER_GENERATION;
        batch::write_array(self.data("port_sets")?.fd(), sets, image.port_sets, 1)?;
        let extras = slot * EXTRAS_PER_GENERATION;
        batch::write_array(self.data("extras")?.fd(), extras, image.extras, 1)?;
        let patterns = slot * PATTERNS_PER_GENERATION;
        batch::write_array(self.data("patterns")?.fd(), patterns, image.texts_searched, 1)?;
        let memory = vec![0u64; image.extras.len()];
        batch::write_array(self.data("extra_memory")?.fd(), extras, &memory, 1)?;
        SetTables::of(self).set_references(slot, image.set_references)?;
        self.array::<RulesetHeader>("rulesets")?.set(slot, Raw(image.header), 0)?;
        Ok(())
    }

    /// Keeps where the rules of a generation were written, in place of what was kept.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn write_sources(&self, generation: u32, sources: [&str; 2]) -> Result<()> {
        for (family, text) in FAMILIES.into_iter().zip(sources) {
            let key = sources_key(generation, family);
            self.forget_text(key)?;
            self.write_text(key, text).context("cannot keep where the rules were written")?;
        }
        Ok(())
    }

    /// Keeps what the daemon was told, as a configuration file says it.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn keep_configuration(&self, text: &str) -> Result<()> {
        self.forget_text(CONFIGURATION)?;
        self.write_text(CONFIGURATION, text).context("cannot keep the configuration")
    }

    /// What the last daemon was told.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn configuration(&self) -> Result<String> {
        self.read_text(CONFIGURATION)
    }

    fn write_text(&self, key: ChunkKey, text: &str) -> Result<()> {
        let mut map = self.hash::<ChunkKey, [u8; CHUNK]>("ruleset_text")?;
        for (number, piece) in (0..).zip(text.as_bytes().chunks(CHUNK)) {
            let mut chunk = [0; CHUNK];
            chunk[..piece.len()].copy_from_slice(piece);
            insert(&mut map, ChunkKey { number, ..key }, chunk)?;
        }
        Ok(())
    }

    fn forget_texts(&self, generation: u32) -> Result<()> {
        for family in FAMILIES {
            self.forget_text(chunk_key(generation, family))?;
            self.forget_text(sources_key(generation, family))?;
        }
        Ok(())
    }

    fn forget_text(&self, key: ChunkKey) -> Result<()> {
        let mut map = self.hash::<ChunkKey, [u8; CHUNK]>("ruleset_text")?;
        let mut number = 0;
        while remove(&mut map, ChunkKey { number, ..key })? {
            number += 1;
        }
        Ok(())
    }

    /// The text that a generation was compiled from; empty when it is not kept.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn ruleset_text(&self, generation: u32, family: Family) -> Result<String> {
        self.read_text(chunk_key(generation, family))
    }

    /// Where the rules of a generation were written; empty when it is not kept.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn rule_sources(&self, generation: u32, family: Family) -> Result<String> {
        self.read_text(sources_key(generation, family))
    }

    fn read_text(&self, key: ChunkKey) -> Result<String> {
        let map = self.hash::<ChunkKey, [u8; CHUNK]>("ruleset_text")?;
        let mut bytes = Vec::new();
        let mut number = 0;
        while let Some(chunk) = get(&map, &ChunkKey { number, ..key })? {
            bytes.extend_from_slice(&chunk);
            number += 1;
        }
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        String::from_utf8(bytes).context("the rules' text is not UTF-8")
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

    /// The counters of the first `count` rules of a generation: what was counted
    /// before, and under it on all CPUs.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn rule_counters(&self, generation: u32, count: usize) -> Result<Vec<Counter>> {
        let start = slot(generation) * RULES_PER_GENERATION;
        let cpus = cpus()?;
        let bases = batch::read_array::<Counter>(self.data("rule_bases")?.fd(), start, count, 1);
        let live =
            batch::read_array::<Counter>(self.data("rule_counters")?.fd(), start, count, cpus);
        let (bases, live) = bases
            .and_then(|bases| Ok((bases, live?)))
            .context("cannot read the counters of the rules")?;
        let of_rules = bases.into_iter().zip(live.chunks(cpus));
        Ok(of_rules.map(|(base, cpus)| cpus.iter().copied().fold(base, plus)).collect())
    }

    /// Says what the rules of the generation in force had counted before it.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_rule_bases(&self, generation: u32, bases: &[Counter]) -> Result<()> {
        let start = slot(generation) * RULES_PER_GENERATION;
        batch::write_array(self.data("rule_bases")?.fd(), start, bases, 1)
            .context("cannot write the counters of the rules")
    }
}

/// The counters of a generation's rules, kept open for whoever reads them often.
pub struct RuleCounters {
    map: PerCpuArray<MapData, Raw<Counter>>,
    bases: Array<MapData, Raw<Counter>>,
    start: u32,
}

impl RuleCounters {
    /// # Errors
    /// When the map cannot be opened.
    pub fn open(maps: &Maps, generation: u32) -> Result<Self> {
        let start = slot(generation) * RULES_PER_GENERATION;
        let (map, bases) = (maps.per_cpu("rule_counters")?, maps.array("rule_bases")?);
        Ok(Self { map, bases, start })
    }

    /// The counter of the rule with this index, as [`Maps::rule_counters`] tells it.
    ///
    /// # Errors
    /// When there is no such rule.
    pub fn get(&self, index: u32) -> Result<Counter> {
        let place = self.start + index;
        let base = self.bases.get(&place, 0)?.0;
        Ok(self.map.get(&place, 0)?.iter().map(|cpu| cpu.0).fold(base, plus))
    }
}

impl fmt::Debug for RuleCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleCounters").field("start", &self.start).finish_non_exhaustive()
    }
}

/// The first piece of the rules' text.
const fn chunk_key(generation: u32, family: Family) -> ChunkKey {
    let family = match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    ChunkKey { generation, family, number: 0 }
}

/// The first piece of what tells where they were written.
const fn sources_key(generation: u32, family: Family) -> ChunkKey {
    let key = chunk_key(generation, family);
    ChunkKey { family: key.family | SOURCES, ..key }
}

const fn plus(one: Counter, other: Counter) -> Counter {
    Counter {
        packets: one.packets.wrapping_add(other.packets),
        bytes: one.bytes.wrapping_add(other.bytes),
    }
}
