//! From the ruleset to the tables that the datapath walks: the rules of both
//! families in one flat list, chains one after another, jumps by index.
//!
//! The contract with [`firewall_common::walk::step`]: a built-in chain ends in
//! its policy, a user chain in an uncounted return; every rule knows the index
//! of its chain's last; a packet that meets no chain is not walked at all.

mod alone;
mod conditions;
mod extras;
mod layout;

use std::{collections::HashMap, sync::Arc};

use firewall_common::{
    addr::Family,
    extra::{Extra, text::Pattern},
    rule::{PortSet, Rule, RulesetHeader},
};

pub use self::alone::alone;
use self::layout::Layout;
pub(super) use self::{extras::is_constant, layout::ORDER};
use super::{
    ast::{Log, Place, Ruleset, TableName},
    check,
    error::{Error, Errors},
    interface::InterfacePattern,
    problem::Problem,
};

/// One generation of rules, and what its indexes mean.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub rules: Vec<Rule>,
    pub port_sets: Vec<PortSet>,
    pub extras: Vec<Extra>,
    /// The words of `extras` that are slots of sets, 0 until [`Compiled::bind`].
    pub set_uses: Vec<SetUse>,
    /// What `-m string` searches for.
    pub texts: Vec<Pattern>,
    pub header: RulesetHeader,
    /// The index is the pattern's bit.
    pub patterns: Vec<InterfacePattern>,
    /// Of each of `rules`, where it comes from.
    pub origins: Vec<Origin>,
}

/// Where a compiled rule comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub family: Family,
    pub table: TableName,
    pub chain: Arc<str>,
    pub part: Part,
    /// What a LOG rule writes.
    pub log: Option<Log>,
}

/// Which part of its chain a compiled rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Counted from 1.
    Rule(u32),
    Policy,
    /// The end of a user chain, which has no counter.
    End,
}

impl Origin {
    /// How listings call it; the end of a user chain is in none.
    pub fn place(&self) -> Option<Place<'_>> {
        let number = match self.part {
            Part::Rule(number) => Some(number),
            Part::Policy => None,
            Part::End => return None,
        };
        Some(Place { table: self.table, chain: &self.chain, number })
    }
}

/// A set that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUse {
    /// Index of the extra, and which of its words is the slot.
    pub extra: usize,
    pub word: usize,
    pub name: String,
    /// Where the rule was written.
    pub file: Arc<str>,
    pub line: u32,
}

impl Compiled {
    /// Gives the sets that rules name their slots, which `slot_of` tells.
    ///
    /// # Errors
    /// Each set that is not there, with the rule that names it.
    pub fn bind(&mut self, slot_of: &dyn Fn(&str) -> Option<u32>) -> Result<(), Errors> {
        let mut errors = Vec::new();
        for SetUse { extra, word, name, file, line } in &self.set_uses {
            match (slot_of(name), self.extras.get_mut(*extra)) {
                (Some(slot), Some(extra)) => extra.arguments[*word] = slot,
                _ => {
                    let problem = Problem::absent_set(format!("there is no set '{name}'"));
                    let problem = problem.advise(format!(
                        "create it first, as with `firewall set create {name} hash:ip`"
                    ));
                    errors.push(Error::at_line(file, *line, problem));
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Errors(errors)) }
    }

    /// The bits of the patterns that an interface's name fits.
    pub fn patterns_of(&self, ifname: &str) -> u64 {
        let fits = self.patterns.iter().enumerate().filter(|(_, pattern)| pattern.matches(ifname));
        fits.fold(0, |bits, (bit, _)| bits | 1 << bit)
    }

    /// The index of each rule and policy of a family, by which its counter is
    /// found for a listing.
    pub fn places(&self, family: Family) -> HashMap<Place<'_>, u32> {
        let of_family = self.origins.iter().zip(0..).filter(|(origin, _)| origin.family == family);
        of_family.filter_map(|(origin, index)| Some((origin.place()?, index))).collect()
    }
}

/// Compiles the rules of both families into one generation.
///
/// # Errors
/// Every mistake that keeps them from working, and every limit they exceed.
pub fn compile(v4: &Ruleset, v6: &Ruleset) -> Result<Compiled, Errors> {
    let findings = [v4, v6].into_iter().flat_map(check::family);
    let errors: Vec<_> = findings
        .map(|found| Error::at_line(&found.origin.file, found.origin.line, found.problem))
        .collect();
    if !errors.is_empty() {
        return Err(Errors(errors));
    }
    let mut layout = Layout::default();
    layout.family(v4);
    layout.family(v6);
    layout.finish()
}
