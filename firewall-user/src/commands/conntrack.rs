//! `firewall conntrack`: the tracked flows.

use std::ops::ControlFlow;

use anyhow::{Result, bail};
use firewall_common::{
    flow::{Flow, FlowKey, Tuple, status},
    time::Nanos,
};

use super::{
    maps,
    output::{Printer, print},
};
use crate::{
    cli::{
        FlowFilter,
        args::{Global, Output},
    },
    kernel::{
        flows::{FlowTables, Masters},
        maps::{Maps, now},
    },
    listing::flow::{self, FlowView},
    watch::ended::Ended,
};

pub fn list(global: &Global, filter: &FlowFilter) -> Result<()> {
    let maps = maps(global)?;
    let mut listing = Listing::new(global.output, &maps)?;
    let mut count = 0;
    let mut outcome = Ok(());
    FlowTables::open(&maps)?.for_each(listing.now, |_, key, flow| {
        if !filter.matches(key, flow) {
            return ControlFlow::Continue(());
        }
        count += 1;
        listing.show(key, flow).unwrap_or_else(|error| {
            outcome = Err(error);
            ControlFlow::Break(())
        })
    })?;
    outcome?;
    if listing.finish()? {
        said(global, count, "shown");
    }
    Ok(())
}

pub fn count(global: &Global, filter: &FlowFilter) -> Result<()> {
    let flows = FlowTables::open(&maps(global)?)?;
    let count = match filter.is_empty() {
        true => flows.count(now())?,
        false => matching(&flows, filter)?,
    };
    match global.output {
        Output::Text => print([count.to_string()]),
        Output::Json => print([format!("{{\"count\":{count}}}")]),
    }
}

fn matching(flows: &FlowTables, filter: &FlowFilter) -> Result<u64> {
    let mut count = 0;
    flows.for_each(now(), |_, key, flow| {
        count += u64::from(filter.matches(key, flow));
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// Deletes all that is meant, whether or not somebody reads which.
pub fn delete(global: &Global, filter: &FlowFilter) -> Result<()> {
    let maps = maps(global)?;
    let flows = FlowTables::open(&maps)?;
    let mut ended = Ended::begin(&maps)?;
    let mut listing = Listing::new(global.output, &maps)?;
    let mut count = 0;
    let mut outcome = Ok(());
    flows.for_each(listing.now, |table, key, flow| {
        if !filter.matches(key, flow) {
            return ControlFlow::Continue(());
        }
        let deleted = flows.take(table, key).and_then(|taken| {
            let Some(flow) = taken else { return Ok(()) };
            count += 1;
            ended.tell(key, &flow);
            listing.show(key, &flow).map(drop)
        });
        match deleted {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    ended.finish();
    outcome?;
    listing.finish()?;
    if count == 0 {
        bail!("no flow is like that: 0 flow entries have been deleted");
    }
    said(global, count, "deleted");
    Ok(())
}

pub fn flush(global: &Global) -> Result<()> {
    let maps = maps(global)?;
    let mut ended = Ended::begin(&maps)?;
    FlowTables::open(&maps)?.take_all(|key, flow| ended.tell(key, flow))?;
    ended.finish();
    if matches!(global.output, Output::Text) {
        eprintln!("connection tracking table has been emptied");
    }
    Ok(())
}

/// Prints flows as they come.
#[derive(Debug)]
struct Listing {
    output: Output,
    printer: Printer,
    masters: Masters,
    now: Nanos,
}

impl Listing {
    fn new(output: Output, maps: &Maps) -> Result<Self> {
        Ok(Self { output, printer: Printer::new(), masters: Masters::open(maps)?, now: now() })
    }

    /// Says to stop when nobody reads any more.
    fn show(&mut self, key: &FlowKey, flow: &Flow) -> Result<ControlFlow<()>> {
        let master = self.master(key, flow)?;
        let view = FlowView { key: *key, flow: *flow, master, now: self.now };
        match self.output {
            Output::Text => self.printer.line(|line| flow::text::write(line, &view)),
            Output::Json => self.printer.line(|line| flow::json::write(line, &view)),
        }
    }

    /// Only JSON tells it, and only an expected flow has one.
    fn master(&self, key: &FlowKey, flow: &Flow) -> Result<Option<Tuple>> {
        match self.output {
            Output::Json if flow.has(status::EXPECTED) => self.masters.of(key, flow),
            _ => Ok(None),
        }
    }

    /// Whether all of it was read, as far as is known.
    fn finish(mut self) -> Result<bool> {
        self.printer.flush()?;
        Ok(self.printer.has_reader())
    }
}

/// As conntrack(8) says it, and where.
fn said(global: &Global, count: u64, what: &str) {
    if matches!(global.output, Output::Text) {
        eprintln!("{count} flow entries have been {what}.");
    }
}
