//! Playing scripts, many at once, each at a place of its own.

use std::{collections::HashMap, thread, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

use super::{
    datagram::Datagram,
    gateway::Site,
    judge::Judge,
    reference::Reference,
    subject::{Hook, Subject},
};
use crate::oracle::{Frame, Judgement, Place, Report, Script, Step, flow::Flow, place};

/// Scripts of a batch: fewer than the smallest table of either side has entries.
const BATCH: usize = 4_096;

/// The networks of a bench: one gateway for each tracker.
#[derive(Debug)]
pub struct Sites {
    reference: Site,
    subject: Site,
}

impl Sites {
    /// # Errors
    /// When a namespace cannot be made.
    pub fn new() -> Result<Self> {
        Ok(Self { reference: Site::new()?, subject: Site::new()? })
    }

    /// The kernel's, and the firewall's.
    pub(super) const fn both(&self) -> [&Site; 2] {
        [&self.reference, &self.subject]
    }
}

/// Both trackers, ready to judge.
#[derive(Debug)]
pub struct Bench<'a> {
    reference: Judge<'a>,
    subject: Judge<'a>,
    tag: u32,
    frames: u64,
}

impl<'a> Bench<'a> {
    /// # Errors
    /// When one of the trackers cannot be set up.
    pub fn start(sites: &'a Sites, hook: Hook) -> Result<Self> {
        let subject = Subject::start(&sites.subject, hook).context("the firewall's gateway")?;
        Self::against(sites, Judge::Subject(Box::new(subject)))
    }

    /// The kernel against itself: whatever differs is the oracle's own mistake.
    ///
    /// # Errors
    /// When one of the gateways cannot be set up.
    pub fn of_kernels(sites: &'a Sites) -> Result<Self> {
        Self::against(sites, Judge::Reference(Reference::start(&sites.subject)?))
    }

    fn against(sites: &'a Sites, subject: Judge<'a>) -> Result<Self> {
        let reference = Reference::start(&sites.reference).context("nf_conntrack's gateway")?;
        Ok(Self { reference: Judge::Reference(reference), subject, tag: 0, frames: 0 })
    }

    /// How many frames have gone through each gateway.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Plays scripts and tells what became of their frames and flows, in the order
    /// of the scripts.
    ///
    /// # Errors
    /// When a gateway no longer forwards anything, or a map cannot be read.
    pub fn play(&mut self, scripts: &[Script]) -> Result<Vec<Report>> {
        stay_on_this_cpu()?;
        let mut order: Vec<usize> = (0..scripts.len()).collect();
        order.sort_by_key(|index| (scripts[*index].settings, scripts[*index].is_raw()));
        let is_one_batch = |a: &usize, b: &usize| {
            let (a, b) = (&scripts[*a], &scripts[*b]);
            // Raw packets bring addresses, which may be another script's place.
            a.settings == b.settings && !a.is_raw() && !b.is_raw()
        };
        let mut reports: Vec<Option<Report>> = vec![None; scripts.len()];
        for alike in order.chunk_by(is_one_batch) {
            for batch in alike.chunks(BATCH) {
                let played: Vec<_> = batch.iter().map(|index| &scripts[*index]).collect();
                for (index, report) in batch.iter().zip(self.play_batch(&played)?) {
                    reports[*index] = Some(report);
                }
            }
        }
        Ok(reports.into_iter().flatten().collect())
    }

    fn play_batch(&mut self, scripts: &[&Script]) -> Result<Vec<Report>> {
        let Some(first) = scripts.first() else { return Ok(Vec::new()) };
        self.reference.settle(first.settings)?;
        self.subject.settle(first.settings)?;
        let mut played: Vec<_> =
            (0..).zip(scripts).map(|(number, script)| Played::new(script, number)).collect();
        loop {
            let mut pause = None;
            for played in &mut played {
                pause = pause.max(self.play_until_pause(played)?);
            }
            let Some(pause) = pause else { break };
            thread::sleep(pause);
        }
        let flows = [self.reference.flows()?, self.subject.flows()?];
        let mut flows = flows.map(|flows| by_place(flows, first.is_raw()));
        let reports = (0..).zip(played).map(|(number, played)| {
            played.report(flows.each_mut().map(|of| of.remove(&number).unwrap_or_default()))
        });
        Ok(reports.collect())
    }

    /// Plays on to the next pause, and gives its length; `None` at the end.
    fn play_until_pause(&mut self, played: &mut Played<'_>) -> Result<Option<Duration>> {
        while let Some(step) = played.script.steps.get(played.position) {
            played.position += 1;
            match step {
                Step::Pause(pause) => return Ok(Some(*pause)),
                Step::Send(frame) => {
                    let judgements = self.judge(played, frame)?;
                    played.judgements.push(judgements);
                }
            }
        }
        Ok(None)
    }

    fn judge(&mut self, played: &mut Played<'_>, frame: &Frame) -> Result<[Judgement; 2]> {
        self.frames += 1;
        self.tag = self.tag % 0xffff + 1;
        let Some(piece) = &frame.piece else {
            let packet = frame.ip(&played.place, self.tag, 0);
            let reference = self.reference.judge(frame.from, &packet, None)?;
            let subject = self.subject.judge(frame.from, &packet, reference.state())?;
            return Ok([reference, subject]);
        };
        let is_last = !has_more_pieces(&played.script.steps[played.position..], piece.datagram);
        let length = if is_last { played.datagram_len(frame, piece.datagram) } else { 0 };
        let (id, datagrams) = played
            .datagrams
            .entry(piece.datagram)
            .or_insert_with(|| (self.tag, Default::default()));
        let packet = frame.ip(&played.place, *id, *id);
        let [reference, subject] = datagrams;
        self.reference.judge_piece(frame.from, &packet, reference)?;
        self.subject.judge_piece(frame.from, &packet, subject)?;
        if !is_last {
            return Ok([Judgement::Pending; 2]);
        }
        let [reference, subject] = datagrams;
        let reference = reference.judgement(length);
        if matches!(reference, Judgement::Forwarded(_)) {
            // What came before its first comes back from the daemon.
            self.subject.await_rest(frame.from, &packet, subject, length)?;
        }
        Ok([reference, subject.judgement(length)])
    }
}

/// A script on the way.
struct Played<'a> {
    script: &'a Script,
    place: Place,
    position: usize,
    judgements: Vec<[Judgement; 2]>,
    /// By the script's number: the identification on the wire, and what came out.
    datagrams: HashMap<u16, (u32, [Datagram; 2])>,
}

impl<'a> Played<'a> {
    fn new(script: &'a Script, number: u16) -> Self {
        let place = Place::numbered(script.family, number);
        Self { script, place, position: 0, judgements: Vec::new(), datagrams: HashMap::new() }
    }

    /// Bytes behind the IP header of a whole datagram: of a recorded one, up to the
    /// last piece that the recording has.
    fn datagram_len(&self, frame: &Frame, datagram: u16) -> usize {
        if !self.script.is_raw() {
            return frame.transport_len(&self.place);
        }
        let pieces = self.script.frames().filter_map(|frame| frame.piece.as_ref());
        let pieces = pieces.filter(|piece| piece.datagram == datagram);
        pieces.map(|piece| piece.bytes.end).max().unwrap_or(0)
    }

    fn report(self, flows: [Vec<Flow>; 2]) -> Report {
        Report::new(self.script.clone(), self.judgements, flows)
    }
}

/// Flows by the number of their place. Those of raw packets are all one script's;
/// those of sentinels are nobody's.
fn by_place(flows: Vec<Flow>, is_raw: bool) -> HashMap<u16, Vec<Flow>> {
    let mut places: HashMap<u16, Vec<Flow>> = HashMap::new();
    for flow in flows {
        let number = [flow.id.source, flow.id.destination]
            .into_iter()
            .find_map(|end| place::number(end.ip()));
        if let Some(number) = number {
            places.entry(if is_raw { 0 } else { number }).or_default().push(flow);
        }
    }
    places
}

fn has_more_pieces(steps: &[Step], datagram: u16) -> bool {
    steps.iter().any(|step| match step {
        Step::Send(Frame { piece: Some(piece), .. }) => piece.datagram == datagram,
        Step::Send(_) | Step::Pause(_) => false,
    })
}

/// What is sent is then processed here before the system call returns.
pub(super) fn stay_on_this_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")
}
