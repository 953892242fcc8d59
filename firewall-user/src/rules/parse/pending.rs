//! The kinds of matches, and matches that were named and wait for their option.

use firewall_common::addr::Family;

use super::items::Item;
use crate::rules::{
    ast::{Match, StateForm},
    extra::ExtraKind,
    problem::Problem,
    source::Span,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Transport,
    Multiport,
    State(StateForm),
    Helper,
    Comment,
    Icmp,
    /// As the next.
    Set,
    /// Its options are collected and read at the end.
    Extra(ExtraKind),
}

/// A match that was named; its options follow.
pub(super) struct Pending {
    pub(super) kind: Kind,
    pub(super) span: Span,
    pub(super) value: Value,
    /// Of [`Kind::Extra`], and of `-m conntrack` beside `--ctstate`.
    pub(super) options: Vec<Item>,
}

impl Pending {
    pub(super) const fn new(kind: Kind, span: Span, value: Value) -> Self {
        Self { kind, span, value, options: Vec::new() }
    }
}

pub(super) enum Value {
    Missing,
    /// Reported already.
    Wrong,
    Given(Match),
}

const NAMES: &[(&str, Kind)] = &[
    ("tcp", Kind::Transport),
    ("udp", Kind::Transport),
    ("sctp", Kind::Transport),
    ("multiport", Kind::Multiport),
    ("state", Kind::State(StateForm::State)),
    ("conntrack", Kind::State(StateForm::Conntrack)),
    ("helper", Kind::Helper),
    ("comment", Kind::Comment),
    ("icmp", Kind::Icmp),
    ("icmp6", Kind::Icmp),
    ("icmpv6", Kind::Icmp),
    ("ipv6-icmp", Kind::Icmp),
    ("set", Kind::Set),
];

/// The kind of match that has this name.
pub(super) fn named(name: &str) -> Option<Kind> {
    let first = NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let extra = || ExtraKind::ALL.into_iter().find(|kind| kind.name() == name).map(Kind::Extra);
    first.or_else(extra)
}

/// All that can stand behind `-m`.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name).chain(ExtraKind::ALL.map(ExtraKind::name))
}

/// How often each match stands in the rule, where that is bounded.
#[derive(Default)]
pub(super) struct Counts {
    multiports: usize,
    icmps: usize,
    helpers: usize,
}

impl Counts {
    pub(super) fn one_more(&mut self, kind: Kind) -> Option<Problem> {
        let (count, most, name) = match kind {
            Kind::Multiport => (&mut self.multiports, 2, "multiport"),
            Kind::Icmp => (&mut self.icmps, 1, "icmp"),
            Kind::Helper => (&mut self.helpers, 1, "helper"),
            Kind::Transport | Kind::State(_) | Kind::Comment | Kind::Set | Kind::Extra(_) => {
                return None;
            }
        };
        *count += 1;
        (*count == most + 1).then(|| {
            Problem::new(format!("a rule can have at most {most} -m {name}"))
                .advise("split the conditions over a chain of their own")
        })
    }
}

pub(super) fn missing(kind: Kind, family: Family) -> Problem {
    let (name, option) = match kind {
        Kind::Transport => ("tcp", "its options"),
        Kind::Multiport => ("multiport", "--sports, --dports or --ports"),
        Kind::State(StateForm::State) => ("state", "--state"),
        Kind::State(StateForm::Conntrack) => ("conntrack", "--ctstate"),
        Kind::Helper => ("helper", "--helper ftp"),
        Kind::Comment => ("comment", "--comment"),
        Kind::Icmp if family == Family::Ipv4 => ("icmp", "--icmp-type"),
        Kind::Icmp => ("icmp6", "--icmpv6-type"),
        Kind::Set => ("set", "--match-set NAME src (or dst)"),
        Kind::Extra(kind) => (kind.name(), kind.option()),
    };
    Problem::new(format!("-m {name} does nothing by itself"))
        .advise(format!("write {option} behind it"))
}
