//! conntrack(8): the tracked flows and the expectations.

mod call;
mod flows;
mod options;
mod statistics;

use anyhow::Result;

use self::call::{Call, Command, Table};
use super::{
    failure::{Failure, OTHER, USAGE},
    instance,
};
use crate::{
    cli::args::{self, EventName},
    commands::{events_alone, print},
    kernel::maps::now,
    listing::expectation::{self, ExpectationView},
};

/// conntrack(8)'s own words for itself, which scripts look for.
const VERSION: &str = "conntrack v1.4.7 (conntrack-tools)";

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let call = call::read(arguments).map_err(|message| usage(&message))?;
    execute(&call).map_err(|error| failed(&format!("{error:#}")))
}

fn usage(message: &str) -> Failure {
    let hint = "Try `conntrack -h' or 'conntrack --help' for more information.";
    Failure { status: USAGE, message: format!("{VERSION}: {message}\n{hint}") }
}

fn failed(message: &str) -> Failure {
    let message = match message {
        "" => String::new(),
        message => format!("{VERSION}: Operation failed: {message}"),
    };
    Failure { status: OTHER, message }
}

/// On stderr, as conntrack(8) says it.
fn say(what: &str) {
    eprintln!("{VERSION}: {what}");
}

fn execute(call: &Call) -> Result<()> {
    match (&call.command, call.table) {
        (Command::Help, _) => print([call::help()]),
        (Command::Version, _) => print([VERSION]),
        (Command::List, Table::Flows) => flows::list(call),
        (Command::List, Table::Expectations) => expectations(),
        (_, Table::Passing) => flows::list_passing(),
        (Command::Get, _) => flows::get(call),
        (Command::Delete, _) => flows::delete(call),
        (Command::Flush, Table::Flows) => flows::flush(call),
        (Command::Flush, Table::Expectations) => {
            let maps = instance::maps()?;
            maps.forget_expectations()?;
            say("expectation table has been emptied.");
            Ok(())
        }
        (Command::Count, Table::Flows) => flows::count(call),
        (Command::Count, Table::Expectations) => {
            print([instance::maps()?.expectations(now())?.len().to_string()])
        }
        (Command::Events, _) => follow(call),
        (Command::Statistics, _) => statistics::show(),
    }
}

fn expectations() -> Result<()> {
    let now = now();
    let all = instance::maps()?.expectations(now)?;
    let count = all.len();
    let lines = all
        .into_iter()
        .map(|(key, expectation)| expectation::text(&ExpectationView { key, expectation, now }));
    print(lines)?;
    say(&format!("{count} expectations have been shown."));
    Ok(())
}

fn follow(call: &Call) -> Result<()> {
    let command = args::Events {
        event_mask: match call.events.is_empty() {
            true => vec![EventName::All],
            false => call.events.clone(),
        },
        timestamp: call.shows_time,
        filter: call.filter.clone(),
    };
    events_alone(&instance::maps()?, &command, call.labels)
}
