//! `firewall save`: the running rules as iptables-save prints them.

use anyhow::Result;

use super::{maps, output::print};
use crate::{
    cli::args::{self, Global},
    ruleset::{Running, family},
    state,
};

pub fn save(global: &Global, command: &args::Save) -> Result<()> {
    let maps = maps(global)?;
    if let Some(directory) = &command.all {
        return state::save(&maps, directory);
    }
    let running = Running::load(&maps)?;
    print([running.save(&maps, family(command.ipv6), command.counters)?])
}
