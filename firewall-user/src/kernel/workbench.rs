//! A change of one rule in the maps: from the slot that is in force to the one beside it,
//! in the memory of both. It leaves there what [`Maps::install`] would.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use bytemuck::Pod;
use firewall_common::{
    addr::Family,
    classifier::{FIXED_LINES, LINES_PER_GENERATION, Line},
    control::slot,
    extra::{
        EXTRAS_PER_GENERATION, need,
        text::{PATTERNS_PER_GENERATION, Pattern},
    },
    generation::InForce,
    rule::{Counter, PORT_SETS_PER_GENERATION, PortSet, RULES_PER_GENERATION, Rule, RulesetHeader},
    set::SLOTS,
};

use super::{
    batch,
    counters::{self, Live},
    maps::Maps,
    quiescence::wait_for_programs,
    sets::SetTables,
    texts::{FAMILIES, OfGeneration, Texts},
    view::{View, WritableView},
};
use crate::{
    rules::{
        classifier,
        splice::{PaddedExtra, Splice, used},
    },
    ruleset::patch::{Kept, Patch},
};

/// The ruleset in force, and the slot for the one that comes.
#[derive(Debug)]
pub struct Workbench<'m> {
    maps: &'m Maps,
    in_force: InForce,
    header: RulesetHeader,
    texts: Texts,
}

/// An array of which each slot has a part.
struct Slots {
    map: OwnedFd,
    name: &'static str,
    /// Places of one slot.
    places: u32,
    from: u32,
    to: u32,
}

impl<'m> Workbench<'m> {
    /// Whoever opens it holds [`super::pins::Pins::lock_ruleset`]. `None` where no rules
    /// were ever installed, or a trial or a change of sets has left something to be cleared
    /// away.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn open(maps: &'m Maps) -> Result<Option<Self>> {
        let in_force = maps.in_force()?;
        if in_force.current == 0 || in_force.until.0 != 0 || !SetTables::of(maps).is_settled()? {
            return Ok(None);
        }
        let header = maps.open_map("rulesets")?;
        let header =
            batch::get(header, &slot(in_force.current)).context("cannot read the rules")?;
        let Some(header) = header else { return Ok(None) };
        Ok(Some(Self { maps, in_force, header, texts: Texts::open(maps)? }))
    }

    /// What is kept beside the rules in force.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn kept(&self) -> Result<Kept> {
        let generation = self.in_force.current;
        let text = |family: Family| -> Result<String> {
            self.texts.rules(generation, family)?.context("the rules in force have no text")
        };
        let sources = |family: Family| self.texts.sources(generation, family);
        let [v4, v6] = FAMILIES;
        Ok(Kept { texts: [text(v4)?, text(v6)?], sources: [sources(v4)?, sources(v6)?] })
    }

    /// Makes the rules count as they are after the change; `kept` is what stands beside
    /// them then, and `counter` what the rule that comes has counted. `false` when they
    /// are not those that the change was made for; nothing has changed then.
    ///
    /// # Errors
    /// When a map cannot be read or written; nothing has changed then, either.
    pub fn install(self, patch: &Patch, kept: &Kept, counter: Counter) -> Result<bool> {
        let splice = &patch.splice;
        let after = splice.length(patch.rules);
        if after > RULES_PER_GENERATION as usize {
            return Ok(false);
        }
        let rules = self.slots("rules", RULES_PER_GENERATION)?;
        let before: View<Rule> = rules.before(patch.rules)?;
        if !patch.fits(&self.header, &before) {
            return Ok(false);
        }
        let mut comes: WritableView<Rule> = rules.after(after)?;
        splice.rules(&before, &mut comes);
        let header = splice.header(self.header);
        self.copy_beside(&before)?;
        self.index(patch, &header, &comes)?;
        let bases = Bases::open(&self, patch, counter)?;
        bases.write(&mut bases.after(after)?);
        let generation = self.in_force.next();
        let [v4, v6] = [0, 1].map(|family| kept.texts[family].as_str());
        let sources = [0, 1].map(|family| kept.sources[family].as_str());
        self.texts.keep(generation, OfGeneration { rules: [v4, v6], sources })?;
        self.devices()?;
        let map = self.maps.open_map("rulesets")?;
        batch::put(map, &slot(generation), &header).context("cannot write the rules")?;
        self.maps.switch(self.in_force, None)?;
        wait_for_programs();
        // What was counted meanwhile is part of what the rules had counted before.
        bases.write(&mut bases.after(after)?);
        Ok(true)
    }

    fn slots(&self, name: &'static str, places: u32) -> Result<Slots> {
        let (from, to) = (slot(self.in_force.current), slot(self.in_force.next()));
        Ok(Slots { map: self.maps.open_map(name)?, name, places, from, to })
    }

    /// What stands beside the rules is the same as before, but for what extras keep in
    /// mind: they begin anew.
    fn copy_beside(&self, rules: &[Rule]) -> Result<()> {
        let used = used(rules);
        if used.port_sets != 0 {
            self.slots("port_sets", PORT_SETS_PER_GENERATION)?.copy::<PortSet>(used.port_sets)?;
        }
        if used.extras != 0 {
            self.slots("extras", EXTRAS_PER_GENERATION)?.copy::<PaddedExtra>(used.extras)?;
            let memory = self.slots("extra_memory", EXTRAS_PER_GENERATION)?;
            memory.after::<u64>(used.extras)?.fill(0);
        }
        if self.header.needs & need::WINDOW != 0 {
            let patterns = self.slots("patterns", PATTERNS_PER_GENERATION)?;
            patterns.copy::<Pattern>(PATTERNS_PER_GENERATION as usize)?;
        }
        if self.header.needs & need::CLOCK != 0 {
            self.maps.tell_clock()?;
        }
        let references = self.slots("set_references", SLOTS)?;
        match self.header.needs & need::SETS {
            0 => references.after::<u64>(SLOTS as usize)?.fill(0),
            _ => references.copy::<u64>(SLOTS as usize)?,
        }
        Ok(())
    }

    /// Patches the index, or builds it anew.
    fn index(&self, patch: &Patch, header: &RulesetHeader, rules: &[Rule]) -> Result<()> {
        let slots = self.slots("rule_index", LINES_PER_GENERATION)?;
        let lines = classifier::used(&slots.before::<Line>(FIXED_LINES as usize)?);
        let before: View<Line> = slots.before(lines)?;
        let mut after: WritableView<Line> = slots.after(lines)?;
        after.copy_from_slice(&before);
        if classifier::patch(&mut after, &patch.splice, &self.header, patch.rules) {
            return Ok(());
        }
        let sets = self.slots("port_sets", PORT_SETS_PER_GENERATION)?;
        let sets: View<PortSet> = sets.before(used(rules).port_sets)?;
        let index = classifier::build(header, rules, &sets);
        slots.after::<Line>(index.len())?.copy_from_slice(&index);
        Ok(())
    }

    /// Interfaces fit the same patterns as before.
    fn devices(&self) -> Result<()> {
        let (from, to) = (slot(self.in_force.current), slot(self.in_force.next()));
        for (ifindex, mut device) in self.maps.devices()? {
            let patterns = device.patterns[from as usize & 1];
            if device.patterns[to as usize & 1] != patterns {
                device.patterns[to as usize & 1] = patterns;
                self.maps.set_device(ifindex, device)?;
            }
        }
        Ok(())
    }
}

impl Slots {
    /// What stands in the slot in force.
    fn before<V: Pod>(&self, count: usize) -> Result<View<V>> {
        View::to_read(&self.map, self.from * self.places, count)
            .with_context(|| format!("cannot read map {}", self.name))
    }

    /// The slot for what comes.
    fn after<V: Pod>(&self, count: usize) -> Result<WritableView<V>> {
        View::to_write(&self.map, self.to * self.places, count)
            .with_context(|| format!("cannot write map {}", self.name))
    }

    fn copy<V: Pod>(&self, count: usize) -> Result<()> {
        self.after::<V>(count)?.copy_from_slice(&self.before::<V>(count)?);
        Ok(())
    }
}

/// What the rules had counted before the generation that comes.
struct Bases {
    slots: Slots,
    before: View<Counter>,
    live: Live,
    splice: Splice,
    /// Of the rule that comes.
    counter: Counter,
}

impl Bases {
    /// Lets the rules that come count from zero.
    fn open(bench: &Workbench<'_>, patch: &Patch, counter: Counter) -> Result<Self> {
        let slots = bench.slots("rule_bases", RULES_PER_GENERATION)?;
        let counted = bench.maps.open_map("rule_counters")?;
        let live = Live::open(&counted, slots.from, patch.rules)?;
        counters::clear(&counted, slots.to, patch.splice.length(patch.rules))?;
        Ok(Self { before: slots.before(patch.rules)?, slots, live, splice: patch.splice, counter })
    }

    fn after(&self, count: usize) -> Result<WritableView<Counter>> {
        self.slots.after(count)
    }

    fn write(&self, after: &mut [Counter]) {
        for (at, base) in after.iter_mut().enumerate() {
            *base = match self.splice.source(at) {
                Some(source) => self.live.after(self.before[source], source),
                None => self.counter,
            };
        }
    }
}
