//! Judges a packet by the ruleset as it was written, with the plainest means:
//! chains are looked up by name, user chains are calls. What the compiled
//! rules do must be the same.

use std::net::IpAddr;

use firewall_common::{
    flow::{CtState, protocol},
    headers::Headers,
    rule::{PortRange, PortSide, RejectKind},
    synproxy::offer::Offer,
    wire::tcp_flag::{ACK, FIN, RST, SYN},
};

use super::{
    extra::{self, Seen},
    mangle::{self, Made},
};
use crate::rules::ast::{
    Condition, IcmpType, Match, Network, RuleSpec, Ruleset, Table, TableName, Target, Verdict,
};

/// A packet, and what tracking found of it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) headers: Headers,
    pub(super) input: Option<&'static str>,
    pub(super) output: Option<&'static str>,
    pub(super) state: u8,
    pub(super) announced_by: u8,
    pub(super) seen: Seen,
}

/// Table, chain, and rule number or policy.
pub(super) type Step = (TableName, String, Option<u32>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Accept,
    Drop,
    Reject(RejectKind),
    Proxy(Offer),
}

/// The verdict and every rule that matched on the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) steps: Vec<Step>,
    pub(super) assigned: u8,
    /// Table raw said so; not for the filter's own steps.
    pub(super) is_untracked: bool,
    pub(super) end: Option<End>,
    /// Where the packet passed.
    pub(super) made: Option<Made>,
}

/// Walks from chain to chain; those outside of table filter that do nothing are no part of
/// the way.
pub(super) fn judge(ruleset: &Ruleset, way: &[(TableName, &str)], subject: &Subject) -> Trace {
    let mut trace = Trace::default();
    let mut subject = subject.clone();
    for (name, chain) in way {
        let Some(table) = ruleset.table(*name) else { continue };
        let found = table.chain(chain).unwrap();
        let accepts = found.policy.unwrap().verdict == Verdict::Accept;
        if *name != TableName::Filter && found.rules.is_empty() && accepts {
            continue;
        }
        let known = (subject.state, subject.announced_by);
        if *name == TableName::Raw {
            (subject.state, subject.announced_by) = (0, 0);
        }
        let end = builtin(table, chain, &mut subject, &mut trace);
        trace.end = Some(end);
        if end != End::Accept {
            trace.is_untracked = false;
            return trace;
        }
        if *name == TableName::Raw {
            (subject.state, subject.announced_by) = known;
        }
        if std::mem::take(&mut trace.is_untracked) {
            (subject.state, subject.announced_by) = (CtState::Untracked.bit(), 0);
        }
    }
    trace.made = Some(Made::judged(&subject));
    trace
}

fn builtin(table: &Table, name: &str, subject: &mut Subject, trace: &mut Trace) -> End {
    if let Some(end) = chain(table, name, subject, trace) {
        return end;
    }
    trace.steps.push((table.name, name.to_owned(), None));
    match table.chain(name).unwrap().policy.unwrap().verdict {
        Verdict::Accept => End::Accept,
        Verdict::Drop => End::Drop,
    }
}

/// `None` when the chain's end, or a RETURN, was reached.
fn chain(table: &Table, name: &str, subject: &mut Subject, trace: &mut Trace) -> Option<End> {
    for (rule, number) in table.chain(name).unwrap().rules.iter().zip(1..) {
        if !fits(&rule.spec, subject) {
            continue;
        }
        trace.steps.push((table.name, name.to_owned(), Some(number)));
        match &rule.spec.target {
            Target::Continue | Target::Log(_) | Target::Nflog(_) | Target::Set(_) => {}
            Target::Mangle(mangle) => mangle::apply(mangle, subject),
            Target::Untrack(_) => trace.is_untracked = true,
            Target::Proxy(offer) if is_syn(subject) => return Some(End::Proxy(*offer)),
            Target::Proxy(_) => {}
            Target::Helper(helper) => trace.assigned = *helper,
            // Its table is done.
            Target::Accept | Target::Nat(_) => return Some(End::Accept),
            Target::Drop => return Some(End::Drop),
            Target::Reject(kind) => return Some(End::Reject(*kind)),
            Target::Return => return None,
            Target::Goto(other) => return chain(table, other, subject, trace),
            Target::Jump(other) => {
                if let Some(end) = chain(table, other, subject, trace) {
                    return Some(end);
                }
            }
        }
    }
    None
}

/// A SYN that begins a connection, whatever its other flags.
fn is_syn(subject: &Subject) -> bool {
    subject.headers.tcp_flags & (SYN | ACK | FIN | RST) == SYN
}

fn fits(spec: &RuleSpec, subject: &Subject) -> bool {
    let tuple = &subject.headers.tuple;
    let inside = |network: &Network, address: IpAddr| match (network.address, network.mask, address)
    {
        (IpAddr::V4(n), IpAddr::V4(m), IpAddr::V4(a)) => a & m == n,
        (IpAddr::V6(n), IpAddr::V6(m), IpAddr::V6(a)) => a & m == n,
        _ => false,
    };
    let holds = |negated: bool, test: bool| negated != test;
    spec.src.is_none_or(|c| holds(c.negated, inside(&c.value, tuple.src.to_ip())))
        && spec.dst.is_none_or(|c| holds(c.negated, inside(&c.value, tuple.dst.to_ip())))
        && spec.protocol.is_none_or(|c| holds(c.negated, c.value == tuple.protocol))
        && spec.input.as_ref().is_none_or(|c| {
            holds(
                c.negated,
                subject.input.is_some_and(|name| c.value.matches(name)) || c.value.is_any(),
            )
        })
        && spec.output.as_ref().is_none_or(|c| {
            holds(
                c.negated,
                subject.output.is_some_and(|name| c.value.matches(name)) || c.value.is_any(),
            )
        })
        // Fragments are joined before a rule sees them.
        && spec.fragments.is_none_or(|c| c.negated)
        && spec.matches.iter().all(|one| fits_match(one, subject))
}

fn fits_match(one: &Match, subject: &Subject) -> bool {
    let headers = &subject.headers;
    let (sport, dport) = (headers.tuple.sport, headers.tuple.dport);
    let within = |range: &PortRange, port: u16| (range.first..=range.last).contains(&port);
    match one {
        Match::Comment(_) => true,
        // There are no sets.
        Match::Set(set) => set.negated,
        Match::Extra(one) => extra::fits(one, subject),
        Match::Helper(Condition { negated, value }) => *negated != (subject.announced_by == *value),
        // A packet without a state, in table raw, has none of any set.
        Match::State(state) if subject.state == 0 => state.states == 0,
        Match::State(state) => state.negated != (state.states & extra::states_of(subject) != 0),
        Match::Transport(transport) => {
            transport.sport.is_none_or(|c| c.negated != within(&c.value, sport))
                && transport.dport.is_none_or(|c| c.negated != within(&c.value, dport))
                && transport.option.is_none_or(|c| c.negated != extra::has_option(c.value, subject))
                && transport.flags.is_none_or(|c| {
                    c.negated != (headers.tcp_flags & c.value.mask == c.value.compare)
                })
        }
        Match::Multiport(multiport) => {
            let any = multiport.ranges.iter().any(|range| match multiport.side {
                PortSide::Source => within(range, sport),
                PortSide::Destination => within(range, dport),
                PortSide::Either => within(range, sport) || within(range, dport),
            });
            multiport.negated != any
        }
        Match::Icmp(Condition { negated, value }) => {
            assert!(matches!(headers.tuple.protocol, protocol::ICMP | protocol::ICMPV6));
            let fits = match value {
                IcmpType::Any => true,
                IcmpType::Type(kind) => headers.icmp_type == *kind,
                IcmpType::Code(kind, code) => {
                    (headers.icmp_type, headers.icmp_code) == (*kind, *code)
                }
            };
            *negated != fits
        }
    }
}
