//! Letting go of control connections that are over, and of what they leave behind.

use anyhow::Result;

use super::{Control, Helper};
use crate::{helper::Passage, kernel::maps::now};

/// Control connections that are looked at in one go: what is held meanwhile waits.
const AT_ONCE: usize = 1_000;

impl Helper {
    /// Looks at some of the control connections; all have their turn.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn sweep(&mut self) -> Result<()> {
        self.dismiss_ended()?;
        if self.to_check.is_empty() {
            self.to_check = self.roster.keys().collect();
        }
        let rest = self.to_check.len().saturating_sub(AT_ONCE);
        for control in self.to_check.split_off(rest) {
            if !self.is_alive(control)? {
                self.end(control);
            }
        }
        Ok(())
    }

    fn end(&mut self, control: Control) {
        if let Some(mut reader) = self.roster.remove(&control) {
            let actions = reader.ended();
            self.act_on(control, actions);
        }
    }

    pub(super) fn is_alive(&self, control: Control) -> Result<bool> {
        Ok(control.is_alive(self.flows.get(&control.key(), now())?))
    }

    /// Hands the passages of ended control connections to others of the same hosts.
    fn dismiss_ended(&mut self) -> Result<()> {
        for (passage, control) in self.ended_claims()? {
            self.dismiss(control, passage)?;
        }
        Ok(())
    }

    fn ended_claims(&self) -> Result<Vec<(Passage, Control)>> {
        let mut ended = Vec::new();
        for (passage, claims) in self.passages.iter() {
            // The first one's is the entry of the map: the others can wait for their turn.
            if let Some(first) = claims.first()
                && !self.is_alive(*first)?
            {
                ended.push((passage, *first));
            }
        }
        Ok(ended)
    }
}
