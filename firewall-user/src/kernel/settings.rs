//! Settings in the maps. Several change them: the daemon when it starts and when
//! somebody begins to watch, and each `firewall conntrack set`. Whoever does reads
//! and writes under one lock, so that no change is undone by another.

use anyhow::{Context as _, Result};
use firewall_common::control::{Options, Timeouts};

use super::maps::Maps;
use crate::settings::Live;

impl Maps {
    /// # Errors
    /// When a map cannot be read.
    pub fn settings(&self) -> Result<Live> {
        Ok(Live {
            options: self.options()?,
            timeouts: self.single::<Timeouts>("timeouts")?,
            by_hand: self.single("by_hand")?,
        })
    }

    /// Changes settings; those that `change` leaves alone keep what others wrote.
    ///
    /// # Errors
    /// When somebody keeps the lock, or a map cannot be read or written.
    pub fn change_settings(&self, change: impl FnOnce(&mut Live)) -> Result<()> {
        let _lock = self.pins().lock_settings().context("cannot change the settings")?;
        self.change_locked(change)
    }

    /// As [`Maps::change_options`], unless somebody else changes settings now: then `false`.
    ///
    /// # Errors
    /// When a map cannot be read or written.
    pub fn try_change_options(&self, change: impl FnOnce(&mut Options)) -> Result<bool> {
        let Some(_lock) = self.pins().try_lock_settings()? else { return Ok(false) };
        self.change_locked(|live| change(&mut live.options))?;
        Ok(true)
    }

    fn change_locked(&self, change: impl FnOnce(&mut Live)) -> Result<()> {
        let before = self.settings()?;
        let mut live = before;
        change(&mut live);
        if live.timeouts != before.timeouts {
            self.set_timeouts(live.timeouts)?;
        }
        if live.options != before.options {
            self.set_options(live.options)?;
        }
        if live.by_hand != before.by_hand {
            self.set_single("by_hand", live.by_hand)?;
        }
        Ok(())
    }

    /// As [`Maps::change_settings`], for the options alone.
    ///
    /// # Errors
    /// As there.
    pub fn change_options(&self, change: impl FnOnce(&mut Options)) -> Result<()> {
        self.change_settings(|live| change(&mut live.options))
    }
}
