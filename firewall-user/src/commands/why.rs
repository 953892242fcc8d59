//! `firewall why`: the most recent drops by their causes.

use anyhow::Result;

use super::{maps, output::print};
use crate::{
    cli::args::{Global, Output},
    why::{print as form, why as ask},
};

pub fn why(global: &Global) -> Result<()> {
    let answer = ask(&maps(global)?)?;
    match global.output {
        Output::Text => print(form::text(&answer)),
        Output::Json => print(form::json(&answer)),
    }
}
