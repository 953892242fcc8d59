//! Letting go of control connections that are over, and of what they leave behind.

use anyhow::Result;

use super::{Control, Helper};
use crate::{helper::Action, kernel::maps::now};

/// Control connections that are looked at in one go: what is held meanwhile waits.
const AT_ONCE: usize = 1_000;

impl Helper {
    /// Looks at some of the control connections; all have their turn.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn sweep(&mut self) -> Result<()> {
        self.dismiss_ended()?;
        self.forget_shifts()?;
        self.forget_losses()?;
        if self.to_check.is_empty() {
            self.to_check = self.shelves.keys().chain(self.inherited.keys().copied()).collect();
        }
        for control in some_of(&mut self.to_check) {
            if !self.is_alive(control)? {
                self.end(control);
            }
        }
        Ok(())
    }

    fn end(&mut self, control: Control) {
        // It has ended between two daemons, or has not spoken since.
        if let Some(hole) = self.inherited.remove(&control) {
            self.act_on(control, [Action::Close(hole)]);
            self.tellings.forget(&control);
        }
        if let Some(mut reader) = self.shelves.of(&control).roster.remove(&control) {
            let actions = reader.ended();
            self.act_on(control, actions);
            self.tellings.forget(&control);
        }
    }

    /// Shifts count until the last segment of a connection: as long as its flow is there.
    fn forget_shifts(&mut self) -> Result<()> {
        if self.shifts_to_check.is_empty() {
            self.shifts_to_check = self.shifts.keys()?;
        }
        for key in some_of(&mut self.shifts_to_check) {
            let Some(shifts) = self.shifts.get(&key)? else { continue };
            let flow = self.flows.get(&key, now())?;
            if flow.is_none_or(|flow| flow.created != shifts.created) {
                self.shifts.remove(&key)?;
            }
        }
        Ok(())
    }

    pub(super) fn is_alive(&self, control: Control) -> Result<bool> {
        Ok(control.is_alive(self.flows.get(&control.key(), now())?))
    }

    /// Hands the passages of ended control connections to others of the same hosts. The first
    /// one's is the entry of the map: those behind it can wait until they are first.
    fn dismiss_ended(&mut self) -> Result<()> {
        if self.claims_to_check.is_empty() {
            let claims = self.passages.iter();
            let first = claims.filter_map(|(passage, claims)| Some((passage, *claims.first()?)));
            self.claims_to_check = first.collect();
        }
        for (passage, control) in some_of(&mut self.claims_to_check) {
            if !self.is_alive(control)? {
                self.dismiss(control, passage)?;
            }
        }
        Ok(())
    }
}

pub(super) fn some_of<T>(all: &mut Vec<T>) -> Vec<T> {
    all.split_off(all.len().saturating_sub(AT_ONCE))
}
