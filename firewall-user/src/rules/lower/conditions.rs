//! The conditions of one rule as bits and words.

use firewall_common::{
    addr::{Addr, Family},
    extra::{Extra as Record, MAX_EXTRAS, Test, name_id},
    flow::CtState,
    rule::{MULTIPORT_SLOTS, PortRange, PortSet, Rule, condition, flag},
};

use super::{extras, layout::Pool};
use crate::rules::{
    ast::{
        Condition, DNAT, IcmpType, Match, Multiport, Network, RuleSpec, SNAT, State, TableName,
        TcpFlags, Transport,
    },
    extra::{Extra, Fact},
    interface::InterfacePattern,
    print::spec_text,
    problem::Problem,
};

const ALL_STATES: u8 = CtState::New.bit()
    | CtState::Established.bit()
    | CtState::Related.bit()
    | CtState::Invalid.bit()
    | CtState::Untracked.bit();

/// All of a rule but its target and place.
pub(super) fn lower(
    family: Family,
    table: TableName,
    spec: &RuleSpec,
    pool: &mut Pool,
) -> Result<Rule, Problem> {
    let is_tracked = table != TableName::Raw;
    let mut lowering = Lowering {
        rule: Rule::default(),
        extras: Vec::new(),
        sets: Vec::new(),
        family,
        is_tracked,
    };
    lowering.addresses(spec);
    lowering.interfaces(spec, pool);
    if let Some(Condition { negated, value }) = spec.protocol {
        lowering.rule.protocol = value;
        lowering.set(condition::PROTOCOL, negated);
    }
    for one in &spec.matches {
        lowering.one_match(one, pool)?;
    }
    // Fragments behind the first follow it, and no rule sees one.
    if let Some(Condition { negated: false, .. }) = spec.fragments {
        lowering.never();
    }
    if lowering.extras.iter().any(|one| one.test == Test::Connections as u8) {
        // Rules that say the same in one chain count the same.
        let text = format!("{} {}", pool.scope, spec_text(family, spec));
        extras::name_rule(&mut lowering.extras, name_id(b'c', text.as_bytes()));
    }
    lowering.finish(pool)
}

struct Lowering {
    rule: Rule,
    extras: Vec<Record>,
    /// Places among them of those that ask a set, and its name.
    sets: Vec<(usize, String)>,
    family: Family,
    /// Table raw comes before tracking: there, no packet has a state or helper.
    is_tracked: bool,
}

impl Lowering {
    /// The rule, with its extra conditions behind those of other rules.
    fn finish(mut self, pool: &mut Pool) -> Result<Rule, Problem> {
        if self.extras.len() > MAX_EXTRAS as usize {
            let count = self.extras.len();
            return Err(Problem::new(format!(
                "a rule can have {MAX_EXTRAS} conditions with options of their own, not {count}"
            ))
            .advise("split them over a chain of their own"));
        }
        self.rule.extra_count = self.extras.len() as u16;
        if !self.extras.is_empty() {
            self.rule.extra_first = pool.extras(self.extras);
            let first = usize::from(self.rule.extra_first);
            for (place, name) in self.sets {
                pool.set_use(first + place, 0, name);
            }
        }
        Ok(self.rule)
    }

    fn set(&mut self, bit: u32, negated: bool) {
        self.rule.present |= bit;
        if negated {
            self.rule.invert |= bit;
        }
    }

    fn has(&self, bit: u32) -> bool {
        self.rule.present & bit != 0
    }

    /// Marks a bit that can hold one condition.
    fn set_once(&mut self, bit: u32, negated: bool, what: &str) -> Result<(), Problem> {
        if self.has(bit) {
            return Err(Problem::new(format!("a rule can have one {what} only"))
                .advise("split the conditions over a chain of their own"));
        }
        self.set(bit, negated);
        Ok(())
    }

    /// Makes a rule that no packet fits: one of no state.
    fn never(&mut self) {
        self.states(0);
    }

    fn addresses(&mut self, spec: &RuleSpec) {
        if let Some(Condition { negated, value }) = spec.src {
            (self.rule.src, self.rule.src_mask) = self.network(value);
            self.set(condition::SRC, negated);
        }
        if let Some(Condition { negated, value }) = spec.dst {
            (self.rule.dst, self.rule.dst_mask) = self.network(value);
            self.set(condition::DST, negated);
        }
    }

    fn network(&self, network: Network) -> (Addr, Addr) {
        let (address, mask) = (Addr::from(network.address), Addr::from(network.mask));
        let mask = match self.family {
            // The bits that an IPv4 address shares with all others are known.
            Family::Ipv4 => {
                let [.., word] = mask.words;
                let [a, b, c, _] = Addr::mask(Family::Ipv4, 0).words;
                Addr { words: [a, b, c, word] }
            }
            Family::Ipv6 => mask,
        };
        (address.and(mask), mask)
    }

    fn interfaces(&mut self, spec: &RuleSpec, pool: &mut Pool) {
        if let Some(bit) = self.interface(spec.input.as_ref(), condition::IN, pool) {
            self.rule.in_pattern = bit;
        }
        if let Some(bit) = self.interface(spec.output.as_ref(), condition::OUT, pool) {
            self.rule.out_pattern = bit;
        }
    }

    fn interface(
        &mut self,
        pattern: Option<&Condition<InterfacePattern>>,
        condition: u32,
        pool: &mut Pool,
    ) -> Option<u8> {
        let Condition { negated, value } = pattern?;
        match (value.is_any(), negated) {
            (true, false) => None,
            (true, true) => {
                self.never();
                None
            }
            (false, _) => {
                self.set(condition, *negated);
                Some(pool.pattern(value))
            }
        }
    }

    fn one_match(&mut self, one: &Match, pool: &mut Pool) -> Result<(), Problem> {
        match one {
            Match::Transport(transport) => self.transport(transport),
            Match::Multiport(multiport) => self.multiport(multiport, pool),
            Match::State(State { negated, states, .. }) => {
                self.asked_states(*negated, *states);
                Ok(())
            }
            Match::Helper(Condition { negated, .. }) if !self.is_tracked => {
                if !negated {
                    self.never();
                }
                Ok(())
            }
            Match::Helper(Condition { negated, value }) => {
                self.rule.helper = *value;
                self.set_once(condition::HELPER, *negated, "-m helper")
            }
            Match::Comment(_) => Ok(()),
            Match::Icmp(icmp) => self.icmp(*icmp),
            Match::Extra(extra) => self.extra(extra, pool),
            Match::Set(set) => {
                self.rule.flags |= flag::ASKS_SETS;
                self.sets.push((self.extras.len(), set.set.name.clone()));
                self.extras.push(extras::set(set));
                Ok(())
            }
        }
    }

    fn extra(&mut self, extra: &Extra, pool: &mut Pool) -> Result<(), Problem> {
        for Condition { negated, value } in &extra.facts {
            if let Fact::CtState(states) = value {
                self.asked_states(*negated, *states);
            }
            if !extras::is_constant(value) {
                self.rule.flags |= flag::PER_PACKET;
            }
        }
        let mut records = extras::records(extra);
        for (record, fact) in records.iter_mut().zip(&extra.facts) {
            if let Fact::Text(text) = &fact.value {
                extras::name_pattern(record, pool.text(text)?);
            }
        }
        self.extras.extend(records);
        Ok(())
    }

    fn transport(&mut self, transport: &Transport) -> Result<(), Problem> {
        if let Some(Condition { negated, value }) = transport.sport {
            self.rule.sport = value;
            self.set_once(condition::SPORT, negated, "--sport")?;
        }
        if let Some(Condition { negated, value }) = transport.dport {
            self.rule.dport = value;
            self.set_once(condition::DPORT, negated, "--dport")?;
        }
        if let Some(option) = transport.option {
            self.rule.flags |= flag::PER_PACKET;
            self.extras.push(extras::tcp_option(option));
        }
        if let Some(Condition { negated, value: TcpFlags { mask, compare } }) = transport.flags {
            (self.rule.tcp_mask, self.rule.tcp_flags) = (mask, compare);
            self.set_once(condition::TCP_FLAGS, negated, "--tcp-flags")?;
            if self.rule.fits_plain_segments().is_none() {
                self.rule.flags |= flag::PER_PACKET;
            }
        }
        Ok(())
    }

    fn multiport(&mut self, multiport: &Multiport, pool: &mut Pool) -> Result<(), Problem> {
        let (bit, place) = match self.has(condition::PORTS_0) {
            false => (condition::PORTS_0, 0),
            true => (condition::PORTS_1, 1),
        };
        if self.has(bit) || multiport.ranges.len() > MULTIPORT_SLOTS {
            return Err(Problem::new(format!(
                "a rule can have two -m multiport of {MULTIPORT_SLOTS} ports each"
            ))
            .advise("split it over several rules"));
        }
        let mut ranges = [PortRange::NONE; MULTIPORT_SLOTS];
        ranges[..multiport.ranges.len()].copy_from_slice(&multiport.ranges);
        self.rule.port_sets[place] =
            pool.port_set(PortSet { ranges, side: multiport.side as u8, _pad: [0; 3] });
        self.set(bit, multiport.negated);
        Ok(())
    }

    /// A packet has one state, and SNAT or DNAT beside it.
    fn asked_states(&mut self, negated: bool, states: u8) {
        if states & (SNAT | DNAT) == 0 {
            return self.states(if negated { ALL_STATES & !states } else { states });
        }
        self.states(ALL_STATES);
        self.extras.push(extras::states(negated, states));
    }

    /// A second set of states narrows the first.
    fn states(&mut self, states: u8) {
        self.rule.states =
            if self.has(condition::STATES) { self.rule.states & states } else { states };
        self.set(condition::STATES, false);
    }

    fn icmp(&mut self, icmp: Condition<IcmpType>) -> Result<(), Problem> {
        let (kind, codes) = match icmp.value {
            IcmpType::Any if icmp.negated => {
                self.never();
                return Ok(());
            }
            IcmpType::Any => return Ok(()),
            IcmpType::Type(kind) => (kind, (0, u8::MAX)),
            IcmpType::Code(kind, code) => (kind, (code, code)),
        };
        self.rule.icmp_type = kind;
        (self.rule.icmp_code_first, self.rule.icmp_code_last) = codes;
        self.rule.flags |= flag::PER_PACKET;
        self.set_once(condition::ICMP, icmp.negated, "--icmp-type")
    }
}
