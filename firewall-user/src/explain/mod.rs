//! `firewall explain`: what would happen to a packet, at which rule, and why.
//!
//! The programs that enforce judge it, on a stage where nothing that they write is seen
//! ([`crate::kernel::rehearsal`]); the stage holds what the tables know of the packet's
//! flow, of the expectation that it fits, and of the control connection behind that. The
//! walk through the rules is then told again with the datapath's own
//! [`firewall_common::walk::step`], and must end at the same rule.

pub mod announcement;
pub mod chunk;
pub mod frame;
pub mod json;
pub mod lists;
pub mod live;
pub mod text;
mod told;
pub mod tracking;
mod translation;
pub mod walk;
mod way;

use anyhow::{Context, Result, ensure};
use firewall_common::{
    conntrack,
    event::NO_CHAIN,
    expectation::{Expectation, ExpectationKey},
    flow::{CachedVerdict, CtState, Direction, Flow, FlowKey, Tuple, protocol},
    nat::desk::done,
    packet::Packet as _,
    rule::{Chain, Target},
    scratch::Scratch,
    tables::FlowTable,
    time::Nanos,
    verdict::{DropReason, STATS, Stat, drop_counter, is_verdict},
    wire::tcp_flag,
};

pub use self::way::Way;
use self::{
    announcement::controls,
    frame::{Asked, Numbers},
    told::Told,
    tracking::{Facts, reason},
    translation::{Begun, Inside},
    walk::{Considered, retell},
    way::Ways,
};
use crate::{
    kernel::{
        maps::{Expectations, Maps, now},
        rehearsal::{Performance, Rehearsal},
    },
    ruleset::Running,
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Accept,
    /// Accepted, once a helper has read it.
    Held,
    /// The helper is away and would have read it.
    Unread,
    Drop(DropReason),
    /// Answered with a SYN cookie.
    Cookie,
    /// Outside the firewall's task.
    Pass(Stat),
}

/// What is said of a packet.
#[derive(Debug)]
pub struct Explanation {
    pub packet: Asked,
    /// Interfaces as `-i` and `-o` see them; empty for none.
    pub input: String,
    pub output: String,
    /// Where it is judged: `xdp`, `tc ingress`, `tc egress`.
    pub hook: &'static str,
    pub ending: Ending,
    pub chain: Option<Chain>,
    pub ctstate: Option<CtState>,
    pub why: Option<String>,
    /// What else is worth knowing, one sentence each.
    pub notes: Vec<String>,
    pub considered: Vec<Considered>,
    /// The index of the rule or policy that decided.
    pub decided: Option<u32>,
    /// Packets of this flow are accepted without asking the rules again.
    pub is_remembered: bool,
    /// The names of the rules' indexes.
    pub running: Running,
}

/// Explains what would happen to a packet; with `as_reply` to the answer to it, after it
/// has passed itself.
///
/// # Errors
/// When it cannot be tried, and why.
pub fn explain(maps: &Maps, asked: &Asked, way: &Way, as_reply: bool) -> Result<Explanation> {
    let ways = Ways::of(maps)?;
    let mut scene = Scene::new(maps, ways.find(way)?)?;
    if !as_reply {
        return scene.explain(asked, None);
    }
    let answer = asked.answer().context("nobody answers such an ICMP message")?;
    let known = Known::of(maps, &asked.tuple(), now())?;
    let first = scene.play(asked, None)?;
    let back = ways.back(&scene.way, &first.scratch.walk)?;
    let note = match ending(&first)? {
        Ending::Drop(reason) => Some(format!(
            "the packet that it answers is dropped itself ({}); ask without --as-reply why",
            reason.name()
        )),
        _ => None,
    };
    // Of a known flow the answer is judged as the flow stands, else behind the packet.
    let key = FlowKey::of(&first.scratch.headers.tuple).0;
    if let Some((_, flow)) = known.flow {
        let mut scene = Scene::new(maps, back)?;
        let answer = translation::answer(answer, &known.inside, Some((key, flow)));
        let mut explanation = scene.explain(&answer, None)?;
        explanation.notes.extend(note);
        return Ok(explanation);
    }
    let mut scene = Scene { way: back, ..scene };
    let inside = Inside { ends: first.scratch.headers.tuple, way: None };
    let sender = FlowKey::of(&inside.ends.reversed()).1;
    let flow = scene.rehearsal.flow(&key)?;
    let answer = translation::answer(answer, &inside, flow.map(|(_, flow)| (key, flow)));
    let begun = flow.map(|(table, flow)| Begun { table, key, flow, sender });
    let mut explanation = scene.explain(&answer, begun)?;
    explanation.notes.extend(note);
    Ok(explanation)
}

/// What the tables know of a packet.
#[derive(Clone, Copy, Debug)]
struct Known {
    inside: Inside,
    flow: Option<(FlowTable, Flow)>,
    expectation: Option<(ExpectationKey, Expectation)>,
    master: Option<(FlowTable, FlowKey, Flow)>,
}

impl Known {
    fn of(maps: &Maps, wire: &Tuple, now: Nanos) -> Result<Self> {
        let inside = Inside::of(maps, wire, now)?;
        let tuple = &inside.ends;
        let expectation = expectation(maps, tuple)?;
        let master = match &expectation {
            Some((_, expectation)) => {
                let key = FlowKey::of(&expectation.master).0;
                maps.flow(&key, now)?.map(|(table, flow)| (table, key, flow))
            }
            None => None,
        };
        let flow = maps.flow(&FlowKey::of(tuple).0, now)?;
        Ok(Self { inside, flow, expectation, master })
    }

    /// The flow, and which end of it sends the packet.
    fn begun(&self) -> Option<Begun> {
        let (table, flow) = self.flow?;
        let (key, sender) = FlowKey::of(&self.inside.ends);
        Some(Begun { table, key, flow, sender })
    }
}

/// What announces a flow with these endpoints: its port, or a range that it lies in.
fn expectation(maps: &Maps, tuple: &Tuple) -> Result<Option<(ExpectationKey, Expectation)>> {
    let expectations = Expectations::open(maps)?;
    for dport in [tuple.dport, 0] {
        let key = ExpectationKey {
            src: tuple.src,
            dst: tuple.dst,
            dport,
            protocol: tuple.protocol,
            _pad: 0,
        };
        let found = expectations.get(&key)?.filter(|found| found.is_for(&key, tuple.dport));
        if let Some(found) = found {
            return Ok(Some((key, found)));
        }
    }
    Ok(None)
}

/// A stage that is set for a packet, and where it will be seen.
struct Scene<'m> {
    maps: &'m Maps,
    rehearsal: Rehearsal,
    way: way::Place,
    /// That was shown last.
    frame: Vec<u8>,
}

impl<'m> Scene<'m> {
    fn new(maps: &'m Maps, way: way::Place) -> Result<Self> {
        Ok(Self { maps, rehearsal: Rehearsal::prepare(maps)?, way, frame: Vec::new() })
    }

    /// Shows the packet to its program; `begun` is a flow that only the stage knows.
    fn play(&mut self, asked: &Asked, begun: Option<Begun>) -> Result<Performance> {
        let known = Known::of(self.maps, &asked.tuple(), now())?;
        let stand = begun.or_else(|| known.begun());
        if let Some(Begun { table, key, flow, .. }) = stand {
            self.rehearsal.put_flow(table, key, flow)?;
        }
        if let Some((key, way)) = known.inside.way {
            self.rehearsal.put_translation(key, way)?;
        }
        if let Some((key, expectation)) = known.expectation {
            self.rehearsal.put_expectation(key, expectation)?;
        }
        if let Some((table, key, flow)) = known.master {
            self.rehearsal.put_flow(table, key, flow)?;
        }
        let numbers = numbers(asked, stand.as_ref());
        self.frame = asked.frame(self.way.mac, numbers);
        self.rehearsal.play(self.way.stage, &self.frame)
    }

    fn explain(&mut self, asked: &Asked, begun: Option<Begun>) -> Result<Explanation> {
        let known = Known::of(self.maps, &asked.tuple(), now())?;
        let stand = begun.or_else(|| known.begun());
        let flow = stand.map(|Begun { table, flow, .. }| (table, flow));
        let mut played = self.play(asked, begun)?;
        let is_remembered = played.stats[Stat::CacheHit as usize] != 0;
        if is_remembered && let Some(stand) = stand {
            // The rules are asked as they were when the verdict was remembered.
            played = self.play(asked, Some(Begun { flow: forgetful(stand.flow), ..stand }))?;
        }
        let scratch = &played.scratch;
        let running = Running::load_generation(self.maps, scratch.walk.generation)?;
        let running = running.context("the rules were changed meanwhile: ask again")?;
        let is_judged = scratch.walk.chain != NO_CHAIN && scratch.walk.outcome != 0;
        let (considered, decided) = match is_judged {
            true => self.retold(&running, scratch)?,
            false => (Vec::new(), None),
        };
        let ctstate = CtState::from_bit(scratch.walk.ctstate);
        let mut notes = self.notes(asked, ctstate, flow.is_some(), scratch)?;
        let is_related = ctstate == Some(CtState::Related);
        let flow_of = flow.as_ref().map(|(_, flow)| flow);
        notes.extend(self.told(&known, is_related, flow_of, scratch)?);
        let name = |index| rule_name(&running, index);
        notes.extend(translation::notes(scratch, flow.as_ref().map(|(_, flow)| flow), &name));
        Ok(Explanation {
            packet: *asked,
            input: self.way.name(scratch.walk.in_ifindex),
            output: self.way.name(scratch.walk.out_ifindex),
            hook: self.way.hook(),
            ending: ending(&played)?,
            chain: Chain::from_byte(scratch.walk.chain),
            ctstate,
            why: ctstate.map(|ctstate| self.why(ctstate, scratch, &known, flow)).transpose()?,
            notes,
            considered,
            decided,
            is_remembered,
            running,
        })
    }

    fn retold(
        &self,
        running: &Running,
        scratch: &Scratch,
    ) -> Result<(Vec<Considered>, Option<u32>)> {
        let compiled = &running.compiled;
        let mut tables = self.maps.rule_tables(running.generation, compiled)?;
        self.frame[..].keep(scratch.headers.l3, &mut tables.window);
        let has_chance = tables.has_chance();
        let names = |ifindex| self.way.name(ifindex);
        let Scratch { headers, facts, walk, nat, .. } = scratch;
        let turned = Some(&nat.wire).filter(|_| nat.has(done::TURNED));
        let retold = retell(&tables, headers, facts, walk, turned, &names);
        ensure!(
            (retold.outcome, retold.decided) == (scratch.walk.outcome, scratch.walk.decided),
            "{}: ask again",
            match has_chance {
                true => "a rule decides by chance, and did so differently",
                false => "the rules were replaced meanwhile",
            }
        );
        Ok((retold.considered, Some(retold.decided)))
    }

    fn why(
        &self,
        ctstate: CtState,
        scratch: &Scratch,
        known: &Known,
        flow: Option<(FlowTable, Flow)>,
    ) -> Result<String> {
        let flow = flow.map(|(_, flow)| flow);
        let (key, sender) = FlowKey::of(&scratch.headers.tuple);
        let announced_by = match &flow {
            Some(flow) => crate::kernel::flows::Masters::open(self.maps)?.of(&key, flow)?,
            None => known.expectation.map(|(_, expectation)| expectation.master),
        };
        let direction = flow.map_or(Direction::Original, |flow| flow.direction(sender));
        let mut seen = scratch.seen;
        if let Some(segment) = conntrack::tcp::Segment::from_flags(scratch.headers.tcp_flags) {
            conntrack::note(segment, &scratch.headers, &scratch.options, &mut seen);
        }
        Ok(reason(&Facts {
            ctstate,
            headers: &scratch.headers,
            options: self.maps.options()?,
            flow: flow.as_ref(),
            direction,
            seen: &seen,
            announced_by: announced_by.as_ref(),
        }))
    }

    fn notes(
        &self,
        asked: &Asked,
        ctstate: Option<CtState>,
        has_flow: bool,
        scratch: &Scratch,
    ) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let begins = asked.protocol == protocol::TCP
            && asked.flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
        if begins && !has_flow && ctstate == Some(CtState::New) {
            let tuple = &scratch.headers.tuple;
            let own = |control: &announcement::Control| control.is_between(tuple.src, tuple.dst);
            let found = controls(self.maps, now(), own)?;
            notes.extend(found.iter().map(|control| control.sentence(tuple.dport)));
        }
        Ok(notes)
    }

    /// What was told of it over a translated control connection, or of what that announces.
    fn told(
        &self,
        known: &Known,
        is_related: bool,
        flow: Option<&Flow>,
        scratch: &Scratch,
    ) -> Result<Vec<String>> {
        let (key, _) = FlowKey::of(&scratch.headers.tuple);
        let (told, master) = match (flow, &known.expectation) {
            (Some(flow), _) if flow.may_be_shifted() => (None, Some(key.tuple(flow.originator()))),
            (Some(flow), _) => {
                let told = Told::used(&key, flow);
                let masters = crate::kernel::flows::Masters::open(self.maps)?;
                (told, told.map(|_| masters.of(&key, flow)).transpose()?.flatten())
            }
            (None, Some((key, expectation))) if is_related => {
                let told = Told::waiting(key, expectation);
                (told, told.map(|_| expectation.master))
            }
            (None, _) => (None, None),
        };
        let mut notes: Vec<_> = told.map(Told::sentence).into_iter().collect();
        if let Some(master) = master {
            notes.push(told::shifts(self.maps, &master)?);
        }
        Ok(notes)
    }
}

/// The flow without the verdicts that it remembers.
fn forgetful(mut flow: Flow) -> Flow {
    for side in &mut flow.sides {
        side.cached = CachedVerdict::default();
    }
    flow
}

/// What the sender would say next in its flow; a new one begins anywhere.
fn numbers(asked: &Asked, stand: Option<&Begun>) -> Numbers {
    const FIRST: u32 = 1_000_000;
    if asked.protocol == protocol::SCTP {
        return Numbers { seq: tag(asked, stand).unwrap_or(FIRST), ack: 0 };
    }
    let Some(Begun { flow, sender, .. }) = stand.filter(|_| asked.protocol == protocol::TCP) else {
        let ack = if asked.flags & tcp_flag::ACK == 0 { 0 } else { FIRST };
        return Numbers { seq: asked.seq.unwrap_or(FIRST), ack: asked.ack.unwrap_or(ack) };
    };
    let direction = flow.direction(*sender);
    let own = flow.side(direction).window;
    let other = flow.side(direction.reversed()).window;
    let is_syn = asked.flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
    let is_silent = flow.side(direction).packets == 0;
    let seq = match (is_syn, is_silent) {
        // A connection in place of an old one.
        (true, false) => own.end.0.wrapping_add(FIRST),
        (_, true) => FIRST,
        (false, false) => own.end.0,
    };
    let ack = if asked.flags & tcp_flag::ACK == 0 { 0 } else { other.end.0 };
    Numbers { seq: asked.seq.unwrap_or(seq), ack: asked.ack.unwrap_or(ack) }
}

/// The verification tag that an SCTP packet of this flow carries, if that is known; an INIT
/// has none.
fn tag(asked: &Asked, stand: Option<&Begun>) -> Option<u32> {
    if asked.flags == chunk::INIT {
        return Some(0);
    }
    let Begun { flow, sender, .. } = stand?;
    Some(flow.side(flow.direction(*sender)).window.end.0).filter(|tag| *tag != 0)
}

/// What the counters say; each packet moves one that is a verdict.
fn ending(played: &Performance) -> Result<Ending> {
    let moved = |stat: Stat| played.stats[stat as usize] != 0;
    let verdict = (0..STATS).find(|index| is_verdict(*index) && played.stats[*index as usize] != 0);
    let verdict = verdict.context("the programs came to no verdict")?;
    let stat = Stat::ALL.get(verdict as usize).copied();
    Ok(match stat {
        None => {
            let drops = DropReason::ALL.iter().copied();
            let reason = drops.into_iter().find(|reason| drop_counter(*reason) == verdict);
            Ending::Drop(reason.context("a drop without a reason")?)
        }
        Some(Stat::SynCookiesSent) => Ending::Cookie,
        Some(stat @ (Stat::PassNonIp | Stat::PassOtherHost)) => Ending::Pass(stat),
        Some(_) if moved(Stat::Punted) => Ending::Held,
        Some(_) if moved(Stat::PuntSkipped) => Ending::Unread,
        Some(_) => Ending::Accept,
    })
}

impl Explanation {
    /// The word for what becomes of it.
    pub fn verdict(&self) -> &'static str {
        match self.ending {
            Ending::Accept | Ending::Held | Ending::Unread => "ACCEPT",
            Ending::Drop(DropReason::Reject) => "REJECT",
            Ending::Drop(_) => "DROP",
            Ending::Cookie => "COOKIE",
            Ending::Pass(_) => "PASS",
        }
    }

    /// Of a compiled rule: its target's name, and how it reads.
    pub fn rule_text(&self, index: u32) -> String {
        let Some(origin) = self.running.compiled.origins.get(index as usize) else {
            return String::new();
        };
        match self.running.rule(index) {
            Some(rule) => crate::rules::spec_text(origin.family, &rule.spec),
            None => {
                let rule = self.running.compiled.rules.get(index as usize);
                let target = rule.and_then(|rule| Target::from_byte(rule.target));
                let is_drop = target == Some(Target::Drop);
                format!("policy {}", if is_drop { "DROP" } else { "ACCEPT" })
            }
        }
    }

    /// Where a compiled rule was written: `/etc/iptables/rules.v4:12`.
    pub fn rule_place(&self, index: u32) -> Option<String> {
        let origin = &self.running.rule(index)?.origin;
        Some(format!("{}:{}", origin.file, origin.line))
    }

    /// What people call a compiled rule: `FORWARD 3`, `the policy of FORWARD`, with the
    /// table where it is not filter.
    pub fn rule_name(&self, index: u32) -> String {
        rule_name(&self.running, index)
    }
}

fn rule_name(running: &Running, index: u32) -> String {
    use crate::rules::{Part, TableName};
    let Some(origin) = running.compiled.origins.get(index as usize) else {
        return String::new();
    };
    let chain = match origin.table {
        TableName::Filter => origin.chain.to_string(),
        table => format!("{table} {}", origin.chain),
    };
    match origin.part {
        Part::Rule(number) => format!("{chain} {number}"),
        Part::Policy | Part::End => format!("the policy of {chain}"),
    }
}
