//! Options of one line to the rules that they mean: one, or several when
//! `-s` or `-d` hold a list.

use std::fmt;

use firewall_common::{addr::Family, flow::protocol, rule::Counter, wire::tcp_flag::SYN};

use super::{
    Context, address,
    extras::{Field, RecentField, TextField},
    items::Item,
    mangle,
    matches::{Matches, Protocol},
    nat,
    options::Opt,
    targets::Reading,
    values::{self, Parsed},
};
use crate::rules::{
    ast::{Condition, Match, Network, RuleSpec, TableName, Target},
    interface::InterfacePattern,
    mangle::{Mangle, SegmentSize},
    problem::Problem,
    source::Span,
};

/// What a line says, less its command.
pub(super) struct Written {
    pub(super) specs: Vec<RuleSpec>,
    pub(super) counter: Counter,
    /// The name after `-j` or `-g`.
    pub(super) target: Span,
}

/// Reads the options of a rule for this chain; what is wrong is reported.
pub(super) fn read(
    context: &mut Context<'_, '_>,
    table: TableName,
    chain: &str,
    items: &[Item],
) -> Written {
    let protocol = protocol(context, items);
    let known = match protocol {
        Err(()) => Protocol::Wrong,
        Ok(None) => Protocol::Any,
        Ok(Some(Condition { negated: true, .. })) => Protocol::Not,
        Ok(Some(Condition { value, .. })) => Protocol::Only(value),
    };
    let mut reader = Reader {
        matches: Matches::new(known),
        target: Reading::default(),
        src: None,
        dst: None,
        input: None,
        output: None,
        fragments: None,
        counter: Counter::default(),
        jumps_to_ct: items.iter().any(|item| item.opt == Opt::Jump && item.arg() == "CT"),
        to: To::Nobody,
        chain,
    };
    for item in items {
        reader.item(context, item);
    }
    reader.finish(context, table, known, protocol.ok().flatten())
}

/// The rule's `-p`, which may stand behind the options that depend on it.
fn protocol(context: &mut Context<'_, '_>, items: &[Item]) -> Result<Option<Condition<u8>>, ()> {
    let mut given = items.iter().filter(|item| item.opt == Opt::Protocol);
    let Some(item) = given.next() else { return Ok(None) };
    if let Some(second) = given.next() {
        context.report.add(second.whole_span(), twice(second));
    }
    match values::protocol(&item.args[0]) {
        Ok(Some(value)) => Ok(Some(Condition { negated: item.negated, value })),
        Ok(None) if item.negated => {
            let problem = Problem::new("this rule could never match").advise("take out the '!'");
            context.report.add(item.whole_span(), problem);
            Err(())
        }
        Ok(None) => Ok(None),
        Err((span, problem)) => {
            context.report.add(span, problem);
            Err(())
        }
    }
}

fn twice(item: &Item) -> Problem {
    Problem::new(format!("{} is given twice", item.name)).advise("write one of them")
}

struct Reader<'i> {
    matches: Matches,
    target: Reading,
    src: Option<Condition<Vec<Network>>>,
    dst: Option<Condition<Vec<Network>>>,
    input: Option<Condition<InterfacePattern>>,
    output: Option<Condition<InterfacePattern>>,
    fragments: Option<Condition<()>>,
    counter: Counter,
    jumps_to_ct: bool,
    /// Whose `--to` is.
    to: To,
    chain: &'i str,
}

/// Who has an option `--to`: NETMAP and `-m string`, of which the later counts, and a target
/// of which another option begins so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Nobody,
    Text,
    Target,
}

impl To {
    /// Behind `-m NAME` or `-j NAME`.
    fn behind(self, item: &Item) -> Self {
        match (item.opt, item.arg()) {
            (Opt::Match, "string") => Self::Text,
            (Opt::Jump, "NETMAP") => Self::Target,
            (Opt::Jump, "SNAT" | "DNAT" | "MASQUERADE" | "REDIRECT") if self == Self::Nobody => {
                Self::Target
            }
            _ => self,
        }
    }
}

impl Reader<'_> {
    fn item(&mut self, context: &mut Context<'_, '_>, item: &Item) {
        self.to = self.to.behind(item);
        let result = match item.opt {
            Opt::Source => {
                networks(context, item).and_then(|value| put(&mut self.src, item, value))
            }
            Opt::Destination => {
                networks(context, item).and_then(|value| put(&mut self.dst, item, value))
            }
            Opt::Input => self.interface(item).and_then(|value| put(&mut self.input, item, value)),
            Opt::Output => {
                self.interface(item).and_then(|value| put(&mut self.output, item, value))
            }
            Opt::Counters => counters(item).map(|counter| self.counter = counter),
            Opt::Match => {
                self.matches.name(context, item);
                Ok(())
            }
            Opt::Jump | Opt::Goto => {
                self.target.jump(context, item);
                Ok(())
            }
            Opt::Fragment => self.fragment(context.family, item),
            Opt::Mss if self.matches.wants_mss() && !self.target.is("SYNPROXY") => {
                self.matches.option(context, item);
                Ok(())
            }
            Opt::Extra(Field::Recent(RecentField::Mask)) if self.target.is("CONNMARK") => {
                let opt = Opt::Mangle(mangle::Field::BothMasks);
                self.target.option(context, &Item { opt, ..item.clone() });
                Ok(())
            }
            Opt::Extra(Field::Text(TextField::To)) if self.to == To::Target => {
                let opt = Opt::Nat(nat::Field::To);
                self.target.option(context, &Item { opt, ..item.clone() });
                Ok(())
            }
            Opt::RejectWith
            | Opt::LogPrefix
            | Opt::LogLevel
            | Opt::Log(_)
            | Opt::Nflog(_)
            | Opt::NoTrack
            | Opt::Mss
            | Opt::Wscale
            | Opt::Mangle(_)
            | Opt::Nat(_)
            | Opt::Offer(_)
            | Opt::SetTarget(_) => {
                self.target.option(context, item);
                Ok(())
            }
            Opt::Helper if self.jumps_to_ct && !self.matches.wants_helper() => {
                self.target.option(context, item);
                Ok(())
            }
            _ => {
                self.matches.option(context, item);
                Ok(())
            }
        };
        if let Err((span, problem)) = result {
            context.report.add(span, problem);
        }
    }

    /// INPUT and PREROUTING have no outgoing interface, OUTPUT no incoming one.
    fn interface(&self, item: &Item) -> Parsed<InterfacePattern> {
        let (is_absent, other) = match item.opt {
            Opt::Input => (matches!(self.chain, "OUTPUT" | "POSTROUTING"), "-o"),
            _ => (matches!(self.chain, "INPUT" | "PREROUTING"), "-i"),
        };
        if is_absent {
            let problem = Problem::new(format!("{} does not work in {}", item.name, self.chain));
            return Err((item.whole_span(), problem.advise(format!("use {other}"))));
        }
        values::interface(&item.args[0])
    }

    fn fragment(&mut self, family: Family, item: &Item) -> Parsed<()> {
        if family == Family::Ipv6 {
            let problem = Problem::new(format!("{} in IPv6 rules", item.name));
            return Err((item.span, problem.advise("take it out: fragments are joined before")));
        }
        put(&mut self.fragments, item, ())
    }

    fn finish(
        self,
        context: &mut Context<'_, '_>,
        table: TableName,
        known: Protocol,
        protocol: Option<Condition<u8>>,
    ) -> Written {
        let (span, counter) = (self.target.span(), self.counter);
        let target = self.target.finish(context, table, known);
        let any =
            |pattern: &Condition<InterfacePattern>| pattern.value.is_any() && !pattern.negated;
        let spec = RuleSpec {
            src: None,
            dst: None,
            input: self.input.filter(|input| !any(input)),
            output: self.output.filter(|output| !any(output)),
            protocol,
            fragments: self.fragments,
            matches: self.matches.finish(context, self.chain),
            target,
        };
        if let Some(problem) = without_syn(&spec, self.chain) {
            context.report.add(span, problem);
        }
        let specs = alternatives(self.src)
            .iter()
            .flat_map(|src| alternatives(self.dst.clone()).into_iter().map(move |dst| (*src, dst)))
            .map(|(src, dst)| RuleSpec { src, dst, ..spec.clone() })
            .collect();
        Written { specs, counter, target: span }
    }
}

/// TCPMSS changes SYNs, and a rule for it says so, as iptables wants it; it clamps where the
/// way is known.
fn without_syn(spec: &RuleSpec, chain: &str) -> Option<Problem> {
    let Target::Mangle(Mangle::SegmentSize(how)) = spec.target else { return None };
    if how == SegmentSize::Clamp && matches!(chain, "PREROUTING" | "INPUT") {
        let problem = Problem::new(format!("--clamp-mss-to-pmtu does not work in {chain}"));
        return Some(problem.advise("put the rule into FORWARD, OUTPUT or POSTROUTING"));
    }
    let wants_syn = |one: &Match| {
        let Match::Transport(transport) = one else { return false };
        let flags = transport.flags.filter(|flags| !flags.negated);
        flags.is_some_and(|flags| flags.value.compare & SYN != 0)
    };
    let is_tcp = spec.protocol == Some(Condition { negated: false, value: protocol::TCP });
    (is_tcp && !spec.matches.iter().any(wants_syn)).then(|| {
        Problem::new("TCPMSS changes SYNs only")
            .advise("add --syn, or --tcp-flags SYN,RST SYN, to the rule")
    })
}

/// One condition for each network of the list; none when any address fits.
fn alternatives(list: Option<Condition<Vec<Network>>>) -> Vec<Option<Condition<Network>>> {
    let Some(Condition { negated, value }) = list else { return vec![None] };
    let one = |network: Network| {
        (negated || !network.is_any()).then_some(Condition { negated, value: network })
    };
    value.into_iter().map(one).collect()
}

fn put<T: fmt::Debug>(slot: &mut Option<Condition<T>>, item: &Item, value: T) -> Parsed<()> {
    if slot.is_some() {
        return Err((item.whole_span(), twice(item)));
    }
    *slot = Some(Condition { negated: item.negated, value });
    Ok(())
}

fn networks(context: &Context<'_, '_>, item: &Item) -> Parsed<Vec<Network>> {
    let list = address::networks(&item.args[0], context.family, context.services)?;
    if item.negated && list.len() > 1 {
        let what = if item.arg().contains(',') { "a list" } else { "a host of several addresses" };
        let problem = Problem::new(format!("'!' cannot stand with {what} after {}", item.name));
        return Err((item.whole_span(), problem.advise("write a chain with a RETURN for each")));
    }
    if item.negated && list.iter().any(Network::is_any) {
        let problem = Problem::new("this rule could never match").advise("take out the '!'");
        return Err((item.whole_span(), problem));
    }
    Ok(list)
}

fn counters(item: &Item) -> Parsed<Counter> {
    let number = |at: usize| {
        let word = &item.args[at];
        let problem = || Problem::new(format!("'{}' is not a number", word.text));
        values::number(&word.text).ok_or_else(|| (word.span(), problem()))
    };
    Ok(Counter { packets: number(0)?, bytes: number(1)? })
}
