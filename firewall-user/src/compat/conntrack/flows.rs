//! Flows, listed, counted and deleted.

use std::ops::ControlFlow;

use anyhow::{Result, bail};
use firewall_common::{
    flow::{Flow, FlowKey},
    time::Nanos,
};

use super::{call::Call, say};
use crate::{
    commands::{Printer, print},
    compat::instance,
    kernel::{flows::FlowTables, maps::now},
    listing::{
        flow::{self, FlowView},
        line::Line,
    },
    watch::ended::Ended,
};

pub(super) fn list(call: &Call) -> Result<()> {
    let count = show(call, u64::MAX)?;
    say_shown(count);
    Ok(())
}

/// Flows that are being made or destroyed: a packet does both in one step, and none is seen
/// between.
pub(super) fn list_passing() -> Result<()> {
    instance::maps()?;
    say_shown(0);
    Ok(())
}

fn say_shown(count: u64) {
    say(&format!("{count} flow entries have been shown."));
}

pub(super) fn get(call: &Call) -> Result<()> {
    if show(call, 1)? == 0 {
        bail!("such conntrack doesn't exist");
    }
    say("1 flow entries have been shown.");
    Ok(())
}

/// Prints flows that are meant, at most so many; gives how many.
fn show(call: &Call, most: u64) -> Result<u64> {
    let maps = instance::maps()?;
    let (now, mut printer, mut count, mut outcome) = (now(), Printer::new(), 0, Ok(()));
    FlowTables::open(&maps)?.for_each(now, |_, key, flow| {
        if !call.filter.matches(key, flow) {
            return ControlFlow::Continue(());
        }
        count += 1;
        match printer.line(|line| write(line, call, key, flow, now)) {
            Ok(ControlFlow::Continue(())) if count < most => ControlFlow::Continue(()),
            Ok(_) => ControlFlow::Break(()),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    outcome?;
    printer.finish()?;
    Ok(count)
}

fn write(line: &mut Line, call: &Call, key: &FlowKey, flow: &Flow, now: Nanos) {
    let view = FlowView { key: *key, flow: *flow, master: None, now };
    flow::text::write_labelled(line, &view, call.labels);
}

pub(super) fn delete(call: &Call) -> Result<()> {
    let maps = instance::maps()?;
    let flows = FlowTables::open(&maps)?;
    let mut ended = Ended::begin(&maps)?;
    let (now, mut printer, mut count, mut outcome) = (now(), Printer::new(), 0, Ok(()));
    flows.for_each(now, |table, key, flow| {
        if !call.filter.matches(key, flow) {
            return ControlFlow::Continue(());
        }
        let deleted = flows.take(table, key).and_then(|taken| {
            let Some(flow) = taken else { return Ok(()) };
            count += 1;
            ended.tell(key, &flow);
            // All that is meant goes, whether or not somebody reads which.
            printer.line(|line| write(line, call, key, &flow, now)).map(drop)
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
    printer.finish()?;
    say(&format!("{count} flow entries have been deleted."));
    // With status 1, and no more words.
    if count == 0 { bail!("") } else { Ok(()) }
}

pub(super) fn flush(call: &Call) -> Result<()> {
    let maps = instance::maps()?;
    let flows = FlowTables::open(&maps)?;
    let mut ended = Ended::begin(&maps)?;
    let tell = |key: &FlowKey, flow: &Flow| ended.tell(key, flow);
    match call.filter.family {
        Some(name) => flows.take_all_of(name.family(), tell)?,
        None => flows.take_all(tell)?,
    }
    ended.finish();
    say("connection tracking table has been emptied.");
    Ok(())
}

pub(super) fn count(call: &Call) -> Result<()> {
    let mut count = 0u64;
    FlowTables::open(&instance::maps()?)?.for_each(now(), |_, key, flow| {
        count += u64::from(call.filter.matches(key, flow));
        ControlFlow::Continue(())
    })?;
    print([count.to_string()])
}
