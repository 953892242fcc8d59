//! `firewall expect list`: the connections that a helper has announced.

use anyhow::Result;

use super::{maps, output::print};
use crate::{
    cli::args::{Global, Output},
    kernel::maps::now,
    listing::expectation::{self, ExpectationView},
};

pub fn list(global: &Global) -> Result<()> {
    let now = now();
    let all = maps(global)?.expectations(now)?.into_iter();
    let views: Vec<_> =
        all.map(|(key, expectation)| ExpectationView { key, expectation, now }).collect();
    match global.output {
        Output::Text => print(views.iter().map(expectation::text))?,
        Output::Json => return print(views.iter().map(expectation::json)),
    }
    eprintln!("{} expectations have been shown.", views.len());
    Ok(())
}
