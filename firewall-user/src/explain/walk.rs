//! The walk through the rules, told step by step: the datapath's own [`walk::step`],
//! with a look at every rule that it comes by.

use std::cell::RefCell;

use bytemuck::Zeroable;
use firewall_common::{
    extra::{
        self, Asking, Extra, Facts, Lists, Test,
        bucket::BucketKey,
        connections::{self, Count, Found, Place, PlaceKey},
        facts::{address, number},
        recent::{RecentKey, Sightings, action},
        text::{self, Pattern, Window},
    },
    flow::{CtState, FlowKey, Tuple, helper},
    headers::Headers,
    rule::{PortSet, Rule, RulesetHeader, condition, flag},
    set::{Entry, EntryKey, SetHeader},
    tables::Rules,
    time::Nanos,
    walk::{self, Walk},
    wire::tcp_flag,
};

use super::lists::Kept;
use crate::{kernel::sets::SetView, rules::Compiled};

/// A generation of rules, as it stands in the maps.
#[derive(Clone, Debug)]
pub struct RuleTables {
    pub header: RulesetHeader,
    pub rules: Vec<Rule>,
    pub port_sets: Vec<PortSet>,
    pub extras: Vec<Extra>,
    /// What `-m string` searches for, and where.
    pub patterns: Vec<Pattern>,
    pub window: Window,
    /// What limits and counts keep in mind, of each extra.
    pub memory: RefCell<Vec<u64>>,
    pub sets: SetView,
    /// What conditions keep in mind by key.
    pub kept: Kept,
}

impl RuleTables {
    /// Rules that have judged no packet yet.
    pub fn of(compiled: &Compiled) -> Self {
        Self {
            header: compiled.header,
            rules: compiled.rules.clone(),
            port_sets: compiled.port_sets.clone(),
            extras: compiled.extras.clone(),
            patterns: compiled.texts.clone(),
            window: Window::zeroed(),
            memory: RefCell::new(vec![0; compiled.extras.len()]),
            sets: SetView::default(),
            kept: Kept::default(),
        }
    }

    /// Whether a rule decides by chance: no walk is like the other then.
    pub fn has_chance(&self) -> bool {
        self.extras.iter().any(|extra| extra.test == Test::Random as u8)
    }

    /// What an extra would say and keep in mind.
    fn remembered(&self, index: u32, change: impl Fn(u64) -> (u64, bool)) -> (u64, bool) {
        change(self.memory.borrow().get(index as usize).copied().unwrap_or_default())
    }
}

impl Lists for RuleTables {
    fn recent(&self, key: &RecentKey, hits: u32) -> Option<Sightings> {
        self.kept.recent(key, hits)
    }

    fn note_recent(&self, key: &RecentKey, tick: u32, ttl: u32) {
        self.kept.note_recent(key, tick, ttl);
    }

    fn forget_recent(&self, key: &RecentKey) {
        self.kept.forget_recent(key);
    }

    fn spend(&self, asking: Asking, key: &BucketKey, change: impl Fn(u64) -> (u64, bool)) -> bool {
        self.kept.spend(asking, key, change)
    }

    fn connection(&self, key: &PlaceKey, own: &FlowKey, now: Nanos) -> (Found, u32) {
        self.kept.connection(key, own, now)
    }

    fn take_place(&self, key: &PlaceKey, before: Nanos, place: &Place) {
        self.kept.take_place(key, before, place);
    }

    fn set_last_place(&self, key: &PlaceKey, last: u32) {
        self.kept.set_last_place(key, last);
    }
}

impl Rules for RuleTables {
    fn rule(&self, _slot: u32, index: u32) -> Option<&Rule> {
        self.rules.get(index as usize)
    }

    fn port_set(&self, _slot: u32, index: u16) -> Option<&PortSet> {
        self.port_sets.get(usize::from(index))
    }

    fn count_rule(&self, _slot: u32, _index: u32, _bytes: u64) {}

    fn extra(&self, _slot: u32, index: u32) -> Option<&Extra> {
        self.extras.get(index as usize)
    }

    fn contains(&self, _slot: u32, pattern: u32, from: u32, to: u32) -> bool {
        let pattern = self.patterns.get(pattern as usize);
        pattern.is_some_and(|pattern| text::search(pattern, &self.window, from, to))
    }

    fn connections_hold(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool {
        let mut count = Count::zeroed();
        count.begin(extra, facts, asking);
        connections::holds(self, extra, &mut count)
    }

    /// As good as any: [`RuleTables::has_chance`].
    fn set_changes(&self) -> u64 {
        0
    }

    fn random(&self) -> u32 {
        u32::MAX / 2
    }

    fn remember(&self, _: Asking, index: u32, change: impl Fn(u64) -> (u64, bool)) -> bool {
        let (next, holds) = self.remembered(index, change);
        if let Some(word) = self.memory.borrow_mut().get_mut(index as usize) {
            *word = next;
        }
        holds
    }

    fn set_store(&self, slot: u32) -> Option<u32> {
        self.sets.store(slot)
    }

    fn set_header(&self, store: u32) -> Option<&SetHeader> {
        self.sets.header(store)
    }

    fn set_entry(&self, store: u32, key: &EntryKey) -> Option<Entry> {
        self.sets.entry(store, key)
    }
}

/// A rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Within the generation.
    pub index: u32,
    pub matches: bool,
    /// The first condition that did not hold, by what the packet has: `ctstate is NEW`.
    pub because: Option<String>,
}

/// How a walk went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retold {
    pub considered: Vec<Considered>,
    /// A [`walk::Outcome`], and the rule that decided.
    pub outcome: u8,
    pub decided: u32,
}

/// More rules than any walk comes by: one that goes on is broken.
const MAX_STEPS: usize = 1 << 20;

/// Walks the rules again for a packet that the datapath has judged; `done` is its walk.
/// `turned` are the ends that it came with, where table nat gave it another destination.
/// `names` tells an interface's name.
pub fn retell(
    tables: &RuleTables,
    headers: &Headers,
    facts: &Facts,
    done: &Walk,
    turned: Option<&Tuple>,
    names: &dyn Fn(u32) -> String,
) -> Retold {
    let mut walk = enter(tables, headers, done);
    // As they were before the first rule.
    let facts = &mut { *facts };
    facts.restart();
    let (inside, mut came) = (headers, *headers);
    if let Some(wire) = turned {
        came.tuple = *wire;
        facts.turn(&came, &FlowKey::of(wire).0, wire);
        facts.set_number(number::CT_TRANSLATED, 0);
    }
    let mut considered = Vec::new();
    for _ in 0..MAX_STEPS {
        let before = walk;
        let was = *facts;
        let headers = if is_before_turn(&before) { &came } else { inside };
        let is_over = walk::step(tables, headers, facts, &mut walk);
        if let Some(wire) = turned
            && is_before_turn(&before)
            && !is_before_turn(&walk)
        {
            facts.turn(inside, &FlowKey::of(&inside.tuple).0, wire);
        }
        let Some(rule) = tables.rule(before.slot, before.index) else { break };
        if rule.flags & flag::CHAIN_END == 0 {
            let matches = walk.hit_count != before.hit_count;
            let because =
                if matches { None } else { missing(tables, rule, headers, &was, &before, names) };
            considered.push(Considered { index: before.index, matches, because });
        }
        if is_over {
            break;
        }
    }
    Retold { considered, outcome: walk.outcome, decided: walk.decided }
}

/// Whether the next rule sees the destination that the packet came with.
const fn is_before_turn(walk: &Walk) -> bool {
    walk.station as usize <= walk::station::NAT_IN
}

/// Before the first rule: [`firewall_common::path::judge`].
fn enter(tables: &RuleTables, headers: &Headers, done: &Walk) -> Walk {
    let mut walk = Walk {
        in_patterns: done.in_patterns,
        out_patterns: done.out_patterns,
        announced_by: done.announced_by,
        ctstate: done.ctstate,
        nat: done.nat,
        ..done.restarted()
    };
    walk.set_out(&tables.header, headers.version == 4);
    walk
}

/// One rule with one of its conditions.
struct One<'t> {
    tables: &'t RuleTables,
    rule: Rule,
}

/// It only asks.
impl Lists for One<'_> {
    fn recent(&self, key: &RecentKey, hits: u32) -> Option<Sightings> {
        self.tables.recent(key, hits)
    }

    fn note_recent(&self, _: &RecentKey, _: u32, _: u32) {}

    fn forget_recent(&self, _: &RecentKey) {}

    fn spend(&self, asking: Asking, key: &BucketKey, change: impl Fn(u64) -> (u64, bool)) -> bool {
        self.tables.kept.spend(Asking { is_question: true, ..asking }, key, change)
    }

    fn connection(&self, key: &PlaceKey, own: &FlowKey, now: Nanos) -> (Found, u32) {
        self.tables.connection(key, own, now)
    }

    fn take_place(&self, _: &PlaceKey, _: Nanos, _: &Place) {}

    fn set_last_place(&self, _: &PlaceKey, _: u32) {}
}

impl Rules for One<'_> {
    fn rule(&self, _slot: u32, _index: u32) -> Option<&Rule> {
        Some(&self.rule)
    }

    fn port_set(&self, slot: u32, index: u16) -> Option<&PortSet> {
        self.tables.port_set(slot, index)
    }

    fn count_rule(&self, _slot: u32, _index: u32, _bytes: u64) {}

    fn extra(&self, slot: u32, index: u32) -> Option<&Extra> {
        self.tables.extra(slot, index)
    }

    fn contains(&self, slot: u32, pattern: u32, from: u32, to: u32) -> bool {
        self.tables.contains(slot, pattern, from, to)
    }

    fn connections_hold(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool {
        let mut count = Count::zeroed();
        count.begin(extra, facts, asking);
        connections::holds(self, extra, &mut count)
    }

    fn set_changes(&self) -> u64 {
        0
    }

    fn random(&self) -> u32 {
        self.tables.random()
    }

    fn remember(&self, _: Asking, index: u32, change: impl Fn(u64) -> (u64, bool)) -> bool {
        self.tables.remembered(index, change).1
    }

    fn set_store(&self, slot: u32) -> Option<u32> {
        self.tables.sets.store(slot)
    }

    fn set_header(&self, store: u32) -> Option<&SetHeader> {
        self.tables.sets.header(store)
    }

    fn set_entry(&self, store: u32, key: &EntryKey) -> Option<Entry> {
        self.tables.sets.entry(store, key)
    }
}

fn missing(
    tables: &RuleTables,
    rule: &Rule,
    headers: &Headers,
    facts: &Facts,
    walk: &Walk,
    names: &dyn Fn(u32) -> String,
) -> Option<String> {
    let conditions = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| rule.present & bit != 0);
    let failed = conditions.filter(|condition| {
        // Target 0: counts and goes on.
        let rule = Rule { present: *condition, target: 0, flags: 0, extra_count: 0, ..*rule };
        let mut alone = *walk;
        walk::step(&One { tables, rule }, headers, &mut { *facts }, &mut alone);
        alone.hit_count == walk.hit_count
    });
    // What tells most comes first.
    let first = failed.min_by_key(|condition| match *condition {
        condition::STATES => 0,
        condition::PROTOCOL => 1,
        _ => 2,
    });
    match first {
        Some(condition) => Some(fact(condition, headers, walk, names)),
        None => missing_extra(tables, *rule, facts, walk),
    }
}

/// The first extra condition that does not hold, told by what the packet has.
fn missing_extra(tables: &RuleTables, rule: Rule, facts: &Facts, walk: &Walk) -> Option<String> {
    let asking = Asking::of(walk);
    let one = One { tables, rule };
    let mut indexes = (0..u32::from(rule.extra_count)).map(|at| u32::from(rule.extra_first) + at);
    let failed = indexes.find(|index| !extra::one_holds(&one, *index, facts, asking))?;
    let extra = tables.extras.get(failed as usize)?;
    let value = || facts.number(extra.subject, asking.is_routed);
    Some(match (Test::from_byte(extra.test)?, extra.subject) {
        (Test::Limit, _) => "the limit is used up".into(),
        (Test::Nth, _) => "it is another packet's turn".into(),
        (Test::Text, _) if extra.invert == 0 => "it does not contain the string".into(),
        (Test::Text, _) => "it contains the string".into(),
        (Test::Time, _) => "it is another time".into(),
        (Test::Connections, side) => connections(extra, side),
        (Test::Bucket, _) if extra.invert == 0 => "the limit is used up".into(),
        (Test::Bucket, _) => "the limit is not reached".into(),
        (Test::Recent, flags) => recent(extra, flags),
        (Test::Random, _) => "chance was against it".into(),
        (Test::Set, _) if extra.invert != 0 => "it is in the set".into(),
        (Test::Set, _) => "it is not in the set".into(),
        (Test::Range, number::LENGTH) => format!("length is {}", value()),
        (Test::Range, number::TTL) => format!("ttl is {}", value()),
        (Test::Masked, number::MARK) => format!("mark is {:#x}", value()),
        (Test::Masked, number::CT_MARK) => format!("connmark is {:#x}", value()),
        (Test::Range | Test::Masked, number::OWNER) => format!("owner is {}", value()),
        (Test::Range, number::GROUP) => format!("group is {}", value()),
        (Test::Range, number::MSS) => format!("mss is {}", value()),
        _ => "one of its further conditions does not hold".into(),
    })
}

/// Why a condition about the number of connections does not hold.
fn connections(extra: &Extra, side: u8) -> String {
    let whose = if side == address::SOURCE { "source" } else { "destination" };
    let [_, _, limit, ..] = extra.arguments;
    let how = if extra.invert == 0 { "no more" } else { "more" };
    format!("its {whose} has {how} than {limit} connections")
}

/// Why a condition about a list does not hold.
fn recent(extra: &Extra, flags: u8) -> String {
    let whose = if flags & action::DESTINATION == 0 { "source" } else { "destination" };
    let [_, _, seconds, hits, ..] = extra.arguments;
    let often = if hits > 1 { format!(" {hits} times") } else { String::new() };
    let lately = if seconds == 0 { String::new() } else { format!(" in {seconds} seconds") };
    let not = if extra.invert == 0 { "not " } else { "" };
    format!("the list has {not}seen its {whose}{often}{lately}")
}

/// What the packet has where a rule wants something else.
fn fact(condition: u32, headers: &Headers, walk: &Walk, names: &dyn Fn(u32) -> String) -> String {
    let tuple = &headers.tuple;
    let interface = |ifindex: u32| match ifindex {
        0 => "none".to_owned(),
        _ => names(ifindex),
    };
    match condition {
        condition::STATES => match CtState::from_bit(walk.ctstate) {
            Some(state) => format!("ctstate is {}", state.name()),
            None => "tracking comes later".into(),
        },
        condition::PROTOCOL => {
            format!("protocol is {}", crate::listing::protocol::json_name(tuple.protocol))
        }
        condition::DPORT => format!("dport is {}", tuple.dport),
        condition::SPORT => format!("sport is {}", tuple.sport),
        condition::SRC => format!("source is {}", tuple.src.to_ip()),
        condition::DST => format!("destination is {}", tuple.dst.to_ip()),
        condition::IN => format!("in is {}", interface(walk.in_ifindex)),
        condition::OUT => format!("out is {}", interface(walk.out_ifindex)),
        condition::TCP_FLAGS => format!("flags are {}", flags(headers.tcp_flags)),
        condition::ICMP => format!("type is {}/{}", headers.icmp_type, headers.icmp_code),
        condition::HELPER => match helper::name(walk.announced_by) {
            Some(name) => format!("announced by {name}"),
            None => "no helper announced it".into(),
        },
        condition::PORTS_0 | condition::PORTS_1 => {
            format!("ports are {} and {}", tuple.sport, tuple.dport)
        }
        _ => "a condition does not hold".into(),
    }
}

/// `SYN,ACK`, as iptables spells it.
pub fn flags(bits: u8) -> String {
    const NAMES: [(u8, &str); 8] = [
        (tcp_flag::FIN, "FIN"),
        (tcp_flag::SYN, "SYN"),
        (tcp_flag::RST, "RST"),
        (tcp_flag::PSH, "PSH"),
        (tcp_flag::ACK, "ACK"),
        (tcp_flag::URG, "URG"),
        (tcp_flag::ECE, "ECE"),
        (tcp_flag::CWR, "CWR"),
    ];
    let set: Vec<_> =
        NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "NONE".into() } else { set.join(",") }
}

#[cfg(test)]
mod tests {
    use firewall_common::{addr::Family, flow::protocol, rule::Chain, walk::Outcome};

    use super::*;
    use crate::{
        explain::frame::{Asked, Numbers},
        rules::{BuiltinServices, Ruleset, compile, parse},
    };

    const RULES: &str = "\
-P FORWARD DROP
-N web
-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p udp -j ACCEPT
-A FORWARD -i eth0 -p tcp -j web
-A FORWARD -p tcp -m multiport --dports 1:10,20 -j ACCEPT
-A FORWARD ! -s 192.0.2.0/24 -j ACCEPT
-A FORWARD -m length --length 100:200 -j ACCEPT
-A web -p tcp --dport 80 -j ACCEPT
-A web -p tcp ! --syn -j ACCEPT
";

    fn tables() -> RuleTables {
        let rules = parse("rules", RULES, Family::Ipv4, &BuiltinServices).unwrap();
        RuleTables::of(&compile(&rules, &Ruleset::empty(Family::Ipv6)).unwrap())
    }

    fn syn(dport: u16) -> Headers {
        let asked = Asked {
            src: "192.0.2.7".parse().unwrap(),
            dst: "198.51.100.9".parse().unwrap(),
            protocol: protocol::TCP,
            sport: 40_000,
            dport,
            flags: tcp_flag::SYN,
            seq: None,
            ack: None,
            icmp: (0, 0),
            icmp_id: 0,
            payload: 0,
        };
        let mut headers = Headers::default();
        headers.parse(&asked.frame(None, Numbers::default())[..], false).unwrap();
        headers
    }

    fn facts() -> Facts {
        let mut facts = Facts::default();
        facts.set_number(number::LENGTH, 40);
        facts.arrive();
        facts
    }

    fn walked(dport: u16) -> Retold {
        let done = Walk {
            chain: Chain::Forward as u8,
            ctstate: CtState::New.bit(),
            in_patterns: 1,
            in_ifindex: 3,
            ..Walk::default()
        };
        retell(&tables(), &syn(dport), &facts(), &done, None, &|index| format!("eth{index}"))
    }

    #[test]
    fn every_rule_that_was_looked_at_is_told_with_what_did_not_fit() {
        let retold = walked(51_000);
        let told: Vec<_> = retold
            .considered
            .iter()
            .map(|one| one.because.as_deref().unwrap_or("matches"))
            .collect();
        assert_eq!(
            told,
            [
                "ctstate is NEW",
                "protocol is tcp",
                "matches",
                "dport is 51000",
                "flags are SYN",
                "ports are 40000 and 51000",
                "source is 192.0.2.7",
                "length is 40",
                "matches"
            ]
        );
        assert_eq!(retold.outcome, Outcome::Drop as u8);
        assert_eq!(retold.considered.last().unwrap().index, retold.decided);
    }

    #[test]
    fn what_stands_behind_the_deciding_rule_is_not_told() {
        let retold = walked(80);
        assert_eq!(retold.outcome, Outcome::Accept as u8);
        assert_eq!(retold.considered.len(), 4);
        assert!(retold.considered[3].matches);
    }
}
