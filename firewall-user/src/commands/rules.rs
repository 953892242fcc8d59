//! `firewall rules`: chains, rules and counters.

use anyhow::Result;

use super::{maps, output::print};
use crate::{
    cli::args::{self, Global, Output},
    ruleset::{Running, family},
};

pub fn rules(global: &Global, command: &args::Rules) -> Result<()> {
    let maps = maps(global)?;
    let running = Running::load(&maps)?;
    let family = family(command.ipv6);
    match global.output {
        Output::Text => print([running.list(&maps, family)?]),
        Output::Json => print([running.json(&maps, family)?]),
    }
}
