//! The listing of `iptables -L`.

use std::fmt::Write;

use firewall_common::{addr::Family, rule::Counter};

use super::{
    columns::{Remarks, short_number},
    spec::listed_address,
};
use crate::rules::{
    ast::{
        Chain, Condition, Counters, Network, Place, RuleSpec, Ruleset, Table, TableName, Target,
        TransportProtocol,
    },
    interface::InterfacePattern,
    names,
    services::Services,
};

/// What a listing shows.
#[derive(Clone, Copy, Debug)]
pub struct ListOptions<'a> {
    pub table: TableName,
    /// This chain only.
    pub chain: Option<&'a str>,
    /// `-v`: counters and interfaces.
    pub verbose: bool,
    /// `-x`: counters to the last digit.
    pub exact: bool,
    /// `--line-numbers`
    pub line_numbers: bool,
    /// Names instead of numbers; `None` is `-n`.
    pub names: Option<&'a dyn Services>,
}

impl Default for ListOptions<'_> {
    /// `iptables -L -n`
    fn default() -> Self {
        Self {
            table: TableName::Filter,
            chain: None,
            verbose: false,
            exact: false,
            line_numbers: false,
            names: None,
        }
    }
}

/// Lists a table as `iptables -L` does; empty when it is not there.
pub fn list(ruleset: &Ruleset, counters: Counters<'_>, options: &ListOptions<'_>) -> String {
    let Some(table) = ruleset.table(options.table) else { return String::new() };
    let listing = Listing { family: ruleset.family, table, counters, options };
    let is_wanted = |chain: &&Chain| options.chain.is_none_or(|name| name == chain.name);
    let chains = table.chains.iter().filter(is_wanted).map(|chain| listing.chain(chain));
    chains.collect::<Vec<_>>().join("\n")
}

struct Listing<'a> {
    family: Family,
    table: &'a Table,
    counters: Counters<'a>,
    options: &'a ListOptions<'a>,
}

impl Listing<'_> {
    fn chain(&self, chain: &Chain) -> String {
        let mut out = self.title(chain);
        self.header(&mut out);
        for (rule, number) in chain.rules.iter().zip(1..) {
            let counter = self.counter(chain, Some(number));
            self.rule(&mut out, number, counter, &rule.spec);
        }
        out
    }

    fn counter(&self, chain: &Chain, number: Option<u32>) -> Counter {
        (self.counters)(Place { table: self.table.name, chain: &chain.name, number })
    }

    fn title(&self, chain: &Chain) -> String {
        let name = &chain.name;
        let Some(policy) = chain.policy else {
            return format!("Chain {name} ({} references)\n", self.table.references(name));
        };
        let policy = policy.verdict.name();
        if !self.options.verbose {
            return format!("Chain {name} (policy {policy})\n");
        }
        let Counter { packets, bytes } = self.counter(chain, None);
        let (packets, bytes) = (self.number(packets), self.number(bytes));
        let (packets, bytes) = (packets.trim_start(), bytes.trim_start());
        format!("Chain {name} (policy {policy} {packets} packets, {bytes} bytes)\n")
    }

    /// A counter, padded to its column.
    fn number(&self, number: u64) -> String {
        if self.options.exact { format!("{number:>8}") } else { short_number(number) }
    }

    fn header(&self, out: &mut String) {
        if self.options.line_numbers {
            out.push_str("num  ");
        }
        if self.options.verbose {
            out.push_str(if self.options.exact { "    pkts      bytes " } else { " pkts bytes " });
        }
        out.push_str("target     prot opt");
        if self.options.verbose {
            out.push_str(" in     out    ");
        }
        out.push_str(" source               destination         \n");
    }

    fn rule(&self, out: &mut String, number: u32, counter: Counter, spec: &RuleSpec) {
        if self.options.line_numbers {
            let _ = write!(out, "{number:<4} ");
        }
        if self.options.verbose {
            let (packets, bytes) = (self.number(counter.packets), self.number(counter.bytes));
            let _ = write!(out, "{packets} {bytes} ");
        }
        let _ = write!(out, "{:<9} {}", spec.target.name(), self.protocol(spec));
        out.push_str(match spec.fragments {
            None => "-- ",
            Some(Condition { negated: false, .. }) => "-f ",
            Some(Condition { negated: true, .. }) => "!f ",
        });
        if self.options.verbose {
            let input = self.interface(spec.input.as_ref());
            let output = self.interface(spec.output.as_ref());
            let _ = write!(out, " {input:<6} {output:<6} ");
        }
        let (src, dst) = (self.network(spec.src), self.network(spec.dst));
        let _ = write!(out, "{src:<20} {dst:<20} ");
        out.push_str(if matches!(spec.target, Target::Goto(_)) { "[goto] " } else { "" });
        out.push_str(&self.remarks(spec));
        out.push('\n');
    }

    fn protocol(&self, spec: &RuleSpec) -> String {
        let (negated, number) = match spec.protocol {
            Some(Condition { negated, value }) => (negated, value),
            None => (false, 0),
        };
        let name = match (self.options.names, number) {
            (None, _) => None,
            (Some(_), 0) => Some("all"),
            (Some(_), _) => names::protocol_name(number),
        };
        let not = if negated { '!' } else { ' ' };
        match name {
            Some(name) => format!("{not}{name:<4} "),
            None => format!("{not}{number:<4} "),
        }
    }

    fn interface(&self, pattern: Option<&Condition<InterfacePattern>>) -> String {
        match pattern {
            Some(Condition { negated, value }) => {
                format!("{}{value}", if *negated { "!" } else { "" })
            }
            None if self.options.names.is_some() => "any".to_owned(),
            None => "*".to_owned(),
        }
    }

    /// With the mark of negation, or a blank in its place.
    fn network(&self, network: Option<Condition<Network>>) -> String {
        match (network, self.options.names, self.family) {
            (Some(Condition { negated, value }), ..) => {
                format!("{}{}", if negated { '!' } else { ' ' }, listed_address(&value))
            }
            (None, Some(_), _) => " anywhere".to_owned(),
            (None, None, Family::Ipv4) => " 0.0.0.0/0".to_owned(),
            (None, None, Family::Ipv6) => " ::/0".to_owned(),
        }
    }

    fn remarks(&self, spec: &RuleSpec) -> String {
        let known = spec.protocol.and_then(|protocol| TransportProtocol::of(protocol.value));
        // Without one no port is listed.
        let protocol = known.unwrap_or(TransportProtocol::Tcp);
        let (family, options) = (self.family, self.options);
        let mut remarks = Remarks { out: String::new(), family, options, protocol };
        spec.matches.iter().for_each(|one| remarks.one_match(one));
        remarks.target(&spec.target);
        remarks.out
    }
}
