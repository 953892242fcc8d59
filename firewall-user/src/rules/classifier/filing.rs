//! Under which field each rule is filed.

use std::ops::Range;

use firewall_common::classifier::{FIELDS, Field, check};

use super::{classes::Classes, ranges::Ranges};

/// The ranges and classes of each field.
pub(super) type Fields<'a> = [(&'a Ranges, &'a Classes); FIELDS];

/// How much space the lists may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Classes in whose lists one rule may stand.
    pub(super) classes: usize,
    /// Long lists tell their rules apart by a second field.
    pub(super) has_checks: bool,
}

impl Effort {
    /// The most first.
    pub(super) const ALL: [Self; 4] = [
        Self { classes: 1_024, has_checks: true },
        Self { classes: 1_024, has_checks: false },
        Self { classes: 32, has_checks: false },
        Self { classes: 2, has_checks: false },
    ];
}

/// Entries of all lists of a family: what does not fit stays unfiled.
const MAX_ENTRIES: usize = 1 << 19;
/// Longer lists are worth the tree of a second field.
const LONG_LIST: usize = 8;

/// Where one rule is filed.
#[derive(Clone, Debug)]
pub(super) struct Filed {
    pub(super) field: usize,
    /// Its part of the field's ranges.
    pub(super) ranges: Range<usize>,
    /// As in an entry of a list.
    pub(super) check: u16,
}

/// Of each rule of the family, where it is filed.
pub(super) struct Filing {
    pub(super) rules: Vec<Option<Filed>>,
    /// Fields whose class is asked for by a check.
    pub(super) is_checked: [bool; FIELDS],
}

/// A rule under one field.
struct Choice {
    field: usize,
    ranges: Range<usize>,
    classes: u64,
    /// How many rules, on average, share its classes.
    company: f64,
}

impl Filing {
    pub(super) fn of(rules: usize, fields: Fields<'_>, effort: Effort) -> Self {
        let mut of_fields = fields.map(|(ranges, _)| ranges.of_rules());
        let mut filing = Self { rules: Vec::with_capacity(rules), is_checked: [false; FIELDS] };
        let mut seconds = Vec::with_capacity(rules);
        let mut entries = 0;
        for _ in 0..rules {
            let mut choices =
                choices(of_fields.each_mut().map(|ranges| ranges.next().flatten()), fields);
            choices.retain(|choice| choice.classes <= effort.classes as u64);
            choices.sort_by(|a, b| a.company.total_cmp(&b.company));
            let second = choices.iter().skip(1).find(|choice| choice.classes == 1);
            seconds.push(second.map(|second| (second.field, second.ranges.start)));
            let best = choices.into_iter().next();
            let best = best.filter(|best| entries + best.classes as usize <= MAX_ENTRIES);
            entries += best.as_ref().map_or(0, |best| best.classes as usize);
            filing.rules.push(best.map(|best| Filed {
                field: best.field,
                ranges: best.ranges,
                check: 0,
            }));
        }
        if effort.has_checks && filing.longest_list(fields) > LONG_LIST {
            filing.check_by(&seconds, fields);
        }
        filing
    }

    /// Whether enough rules are filed for the index to pay.
    pub(super) fn is_worthwhile(&self) -> bool {
        self.rules.iter().flatten().count() >= super::MIN_RULES / 2
    }

    fn longest_list(&self, fields: Fields<'_>) -> usize {
        let of_field = |field| {
            self.lists(field, fields).into_iter().map(|list| list as usize).max().unwrap_or(0)
        };
        (0..FIELDS).map(of_field).max().unwrap_or(0)
    }

    /// How many rules are filed under each class of a field.
    pub(super) fn lists(&self, field: usize, fields: Fields<'_>) -> Vec<u32> {
        let (_, classes) = fields[field];
        let mut lengths = vec![0; classes.count()];
        for filed in self.rules.iter().flatten().filter(|filed| filed.field == field) {
            for (first, last) in &classes.of_ranges[filed.ranges.clone()] {
                lengths[*first as usize..=*last as usize]
                    .iter_mut()
                    .for_each(|length| *length += 1);
            }
        }
        lengths
    }

    /// Adds to each rule its class in a second field, where it has one only.
    fn check_by(&mut self, seconds: &[Option<(usize, usize)>], fields: Fields<'_>) {
        for (filed, second) in self.rules.iter_mut().zip(seconds) {
            let (Some(filed), Some((field, range))) = (filed, second) else { continue };
            let (_, classes) = fields[*field];
            filed.check = check(*field as u32, classes.of_ranges[*range].0);
            self.is_checked[*field] = true;
        }
    }
}

/// The fields under which a rule can be filed.
fn choices(ranges: [Option<Range<usize>>; FIELDS], fields: Fields<'_>) -> Vec<Choice> {
    let mut choices = Vec::with_capacity(FIELDS);
    for (field, ranges) in Field::ALL.into_iter().zip(ranges) {
        let field = field as usize;
        let (_, of_field) = fields[field];
        let Some(ranges) = ranges else { continue };
        let Some(spans) = of_field.of_ranges.get(ranges.clone()) else { continue };
        let classes: u64 = spans.iter().map(|(first, last)| u64::from(last - first) + 1).sum();
        let rules: u64 = spans.iter().map(|span| of_field.rules_in(*span)).sum();
        // A rule that fits nothing is in no list, and in nobody's company.
        let company = if classes == 0 { 0.0 } else { rules as f64 / classes as f64 };
        choices.push(Choice { field, ranges, classes, company });
    }
    choices
}
