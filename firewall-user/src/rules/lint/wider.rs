//! Which earlier rules can cover one at all, without asking each of them.
//!
//! Rules are filed by what they ask for exactly: networks, protocol, a port of the
//! destination. Rules that ask for the same kinds of things have one *shape*; of each shape,
//! a rule can be covered only by those filed under its own values, cut to that shape. There
//! are few shapes, however many rules there are.

use std::{collections::HashMap, net::IpAddr};

use super::cover::covers;
use crate::rules::ast::{Condition, Match, Network, RuleSpec};

/// What rules of a shape ask for: lengths of networks, and whether for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    src: Option<u32>,
    dst: Option<u32>,
    protocol: bool,
    dport: bool,
}

/// The values of a shape. What it does not ask for is `None`.
type Key = (Option<IpAddr>, Option<IpAddr>, Option<u8>, Option<u16>);

/// Rules with their places in the chain.
type Filed<'r> = Vec<(usize, &'r RuleSpec)>;

/// So many rules that ask for the same are looked at: what they have beside that is
/// compared one by one.
const MOST: usize = 2_000;

/// Rules of a chain that decide about what they match, by what they ask for.
#[derive(Debug, Default)]
pub struct Wider<'r> {
    shapes: HashMap<Shape, HashMap<Key, Filed<'r>>>,
}

impl<'r> Wider<'r> {
    /// Files a rule under its place in the chain; places come in their order.
    pub fn file(&mut self, at: usize, spec: &'r RuleSpec) {
        let shape = Shape {
            src: length(spec.src.as_ref()),
            dst: length(spec.dst.as_ref()),
            protocol: protocol(spec).is_some(),
            dport: dport(spec).is_some(),
        };
        if let Some(key) = key(shape, spec, dport(spec)) {
            self.shapes.entry(shape).or_default().entry(key).or_default().push((at, spec));
        }
    }

    /// The place of the first rule that covers this one.
    pub fn first(&self, narrow: &RuleSpec) -> Option<usize> {
        let ports: Vec<_> = dports(narrow).map(Some).collect();
        let first = |shape: &Shape, rules: &HashMap<Key, Filed<'_>>, port| {
            let filed = rules.get(&key(*shape, narrow, port)?)?;
            let mut filed = filed.iter().take(MOST);
            filed.find(|(_, wide)| covers(wide, narrow)).map(|(at, _)| *at)
        };
        let of_shape = |(shape, rules): (&Shape, &HashMap<Key, Filed<'_>>)| {
            let ports = if shape.dport { &*ports } else { &[None] };
            ports.iter().filter_map(|port| first(shape, rules, *port)).min()
        };
        self.shapes.iter().filter_map(of_shape).min()
    }
}

/// A rule's values, as far as the shape asks for them; `None` when it has not all. `port`
/// is one of [`dports`].
fn key(shape: Shape, spec: &RuleSpec, port: Option<u16>) -> Option<Key> {
    let network = |length, condition| match length {
        None => Some(None),
        Some(length) => cut(condition, length).map(Some),
    };
    let protocol = if shape.protocol { Some(protocol(spec)?) } else { None };
    let dport = if shape.dport { Some(port?) } else { None };
    let (src, dst) = (spec.src.as_ref(), spec.dst.as_ref());
    Some((network(shape.src, src)?, network(shape.dst, dst)?, protocol, dport))
}

/// The length of a network that is asked for without `!`, and has one.
fn length(condition: Option<&Condition<Network>>) -> Option<u32> {
    condition.filter(|condition| !condition.negated)?.value.prefix_length()
}

/// The network of this length in which another is, when it is in one.
fn cut(condition: Option<&Condition<Network>>, length: u32) -> Option<IpAddr> {
    let own = self::length(condition)?;
    let address = condition?.value.address;
    (length <= own).then(|| match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    })
}

fn protocol(spec: &RuleSpec) -> Option<u8> {
    spec.protocol.filter(|protocol| !protocol.negated).map(|protocol| protocol.value)
}

/// The port that a rule asks for, if it is one, and no other match asks for ports, too.
fn dport(spec: &RuleSpec) -> Option<u16> {
    let transports = spec.matches.iter().filter(|one| matches!(one, Match::Transport(_)));
    dports(spec).next().filter(|_| transports.count() == 1)
}

/// Each single port of the destination that `-m tcp` and the like ask for.
fn dports(spec: &RuleSpec) -> impl Iterator<Item = u16> {
    spec.matches.iter().filter_map(|one| {
        let Match::Transport(transport) = one else { return None };
        let port = transport.dport.filter(|port| !port.negated)?.value;
        (port.first == port.last).then_some(port.first)
    })
}
