//! The walk through the compiled rules, one rule a step.
//!
//! The kernel calls [`step`] from `bpf_loop`, tests from a plain loop. A step
//! reads one rule, moves its counter when it matches, and says whether to go on.

use bytemuck::Zeroable;

use crate::{
    extra::{Asking, Facts},
    flow::{CACHED_HITS, CtState, helper},
    generation::stamp,
    headers::Headers,
    mangle,
    rule::{
        Chain, MAX_JUMP_DEPTH, NO_ENTRY, PortSet, PortSide, Rule, RulesetHeader, Target, condition,
        flag,
    },
    synproxy::is_for_proxy,
    tables::{Route, Rules},
};

/// LOG rules that one packet may pass and be reported at.
pub const MAX_LOGS: usize = 4;

/// Where a walk stands, as [`Walk::outcome`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Running = 0,
    Accept = 1,
    Drop = 2,
    /// The deciding rule's argument is the kind.
    Reject = 3,
    /// The rules led nowhere.
    Broken = 4,
    /// The deciding rule's argument is the offer.
    Proxy = 5,
}

impl Outcome {
    /// A walk that has not ended is as good as one that led nowhere.
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Accept,
            2 => Self::Drop,
            3 => Self::Reject,
            5 => Self::Proxy,
            _ => Self::Broken,
        }
    }
}

/// The chains that a packet walks through, in their order: places of [`Walk::stations`].
pub mod station {
    /// Table raw, which comes before tracking.
    pub const RAW: usize = 0;
    /// Table mangle before routing: PREROUTING, or OUTPUT.
    pub const ENTRANCE: usize = 1;
    /// Table nat before routing: PREROUTING, or OUTPUT.
    pub const NAT_IN: usize = 2;
    /// Table mangle behind routing: INPUT or FORWARD.
    pub const MANGLE: usize = 3;
    pub const FILTER: usize = 4;
    /// Table mangle: POSTROUTING.
    pub const EXIT: usize = 5;
    /// Table nat behind routing: POSTROUTING, or INPUT.
    pub const NAT_OUT: usize = 6;
    pub const COUNT: usize = 7;
}

/// Which chains of table nat a packet is shown to, as [`Walk::nat`].
pub mod nat {
    /// Only the first packet of a flow is.
    pub const NONE: u8 = 0;
    /// It has been routed without us.
    pub const BEHIND_ROUTING: u8 = 1;
    pub const ALL: u8 = 2;
}

/// What the packet proves to SYNPROXY, as [`Walk::proof`].
pub mod proof {
    pub const NONE: u8 = 0;
    /// It is the SYN of a client whose cookie was right.
    pub const BROUGHT: u8 = 1;
    /// And a rule has asked for that.
    pub const TAKEN: u8 = 2;
}

/// Which stations a walk comes by, as [`Walk::part`].
pub mod part {
    pub const WHOLE: u8 = 0;
    /// Those before routing.
    pub const ENTRANCE: u8 = 1;
    /// Those behind it.
    pub const REST: u8 = 2;
    /// Table raw alone, of a packet of which the headers are known and nothing else.
    pub const SIEVE: u8 = 3;
}

/// The facts that rules ask for, and the place in the list.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Walk {
    /// The patterns that the two interfaces' names fit.
    pub in_patterns: u64,
    pub out_patterns: u64,
    pub in_ifindex: u32,
    pub out_ifindex: u32,
    pub generation: u32,
    /// [`crate::generation::stamp::of_sets`], as it was before the first look into one.
    pub stamp: u32,
    pub slot: u32,
    /// The rule to look at next.
    pub index: u32,
    /// Where the chain of each [`station`] begins, or [`NO_ENTRY`].
    pub stations: [u32; 8],
    /// The rule that decided.
    pub decided: u32,
    /// Of the deciding rule.
    pub argument: u32,
    pub depth: u32,
    /// Where the chains on the stack go on.
    pub stack: [u16; MAX_JUMP_DEPTH],
    /// Rules matched so far, index plus one.
    pub hits: [u16; CACHED_HITS],
    pub hit_count: u32,
    /// LOG rules matched so far.
    pub logs: [u16; MAX_LOGS],
    pub log_count: u32,
    /// A [`crate::flow::CtState`] bit; 0 in table raw, which comes before tracking.
    pub ctstate: u8,
    /// The state that holds behind table raw.
    pub ctstate_then: u8,
    /// The helper that announced this packet's flow.
    pub announced_by: u8,
    /// The helper that a CT rule asked for.
    pub assigned: u8,
    /// An [`Outcome`].
    pub outcome: u8,
    /// The verdict looks at, or acts on, this packet alone.
    pub is_per_packet: u8,
    /// A [`crate::verdict::DropReason`] plus one when the drop is to be reported.
    pub drop_reason: u8,
    /// The deciding rule is a policy.
    pub is_policy: u8,
    /// A [`crate::rule::Chain`].
    pub chain: u8,
    /// The rules are only asked: no counter moves, nothing is reported.
    pub is_question: u8,
    /// One of [`station`]: where the walk is.
    pub station: u8,
    /// One of [`part`].
    pub part: u8,
    /// Bytes that rules have added to the packet: those behind them count them, too.
    pub grown: u8,
    /// One of [`nat`].
    pub nat: u8,
    /// Table raw has let the packet pass already: [`part::SIEVE`].
    pub is_sifted: u8,
    /// Nobody has asked where the packet goes: its chain and the interface by which it leaves
    /// are not known.
    pub is_unrouted: u8,
    /// The frame came in for many stations.
    pub is_for_many: u8,
    /// A rule that names a set was looked at.
    pub asks_sets: u8,
    /// One of [`proof`].
    pub proof: u8,
    /// The rules of table nat that decided, or [`NO_ENTRY`]. They count where [`Walk::nat`]
    /// shows the packet to that table.
    pub order_in: u32,
    pub order_out: u32,
}

impl Walk {
    /// Before the first rule, for the same packet.
    #[inline(always)]
    pub fn restarted(&self) -> Self {
        Self {
            generation: self.generation,
            stamp: self.stamp,
            slot: self.slot,
            in_ifindex: self.in_ifindex,
            out_ifindex: self.out_ifindex,
            chain: self.chain,
            is_for_many: self.is_for_many,
            ..Self::default()
        }
    }

    /// Notes where the packet goes.
    #[inline(always)]
    pub const fn route(&mut self, route: &Route) {
        self.chain = route.chain as u8;
        self.in_ifindex = route.in_ifindex;
        self.out_ifindex = route.out_ifindex;
        self.is_unrouted = 0;
    }

    /// Sets out for the first rule of this part of the way, of a packet whose chain is
    /// known; `false` when the part has no rules.
    #[inline(always)]
    pub fn set_out(&mut self, header: &RulesetHeader, is_v4: bool) -> bool {
        let entries = &header.entries[usize::from(!is_v4) & 1];
        let entry = |chain: Chain| entries[chain as usize];
        let (entrance, rest) = match Chain::from_byte(self.chain) {
            Some(Chain::Output) => (
                [entry(Chain::RawOutput), entry(Chain::MangleOutput), entry(Chain::NatOutput)],
                [
                    NO_ENTRY,
                    entry(Chain::Output),
                    entry(Chain::ManglePostrouting),
                    entry(Chain::NatPostrouting),
                ],
            ),
            Some(Chain::Input) => (
                [
                    entry(Chain::RawPrerouting),
                    entry(Chain::ManglePrerouting),
                    entry(Chain::NatPrerouting),
                ],
                [entry(Chain::MangleInput), entry(Chain::Input), NO_ENTRY, entry(Chain::NatInput)],
            ),
            _ => (
                [
                    entry(Chain::RawPrerouting),
                    entry(Chain::ManglePrerouting),
                    entry(Chain::NatPrerouting),
                ],
                [
                    entry(Chain::MangleForward),
                    entry(Chain::Forward),
                    entry(Chain::ManglePostrouting),
                    entry(Chain::NatPostrouting),
                ],
            ),
        };
        self.stations = [NO_ENTRY; 8];
        if self.part != part::REST {
            [self.stations[0], self.stations[1], self.stations[2]] = entrance;
        }
        if self.part == part::SIEVE {
            (self.stations[1], self.stations[2]) = (NO_ENTRY, NO_ENTRY);
        }
        if !matches!(self.part, part::ENTRANCE | part::SIEVE) && !self.ends_before_forward() {
            [self.stations[3], self.stations[4], self.stations[5], self.stations[6]] = rest;
        }
        if self.is_sifted != 0 {
            self.stations[station::RAW] = NO_ENTRY;
        }
        if self.nat != nat::ALL {
            self.stations[station::NAT_IN] = NO_ENTRY;
        }
        if self.nat == nat::NONE {
            self.stations[station::NAT_OUT] = NO_ENTRY;
        }
        self.depth = 0;
        self.outcome = Outcome::Running as u8;
        self.ctstate_then = self.ctstate;
        if !self.go_to_station(0) {
            return false;
        }
        if self.station as usize == station::RAW {
            self.ctstate = 0;
        }
        true
    }

    /// Whether the way ends behind routing: a router drops what came for many and would leave
    /// it again, before FORWARD sees it (kernel: `ip_forward`).
    #[inline(always)]
    pub const fn ends_before_forward(&self) -> bool {
        self.is_for_many != 0 && self.chain == Chain::Forward as u8
    }

    /// Goes to the chain of the first station from this one on that has rules; `false` when
    /// none has.
    #[inline(always)]
    fn go_to_station(&mut self, first: usize) -> bool {
        for at in 0..station::COUNT {
            let entry = self.stations[at];
            let is_nat = at == station::NAT_IN || at == station::NAT_OUT;
            // What is not tracked has no translation.
            if is_nat && self.ctstate_then == CtState::Untracked.bit() {
                continue;
            }
            if at >= first && entry != NO_ENTRY {
                self.index = entry;
                self.station = at as u8;
                return true;
            }
        }
        false
    }

    /// Behind routing: the TTL has been taken one from.
    #[inline(always)]
    pub const fn is_routed(&self) -> bool {
        self.station as usize >= station::MANGLE
    }

    /// Whether the next packets of this flow and direction would move the same
    /// counters and be accepted too.
    #[inline(always)]
    pub const fn is_cacheable(&self) -> bool {
        self.is_per_packet == 0
            && self.hit_count as usize <= CACHED_HITS
            && self.stamp_to_remember() != stamp::NONE
    }

    #[inline(always)]
    pub const fn stamp_to_remember(&self) -> u32 {
        if self.asks_sets != 0 { self.stamp } else { stamp::of_rules(self.generation) }
    }

    /// Whether what is remembered under a stamp is what this walk would find.
    #[inline(always)]
    pub const fn has_stamp(&self, remembered: u32) -> bool {
        match stamp::is_of_sets(remembered) {
            true => remembered == self.stamp,
            false => remembered == stamp::of_rules(self.generation),
        }
    }

    #[inline(always)]
    fn hit(&mut self) {
        let index = self.index as u16;
        if (self.hit_count as usize) < CACHED_HITS {
            self.hits[self.hit_count as usize & (CACHED_HITS - 1)] = index.wrapping_add(1);
        }
        self.hit_count += 1;
    }

    #[inline(always)]
    fn stop(&mut self, outcome: Outcome) -> bool {
        self.outcome = outcome as u8;
        true
    }

    #[inline(always)]
    fn decide(&mut self, outcome: Outcome, rule: &Rule) -> bool {
        self.decided = self.index;
        self.argument = rule.argument;
        self.is_policy = rule.flags & flag::POLICY;
        self.stop(outcome)
    }

    /// Notes that this rule reports the packet; the report follows the walk.
    #[inline(always)]
    fn log(&mut self) {
        if (self.log_count as usize) < MAX_LOGS {
            self.logs[self.log_count as usize & (MAX_LOGS - 1)] = self.index as u16;
            self.log_count += 1;
        }
    }

    /// Notes that this rule of table nat decides.
    #[inline(always)]
    const fn order(&mut self) {
        if self.station as usize == station::NAT_IN {
            self.order_in = self.index;
        } else {
            self.order_out = self.index;
        }
    }

    /// This table lets the packet pass: the next one is asked. What table filter has
    /// decided is what is told.
    #[inline(always)]
    fn accept(&mut self, rule: &Rule, facts: &mut Facts) -> bool {
        if self.station as usize <= station::FILTER && self.station as usize != station::NAT_IN {
            self.decided = self.index;
            self.argument = rule.argument;
            self.is_policy = rule.flags & flag::POLICY;
        }
        let was_routed = self.is_routed();
        self.ctstate = self.ctstate_then;
        if !self.go_to_station(self.station as usize + 1) {
            return self.stop(Outcome::Accept);
        }
        self.depth = 0;
        if !was_routed && self.is_routed() {
            facts.route();
        }
        false
    }

    #[inline(always)]
    fn go_on(&mut self) -> bool {
        self.index += 1;
        false
    }

    /// Enters the chain at `target`; `back` is where its end leads.
    #[inline(always)]
    fn call(&mut self, target: u32, back: u32) -> bool {
        if self.depth as usize >= MAX_JUMP_DEPTH {
            return self.stop(Outcome::Broken);
        }
        self.stack[self.depth as usize & (MAX_JUMP_DEPTH - 1)] = back as u16;
        self.depth += 1;
        self.index = target;
        false
    }

    /// Leaves a chain; a built-in one for its policy at `policy`.
    #[inline(always)]
    fn give_back(&mut self, policy: u32) -> bool {
        if self.depth == 0 {
            self.index = policy;
            return false;
        }
        self.depth -= 1;
        self.index = u32::from(self.stack[self.depth as usize & (MAX_JUMP_DEPTH - 1)]);
        false
    }
}

/// Looks at one rule; `true` ends the walk.
#[inline(always)]
pub fn step<T: Rules>(tables: &T, headers: &Headers, facts: &mut Facts, walk: &mut Walk) -> bool {
    let Some(rule) = tables.rule(walk.slot, walk.index) else {
        return walk.stop(Outcome::Broken);
    };
    if !fits_flow(tables, rule, headers, walk) {
        return walk.go_on();
    }
    // No packet of a flow that does not fit makes a difference here.
    if rule.flags & flag::PER_PACKET != 0 {
        walk.is_per_packet = 1;
    }
    let holds = fits_packet(rule, headers)
        && (rule.extra_count == 0 || tables.extras_hold(rule, facts, Asking::of(walk)));
    if rule.flags & flag::ASKS_SETS != 0 {
        walk.asks_sets = 1;
        if tables.take_fleeting() {
            walk.is_per_packet = 1;
        }
    }
    if !holds {
        return walk.go_on();
    }
    if rule.flags & flag::CHAIN_END == 0 && walk.is_question == 0 {
        let bytes = u64::from(headers.ip_len) + u64::from(walk.grown);
        tables.count_rule(walk.slot, walk.index, bytes);
        walk.hit();
    }
    if rule.target == Target::Set as u8 && walk.is_question == 0 {
        tables.change_sets(rule.argument, facts, Asking::of(walk));
    }
    act(rule, headers, facts, walk)
}

#[inline(always)]
fn act(rule: &Rule, headers: &Headers, facts: &mut Facts, walk: &mut Walk) -> bool {
    let Some(target) = Target::from_byte(rule.target) else {
        return walk.stop(Outcome::Broken);
    };
    match target {
        Target::Continue => walk.go_on(),
        Target::Accept => walk.accept(rule, facts),
        Target::Drop => walk.decide(Outcome::Drop, rule),
        Target::Reject => walk.decide(Outcome::Reject, rule),
        Target::Log => {
            if walk.is_question == 0 {
                walk.log();
            }
            walk.go_on()
        }
        Target::Return => walk.give_back(rule.chain_end),
        Target::Jump => walk.call(rule.argument, walk.index + 1),
        // The end of a chain that was gone to leads where the end of this one
        // would: to the policy of a built-in chain, else to the caller.
        Target::Goto if walk.depth == 0 => walk.call(rule.argument, rule.chain_end),
        Target::Goto => {
            walk.index = rule.argument;
            false
        }
        Target::Set => {
            walk.is_per_packet = 1;
            walk.go_on()
        }
        Target::Helper => {
            walk.assigned = rule.argument as u8;
            walk.go_on()
        }
        Target::Proxy if is_for_proxy(headers) && walk.proof != proof::NONE => {
            walk.proof = proof::TAKEN;
            // It is the first packet of a connection, whatever table raw has made of it.
            walk.ctstate_then = CtState::New.bit();
            walk.accept(rule, facts)
        }
        Target::Proxy if is_for_proxy(headers) => walk.decide(Outcome::Proxy, rule),
        Target::Proxy => {
            walk.is_per_packet = 1;
            walk.go_on()
        }
        Target::Translate => {
            walk.order();
            walk.accept(rule, facts)
        }
        Target::Untrack => {
            walk.ctstate_then = CtState::Untracked.bit();
            walk.announced_by = helper::NONE;
            walk.go_on()
        }
        Target::Mark
        | Target::SetCtMark
        | Target::Tos
        | Target::SaveMark
        | Target::RestoreMark
        | Target::Hops
        | Target::Mss => {
            alter(target, rule, headers, facts, walk);
            walk.grown = facts.grown() as u8;
            walk.is_per_packet = 1;
            walk.go_on()
        }
    }
}

/// Changes the packet, or the mark of its connection, if it has one.
#[inline(always)]
fn alter(target: Target, rule: &Rule, headers: &Headers, facts: &mut Facts, walk: &Walk) {
    let is_tracked = Asking::of(walk).is_tracked;
    match target {
        Target::Mark => mangle::mark(facts, rule),
        Target::SetCtMark if is_tracked => mangle::ct_mark(facts, rule),
        Target::SaveMark if is_tracked => mangle::save_mark(facts, rule),
        Target::RestoreMark if is_tracked => mangle::restore_mark(facts, rule),
        Target::Tos => mangle::tos(facts, rule),
        Target::Hops => mangle::hop_limit(facts, rule, walk.is_routed()),
        Target::Mss => mangle::segment_size(facts, headers, rule),
        _ => {}
    }
}

/// Whether the conditions hold that look at what all packets of a flow and direction
/// have in common.
#[inline(always)]
fn fits_flow<T: Rules>(tables: &T, rule: &Rule, headers: &Headers, walk: &Walk) -> bool {
    let tuple = &headers.tuple;
    let check = Check::of(rule);
    check.holds(condition::STATES, || rule.states & walk.ctstate != 0)
        && check.holds(condition::PROTOCOL, || rule.protocol == tuple.protocol)
        && check.holds(condition::DPORT, || rule.dport.contains(tuple.dport))
        && check.holds(condition::SPORT, || rule.sport.contains(tuple.sport))
        && check.holds(condition::SRC, || tuple.src.matches(rule.src, rule.src_mask))
        && check.holds(condition::DST, || tuple.dst.matches(rule.dst, rule.dst_mask))
        && check.holds(condition::IN, || has_bit(walk.in_patterns, rule.in_pattern))
        && check.holds(condition::OUT, || has_bit(walk.out_patterns, rule.out_pattern))
        && check.holds(condition::HELPER, || rule.helper == walk.announced_by)
        && check.holds(condition::PORTS_0, || in_set(tables, walk.slot, rule.port_sets[0], headers))
        && check.holds(condition::PORTS_1, || in_set(tables, walk.slot, rule.port_sets[1], headers))
}

/// Whether the conditions hold that look at this packet.
#[inline(always)]
fn fits_packet(rule: &Rule, headers: &Headers) -> bool {
    let check = Check::of(rule);
    check.holds(condition::TCP_FLAGS, || headers.tcp_flags & rule.tcp_mask == rule.tcp_flags)
        && check.holds(condition::ICMP, || matches_icmp(rule, headers))
}

struct Check {
    present: u32,
    invert: u32,
}

impl Check {
    #[inline(always)]
    const fn of(rule: &Rule) -> Self {
        Self { present: rule.present, invert: rule.invert }
    }

    /// An absent condition holds; a negated one when its test does not.
    #[inline(always)]
    fn holds(&self, condition: u32, test: impl FnOnce() -> bool) -> bool {
        self.present & condition == 0 || test() != (self.invert & condition != 0)
    }
}

#[inline(always)]
const fn has_bit(bits: u64, number: u8) -> bool {
    (bits >> (number & 63)) & 1 != 0
}

#[inline(always)]
const fn matches_icmp(rule: &Rule, headers: &Headers) -> bool {
    headers.icmp_type == rule.icmp_type
        && rule.icmp_code_first <= headers.icmp_code
        && headers.icmp_code <= rule.icmp_code_last
}

#[inline(always)]
fn in_set<T: Rules>(tables: &T, slot: u32, index: u16, headers: &Headers) -> bool {
    match tables.port_set(slot, index) {
        Some(set) => set_contains(set, headers.tuple.sport, headers.tuple.dport),
        None => false,
    }
}

/// A function of its own: inlined into the walk, its branches would multiply with
/// those around it in the eyes of the verifier.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn set_contains(set: &PortSet, sport: u16, dport: u16) -> bool {
    let first = if set.side == PortSide::Destination as u8 { dport } else { sport };
    let second = if set.side == PortSide::Source as u8 { sport } else { dport };
    for range in &set.ranges {
        if range.holds(first) | range.holds(second) != 0 {
            return true;
        }
    }
    false
}
