//! What every helper is made of: something that reads a control connection, and
//! what it asks for.
//!
//! A helper is one folder with one type that implements [`Reader`]
//! (docs/helpers.md shows how to add one). There is no I/O and no clock here:
//! whoever holds the segments hands them in, applies the [`Action`]s that come
//! out, and only then sends the segment on.

mod action;
mod announced;
mod arrival;
mod beginning;
mod hole;
mod ledger;
mod names;
mod passage;
mod passages;
mod reader;
mod readers;
mod replacement;
mod rewriter;
mod roster;
mod spelling;
mod turns;

pub use action::{Action, Actions, Note};
pub use announced::{Announced, Form, Place, Unfinished};
pub use arrival::passed_over;
pub use beginning::Beginning;
pub use hole::Hole;
pub use ledger::Ledger;
pub use names::Names;
pub use passage::Passage;
pub use passages::{Due, Passages};
pub use reader::Reader;
pub use readers::Readers;
pub use replacement::{Replacement, text_at};
pub use rewriter::{Emission, Rewriter, emit, parts, told_within};
pub use roster::{Bounds, Roster};
pub use spelling::spell;
pub use turns::Turns;
