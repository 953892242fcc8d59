//! Who judges at a gateway.

use anyhow::Result;
use firewall_common::flow::CtState;

use super::{datagram::Datagram, reference::Reference, subject::Subject};
use crate::{
    oracle::{Judgement, Settings, flow::Flow},
    wire::End,
};

#[derive(Debug)]
pub(super) enum Judge<'a> {
    Reference(Reference<'a>),
    Subject(Box<Subject<'a>>),
}

impl Judge<'_> {
    /// Forgets every flow, and takes these settings.
    pub(super) fn settle(&mut self, settings: Settings) -> Result<()> {
        match self {
            Self::Reference(kernel) => kernel.settle(settings),
            Self::Subject(firewall) => firewall.settle(settings),
        }
    }

    /// Judges a packet from one end, of which this state is likely.
    pub(super) fn judge(
        &mut self,
        from: End,
        packet: &[u8],
        likely: Option<CtState>,
    ) -> Result<Judgement> {
        match self {
            Self::Reference(kernel) => kernel.judge(from, packet),
            Self::Subject(firewall) => firewall.judge(from, packet, likely),
        }
    }

    /// Sends a piece of a datagram, and notes what it brings.
    pub(super) fn judge_piece(
        &mut self,
        from: End,
        packet: &[u8],
        datagram: &mut Datagram,
    ) -> Result<()> {
        match self {
            Self::Reference(kernel) => kernel.judge_piece(from, packet, datagram),
            Self::Subject(firewall) => firewall.judge_piece(from, packet, datagram),
        }
    }

    /// Waits a little for the pieces of a datagram that are still on their way: with
    /// the firewall those that came before their first come back from the daemon.
    pub(super) fn await_rest(
        &mut self,
        from: End,
        packet: &[u8],
        datagram: &mut Datagram,
        length: usize,
    ) -> Result<()> {
        match self {
            Self::Reference(_) => Ok(()),
            Self::Subject(firewall) => firewall.await_rest(from, packet, datagram, length),
        }
    }

    /// What stands in the tables.
    pub(super) fn flows(&mut self) -> Result<Vec<Flow>> {
        match self {
            Self::Reference(kernel) => kernel.flows(),
            Self::Subject(firewall) => firewall.flows(),
        }
    }
}
