//! One frame through both, and the comparison.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::{
    addr::Family,
    control::{Options, Timeouts, device},
    event::Hook,
    flow::{Flow, FlowKey, Side},
    flow_event::{FlowChange, FlowEvent},
    fragment::Visit,
    hop::Way as Remembered,
    rule::Chain,
    tables::{FlowTable, Place},
    testing::Memory,
    time::Nanos,
    verdict::{DropReason, STATS, Stat, Verdict, is_verdict},
};
use firewall_user::{
    kernel::{
        attach::{Hook as Attachment, Target},
        load::{Programs, TableSizes},
        maps::{Maps, now},
        pins::Pins,
        rings,
    },
    names,
    netlink::links,
    role::Role,
    rules,
    ruleset::{Rulesets, Running},
};

use super::{
    Way,
    gateway::{PORTS, route, set_indexes},
};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
/// `TCX_NEXT`
const TC_NEXT: u32 = u32::MAX;
const TC_SHOT: u32 = 2;
const TC_REDIRECT: u32 = 7;

/// The programs in a namespace, and the model of them.
#[derive(Debug)]
pub struct Bench {
    way: Way,
    programs: Programs,
    maps: Maps,
    model: Memory,
    /// Of each of [`PORTS`]: index and address.
    ports: [(u32, [u8; 6]); 2],
    frames: u64,
    /// The longest that a frame has taken: the model is told the time behind it, the
    /// program reads it on the way.
    slack: Nanos,
}

impl Bench {
    /// Loads the programs in the namespace of this thread, with these rules for both
    /// families.
    ///
    /// # Errors
    /// What the kernel or the rules' reader said.
    pub fn new(pins: &Pins, way: Way, rules: [&str; 2], options: Options) -> Result<Self> {
        pins.create()?;
        let sizes = TableSizes { assured: 16_384, embryonic: 16_384, ..TableSizes::default() };
        let mut programs = Programs::load(pins, sizes)?;
        let maps = Maps::open(pins)?;
        maps.set_timeouts(Timeouts::DEFAULT)?;
        let mut ports = Vec::new();
        let links = links::all()?;
        for name in PORTS {
            let link = links.iter().find(|link| link.name == name).expect("a port");
            if way == Way::Xdp {
                let target = Target { ifindex: link.index, role: Role::Router, attached: None };
                programs.attach_by(pins, &target, Attachment::Xdp)?;
            }
            ports.push((link.index, link.mac.expect("an Ethernet address")));
        }
        let ports: [_; 2] = ports.try_into().expect("two ports");
        set_indexes(ports.map(|(index, _)| index));
        let model = model(&maps, way, rules, ports)?;
        let mut bench = Self { way, programs, maps, model, ports, frames: 0, slack: Nanos::ZERO };
        bench.set_options(options)?;
        Ok(bench)
    }

    /// # Errors
    /// When the map cannot be written.
    pub fn set_options(&mut self, options: Options) -> Result<()> {
        self.model.options = options;
        self.maps.set_options(options)
    }

    /// The address of a port: where frames for the gateway go.
    pub const fn mac(&self, port: usize) -> [u8; 6] {
        self.ports[port & 1].1
    }

    /// How many frames were compared.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Sends a frame that comes in by a port, or leaves by it, through both; they
    /// must agree about the action and every counter. `what` names the frame.
    ///
    /// # Errors
    /// When they do not, or the kernel does not try it.
    pub fn compare(
        &mut self,
        what: &dyn std::fmt::Debug,
        frame: &[u8],
        port: usize,
    ) -> Result<Verdict> {
        let (ifindex, _) = self.ports[port];
        let before = self.maps.stats()?;
        let model_before = self.model.stats();
        let began = now();
        let (hook, trial) = match self.way {
            Way::Xdp => (Hook::Ingress, self.programs.try_xdp(frame, ifindex, 1)?),
            Way::TcIngress => {
                (Hook::Ingress, self.programs.try_tc(Hook::Ingress, frame, ifindex, 1)?)
            }
            Way::TcEgress => (Hook::Egress, self.programs.try_tc(Hook::Egress, frame, ifindex, 1)?),
        };
        let place = Place { hook, ifindex, has_ethernet: true, visit: Visit::New };
        let ended = now();
        self.slack = self.slack.max(ended.since(began));
        let verdict = self.model.filter_from(place, frame, ended);
        if matches!(verdict, Verdict::Reject(_)) && is_answered(trial.action) {
            ensure!(
                self.model.lets_out(&trial.frame, ended),
                "{what:?}: an answer that may not leave"
            );
        }
        let after = self.maps.stats()?;
        let model_after = self.model.stats();
        self.frames += 1;
        let action = trial.action;
        let number = self.frames;
        ensure!(
            self.actions(verdict).contains(&action),
            "frame {number}, {what:?}: action {action} where the model says {verdict:?}"
        );
        let mut verdicts = 0;
        for index in (0..STATS as usize).filter(|index| !is_of_the_adapter(*index)) {
            let moved = after[index] - before[index];
            let expected = model_after[index] - model_before[index];
            ensure!(
                moved == expected,
                "frame {number}, {what:?}: counter {} moved by {moved}, in the model by {expected}: \
                 {verdict:?}",
                name(index)
            );
            verdicts += if is_verdict(index as u32) { moved } else { 0 };
        }
        ensure!(verdicts == 1, "frame {number}, {what:?}: {verdicts} verdicts were counted");
        Ok(verdict)
    }

    /// What a frame costs that comes in by a port so many times, on average; nothing is
    /// compared, and the model does not see it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn cost(&mut self, frame: &[u8], port: usize, times: u32) -> Result<Duration> {
        let (ifindex, _) = self.ports[port];
        let trial = match self.way {
            Way::Xdp => self.programs.try_xdp(frame, ifindex, times)?,
            Way::TcIngress => self.programs.try_tc(Hook::Ingress, frame, ifindex, times)?,
            Way::TcEgress => self.programs.try_tc(Hook::Egress, frame, ifindex, times)?,
        };
        Ok(trial.duration)
    }

    /// All flows with all that they hold, and the counters of all rules; gives the
    /// number of flows.
    ///
    /// # Errors
    /// When they differ.
    pub fn compare_tables(&self) -> Result<usize> {
        let at = now();
        let theirs: BTreeMap<FlowKey, (FlowTable, Flow)> = self
            .maps
            .flows(at)?
            .into_iter()
            .map(|(table, key, flow)| (key, (table, flow)))
            .collect();
        let ours: BTreeMap<FlowKey, (FlowTable, Flow)> = self
            .model
            .flows()
            .into_iter()
            .filter(|(_, _, flow)| !flow.is_expired(at))
            .map(|(table, key, flow)| (key, (table, flow)))
            .collect();
        for (key, (table, flow)) in &theirs {
            let Some((model_table, model)) = ours.get(key) else {
                anyhow::bail!("the model has no flow {key:?}: {flow:?}");
            };
            ensure!(table == model_table, "{key:?}: {table:?}, in the model {model_table:?}");
            ensure!(self.is_alike(flow, model), "{key:?}:\n{flow:#?}\nin the model:\n{model:#?}");
        }
        ensure!(theirs.len() == ours.len(), "{} flows, in the model {}", theirs.len(), ours.len());
        let counters = self.maps.rule_counters(1, self.model.rules.len())?;
        for (index, counter) in (0..).zip(counters) {
            let model = self.model.rule_counter(index);
            ensure!(counter == model, "rule {index}: {counter:?}, in the model {model:?}");
        }
        Ok(theirs.len())
    }

    /// What was told of flows since the programs were loaded, in its order; gives how
    /// many changes of each kind there were.
    ///
    /// # Errors
    /// When the programs told something else, or of an end before a beginning.
    pub fn compare_flow_events(&self, pins: &Pins) -> Result<[u64; FlowChange::ALL.len()]> {
        let mut theirs = Vec::new();
        rings::take_all(pins, "flow_events", |record| {
            theirs.push(told(&bytemuck::pod_read_unaligned(record)));
        })?;
        let ours = self.model.flow_events.borrow();
        ensure!(theirs.len() == ours.len(), "{} events, in the model {}", theirs.len(), ours.len());
        let mut alive: BTreeSet<FlowKey> = BTreeSet::new();
        let mut changes = [0; FlowChange::ALL.len()];
        for (number, (one, event)) in theirs.iter().zip(ours.iter()).enumerate() {
            let other = told(event);
            ensure!(*one == other, "event {number}: {one:?}, in the model {other:?}");
            let is_in_order = match FlowChange::from_byte(event.change).context("a change")? {
                FlowChange::New => alive.insert(event.key),
                FlowChange::Update => alive.contains(&event.key),
                FlowChange::Destroy => alive.remove(&event.key),
            };
            ensure!(is_in_order, "event {number} does not follow: {event:?}");
            changes[usize::from(event.change)] += 1;
        }
        ensure!(alive.len() == self.model.flow_count(), "{} flows were begun", alive.len());
        Ok(changes)
    }

    /// Equal but for the time that a frame took, and for the ways that only the programs
    /// remember.
    fn is_alike(&self, flow: &Flow, model: &Flow) -> bool {
        let is_near =
            |theirs: Nanos, ours: Nanos| theirs <= ours && !ours.since(theirs).is_after(self.slack);
        let sides =
            |flow: &Flow| flow.sides.map(|side| Side { way: Remembered::default(), ..side });
        let timeless = |flow: &Flow| Flow {
            expires: Nanos::ZERO,
            created: Nanos::ZERO,
            sides: sides(flow),
            ..*flow
        };
        is_near(flow.expires, model.expires)
            && is_near(flow.created, model.created)
            && timeless(flow) == timeless(model)
    }

    /// What a program may do for a verdict: a forwarded frame may need the stack, and
    /// what may not be answered is dropped.
    const fn actions(&self, verdict: Verdict) -> &'static [u32] {
        match (self.way, verdict) {
            (Way::Xdp, Verdict::Accept(Chain::Forward)) => &[XDP_REDIRECT, XDP_PASS],
            (Way::Xdp, Verdict::Accept(_) | Verdict::Pass(_)) => &[XDP_PASS],
            (Way::Xdp, Verdict::Drop(_) | Verdict::Punt(_) | Verdict::Wait(_)) => &[XDP_DROP],
            (Way::Xdp, Verdict::Reject(_) | Verdict::Cookie) => &[XDP_TX, XDP_REDIRECT, XDP_DROP],
            (_, Verdict::Accept(_) | Verdict::Pass(_)) => &[TC_NEXT],
            (Way::TcEgress, Verdict::Punt(_) | Verdict::Wait(_)) => &[TC_REDIRECT],
            (_, Verdict::Drop(_) | Verdict::Punt(_) | Verdict::Wait(_)) => &[TC_SHOT],
            (_, Verdict::Reject(_) | Verdict::Cookie) => &[TC_REDIRECT, TC_SHOT],
            (_, Verdict::Prove) => panic!("no rule here asks for cookies"),
            (_, Verdict::Again) => panic!("no rule here translates"),
        }
    }
}

/// Whether a program that rejects has written an answer and sends it.
const fn is_answered(action: u32) -> bool {
    matches!(action, XDP_TX | XDP_REDIRECT | TC_REDIRECT)
}

/// Tables in memory with the rules that are installed into the maps.
fn model(maps: &Maps, way: Way, texts: [&str; 2], ports: [(u32, [u8; 6]); 2]) -> Result<Memory> {
    let mut rulesets = Rulesets::default();
    for (family, text) in [Family::Ipv4, Family::Ipv6].into_iter().zip(texts) {
        rulesets = rulesets.with(rules::parse("rules", text, family, &names::services())?);
    }
    let compiled = rulesets.compile()?;
    let model = Memory::with(|model| {
        model.generation = 1;
        model.header = compiled.header;
        model.rules = compiled.rules.clone();
        model.port_sets = compiled.port_sets.clone();
        model.extras = compiled.extras.clone();
        model.patterns = compiled.texts.clone();
        model.helper_ports.clear();
        model.route = route;
        for ((index, mac), name) in ports.into_iter().zip(PORTS) {
            model.add_device(index, mac);
            let added = model.devices.get_mut(&index).expect("just added");
            added.patterns = [compiled.patterns_of(name); 2];
            added.flags |= device::TAKES_REDIRECT;
            added.flags |= if way == Way::TcIngress { device::TC } else { 0 };
            added.set_name(name);
        }
    });
    for (index, device) in &model.devices {
        maps.set_device(*index, *device)?;
    }
    Running::change(maps, |_| rulesets)?;
    ensure!(maps.generation()? == 1, "the rules are not the first ones");
    Ok(model)
}

/// What is told of a flow, but for the times.
type Told = (u8, FlowKey, u8, u8, [(u64, u64); 2]);

fn told(event: &FlowEvent) -> Told {
    let counted = event.flow.sides.map(|side| (side.packets, side.bytes));
    (event.change, event.key, event.flow.state, event.flow.status, counted)
}

/// Counters of how a verdict was carried out, which the model does not do.
fn is_of_the_adapter(index: usize) -> bool {
    const OF_THE_ADAPTER: [Stat; 3] = [Stat::ForwardFast, Stat::ForwardShort, Stat::ForwardStack];
    OF_THE_ADAPTER.iter().any(|stat| *stat as usize == index)
}

fn name(index: usize) -> &'static str {
    match Stat::ALL.get(index) {
        Some(stat) => stat.name(),
        None => DropReason::ALL[index - Stat::COUNT].name(),
    }
}
