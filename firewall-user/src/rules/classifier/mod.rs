//! Builds the index of a ruleset, by which the datapath passes over the rules that a
//! packet cannot match: see [`firewall_common::classifier`] for what it means.
//!
//! [`ranges`] reads from a rule which values of a field it fits, [`classes`] cuts the
//! field at the ends of all rules' ranges, [`filing`] chooses under which field each
//! rule is filed, [`lines`] writes all that down. What does not fit into the lines
//! there are is left to the walk: more rules are looked at, the verdict is the same.

mod classes;
mod filing;
mod lines;
pub(super) mod patch;
mod ranges;

use std::ops::Range;

use firewall_common::{
    addr::Family,
    classifier::{FIELDS, Field, LINES_PER_GENERATION, Line},
    rule::{PortSet, Rule, RulesetHeader},
};

use self::{
    classes::Classes,
    filing::{Effort, Filing},
    lines::Lines,
    ranges::{Domain, Ranges},
};

pub use self::patch::{patch, used};

/// Rules of a family, policies and ends of chains among them, from which on it has an
/// index: to classify a packet costs as much as to look at a dozen (see
/// docs/adr/0006-the-index-of-long-rulesets.md).
pub const MIN_RULES: usize = 24;

/// The index of one generation: its lines, as many as are used.
pub fn build(header: &RulesetHeader, rules: &[Rule], port_sets: &[PortSet]) -> Vec<Line> {
    build_within(LINES_PER_GENERATION as usize, header, rules, port_sets)
}

/// As [`build`], with so many lines at most, the fixed ones among them.
pub(super) fn build_within(
    most: usize,
    header: &RulesetHeader,
    rules: &[Rule],
    port_sets: &[PortSet],
) -> Vec<Line> {
    let ipv6_from = (header.ipv6_from as usize).min(rules.len());
    let mut lines = Lines::new(most);
    for (family, range) in [(Family::Ipv4, 0..ipv6_from), (Family::Ipv6, ipv6_from..rules.len())] {
        if range.len() >= MIN_RULES {
            Index::of(family, rules, range, port_sets).write(&mut lines);
        }
    }
    lines.finish()
}

/// The rules of one family by the fields that they look at.
struct Index {
    family: Family,
    rules: Range<usize>,
    fields: [Of; FIELDS],
}

/// What the rules of a family say about one field.
struct Of {
    ranges: Ranges,
    classes: Classes,
}

impl Index {
    fn of(family: Family, rules: &[Rule], range: Range<usize>, port_sets: &[PortSet]) -> Self {
        let fields = Field::ALL.map(|field| {
            let domain = Domain { field, family };
            let ranges = Ranges::of(domain, &rules[range.clone()], port_sets);
            let classes = Classes::of(&ranges, domain.greatest());
            Of { ranges, classes }
        });
        Self { family, rules: range, fields }
    }

    /// With as much effort as there are lines for.
    fn write(&self, lines: &mut Lines) {
        let fields = self.fields.each_ref().map(|field| (&field.ranges, &field.classes));
        for effort in Effort::ALL {
            let filing = Filing::of(self.rules.len(), fields, effort);
            if filing.is_worthwhile() && lines.write(self.family, &self.rules, fields, &filing) {
                return;
            }
        }
    }
}
