//! Flows that a command ends: it has them out of the tables, so it is the one to tell
//! the watchers, by way of the daemon.

use std::{
    io::{BufWriter, Write},
    os::unix::net::UnixStream,
};

use anyhow::Result;
use firewall_common::{
    control::option,
    flow::{Flow, FlowKey},
    flow_event::{FlowChange, FlowEvent},
};

use super::{
    socket_path,
    wire::{Request, want},
};
use crate::kernel::maps::{Maps, now};

/// Tells of ended flows, when somebody watches.
#[derive(Debug)]
pub struct Ended {
    stream: Option<BufWriter<UnixStream>>,
    is_broken: bool,
}

impl Ended {
    /// # Errors
    /// When the maps cannot be read.
    pub fn begin(maps: &Maps) -> Result<Self> {
        let is_watched = maps.options()?.has(option::REPORT_FLOWS);
        // Without a daemon there is no watcher either.
        let stream = match UnixStream::connect(socket_path(maps.pins())) {
            Ok(stream) if is_watched => Some(BufWriter::with_capacity(1 << 16, stream)),
            _ => None,
        };
        let mut ended = Self { stream, is_broken: false };
        ended.write(bytemuck::bytes_of(&Request::new(want::TO_TELL)));
        Ok(ended)
    }

    pub fn tell(&mut self, key: &FlowKey, flow: &Flow) {
        if self.stream.is_some() {
            self.write(bytemuck::bytes_of(&ended(key, flow)));
        }
    }

    /// Hands over what is left. The flows are gone either way: that watchers were
    /// not told is a warning.
    pub fn finish(mut self) {
        let flushed = self.stream.as_mut().map_or(Ok(()), Write::flush);
        if self.is_broken || flushed.is_err() {
            eprintln!("firewall: the daemon has ended meanwhile: watchers were not told");
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream
            && stream.write_all(bytes).is_err()
        {
            self.stream = None;
            self.is_broken = true;
        }
    }
}

/// What is told of a flow that has just been taken out.
pub fn ended(key: &FlowKey, flow: &Flow) -> FlowEvent {
    let change = FlowChange::Destroy as u8;
    FlowEvent { at: now(), key: *key, flow: *flow, change, ..FlowEvent::default() }
}
