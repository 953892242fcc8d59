//! Which ruleset counts: for good, or on trial until a time at which the programs go
//! back to the former one by themselves.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use firewall_common::{generation::InForce, time::Nanos};

use super::{
    batch,
    maps::{Maps, now, wall_time},
    quiescence::wait_for_programs,
    sets::SetTables,
};

/// How a trial ended that somebody asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialEnd {
    /// By this question.
    Now,
    /// Its time was over before: the former rules count.
    Over,
    /// Nothing was on trial.
    None,
}

impl Maps {
    pub(super) fn in_force(&self) -> Result<InForce> {
        self.single("generation")
    }

    pub(super) fn set_in_force(&self, in_force: InForce) -> Result<()> {
        self.set_single("generation", in_force)
    }

    /// The generation by which packets are judged; 0 when no rules were ever installed.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn generation(&self) -> Result<u32> {
        Ok(self.in_force()?.at(now()))
    }

    /// The generation that comes back when the trial of the present one is not
    /// confirmed.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn former_generation(&self) -> Result<Option<u32>> {
        let in_force = self.in_force()?;
        Ok(in_force.is_trial(now()).then_some(in_force.former))
    }

    /// Until when rules are on trial, if any are.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn trial_until(&self) -> Result<Option<SystemTime>> {
        let in_force = self.in_force()?;
        Ok(in_force.is_trial(now()).then(|| wall_time_ahead(in_force.until)))
    }

    /// Whether this generation is still on trial.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn is_on_trial(&self, generation: u32) -> Result<bool> {
        let in_force = self.in_force()?;
        Ok(in_force.current == generation && in_force.is_trial(now()))
    }

    /// Whether this generation was kept after its trial, unless another has been since.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn was_confirmed(&self, generation: u32) -> Result<bool> {
        Ok(self.in_force()?.confirmed == generation)
    }

    /// Refuses while rules are on trial: what changes them could not be taken back with
    /// them. The caller holds the lock of the ruleset.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn refuse_trial(&self) -> Result<()> {
        if self.in_force()?.is_trial(now()) {
            bail!(
                "an earlier `firewall apply --confirm` still waits: `firewall confirm` keeps its \
                 rules"
            );
        }
        Ok(())
    }

    /// Keeps the rules that are on trial, and sets that came with them. The caller holds the
    /// lock of the ruleset, and not that of sets.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn confirm_trial(&self) -> Result<TrialEnd> {
        let in_force = self.in_force()?;
        let end = match in_force {
            _ if in_force.is_trial(now()) => TrialEnd::Now,
            InForce { until: Nanos::ZERO, .. } => TrialEnd::None,
            _ => TrialEnd::Over,
        };
        match end {
            TrialEnd::Now => self.settle(in_force.kept())?,
            TrialEnd::Over => self.settle(in_force.withdrawn())?,
            TrialEnd::None => {}
        }
        Ok(end)
    }

    /// Goes back to the former rules, and sets, if others are on trial, or were. The caller
    /// holds the lock of the ruleset, and not that of sets.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn end_trial(&self) -> Result<TrialEnd> {
        let in_force = self.in_force()?;
        if in_force.until == Nanos::ZERO {
            return Ok(TrialEnd::None);
        }
        let end = if in_force.is_trial(now()) { TrialEnd::Now } else { TrialEnd::Over };
        self.settle(in_force.withdrawn())?;
        Ok(end)
    }

    /// Notes that the former rules are back, if a trial has ended by its time; gives
    /// whether it did. The caller holds the lock of the ruleset.
    ///
    /// # Errors
    /// When the map cannot be read or written.
    pub fn end_trial_over(&self) -> Result<bool> {
        let in_force = self.in_force()?;
        Ok(!in_force.is_trial(now()) && self.end_trial()? == TrialEnd::Over)
    }

    /// Nothing is on trial any more; nobody looks at other rules, or sets, when it returns.
    fn settle(&self, ended: InForce) -> Result<()> {
        self.set_in_force(ended)?;
        self.set_in_force(ended.settled())?;
        wait_for_programs();
        let sets = SetTables::of(self);
        if !sets.is_settled()? {
            let _lock = self.pins().lock_sets()?;
            sets.settle()?;
        }
        Ok(())
    }

    /// Prepares the ruleset that comes next; gives its generation. What was on trial has to
    /// be over.
    pub(super) fn next_in_force(&self) -> Result<(InForce, u32)> {
        self.refuse_trial()?;
        self.end_trial()?;
        let in_force = self.in_force()?;
        Ok((in_force, in_force.next()))
    }

    /// Makes the ruleset count that was written as [`InForce::next`], for good or for
    /// so long.
    pub(super) fn switch(&self, in_force: InForce, trial: Option<Duration>) -> Result<()> {
        let until = match trial {
            Some(time) => now().after(Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))),
            None => Nanos::ZERO,
        };
        let next = in_force.next();
        let prepared = in_force.prepared(until);
        let map = self.open_map("generation")?;
        for step in [prepared, prepared.switched(next)] {
            batch::put(&map, &0u32, &step).context("cannot write map generation")?;
        }
        Ok(())
    }
}

fn wall_time_ahead(at: Nanos) -> SystemTime {
    let now = now();
    wall_time(now) + Duration::from_nanos(at.since(now).0)
}
