//! `firewall conntrack`: the tracked flows.

use std::collections::HashMap;

use anyhow::{Result, bail};
use firewall_common::{
    expectation::Master,
    flow::{Flow, FlowKey, Tuple},
    tables::FlowTable,
    time::Nanos,
};

use super::{maps, output::print};
use crate::{
    cli::{
        FlowFilter,
        args::{Global, Output},
    },
    kernel::maps::{Maps, now},
    listing::flow::{self, FlowView},
};

pub fn list(global: &Global, filter: &FlowFilter) -> Result<()> {
    let views = views(&maps(global)?, filter)?;
    show(global, views.iter().map(|(_, view)| view))?;
    said(global, views.len(), "shown");
    Ok(())
}

pub fn count(global: &Global, filter: &FlowFilter) -> Result<()> {
    let count = views(&maps(global)?, filter)?.len();
    match global.output {
        Output::Text => print([count.to_string()]),
        Output::Json => print([format!("{{\"count\":{count}}}")]),
    }
}

pub fn delete(global: &Global, filter: &FlowFilter) -> Result<()> {
    let maps = maps(global)?;
    let mut deleted = Vec::new();
    for (table, view) in views(&maps, filter)? {
        if maps.delete_flow(table, &view.key)? {
            deleted.push(view);
        }
    }
    show(global, &deleted)?;
    if deleted.is_empty() {
        bail!("no flow is like that: 0 flow entries have been deleted");
    }
    said(global, deleted.len(), "deleted");
    Ok(())
}

pub fn flush(global: &Global) -> Result<()> {
    let maps = maps(global)?;
    for (table, key, _) in maps.flows(Nanos::ZERO)? {
        maps.delete_flow(table, &key)?;
    }
    if matches!(global.output, Output::Text) {
        eprintln!("connection tracking table has been emptied");
    }
    Ok(())
}

fn views(maps: &Maps, filter: &FlowFilter) -> Result<Vec<(FlowTable, FlowView)>> {
    let now = now();
    let masters: HashMap<FlowKey, Master> = maps.masters()?.into_iter().collect();
    let flows = maps.flows(now)?.into_iter();
    let wanted = flows.filter(|(_, key, flow)| filter.matches(key, flow));
    let view = |(table, key, flow)| {
        let master = master(&masters, &key, &flow);
        (table, FlowView { key, flow, master, now })
    };
    Ok(wanted.map(view).collect())
}

/// The control connection that announced a flow. Entries outlive their flows, so
/// that one of an earlier flow with the same endpoints may still be there.
fn master(masters: &HashMap<FlowKey, Master>, key: &FlowKey, flow: &Flow) -> Option<Tuple> {
    let master = masters.get(key)?;
    (master.child_created == flow.created).then_some(master.tuple)
}

fn show<'v>(global: &Global, views: impl IntoIterator<Item = &'v FlowView>) -> Result<()> {
    match global.output {
        Output::Text => print(views.into_iter().map(flow::text)),
        Output::Json => print(views.into_iter().map(flow::json)),
    }
}

/// As conntrack(8) says it, and where.
fn said(global: &Global, count: usize, what: &str) {
    if matches!(global.output, Output::Text) {
        eprintln!("{count} flow entries have been {what}.");
    }
}
