//! The rules that are in force: from text to the maps, and back with counters.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, bail};
use firewall_common::{addr::Family, rule::Counter};

pub(crate) mod sources;

use crate::{
    kernel::maps::Maps,
    rules::{self, BuiltinServices, Compiled, ListOptions, Log, Part, Place, Ruleset, TableName},
    sets,
};

mod difference;
mod edit;
pub mod patch;
mod shelf;

pub use self::{
    difference::{Change, Difference, differences},
    edit::Edit,
    shelf::{Shelf, bind},
};

/// The rules of both families.
#[derive(Clone, Debug)]
pub struct Rulesets {
    /// IPv4, IPv6.
    pub of: [Ruleset; 2],
}

impl Default for Rulesets {
    /// No rules, and every policy ACCEPT: as a kernel without iptables.
    fn default() -> Self {
        Self { of: [Family::Ipv4, Family::Ipv6].map(Ruleset::empty) }
    }
}

pub const fn family(is_ipv6: bool) -> Family {
    if is_ipv6 { Family::Ipv6 } else { Family::Ipv4 }
}

const fn index(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}

impl Rulesets {
    pub const fn family(&self, family: Family) -> &Ruleset {
        &self.of[index(family)]
    }

    /// With these rules, which have counted nothing yet, instead of those of the same
    /// family.
    #[must_use]
    pub fn with(self, rules: Ruleset) -> Self {
        self.with_counted(uncounted(rules))
    }

    /// As [`Rulesets::with`]; the rules begin with the counters that they carry.
    #[must_use]
    pub fn with_counted(mut self, rules: Ruleset) -> Self {
        let place = index(rules.family);
        self.of[place] = rules;
        self
    }

    /// # Errors
    /// Every mistake that shows only in the whole.
    pub fn compile(&self) -> Result<Compiled> {
        let [v4, v6] = &self.of;
        Ok(rules::compile(v4, v6)?)
    }

    /// What is kept beside the compiled rules: it says the same wherever it came
    /// from.
    fn texts(&self) -> [String; 2] {
        self.of.each_ref().map(|rules| rules::to_save(rules, None))
    }

    /// Gives the rules of a generation the places where they were written.
    fn restore_places(&mut self, maps: &Maps, generation: u32) -> Result<()> {
        if generation == 0 {
            return Ok(());
        }
        for rules in &mut self.of {
            let text = maps.rule_sources(generation, rules.family)?;
            sources::restore(rules, &text);
        }
        Ok(())
    }

    /// Whether these are the same rules, whatever they have counted.
    fn says_the_same(&self, other: &Self) -> bool {
        self.clone().of.map(uncounted) == other.clone().of.map(uncounted)
    }
}

/// The rules with all counters at zero.
fn uncounted(mut rules: Ruleset) -> Ruleset {
    for chain in rules.tables.iter_mut().flat_map(|table| &mut table.chains) {
        chain.rules.iter_mut().for_each(|rule| rule.counter = Counter::default());
        if let Some(policy) = &mut chain.policy {
            policy.counter = Counter::default();
        }
    }
    rules
}

/// The rules in force.
#[derive(Debug)]
pub struct Running {
    /// 0 when none were ever installed.
    pub generation: u32,
    pub rulesets: Rulesets,
    pub compiled: Compiled,
}

impl Running {
    /// Reads what a daemon or `firewall apply` has installed.
    ///
    /// # Errors
    /// When the maps cannot be read, or hold rules that this version cannot read.
    pub fn load(maps: &Maps) -> Result<Self> {
        /// How often they may be replaced while they are read.
        const ATTEMPTS: usize = 100;
        for _ in 0..ATTEMPTS {
            if let Some(running) = Self::load_generation(maps, maps.generation()?)? {
                return Ok(running);
            }
        }
        bail!("the rules change faster than they can be read: ask again when they are in place")
    }

    /// As [`Running::load`], of a generation; `None` when it has been replaced since.
    ///
    /// # Errors
    /// As there.
    pub fn load_generation(maps: &Maps, generation: u32) -> Result<Option<Self>> {
        let Some(mut running) = Self::read(maps, generation)? else { return Ok(None) };
        running.rulesets.restore_places(maps, generation)?;
        Ok(Some(running))
    }

    /// The rules as lines of the text that is kept of them.
    fn read(maps: &Maps, generation: u32) -> Result<Option<Self>> {
        let mut rulesets = Rulesets::default();
        if generation != 0 {
            for family in [Family::Ipv4, Family::Ipv6] {
                // They name no ports, which saves the reading of /etc/services.
                let Some(text) = maps.ruleset_text(generation, family)? else { return Ok(None) };
                let rules = rules::parse("the running rules", &text, family, &BuiltinServices);
                let rules = rules.context("cannot read the running rules")?;
                rulesets = rulesets.with_counted(rules);
            }
        }
        let compiled = rulesets.compile()?;
        Ok(Some(Self { generation, rulesets, compiled }))
    }

    /// Changes the rules in force. Those that stay go on counting.
    ///
    /// # Errors
    /// What is wrong with the new rules, or with the maps; nothing has changed then.
    pub fn change(maps: &Maps, change: impl FnOnce(Rulesets) -> Rulesets) -> Result<()> {
        Self::replace(maps, change, None, None).map(drop)
    }

    /// As [`Running::change`], together with the sets of a file: a packet sees the rules and
    /// the sets of before, or these.
    ///
    /// # Errors
    /// As there, or what is wrong with the file.
    pub fn change_with_sets(
        maps: &Maps,
        sets: Option<&sets::File>,
        change: impl FnOnce(Rulesets) -> Rulesets,
    ) -> Result<()> {
        Self::replace(maps, change, sets, None).map(drop)
    }

    /// As [`Running::change_with_sets`], for so long: then the former rules and sets count
    /// again, unless somebody confirms. Gives the generation on trial; `None` when all say
    /// what was said before, so that there is nothing to confirm.
    ///
    /// # Errors
    /// As there.
    pub fn try_out(
        maps: &Maps,
        time: Duration,
        sets: Option<&sets::File>,
        change: impl FnOnce(Rulesets) -> Rulesets,
    ) -> Result<Option<u32>> {
        Self::replace(maps, change, sets, Some(time))
    }

    fn replace(
        maps: &Maps,
        change: impl FnOnce(Rulesets) -> Rulesets,
        sets: Option<&sets::File>,
        trial: Option<Duration>,
    ) -> Result<Option<u32>> {
        let _lock = maps.pins().lock_ruleset()?;
        maps.refuse_trial()?;
        let edit = Edit::begin(maps)?;
        let after = change(edit.before().clone());
        let shelf = Shelf::take(maps, sets)?;
        if !edit.is_first() && shelf.is_as_before() && after.says_the_same(edit.before()) {
            edit.note_places(&after)?;
            return Ok(None);
        }
        edit.install(&after, shelf, trial).map(Some)
    }

    /// The interface patterns that a name fits, as a set of bits.
    pub fn patterns(&self, name: &str) -> u64 {
        self.compiled.patterns_of(name)
    }

    /// Of both families, policies not counted.
    pub fn rule_count(&self) -> u32 {
        let rules = self.compiled.origins.iter();
        rules.filter(|origin| matches!(origin.part, Part::Rule(_))).count() as u32
    }

    /// What LOG rules write, by the index of the compiled rule.
    pub fn logs(&self) -> HashMap<u32, Log> {
        let rules = (0..).zip(&self.compiled.origins);
        rules.filter_map(|(index, origin)| Some((index, origin.log.clone()?))).collect()
    }

    /// The rule that a compiled one comes from, unless it is the end of its chain.
    pub fn rule(&self, index: u32) -> Option<&rules::Rule> {
        let origin = self.compiled.origins.get(index as usize)?;
        let Part::Rule(number) = origin.part else { return None };
        let table = self.rulesets.of[self::index(origin.family)].table(origin.table)?;
        table.chain(&origin.chain)?.rules.get(number as usize - 1)
    }

    /// What people call a compiled rule: `FORWARD 3`.
    pub fn rule_name(&self, index: u32) -> Option<String> {
        let origin = self.compiled.origins.get(index as usize)?;
        match origin.part {
            Part::Rule(number) => Some(format!("{} {number}", origin.chain)),
            Part::Policy | Part::End => None,
        }
    }

    /// As `iptables-save` prints them, on request with `[packets:bytes]`.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn save(&self, maps: &Maps, family: Family, with_counters: bool) -> Result<String> {
        let rules = &self.rulesets.of[index(family)];
        if !with_counters {
            return Ok(rules::to_save(&uncounted(rules.clone()), None));
        }
        self.with_counters(maps, family, |counters| rules::to_save(rules, Some(counters)))
    }

    /// As `iptables -L -v -n --line-numbers` prints them: the table filter, and
    /// each other one under its name.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn list(&self, maps: &Maps, family: Family) -> Result<String> {
        let rules = &self.rulesets.of[index(family)];
        self.with_counters(maps, family, |counters| {
            let list = |table| {
                let options = ListOptions {
                    table,
                    verbose: true,
                    line_numbers: true,
                    ..ListOptions::default()
                };
                rules::list(rules, counters, &options)
            };
            let others = rules.tables.iter().map(|table| table.name);
            let others = others.filter(|name| *name != TableName::Filter);
            others.fold(list(TableName::Filter), |text, name| {
                format!("{text}\nTable {name}\n\n{}", list(name))
            })
        })
    }

    /// A line for each rule and policy.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn json(&self, maps: &Maps, family: Family) -> Result<String> {
        let rules = &self.rulesets.of[index(family)];
        self.with_counters(maps, family, |counters| rules::json(rules, counters))
    }

    /// Of each compiled rule.
    fn counters(&self, maps: &Maps) -> Result<Vec<Counter>> {
        match self.generation {
            0 => Ok(vec![Counter::default(); self.compiled.rules.len()]),
            generation => maps.rule_counters(generation, self.compiled.rules.len()),
        }
    }

    fn with_counters<R>(
        &self,
        maps: &Maps,
        family: Family,
        print: impl FnOnce(rules::Counters<'_>) -> R,
    ) -> Result<R> {
        let counters = self.counters(maps)?;
        let known: HashMap<Place<'_>, Counter> = self
            .compiled
            .origins
            .iter()
            .zip(&counters)
            .filter(|(origin, _)| origin.family == family)
            .filter_map(|(origin, counter)| Some((origin.place()?, *counter)))
            .collect();
        let find = |place: Place<'_>| known.get(&place).copied().unwrap_or_default();
        Ok(print(&find))
    }
}
