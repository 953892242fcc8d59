//! Control connections whose addresses are translated: what they announce is told to the other
//! side by the address that it knows, and everything behind a text of another length is
//! shifted.
//!
//! Segments of such a direction are read in their order alone: one that comes before what it
//! follows is let go of, and its sender repeats it. Nobody knows yet where it will stand.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use firewall_common::{
    event::Punt,
    flow::{Direction, Flow, helper, protocol, window},
    helper_stats::HelperCount,
    seq::Seq,
    shift::Shifts,
};

use super::{Control, Helper, direction_of};
use crate::{
    daemon::segment::{Numbers, Segment},
    helper::{
        Action, Actions, Announced, Hole, Names, Replacement, Rewriter, Unfinished, emit, text_at,
    },
    kernel::maps::now,
    listing::helper_event::{Early, HelperChange, Untold},
};

/// What reading a segment has come to.
#[derive(Debug, Default)]
struct Said {
    actions: Vec<Action>,
    announced: Vec<Announced>,
    unfinished: Option<Unfinished>,
}

impl Helper {
    /// The flow of a segment, if its text may have to be written anew.
    pub(super) fn translated(&self, punt: &Punt) -> Option<Flow> {
        if helper::protocol(punt.helper) != Some(protocol::TCP) {
            return None;
        }
        let flow = self.flows.get(&Control::of(punt).key(), now()).ok().flatten()?;
        (flow.created == punt.flow_created && flow.may_be_shifted()).then_some(flow)
    }

    /// Reads a segment of such a flow, and sends on what its receiver gets in its place.
    pub(super) fn rewrite(&mut self, punt: &Punt, frame: &[u8], flow: &Flow) -> Result<()> {
        // Its receiver would not take it, and it says nothing.
        let Some(segment) = Segment::read(punt, frame) else { return Ok(()) };
        let (control, direction) = (Control::of(punt), direction_of(punt));
        let names = Names::of(flow);
        self.follow(control, names, punt.picked_up != 0);
        let standing = self.shifts.get(&control.key())?.filter(|it| it.created == control.created);
        let mut shifts = standing.unwrap_or_else(|| Shifts::of(control.created));
        let received = acknowledged(flow, direction);
        let is_told = names.of_sender(direction).is_some();
        // Also where it is not told: a stream begins where its receiver is.
        let known = self.known(punt, received);
        if is_told {
            let Some(known) = known else {
                self.early(control, Early::Overtook);
                return Ok(());
            };
            let mut rewriter = Rewriter::new(shifts.side_mut(direction), received);
            if !rewriter.has_room(punt.seq) && known < segment.payload().len() {
                // What is new must wait until something has arrived.
                self.early(control, Early::Ahead);
                return match known {
                    0 => Ok(()),
                    _ => self.send_shifted(punt, frame, &segment.up_to(known), &shifts, None),
                };
            }
        }
        let said = self.listen(punt, segment.payload(), is_told && !segment.is_last());
        let (closes, others): (Vec<_>, Vec<_>) =
            said.actions.into_iter().partition(|action| matches!(action, Action::Close(_)));
        self.act_on(control, closes);
        let mut replaced = Vec::new();
        for announced in &said.announced {
            let old = text_at(shifts.side(direction), punt.seq, segment.payload(), announced.place);
            replaced.extend(self.replacement(control, names, direction, announced, old));
        }
        let (holes, replacements): (Vec<_>, Vec<_>) = replaced.into_iter().unzip();
        let stands = Rewriter::new(shifts.side_mut(direction), received).revise(
            punt.seq,
            &replacements,
            said.unfinished.as_ref(),
        );
        for (hole, stands) in holes.into_iter().zip(stands) {
            if stands {
                self.stats.count(HelperCount::Rewritten);
            } else {
                self.tellings.remember(control, hole, None);
                let text = format!("{hole} is not opened: its announcement has gone on in part");
                self.untold(control, Untold::InPart, text);
            }
        }
        // In force before anything goes on that it is about.
        if standing != Some(shifts) && shifts != Shifts::of(control.created) {
            let noted = self.shifts.insert(control.key(), shifts);
            if noted.is_err() {
                let text = "where its text was written anew cannot be noted: no segment goes on";
                self.untold(control, Untold::NoRoom, text.to_owned());
            }
            noted
                .context("cannot note where a text was written anew: its segment is not sent on")?;
        }
        self.act_on(control, others);
        let before = said.unfinished.map(|begun| begun.before);
        self.send_shifted(punt, frame, &segment, &shifts, before)
    }

    /// Sends on what takes the place of a segment; `before` stands before what is withheld.
    fn send_shifted(
        &self,
        punt: &Punt,
        frame: &[u8],
        segment: &Segment<'_>,
        shifts: &Shifts,
        before: Option<u8>,
    ) -> Result<()> {
        if *shifts == Shifts::of(shifts.created) {
            return self.send(punt, frame);
        }
        let direction = direction_of(punt);
        let other = shifts.side(direction.reversed());
        let mut emission = emit(shifts.side(direction), punt.seq, segment.payload());
        if emission.bytes.is_empty() {
            emission.nudge(before);
        }
        let numbers = Numbers { seq: emission.seq, ack: other.back(segment.ack()) };
        for frame in segment.frames(numbers, &emission.bytes, |number| other.back(number)) {
            self.send(punt, &frame)?;
        }
        Ok(())
    }

    /// How many bytes of a segment were read already; `None` where something is still missing
    /// before it.
    fn known(&mut self, punt: &Punt, received: Option<Seq>) -> Option<usize> {
        let (control, direction) = (Control::of(punt), direction_of(punt));
        let said = self.shelves.of(&control).roster.read(&control, |reader| {
            let gaps = received.map(|it| reader.acknowledged(direction.reversed(), it.0));
            (gaps.unwrap_or_default(), reader.expects(direction))
        });
        let Some(((gaps, expected), _)) = said else { return Some(0) };
        self.act_on(control, gaps);
        let Some(expected) = expected else { return Some(0) };
        let is_early = Seq(punt.seq).is_after(Seq(expected));
        (!is_early).then(|| expected.wrapping_sub(punt.seq) as usize)
    }

    /// Has the reader read a segment; `is_going_on` when more of its line may follow.
    fn listen(&mut self, punt: &Punt, payload: &[u8], is_going_on: bool) -> Said {
        let (control, direction) = (Control::of(punt), direction_of(punt));
        let read = self.shelves.of(&control).roster.read(&control, |reader| {
            let gaps = reader.acknowledged(direction, punt.ack);
            let read: Actions = reader.segment(direction, punt.seq, payload);
            (gaps, read, reader.unfinished(direction).filter(|_| is_going_on))
        });
        let Some(((gaps, read, unfinished), shed)) = read else { return Said::default() };
        self.stats.counts[HelperCount::Shed as usize] += shed as u64;
        let announced = read.announced().to_vec();
        Said { actions: gaps.into_iter().chain(read).collect(), announced, unfinished }
    }

    /// What the other side reads in the place of an announcement, and its hole; `None` where
    /// that stays as it is.
    fn replacement(
        &mut self,
        control: Control,
        names: Names,
        direction: Direction,
        announced: &Announced,
        old: Option<Vec<u8>>,
    ) -> Option<(Hole, Replacement)> {
        let hole = announced.hole;
        let address = names.of_sender(direction)?;
        let own = match direction {
            Direction::Original => control.client(),
            Direction::Reply => control.server(),
        };
        // Somebody else's endpoint, by the configuration's leave.
        if hole.dst != own.ip() {
            return None;
        }
        let Self { tellings, expectations, .. } = self;
        let wire =
            tellings.tell(control, hole, address, |wire| match expectations.get(&wire.key()) {
                Ok(Some(other)) => {
                    Control::behind(&other) == control || !other.expires.is_after(now())
                }
                Ok(None) => true,
                Err(_) => false,
            });
        let Some(wire) = wire else {
            let text = format!("{hole} is not opened: no port of {address} is free for it");
            self.untold(control, Untold::NoPort, text);
            return None;
        };
        let told = SocketAddr::new(wire.dst, wire.dport);
        Some((hole, Replacement::of(announced, old, told)?))
    }

    /// Tells why an endpoint was not told.
    fn untold(&mut self, control: Control, why: Untold, text: String) {
        self.stats.count(HelperCount::Untold);
        if self.limit.admit(now()) {
            tracing::warn!(target: "helper", "{text}");
        }
        self.tell(control, HelperChange::Untold(why, text));
    }

    /// Tells that a segment is let go of.
    fn early(&mut self, control: Control, why: Early) {
        self.stats.count(HelperCount::Early);
        self.tell(control, HelperChange::Early(why));
    }
}

/// What the receiver of a direction has acknowledged, in its sender's numbers.
fn acknowledged(flow: &Flow, direction: Direction) -> Option<Seq> {
    let window = flow.side(direction.reversed()).window;
    window.has(window::MAX_ACK_KNOWN).then_some(window.max_ack)
}
