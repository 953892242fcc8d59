//! `firewall stats`: the counters of the datapath and the fill of its tables.

use anyhow::Result;
use firewall_common::tables::FlowTable;

use super::{maps, output::print};
use crate::{
    cli::args::{Global, Output},
    kernel::maps::{Fill, Maps},
    listing::stats::{self, StatsView, Tables},
};

pub fn stats(global: &Global) -> Result<()> {
    let maps = maps(global)?;
    let view = StatsView { counters: maps.stats()?.to_vec(), tables: tables(&maps)? };
    match global.output {
        Output::Text => print([stats::text(&view)]),
        Output::Json => print([stats::json(&view)]),
    }
}

pub fn tables(maps: &Maps) -> Result<Tables> {
    Ok(Tables {
        assured: shown(maps.fill(FlowTable::Assured)?),
        embryonic: shown(maps.fill(FlowTable::Embryonic)?),
        expectations: shown(maps.expectation_fill()?),
    })
}

fn shown(fill: Fill) -> stats::Fill {
    stats::Fill { used: fill.used.into(), size: fill.size.into() }
}
