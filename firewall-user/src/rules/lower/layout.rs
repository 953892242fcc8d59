//! Puts the chains one after another and the rules into them.

use std::{collections::HashMap, sync::Arc};

use firewall_common::{
    addr::Family,
    extra::{
        EXTRAS_PER_GENERATION, Extra, Test,
        facts::number,
        need,
        text::{PATTERNS_PER_GENERATION, Pattern},
    },
    mangle::{CLAMP, hops},
    rule::{
        Chain as Hook, MAX_INTERFACE_PATTERNS, NO_ENTRY, PORT_SETS_PER_GENERATION, PortSet,
        RULES_PER_GENERATION, Rule, RulesetHeader, Target as Code, condition, flag,
    },
};

use super::{Compiled, Origin, Part, SetUse, conditions, extras};
use crate::rules::{
    ast::{self, Chain, Policy, Ruleset, Table, TableName, Target, Verdict},
    error::{Error, Errors},
    extra::{Masked, Text},
    interface::InterfacePattern,
    mangle::{CtMark, Hops, Mangle, Masks, SegmentSize},
    problem::Problem,
};

/// The order in which the tables of a family are laid out.
pub(in crate::rules) const ORDER: [TableName; 4] =
    [TableName::Raw, TableName::Mangle, TableName::Nat, TableName::Filter];

/// The tables as they grow.
pub(super) struct Layout {
    rules: Vec<Rule>,
    origins: Vec<Origin>,
    pub(super) header: RulesetHeader,
    pub(super) pool: Pool,
    errors: Vec<Error>,
    /// The last place in a file, for limits that the whole exceeds.
    last: Option<ast::Origin>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            origins: Vec::new(),
            header: RulesetHeader::EMPTY,
            pool: Pool::default(),
            errors: Vec::new(),
            last: None,
        }
    }
}

/// What rules share: equal port sets and patterns are kept once.
#[derive(Default)]
pub(super) struct Pool {
    port_sets: Vec<PortSet>,
    extras: Vec<Extra>,
    set_uses: Vec<SetUse>,
    known_sets: HashMap<Vec<u8>, u16>,
    patterns: Vec<InterfacePattern>,
    texts: Vec<Pattern>,
    /// Whose rules are lowered: family, table and chain.
    pub(super) scope: String,
}

impl Pool {
    /// Whether no rule has put anything here.
    pub(super) fn is_empty(&self) -> bool {
        // Each by its name: a new one has to be thought of here.
        let Self { port_sets, extras, set_uses, known_sets, patterns, texts, scope: _ } = self;
        port_sets.is_empty()
            && extras.is_empty()
            && set_uses.is_empty()
            && known_sets.is_empty()
            && patterns.is_empty()
            && texts.is_empty()
    }

    pub(super) fn port_set(&mut self, set: PortSet) -> u16 {
        let key = bytemuck::bytes_of(&set).to_vec();
        let next = u16::try_from(self.port_sets.len()).unwrap_or(u16::MAX);
        *self.known_sets.entry(key).or_insert_with(|| {
            self.port_sets.push(set);
            next
        })
    }

    /// Adds the extra conditions of one rule; gives the index of the first. What does
    /// not fit is refused by [`Layout::finish`].
    pub(super) fn extras(&mut self, extras: Vec<Extra>) -> u16 {
        let first = u16::try_from(self.extras.len()).unwrap_or(u16::MAX);
        self.extras.extend(extras);
        first
    }

    /// Notes that a word of an extra is the slot of a set, whose name is known so far.
    pub(super) fn set_use(&mut self, extra: usize, word: usize, name: String) {
        self.set_uses.push(SetUse { extra, word, name, file: "".into(), line: 0 });
    }

    /// The index of what `-m string` searches for. What does not fit is refused by
    /// [`Layout::finish`].
    pub(super) fn text(&mut self, text: &Text) -> Result<u32, Problem> {
        let pattern = Pattern::new(&text.bytes, text.ignores_case);
        let pattern = pattern.ok_or_else(|| Problem::new("a string of no or too many bytes"))?;
        let known = self.texts.iter().position(|known| *known == pattern);
        Ok(index(known.unwrap_or_else(|| {
            self.texts.push(pattern);
            self.texts.len() - 1
        })))
    }

    pub(super) fn pattern(&mut self, pattern: &InterfacePattern) -> u8 {
        let known = self.patterns.iter().position(|known| known == pattern);
        let bit = known.unwrap_or_else(|| {
            self.patterns.push(pattern.clone());
            self.patterns.len() - 1
        });
        u8::try_from(bit).unwrap_or(u8::MAX)
    }
}

impl Layout {
    pub(super) fn family(&mut self, ruleset: &Ruleset) {
        if ruleset.family == Family::Ipv6 {
            self.header.ipv6_from = index(self.rules.len());
        }
        for name in ORDER {
            match ruleset.table(name) {
                Some(table) => self.table(ruleset.family, table),
                None if name == TableName::Filter => {
                    self.table(ruleset.family, &Table::empty(TableName::Filter));
                }
                None => {}
            }
        }
    }

    fn table(&mut self, family: Family, table: &Table) {
        let is_idle = table.chains.iter().all(|chain| is_idle(table.name, chain));
        if is_idle {
            return;
        }
        let starts = self.starts(table);
        for chain in &table.chains {
            if let Some(hook) = hook(table.name, &chain.name)
                && !is_idle_entry(table.name, chain)
            {
                self.header.entries[family_index(family)][hook as usize] =
                    starts[chain.name.as_str()];
                if table.name == TableName::Nat {
                    self.header.needs |= need::NAT;
                }
            }
            self.chain(family, table.name, chain, &starts);
        }
    }

    /// Where each chain will begin.
    fn starts<'t>(&self, table: &'t Table) -> HashMap<&'t str, u32> {
        let mut next = self.rules.len();
        let mut starts = HashMap::new();
        for chain in &table.chains {
            starts.insert(chain.name.as_str(), index(next));
            next += chain.rules.len() + 1;
        }
        starts
    }

    fn chain(
        &mut self,
        family: Family,
        table: TableName,
        chain: &Chain,
        starts: &HashMap<&str, u32>,
    ) {
        let name: Arc<str> = chain.name.as_str().into();
        self.pool.scope = format!("{family:?} {table} {name}");
        let chain_end = index(self.rules.len() + chain.rules.len());
        for (at, rule) in chain.rules.iter().enumerate() {
            let log = match &rule.spec.target {
                Target::Log(log) => Some(log.clone()),
                Target::Nflog(nflog) => Some(nflog.log()),
                _ => None,
            };
            let part = Part::Rule(index(at + 1));
            let compiled = self.rule(family, table, rule, starts);
            self.push(
                Rule { chain_end, ..compiled },
                Origin { family, table, chain: name.clone(), part, log },
            );
        }
        let (end, part) = end(chain.policy);
        self.push(
            Rule { chain_end, ..end },
            Origin { family, table, chain: name, part, log: None },
        );
    }

    fn push(&mut self, rule: Rule, origin: Origin) {
        self.rules.push(rule);
        self.origins.push(origin);
    }

    /// Whether no rule was wrong so far.
    pub(super) const fn is_right(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn rule(
        &mut self,
        family: Family,
        table: TableName,
        rule: &ast::Rule,
        starts: &HashMap<&str, u32>,
    ) -> Rule {
        self.last = Some(rule.origin.clone());
        let compiled = conditions::lower(family, table, &rule.spec, &mut self.pool);
        let mut compiled = compiled.unwrap_or_else(|problem| {
            self.errors.push(Error::at_line(&rule.origin.file, rule.origin.line, problem));
            Rule::default()
        });
        let Action { code, mut argument, mask } = target(&rule.spec.target, starts);
        if let Target::Set(target) = &rule.spec.target {
            let extra = self.pool.extras(vec![extras::set_target(target)]);
            argument = extra.into();
            self.header.needs |= need::FACTS | need::SETS;
            for (word, part) in [(0, &target.add), (2, &target.del)] {
                if let Some(part) = part {
                    self.pool.set_use(extra.into(), word, part.name.clone());
                }
            }
        }
        let mut mask = mask;
        if let Target::Nat(nat) = &rule.spec.target {
            let order = nat.order();
            let addresses = nat.addresses.map(|_| extras::order(&order));
            let base = nat.base.map(extras::base);
            let all: Vec<_> = addresses.into_iter().chain(base).collect();
            let extra = if all.is_empty() { 0 } else { self.pool.extras(all) };
            (argument, mask) = order.pack(extra);
        }
        for of_rule in self.pool.set_uses.iter_mut().rev().take_while(|one| one.line == 0) {
            (of_rule.file, of_rule.line) = (rule.origin.file.clone(), rule.origin.line);
        }
        self.header.needs |= needs(&self.pool, &compiled);
        if let Target::Mangle(mangle) = &rule.spec.target {
            self.header.needs |= mangling(mangle, table);
        }
        compiled.target = code as u8;
        compiled.argument = argument;
        compiled.mask = mask;
        if matches!(code, Code::Log | Code::Set) {
            compiled.flags |= flag::PER_PACKET;
        }
        if compiled.fits_plain_segments() == Some(false) {
            compiled.flags &= !flag::PER_PACKET;
        }
        if code == Code::Proxy {
            self.header.has_proxy = 1;
        }
        compiled
    }

    pub(super) fn finish(mut self) -> Result<Compiled, Errors> {
        let limits = [
            (
                self.rules.len(),
                RULES_PER_GENERATION as usize,
                "rules (each chain counts as one more)",
            ),
            (
                self.pool.port_sets.len(),
                PORT_SETS_PER_GENERATION as usize,
                "different multiport lists",
            ),
            (
                self.pool.extras.len(),
                EXTRAS_PER_GENERATION as usize,
                "conditions with options of their own",
            ),
            (self.pool.patterns.len(), MAX_INTERFACE_PATTERNS, "different interface names"),
            (self.pool.texts.len(), PATTERNS_PER_GENERATION as usize, "different strings"),
        ];
        for (count, most, what) in limits {
            if count > most {
                let (file, line) = self.last_place();
                let problem =
                    Problem::new(format!("the rules of both families need {count} {what}"));
                let problem = problem.advise(format!("there may be {most}"));
                self.errors.push(Error::at_line(&file, line, problem));
            }
        }
        if !self.errors.is_empty() {
            return Err(Errors(self.errors));
        }
        let Pool { port_sets, extras, set_uses, patterns, texts, .. } = self.pool;
        let (rules, mut header, origins) = (self.rules, self.header, self.origins);
        header.needs |= sieve(&rules, &extras, &origins, &header);
        Ok(Compiled { rules, port_sets, extras, set_uses, texts, header, patterns, origins })
    }

    fn last_place(&self) -> (Arc<str>, u32) {
        match &self.last {
            Some(origin) => (origin.file.clone(), origin.line),
            None => ("rules".into(), 1),
        }
    }
}

/// Whether table raw may be asked before tracking: [`need::SIEVE`], [`need::SIEVE_FOR_ALL`].
fn sieve(rules: &[Rule], extras: &[Extra], origins: &[Origin], header: &RulesetHeader) -> u32 {
    const TARGETS: [Code; 6] =
        [Code::Continue, Code::Accept, Code::Drop, Code::Return, Code::Jump, Code::Goto];
    let of_raw = || rules.iter().zip(origins).filter(|(_, origin)| origin.table == TableName::Raw);
    let is_simple = |rule: &Rule| {
        let extras = extras.iter().skip(rule.extra_first.into()).take(rule.extra_count.into());
        rule.present & condition::HELPER == 0
            && TARGETS.iter().any(|target| *target as u8 == rule.target)
            && extras.into_iter().all(|extra| extra.test == Test::Set as u8)
    };
    let drops = of_raw().any(|(rule, _)| rule.target == Code::Drop as u8);
    // What brings a cookie back asks the rules about another packet first.
    if !drops || header.has_proxy != 0 || !of_raw().all(|(rule, _)| is_simple(rule)) {
        return 0;
    }
    let keeps_no_verdict = |entry: u32| match rules.get(entry as usize) {
        Some(rule) => rule.present == 0 && rule.flags & (flag::PER_PACKET | flag::ASKS_SETS) != 0,
        None => true,
    };
    match [true, false].into_iter().all(|is_v4| keeps_no_verdict(header.raw_entry(is_v4))) {
        true => need::SIEVE | need::SIEVE_FOR_ALL,
        false => need::SIEVE,
    }
}

/// What the extra conditions of a rule look at.
fn needs(pool: &Pool, rule: &Rule) -> u32 {
    let extras = pool.extras.iter().skip(rule.extra_first.into()).take(rule.extra_count.into());
    let of = |extra: &Extra| {
        let kinds = number::TCP_OPTIONS..number::CT_MARK;
        let is_of_options = kinds.contains(&extra.subject) || extra.subject == number::MSS;
        let is_number = extra.test <= Test::Any as u8;
        let of_sets = if extra.test == Test::Set as u8 { need::SETS } else { 0 };
        let clock = if extra.test == Test::Time as u8 { need::CLOCK } else { 0 };
        let window = if extra.test == Test::Text as u8 { need::WINDOW } else { 0 };
        need::FACTS
            | clock
            | window
            | of_sets
            | if is_number && is_of_options { need::TCP_OPTIONS } else { 0 }
            | if is_number && extra.subject == number::GROUP { need::GROUP } else { 0 }
    };
    extras.fold(0, |needs, extra| needs | of(extra))
}

/// What a target that changes packets looks at. Table filter comes behind routing.
fn mangling(mangle: &Mangle, table: TableName) -> u32 {
    let mut needs = need::FACTS | need::MANGLING;
    if mangle.changes_way() && table != TableName::Filter {
        needs |= need::REROUTING;
    }
    match mangle {
        Mangle::SegmentSize(SegmentSize::Clamp) => needs | need::TCP_OPTIONS | need::PATH_MTU,
        Mangle::SegmentSize(_) => needs | need::TCP_OPTIONS,
        _ => needs,
    }
}

fn family_index(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}

/// An index or count; what does not fit is refused by [`Layout::finish`].
fn index(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(NO_ENTRY)
}

/// Whether walking a chain would do nothing. The filter table is always
/// walked, as its policies count.
fn is_idle(table: TableName, chain: &Chain) -> bool {
    chain.policy.is_none() || is_idle_entry(table, chain)
}

fn is_idle_entry(table: TableName, chain: &Chain) -> bool {
    let accepts = chain.policy.is_some_and(|policy| policy.verdict == Verdict::Accept);
    table != TableName::Filter && chain.rules.is_empty() && accepts
}

fn hook(table: TableName, chain: &str) -> Option<Hook> {
    match (table, chain) {
        (TableName::Filter, "INPUT") => Some(Hook::Input),
        (TableName::Filter, "FORWARD") => Some(Hook::Forward),
        (TableName::Filter, "OUTPUT") => Some(Hook::Output),
        (TableName::Raw, "PREROUTING") => Some(Hook::RawPrerouting),
        (TableName::Raw, "OUTPUT") => Some(Hook::RawOutput),
        (TableName::Mangle, "PREROUTING") => Some(Hook::ManglePrerouting),
        (TableName::Mangle, "INPUT") => Some(Hook::MangleInput),
        (TableName::Mangle, "FORWARD") => Some(Hook::MangleForward),
        (TableName::Mangle, "OUTPUT") => Some(Hook::MangleOutput),
        (TableName::Mangle, "POSTROUTING") => Some(Hook::ManglePostrouting),
        (TableName::Nat, "PREROUTING") => Some(Hook::NatPrerouting),
        (TableName::Nat, "INPUT") => Some(Hook::NatInput),
        (TableName::Nat, "OUTPUT") => Some(Hook::NatOutput),
        (TableName::Nat, "POSTROUTING") => Some(Hook::NatPostrouting),
        _ => None,
    }
}

/// The last rule of a chain: its policy, or the way back.
fn end(policy: Option<Policy>) -> (Rule, Part) {
    let (target, flags, part) = match policy.map(|policy| policy.verdict) {
        Some(Verdict::Accept) => (Code::Accept, flag::POLICY, Part::Policy),
        Some(Verdict::Drop) => (Code::Drop, flag::POLICY, Part::Policy),
        None => (Code::Return, flag::CHAIN_END, Part::End),
    };
    (Rule { target: target as u8, flags, ..Rule::default() }, part)
}

/// What a rule does, in the words of [`Rule`].
struct Action {
    code: Code,
    argument: u32,
    mask: u32,
}

impl Action {
    const fn new(code: Code, argument: u32) -> Self {
        Self { code, argument, mask: 0 }
    }
}

/// The target and its arguments.
fn target(target: &Target, starts: &HashMap<&str, u32>) -> Action {
    let start = |chain: &String| starts.get(chain.as_str()).copied().unwrap_or(NO_ENTRY);
    match target {
        Target::Continue => Action::new(Code::Continue, 0),
        Target::Accept => Action::new(Code::Accept, 0),
        Target::Drop => Action::new(Code::Drop, 0),
        Target::Return => Action::new(Code::Return, 0),
        Target::Reject(kind) => Action::new(Code::Reject, *kind as u32),
        Target::Log(_) | Target::Nflog(_) => Action::new(Code::Log, 0),
        Target::Helper(helper) => Action::new(Code::Helper, u32::from(*helper)),
        Target::Untrack(_) => Action::new(Code::Untrack, 0),
        Target::Proxy(offer) => Action::new(Code::Proxy, offer.pack()),
        Target::Mangle(mangle) => change(mangle),
        // The extras that say more are not there yet.
        Target::Nat(_) => Action::new(Code::Translate, 0),
        Target::Set(_) => Action::new(Code::Set, 0),
        Target::Jump(chain) => Action::new(Code::Jump, start(chain)),
        Target::Goto(chain) => Action::new(Code::Goto, start(chain)),
    }
}

fn change(mangle: &Mangle) -> Action {
    let masked = |code, Masked { value, mask }| Action { code, argument: value, mask };
    let both =
        |code, Masks { packet, connection }| Action { code, argument: packet, mask: connection };
    match *mangle {
        Mangle::Mark(mark) => masked(Code::Mark, mark),
        Mangle::CtMark(CtMark::Set(mark)) => masked(Code::SetCtMark, mark),
        Mangle::CtMark(CtMark::Save(masks)) => both(Code::SaveMark, masks),
        Mangle::CtMark(CtMark::Restore(masks)) => both(Code::RestoreMark, masks),
        Mangle::Dscp(dscp) => masked(Code::Tos, Masked { value: u32::from(dscp) << 2, mask: 0xfc }),
        Mangle::Tos(tos) => masked(Code::Tos, tos),
        Mangle::Ttl(how) | Mangle::HopLimit(how) => {
            let (mask, count) = match how {
                Hops::Set(count) => (hops::SET, count),
                Hops::Add(count) => (hops::ADD, count),
                Hops::Subtract(count) => (hops::SUBTRACT, count),
            };
            Action { code: Code::Hops, argument: count.into(), mask }
        }
        Mangle::SegmentSize(SegmentSize::Set(size)) => Action::new(Code::Mss, size.into()),
        Mangle::SegmentSize(SegmentSize::Clamp) => Action::new(Code::Mss, CLAMP),
    }
}
