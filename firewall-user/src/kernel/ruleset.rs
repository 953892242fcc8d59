//! The two ruleset generations: one is judged by, the other is written to.

use std::{fmt, io};

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, PerCpuArray};
use bytemuck::Zeroable;
use firewall_common::{
    addr::Family,
    control::slot,
    rule::{Counter, PORT_SETS_PER_GENERATION, PortSet, RULES_PER_GENERATION, Rule, RulesetHeader},
    ruleset_text::{CHUNK, ChunkKey, SOURCES},
};
use nix::libc;

use super::{
    maps::{Maps, cpus, get, insert, remove, zeroes},
    raw::Raw,
};

/// A compiled ruleset, ready for the maps.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub header: RulesetHeader,
    pub rules: &'a [Rule],
    pub port_sets: &'a [PortSet],
    /// What it was compiled from, IPv4 and IPv6.
    pub texts: [&'a str; 2],
    /// Where its rules were written, likewise.
    pub sources: [&'a str; 2],
}

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Tells which interface patterns of a ruleset a name fits.
pub type Patterns<'a> = &'a dyn Fn(&str) -> u64;

impl Maps {
    /// Makes this ruleset the one that every later packet is judged by, with
    /// counters at zero; gives its generation. The caller holds
    /// [`super::pins::Pins::lock_ruleset`].
    ///
    /// # Errors
    /// What went wrong; the former ruleset then still stands.
    pub fn install(&self, image: Image<'_>, patterns: Patterns<'_>) -> Result<u32> {
        let before = self.generation()?;
        let generation = before.wrapping_add(1);
        let slot = slot(generation);
        self.write_rules(slot, &image).context("cannot write the rules")?;
        self.forget_texts(before.wrapping_sub(1))?;
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
        self.set_generation(generation)?;
        wait_for_programs();
        Ok(generation)
    }

    fn write_rules(&self, slot: u32, image: &Image<'_>) -> Result<()> {
        ensure!(image.rules.len() <= RULES_PER_GENERATION as usize, "too many rules");
        ensure!(image.port_sets.len() <= PORT_SETS_PER_GENERATION as usize, "too many port lists");
        let mut rules = self.array::<Rule>("rules")?;
        let mut counters = self.per_cpu::<Counter>("rule_counters")?;
        let start = slot * RULES_PER_GENERATION;
        let cpus = cpus()?;
        for (index, rule) in (start..).zip(image.rules) {
            rules.set(index, Raw(*rule), 0)?;
            counters.set(index, zeroes(cpus)?, 0)?;
        }
        let mut sets = self.array::<PortSet>("port_sets")?;
        for (index, set) in (slot * PORT_SETS_PER_GENERATION..).zip(image.port_sets) {
            sets.set(index, Raw(*set), 0)?;
        }
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

    /// A generation as the programs read it: the header, the first `rules` rules and the
    /// first `sets` port sets.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn rule_tables(
        &self,
        generation: u32,
        rules: usize,
        sets: usize,
    ) -> Result<(RulesetHeader, Vec<Rule>, Vec<PortSet>)> {
        let slot = slot(generation);
        let header = self.array::<RulesetHeader>("rulesets")?.get(&slot, 0)?.0;
        let map = self.array::<Rule>("rules")?;
        let start = slot * RULES_PER_GENERATION;
        let rules: Result<_> = (start..).take(rules).map(|at| Ok(map.get(&at, 0)?.0)).collect();
        let map = self.array::<PortSet>("port_sets")?;
        let start = slot * PORT_SETS_PER_GENERATION;
        let sets: Result<_> = (start..).take(sets).map(|at| Ok(map.get(&at, 0)?.0)).collect();
        Ok((header, rules?, sets?))
    }

    /// The counters of the first `count` rules of a generation, summed over the CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn rule_counters(&self, generation: u32, count: usize) -> Result<Vec<Counter>> {
        let map = self.per_cpu::<Counter>("rule_counters")?;
        let start = slot(generation) * RULES_PER_GENERATION;
        (start..).take(count).map(|index| Ok(sum(map.get(&index, 0)?.iter()))).collect()
    }
}

/// The counters of a generation's rules, kept open for whoever reads them often.
pub struct RuleCounters {
    map: PerCpuArray<MapData, Raw<Counter>>,
    start: u32,
}

impl RuleCounters {
    /// # Errors
    /// When the map cannot be opened.
    pub fn open(maps: &Maps, generation: u32) -> Result<Self> {
        let start = slot(generation) * RULES_PER_GENERATION;
        Ok(Self { map: maps.per_cpu("rule_counters")?, start })
    }

    /// The counter of the rule with this index, summed over the CPUs.
    ///
    /// # Errors
    /// When there is no such rule.
    pub fn get(&self, index: u32) -> Result<Counter> {
        Ok(sum(self.map.get(&(self.start + index), 0)?.iter()))
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

fn sum<'a>(cpus: impl Iterator<Item = &'a Raw<Counter>>) -> Counter {
    cpus.fold(Counter::zeroed(), |sum, cpu| Counter {
        packets: sum.packets.wrapping_add(cpu.0.packets),
        bytes: sum.bytes.wrapping_add(cpu.0.bytes),
    })
}

/// Returns when no program runs that was running before: each sees the new
/// generation from now on, and nobody reads the old one's slot.
pub(crate) fn wait_for_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes numbers and changes no memory.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if answer != 0 {
        tracing::debug!("membarrier: {}", io::Error::last_os_error());
    }
}
