//! Established packets that are compared with many rules before one lets them pass.

use firewall_common::flow::CtState;

use crate::rules::ast::{Match, Rule, Ruleset, Target};

use super::{Finding, accepts, filter_rules, finding, name, states};

/// Rules that may well stand in front: lo, INVALID, a jump or two.
const FEW: usize = 4;

pub fn established(ruleset: &Ruleset, findings: &mut Vec<Finding>) {
    for (chain, at, rule) in filter_rules(ruleset) {
        if chain.policy.is_none() || !is_for_established(rule) {
            continue;
        }
        let before = &chain.rules[..at];
        let is_second = before.iter().any(is_for_established);
        let each = before.iter().position(looks_at_each_packet);
        if is_second || (at <= FEW && each.is_none()) {
            continue;
        }
        let passed = if at == 1 { "1 rule".to_owned() } else { format!("{at} rules") };
        let message = match each {
            Some(which) => format!(
                "established packets pass {passed} before {} accepts them, each of them again: {} \
                 looks at every packet, so that no verdict is remembered",
                name(chain, at),
                name(chain, which)
            ),
            None => format!(
                "established packets pass {passed} before {} accepts them",
                name(chain, at)
            ),
        };
        let advice = format!("make it the first rule of {}", chain.name);
        findings.push(finding("established-late", &rule.origin, message, &advice));
    }
}

/// It accepts every packet of a known connection.
fn is_for_established(rule: &Rule) -> bool {
    let spec = &rule.spec;
    let is_bare = spec.src.is_none() && spec.dst.is_none() && spec.input.is_none();
    let is_bare = is_bare && spec.output.is_none() && spec.protocol.is_none();
    let only_states =
        spec.matches.iter().all(|one| matches!(one, Match::State(_) | Match::Comment(_)));
    let bits = states(spec).unwrap_or(0);
    accepts(spec) && is_bare && only_states && bits & CtState::Established.bit() != 0
}

/// No verdict behind it is remembered.
fn looks_at_each_packet(rule: &Rule) -> bool {
    // What is never seen by established packets does not matter.
    let is_seen = states(&rule.spec).is_none_or(|bits| bits & CtState::Established.bit() != 0);
    let has_flags = rule.spec.matches.iter().any(|one| match one {
        Match::Transport(transport) => transport.flags.is_some(),
        _ => false,
    });
    is_seen && (has_flags || matches!(rule.spec.target, Target::Log(_) | Target::Nflog(_)))
}

#[cfg(test)]
mod tests {
    use super::super::linted;

    const ESTABLISHED: &str = "-A FORWARD -m state --state ESTABLISHED -j ACCEPT\n";

    fn behind(rules: &[&str]) -> Vec<(&'static str, u32)> {
        let before: String = rules.iter().map(|rule| format!("-A FORWARD {rule}\n")).collect();
        linted(&format!("{before}{ESTABLISHED}"))
    }

    #[test]
    fn behind_many_rules_it_is_late() {
        let rules: Vec<_> =
            (1..=5).map(|port| format!("-p tcp --dport {port} -j ACCEPT")).collect();
        let rules: Vec<_> = rules.iter().map(String::as_str).collect();
        assert_eq!(behind(&rules), [("established-late", 6)]);
        assert_eq!(behind(&rules[..4]), []);
    }

    #[test]
    fn behind_a_rule_that_looks_at_every_packet_it_is_late_at_once() {
        assert_eq!(behind(&["-p tcp --syn -j ACCEPT"]), [("established-late", 2)]);
        assert_eq!(behind(&["-j LOG"]), [("established-late", 2)]);
        assert_eq!(behind(&["-m state --state INVALID -j LOG"]), []);
    }

    #[test]
    fn where_it_stands_first_nothing_is_said() {
        assert_eq!(linted(ESTABLISHED), []);
    }
}
