//! What the programs are told to ask for, from the first time on that it stands in a map.
//!
//! Settings are changed under a lock, which others hold for a moment, or for longer. No held
//! segment waits for that: a thread of its own does, and what was announced meanwhile holds when
//! its sender repeats what was refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};

use crate::kernel::maps::Maps;

/// Bits of the options that are set.
#[derive(Debug)]
pub(super) struct Switches {
    maps: Maps,
    on: Arc<AtomicU32>,
    /// Those that a thread is about to set.
    due: Arc<AtomicU32>,
}

impl Switches {
    pub(super) fn new(maps: Maps) -> Self {
        Self { maps, on: Arc::default(), due: Arc::default() }
    }

    /// Sets a bit, as soon as may be.
    pub(super) fn turn_on(&self, bit: u32) -> Result<()> {
        if self.on.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        if self.maps.try_change_options(|options| options.bits |= bit)? {
            set(&self.on, bit);
            return Ok(());
        }
        match self.due.fetch_or(bit, Ordering::Relaxed) & bit {
            0 => self.turn_on_later(bit),
            _ => Ok(()),
        }
    }

    fn turn_on_later(&self, bit: u32) -> Result<()> {
        let (maps, on, due) = (self.maps.clone(), Arc::clone(&self.on), Arc::clone(&self.due));
        let wait = move || {
            match maps.change_options(|options| options.bits |= bit) {
                Ok(()) => set(&on, bit),
                Err(error) => tracing::error!("what helpers announce is not asked for: {error:#}"),
            }
            clear(&due, bit);
        };
        thread::Builder::new()
            .name("settings".to_owned())
            .spawn(wait)
            .map(drop)
            .inspect_err(|_| clear(&self.due, bit))
            .context("cannot wait for whoever changes settings")
    }
}

fn set(bits: &AtomicU32, bit: u32) {
    bits.fetch_or(bit, Ordering::Relaxed);
}

fn clear(bits: &AtomicU32, bit: u32) {
    bits.fetch_and(!bit, Ordering::Relaxed);
}
