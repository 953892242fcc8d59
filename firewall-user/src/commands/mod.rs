//! The commands, one file each.

use anyhow::Result;

use crate::{
    cli::{
        Arguments, Command,
        args::{Conntrack, Expect, Global},
    },
    kernel::{maps::Maps, pins::Pins},
    preflight,
};

mod apply;
mod check;
mod confirm;
mod conntrack;
mod events;
mod expect;
mod explain;
mod follow;
mod link;
mod monitor;
mod output;
mod recent;
mod rules;
mod run;
mod save;
mod set;
mod settings;
pub(crate) mod source;
mod stats;
mod status;
mod unload;
mod why;

pub(crate) use self::{
    events::{events, events_alone},
    output::{Printer, print},
};

/// Does what the arguments say.
///
/// # Errors
/// One message: what was wanted, where it failed, and what to do.
pub fn execute(arguments: &Arguments) -> Result<()> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Run(command) => run::run(global, command),
        Command::Check(command) => check::check(global, command),
        Command::Apply(command) => apply::apply(global, command),
        Command::Confirm => confirm::confirm(global),
        Command::Save(command) => save::save(global, command),
        Command::Rules(command) => rules::rules(global, command),
        Command::Conntrack(Conntrack::List(filter)) => conntrack::list(global, filter),
        Command::Conntrack(Conntrack::Count(filter)) => conntrack::count(global, filter),
        Command::Conntrack(Conntrack::Delete(filter)) => conntrack::delete(global, filter),
        Command::Conntrack(Conntrack::Flush) => conntrack::flush(global),
        Command::Conntrack(Conntrack::Events(command)) => events(global, command),
        Command::Conntrack(Conntrack::Set(command)) => settings::set(global, command),
        Command::Conntrack(Conntrack::Settings) => settings::settings(global),
        Command::Set(command) => set::set(global, command),
        Command::Expect(Expect::List) => expect::list(global),
        Command::Recent(command) => recent::recent(global, command),
        Command::Stats(command) => stats::stats(global, command),
        Command::Status => status::status(global),
        Command::Monitor(command) => monitor::monitor(global, command),
        Command::Explain(command) => explain::explain(global, command),
        Command::Why => why::why(global),
        Command::Link(command) => link::link(command),
        Command::Unload => unload::unload(global),
    }
}

/// The maps of the instance that the global options name.
fn maps(global: &Global) -> Result<Maps> {
    preflight::check_access(&global.pin)?;
    Maps::open(&Pins::new(&global.pin))
}
