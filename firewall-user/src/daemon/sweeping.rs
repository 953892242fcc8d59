//! The thread that returns memory and watches how full the tables are.
//!
//! It has a thread of its own: held segments do not wait for a walk over a million
//! flows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use firewall_common::{
    addr::Family,
    flow::{Flow, FlowKey},
    pressure::{Bounded, Pressure},
    verdict::{DropReason, STAT_PLACES, Stat, drop_counter, family},
};

use super::{events::Watchers, homes::Homes};
use crate::{
    kernel::{
        fill::recycles_from,
        maps::{Maps, now},
        sweep::{Sweep, Sweeper, Swept, Told},
    },
    pressure::{self, Change, Departures, Reading, Recycled},
};

/// Between sweeps, which rest between their batches: memory is back so long, and as long as
/// two sweeps take, after its flow has expired.
const INTERVAL: Duration = Duration::from_secs(2);

/// Sweeps until dropped.
#[derive(Debug)]
pub struct Sweeping {
    stop: Arc<AtomicBool>,
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Expectations that found no room, told by the helper.
pub type Refused = Arc<AtomicU64>;

impl Sweeping {
    pub fn start(mut watchman: Watchman) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, woken) = channel::<()>();
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut pause = Duration::ZERO;
            while woken.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = watchman.look(&is_over) {
                    tracing::error!("cannot sweep the tables: {error:#}");
                }
                pause = INTERVAL;
            }
        });
        Self { stop, wake: Some(wake), thread: Some(thread) }
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Counters = [u64; STAT_PLACES];

/// What the thread knows from sweep to sweep.
#[derive(Debug)]
pub struct Watchman {
    maps: Maps,
    sweeper: Sweeper,
    counters: Counters,
    recycled: [Recycled; 2],
    refused: Refused,
    watchers: Watchers,
    homes: Homes,
    pressures: [Pressure; Bounded::ALL.len()],
}

impl Watchman {
    /// Counts from now on.
    ///
    /// # Errors
    /// When the maps cannot be opened or read.
    pub fn new(maps: Maps, refused: Refused, watchers: Watchers) -> Result<Self> {
        let mut homes = Homes::default();
        homes.look()?;
        Ok(Self {
            homes,
            sweeper: Sweeper::open(&maps)?,
            counters: maps.stats()?,
            recycled: count_embryonic(&maps)?,
            refused,
            watchers,
            pressures: maps.pressures()?,
            maps,
        })
    }

    /// Sweeps, and notes what it saw.
    fn look(&mut self, stop: &AtomicBool) -> Result<()> {
        let counters = self.maps.stats()?;
        if let Err(error) = self.homes.look() {
            tracing::warn!("masqueraded connections outlive their address: {error:#}");
        }
        let (watchers, homes) = (&self.watchers, &self.homes);
        let mut told = |key: &FlowKey, flow: &Flow| watchers.ended(key, flow);
        let told: Option<Told<'_>> = if watchers.wants_flows() { Some(&mut told) } else { None };
        let sweep = match self.sweeper.sweep(now(), stop, &|flow| homes.has_lost(flow), told) {
            Ok(sweep) => sweep,
            Err(error) => {
                // How many it has removed is not known.
                self.recycled = count_embryonic(&self.maps)?;
                return Err(error);
            }
        };
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        for what in Bounded::ALL {
            let reading = self.reading(what, &counters, &sweep)?;
            let before = self.pressures[what as usize];
            let change = pressure::note(&mut self.pressures[what as usize], &reading, now());
            let noted = self.pressures[what as usize];
            if noted != before {
                self.maps.set_pressure(what, noted)?;
            }
            match change {
                Some(Change::BecameFull) => self.tell_full(what, &reading),
                Some(Change::HasRoom) => tell_room(what, &reading),
                None => {}
            }
        }
        self.counters = counters;
        Ok(())
    }

    fn reading(&mut self, what: Bounded, counters: &Counters, sweep: &Sweep) -> Result<Reading> {
        let since = |counter: u32| {
            let counter = counter as usize;
            counters[counter].saturating_sub(self.counters[counter])
        };
        let before = &self.counters;
        let of = |stats, family| {
            family::count(counters, stats, family)
                .saturating_sub(family::count(before, stats, family))
        };
        Ok(match what {
            Bounded::Assured => table(sweep.assured.ipv4, of(family::ASSURED_FULL, Family::Ipv4)),
            Bounded::Assured6 => table(sweep.assured.ipv6, of(family::ASSURED_FULL, Family::Ipv6)),
            Bounded::Embryonic => {
                // A table that recycles has room; what had none is not told by family.
                let lost = since(drop_counter(DropReason::TableFull));
                let swept = sweep.embryonic.ipv4;
                table(swept, lost + self.recycled(Family::Ipv4, counters, swept))
            }
            Bounded::Embryonic6 => {
                let swept = sweep.embryonic.ipv6;
                table(swept, self.recycled(Family::Ipv6, counters, swept))
            }
            Bounded::Expectations => {
                table(sweep.expectations, self.refused.swap(0, Ordering::Relaxed))
            }
            Bounded::Masters => recycling(sweep.masters)?,
            Bounded::Fragments => recycling(sweep.fragments)?,
            Bounded::Punts => ring(since(drop_counter(DropReason::HelperBusy))),
            Bounded::Events => ring(since(Stat::EventsLost as u32)),
            Bounded::Translations => {
                table(sweep.translations.ipv4, of(family::TRANSLATIONS_FULL, Family::Ipv4))
            }
            Bounded::Translations6 => {
                table(sweep.translations.ipv6, of(family::TRANSLATIONS_FULL, Family::Ipv6))
            }
            Bounded::EmbryonicTranslations => {
                let lost = since(drop_counter(DropReason::NatTableFull));
                Reading { lost, ..recycling(sweep.embryonic_translations.ipv4)? }
            }
            Bounded::EmbryonicTranslations6 => recycling(sweep.embryonic_translations.ipv6)?,
            Bounded::Mappings => table(sweep.mappings, since(Stat::MappingsFull as u32)),
        })
    }

    /// How many embryonic flows of a family lost their place since the last look.
    fn recycled(&mut self, family: Family, counters: &Counters, swept: Swept) -> u64 {
        let departures = departures(counters, family);
        self.recycled[family as usize].look(departures, swept.found, swept.left())
    }

    fn tell_full(&self, what: Bounded, reading: &Reading) {
        let consequence = consequence(what);
        let Some((table, family)) = what.flows() else {
            return tracing::warn!("{} is full: {consequence}", name(what, reading));
        };
        match self.maps.sources(table, family) {
            Ok(sources) => tracing::warn!(
                "{} is full: {consequence}; most are from: {sources}",
                name(what, reading)
            ),
            Err(error) => tracing::warn!(
                "{} is full: {consequence}; whose they are cannot be told: {error:#}",
                name(what, reading)
            ),
        }
    }
}

/// Begins to count recycled flows, by the number of [`Family`].
fn count_embryonic(maps: &Maps) -> Result<[Recycled; 2]> {
    let count = |what: Bounded, family: Family| {
        let before = departures(&maps.stats()?, family);
        let embryonic = maps.fill(what)?;
        let after = departures(&maps.stats()?, family);
        let full_from = recycles_from(embryonic.size.into())?;
        let meanwhile = after.created.saturating_sub(before.created);
        anyhow::Ok(Recycled::new(full_from, before, embryonic.used.into(), meanwhile))
    };
    Ok([count(Bounded::Embryonic, Family::Ipv4)?, count(Bounded::Embryonic6, Family::Ipv6)?])
}

fn tell_room(what: Bounded, reading: &Reading) {
    tracing::warn!("{} has room again: {} are used", name(what, reading), reading.used);
}

fn table(swept: Swept, lost: u64) -> Reading {
    Reading { used: swept.left(), size: swept.size, full_from: swept.size, lost }
}

fn recycling(swept: Swept) -> Result<Reading> {
    Ok(Reading { full_from: recycles_from(swept.size)?, ..table(swept, 0) })
}

/// Rings are empty most of the time: what they lose tells that they are full.
const fn ring(lost: u64) -> Reading {
    Reading { used: 0, size: 0, full_from: u64::MAX, lost }
}

fn departures(counters: &Counters, family: Family) -> Departures {
    let count = |stats| family::count(counters, stats, family);
    Departures {
        created: count(family::CREATED),
        assured: count(family::ASSURED),
        forgotten: count(family::FORGOTTEN),
        replaced: count(family::REPLACED),
    }
}

fn name(what: Bounded, reading: &Reading) -> String {
    let Reading { size, .. } = reading;
    match what {
        Bounded::Assured => format!("the table of confirmed IPv4 flows ({size})"),
        Bounded::Assured6 => format!("the table of confirmed IPv6 flows ({size})"),
        Bounded::Embryonic => format!("the table of embryonic IPv4 flows ({size})"),
        Bounded::Embryonic6 => format!("the table of embryonic IPv6 flows ({size})"),
        Bounded::Expectations => format!("the table of expectations ({size})"),
        Bounded::Masters => format!("the table of control connections ({size})"),
        Bounded::Fragments => format!("the table of fragments ({size})"),
        Bounded::Punts => "the ring of held segments".into(),
        Bounded::Events => "the ring of LOG lines and drops".into(),
        Bounded::Translations => format!("the table of IPv4 translations ({size})"),
        Bounded::Translations6 => format!("the table of IPv6 translations ({size})"),
        Bounded::EmbryonicTranslations => {
            format!("the table of embryonic IPv4 translations ({size})")
        }
        Bounded::EmbryonicTranslations6 => {
            format!("the table of embryonic IPv6 translations ({size})")
        }
        Bounded::Mappings => format!("the table of mappings ({size})"),
    }
}

/// What it means, and what to do.
const fn consequence(what: Bounded) -> &'static str {
    match what {
        Bounded::Assured | Bounded::Assured6 => {
            "connections stay embryonic, where a flood reaches them; raise max_flows, or shorten \
             timeouts"
        }
        Bounded::Embryonic | Bounded::Embryonic6 => {
            "connections that nobody has answered lose their place to new ones; if this is no \
             flood, raise max_embryonic"
        }
        Bounded::Expectations => {
            "data connections are not announced, and their transfers fail; raise max_expectations"
        }
        Bounded::Masters => {
            "listings no longer tell whose some data connections are; raise max_expectations"
        }
        Bounded::Fragments => "later fragments of some datagrams are dropped; raise max_fragments",
        Bounded::Punts => "segments of control connections are dropped until their sender repeats",
        Bounded::Events => "some LOG lines and drops are not told",
        Bounded::Translations | Bounded::Translations6 => {
            "translated connections stay where a flood reaches them; raise max_flows, or shorten \
             timeouts"
        }
        Bounded::EmbryonicTranslations | Bounded::EmbryonicTranslations6 => {
            "connections that nobody has answered lose their translation to new ones; if this is \
             no flood, raise max_embryonic"
        }
        Bounded::Mappings => {
            "what some hosts send by UDP from one port leaves from several; raise max_flows, or \
             shorten udp_timeout"
        }
    }
}
