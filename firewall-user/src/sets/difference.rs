//! What sets that come with rules change, set by set, as people would say it.

use std::{collections::BTreeMap, fmt};

use anyhow::Result;
use firewall_common::set::{EntryKey, Kind, SetHeader, entry_flag};
use serde::Serialize;

use super::{
    element,
    header::{self, kind},
    names::kind_name,
    replacement::{Held, Replacement, held},
};

/// A set that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetDifference {
    pub set: String,
    #[serde(flatten)]
    pub change: SetChange,
}

/// What of it changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum SetChange {
    NewSet {
        r#type: &'static str,
        elements: usize,
    },
    SetGoes {
        elements: usize,
    },
    /// Its type or its options are others, its counters begin anew, or the time of its
    /// elements does.
    MadeAnew {
        r#type: &'static str,
        elements: usize,
    },
    Added {
        element: String,
    },
    Removed {
        element: String,
    },
}

impl fmt::Display for SetDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |elements: usize| match elements {
            1 => "1 element".to_owned(),
            _ => format!("{elements} elements"),
        };
        write!(f, "set {}: ", self.set)?;
        match &self.change {
            SetChange::NewSet { r#type, elements } => {
                write!(f, "it is new, {type} with {}", counted(*elements))
            }
            SetChange::SetGoes { elements } => write!(f, "it goes, with {}", counted(*elements)),
            SetChange::MadeAnew { r#type, elements } => {
                write!(f, "it is made anew, {type} with {}", counted(*elements))
            }
            SetChange::Added { element } => write!(f, "+ {element}"),
            SetChange::Removed { element } => write!(f, "- {element}"),
        }
    }
}

impl Replacement {
    /// What changes, set by set in the order of their names.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn differences(&mut self) -> Result<Vec<SetDifference>> {
        let mut names: BTreeMap<String, (Option<u32>, Option<u32>)> = BTreeMap::new();
        for set in &self.before {
            names.entry(set.name.clone()).or_default().0 = Some(set.slot);
        }
        for (name, slot) in &self.plan.by_name {
            names.entry(name.clone()).or_default().1 = Some(*slot);
        }
        let mut found = Vec::new();
        for (name, (before, after)) in names.into_iter().filter(|(_, (from, to))| from != to) {
            let changes = self.changes(before, after)?.into_iter();
            found.extend(changes.map(|change| SetDifference { set: name.clone(), change }));
        }
        Ok(found)
    }

    fn changes(&mut self, before: Option<u32>, after: Option<u32>) -> Result<Vec<SetChange>> {
        let old = match before {
            Some(slot) => Some(self.old(slot)?),
            None => None,
        };
        let new = after.and_then(|slot| self.contents_at(slot));
        let new = new.map(|at| (self.plan.contents[at].header, held(&self.plan.contents[at])));
        Ok(match (old, new) {
            (None, None) => Vec::new(),
            (Some((_, held)), None) => vec![SetChange::SetGoes { elements: held.len() }],
            (None, Some((header, held))) => {
                vec![SetChange::NewSet { r#type: kind_name(kind(&header)), elements: held.len() }]
            }
            (Some(old), Some(new)) => self.between(&old, &new),
        })
    }

    fn between(&self, old: &(SetHeader, Held), new: &(SetHeader, Held)) -> Vec<SetChange> {
        let ((was, old), (is, new)) = (old, new);
        let mut changes: Vec<SetChange> = Vec::new();
        if header::is_same(was, is) && kind(is) != Kind::ListSet {
            let removed = self.only(is, old, new).into_iter();
            changes.extend(removed.map(|element| SetChange::Removed { element }));
            let added = self.only(is, new, old).into_iter();
            changes.extend(added.map(|element| SetChange::Added { element }));
        }
        if changes.is_empty() {
            changes.push(SetChange::MadeAnew { r#type: kind_name(kind(is)), elements: new.len() });
        }
        changes
    }

    /// The elements that `of` has and `other` has not, or not so.
    fn only(&self, header: &SetHeader, of: &Held, other: &Held) -> Vec<String> {
        let differs = |(key, what): &(&EntryKey, &_)| other.get(key) != Some(*what);
        let text = |(key, (flags, comment)): (&EntryKey, &(u32, Option<Box<str>>))| {
            let mut text = String::new();
            element::write(&mut text, key, header, &|slot| self.name(slot));
            if flags & entry_flag::NOMATCH != 0 {
                text += " nomatch";
            }
            if let Some(comment) = comment {
                text += &format!(" comment \"{comment}\"");
            }
            text
        };
        let mut all: Vec<_> = of.iter().filter(differs).map(text).collect();
        all.sort();
        all
    }

    fn name(&self, slot: u32) -> String {
        let named = self.plan.slots.get(slot as usize).and_then(Option::as_ref);
        let before = || self.before.iter().find(|set| set.slot == slot);
        named.map_or_else(
            || before().map_or_else(|| slot.to_string(), |set| set.name.clone()),
            |named| named.name.clone(),
        )
    }
}
