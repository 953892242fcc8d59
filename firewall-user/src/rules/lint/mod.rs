//! Rules that compile and are still likely to be wrong: what `firewall check` warns of.
//!
//! Each finding has a name, a place, one sentence and what to do. A lint says nothing
//! where it is not sure: a warning that is wrong teaches people to ignore the others.

mod cover;
mod lockout;
mod order;
mod shadowed;
mod translation;
mod wide;
mod wider;

use std::fmt;

pub use self::lockout::{Caller, Cut, Lockout, lockout};
#[cfg(test)]
pub(super) use self::{cover::covers, shadowed::decides, wider::Wider};
use super::ast::{Chain, DNAT, Match, Origin, Rule, RuleSpec, Ruleset, SNAT, Target};

/// Something that is likely to be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `shadowed`, `related-wide`, `sport-20`, `locks-out`, `established-late`,
    /// `masquerade-wide`, `dnat-closed`, `hairpin`.
    pub lint: &'static str,
    /// `None` where the whole file is meant.
    pub line: Option<u32>,
    /// Without an end; so is the next.
    pub message: String,
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning: {} [{}]\n  {}", self.message, self.lint, self.advice)
    }
}

/// Everything that is likely to be wrong with the rules of one family, in the order of
/// the lines; `caller` is whoever could be locked out.
pub fn lint(ruleset: &Ruleset, caller: Option<&Caller>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &ruleset.tables {
        for chain in &table.chains {
            shadowed::chain(table, chain, &mut findings);
        }
    }
    wide::related(ruleset, &mut findings);
    wide::source_port(ruleset, &mut findings);
    order::established(ruleset, &mut findings);
    translation::lint(ruleset, &mut findings);
    lockout::lint(ruleset, caller, &mut findings);
    findings.sort_by_key(|finding| finding.line);
    findings
}

fn finding(lint: &'static str, origin: &Origin, message: String, advice: &str) -> Finding {
    Finding { lint, line: Some(origin.line), message, advice: advice.into() }
}

/// `FORWARD 3`
fn name(chain: &Chain, at: usize) -> String {
    format!("{} {}", chain.name, at + 1)
}

/// The rules of the table filter, each with its chain and its place there.
fn filter_rules(ruleset: &Ruleset) -> impl Iterator<Item = (&Chain, usize, &Rule)> {
    let chains =
        ruleset.table(super::TableName::Filter).into_iter().flat_map(|table| &table.chains);
    chains.flat_map(|chain| chain.rules.iter().enumerate().map(move |(at, rule)| (chain, at, rule)))
}

/// The states that a rule is for, where it asks for any. A packet has SNAT and DNAT beside
/// its state: a list with them says nothing about that.
fn states(spec: &RuleSpec) -> Option<u8> {
    const ALL: u8 = 0b1_1111;
    let asked = spec.matches.iter().filter_map(|one| match one {
        Match::State(state) if state.states & (SNAT | DNAT) != 0 => None,
        Match::State(state) if state.negated => Some(ALL & !state.states),
        Match::State(state) => Some(state.states),
        _ => None,
    });
    asked.reduce(|all, one| all & one)
}

const fn accepts(spec: &RuleSpec) -> bool {
    matches!(spec.target, Target::Accept)
}

#[cfg(test)]
fn linted(text: &str) -> Vec<(&'static str, u32)> {
    let rules =
        super::parse("rules", text, firewall_common::addr::Family::Ipv4, &super::BuiltinServices);
    let findings = lint(&rules.expect("rules"), None);
    findings.iter().map(|finding| (finding.lint, finding.line.unwrap_or(0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_as_they_should_be_have_no_findings() {
        let good = "\
*raw
-A PREROUTING -p tcp --dport 21 -j CT --helper ftp
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp --dport 22 -j ACCEPT
-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -m helper --helper ftp -m conntrack --ctstate RELATED --dport 1024: -j ACCEPT
-A FORWARD -p icmp -m conntrack --ctstate RELATED -j ACCEPT
-A FORWARD -p tcp --dport 21 -j ACCEPT
COMMIT
";
        assert_eq!(linted(good), []);
    }

    #[test]
    fn a_finding_reads_as_a_warning_with_advice() {
        let rules = "-A INPUT -j DROP\n-A INPUT -p tcp --dport 80 -j ACCEPT\n";
        let family = firewall_common::addr::Family::Ipv4;
        let rules = crate::rules::parse("rules", rules, family, &crate::rules::BuiltinServices);
        let findings = lint(&rules.unwrap(), None);
        assert_eq!(
            findings.last().unwrap().to_string(),
            "warning: INPUT 2 can never match: INPUT 1 (line 1) takes everything that it would \
             [shadowed]\n  move it in front of INPUT 1, or delete it"
        );
    }
}
