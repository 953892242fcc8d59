//! The reason of a drop that has just been reported, from what the tables know now.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytemuck::Zeroable;
use firewall_common::{
    conntrack::{self, options::TcpOptions, tcp::Segment, window::Seen},
    control::Options,
    event::Event,
    flow::{CtState, Direction, FlowKey, protocol},
    headers::Headers,
    wire::tcp_flag,
};

use super::{
    announcement::{Control, controls},
    tracking::{Facts, reason},
};
use crate::{
    kernel::maps::{Flows, Maps, now},
    listing::frame::Captured,
};

/// Control connections are looked for again after this time, or after so many times what
/// the last look took: a table of a million flows takes a part of a second.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const REST: u32 = 20;

/// Tells reasons, with the tables kept open.
#[derive(Debug)]
pub struct Reasons {
    maps: Maps,
    flows: Flows,
    options: Options,
    controls: Vec<Control>,
    look_again: Option<Instant>,
}

impl Reasons {
    /// # Errors
    /// When the maps cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        Ok(Self {
            flows: Flows::open(maps)?,
            options: maps.options()?,
            maps: maps.clone(),
            controls: Vec::new(),
            look_again: None,
        })
    }

    /// Why a dropped packet had its ctstate; `None` when it was dropped before that was
    /// found, or cannot be read.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn of(&mut self, event: &Event) -> Result<Option<String>> {
        let Some(ctstate) = CtState::from_bit(event.ctstate) else { return Ok(None) };
        let mut headers = Headers::default();
        let parsed = headers.parse(&Captured(event), event.l3 != 0);
        if parsed.is_err() || headers.is_later_fragment() {
            return Ok(None);
        }
        let (key, sender) = FlowKey::of(&headers.tuple);
        let flow = self.flows.get(&key, now())?;
        let mut seen = Seen::zeroed();
        if let Some(segment) = Segment::from_flags(headers.tcp_flags) {
            conntrack::note(segment, &headers, &TcpOptions::zeroed(), &mut seen);
        }
        let mut text = reason(&Facts {
            ctstate,
            headers: &headers,
            options: self.options,
            flow: flow.as_ref(),
            direction: flow.map_or(Direction::Original, |flow| flow.direction(sender)),
            seen: &seen,
            announced_by: None,
        });
        let begins = headers.tuple.protocol == protocol::TCP
            && headers.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
        if begins && flow.is_none() && ctstate == CtState::New {
            self.look()?;
            let (src, dst) = (headers.tuple.src, headers.tuple.dst);
            if let Some(control) = self.controls.iter().find(|one| one.is_between(src, dst)) {
                text = format!("{text}; {}", control.sentence(headers.tuple.dport));
            }
        }
        Ok(Some(text))
    }

    /// Looks for control connections, not too often.
    fn look(&mut self) -> Result<()> {
        let began = Instant::now();
        if self.look_again.is_some_and(|at| began < at) {
            return Ok(());
        }
        self.controls = controls(&self.maps, now(), |_| true)?;
        let rest = (began.elapsed() * REST).max(LOOK_AGAIN);
        self.look_again = Some(Instant::now() + rest);
        Ok(())
    }
}
