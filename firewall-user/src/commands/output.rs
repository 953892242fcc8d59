//! Printing lists.

use std::{
    io::{self, ErrorKind, StdoutLock, Write, stdout},
    ops::ControlFlow,
};

use anyhow::Result;

use crate::listing::line::Line;

/// Bytes that are written at once.
const CHUNK: usize = 1 << 16;

/// Prints lines; whoever stops reading them (`| head`) is no error.
pub fn print<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> Result<()> {
    let mut printer = Printer::new();
    for line in lines {
        let text = line.as_ref().trim_end_matches('\n');
        let write = |line: &mut Line| {
            line.text(text);
        };
        if printer.line(write)?.is_break() {
            break;
        }
    }
    printer.finish()
}

/// Standard output for many lines.
#[derive(Debug)]
pub struct Printer {
    out: StdoutLock<'static>,
    pending: Line,
    has_reader: bool,
}

impl Printer {
    pub fn new() -> Self {
        // Room for the line that goes over the chunk's end.
        let pending = Line::with_capacity(CHUNK + 4_096);
        Self { out: stdout().lock(), pending, has_reader: true }
    }

    /// Adds what `write` writes as one line; says to stop when nobody reads any more.
    ///
    /// # Errors
    /// When the output fails in another way.
    pub fn line(&mut self, write: impl FnOnce(&mut Line)) -> Result<ControlFlow<()>> {
        if self.has_reader {
            write(&mut self.pending);
            self.pending.text("\n");
            if self.pending.len() >= CHUNK {
                self.flush()?;
            }
        }
        Ok(if self.has_reader { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub fn finish(mut self) -> Result<()> {
        self.flush()
    }

    /// Writes what has been added.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub fn flush(&mut self) -> Result<()> {
        match self.try_flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.has_reader = false,
            other => other?,
        }
        self.pending.clear();
        Ok(())
    }

    /// Whether somebody still reads, as far as is known.
    pub const fn has_reader(&self) -> bool {
        self.has_reader
    }

    fn try_flush(&mut self) -> io::Result<()> {
        self.out.write_all(self.pending.as_bytes())?;
        self.out.flush()
    }
}
