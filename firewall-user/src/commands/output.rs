//! Printing lists.

use std::io::{self, BufWriter, ErrorKind, Write, stdout};

use anyhow::Result;

/// Prints lines; whoever stops reading them (`| head`) is no error.
pub fn print<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> Result<()> {
    match try_print(lines) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn try_print<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> io::Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    for line in lines {
        out.write_all(line.as_ref().trim_end_matches('\n').as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
