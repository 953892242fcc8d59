//! The short way of `-A`, `-I`, `-R` and `-D`: one rule, and all others stay as they are.
//!
//! What stands in its way is left to the long way, which says what is wrong.

use super::{
    super::{
        Program,
        failure::{Failure, OTHER},
    },
    call::{Call, Command},
    change,
};
use crate::{
    kernel::{maps::Maps, workbench::Workbench},
    rules::Rule,
    ruleset::patch::{Sketch, Step, Where},
};

/// Changes the rules in force, which are locked; gives whether it could.
pub(super) fn execute(program: Program, maps: &Maps, call: &Call) -> Result<bool, Failure> {
    let Some((chain, step)) = step(&call.command) else { return Ok(false) };
    if call.zeroes || !call.table.takes_rules() {
        return Ok(false);
    }
    let place = Where { family: program.family, table: call.table, chain };
    patched(program, maps, call, (place, step))
        .map_err(|error| program.failed(OTHER, &format!("{error:#}")))
}

fn patched(
    program: Program,
    maps: &Maps,
    call: &Call,
    (place, step): (Where<'_>, Step),
) -> anyhow::Result<bool> {
    let Some(bench) = Workbench::open(maps)? else { return Ok(false) };
    let mut kept = bench.kept()?;
    let Some(sketch) = Sketch::of(&kept, place) else { return Ok(false) };
    let rule = match step {
        Step::DeleteNumber(_) => None,
        _ => match only_rule(program, call, &sketch, place.chain) {
            None => return Ok(false),
            rule => rule,
        },
    };
    let counter = rule.as_ref().map(|rule| rule.counter).unwrap_or_default();
    match sketch.carry_out(&mut kept, step, rule.as_ref()) {
        Some(patch) => bench.install(&patch, &kept, counter),
        None => Ok(false),
    }
}

/// The rule that the words mean, if they mean one.
fn only_rule(program: Program, call: &Call, sketch: &Sketch<'_>, chain: &str) -> Option<Rule> {
    let mut written = change::written(program, call, sketch.chains(), chain).ok()?;
    written.pop().filter(|_| written.is_empty())
}

fn step(command: &Command) -> Option<(&str, Step)> {
    Some(match command {
        Command::Append(chain) => (chain, Step::Append),
        Command::Insert(chain, number) => (chain, Step::Insert(number.checked_sub(1)?)),
        Command::Replace(chain, number) => (chain, Step::Replace(number.checked_sub(1)?)),
        Command::Delete(chain) => (chain, Step::Delete),
        Command::DeleteNumber(chain, number) => (chain, Step::DeleteNumber(number.checked_sub(1)?)),
        _ => return None,
    })
}
