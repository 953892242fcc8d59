//! One call that changes sets or asks them.

use std::{fs::File, io::Write};

use anyhow::{Context, Result};

use super::{
    command::{Action, action},
    plan::Plan,
    print::Listing,
    refusal::Refusal,
    restore::run,
    words::Word,
};
use crate::{
    commands::Printer,
    kernel::{maps::Maps, sets::SetTables},
};

/// Does what these words say, as one change.
///
/// # Errors
/// Why it cannot be done; nothing has changed then.
pub fn change(maps: &Maps, words: &[&str], exist: bool) -> Result<()> {
    let action = of_words(words)?;
    let (_lock, mut plan) = begin(maps)?;
    plan.execute(&action, exist)?;
    plan.commit()
}

/// The sets to be changed, and the lock of who changes them.
fn begin(maps: &Maps) -> Result<(impl Sized, Plan)> {
    let lock = maps.pins().lock_sets()?;
    let tables = SetTables::of(maps);
    tables.settle()?;
    Ok((lock, Plan::of(&tables)?))
}

/// Whether an element is in a set, by `test SET ELEMENT`.
///
/// # Errors
/// When there is no such set, or the element is none of its type.
pub fn test(maps: &Maps, words: &[&str]) -> Result<bool> {
    let Action::Test { set, element, with } = of_words(words)? else {
        return Err(Refusal::usage(0, "only an element can be tested").into());
    };
    Ok(Plan::of(&SetTables::of(maps))?.test(set, element, &with)?)
}

/// Does what the lines of a text say, as one change.
///
/// # Errors
/// The first line that cannot be done; nothing has changed then.
pub fn load(maps: &Maps, name: &str, text: &str, exist: bool) -> Result<()> {
    let (_lock, mut plan) = begin(maps)?;
    run(&mut plan, name, text, exist)?;
    plan.commit()
}

/// Prints sets; to a file, when one is named.
///
/// # Errors
/// When there is no such set, or the maps or the file fail.
pub fn list(maps: &Maps, listing: &Listing, file: Option<&str>) -> Result<()> {
    let tables = SetTables::of(maps);
    let Some(path) = file else { return to_stdout(&tables, listing) };
    let mut file = File::create(path).with_context(|| format!("cannot write {path}"))?;
    let mut text = String::new();
    listing.print(&tables, &mut |piece: &str| {
        text += piece;
        if text.len() > 1 << 16 {
            file.write_all(text.as_bytes()).with_context(|| format!("cannot write {path}"))?;
            text.clear();
        }
        Ok(())
    })?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {path}"))
}

fn to_stdout(tables: &SetTables, listing: &Listing) -> Result<()> {
    let mut printer = Printer::new();
    let listed = listing.print(tables, &mut |text: &str| {
        let text = text.strip_suffix('\n').unwrap_or(text);
        // Whoever stops reading is no error.
        let _ = printer.line(|line| {
            line.text(text);
        })?;
        Ok(())
    });
    printer.finish()?;
    listed
}

fn of_words<'a>(words: &[&'a str]) -> Result<Action<'a>, Refusal> {
    let words: Vec<Word<'a>> = words.iter().map(|text| Word { text, column: 0 }).collect();
    match words.split_first() {
        Some((command, rest)) => action(*command, rest),
        None => Err(Refusal::usage(0, "No command specified.")),
    }
}
