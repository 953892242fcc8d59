//! Which rules keep the datapath from remembering a verdict.
//!
//! An established connection remembers, for each direction, that its packets are
//! accepted and which counters they move: those that neither begin nor end it (SYN, FIN and
//! RST walk the rules). It does so unless a packet came by a rule that
//! looks at single packets, or does something for each, and fitted the rule's other
//! conditions ([`firewall_common::walk::step`]). What is told here is every rule that
//! this can happen to: one behind a rule that decides about all established connections
//! is not among them, nor is one for other states.

use std::collections::{BTreeSet, HashMap};

use firewall_common::{
    flow::CtState,
    rule::{CHAINS, Chain, NO_ENTRY, Rule, Target as Code, condition, flag},
};

use super::{
    ast::{self, Condition, IcmpType, Match, Ruleset, Target},
    extra::{Extra, ExtraKind},
    lower::{Compiled, Part, is_constant},
    print::spec_text,
};

/// The chains that a packet enters one after another.
type Way = [Chain];

/// The ways of packets, under the name of the chain of table filter.
const WAYS: [(&str, &Way); 3] = [
    ("INPUT", &[Chain::RawPrerouting, Chain::ManglePrerouting, Chain::MangleInput, Chain::Input]),
    (
        "FORWARD",
        &[
            Chain::RawPrerouting,
            Chain::ManglePrerouting,
            Chain::MangleForward,
            Chain::Forward,
            Chain::ManglePostrouting,
        ],
    ),
    ("OUTPUT", &[Chain::RawOutput, Chain::MangleOutput, Chain::Output, Chain::ManglePostrouting]),
];

/// A built-in chain and the rules on the way through it that keep verdicts from being
/// remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembering {
    pub chain: &'static str,
    pub preventing: Vec<Preventing>,
}

/// A rule that is looked at for each packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preventing {
    pub line: u32,
    /// `FORWARD 3`, and in other tables than filter `raw PREROUTING 1`.
    pub place: String,
    /// `looks at the TCP flags`
    pub reason: String,
    /// As iptables-save writes it.
    pub rule: String,
}

/// What each built-in chain of these rules remembers; `compiled` holds them.
pub fn remembering(ruleset: &Ruleset, compiled: &Compiled) -> Vec<Remembering> {
    let family = usize::from(ruleset.family == firewall_common::addr::Family::Ipv6);
    let entries = &compiled.header.entries[family];
    WAYS.map(|(chain, way)| {
        let found = preventing(&compiled.rules, entries, way);
        let told = found.into_iter().filter_map(|index| tell(ruleset, compiled, index));
        Remembering { chain, preventing: told.collect() }
    })
    .into()
}

fn tell(ruleset: &Ruleset, compiled: &Compiled, index: u32) -> Option<Preventing> {
    let origin = compiled.origins.get(index as usize)?;
    let Part::Rule(number) = origin.part else { return None };
    let chain = ruleset.table(origin.table)?.chain(&origin.chain)?;
    let rule = chain.rules.get(number as usize - 1)?;
    let table = match origin.table {
        ast::TableName::Filter => String::new(),
        other => format!("{other} "),
    };
    Some(Preventing {
        line: rule.origin.line,
        place: format!("{table}{} {number}", chain.name),
        reason: reasons(&rule.spec, compiled.rules.get(index as usize)?),
        rule: format!("-A {} {}", chain.name, spec_text(ruleset.family, &rule.spec).trim()),
    })
}

/// Why no packet that fits may be taken for another one.
fn reasons(spec: &ast::RuleSpec, compiled: &Rule) -> String {
    let are_flags_asked = compiled.fits_plain_segments().is_none();
    let reasons = spec.matches.iter().filter_map(|one| of_match(one, are_flags_asked));
    let mut reasons: Vec<String> = reasons.collect();
    reasons.extend(match &spec.target {
        Target::Log(_) => Some("reports each packet".into()),
        Target::Proxy(_) => Some("answers single packets".into()),
        Target::Untrack(_) => Some("leaves its packets without a connection".into()),
        Target::Set(_) => Some("puts each packet into sets".into()),
        Target::Mangle(_) => Some("changes single packets or their connection's mark".into()),
        _ => None,
    });
    if reasons.is_empty() { "looks at each packet".into() } else { reasons.join(", and ") }
}

fn of_match(one: &Match, are_flags_asked: bool) -> Option<String> {
    match one {
        Match::Transport(transport) => match (are_flags_asked, transport.option) {
            (true, None) => Some("looks at the TCP flags".into()),
            (false, Some(_)) => Some("looks at the TCP options".into()),
            (true, Some(_)) => Some("looks at the TCP flags and options".into()),
            (false, None) => None,
        },
        Match::Icmp(Condition { value: IcmpType::Any, .. }) => None,
        Match::Icmp(_) => Some("looks at the ICMP type".into()),
        Match::Extra(extra) => of_extra(extra),
        _ => None,
    }
}

fn of_extra(extra: &Extra) -> Option<String> {
    if extra.facts.iter().all(|fact| is_constant(&fact.value)) {
        return None;
    }
    Some(match extra.kind {
        ExtraKind::Limit => "counts each packet for its limit".into(),
        ExtraKind::Statistic => "decides packet by packet (-m statistic)".into(),
        kind => format!("looks at each packet (-m {})", kind.name()),
    })
}

/// The compiled rules that keep a verdict from being remembered on this way.
pub(super) fn preventing(rules: &[Rule], entries: &[u32; CHAINS], way: &Way) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for chain in way {
        let start = entries[*chain as usize];
        let is_tracked = !matches!(chain, Chain::RawPrerouting | Chain::RawOutput);
        if start != NO_ENTRY {
            Tour { rules, is_tracked, known: HashMap::new(), found: &mut found }.chain(start);
        }
    }
    found
}

/// A look at every rule of a table that a packet of an established connection may come
/// by.
struct Tour<'a> {
    rules: &'a [Rule],
    /// Before tracking no packet has a state.
    is_tracked: bool,
    /// Of each chain, by its first rule, whether it decides about every such packet.
    known: HashMap<u32, bool>,
    found: &'a mut BTreeSet<u32>,
}

impl Tour<'_> {
    /// Whether the chain from this rule on decides about every packet.
    fn chain(&mut self, start: u32) -> bool {
        if let Some(decides) = self.known.get(&start) {
            return *decides;
        }
        let decides = self.look_at(start);
        self.known.insert(start, decides);
        decides
    }

    fn look_at(&mut self, start: u32) -> bool {
        let Some(first) = self.rules.get(start as usize) else { return false };
        for index in start..=first.chain_end {
            let Some(rule) = self.rules.get(index as usize) else { return false };
            if !self.may_fit(rule) {
                continue;
            }
            if prevents(rule) {
                self.found.insert(index);
            }
            let fits_all = rule.present & !condition::STATES == 0 && rule.extra_count == 0;
            let (ends, decides) = match Code::from_byte(rule.target) {
                Some(Code::Accept | Code::Drop | Code::Reject) => (true, true),
                Some(Code::Return) => (true, false),
                Some(Code::Goto) => (true, self.chain(rule.argument)),
                Some(Code::Jump) => {
                    let decides = self.chain(rule.argument);
                    (decides, decides)
                }
                _ => (false, false),
            };
            if fits_all && ends {
                return decides;
            }
        }
        false
    }

    fn may_fit(&self, rule: &Rule) -> bool {
        if rule.fits_plain_segments() == Some(false) {
            return false;
        }
        let is_for_some = rule.present & condition::STATES != 0;
        !is_for_some || self.is_tracked && rule.states & CtState::Established.bit() != 0
    }
}

fn prevents(rule: &Rule) -> bool {
    let acts = match Code::from_byte(rule.target) {
        Some(
            Code::Proxy
            | Code::Untrack
            | Code::Set
            | Code::Mark
            | Code::SetCtMark
            | Code::SaveMark
            | Code::RestoreMark
            | Code::Tos
            | Code::Hops
            | Code::Mss,
        ) => true,
        Some(
            Code::Continue
            | Code::Accept
            | Code::Drop
            | Code::Reject
            | Code::Log
            | Code::Return
            | Code::Jump
            | Code::Goto
            | Code::Helper
            // Only the first packet of a flow comes there.
            | Code::Translate,
        )
        | None => false,
    };
    acts || rule.flags & flag::PER_PACKET != 0
}

#[cfg(test)]
mod tests {
    use firewall_common::addr::Family;

    use super::*;
    use crate::rules::{BuiltinServices, compile, parse};

    fn told(text: &str) -> Vec<String> {
        let rules = parse("rules", text, Family::Ipv4, &BuiltinServices).unwrap();
        let compiled = compile(&rules, &Ruleset::empty(Family::Ipv6)).unwrap();
        let chains = remembering(&rules, &compiled).into_iter().flat_map(|of| {
            let Remembering { chain, preventing } = of;
            preventing.into_iter().map(move |Preventing { line, place, reason, .. }| {
                format!("{chain}: {line}: {place} {reason}")
            })
        });
        chains.collect()
    }

    #[test]
    fn a_rule_that_looks_at_single_packets_is_named_with_its_reason() {
        let text = "\
-A INPUT -p icmp --icmp-type 8 -j ACCEPT
-A INPUT -p tcp --dport 22 -m limit --limit 3/min -j ACCEPT
-A FORWARD -p tcp --tcp-flags ACK,PSH ACK -m length --length 60 -j ACCEPT
-A FORWARD -s 192.0.2.1 -j LOG
-A OUTPUT -p tcp --dport 80 -j ACCEPT
";
        assert_eq!(
            told(text),
            [
                "INPUT: 1: INPUT 1 looks at the ICMP type",
                "INPUT: 2: INPUT 2 counts each packet for its limit",
                "FORWARD: 3: FORWARD 1 looks at the TCP flags, and looks at each packet (-m length)",
                "FORWARD: 4: FORWARD 2 reports each packet",
            ]
        );
    }

    #[test]
    fn flags_that_begin_or_end_a_connection_are_no_reason() {
        let text = "\
-A INPUT -p tcp --syn -j LOG
-A INPUT -p tcp --syn -m limit --limit 3/min -j ACCEPT
-A INPUT -p tcp ! --syn -m state --state NEW -j DROP
-A INPUT -p tcp --tcp-flags SYN,RST,FIN NONE -j RETURN
-A INPUT -p tcp --tcp-flags ALL NONE -j DROP
-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
-A FORWARD -p tcp ! --syn -m length --length 60 -j ACCEPT
-A FORWARD -m conntrack --ctstatus SEEN_REPLY -j ACCEPT
-A OUTPUT -m conntrack --ctstatus ASSURED -j ACCEPT
";
        assert_eq!(
            told(text),
            [
                "INPUT: 5: INPUT 5 looks at the TCP flags",
                "FORWARD: 7: FORWARD 2 looks at each packet (-m length)",
                "OUTPUT: 9: OUTPUT 1 looks at each packet (-m conntrack)",
            ]
        );
    }

    #[test]
    fn what_established_connections_never_come_by_is_not_named() {
        let text = "\
-N web
-A INPUT -m conntrack --ctstate NEW -j LOG
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -j LOG
-A FORWARD -j web
-A FORWARD -j LOG
-A web -m state --state ESTABLISHED -g web2
-N web2
-A web2 -j ACCEPT
";
        assert_eq!(told(text), [""; 0]);
    }

    #[test]
    fn rules_of_other_chains_are_named_where_a_packet_comes_by() {
        let text = "\
-N web
-t raw -A PREROUTING -p udp -j CT --notrack
-t raw -A PREROUTING -m state --state NEW -j LOG
-A INPUT -p tcp -j web
-A INPUT -p tcp -j RETURN
-A INPUT -j LOG
-A FORWARD -j web
-A FORWARD -j ACCEPT
-A FORWARD -j LOG
-A web -m ttl --ttl-lt 2 -j DROP
-A web -j RETURN
-A web -j LOG
";
        let udp = "raw PREROUTING 1 leaves its packets without a connection";
        assert_eq!(
            told(text),
            [
                format!("INPUT: 2: {udp}"),
                "INPUT: 6: INPUT 3 reports each packet".into(),
                "INPUT: 10: web 1 looks at each packet (-m ttl)".into(),
                format!("FORWARD: 2: {udp}"),
                "FORWARD: 10: web 1 looks at each packet (-m ttl)".into(),
            ]
        );
    }
}
