//! `firewall recent`: the lists of `-m recent`.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use firewall_common::extra::recent::list_id;

use super::{maps, output::print};
use crate::{
    cli::args::{self, Global, Output, RecentEdit},
    kernel::maps::{Maps, now, wall_time},
    listing::recent::{self, ListView, RecentView},
    rules,
    ruleset::Running,
};

pub fn recent(global: &Global, command: &args::Recent) -> Result<()> {
    let maps = maps(global)?;
    let known = rules::recent_lists(&Running::load(&maps)?.rulesets.of);
    let Some(name) = &command.name else { return lists(global, &maps, &known) };
    if !known.contains(name) {
        let names: Vec<_> = known.iter().map(String::as_str).collect();
        let which = match &names[..] {
            [] => "no rule has -m recent".into(),
            names => format!("the rules name {}", names.join(", ")),
        };
        bail!("there is no list '{name}': {which}");
    }
    let list = list_id(name);
    match command.edit {
        Some(RecentEdit::Add(address)) => maps.add_recent(list, address.into()),
        Some(RecentEdit::Remove(address)) => match maps.remove_recent(list, address.into())? {
            true => Ok(()),
            false => bail!("{address} is not in the list '{name}'"),
        },
        Some(RecentEdit::Flush) => maps.flush_recent(list),
        None => entries(global, &maps, name),
    }
}

/// Each list that the rules name, and how many entries it has.
fn lists(global: &Global, maps: &Maps, known: &BTreeSet<String>) -> Result<()> {
    let all = maps.recent()?;
    let count = |name: &str| all.iter().filter(|(key, _)| key.list == list_id(name)).count();
    let views = known.iter().map(|name| ListView { list: name.clone(), entries: count(name) });
    match global.output {
        Output::Text => print(views.map(|view| recent::list_text(&view))),
        Output::Json => print(views.map(|view| recent::list_json(&view))),
    }
}

fn entries(global: &Global, maps: &Maps, name: &str) -> Result<()> {
    let now = now();
    let wall = wall_time(now);
    let mut all = maps.recent()?;
    all.retain(|(key, _)| key.list == list_id(name));
    all.sort_unstable_by_key(|(key, _)| key.address.to_ip());
    let view = |(key, entry)| RecentView { list: name, key, entry, now, wall };
    let views = all.into_iter().map(view);
    match global.output {
        Output::Text => print(views.map(|view| recent::text(&view))),
        Output::Json => print(views.map(|view| recent::json(&view))),
    }
}
