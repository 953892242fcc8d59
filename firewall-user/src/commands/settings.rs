//! `firewall conntrack set` and `firewall conntrack settings`.

use anyhow::{Result, anyhow};

use super::{maps, output::print};
use crate::{
    cli::args::{Global, Output, Set},
    listing::settings,
    settings::find,
};

pub fn set(global: &Global, command: &Set) -> Result<()> {
    let setting = find(&command.name)?;
    let value = setting
        .kind()
        .read(&command.value)
        .map_err(|wanted| anyhow!("{} cannot be '{}'; {wanted}", setting.name, command.value))?;
    maps(global)?.change_settings(|live| live.set_by_hand(setting, value))
}

pub fn settings(global: &Global) -> Result<()> {
    let live = maps(global)?.settings()?;
    match global.output {
        Output::Text => print([settings::text(&live)]),
        Output::Json => print([settings::json(&live)]),
    }
}
