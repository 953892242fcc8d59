//! `firewall monitor`: drops, as they happen.

use std::{
    io::{ErrorKind, Read, Write, stdout},
    os::unix::net::UnixStream,
};

use anyhow::{Context, Result, bail};
use firewall_common::event::{Event, EventKind};

use super::maps;
use crate::{
    cli::args::{Global, Output},
    daemon::events::socket_path,
    listing::event,
};

pub fn monitor(global: &Global) -> Result<()> {
    let maps = maps(global)?;
    let path = socket_path(maps.pins());
    let mut stream = UnixStream::connect(&path).with_context(|| {
        format!("no daemon answers at {}: `firewall run` starts one", path.display())
    })?;
    let mut bytes = [0; size_of::<Event>()];
    // The first record tells that from now on nothing is missed.
    receive(&mut stream, &mut bytes)?;
    eprintln!("watching; end with Ctrl-C");
    while receive(&mut stream, &mut bytes)? {
        let event: Event = bytemuck::pod_read_unaligned(&bytes);
        if EventKind::from_byte(event.kind) != Some(EventKind::Drop) {
            continue;
        }
        let line = match global.output {
            Output::Text => event::text(&event),
            Output::Json => event::json(&event),
        };
        let mut out = stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
    bail!("the daemon has ended")
}

/// `false` at the end of the stream.
fn receive(stream: &mut UnixStream, bytes: &mut [u8]) -> Result<bool> {
    match stream.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error).context("cannot read from the daemon"),
    }
}
