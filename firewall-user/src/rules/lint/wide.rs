//! Rules that admit more than they are meant for: RELATED beside an FTP helper, and
//! `--sport 20`.

use firewall_common::{
    flow::{CtState, protocol},
    rule::{PortRange, PortSide},
};

use crate::rules::{
    TableName,
    ast::{Match, RuleSpec, Ruleset, Target},
};

use super::{Finding, accepts, filter_rules, finding, name, states};

const FTP_DATA: u16 = 20;
const FTP: u16 = 21;
/// Ports below are nobody's data connections.
const UNPRIVILEGED: u16 = 1024;

/// RELATED for everything, where FTP is what it is for.
pub fn related(ruleset: &Ruleset, findings: &mut Vec<Finding>) {
    if !is_for_ftp(ruleset) {
        return;
    }
    for (chain, at, rule) in filter_rules(ruleset) {
        let spec = &rule.spec;
        let is_related = states(spec).is_some_and(|bits| bits & CtState::Related.bit() != 0);
        let is_icmp = spec.protocol.is_some_and(|condition| {
            !condition.negated && matches!(condition.value, protocol::ICMP | protocol::ICMPV6)
        });
        if !accepts(spec) || !is_related || is_icmp || is_limited(spec) {
            continue;
        }
        let message = format!(
            "{} accepts whatever is RELATED, to any port, where an FTP helper decides what is",
            name(chain, at)
        );
        let advice = "write -m conntrack --ctstate ESTABLISHED here, and behind it -p tcp -m helper \
                      --helper ftp -m conntrack --ctstate RELATED --dport 1024: -j ACCEPT, and -p icmp \
                      -m conntrack --ctstate RELATED -j ACCEPT";
        findings.push(finding("related-wide", &rule.origin, message, advice));
    }
}

/// Whether the rules show that FTP passes here.
fn is_for_ftp(ruleset: &Ruleset) -> bool {
    let raw = ruleset.table(TableName::Raw).into_iter().flat_map(|table| &table.chains);
    let mut raw = raw.flat_map(|chain| &chain.rules);
    raw.any(|rule| matches!(rule.spec.target, Target::Helper(_)))
        || filter_rules(ruleset).any(|(_, _, rule)| {
            let spec = &rule.spec;
            let is_to_ftp = ports(spec, false).is_some_and(|ranges| {
                ranges.iter().any(|range| range.first == FTP && range.last == FTP)
            });
            has_helper(spec) || accepts(spec) && is_to_ftp
        })
}

fn has_helper(spec: &RuleSpec) -> bool {
    spec.matches.iter().any(|one| matches!(one, Match::Helper(condition) if !condition.negated))
}

/// Announced by a helper, and to no port that a service has.
fn is_limited(spec: &RuleSpec) -> bool {
    let is_above = |range: &PortRange| range.first >= UNPRIVILEGED;
    has_helper(spec) || ports(spec, false).is_some_and(|ranges| ranges.iter().all(is_above))
}

/// TCP from port 20 as if only servers could send from there.
pub fn source_port(ruleset: &Ruleset, findings: &mut Vec<Finding>) {
    for (chain, at, rule) in filter_rules(ruleset) {
        let spec = &rule.spec;
        let is_from_data = ports(spec, true).is_some_and(|ranges| {
            ranges.iter().any(|range| range.first == FTP_DATA && range.last == FTP_DATA)
        });
        let may_begin = states(spec).is_none_or(|bits| bits & CtState::New.bit() != 0);
        let is_bound = ports(spec, false)
            .is_some_and(|ranges| ranges.iter().all(|range| range.first == range.last));
        if !accepts(spec) || !is_from_data || !may_begin || is_bound || only_answers(spec) {
            continue;
        }
        let message = format!(
            "{} admits anyone who sends from port 20, which every sender is free to choose",
            name(chain, at)
        );
        let advice = "let the helper tell who may connect: -p tcp -m helper --helper ftp -m conntrack \
                      --ctstate RELATED -j ACCEPT";
        findings.push(finding("sport-20", &rule.origin, message, advice));
    }
}

/// `! --syn`
fn only_answers(spec: &RuleSpec) -> bool {
    spec.matches.iter().any(|one| match one {
        Match::Transport(transport) => transport.flags.is_some_and(|flags| flags.negated),
        _ => false,
    })
}

/// The source or destination ports that a rule names without `!`.
fn ports(spec: &RuleSpec, is_source: bool) -> Option<Vec<PortRange>> {
    let side = if is_source { PortSide::Source } else { PortSide::Destination };
    spec.matches.iter().find_map(|one| match one {
        Match::Transport(transport) => {
            let ports = if is_source { transport.sport } else { transport.dport };
            ports.filter(|ports| !ports.negated).map(|ports| vec![ports.value])
        }
        Match::Multiport(ports) if ports.side == side && !ports.negated => {
            Some(ports.ranges.clone())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::linted;

    const CONTROL: &str = "-A FORWARD -p tcp --dport 21 -j ACCEPT\n";

    #[test]
    fn related_for_everything_is_found_where_ftp_passes() {
        let related = "-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT\n";
        assert_eq!(linted(&format!("{related}{CONTROL}")), [("related-wide", 1)]);
        assert_eq!(linted(related), []);
        let assigned = "-t raw -A PREROUTING -p tcp --dport 2121 -j CT --helper ftp\n";
        assert_eq!(linted(&format!("{assigned}{related}")), [("related-wide", 2)]);
    }

    #[test]
    fn related_that_is_limited_is_as_it_should_be() {
        for rule in [
            "-m helper --helper ftp -m state --state RELATED",
            "-p tcp -m state --state RELATED --dport 1024:",
            "-p icmp -m state --state RELATED",
        ] {
            let text = format!("-A FORWARD {rule} -j ACCEPT\n{CONTROL}");
            assert_eq!(linted(&text), [], "{rule}");
        }
    }

    #[test]
    fn a_rule_for_source_port_20_is_found() {
        for rule in [
            "-p tcp --sport 20",
            "-p tcp -m multiport --sports 20,21",
            "-p tcp --sport ftp-data -i eth0",
        ] {
            assert_eq!(
                linted(&format!("-A INPUT {rule} -j ACCEPT\n")),
                [("sport-20", 1)],
                "{rule}"
            );
        }
    }

    #[test]
    fn source_port_20_without_new_connections_admits_nobody() {
        for rule in [
            "-p tcp --sport 20 -m state --state ESTABLISHED",
            "-p tcp --sport 20 ! --syn",
            "-p tcp --sport 20 --dport 2000",
        ] {
            assert_eq!(linted(&format!("-A INPUT {rule} -j ACCEPT\n")), [], "{rule}");
        }
    }
}
