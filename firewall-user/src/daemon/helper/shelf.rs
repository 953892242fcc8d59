//! The readers of one transport, with bounds of their own: datagrams, whose senders anybody
//! can forge, push out no TCP connection.

use firewall_common::{
    flow::{helper, protocol},
    time::Nanos,
};

use super::Control;
use crate::{
    helper::{Bounds, Roster},
    kernel::maps::now,
};

/// What is read over one transport.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) roster: Roster<Control>,
    /// Connections made before this may have been forgotten.
    pub(super) forgot: Nanos,
}

impl Shelf {
    fn new(bounds: Bounds) -> Self {
        Self { roster: Roster::new(bounds), forgot: now() }
    }
}

/// Both transports.
#[derive(Debug)]
pub(super) struct Shelves {
    streams: Shelf,
    datagrams: Shelf,
}

impl Shelves {
    pub(super) fn new(streams: Bounds, datagrams: Bounds) -> Self {
        Self { streams: Shelf::new(streams), datagrams: Shelf::new(datagrams) }
    }

    pub(super) fn of(&mut self, control: &Control) -> &mut Shelf {
        match helper::protocol(control.helper) {
            Some(protocol::UDP) => &mut self.datagrams,
            _ => &mut self.streams,
        }
    }

    fn both(&self) -> [&Roster<Control>; 2] {
        [&self.streams.roster, &self.datagrams.roster]
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Control> + '_ {
        self.both().into_iter().flat_map(Roster::keys)
    }

    /// Control connections, and the bytes that they hold in buffers.
    pub(super) fn fill(&self) -> (usize, usize) {
        let [streams, datagrams] = self.both();
        (streams.len() + datagrams.len(), streams.buffered() + datagrams.buffered())
    }
}
