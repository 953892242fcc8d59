//! The two ruleset generations: one is judged by, the other is written to.

use std::{fmt, io};

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, PerCpuArray};
use bytemuck::Zeroable;
use firewall_common::{
    addr::Family,
    control::slot,
    extra::{EXTRAS_PER_GENERATION, Extra},
    rule::{Counter, PORT_SETS_PER_GENERATION, PortSet, RULES_PER_GENERATION, Rule, RulesetHeader},
    ruleset_text::{CHUNK, ChunkKey},
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
    pub extras: &'a [Extra],
    /// What it was compiled from, IPv4 and IPv6.
    pub texts: [&'a str; 2],
}

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
        for (family, text) in [Family::Ipv4, Family::Ipv6].into_iter().zip(image.texts) {
            self.write_text(generation, family, text).context("cannot keep the rules' text")?;
        }
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
        ensure!(image.extras.len() <= EXTRAS_PER_GENERATION as usize, "too many conditions");
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
        let mut extras = self.array::<Extra>("extras")?;
        let mut memory = self.array::<u64>("extra_memory")?;
        for (index, extra) in (slot * EXTRAS_PER_GENERATION..).zip(image.extras) {
            extras.set(index, Raw(*extra), 0)?;
            memory.set(index, Raw(0), 0)?;
        }
        self.array::<RulesetHeader>("rulesets")?.set(slot, Raw(image.header), 0)?;
        Ok(())
    }

    fn write_text(&self, generation: u32, family: Family, text: &str) -> Result<()> {
        let mut map = self.hash::<ChunkKey, [u8; CHUNK]>("ruleset_text")?;
        for (number, piece) in (0..).zip(text.as_bytes().chunks(CHUNK)) {
            let mut chunk = [0; CHUNK];
            chunk[..piece.len()].copy_from_slice(piece);
            insert(&mut map, chunk_key(generation, family, number), chunk)?;
        }
        Ok(())
    }

    fn forget_texts(&self, generation: u32) -> Result<()> {
        let mut map = self.hash::<ChunkKey, [u8; CHUNK]>("ruleset_text")?;
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut number = 0;
            while remove(&mut map, chunk_key(generation, family, number))? {
                number += 1;
            }
        }
        Ok(())
    }

    /// The text that a generation was compiled from; empty when it is not kept.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn ruleset_text(&self, generation: u32, family: Family) -> Result<String> {
        let map = self.hash::<ChunkKey, [u8; CHUNK]>("ruleset_text")?;
        let mut bytes = Vec::new();
        let mut number = 0;
        while let Some(chunk) = get(&map, &chunk_key(generation, family, number))? {
            bytes.extend_from_slice(&chunk);
            number += 1;
        }
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        String::from_utf8(bytes).context("the rules' text is not UTF-8")
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

const fn chunk_key(generation: u32, family: Family, number: u32) -> ChunkKey {
    let family = match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    ChunkKey { generation, family, number }
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
