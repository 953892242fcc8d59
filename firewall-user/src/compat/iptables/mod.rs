//! iptables(8) and ip6tables(8): one call, one change of the running rules, or a look
//! at them.

mod call;
mod change;
mod help;
mod options;
mod short;
mod show;

pub(super) use self::show::counter;

use self::call::{Call, Command};
use super::{
    Program,
    failure::{Failure, OTHER},
    instance::{Locked, not_changed},
};
use crate::{commands::print, names::LocalNames};

pub(super) fn run(program: Program, arguments: &[String]) -> Result<(), Failure> {
    let call = call::read(program, arguments)?;
    match &call.command {
        Command::Help => write(program, &help::asked(program, &call.rule)?),
        Command::Version => write(program, &program.version()),
        command if command.changes_nothing() && !call.zeroes => look(program, &call),
        _ => change(program, &call),
    }
}

/// `-L`, `-S` and `-C`.
fn look(program: Program, call: &Call) -> Result<(), Failure> {
    let locked = Locked::to_read(program)?;
    let edit = locked.edit(program)?;
    let mut rules = edit.before().family(program.family).clone();
    match &call.command {
        Command::Check(_) => change::execute(program, &mut rules, call),
        _ => write(program, &show::text(program, &mut rules, call, &LocalNames::default())?),
    }
}

fn change(program: Program, call: &Call) -> Result<(), Failure> {
    let locked = Locked::to_change(program, call.wait)?;
    if short::execute(program, &locked.maps, call)? {
        return Ok(());
    }
    let edit = locked.edit(program)?;
    let before = edit.before().family(program.family);
    let mut rules = before.clone();
    if call.command.changes_nothing() {
        write(program, &show::text(program, &mut rules, call, &LocalNames::default())?)?;
    }
    change::execute(program, &mut rules, call)?;
    if rules == *before && !edit.is_first() {
        return Ok(());
    }
    let after = edit.before().clone().with_counted(rules);
    edit.finish(&after).map_err(|error| not_changed(program, &error))
}

fn write(program: Program, text: &str) -> Result<(), Failure> {
    if text.is_empty() {
        return Ok(());
    }
    print([text]).map_err(|error| program.failed(OTHER, &format!("{error:#}")))
}
