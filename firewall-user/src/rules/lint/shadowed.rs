//! Rules that no packet reaches: an earlier one of their chain decides about everything
//! that they would match, or nothing leads to their chain.

use crate::rules::ast::{Chain, Rule, Table, Target};

use super::{Finding, finding, name, wider::Wider};

pub fn chain(table: &Table, chain: &Chain, findings: &mut Vec<Finding>) {
    if chain.policy.is_none() && table.references(&chain.name) == 0 {
        if let Some(first) = chain.rules.first() {
            let message =
                format!("nothing leads to the chain {}: its rules never match", chain.name);
            let advice = "jump to it with -j, or delete it with -F and -X";
            findings.push(finding("shadowed", &first.origin, message, advice));
        }
        return;
    }
    let mut wider = Wider::default();
    for (at, rule) in chain.rules.iter().enumerate() {
        let shadow = wider.first(&rule.spec);
        if decides(rule) {
            wider.file(at, &rule.spec);
        }
        let Some(before) = shadow else { continue };
        let by = name(chain, before);
        let message = format!(
            "{} can never match: {by} (line {}) takes everything that it would",
            name(chain, at),
            chain.rules[before].origin.line
        );
        let advice = format!("move it in front of {by}, or delete it");
        findings.push(finding("shadowed", &rule.origin, message, &advice));
    }
}

/// Whether a packet that matches goes on to no later rule of the chain.
pub const fn decides(rule: &Rule) -> bool {
    matches!(
        rule.spec.target,
        Target::Accept
            | Target::Drop
            | Target::Reject(_)
            | Target::Return
            | Target::Goto(_)
            | Target::Nat(_)
    )
}

#[cfg(test)]
mod tests {
    use super::super::linted;

    #[test]
    fn a_rule_behind_a_wider_one_is_found() {
        let text = "-A FORWARD -p tcp -j ACCEPT\n-A FORWARD -p tcp --dport 80 -j DROP\n";
        assert_eq!(linted(text), [("shadowed", 2)]);
    }

    #[test]
    fn a_rule_that_goes_on_shadows_nothing() {
        assert_eq!(linted("-A FORWARD -j LOG\n-A FORWARD -p tcp -j DROP\n"), []);
        assert_eq!(
            linted("-N a\n-A FORWARD -j a\n-A FORWARD -p tcp -j DROP\n-A a -p udp -j DROP\n"),
            []
        );
    }

    #[test]
    fn a_chain_that_nothing_leads_to_is_found() {
        assert_eq!(linted("-N a\n-A a -p tcp -j DROP\n"), [("shadowed", 2)]);
    }
}
