//! Compiled rulesets made up from a seed, and packets that meet them: of any shape, and
//! long ones of some shapes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::Zeroable;
use firewall_common::{
    addr::{Addr, Family},
    flow::Tuple,
    headers::Headers,
    rule::{Chain, PortRange, PortSet, PortSide, Rule, RulesetHeader, Target, condition, flag},
};

/// A filter chain, after the raw chain before it.
pub(super) const HOOKS: [[Chain; 2]; 3] = [
    [Chain::RawPrerouting, Chain::Input],
    [Chain::RawPrerouting, Chain::Forward],
    [Chain::RawOutput, Chain::Output],
];

/// A small generator of numbers (splitmix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// Compiled rules, as the maps hold them.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) header: RulesetHeader,
    pub(super) rules: Vec<Rule>,
    pub(super) port_sets: Vec<PortSet>,
}

/// A chain's rules before they have a place; jumps name a chain by its number.
type Chains = Vec<(Option<Chain>, Vec<Rule>)>;

impl Field {
    fn empty() -> Self {
        Self { header: RulesetHeader::EMPTY, rules: Vec::new(), port_sets: Vec::new() }
    }

    /// Adds the chains of the next family.
    fn add(&mut self, family: Family, chains: Chains) {
        let number = match family {
            Family::Ipv4 => 0,
            Family::Ipv6 => 1,
        };
        if number == 1 {
            self.header.ipv6_from = self.rules.len() as u32;
        }
        let mut starts = vec![self.rules.len() as u32];
        for (_, rules) in &chains {
            starts.push(starts[starts.len() - 1] + rules.len() as u32 + 1);
        }
        for (at, (hook, rules)) in chains.into_iter().enumerate() {
            let chain_end = starts[at + 1] - 1;
            if let Some(hook) = hook {
                self.header.entries[number][hook as usize] = starts[at];
            }
            for mut rule in rules {
                if rule.target == Target::Jump as u8 || rule.target == Target::Goto as u8 {
                    rule.argument = starts[rule.argument as usize];
                }
                self.rules.push(Rule { chain_end, ..rule });
            }
            let end = match hook {
                Some(_) => Rule { target: Target::Drop as u8, flags: flag::POLICY, ..zero() },
                None => Rule { target: Target::Return as u8, flags: flag::CHAIN_END, ..zero() },
            };
            self.rules.push(Rule { chain_end, ..end });
        }
    }

    /// Rules of all kinds for both families, in chains that jump to one another.
    pub(super) fn some(random: &mut Random) -> Self {
        let mut field = Self::empty();
        for family in [Family::Ipv4, Family::Ipv6] {
            let has_raw = random.once_in(2);
            let users = random.below(4);
            let raw = [Chain::RawPrerouting, Chain::RawOutput];
            let hooks = [Chain::Input, Chain::Forward, Chain::Output];
            let hooks: Vec<_> = raw.iter().filter(|_| has_raw).chain(&hooks).copied().collect();
            let all = hooks.len() + users;
            let longest = random.of(&[5, 60, 150]);
            let chains = (0..all).map(|at| {
                let later = (at + 1).max(hooks.len())..all;
                let count = random.below(longest);
                let rules = (0..count).map(|_| field.rule(family, random, &later)).collect();
                (hooks.get(at).copied(), rules)
            });
            let chains = chains.collect();
            field.add(family, chains);
        }
        field
    }

    /// A rule for each of so many sources and ports.
    pub(super) fn distinct(version: u8, count: u16) -> Self {
        let rule = |number: u16| {
            let source = match version {
                4 => Network::v4(0x0a00_0000 | u32::from(number) << 8, 24),
                _ => Network::v6(0x2001_0db8 << 96 | u128::from(number) << 80, 48),
            };
            let port = number.wrapping_add(1_024);
            of_source_and_port(source, port)
        };
        Self::forwarding(version, (0..count).map(rule).collect())
    }

    /// A rule for each pair of a source and a port.
    pub(super) fn grid(sources: u16, ports: u16) -> Self {
        let pairs = (0..sources).flat_map(|source| (0..ports).map(move |port| (source, port)));
        let rule = |(source, port): (u16, u16)| {
            of_source_and_port(Network::v4(0x0a00_0000 | u32::from(source), 32), 1_024 + port)
        };
        Self::forwarding(4, pairs.map(rule).collect())
    }

    /// Each source network within the one before, or nearly so.
    pub(super) fn nested(count: u16) -> Self {
        let rule = |number: u16| Rule {
            present: condition::SRC,
            target: Target::Continue as u8,
            ..Network::v4(0x0a00_0000 | u32::from(number) << 6, (number % 30) as u8).as_source()
        };
        Self::forwarding(4, (0..count).map(rule).collect())
    }

    /// A rule for each of so many sources and for fifteen ports that no two rules share.
    pub(super) fn scattered(count: u16) -> Self {
        let mut port_sets = Vec::new();
        let rule = |number: u16| {
            let mut set_of = PortSet::zeroed();
            for (at, range) in set_of.ranges.iter_mut().enumerate() {
                let port = (usize::from(number) * 15 + at) as u16;
                *range = PortRange { first: port << 1, last: port << 1 };
            }
            set_of.side = PortSide::Destination as u8;
            port_sets.push(set_of);
            Rule {
                present: condition::SRC | condition::PROTOCOL | condition::PORTS_0,
                protocol: PROTOCOLS[usize::from(number) % PROTOCOLS.len()],
                port_sets: [number, 0],
                ..Network::v4(0x0a00_0000 | u32::from(number) << 8, 24).as_source()
            }
        };
        let rules = (0..count).map(rule).collect();
        Self { port_sets, ..Self::forwarding(4, rules) }
    }

    fn forwarding(version: u8, rules: Vec<Rule>) -> Self {
        let mut field = Self::empty();
        let chains = |rules| {
            vec![
                (Some(Chain::Input), Vec::new()),
                (Some(Chain::Forward), rules),
                (Some(Chain::Output), Vec::new()),
            ]
        };
        let (v4, v6) = if version == 4 { (rules, Vec::new()) } else { (Vec::new(), rules) };
        field.add(Family::Ipv4, chains(v4));
        field.add(Family::Ipv6, chains(v6));
        field
    }

    /// A rule of a chain that can jump to `later` ones.
    fn rule(
        &mut self,
        family: Family,
        random: &mut Random,
        later: &std::ops::Range<usize>,
    ) -> Rule {
        let mut rule = zero();
        if random.once_in(2) {
            let network = Network::some(family, random);
            (rule.src, rule.src_mask) = (network.prefix, network.mask);
            set(&mut rule, condition::SRC, random.once_in(6));
        }
        if random.once_in(3) {
            let network = Network::some(family, random);
            (rule.dst, rule.dst_mask) = (network.prefix, network.mask);
            set(&mut rule, condition::DST, random.once_in(6));
        }
        if random.once_in(2) {
            self.ports(&mut rule, random);
        }
        if random.once_in(6) {
            (rule.in_pattern, rule.out_pattern) = (random.below(3) as u8, random.below(3) as u8);
            set(&mut rule, random.of(&[condition::IN, condition::OUT]), random.once_in(2));
        }
        if random.once_in(6) {
            rule.states = random.of(&[1, 2, 3, 6, 12]);
            set(&mut rule, condition::STATES, false);
        }
        if random.once_in(8) {
            (rule.tcp_mask, rule.tcp_flags) = random.of(&[(0x17, 0x02), (0x18, 0x10)]);
            set(&mut rule, condition::TCP_FLAGS, random.once_in(2));
            if rule.fits_plain_segments().is_none() {
                rule.flags = flag::PER_PACKET;
            }
        }
        let plain = [Target::Continue, Target::Continue, Target::Continue, Target::Return];
        let deciding = [Target::Accept, Target::Drop, Target::Reject, Target::Untrack];
        let target = match random.below(16) {
            0 if !later.is_empty() => random.of(&[Target::Jump, Target::Jump, Target::Goto]),
            1 => random.of(&deciding),
            2 | 3 => Target::Log,
            4 => Target::Helper,
            _ => random.of(&plain),
        };
        rule.target = target as u8;
        rule.argument = match target {
            Target::Jump | Target::Goto => (later.start + random.below(later.len())) as u32,
            _ => random.below(3) as u32,
        };
        rule
    }

    fn ports(&mut self, rule: &mut Rule, random: &mut Random) {
        if !random.once_in(10) {
            rule.protocol = random.of(&PROTOCOLS);
            set(rule, condition::PROTOCOL, random.once_in(6));
        }
        if random.once_in(2) {
            rule.dport = some_ports(random);
            set(rule, condition::DPORT, random.once_in(5));
        }
        if random.once_in(4) {
            rule.sport = some_ports(random);
            set(rule, condition::SPORT, random.once_in(5));
        }
        for (place, bit) in [(0, condition::PORTS_0), (1, condition::PORTS_1)] {
            if random.once_in(5) {
                let mut set_of = PortSet::zeroed();
                set_of.ranges.fill(PortRange::NONE);
                let count = 1 + random.below(5);
                set_of.ranges[..count].fill_with(|| some_ports(random));
                set_of.side = random.below(3) as u8;
                rule.port_sets[place] = self.port_sets.len() as u16;
                self.port_sets.push(set_of);
                set(rule, bit, random.once_in(5));
            }
        }
    }

    /// A packet that looks like what some rule wants, more or less.
    pub(super) fn packet(&self, random: &mut Random) -> Headers {
        let is_v6 = match self.header.ipv6_from as usize {
            from if from * 4 < self.rules.len() => true,
            from if from * 4 > self.rules.len() * 3 => false,
            _ => random.once_in(2),
        };
        let from = self.header.ipv6_from as usize;
        let rules = if is_v6 { &self.rules[from..] } else { &self.rules[..from] };
        let (one, other) = (rules[random.below(rules.len())], rules[random.below(rules.len())]);
        let wanted = if random.once_in(3) { other } else { one };
        let family = if is_v6 { Family::Ipv6 } else { Family::Ipv4 };
        let near = |port: u16, random: &mut Random| match random.below(4) {
            0 => port.wrapping_add(1),
            1 => port.wrapping_sub(1),
            _ => port,
        };
        let ports = some_ports(random);
        let dport = random.of(&[wanted.dport.first, wanted.dport.last, ports.first]);
        let sport = random.of(&[wanted.sport.first, wanted.sport.last, ports.last]);
        let tuple = Tuple {
            src: within(family, one.src, one.src_mask, random),
            dst: within(family, wanted.dst, wanted.dst_mask, random),
            sport: near(sport, random),
            dport: near(dport, random),
            protocol: if random.once_in(4) { random.of(&PROTOCOLS) } else { wanted.protocol },
            ..Tuple::default()
        };
        Headers {
            tuple,
            version: if is_v6 { 6 } else { 4 },
            ip_len: 60,
            tcp_flags: random.of(&[0x02, 0x10]),
            ..Headers::default()
        }
    }
}

const PROTOCOLS: [u8; 5] = [6, 6, 17, 1, 255];

fn zero() -> Rule {
    Rule::default()
}

fn set(rule: &mut Rule, bit: u32, is_negated: bool) {
    rule.present |= bit;
    if is_negated {
        rule.invert |= bit;
    }
}

fn of_source_and_port(source: Network, port: u16) -> Rule {
    Rule {
        present: condition::SRC | condition::PROTOCOL | condition::DPORT,
        protocol: 6,
        dport: PortRange { first: port, last: port },
        target: Target::Accept as u8,
        ..source.as_source()
    }
}

fn some_ports(random: &mut Random) -> PortRange {
    let first: u16 = random.of(&[0, 1, 22, 80, 443, 1_024, 40_000, 65_535]);
    let last = first.saturating_add(random.of(&[0, 0, 0, 1, 20, 30_000, u16::MAX]));
    PortRange { first, last }
}

/// A prefix under a mask.
#[derive(Clone, Copy)]
struct Network {
    prefix: Addr,
    mask: Addr,
}

impl Network {
    fn v4(bits: u32, length: u8) -> Self {
        Self::of(Family::Ipv4, Ipv4Addr::from(bits).into(), length)
    }

    fn v6(bits: u128, length: u8) -> Self {
        Self::of(Family::Ipv6, Ipv6Addr::from(bits).into(), length)
    }

    fn of(family: Family, address: IpAddr, length: u8) -> Self {
        let mask = Addr::mask(family, length);
        Self { prefix: Addr::from(address).and(mask), mask }
    }

    /// One of some that lie within one another, now and then with a hole in its mask.
    fn some(family: Family, random: &mut Random) -> Self {
        let bits = (random.next() & random.next()) as u32 & 0x0003_0f0f;
        let mut network = match family {
            Family::Ipv4 => {
                let length = random.of(&[0, 8, 15, 16, 20, 24, 24, 31, 32, 32, 32]);
                Self::v4(random.of(&[0x0a00_0000, 0xc0a8_0000, 0xff00_0000]) | bits, length)
            }
            Family::Ipv6 => {
                let bits = u128::from(bits);
                let length = random.of(&[0, 7, 32, 48, 64, 64, 96, 100, 127, 128, 128]);
                let high: u128 = random.of(&[0x2001_0db8, 0xfe80_0000, 0]);
                Self::v6(high << 96 | bits << 72 | bits, length)
            }
        };
        if random.once_in(12) {
            network.mask.words[3] &= u32::from_ne_bytes([255, 0, 255, 255]);
            network.prefix = network.prefix.and(network.mask);
        }
        network
    }

    fn as_source(self) -> Rule {
        Rule { src: self.prefix, src_mask: self.mask, ..zero() }
    }
}

/// An address of the network, its neighbour, or one of no network.
fn within(family: Family, prefix: Addr, mask: Addr, random: &mut Random) -> Addr {
    if mask == Addr::ANY || random.once_in(8) {
        let network = Network::some(family, random);
        return within_network(network.prefix, network.mask, random);
    }
    within_network(prefix, mask, random)
}

fn within_network(prefix: Addr, mask: Addr, random: &mut Random) -> Addr {
    let fill = random.of(&[0, u32::MAX, random.0 as u32]);
    let mut address = prefix;
    for (word, mask) in address.words.iter_mut().zip(mask.words) {
        *word |= fill & !mask;
    }
    let is_v4 = address.family() == Family::Ipv4;
    match random.below(6) {
        0 => address.words[3] = u32::from_be(address.words[3]).wrapping_add(1).to_be(),
        1 => address.words[3] = u32::from_be(address.words[3]).wrapping_sub(1).to_be(),
        2 if !is_v4 => address.words[1] ^= 1,
        _ => {}
    }
    address
}
