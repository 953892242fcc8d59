//! A change of the running rules under which those that stay go on counting.
//!
//! A generation's counters begin at what its rules had counted before (their *bases*).
//! What is counted between the reading of the old counters and the switch to the new
//! rules is added when nobody counts under the old ones any more: no packet is lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use firewall_common::{addr::Family, extra::recent::list_id, rule::Counter};

use super::{
    Rulesets, Running, Shelf, index,
    sources::{self, Written},
};
use crate::{
    kernel::{maps::Maps, ruleset::Image},
    rules::{self, Chain, Compiled, Origin, Place, Rule},
};

/// What runs, read to be changed. Whoever finishes it has held the lock of the ruleset
/// since before it began.
#[derive(Debug)]
pub struct Edit<'m> {
    maps: &'m Maps,
    running: Running,
    /// Of each compiled rule, when the edit began.
    counters: Vec<Counter>,
    /// Of each family, how the text is called that its rules were read from.
    files: [Option<Arc<str>>; 2],
    /// Of each family, the compiled rule of each line of that text.
    lines: [HashMap<u32, u32>; 2],
    /// Of each family, where the rule of each line was written: a file and its line.
    places: [Places; 2],
}

/// Files and lines, by lines of the text that is kept.
type Places = HashMap<u32, Written>;

impl<'m> Edit<'m> {
    /// Reads the running rules and their counters.
    ///
    /// # Errors
    /// As [`Running::load`].
    pub fn begin(maps: &'m Maps) -> Result<Self> {
        let generation = maps.generation()?;
        let running = Running::read(maps, generation)?;
        let mut running = running.context("the rules in force have no text")?;
        let places = places(maps, generation, &running.rulesets)?;
        let counters = running.counters(maps)?;
        let (mut files, mut lines) = ([None, None], [HashMap::new(), HashMap::new()]);
        for family in [Family::Ipv4, Family::Ipv6] {
            let places = running.compiled.places(family);
            let count = |place| places.get(&place).map(|at| (*at, counters[*at as usize]));
            let (file, lines) = (&mut files[index(family)], &mut lines[index(family)]);
            for table in &mut running.rulesets.of[index(family)].tables {
                for chain in &mut table.chains {
                    let Chain { name, policy, rules } = chain;
                    let place = |number| Place { table: table.name, chain: name, number };
                    if let (Some(policy), Some((_, counter))) = (policy, count(place(None))) {
                        policy.counter = counter;
                    }
                    for (rule, number) in rules.iter_mut().zip(1..) {
                        let Some((at, counter)) = count(place(Some(number))) else { continue };
                        rule.counter = counter;
                        file.get_or_insert_with(|| rule.origin.file.clone());
                        lines.insert(rule.origin.line, at);
                    }
                }
            }
        }
        Ok(Self { maps, running, counters, files, lines, places })
    }

    /// The rules in force, with what they have counted.
    pub const fn before(&self) -> &Rulesets {
        &self.running.rulesets
    }

    /// Whether no rules were ever installed.
    pub const fn is_first(&self) -> bool {
        self.running.generation == 0
    }

    /// Makes these the rules in force. Each begins with the counter that it carries;
    /// one that was there before has counted on meanwhile.
    ///
    /// # Errors
    /// What is wrong with the new rules, or with the maps; nothing has changed then.
    pub fn finish(self, after: &Rulesets) -> Result<()> {
        let sets = Shelf::take(self.maps, None)?;
        self.install(after, sets, None).map(drop)
    }

    /// As [`Edit::finish`], together with the sets on the shelf; gives the generation, which
    /// counts for so long, if a time is given, unless it is confirmed.
    ///
    /// # Errors
    /// As there.
    pub fn install(
        self,
        after: &Rulesets,
        mut sets: Shelf<'_>,
        trial: Option<Duration>,
    ) -> Result<u32> {
        let mut compiled = after.compile()?;
        let slots = sets.bind(&mut compiled)?;
        sets.put()?;
        let generation = self.install_compiled(after, &compiled, &slots, trial)?;
        sets.settle(trial)?;
        Ok(generation)
    }

    fn install_compiled(
        self,
        after: &Rulesets,
        compiled: &Compiled,
        slots: &[u32],
        trial: Option<Duration>,
    ) -> Result<u32> {
        let (mut bases, sources) = self.carried(after, compiled);
        let [v4, v6] = &after.texts();
        let written = self.sources(after);
        let image = Image {
            header: compiled.header,
            rules: &compiled.rules,
            port_sets: &compiled.port_sets,
            extras: &compiled.extras,
            texts_searched: &compiled.texts,
            bases: &bases,
            set_references: slots,
            texts: [v4, v6],
            sources: written.each_ref().map(String::as_str),
        };
        let generation = self.maps.install(image, &|name| compiled.patterns_of(name), trial)?;
        if self.is_first() {
            return Ok(generation);
        }
        // Those of rules that may come back stay.
        if trial.is_none() {
            self.forget_lists(after)?;
        }
        let last = self.running.counters(self.maps)?;
        let mut is_late = false;
        for (base, source) in bases.iter_mut().zip(sources) {
            let Some(at) = source.map(|at| at as usize) else { continue };
            let (seen, last) = (self.counters[at], last[at]);
            is_late |= seen != last;
            base.packets += last.packets.wrapping_sub(seen.packets);
            base.bytes += last.bytes.wrapping_sub(seen.bytes);
        }
        if is_late {
            self.maps.set_rule_bases(generation, &bases)?;
        }
        Ok(generation)
    }

    /// Empties the lists of `-m recent` that no rule names any more.
    fn forget_lists(&self, after: &Rulesets) -> Result<()> {
        let named = rules::recent_lists(&after.of);
        for name in rules::recent_lists(&self.before().of).difference(&named) {
            self.maps.flush_recent(list_id(name))?;
        }
        Ok(())
    }

    /// Notes where rules that say the same as those in force were written.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn note_places(&self, after: &Rulesets) -> Result<()> {
        let written = self.sources(after);
        self.maps.write_sources(self.running.generation, written.each_ref().map(String::as_str))
    }

    /// What tells where the rules were written, also those that stayed.
    fn sources(&self, after: &Rulesets) -> [String; 2] {
        after.of.each_ref().map(|rules| {
            let (file, places) =
                (&self.files[index(rules.family)], &self.places[index(rules.family)]);
            sources::write(rules, |rule| {
                let Origin { file: own, line, .. } = &rule.origin;
                let stays = file.as_ref().is_some_and(|file| Arc::ptr_eq(file, own));
                match places.get(line) {
                    Some((file, line)) if stays => (file, *line),
                    _ => (own, *line),
                }
            })
        })
    }

    /// Of each compiled rule, the counter that it begins with, and the old one from
    /// which it goes on.
    fn carried(&self, after: &Rulesets, compiled: &Compiled) -> (Vec<Counter>, Vec<Option<u32>>) {
        let mut bases = vec![Counter::default(); compiled.rules.len()];
        let mut sources = vec![None; compiled.rules.len()];
        for rules in &after.of {
            let places = compiled.places(rules.family);
            let policies = self.running.compiled.places(rules.family);
            let mut carry = |place: Place<'_>, counter: Counter, source: Option<u32>| {
                if let Some(at) = places.get(&place) {
                    bases[*at as usize] = counter;
                    sources[*at as usize] = source;
                }
            };
            for table in &rules.tables {
                for Chain { name, policy, rules: of_chain } in &table.chains {
                    let place = |number| Place { table: table.name, chain: name, number };
                    if let Some(policy) = policy {
                        let source = policies.get(&place(None)).copied();
                        carry(place(None), policy.counter, source);
                    }
                    for (rule, number) in of_chain.iter().zip(1..) {
                        let source = self.source(rules.family, rule);
                        carry(place(Some(number)), rule.counter, source);
                    }
                }
            }
        }
        (bases, sources)
    }

    /// The compiled rule that this one was, if it was there before.
    fn source(&self, family: Family, rule: &Rule) -> Option<u32> {
        let file = self.files[index(family)].as_ref()?;
        if !Arc::ptr_eq(file, &rule.origin.file) {
            return None;
        }
        self.lines[index(family)].get(&rule.origin.line).copied()
    }
}

/// Where the rules of a generation were written, by their lines in its text.
fn places(maps: &Maps, generation: u32, running: &Rulesets) -> Result<[Places; 2]> {
    let mut all = [Places::new(), Places::new()];
    if generation == 0 {
        return Ok(all);
    }
    for rules in &running.of {
        let text = maps.rule_sources(generation, rules.family)?;
        let written = sources::read(rules, &text).unwrap_or_default();
        let lines = sources::rules(rules).map(|rule| rule.origin.line);
        all[index(rules.family)] = lines.zip(written).collect();
    }
    Ok(all)
}
