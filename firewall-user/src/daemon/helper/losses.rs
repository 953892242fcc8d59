//! What of a control connection was lost before it was read.
//!
//! Its sender repeats it, and all is well. Where its receiver says first that it has it, which
//! nobody has sent on, nothing is believed of the connection any more than of one that was
//! forgotten: else a server could have its client's request passed over.

use anyhow::Result;
use firewall_common::{
    event::Punt,
    flow::{Direction, Flow, FlowKey, Tuple, helper, protocol},
    seq::Seq,
    unread::Unread,
};

use super::{Control, Helper, direction_of, rewriting::acknowledged};
use crate::{
    helper::{Actions, passed_over},
    kernel::maps::now,
};

impl Helper {
    /// A segment is let go of unread.
    pub(super) fn miss(&mut self, punt: &Punt) {
        if helper::protocol(punt.helper) == Some(protocol::TCP)
            && let Err(error) = self.losses.add(punt.way(), Unread::of(punt))
        {
            tracing::error!(target: "helper", "cannot note that a segment was lost: {error:#}");
        }
    }

    /// Tells the reader what of a direction has arrived.
    pub(super) fn arrived(
        &mut self,
        control: Control,
        direction: Direction,
        reached: u32,
    ) -> Actions {
        let is_doubtful = self.passes_over_a_loss(control, direction, reached);
        let read = self.shelves.of(&control).roster.read(&control, |reader| {
            if is_doubtful {
                reader.doubt();
            }
            reader.acknowledged(direction.reversed(), reached)
        });
        read.map(|(gaps, _)| gaps).unwrap_or_default()
    }

    /// Passes over what is missing before a segment, as far as its receiver has it.
    pub(super) fn pass_over(&mut self, punt: &Punt, received: Option<Seq>) -> Actions {
        let (control, direction) = (Control::of(punt), direction_of(punt));
        let expected = self.expected(control, direction);
        match passed_over(expected, received, punt.seq) {
            Some(reached) => self.arrived(control, direction, reached),
            None => Actions::default(),
        }
    }

    /// What the receiver of a segment has of its direction, where something is missing before it.
    pub(super) fn received_before(&mut self, punt: &Punt) -> Option<Seq> {
        let (control, direction) = (Control::of(punt), direction_of(punt));
        let expected = self.expected(control, direction)?;
        let is_early = Seq(punt.seq).is_after(Seq(expected));
        let flow = is_early.then(|| self.flows.get(&control.key(), now()).ok().flatten())??;
        acknowledged(&flow, direction).filter(|_| flow.created == punt.flow_created)
    }

    /// Whether the receiver of a direction claims to have what was lost here.
    fn passes_over_a_loss(&mut self, control: Control, direction: Direction, reached: u32) -> bool {
        let Some(reader) = self.shelves.of(&control).roster.get(&control) else { return false };
        match reader.expects(direction) {
            Some(expected) => {
                Seq(reached).is_after(Seq(expected))
                    && self.has_lost(control, direction, Seq(reached))
            }
            // A reader without a place there: what was lost before the one that it gets now.
            None => self.has_lost(control, direction, Seq(reached)),
        }
    }

    /// Whether the client has said something that was lost, before a reader begins with this
    /// segment.
    pub(super) fn begins_behind_a_loss(&self, punt: &Punt) -> bool {
        let begin = match direction_of(punt) {
            Direction::Original => punt.seq,
            Direction::Reply => punt.ack,
        };
        self.has_lost(Control::of(punt), Direction::Original, Seq(begin))
    }

    /// Whether something of a direction was lost before a place.
    fn has_lost(&self, control: Control, direction: Direction, before: Seq) -> bool {
        let lost = || -> Result<bool> {
            let unread = self.losses.get(&way(control, direction))?;
            let own = unread.filter(|unread| unread.created == control.created);
            let is_told = own.is_some_and(|lost| lost.seq.is_before(before));
            Ok(is_told || !control.created.is_after(self.losses.untold()?))
        };
        // What cannot be looked up is not believed.
        helper::protocol(control.helper) == Some(protocol::TCP) && lost().unwrap_or(true)
    }

    /// Forgets what has come again since, and what was lost of connections that are over.
    pub(super) fn forget_losses(&mut self) -> Result<()> {
        if self.losses_to_check.is_empty() {
            self.losses_to_check = self.losses.ways()?;
        }
        for way in super::ends::some_of(&mut self.losses_to_check) {
            let Some(lost) = self.losses.get(&way)? else { continue };
            if !self.is_made_good(&way, &lost)? {
                continue;
            }
            self.losses.remove(&way)?;
            // Another one may have been lost meanwhile.
            if !self.is_made_good(&way, &lost)? {
                self.losses.add(way, lost)?;
            }
        }
        Ok(())
    }

    /// As [`Helper::forget_losses`], of all: the next daemon cannot tell what was made good.
    pub(super) fn forget_all_losses(&mut self) -> Result<()> {
        self.losses_to_check = self.losses.ways()?;
        while !self.losses_to_check.is_empty() {
            self.forget_losses()?;
        }
        Ok(())
    }

    fn is_made_good(&mut self, way: &Tuple, lost: &Unread) -> Result<bool> {
        let (key, sender) = FlowKey::of(way);
        let flow = self.flows.get(&key, now())?.filter(|flow| flow.created == lost.created);
        let Some(flow) = flow else { return Ok(true) };
        let direction = flow.direction(sender);
        let control = Control::of_flow(&key, &flow);
        Ok(self.has_read_all(control, direction, &flow))
    }

    /// Whether everything that has come of a direction was read.
    fn has_read_all(&mut self, control: Control, direction: Direction, flow: &Flow) -> bool {
        let reader = self.shelves.of(&control).roster.get(&control);
        let read = reader.filter(|reader| reader.is_sure()).and_then(|it| it.expects(direction));
        read.map(Seq) == Some(flow.side(direction).window.end)
    }
}

/// A direction of a control connection, as its packets go.
const fn way(control: Control, direction: Direction) -> Tuple {
    match direction {
        Direction::Original => control.flow,
        Direction::Reply => control.flow.reversed(),
    }
}
