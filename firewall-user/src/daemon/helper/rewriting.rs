//! Control connections whose addresses are translated: what they announce is told to the other
//! side by the address that it knows, and everything behind a text of another length is
//! shifted.
//!
//! Segments of such a direction are read in their order alone: one that comes before what it
//! follows is let go of, and its sender repeats it. Nobody knows yet where it will stand. The same
//! holds for a segment, or the last lines of one, for which there is no room.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use firewall_common::{
    event::Punt,
    flow::{Direction, Flow, helper, protocol, window},
    helper_stats::HelperCount,
    seq::Seq,
    shift::{Shift, Shifts},
};

use super::{Control, Helper, direction_of};
use crate::{
    daemon::segment::{Numbers, Segment},
    helper::{
        Action, Actions, Announced, Hole, Names, Reader, Replacement, Rewriter, emit, parts,
        text_at, told_within,
    },
    kernel::maps::now,
    listing::helper_event::{Early, HelperChange, Untold},
};

/// What reading a segment has come to.
#[derive(Debug, Default)]
struct Said {
    actions: Actions,
    /// Bytes that were read, now or before: they go on.
    len: usize,
    /// Announcements that are told, and those that cannot be.
    told: u64,
    in_part: Vec<Hole>,
    /// What stands before that which is withheld.
    before: Option<u8>,
}

/// A direction whose announcements are told by another address.
#[derive(Clone, Copy, Debug)]
struct Side {
    control: Control,
    direction: Direction,
    address: IpAddr,
    /// What has arrived of it, in its sender's numbers.
    received: Option<Seq>,
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
        let Some(segment) = Segment::read(punt, frame) else {
            self.miss(punt);
            return Ok(());
        };
        let (control, direction) = (Control::of(punt), direction_of(punt));
        let names = Names::of(flow);
        self.follow(punt, names);
        let standing = self.shifts.get(&control.key())?.filter(|it| it.created == control.created);
        let mut shifts = standing.unwrap_or_else(|| Shifts::of(control.created));
        let received = acknowledged(flow, direction);
        // Also where it is not told: a stream begins where its receiver is.
        let known = self.known(punt, received, shifts.side(direction));
        let address = names.of_sender(direction);
        let former = address.and_then(|_| self.shelves.of(&control).roster.copy(&control));
        let said = match (address, known) {
            (None, _) => self.listen(punt, segment.payload()),
            (Some(_), None) => {
                self.early(punt, Early::Overtook);
                return Ok(());
            }
            (Some(address), Some(known)) => {
                let side = Side { control, direction, address, received };
                self.listen_in_parts(punt, &segment, side, known, shifts.side_mut(direction))
            }
        };
        // In force before anything goes on that it is about.
        if standing != Some(shifts) && shifts != Shifts::of(control.created) {
            self.note_shifts(punt, shifts, former)?;
        }
        self.stats.counts[HelperCount::Rewritten as usize] += said.told;
        for hole in said.in_part {
            self.tellings.remember(control, hole, None);
            let text = format!("{hole} is not opened: its announcement has gone on in part");
            self.untold(control, Untold::InPart, text);
        }
        let (closes, others): (Vec<_>, Vec<_>) =
            said.actions.into_iter().partition(|action| matches!(action, Action::Close(_)));
        self.act_on(control, closes);
        self.act_on(control, others);
        match said.len {
            0 => Ok(()),
            len if len < segment.payload().len() => {
                self.send_shifted(punt, frame, &segment.up_to(len), &shifts, None)
            }
            _ => self.send_shifted(punt, frame, &segment, &shifts, said.before),
        }
    }

    /// Has the programs know where text was written anew. When they cannot, the reader becomes
    /// the former one: it will read the same once more.
    fn note_shifts(
        &mut self,
        punt: &Punt,
        shifts: Shifts,
        former: Option<Box<dyn Reader>>,
    ) -> Result<()> {
        let control = Control::of(punt);
        let noted = self.shifts.insert(control.key(), shifts);
        if noted.is_err() {
            let text = "where its text was written anew cannot be noted: no segment goes on";
            self.untold(control, Untold::NoRoom, text.to_owned());
            self.miss(punt);
            if let Some(former) = former {
                self.shelves.of(&control).roster.restore(&control, former);
            }
        }
        noted.context("cannot note where a text was written anew: its segment is not sent on")
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
    fn known(&mut self, punt: &Punt, received: Option<Seq>, shift: &Shift) -> Option<usize> {
        let (control, direction) = (Control::of(punt), direction_of(punt));
        let gaps = self.pass_over(punt, received);
        self.act_on(control, gaps);
        let Some(expected) = self.expected(control, direction) else {
            return Some(told_within(shift, punt.seq));
        };
        let is_early = Seq(punt.seq).is_after(Seq(expected));
        (!is_early).then(|| expected.wrapping_sub(punt.seq) as usize)
    }

    pub(super) fn expected(&mut self, control: Control, direction: Direction) -> Option<u32> {
        self.shelves.of(&control).roster.get(&control)?.expects(direction)
    }

    /// Has the reader read a segment of a direction that goes on as it is.
    fn listen(&mut self, punt: &Punt, payload: &[u8]) -> Said {
        let (control, direction) = (Control::of(punt), direction_of(punt));
        let mut actions = self.heed(punt);
        let read = self
            .shelves
            .of(&control)
            .roster
            .read(&control, |reader| reader.segment(direction, punt.seq, payload));
        if let Some((read, shed)) = read {
            self.stats.counts[HelperCount::Shed as usize] += shed as u64;
            actions.append(read);
        }
        Said { actions, len: payload.len(), ..Said::default() }
    }

    /// Tells the reader what a segment acknowledges.
    fn heed(&mut self, punt: &Punt) -> Actions {
        self.arrived(Control::of(punt), direction_of(punt).reversed(), punt.ack)
    }

    /// Has the reader read what is new in a segment, line by line, as long as there is room for
    /// what a line may need. The rest must be repeated, when something has arrived.
    fn listen_in_parts(
        &mut self,
        punt: &Punt,
        segment: &Segment<'_>,
        side: Side,
        known: usize,
        shift: &mut Shift,
    ) -> Said {
        let payload = segment.payload();
        let known = known.min(payload.len());
        let mut said = Said { actions: self.heed(punt), len: known, ..Said::default() };
        for (seq, part) in parts(punt.seq, payload, known) {
            if !part.is_empty() && !Rewriter::new(shift, side.received).has_room(seq) {
                self.early(punt, Early::Ahead);
                break;
            }
            self.listen_to(side, seq, part, !segment.is_last(), shift, &mut said);
            said.len += part.len();
        }
        said
    }

    /// Has the reader read a part of a line; `is_going_on` when more of it may follow.
    fn listen_to(
        &mut self,
        side: Side,
        seq: u32,
        part: &[u8],
        is_going_on: bool,
        shift: &mut Shift,
        said: &mut Said,
    ) {
        let Side { control, direction, received, .. } = side;
        let read = self.shelves.of(&control).roster.read(&control, |reader| {
            let read = reader.segment(direction, seq, part);
            (read, reader.unfinished(direction).filter(|_| is_going_on))
        });
        let ((read, unfinished), shed) = read.unwrap_or_default();
        self.stats.counts[HelperCount::Shed as usize] += shed as u64;
        let announced = read.announced().first().copied();
        let replaced = announced.and_then(|announced| {
            let old = text_at(shift, seq, part, announced.place);
            Some((announced.hole, self.replacement(side, &announced, old)?))
        });
        let replacement = replaced.as_ref().map(|(_, replacement)| replacement);
        let stands = Rewriter::new(shift, received).revise(seq, replacement, unfinished.as_ref());
        match replaced {
            Some(_) if stands => said.told += 1,
            Some((hole, _)) => said.in_part.push(hole),
            None => {}
        }
        said.before = unfinished.map(|begun| begun.before);
        said.actions.append(read);
    }

    /// What the other side reads in the place of an announcement; `None` where that stays as it
    /// is.
    fn replacement(
        &mut self,
        side: Side,
        announced: &Announced,
        old: Option<Vec<u8>>,
    ) -> Option<Replacement> {
        let Side { control, direction, address, .. } = side;
        let hole = announced.hole;
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
        Replacement::of(announced, old, SocketAddr::new(wire.dst, wire.dport))
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
    fn early(&mut self, punt: &Punt, why: Early) {
        self.miss(punt);
        self.stats.count(HelperCount::Early);
        self.tell(Control::of(punt), HelperChange::Early(why));
    }
}

/// What the receiver of a direction has acknowledged, in its sender's numbers.
pub(super) fn acknowledged(flow: &Flow, direction: Direction) -> Option<Seq> {
    let window = flow.side(direction.reversed()).window;
    window.has(window::MAX_ACK_KNOWN).then_some(window.max_ack)
}
