//! Random rulesets and packets that meet: few addresses, ports and names, so
//! that most rules match now and then.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use firewall_common::{
    addr::{Addr, Family},
    flow::{Tuple, helper, protocol},
    headers::Headers,
    rule::{Counter, PortRange, PortSide, RejectKind},
    set::ask::compare,
    synproxy::{header::has, offer::Offer},
    wire::tcp_flag::SYN,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{extra, interpreter::Subject, mangle, nat};
use crate::rules::{
    ast::{
        Chain, Condition, IcmpType, Log, Match, Multiport, Network, Nflog, Origin, Policy, Rule,
        RuleSpec, Ruleset, State, StateForm, TableName, Target, TcpFlags, Transport,
        TransportProtocol, UntrackForm, Verdict, log_option,
    },
    interface::InterfacePattern,
    mangle::{Mangle, SegmentSize},
    names,
    set::{Compared, SetMatch, SetPart, SetTarget},
    source::Span,
};

const USER_CHAINS: [&str; 4] = ["a", "b-c", "CLIENTS", "z+"];
const INTERFACES: [&str; 3] = ["eth0", "eth1", "ppp0"];

pub(super) fn any_family() -> impl Strategy<Value = Family> {
    select(vec![Family::Ipv4, Family::Ipv6])
}

pub(super) fn condition<T: std::fmt::Debug>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Condition<T>> {
    (proptest::bool::weighted(0.3), value).prop_map(|(negated, value)| Condition { negated, value })
}

/// Four hosts in two networks.
pub(super) fn address(family: Family) -> impl Strategy<Value = IpAddr> {
    (0..2u8, 1..3u8).prop_map(move |(network, host)| match family {
        Family::Ipv4 => Ipv4Addr::new(192, 0, 2 + network, host).into(),
        Family::Ipv6 => {
            Ipv6Addr::new(0x2001, 0xdb8, u16::from(network), 0, 0, 0, 0, u16::from(host)).into()
        }
    })
}

pub(super) fn network(family: Family) -> impl Strategy<Value = Network> {
    let masks: Vec<IpAddr> = match family {
        Family::Ipv4 => ["255.255.255.255", "255.255.255.0", "255.0.0.0", "255.0.0.255"].to_vec(),
        Family::Ipv6 => {
            ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff::", "ffff::", "ffff::f"]
                .to_vec()
        }
    }
    .into_iter()
    .map(|mask| mask.parse().unwrap())
    .collect();
    (address(family), select(masks)).prop_map(|(address, mask)| Network::new(address, mask))
}

fn pattern() -> impl Strategy<Value = InterfacePattern> {
    select(vec![("eth0", false), ("eth", true), ("ppp", true), ("eth1", false)])
        .prop_map(|(name, wildcard)| InterfacePattern { name: name.into(), wildcard })
}

pub(super) fn port() -> impl Strategy<Value = u16> {
    select(vec![20, 21, 1023, 1024, 40_000])
}

fn range() -> impl Strategy<Value = PortRange> {
    prop_oneof![
        port().prop_map(|port| PortRange { first: port, last: port }),
        (port(), port()).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) }),
        Just(PortRange { first: 1024, last: u16::MAX }),
    ]
}

fn transport(protocol: TransportProtocol) -> impl Strategy<Value = Match> {
    let flags =
        (1..64u8, 0..64u8).prop_map(|(mask, compare)| TcpFlags { mask, compare: compare & mask });
    let flags = option::weighted(0.2, condition(flags));
    let is_tcp = protocol == TransportProtocol::Tcp;
    let option = option::weighted(0.2, condition(select(vec![2, 8, 40, 254])));
    (option::of(condition(range())), option::of(condition(range())), option, flags).prop_map(
        move |(sport, dport, option, flags)| {
            let (option, flags) = (option.filter(|_| is_tcp), flags.filter(|_| is_tcp));
            Match::Transport(Transport { protocol, sport, dport, option, flags })
        },
    )
}

fn multiport() -> impl Strategy<Value = Match> {
    let side = select(vec![PortSide::Source, PortSide::Destination, PortSide::Either]);
    (side, any::<bool>(), vec(range(), 1..8))
        .prop_map(|(side, negated, ranges)| Match::Multiport(Multiport { side, negated, ranges }))
}

fn state() -> impl Strategy<Value = Match> {
    let form = select(vec![StateForm::State, StateForm::Conntrack]);
    (form, proptest::bool::weighted(0.2), 1..128u8).prop_map(|(form, negated, states)| {
        let known = match form {
            StateForm::State => states & 31,
            StateForm::Conntrack => states,
        };
        Match::State(State { form, negated, states: known.max(1) })
    })
}

fn icmp(family: Family) -> impl Strategy<Value = Match> {
    let any = if family == Family::Ipv4 { IcmpType::Any } else { IcmpType::Type(1) };
    let kind = prop_oneof![
        Just(any),
        (0..4u8).prop_map(IcmpType::Type),
        (0..4u8, 0..3u8).prop_map(|(kind, code)| IcmpType::Code(kind, code)),
    ];
    condition(kind).prop_map(Match::Icmp)
}

/// The protocol, and matches that go with it.
fn protocol_and_matches(
    family: Family,
) -> impl Strategy<Value = (Option<Condition<u8>>, Vec<Match>)> {
    let only = |value| Some(Condition { negated: false, value });
    let tcp = (vec(transport(TransportProtocol::Tcp), 0..2), vec(multiport(), 0..3));
    let udp = (vec(transport(TransportProtocol::Udp), 0..2), vec(multiport(), 0..2));
    let sctp = (vec(transport(TransportProtocol::Sctp), 0..2), vec(multiport(), 0..2));
    let other = option::of(condition(select(vec![6, 17, 47, 132, 200])));
    prop_oneof![
        tcp.prop_map(move |(a, b)| (only(protocol::TCP), [a, b].concat())),
        udp.prop_map(move |(a, b)| (only(protocol::UDP), [b, a].concat())),
        sctp.prop_map(move |(a, b)| (only(protocol::SCTP), [a, b].concat())),
        vec(multiport(), 0..2).prop_map(move |ports| (only(protocol::UDPLITE), ports)),
        vec(icmp(family), 0..2).prop_map(move |icmp| (only(names::icmp_protocol(family)), icmp)),
        other.prop_map(|protocol| (protocol, Vec::new())),
    ]
}

fn text(longest: usize) -> impl Strategy<Value = String> {
    let text = prop_oneof!["[a-z_-]{0,9}", "[ -~]{0,20}", "[“”é—’#\"'\\\\ ]{0,6}"];
    text.prop_filter("too long", move |text| text.len() <= longest)
}

fn nflog() -> impl Strategy<Value = Nflog> {
    let numbers = (0..3u16, option::of(0..99u32), option::of(0..9u16));
    (text(63), numbers).prop_map(|(prefix, (group, size, threshold))| Nflog {
        prefix,
        group,
        size,
        threshold,
    })
}

fn log() -> impl Strategy<Value = Log> {
    let options = vec(select(log_option::NAMES.map(|(bit, _)| bit).to_vec()), 0..3);
    (text(29), 0..8u8, options).prop_map(|(prefix, level, options)| Log {
        prefix,
        level,
        options: options.into_iter().fold(0, |all, bit| all | bit),
    })
}

fn set_part() -> impl Strategy<Value = SetPart> {
    let names = select(vec!["block", "a_b.c", "f2b-sshd"]);
    (names, any::<u8>(), 1..=6u8).prop_map(|(name, sources, dimensions)| SetPart {
        name: name.into(),
        sources: sources & ((1 << dimensions) - 1) as u8,
        dimensions,
    })
}

fn compared() -> impl Strategy<Value = Option<Compared>> {
    let how = select(vec![compare::EQUAL, compare::NOT_EQUAL, compare::BELOW, compare::ABOVE]);
    option::weighted(0.3, (how, any::<u64>()).prop_map(|(how, value)| Compared { how, value }))
}

fn set_match() -> impl Strategy<Value = Match> {
    (any::<[bool; 4]>(), set_part(), compared(), compared()).prop_map(
        |([negated, return_nomatch, skips_counters, skips_subcounters], set, packets, bytes)| {
            Match::Set(SetMatch {
                negated,
                set,
                return_nomatch,
                skips_counters,
                skips_subcounters,
                packets,
                bytes,
            })
        },
    )
}

fn set_target() -> impl Strategy<Value = Target> {
    let timeout = option::weighted(0.5, 0..2_147_483u32);
    (set_part(), option::weighted(0.3, set_part()), any::<[bool; 2]>(), timeout).prop_map(
        |(one, other, [is_added, exist], timeout)| {
            let (add, del) = if is_added { (Some(one), other) } else { (other, Some(one)) };
            Target::Set(Box::new(SetTarget { add, del, exist, timeout }))
        },
    )
}

/// Jumps lead only to chains behind `from`, so that there are no loops.
fn target(family: Family, table: TableName, from: usize) -> BoxedStrategy<Target> {
    let kinds: Vec<RejectKind> = names::reject_names(family)
        .filter_map(|name| names::reject_kind(family, name))
        .filter(|kind| *kind != RejectKind::TcpReset)
        .collect();
    let plain = match table {
        TableName::Nat => vec![Target::Continue, Target::Accept, Target::Return],
        _ => vec![Target::Continue, Target::Accept, Target::Drop, Target::Return],
    };
    let plain = select(plain);
    let own = match table {
        TableName::Raw => {
            let form = select(vec![UntrackForm::Ct, UntrackForm::Notrack]);
            prop_oneof![log().prop_map(Target::Log), form.prop_map(Target::Untrack), set_target()]
                .boxed()
        }
        TableName::Nat => {
            let nat = nat::any(family).prop_map(Target::Nat);
            prop_oneof![1 => log().prop_map(Target::Log), 6 => nat].boxed()
        }
        TableName::Mangle => {
            let mangle = mangle::any(family).prop_map(Target::Mangle);
            prop_oneof![1 => log().prop_map(Target::Log), 6 => mangle].boxed()
        }
        _ => prop_oneof![
            select(kinds).prop_map(Target::Reject),
            log().prop_map(Target::Log),
            set_target(),
            nflog().prop_map(Target::Nflog)
        ]
        .boxed(),
    };
    let further = &USER_CHAINS[from..];
    if further.is_empty() {
        return prop_oneof![3 => plain, 1 => own].boxed();
    }
    let jump = (any::<bool>(), select(further.to_vec())).prop_map(|(goto, name)| match goto {
        true => Target::Goto(name.into()),
        false => Target::Jump(name.into()),
    });
    prop_oneof![3 => plain, 1 => own, 3 => jump].boxed()
}

fn spec(family: Family, table: TableName, from: usize) -> impl Strategy<Value = RuleSpec> {
    let helper = vec(condition(Just(helper::FTP)).prop_map(Match::Helper), 0..2);
    let fragments = option::weighted(0.1, condition(Just(())))
        .prop_map(move |fragments| fragments.filter(|_| family == Family::Ipv4));
    let extras = vec(extra::extra(family).prop_map(Match::Extra), 0..3);
    let comments = vec(text(40).prop_map(Match::Comment), 0..2);
    let others = (vec(state(), 0..2), helper, comments, extras, fragments, vec(set_match(), 0..2));
    let sparse = 0.3;
    (
        option::weighted(sparse, condition(network(family))),
        option::weighted(sparse, condition(network(family))),
        option::weighted(0.2, condition(pattern())),
        option::weighted(0.2, condition(pattern())),
        protocol_and_matches(family),
        others,
        target(family, table, from),
    )
        .prop_map(|(src, dst, input, output, (protocol, own), others, target)| {
            let (states, helper, comments, extras, fragments, sets) = others;
            let matches = [states, own, sets, extras, helper, comments].concat();
            RuleSpec { src, dst, input, output, protocol, fragments, matches, target }
        })
}

/// Built-in chains have one interface only, as the datapath fills in no other.
fn suits(table: TableName, chain: &str, spec: &mut RuleSpec) {
    match chain {
        "INPUT" | "PREROUTING" => spec.output = None,
        "OUTPUT" | "POSTROUTING" => spec.input = None,
        _ => {}
    }
    let is_tcp = spec.protocol == Some(Condition { negated: false, value: protocol::TCP });
    spec.matches.retain(|one| extra::suits(one, chain, is_tcp));
    if let Target::Nat(nat) = spec.target {
        let only = spec.protocol.filter(|protocol| !protocol.negated);
        spec.target = Target::Nat(nat::suited(nat, chain, only.map(|protocol| protocol.value)));
    }
    let is_filter = table == TableName::Filter;
    if is_tcp && is_syn(spec) && spec.target == Target::Return {
        let size = SegmentSize::Set(500 + 100 * spec.matches.len() as u16);
        spec.target = Target::Mangle(Mangle::SegmentSize(size));
    }
    let is_raw = table == TableName::Raw;
    if is_tcp && is_raw && spec.target == Target::Return && chain == "PREROUTING" {
        spec.target = Target::Helper(helper::FTP);
    }
    let is_open = is_tcp && is_filter && spec.target == Target::Return;
    if is_open && matches!(chain, "INPUT" | "FORWARD") {
        spec.target = Target::Proxy(offer(spec));
    }
}

/// Whether the rule is for segments with SYN.
fn is_syn(spec: &RuleSpec) -> bool {
    spec.matches.iter().any(|one| match one {
        Match::Transport(Transport { flags: Some(flags), .. }) => {
            !flags.negated && flags.value.compare & SYN != 0
        }
        _ => false,
    })
}

/// Some offer, by something that differs between rules.
fn offer(spec: &RuleSpec) -> Offer {
    let some = spec.matches.len() as u8;
    let (mss, scale) = (1_400 + u16::from(some), some);
    let always = has::MSS | has::SCALE;
    Offer { mss, scale, present: always | (some << 2) & (has::SACK_PERMITTED | has::TIMESTAMPS) }
}

fn counter() -> impl Strategy<Value = Counter> {
    (0..1_000_000u64, any::<u64>()).prop_map(|(packets, bytes)| Counter { packets, bytes })
}

fn chain(
    family: Family,
    table: TableName,
    name: &'static str,
    from: usize,
) -> impl Strategy<Value = Chain> {
    let verdict = match table {
        TableName::Nat => select(vec![Verdict::Accept]),
        _ => select(vec![Verdict::Accept, Verdict::Drop]),
    };
    let is_builtin = table.builtin_chains().contains(&name);
    let rules = vec((spec(family, table, from), counter()), 0..6);
    (verdict, counter(), rules).prop_map(move |(verdict, policy, rules)| {
        let rule = |(mut spec, counter)| {
            suits(table, name, &mut spec);
            let origin = Origin { file: Arc::from("random"), line: 1, target: Span::default() };
            Rule { spec, counter, origin }
        };
        Chain {
            name: name.to_owned(),
            policy: is_builtin.then_some(Policy { verdict, counter: policy }),
            rules: rules.into_iter().map(rule).collect(),
        }
    })
}

fn table(family: Family, table: TableName) -> impl Strategy<Value = Vec<Chain>> {
    let builtin = table.builtin_chains().iter().map(|name| (*name, 0));
    let user = USER_CHAINS.iter().enumerate().map(|(at, name)| (*name, at + 1));
    let chains = builtin.chain(user).map(|(name, from)| chain(family, table, name, from).boxed());
    chains.collect::<Vec<_>>().prop_map(move |mut chains| {
        chains[table.builtin_chains().len()..].sort_by(|a, b| a.name.cmp(&b.name));
        chains
    })
}

pub(super) fn ruleset(family: Family) -> impl Strategy<Value = Ruleset> {
    let raw = option::of(table(family, TableName::Raw));
    let mangle = option::of(table(family, TableName::Mangle));
    (raw, mangle, table(family, TableName::Filter)).prop_map(move |(raw, mangle, filter)| {
        let mut ruleset = Ruleset::empty(family);
        ruleset.table_mut(TableName::Filter).chains = filter;
        if let Some(raw) = raw {
            ruleset.table_mut(TableName::Raw).chains = raw;
        }
        if let Some(mangle) = mangle {
            ruleset.table_mut(TableName::Mangle).chains = mangle;
        }
        ruleset
    })
}

/// With table nat, too.
pub(super) fn translating_ruleset(family: Family) -> impl Strategy<Value = Ruleset> {
    (ruleset(family), option::of(table(family, TableName::Nat))).prop_map(|(mut ruleset, nat)| {
        if let Some(nat) = nat {
            ruleset.table_mut(TableName::Nat).chains = nat;
        }
        ruleset
    })
}

/// A packet of the family, and what tracking might have found of it.
pub(super) fn subject(family: Family) -> impl Strategy<Value = Subject> {
    let protocols = vec![6, 6, 17, names::icmp_protocol(family), 47];
    let icmp = (0..4u8, 0..3u8);
    let interface = || option::of(select(INTERFACES.to_vec()));
    let facts = (select(vec![1, 2, 4, 8, 16]), 0..2u8, extra::seen(), (20..120u32, 0..5u8, 0..8u8));
    let addresses = (address(family), address(family));
    (addresses, select(protocols), port(), port(), 0..64u8, icmp, (interface(), interface()), facts)
        .prop_map(
            move |((src, dst), protocol, sport, dport, flags, icmp, (input, output), facts)| {
                let (state, announced_by, seen, (ip_len, ttl, tos)) = facts;
                let tuple = Tuple {
                    src: Addr::from(src),
                    dst: Addr::from(dst),
                    sport,
                    dport,
                    protocol,
                    ..Tuple::default()
                };
                let headers = Headers {
                    tuple,
                    version: if family == Family::Ipv4 { 4 } else { 6 },
                    ip_len,
                    ttl,
                    tos,
                    tcp_flags: if protocol == 6 { flags } else { 0 },
                    icmp_type: icmp.0,
                    icmp_code: icmp.1,
                    ..Headers::default()
                };
                Subject { headers, input, output, state, announced_by, seen }
            },
        )
}
