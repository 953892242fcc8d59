//! `firewall confirm`: keeps what `firewall apply --confirm` brought.

use anyhow::{Context, Result, bail};

use super::apply::Pending;
use crate::{cli::args::Global, kernel::pins::Pins};

pub fn confirm(global: &Global) -> Result<()> {
    let pending = Pending::of(&Pins::new(&global.pin));
    if !pending.take().context("cannot confirm")? {
        bail!("nothing waits to be confirmed: no `firewall apply --confirm` is under way");
    }
    Ok(())
}
