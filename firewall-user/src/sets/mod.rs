//! Sets in the language of ipset(8): reading its lines, doing what they say, printing in
//! its form.
//!
//! A [`Plan`] takes commands one after another and checks each against the sets as they
//! would be by then; [`Plan::commit`] makes it so, all or nothing. A set that is new is
//! filled before a rule can see it; an existing one changes element by element, and
//! nobody else changes it meanwhile but packets.

mod apply;
mod call;
mod command;
mod difference;
mod element;
mod header;
mod names;
mod plan;
mod print;
mod refusal;
mod replacement;
mod restore;
#[cfg(test)]
mod tests;
mod words;

pub use self::{
    call::{change, list, load, test},
    command::{Action, Added, Line, read},
    difference::{SetChange, SetDifference},
    element::Element,
    names::kind_name,
    plan::Plan,
    print::{Form, Listing, Printer},
    refusal::Refusal,
    replacement::{File, Replacement},
    restore::{Mistake, run},
};

use anyhow::Result;
use firewall_common::set::{EntryKey, SetHeader};

use crate::kernel::{maps::Maps, sets::SetTables};

/// An element as it is printed; a member of a list is printed by its slot.
pub fn element_text(key: &EntryKey, header: &SetHeader) -> String {
    let mut text = String::new();
    element::write(&mut text, key, header, &|slot| slot.to_string());
    text
}

/// The element of a text that stands alone.
///
/// # Errors
/// What the set cannot hold.
pub fn element_of(text: &str, header: &SetHeader) -> Result<Element, Refusal> {
    Element::read(words::Word { text, column: 0 }, header)
}

/// All sets of an instance, as `ipset save` prints them.
///
/// # Errors
/// When the maps cannot be read.
pub fn save(maps: &Maps) -> Result<String> {
    let mut text = String::new();
    let tables = SetTables::of(maps);
    let listing = Listing { form: Form::Save, ..Listing::default() };
    listing.print(&tables, &mut |piece: &str| {
        text += piece;
        Ok(())
    })?;
    Ok(text)
}

/// Does what the lines of such a text say, all or nothing. `name` is what a message calls
/// the text; sets that are there already stay, and take what is new.
///
/// # Errors
/// The first line that cannot be done, or what the maps said; nothing has changed then.
pub fn restore(maps: &Maps, name: &str, text: &str) -> Result<()> {
    load(maps, name, text, true)
}
