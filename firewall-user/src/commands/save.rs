//! `firewall save`: the running rules as iptables-save prints them.

use anyhow::Result;

use super::{maps, output::print};
use crate::{
    cli::args::{self, Global},
    ruleset::{Running, family},
};

pub fn save(global: &Global, command: &args::Save) -> Result<()> {
    let maps = maps(global)?;
    let running = Running::load(&maps)?;
    print([running.save(&maps, family(command.ipv6), command.counters)?])
}
