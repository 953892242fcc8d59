//! `firewall stats`: the counters of the datapath, how full its tables are, and
//! who fills them.

use std::time::SystemTime;

use anyhow::Result;
use firewall_common::{
    addr::Family,
    pressure::{Bounded, Pressure},
    time::Nanos,
    verdict::{DropReason, Stat, drop_counter, family},
};

use super::{maps, output::print};
use crate::{
    cli::args::{self, Global, Output},
    kernel::{
        fill::Fill,
        maps::{Maps, wall_time},
    },
    listing::{
        gauge::{GaugeView, SourcesView},
        stats::{self, StatsView, Tables},
    },
};

/// From this part of a table on, in percent, its sources are told unasked.
const CROWDED: u64 = 90;
/// Sources that are told of each table.
const TOP: usize = 10;

pub fn stats(global: &Global, command: &args::Stats) -> Result<()> {
    let maps = maps(global)?;
    let counters = maps.stats()?.to_vec();
    let gauges = gauges(&maps, &counters)?;
    let sources = sources(&maps, &gauges, command.top)?;
    let view = StatsView { counters, gauges, sources, helper: maps.helper_stats()? };
    match global.output {
        Output::Text => print([stats::text(&view)]),
        Output::Json => print([stats::json(&view)]),
    }
}

/// The fill of the tables that `firewall status` tells of.
pub fn tables(maps: &Maps) -> Result<Tables> {
    Ok(Tables {
        assured: shown(maps.fill(Bounded::Assured)?),
        assured6: shown(maps.fill(Bounded::Assured6)?),
        embryonic: shown(maps.fill(Bounded::Embryonic)?),
        embryonic6: shown(maps.fill(Bounded::Embryonic6)?),
        expectations: shown(maps.fill(Bounded::Expectations)?),
        translations: shown(maps.fill(Bounded::Translations)?),
        translations6: shown(maps.fill(Bounded::Translations6)?),
    })
}

fn shown(fill: Fill) -> stats::Fill {
    stats::Fill { used: fill.used.into(), size: fill.size.into() }
}

fn gauges(maps: &Maps, counters: &[u64]) -> Result<Vec<GaugeView>> {
    let pressures = maps.pressures()?;
    let gauge = |what: Bounded| {
        let pressure = pressures[what as usize];
        let Pressure { since, last, times, .. } = pressure;
        Ok(GaugeView {
            what,
            fill: shown(maps.fill(what)?),
            full_since: time(since),
            last_full: time(last),
            times_full: times,
            lost: lost(what, pressure, counters),
        })
    };
    Bounded::ALL.into_iter().map(gauge).collect()
}

fn time(at: Nanos) -> Option<SystemTime> {
    (at != Nanos::ZERO).then(|| wall_time(at))
}

/// What found no room: counted by the programs where they see it, also while no
/// daemon runs.
fn lost(what: Bounded, pressure: Pressure, counters: &[u64]) -> u64 {
    let of = |stats, family| family::count(counters, stats, family);
    let counter = match what {
        Bounded::Assured => return of(family::ASSURED_FULL, Family::Ipv4),
        Bounded::Assured6 => return of(family::ASSURED_FULL, Family::Ipv6),
        Bounded::Translations => return of(family::TRANSLATIONS_FULL, Family::Ipv4),
        Bounded::Translations6 => return of(family::TRANSLATIONS_FULL, Family::Ipv6),
        Bounded::Punts => drop_counter(DropReason::HelperBusy),
        Bounded::Events => Stat::EventsLost as u32,
        Bounded::EmbryonicTranslations => drop_counter(DropReason::NatTableFull),
        Bounded::Mappings => Stat::MappingsFull as u32,
        Bounded::Embryonic
        | Bounded::Embryonic6
        | Bounded::EmbryonicTranslations6
        | Bounded::Expectations
        | Bounded::Masters
        | Bounded::Fragments => return pressure.lost,
    };
    counters.get(counter as usize).copied().unwrap_or(0)
}

fn sources(maps: &Maps, gauges: &[GaugeView], is_asked: bool) -> Result<Vec<SourcesView>> {
    let mut views = Vec::new();
    for gauge in gauges {
        let what = gauge.what;
        let Some((table, family)) = what.flows() else { continue };
        let is_crowded = gauge.fill.percent() >= CROWDED;
        // Nobody asks for those of a family that is not spoken here.
        let is_told = is_asked && (gauge.fill.used > 0 || matches!(family, Family::Ipv4));
        if is_told || is_crowded {
            let sources = maps.sources(table, family)?;
            let top = sources.top(TOP).into_iter();
            let top = top.map(|(source, flows)| (source.to_ip(), flows)).collect();
            views.push(SourcesView { what, total: sources.total, top });
        }
    }
    Ok(views)
}
