//! `-m` and the options of matches.
//!
//! A match stands in the rule where it was first spoken of; `--dport` alone
//! brings in `-m tcp`, `-m udp` or `-m sctp` by the rule's protocol, as iptables does.

use firewall_common::{
    addr::Family,
    rule::{PortRange, PortSide},
};

use super::{
    Context,
    extras::{self, Field},
    items::Item,
    later,
    options::Opt,
    pending::{self, Counts, Kind, Pending, Value, missing},
    ports::Ports,
    sets,
    values::{self, Parsed},
};
use crate::rules::{
    ast::{Condition, Match, Multiport, State, StateForm, TcpFlags, Transport, TransportProtocol},
    extra::{Extra, ExtraKind, Fact},
    names,
    problem::{Problem, nearest},
    source::Span,
};

/// What is known of the rule's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// No `-p`, or `-p all`.
    Any,
    Only(u8),
    Not,
    /// Reported already.
    Wrong,
}

pub(super) struct Matches {
    protocol: Protocol,
    pending: Vec<Pending>,
    /// A match was refused that may have been misspelt: which, is not known.
    has_unknown: bool,
}

impl Matches {
    pub(super) const fn new(protocol: Protocol) -> Self {
        Self { protocol, pending: Vec::new(), has_unknown: false }
    }

    /// `-m NAME`.
    pub(super) fn name(&mut self, context: &mut Context<'_, '_>, item: &Item) {
        let name = item.arg();
        let Some(kind) = pending::named(name) else {
            let unknown = || {
                Problem::new(format!("unknown match '{name}'"))
                    .did_you_mean(nearest(name, pending::names()))
            };
            let problem = later::match_named(name).unwrap_or_else(unknown);
            self.has_unknown = true;
            return context.report.add(item.value_span(), problem);
        };
        if let Err((span, problem)) = self.open(kind, name, item.value_span(), context.family) {
            context.report.add(span, problem);
        }
    }

    fn open(&mut self, kind: Kind, name: &str, span: Span, family: Family) -> Parsed<()> {
        let value = match kind {
            Kind::Transport => {
                let protocol = self.transport(span, &format!("-m {name}"))?;
                if protocol.name() != name {
                    let problem = Problem::new(format!("-m {name} with -p {}", protocol.name()));
                    return Err((span, problem.advise(format!("write -p {name}, or take it out"))));
                }
                if self.pending.iter().any(|pending| pending.kind == Kind::Transport) {
                    return Ok(());
                }
                Value::Given(Match::Transport(Transport::new(protocol)))
            }
            Kind::Icmp => {
                self.icmp_protocol(span, &format!("-m {name}"), family)?;
                Value::Missing
            }
            Kind::Extra(kind) => {
                let is_tcp = matches!(self.protocol, Protocol::Only(6) | Protocol::Wrong);
                match extras::misplaced(kind, family, is_tcp) {
                    Some(problem) => {
                        self.has_unknown = true;
                        return Err((span, problem));
                    }
                    None => Value::Missing,
                }
            }
            _ => Value::Missing,
        };
        self.pending.push(Pending::new(kind, span, value));
        Ok(())
    }

    /// The protocol with ports that the rule speaks of.
    fn transport(&self, span: Span, what: &str) -> Parsed<TransportProtocol> {
        match self.protocol {
            Protocol::Only(protocol) => TransportProtocol::of(protocol).ok_or_else(|| {
                let name = names::protocol_name(protocol);
                let name = name.map_or(protocol.to_string(), str::to_owned);
                let problem = Problem::new(format!("{what} does not go with -p {name}"));
                (span, problem.advise("ports are read of tcp, udp, sctp and udplite"))
            }),
            Protocol::Not => Err((
                span,
                Problem::new(format!("{what} does not go with ! -p"))
                    .advise("write -p tcp or -p udp"),
            )),
            Protocol::Any => Err((
                span,
                Problem::new(format!("{what} needs a protocol"))
                    .advise("write -p tcp or -p udp before it"),
            )),
            // Either will do: the rule is refused anyway.
            Protocol::Wrong => Ok(TransportProtocol::Tcp),
        }
    }

    fn icmp_protocol(&self, span: Span, what: &str, family: Family) -> Parsed<()> {
        let wanted = names::icmp_protocol(family);
        if self.protocol == Protocol::Only(wanted) || self.protocol == Protocol::Wrong {
            return Ok(());
        }
        let name = names::protocol_name(wanted).unwrap_or_default();
        Err((
            span,
            Problem::new(format!("{what} needs -p {name}"))
                .advise(format!("write -p {name} before it")),
        ))
    }

    /// Whether a match of this kind waits for its option.
    fn waiting(&mut self, kind: Kind) -> Option<&mut Pending> {
        let waits = |pending: &&mut Pending| {
            pending.kind == kind && matches!(pending.value, Value::Missing)
        };
        self.pending.iter_mut().rev().find(waits)
    }

    pub(super) fn wants_helper(&mut self) -> bool {
        self.waiting(Kind::Helper).is_some()
    }

    /// Behind `-m multiport`, iptables takes `--dport` for short of `--dports`.
    fn wants_ports(&mut self) -> bool {
        let has_transport = self.pending.iter().any(|pending| pending.kind == Kind::Transport);
        !has_transport && self.waiting(Kind::Multiport).is_some()
    }

    /// An option of a match.
    pub(super) fn option(&mut self, context: &mut Context<'_, '_>, item: &Item) {
        if let Err((span, problem)) = self.read(context, item) {
            context.report.add(span, problem);
        }
    }

    fn read(&mut self, context: &Context<'_, '_>, item: &Item) -> Parsed<()> {
        match item.opt {
            Opt::Sport if self.wants_ports() => self.multiport(context, item, PortSide::Source),
            Opt::Dport if self.wants_ports() => {
                self.multiport(context, item, PortSide::Destination)
            }
            Opt::Sport | Opt::Dport => self.port(context, item),
            Opt::Syn | Opt::TcpFlags => self.tcp_flags(item),
            Opt::TcpOption => self.tcp_option(item),
            Opt::Extra(Field::Mark) if self.asks_connection_mark() => {
                let opt = Opt::Extra(Field::CtMark);
                self.collect(ExtraKind::ConnMark, &Item { opt, ..item.clone() })
            }
            Opt::Extra(field) => self.collect(field.kind(), item),
            Opt::Set(_) => self.collect_set(item),
            Opt::Mss => {
                let opt = Opt::Extra(Field::Mss);
                self.collect(ExtraKind::TcpMss, &Item { opt, ..item.clone() })
            }
            Opt::Sports => self.multiport(context, item, PortSide::Source),
            Opt::Dports => self.multiport(context, item, PortSide::Destination),
            Opt::Ports => self.multiport(context, item, PortSide::Either),
            Opt::State => self.state(item, StateForm::State),
            Opt::CtState => self.state(item, StateForm::Conntrack),
            Opt::IcmpType => self.icmp(item, Family::Ipv4, context.family),
            Opt::Icmpv6Type => self.icmp(item, Family::Ipv6, context.family),
            Opt::Helper => self.fill(Kind::Helper, item, "-m helper", || {
                let value = values::helper(&item.args[0])?;
                Ok(Match::Helper(Condition { negated: item.negated, value }))
            }),
            Opt::Comment => self.fill(Kind::Comment, item, "-m comment", || {
                values::comment(&item.args[0]).map(Match::Comment)
            }),
            _ => Ok(()),
        }
    }

    /// Gives a match its value; it must have been named, and have none yet.
    fn fill(
        &mut self,
        kind: Kind,
        item: &Item,
        name: &str,
        read: impl FnOnce() -> Parsed<Match>,
    ) -> Parsed<()> {
        let is_named = self.pending.iter().any(|pending| pending.kind == kind);
        let has_unknown = self.has_unknown;
        let Some(pending) = self.waiting(kind) else {
            let problem = match is_named {
                false if has_unknown => return Ok(()),
                false => Problem::new(format!("{} needs {name}", item.name))
                    .advise(format!("write {name} before it")),
                true => Problem::new(format!("{} does not fit: {name} has its option", item.name))
                    .advise(format!("write another {name} before it")),
            };
            return Err((item.span, problem));
        };
        let (value, result) = match read() {
            Ok(value) => (Value::Given(value), Ok(())),
            Err(error) => (Value::Wrong, Err(error)),
        };
        pending.value = value;
        result
    }

    /// The rule's one `-m tcp`, `-m udp` or `-m sctp`, brought in when it is not there.
    fn transport_mut(&mut self, item: &Item) -> Parsed<&mut Transport> {
        let protocol = self.transport(item.span, &item.name)?;
        if protocol == TransportProtocol::UdpLite {
            let problem = Problem::new(format!("{} does not go with -p udplite", item.name));
            return Err((item.span, problem.advise("write -m multiport --dports (or --sports)")));
        }
        let at = self.pending.iter().position(|pending| pending.kind == Kind::Transport);
        let at = at.unwrap_or_else(|| {
            let value = Value::Given(Match::Transport(Transport::new(protocol)));
            self.pending.push(Pending::new(Kind::Transport, item.span, value));
            self.pending.len() - 1
        });
        match &mut self.pending[at].value {
            Value::Given(Match::Transport(transport)) => Ok(transport),
            _ => Err((item.span, Problem::new(format!("{} has no match", item.name)))),
        }
    }

    fn port(&mut self, context: &Context<'_, '_>, item: &Item) -> Parsed<()> {
        let transport = self.transport_mut(item)?;
        let ports = Ports { services: context.services, protocol: transport.protocol };
        let value = ports.range(&item.args[0])?;
        let slot = match item.opt {
            Opt::Sport => &mut transport.sport,
            _ => &mut transport.dport,
        };
        if slot.is_some() {
            return Err(twice(item));
        }
        let is_any = value == (PortRange { first: 0, last: u16::MAX }) && !item.negated;
        *slot = (!is_any).then_some(Condition { negated: item.negated, value });
        Ok(())
    }

    fn tcp_flags(&mut self, item: &Item) -> Parsed<()> {
        let transport = self.transport_mut(item)?;
        if transport.protocol != TransportProtocol::Tcp {
            return Err((item.span, Problem::new(format!("{} needs -p tcp", item.name))));
        }
        let value = match item.opt {
            Opt::Syn => TcpFlags { mask: names::SYN_MASK, compare: names::SYN },
            _ => values::tcp_flags(&item.args[0], &item.args[1])?,
        };
        if transport.flags.is_some() {
            let problem = Problem::new(format!("{} is a second test of TCP flags", item.name));
            return Err((item.span, problem.advise("write one of --syn and --tcp-flags, once")));
        }
        let is_any = value == (TcpFlags { mask: 0, compare: 0 }) && !item.negated;
        transport.flags = (!is_any).then_some(Condition { negated: item.negated, value });
        Ok(())
    }

    fn tcp_option(&mut self, item: &Item) -> Parsed<()> {
        let transport = self.transport_mut(item)?;
        if transport.protocol != TransportProtocol::Tcp {
            return Err((item.span, Problem::new(format!("{} needs -p tcp", item.name))));
        }
        let value = values::tcp_option(&item.args[0])?;
        if transport.option.is_some() {
            return Err(twice(item));
        }
        transport.option = Some(Condition { negated: item.negated, value });
        Ok(())
    }

    /// Whether `--mss` is an option of a match in this rule, not of a target.
    pub(super) fn wants_mss(&self) -> bool {
        let is_named = |pending: &Pending| pending.kind == Kind::Extra(ExtraKind::TcpMss);
        self.has_unknown || self.pending.iter().any(is_named)
    }

    /// Whether `--mark` is of `-m connmark`, which was named later than `-m mark`.
    fn asks_connection_mark(&self) -> bool {
        let mut kinds = self.pending.iter().rev().filter_map(|pending| match pending.kind {
            Kind::Extra(kind @ (ExtraKind::Mark | ExtraKind::ConnMark)) => Some(kind),
            _ => None,
        });
        kinds.next() == Some(ExtraKind::ConnMark)
    }

    /// Keeps an option for the `-m set` that was named last.
    fn collect_set(&mut self, item: &Item) -> Parsed<()> {
        match self.pending.iter_mut().rev().find(|pending| pending.kind == Kind::Set) {
            Some(pending) => pending.options.push(item.clone()),
            None if self.has_unknown => {}
            None => {
                let problem = Problem::new(format!("{} needs -m set", item.name));
                return Err((item.span, problem.advise("write -m set before it")));
            }
        }
        Ok(())
    }

    /// Keeps an option for the match that was named last.
    fn collect(&mut self, kind: ExtraKind, item: &Item) -> Parsed<()> {
        let wanted = match kind {
            ExtraKind::Conntrack => Kind::State(StateForm::Conntrack),
            kind => Kind::Extra(kind),
        };
        match self.pending.iter_mut().rev().find(|pending| pending.kind == wanted) {
            Some(pending) => {
                pending.options.push(item.clone());
                Ok(())
            }
            None if self.has_unknown => Ok(()),
            None => {
                let name = kind.name();
                let problem = Problem::new(format!("{} needs -m {name}", item.name));
                Err((item.span, problem.advise(format!("write -m {name} before it"))))
            }
        }
    }

    fn multiport(&mut self, context: &Context<'_, '_>, item: &Item, side: PortSide) -> Parsed<()> {
        let protocol = self.transport(item.span, &item.name).inspect_err(|_| {
            if let Some(pending) = self.waiting(Kind::Multiport) {
                pending.value = Value::Wrong;
            }
        })?;
        let ports = Ports { services: context.services, protocol };
        self.fill(Kind::Multiport, item, "-m multiport", || {
            let ranges = ports.list(&item.args[0])?;
            Ok(Match::Multiport(Multiport { side, negated: item.negated, ranges }))
        })
    }

    fn state(&mut self, item: &Item, form: StateForm) -> Parsed<()> {
        let (name, other, option) = match form {
            StateForm::State => ("-m state", StateForm::Conntrack, "--ctstate"),
            StateForm::Conntrack => ("-m conntrack", StateForm::State, "--state"),
        };
        let has = |form| self.pending.iter().any(|pending| pending.kind == Kind::State(form));
        if has(other) && !has(form) {
            let pending =
                self.pending.iter_mut().find(|pending| pending.kind == Kind::State(other));
            if let Some(pending) = pending {
                pending.value = Value::Wrong;
            }
            let problem = Problem::new(format!("{} is an option of {name}", item.name));
            return Err((item.span, problem.advise(format!("write {option}"))));
        }
        self.fill(Kind::State(form), item, name, || {
            let states = values::states(&item.args[0], form)?;
            Ok(Match::State(State { form, negated: item.negated, states }))
        })
    }

    fn icmp(&mut self, item: &Item, of: Family, family: Family) -> Parsed<()> {
        if of != family {
            let (this, right) = match family {
                Family::Ipv4 => ("IPv4", "--icmp-type"),
                Family::Ipv6 => ("IPv6", "--icmpv6-type"),
            };
            let problem = Problem::new(format!("{} in {this} rules", item.name));
            return Err((item.span, problem.advise(format!("write {right}"))));
        }
        self.icmp_protocol(item.span, &item.name, family)?;
        if !self.pending.iter().any(|pending| pending.kind == Kind::Icmp) {
            let value = Value::Missing;
            self.pending.push(Pending::new(Kind::Icmp, item.span, value));
        }
        self.fill(Kind::Icmp, item, "-m icmp", || {
            let value = values::icmp_type(&item.args[0], family)?;
            Ok(Match::Icmp(Condition { negated: item.negated, value }))
        })
    }

    /// The matches in their order; one that was never given its option is
    /// reported.
    pub(super) fn finish(self, context: &mut Context<'_, '_>, chain: &str) -> Vec<Match> {
        let (mut matches, mut counts) = (Vec::new(), Counts::default());
        for Pending { kind, span, value, options } in self.pending {
            if let Some(problem) = counts.one_more(kind) {
                context.report.add(span, problem);
            }
            if let Kind::Extra(kind) = kind
                && let Some(problem) = extras::misplaced_in(kind, chain)
            {
                context.report.add(span, problem);
            }
            if kind == Kind::Set {
                match sets::read(span, &options) {
                    Ok(set) => matches.push(Match::Set(set)),
                    Err((span, problem)) => context.report.add(span, problem),
                }
                continue;
            }
            if let Some(kind) = extra_kind(kind, &options) {
                match extras::read(kind, span, &options, context.family, context.services) {
                    Ok(facts) => matches.push(extra(kind, &value, facts)),
                    Err((span, problem)) => context.report.add(span, problem),
                }
                continue;
            }
            match value {
                Value::Given(one) => matches.push(one),
                Value::Wrong => {}
                Value::Missing => context.report.add(span, missing(kind, context.family)),
            }
        }
        matches
    }
}

/// What a match is whose options were collected; a limit or a time may have none.
fn extra_kind(kind: Kind, options: &[Item]) -> Option<ExtraKind> {
    match kind {
        Kind::Extra(kind @ (ExtraKind::Limit | ExtraKind::Time | ExtraKind::Fragment)) => {
            Some(kind)
        }
        _ if options.is_empty() => None,
        Kind::Extra(kind) => Some(kind),
        _ => Some(ExtraKind::Conntrack),
    }
}

/// The match of these facts, with the states of `-m conntrack` in front.
fn extra(kind: ExtraKind, value: &Value, mut facts: Vec<Condition<Fact>>) -> Match {
    if let Value::Given(Match::State(State { negated, states, .. })) = *value {
        facts.insert(0, Condition { negated, value: Fact::CtState(states) });
    }
    Match::Extra(Extra { kind, facts })
}

fn twice(item: &Item) -> (Span, Problem) {
    (item.span, Problem::new(format!("{} is given twice", item.name)).advise("write one of them"))
}
