//! One rule that comes into a compiled ruleset, goes, or takes another's place: the same
//! as compiling all rules anew, as long as the rule shares nothing with others.
//!
//! A rule stands for itself ([`alone`], [`stands_alone`]) when it has no conditions with
//! options of their own, port lists, interfaces or sets, which are kept in common, and
//! jumps nowhere. Then the others only move up or down.

use firewall_common::{
    extra::Extra,
    nat::Order,
    rule::{CHAINS, NO_ENTRY, Rule, RulesetHeader, Target, condition, flag},
};

pub use super::lower::alone;

/// What happens at one place of the flat list of rules.
#[derive(Clone, Copy, Debug)]
pub struct Splice {
    /// Index of the rule that comes or goes; that of the chain's end, to append.
    pub at: u32,
    /// Whether the rule that stands there goes.
    pub goes: bool,
    /// The rule that comes there; [`Splice::rules`] fills in where its chain ends.
    pub comes: Option<Rule>,
}

/// What the rules of a ruleset use of the tables beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub port_sets: usize,
    pub extras: usize,
}

impl Splice {
    /// How many rules there are afterwards.
    pub const fn length(&self, before: usize) -> usize {
        before + self.comes.is_some() as usize - self.goes as usize
    }

    /// Where what stood behind the place stands now.
    const fn moved(&self, index: u32) -> u32 {
        match (self.goes, self.comes.is_some()) {
            (false, true) => index + 1,
            (true, false) => index - 1,
            _ => index,
        }
    }

    /// Where a chain begins afterwards. One that begins at the place itself stays there.
    const fn start(&self, index: u32) -> u32 {
        if index > self.at && index != NO_ENTRY { self.moved(index) } else { index }
    }

    /// Where a chain ends afterwards.
    const fn end(&self, index: u32) -> u32 {
        if index >= self.at { self.moved(index) } else { index }
    }

    /// The header afterwards.
    pub fn header(&self, mut header: RulesetHeader) -> RulesetHeader {
        for family in &mut header.entries {
            for chain in family.iter_mut().take(CHAINS) {
                *chain = self.start(*chain);
            }
        }
        header.ipv6_from = self.start(header.ipv6_from);
        header
    }

    /// The rule that a later one was before; `None` for the one that comes.
    pub const fn source(&self, index: usize) -> Option<usize> {
        let at = self.at as usize;
        match (self.goes, self.comes.is_some()) {
            (_, true) if index == at => None,
            (false, true) if index > at => Some(index - 1),
            (true, false) if index >= at => Some(index + 1),
            _ => Some(index),
        }
    }

    /// Writes the rules as they are afterwards. `after` is [`Splice::length`] long.
    pub fn rules(&self, before: &[Rule], after: &mut [Rule]) {
        let (at, rest) = (self.at as usize, self.at as usize + usize::from(self.goes));
        let behind = at + usize::from(self.comes.is_some());
        after[..at].copy_from_slice(&before[..at]);
        after[behind..].copy_from_slice(&before[rest..]);
        if let Some(rule) = self.comes {
            after[at] = Rule { chain_end: before[at].chain_end, ..rule };
        }
        if behind == rest {
            return;
        }
        for rule in after {
            rule.chain_end = self.end(rule.chain_end);
            if rule.target == Target::Jump as u8 || rule.target == Target::Goto as u8 {
                rule.argument = self.start(rule.argument);
            }
        }
    }
}

/// Whether a compiled rule can go without a trace in what rules have in common.
pub const fn stands_alone(rule: &Rule) -> bool {
    const SHARED: u32 = condition::IN | condition::OUT | condition::PORTS_0 | condition::PORTS_1;
    let is_plain = matches!(
        Target::from_byte(rule.target),
        Some(
            Target::Continue
                | Target::Accept
                | Target::Drop
                | Target::Reject
                | Target::Log
                | Target::Return
                | Target::Jump
                | Target::Goto
                | Target::Helper
                | Target::Untrack
        )
    );
    is_plain
        && rule.present & SHARED == 0
        && rule.extra_count == 0
        && rule.flags & (flag::CHAIN_END | flag::POLICY) == 0
}

/// How much of the tables beside them the rules use.
pub fn used(rules: &[Rule]) -> Used {
    let mut used = Used::default();
    for rule in rules {
        let sets = [condition::PORTS_0, condition::PORTS_1].into_iter().zip(rule.port_sets);
        for (_, set) in sets.filter(|(bit, _)| rule.present & bit != 0) {
            used.port_sets = used.port_sets.max(usize::from(set) + 1);
        }
        if rule.extra_count != 0 {
            let end = usize::from(rule.extra_first) + usize::from(rule.extra_count);
            used.extras = used.extras.max(end);
        }
        // What targets name beside the conditions.
        let of_target = match Target::from_byte(rule.target) {
            Some(Target::Set) => [Some(rule.argument), None],
            Some(Target::Translate) => [Order::extra_of(rule), Order::base_of(rule)],
            _ => [None; 2],
        };
        for extra in of_target.into_iter().flatten() {
            used.extras = used.extras.max(extra as usize + 1);
        }
    }
    used
}

/// As the maps keep an [`Extra`]: they fill it up to whole words.
pub type PaddedExtra = [u64; size_of::<Extra>().div_ceil(8)];
