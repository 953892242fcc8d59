//! Printing what a daemon tells, as it tells it.

use std::ops::ControlFlow;

use anyhow::Result;

use super::output::Printer;
use crate::watch::{client::Watching, wire::Message};

/// Says that the daemon listens, and that this goes on.
pub fn announce() {
    eprintln!("watching; end with Ctrl-C");
}

/// Shows messages until nobody reads them any more. They are written when no further
/// one is there yet: at once when few come, many at once when many do.
///
/// # Errors
/// When the daemon ends, or the output fails.
pub fn follow(
    mut watching: Watching,
    mut show: impl FnMut(&mut Printer, &Message) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut printer = Printer::new();
    while printer.has_reader() {
        let shown = watching.message().and_then(|message| show(&mut printer, &message));
        // What came before the stream's end is written too.
        if shown.is_err() || !watching.has_more() {
            printer.flush()?;
        }
        let _ = shown?;
    }
    Ok(())
}
