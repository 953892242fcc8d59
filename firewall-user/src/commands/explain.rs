//! `firewall explain`: what would happen to a packet, and why.

use anyhow::Result;

use super::{maps, output::print};
use crate::{
    cli::{
        args::{Global, Output},
        explain::Explain,
    },
    explain::{explain as ask, json, text},
};

pub fn explain(global: &Global, command: &Explain) -> Result<()> {
    let asked = command.asked().map_err(anyhow::Error::msg)?;
    let maps = maps(global)?;
    let explanation = ask(&maps, &asked, &command.way(), command.as_reply)?;
    match global.output {
        Output::Text => print([text::text(&explanation)]),
        Output::Json => print([json::json(&explanation)]),
    }
}
