//! `firewall confirm`: keeps what `firewall apply --confirm` brought.

use anyhow::{Context, Result, bail};

use super::maps;
use crate::{cli::args::Global, kernel::in_force::TrialEnd};

pub fn confirm(global: &Global) -> Result<()> {
    let maps = maps(global)?;
    let _lock = maps.pins().lock_ruleset()?;
    match maps.confirm_trial().context("cannot confirm")? {
        TrialEnd::Now => Ok(()),
        TrialEnd::Over => {
            bail!("too late: the time was over, and the old rules are back; apply the file again")
        }
        TrialEnd::None => {
            bail!("nothing waits to be confirmed: no `firewall apply --confirm` is under way")
        }
    }
}
