//! `-m recent`: lists of addresses and when they were seen.

use std::{collections::BTreeSet, net::IpAddr};

use super::Fact;
use crate::rules::ast::{Match, Ruleset};

/// What a rule asks of a list, and does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    pub name: String,
    pub action: Action,
    /// How far back a sighting counts; 0 for any.
    pub seconds: u32,
    /// An entry that is older than that goes away.
    pub reap: bool,
    /// How many sightings there must be; 0 when that was not written.
    pub hits: u32,
    /// Only packets with the TTL of the last sighting.
    pub ttl: bool,
    pub is_destination: bool,
    pub mask: IpAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Set,
    Check,
    Update,
    Remove,
}

impl Recent {
    /// The list that is meant where none is named.
    pub const DEFAULT_NAME: &'static str = "DEFAULT";
    /// Bytes.
    pub const LONGEST_NAME: usize = 199;
}

impl Action {
    /// As the option is called, without its dashes.
    pub(crate) const fn option(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Check => "rcheck",
            Self::Update => "update",
            Self::Remove => "remove",
        }
    }

    /// As a listing says.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Check => "CHECK",
            Self::Update => "UPDATE",
            Self::Remove => "REMOVE",
        }
    }
}

/// The lists that rules name, of whatever family.
pub fn recent_lists(rulesets: &[Ruleset]) -> BTreeSet<String> {
    let tables = rulesets.iter().flat_map(|rules| &rules.tables);
    let rules = tables.flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    let extras = rules.flat_map(|rule| &rule.spec.matches).filter_map(|one| match one {
        Match::Extra(extra) => Some(extra),
        _ => None,
    });
    let names = extras.flat_map(|extra| &extra.facts).filter_map(|fact| match &fact.value {
        Fact::Recent(recent) => Some(recent.name.clone()),
        _ => None,
    });
    names.collect()
}
