//! The firewall's side: rules that count each ctstate, and accept it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::{
    addr::Family as RuleFamily,
    control::{Options, option},
    expectation::ExpectationKey,
    flow::{CtState, FlowKey, status},
};
use firewall_user::{
    kernel::{
        counters::RuleCounters,
        maps::{self, Maps},
        pins::Pins,
    },
    listing::state,
    rules::{Place, TableName},
    ruleset::Running,
};

use super::{
    clock,
    crossing::{Crossing, Until, is_same},
    datagram::Datagram,
    gateway::Site,
};
use crate::{
    Family, Firewall,
    firewall::Setup,
    oracle::{
        Judgement, Settings,
        flow::{Flow, FlowId},
        hole::Hole,
    },
    wire::End,
};

/// In the order of the rules.
const STATES: [CtState; 5] =
    [CtState::New, CtState::Established, CtState::Related, CtState::Invalid, CtState::Untracked];

/// How long the rest of a datagram may be under way.
const REST: Duration = Duration::from_secs(2);

/// Where the firewall judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Xdp,
    XdpGeneric,
    Tc,
}

impl Hook {
    pub const ALL: [Self; 3] = [Self::Xdp, Self::XdpGeneric, Self::Tc];

    /// As `firewall run --hook` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

#[derive(Debug)]
pub(super) struct Subject<'a> {
    firewall: Firewall<'a>,
    crossing: Crossing,
    maps: Maps,
    counters: RuleCounters,
    /// By family and state: the index of the rule, and what it has counted.
    rules: [[Counted; 5]; 2],
    /// Sentinels that are among what was counted.
    sentinels: u32,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    rule: u32,
    packets: u64,
}

impl<'a> Subject<'a> {
    /// Without helpers.
    pub(super) fn start(site: &'a Site, hook: Hook) -> Result<Self> {
        Self::reading(site, hook, "none")
    }

    /// With control connections of FTP on these ports, as `--ftp-ports` takes them.
    pub(super) fn reading(site: &'a Site, hook: Hook, ports: &str) -> Result<Self> {
        let firewall = Setup::on(&["eth0", "eth1"])
            .both(&ruleset())
            .option(&format!("--hook={}", hook.name()))
            .option(&format!("--ftp-ports={ports}"))
            .option("--max-embryonic=262144")
            .start(&site.gateway)?;
        let maps = Maps::open(&Pins::new(firewall.pin()))?;
        maps.set_timeouts(clock::timeouts())?;
        let running = Running::load(&maps)?;
        let counters = RuleCounters::open(&maps, running.generation)?;
        let rules = [rules(&running, RuleFamily::Ipv4)?, rules(&running, RuleFamily::Ipv6)?];
        let crossing = Crossing::new(site.ports()?);
        Ok(Self { firewall, crossing, maps, counters, rules, sentinels: 0 })
    }

    pub(super) fn settle(&mut self, settings: Settings) -> Result<()> {
        self.firewall.text(&["conntrack", "flush"])?;
        let options = self.maps.options()?;
        self.maps.set_options(chosen(options, settings))?;
        self.crossing.drain()
    }

    /// Judges; the state that is likely is looked at first.
    pub(super) fn judge(
        &mut self,
        from: End,
        packet: &[u8],
        likely: Option<CtState>,
    ) -> Result<Judgement> {
        let arrived = self.crossing.cross(from, packet, Until::First)?;
        self.judgement(packet, &arrived, likely)
    }

    /// The same of a segment that a helper may read first: it comes out a little later.
    pub(super) fn judge_read(
        &mut self,
        from: End,
        packet: &[u8],
        likely: Option<CtState>,
    ) -> Result<Judgement> {
        let mut arrived = self.crossing.cross(from, packet, Until::First)?;
        let start = Instant::now();
        while arrived.is_empty() && start.elapsed() < REST {
            thread::sleep(Duration::from_millis(1));
            arrived = self.crossing.late(from, packet)?;
        }
        self.judgement(packet, &arrived, likely)
    }

    fn judgement(
        &mut self,
        packet: &[u8],
        arrived: &[Vec<u8>],
        likely: Option<CtState>,
    ) -> Result<Judgement> {
        let states = self.states(family(packet), likely)?;
        Ok(match (arrived, &states[..]) {
            ([], _) => Judgement::Dropped,
            ([arrived, ..], _) if !is_same(packet, arrived) => Judgement::Changed,
            ([_, ..], [state]) => Judgement::Forwarded(Some(*state)),
            ([_, ..], _) => Judgement::Forwarded(None),
        })
    }

    pub(super) fn judge_piece(
        &mut self,
        from: End,
        packet: &[u8],
        datagram: &mut Datagram,
    ) -> Result<()> {
        for arrived in self.crossing.cross(from, packet, Until::Silence)? {
            datagram.arrived(&arrived);
        }
        for state in self.states(family(packet), None)? {
            datagram.judged(state);
        }
        Ok(())
    }

    /// Waits a little for the pieces of a datagram that are still on their way.
    pub(super) fn await_rest(
        &mut self,
        from: End,
        packet: &[u8],
        datagram: &mut Datagram,
        length: usize,
    ) -> Result<()> {
        let start = Instant::now();
        while !datagram.is_whole(length) && start.elapsed() < REST {
            thread::sleep(Duration::from_millis(1));
            for arrived in self.crossing.late(from, packet)? {
                datagram.arrived(&arrived);
            }
        }
        for state in self.states(family(packet), None)? {
            datagram.judged(state);
        }
        Ok(())
    }

    /// The states whose rules have counted since somebody asked, sentinels apart.
    /// A packet moves one counter: when the likely one has moved, no other has.
    fn states(&mut self, family: Family, likely: Option<CtState>) -> Result<Vec<CtState>> {
        let sentinels = self.crossing.sentinels() - self.sentinels;
        self.sentinels += sentinels;
        self.rules[0][0].packets += u64::from(sentinels);
        let family = family_index(family);
        if let Some(place) = STATES.iter().position(|state| Some(*state) == likely)
            && self.moved(family, place)? == 1
        {
            return Ok(vec![STATES[place]]);
        }
        let mut states = Vec::new();
        for (place, state) in STATES.into_iter().enumerate() {
            if self.moved(family, place)? != 0 {
                states.push(state);
            }
        }
        Ok(states)
    }

    fn moved(&mut self, family: usize, place: usize) -> Result<u64> {
        let counted = &mut self.rules[family][place];
        let packets = self.counters.get(counted.rule).packets;
        let moved = packets.wrapping_sub(counted.packets);
        counted.packets = packets;
        Ok(moved)
    }

    /// Makes sure that every packet moved the counters that were looked at, and no
    /// other.
    fn audit(&mut self) -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let states = self.states(family, None)?;
            ensure!(states.is_empty(), "packets were counted as {states:?} by a second rule");
        }
        Ok(())
    }

    /// The holes that stand.
    pub(super) fn holes(&self) -> Result<Vec<Hole>> {
        let standing = self.maps.expectations(maps::now())?;
        let hole = |key: &ExpectationKey| Hole {
            src: key.src.to_ip(),
            dst: key.dst.to_ip(),
            dport: key.dport,
        };
        Ok(standing.iter().map(|(key, _)| hole(key)).collect())
    }

    pub(super) fn forget_holes(&self) -> Result<()> {
        self.maps.forget_expectations()
    }

    pub(super) fn flows(&mut self) -> Result<Vec<Flow>> {
        self.audit()?;
        let now = maps::now();
        let flows = self.maps.flows(now)?;
        Ok(flows.into_iter().map(|(_, key, flow)| described(&key, &flow, now)).collect())
    }
}

fn ruleset() -> String {
    let rules = STATES.map(|state| format!("-A FORWARD -m conntrack --ctstate {}\n", state.name()));
    format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{}COMMIT\n",
        rules.concat()
    )
}

/// Where the rules stand that the ruleset made, by state.
fn rules(running: &Running, family: RuleFamily) -> Result<[Counted; 5]> {
    let places = running.compiled.places(family);
    let mut rules = [Counted { rule: 0, packets: 0 }; 5];
    for (number, rule) in (1..).zip(&mut rules) {
        let place = Place { table: TableName::Filter, chain: "FORWARD", number: Some(number) };
        rule.rule = *places.get(&place).with_context(|| format!("no rule FORWARD {number}"))?;
    }
    Ok(rules)
}

fn chosen(mut options: Options, settings: Settings) -> Options {
    let switches = [
        (option::TCP_LOOSE, settings.tcp_loose),
        (option::TCP_BE_LIBERAL, settings.tcp_be_liberal),
        (option::TCP_IGNORE_INVALID_RST, settings.tcp_ignore_invalid_rst),
        (option::CHECKSUM, settings.checksum),
    ];
    for (bit, is_on) in switches {
        options.bits = if is_on { options.bits | bit } else { options.bits & !bit };
    }
    options.tcp_max_retrans = settings.tcp_max_retrans;
    options
}

fn described(
    key: &FlowKey,
    flow: &firewall_common::flow::Flow,
    now: firewall_common::time::Nanos,
) -> Flow {
    let original = key.tuple(flow.originator());
    let id = FlowId {
        protocol: original.protocol,
        kind: original.icmp_type,
        source: (original.src.to_ip(), original.sport).into(),
        destination: (original.dst.to_ip(), original.dport).into(),
    };
    let [there, back] = &flow.sides;
    Flow {
        id,
        state: state::name(original.protocol, flow.state).into(),
        seen_reply: flow.has(status::SEEN_REPLY),
        assured: flow.has(status::ASSURED),
        timeout: clock::name(original.protocol, flow.expires.since(now).as_secs()),
        packets: [there.packets, back.packets],
        bytes: [there.bytes, back.bytes],
    }
}

const fn family(packet: &[u8]) -> Family {
    if packet[0] >> 4 == 4 { Family::V4 } else { Family::V6 }
}

const fn family_index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}
