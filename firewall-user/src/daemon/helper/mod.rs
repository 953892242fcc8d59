//! The helper at work: held segments go to their readers, what those ask for is done,
//! and the segments go on.

mod acting;
mod control;
mod ends;
mod losses;
mod portions;
mod rewriting;
mod shelf;
mod switches;
mod told;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use firewall_common::{
    control::{HEARTBEAT_LIMIT, option},
    event::Punt,
    expectation::{Expectation, ExpectationKey},
    flow::{Direction, FlowKey, Tuple, protocol, status},
    helper_stats::{HelperCount, HelperStats},
    time::Nanos,
};

use self::{
    control::Control, portions::portions, rewriting::acknowledged, shelf::Shelves,
    switches::Switches, told::Tellings,
};
use super::{
    events::Watchers,
    inject::{Injector, Tokens},
    sweeping::Refused,
};
use crate::{
    ftp::PortRange,
    helper::{
        Action, Beginning, Bounds, Hole, Ledger, Names, Passage, Passages, Readers, Turns,
        passed_over,
    },
    kernel::{
        maps::{Expectations, Flows, Maps, SequenceShifts, now, precise_now},
        unread::Losses,
    },
    log::RateLimit,
};

/// Segments, or portions of long ones, that are read before the heart beats, and what else is due;
/// and no longer than that.
const AT_ONCE: usize = 64;
const IN_A_ROW: Duration = Duration::from_millis(5);
/// How long those that wait are read when the daemon ends.
const LEAVING: Duration = Duration::from_millis(500);
/// Lines a second in the log about what opened nothing, and in a row.
const NOTES_A_SECOND: u32 = 10;
const NOTES_IN_A_ROW: u32 = 100;

/// What the helpers are told, and what they may use.
#[derive(Clone, Debug)]
pub struct Helpers {
    pub readers: Readers,
    pub bounds: Bounds,
    /// The same for helpers of UDP.
    pub datagram_bounds: Bounds,
    /// Holes of one client that stand at a time.
    pub max_holes_per_host: usize,
}

/// All control connections that are followed.
#[derive(Debug)]
pub struct Helper {
    maps: Maps,
    expectations: Expectations,
    tokens: Tokens,
    flows: Flows,
    injector: Injector,
    readers: Readers,
    watchers: Watchers,
    /// Connections made later, and not picked up in their middle, are known from
    /// their first segment on.
    started: Nanos,
    /// When the heart beat last, and until when it had stood still before that so long that
    /// segments went on unread.
    beaten: Nanos,
    away_until: Nanos,
    refused: Refused,
    shelves: Shelves,
    turns: Turns<Control>,
    /// By the hole as packets come in.
    ledger: Ledger<Control, Hole>,
    tellings: Tellings,
    shifts: SequenceShifts,
    losses: Losses,
    max_holes_per_host: usize,
    passages: Passages<Control>,
    /// What a former daemon has opened, for those that have not spoken since.
    inherited: HashMap<Control, Hole>,
    /// Whether they are over is looked at next.
    to_check: Vec<Control>,
    claims_to_check: Vec<(Passage, Control)>,
    shifts_to_check: Vec<FlowKey>,
    losses_to_check: Vec<Tuple>,
    /// For what stands in the map.
    switches: Switches,
    stats: HelperStats,
    /// As the map has them.
    told: HelperStats,
    limit: RateLimit,
}

impl Helper {
    /// # Errors
    /// When the maps cannot be opened.
    pub fn new(maps: Maps, injector: Injector, told: Helpers, watchers: Watchers) -> Result<Self> {
        let Helpers { readers, bounds, datagram_bounds, max_holes_per_host } = told;
        let stats = HelperStats {
            max_followed: (bounds.connections + datagram_bounds.connections) as u64,
            max_buffered: (bounds.buffers + datagram_bounds.buffers) as u64,
            ..maps.helper_stats()?
        };
        let mut helper = Self {
            expectations: Expectations::open(&maps)?,
            tokens: Tokens::open(&maps)?,
            flows: Flows::open(&maps)?,
            injector,
            readers,
            watchers,
            started: now(),
            beaten: maps.heartbeat()?,
            away_until: now(),
            refused: Refused::default(),
            shelves: Shelves::new(bounds, datagram_bounds),
            turns: Turns::default(),
            ledger: Ledger::new(max_holes_per_host),
            tellings: Tellings::default(),
            shifts: SequenceShifts::open(&maps)?,
            losses: Losses::open(&maps)?,
            max_holes_per_host,
            passages: Passages::default(),
            inherited: HashMap::new(),
            to_check: Vec::new(),
            claims_to_check: Vec::new(),
            shifts_to_check: Vec::new(),
            losses_to_check: Vec::new(),
            switches: Switches::new(maps.clone()),
            stats,
            told: HelperStats::default(),
            limit: RateLimit::new(NOTES_A_SECOND, NOTES_IN_A_ROW),
            maps,
        };
        helper.inherit()?;
        Ok(helper)
    }

    /// How many expectations found no room, for those who watch the tables.
    pub fn refused(&self) -> Refused {
        Arc::clone(&self.refused)
    }

    /// What a former daemon has opened stands as long as its control connections.
    fn inherit(&mut self) -> Result<()> {
        for (key, expectation) in self.maps.expectations(now())? {
            let control = Control::behind(&expectation);
            match passage(&key, &expectation) {
                Some(passage)
                    if self.readers.ftp.tls_passive_range == Some(passage.ports)
                        && self.is_alive(control)? =>
                {
                    self.admit(control, passage)?;
                }
                Some(_) => drop(self.expectations.remove(&key)?),
                None => {
                    let (wire, hole) = (Hole::from(key), inside(&key, &expectation));
                    if hole != wire {
                        self.tellings.remember(control, hole, Some(wire));
                    }
                    self.ledger.admit(control.client().ip(), control, wire, |_, _| true);
                    self.inherited.insert(control, hole);
                }
            }
        }
        // The options begin without these bits.
        if self.inherited.values().any(|hole| hole.protocol == protocol::UDP) {
            self.switches.turn_on(option::UDP_EXPECTED)?;
        }
        Ok(())
    }

    /// Takes a record of the ring: it waits for its connection's turn.
    pub fn hold(&mut self, record: &[u8]) {
        let Some((punt, frame)) = split(record) else {
            return tracing::error!(
                "a record of {} bytes on the ring of held segments",
                record.len()
            );
        };
        match portions(&punt, frame) {
            None => drop(self.wait(&punt, record)),
            // Behind what is let go of, all comes again.
            Some(all) => drop(all.iter().all(|(punt, record)| self.wait(punt, record))),
        }
    }

    /// Has a record wait, if there is room; else it is missed.
    fn wait(&mut self, punt: &Punt, record: &[u8]) -> bool {
        let waits = self.turns.push(Control::of(punt), record);
        if !waits {
            self.stats.count(HelperCount::Crowded);
            self.miss(punt);
        }
        waits
    }

    /// Whether segments wait for their turn.
    pub fn is_behind(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Reads some of the segments that wait, and sends them on.
    pub fn serve(&mut self) {
        let begin = Instant::now();
        for _ in 0..AT_ONCE {
            let Some(record) = self.turns.take() else { return };
            self.segment(&record);
            if begin.elapsed() > IN_A_ROW {
                return;
            }
        }
    }

    /// Reads one record of the ring and sends its frame on.
    pub fn segment(&mut self, record: &[u8]) {
        let Some((punt, frame)) = split(record) else { return };
        let payload = frame
            .get(usize::from(punt.payload)..)
            .map(|rest| &rest[..rest.len().min(usize::from(punt.payload_len))])
            .unwrap_or_default();
        let sent = match self.translated(&punt) {
            Some(flow) => self.rewrite(&punt, frame, &flow),
            None => {
                self.read(&punt, payload);
                self.send(&punt, frame)
            }
        };
        if let Err(error) = sent {
            tracing::warn!("{error:#}; the sender will repeat it");
        }
        self.stats.held(precise_now().since(punt.at).0);
    }

    fn send(&self, punt: &Punt, frame: &[u8]) -> Result<()> {
        self.injector.send(punt, frame, self.tokens.of(punt.ifindex)?)
    }

    fn read(&mut self, punt: &Punt, payload: &[u8]) {
        let (control, direction) = (Control::of(punt), direction_of(punt));
        self.follow(punt, Names::default());
        let mut gaps = self.arrived(control, direction.reversed(), punt.ack);
        let received = self.received_before(punt);
        gaps.append(self.pass_over(punt, received));
        let said = self
            .shelves
            .of(&control)
            .roster
            .read(&control, |reader| reader.segment(direction, punt.seq, payload));
        self.act_on(control, gaps);
        if let Some((read, shed)) = said {
            self.stats.counts[HelperCount::Shed as usize] += shed as u64;
            self.act_on(control, read);
        }
    }

    /// Begins to read a segment's control connection, whose hosts have these names, unless it is
    /// read.
    fn follow(&mut self, punt: &Punt, names: Names) {
        let control = Control::of(punt);
        if self.shelves.of(&control).roster.contains(&control) {
            return;
        }
        let how = self.beginning(punt);
        let Some(mut reader) = self.readers.begin(control.helper, &control.flow, names, how) else {
            return;
        };
        if how == Beginning::Seen
            && let Some(first) = self.first_of_server(punt)
        {
            reader.acknowledged(Direction::Original, first);
        }
        if let Some(hole) = self.inherited.remove(&control) {
            reader.restore_hole(hole);
        }
        self.stats.count(HelperCount::Begun);
        let shelf = self.shelves.of(&control);
        if let Some((gone, mut reader)) = shelf.roster.begin(control, reader) {
            // It may speak again: its beginning is then long past.
            shelf.forgot = now();
            self.stats.count(HelperCount::Forgotten);
            // Its passage stays as long as it lives: somebody looks at that.
            let actions = reader.ended().into_iter();
            self.act_on(gone, actions.filter(|action| !matches!(action, Action::Dismiss(_))));
            self.tellings.forget(&gone);
        }
    }

    /// The number of a server's first byte, when it speaks first: then its greeting is read,
    /// whichever part of it comes before the other.
    fn first_of_server(&self, punt: &Punt) -> Option<u32> {
        let flow = self.flows.get(&Control::of(punt).key(), now()).ok().flatten()?;
        let is_this = flow.created == punt.flow_created && !flow.has(status::PROXIED);
        let direction = direction_of(punt);
        let received = acknowledged(&flow, direction).filter(|_| is_this);
        passed_over(None, received.filter(|_| direction == Direction::Reply), punt.seq)
    }

    fn beginning(&mut self, punt: &Punt) -> Beginning {
        let (control, picked_up) = (Control::of(punt), punt.picked_up != 0);
        let has_lost = self.begins_behind_a_loss(punt);
        let away_until = match self.is_away() {
            true => now(),
            false => self.away_until,
        };
        let unread_until = self.shelves.of(&control).forgot.max(away_until);
        if !has_lost && !picked_up && control.created.is_after(unread_until) {
            return Beginning::Seen;
        }
        let flow = self.flows.get(&control.key(), now()).ok().flatten();
        if flow.is_some_and(|flow| flow.has(status::ENCRYPTED)) {
            return Beginning::Encrypted;
        }
        match has_lost || !picked_up && control.created.is_after(self.started) {
            true => Beginning::Forgotten,
            false => Beginning::Missed,
        }
    }

    /// Whether segments pass unread, or have until just now, which no beat has noted yet.
    fn is_away(&self) -> bool {
        now().since(self.beaten).is_after(HEARTBEAT_LIMIT)
    }

    /// Tells the programs that held segments are read.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn beat(&mut self) -> Result<()> {
        let at = now();
        self.maps.set_heartbeat(at)?;
        let written = now();
        // They have let segments pass, if it was too long until they saw it.
        if written.since(self.beaten).is_after(HEARTBEAT_LIMIT) {
            self.away_until = written;
        }
        self.beaten = at;
        Ok(())
    }

    /// Writes down what the next daemon is to know.
    ///
    /// # Errors
    /// When the maps cannot be read or written.
    pub fn leave(&mut self) -> Result<()> {
        let begin = Instant::now();
        while let Some(record) = self.turns.take() {
            match begin.elapsed() < LEAVING {
                true => self.segment(&record),
                false => split(&record).into_iter().for_each(|(punt, _)| self.miss(&punt)),
            }
        }
        self.forget_all_losses()?;
        self.report()
    }

    /// Writes down how it fared, when anything has changed.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn report(&mut self) -> Result<()> {
        let (followed, buffered) = self.shelves.fill();
        (self.stats.followed, self.stats.buffered) = (followed as u64, buffered as u64);
        if self.stats != self.told {
            self.maps.set_helper_stats(self.stats)?;
            self.told = self.stats;
        }
        Ok(())
    }
}

fn direction_of(punt: &Punt) -> Direction {
    match punt.direction {
        0 => Direction::Original,
        _ => Direction::Reply,
    }
}

/// The hole that an entry of the map leads to.
fn inside(key: &ExpectationKey, expectation: &Expectation) -> Hole {
    let hole = Hole::from(*key);
    match expectation.leads_inside() {
        true => Hole { dst: expectation.inside.to_ip(), dport: expectation.inside_port, ..hole },
        false => hole,
    }
}

/// The passage that an entry of the map is.
fn passage(key: &ExpectationKey, expectation: &Expectation) -> Option<Passage> {
    let ports = PortRange::new(expectation.first_port, expectation.last_port)?;
    let is_range = key.dport == 0;
    is_range.then(|| Passage {
        src: key.src.to_ip(),
        dst: key.dst.to_ip(),
        inside: expectation.leads_inside().then(|| expectation.inside.to_ip()),
        ports,
    })
}

/// A record of the ring: what is known of the frame, and the frame.
fn split(record: &[u8]) -> Option<(Punt, &[u8])> {
    let (head, rest) = record.split_at_checked(size_of::<Punt>())?;
    let punt: Punt = bytemuck::pod_read_unaligned(head);
    Some((punt, rest.get(..punt.frame_len as usize)?))
}
