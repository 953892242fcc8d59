//! One rule that comes or goes, worked out on the kept texts: the others are neither read
//! nor compiled anew, whatever their number.
//!
//! What this does not know, it leaves to [`super::Edit`], which knows everything: rules
//! that share something with others (see [`crate::rules::splice`]), table raw, chains of
//! tables that are not walked yet, several rules at once, and whatever is wrong.

use firewall_common::{
    addr::Family,
    rule::{Rule as Compiled, RulesetHeader},
};

use super::{index, sources};
use crate::rules::{
    Rule, Ruleset, TableName,
    outline::{ChainPlace, Outline},
    spec_text,
    splice::{Splice, alone, stands_alone},
};

/// What is kept beside the compiled rules, of IPv4 and IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub texts: [String; 2],
    pub sources: [String; 2],
}

/// What happens in a chain. Numbers of rules count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Append,
    Insert(usize),
    Replace(usize),
    DeleteNumber(usize),
    /// The first rule that says the same goes.
    Delete,
}

/// The chain in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Where<'a> {
    pub family: Family,
    pub table: TableName,
    pub chain: &'a str,
}

/// Texts that are known well enough to be changed.
#[derive(Debug)]
pub struct Sketch<'a> {
    place: Where<'a>,
    chain: ChainPlace,
    /// Rules of the family.
    rules: usize,
    /// What each family is compiled to, in rules.
    compiled: [usize; 2],
    chains: Ruleset,
}

/// The change of the compiled rules.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    pub splice: Splice,
    /// Compiled rules before the change, of both families.
    pub rules: usize,
    /// Those of IPv4.
    ipv4: usize,
    /// Index of the end of the chain.
    chain_end: usize,
}

impl<'a> Sketch<'a> {
    /// `None` where the chain is not there, or not walked.
    pub fn of(kept: &Kept, place: Where<'a>) -> Option<Self> {
        let [v4, v6] = [Outline::read(&kept.texts[0])?, Outline::read(&kept.texts[1])?];
        let compiled = [v4.compiled(), v6.compiled()];
        let outline = match place.family {
            Family::Ipv4 => &v4,
            Family::Ipv6 => &v6,
        };
        let mut chains = Ruleset::empty(place.family);
        let table = chains.table_mut(place.table);
        for (name, is_builtin) in outline.chains(place.table) {
            if !is_builtin {
                let chain =
                    crate::rules::Chain { name: name.to_owned(), policy: None, rules: Vec::new() };
                table.chains.push(chain);
            }
        }
        let chain = outline.place(place.table, place.chain)?;
        Some(Self { place, chain, rules: outline.rules(), compiled, chains })
    }

    /// The chains of the table, without rules: what a rule can be written for.
    pub const fn chains(&self) -> &Ruleset {
        &self.chains
    }

    /// Works the change out, and carries it out on the texts; `None` where more has to be
    /// known. What the texts say then is worth nothing.
    pub fn carry_out(&self, kept: &mut Kept, step: Step, rule: Option<&Rule>) -> Option<Patch> {
        let Where { family, table, chain } = self.place;
        // All its rules together say when packets are shown to it.
        if table == TableName::Raw {
            return None;
        }
        let line = rule.map(|rule| written(family, chain, rule));
        let (number, bytes) = self.find(&kept.texts[index(family)], step, line.as_deref())?;
        let goes = !bytes.is_empty();
        let comes = match step {
            Step::Append | Step::Insert(_) | Step::Replace(_) => Some(rule?),
            Step::DeleteNumber(_) | Step::Delete => None,
        };
        // The first rule of a chain and the last one change which chains are walked.
        let left = self.chain.rules + usize::from(comes.is_some()) - usize::from(goes);
        if table != TableName::Filter && (self.chain.rules == 0 || left == 0) {
            return None;
        }
        let compiled = match comes {
            Some(rule) => Some(alone(family, table, rule)?),
            None => None,
        };
        let of_family = index(family);
        let written = comes.map(|rule| (&*rule.origin.file, rule.origin.line));
        let at = self.chain.before + number;
        let places = sources::splice(&kept.sources[of_family], self.rules, at, goes, written)?;
        kept.sources[of_family] = places;
        let line = if comes.is_some() { line.unwrap_or_default() } else { String::new() };
        kept.texts[of_family].replace_range(bytes, &line);
        Some(self.patch(number, goes, compiled))
    }

    fn patch(&self, number: usize, goes: bool, comes: Option<Compiled>) -> Patch {
        let [v4, v6] = self.compiled;
        let first = self.chain.first + if self.place.family == Family::Ipv6 { v4 } else { 0 };
        Patch {
            splice: Splice { at: (first + number) as u32, goes, comes },
            rules: v4 + v6,
            ipv4: v4,
            chain_end: first + self.chain.rules,
        }
    }

    /// The number of the rule in its chain, and the bytes of what goes there.
    fn find(
        &self,
        text: &str,
        step: Step,
        line: Option<&str>,
    ) -> Option<(usize, std::ops::Range<usize>)> {
        let ChainPlace { rules, lines, .. } = &self.chain;
        let number = match step {
            Step::Append => return Some((*rules, lines.end..lines.end)),
            Step::Insert(number) if number <= *rules => number,
            Step::Replace(number) | Step::DeleteNumber(number) if number < *rules => number,
            Step::Delete => {
                let wanted = line?;
                text[lines.clone()].split_inclusive('\n').position(|known| known == wanted)?
            }
            _ => return None,
        };
        let mut all = text[lines.clone()].split_inclusive('\n');
        let before: usize = all.by_ref().take(number).map(str::len).sum();
        let start = lines.start + before;
        let goes = match step {
            Step::Insert(_) => 0,
            _ => all.next()?.len(),
        };
        Some((number, start..start + goes))
    }
}

impl Patch {
    /// Whether the compiled rules are those of the texts, and can be changed by
    /// themselves.
    pub fn fits(&self, header: &RulesetHeader, rules: &[Compiled]) -> bool {
        let end = self.chain_end as u32;
        let of = |at: usize| rules.get(at);
        header.ipv6_from as usize == self.ipv4
            && rules.len() == self.rules
            && of(self.chain_end).is_some_and(|rule| rule.chain_end == end)
            && of(self.splice.at as usize).is_some_and(|rule| {
                rule.chain_end == end && (!self.splice.goes || stands_alone(rule))
            })
    }
}

/// The rule's line in the text.
fn written(family: Family, chain: &str, rule: &Rule) -> String {
    let spec = spec_text(family, &rule.spec);
    let blank = if spec.is_empty() { "" } else { " " };
    format!("-A {chain}{blank}{spec}\n")
}
