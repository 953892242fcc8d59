//! What hides a rule is found by what rules ask for: the same as by asking each of those
//! before it.

use proptest::prelude::*;

use super::random;
use crate::rules::{
    BuiltinServices, Chain,
    lint::{Wider, covers, decides},
    parse,
};

/// Of each rule, the first before it that decides about all that it matches.
fn one_by_one(chain: &Chain) -> Vec<Option<usize>> {
    let hides = |at: usize, before: usize| {
        let (wide, narrow) = (&chain.rules[before], &chain.rules[at]);
        decides(wide) && covers(&wide.spec, &narrow.spec)
    };
    (0..chain.rules.len()).map(|at| (0..at).find(|before| hides(at, *before))).collect()
}

fn found(chain: &Chain) -> Vec<Option<usize>> {
    let mut wider = Wider::default();
    let rules = chain.rules.iter().enumerate();
    rules
        .map(|(at, rule)| {
            let first = wider.first(&rule.spec);
            if decides(rule) {
                wider.file(at, &rule.spec);
            }
            first
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn what_hides_a_rule_is_found_as_by_asking_one_by_one(
        ruleset in random::any_family().prop_flat_map(random::ruleset),
    ) {
        for table in &ruleset.tables {
            // All rules of the table in one chain, so that there are more pairs.
            let rules = table.chains.iter().flat_map(|chain| chain.rules.clone()).collect();
            let chain = Chain { name: "all".into(), policy: None, rules };
            prop_assert_eq!(found(&chain), one_by_one(&chain));
        }
    }
}

#[test]
fn ten_thousand_rules_are_compared_with_few_others() {
    let rule = |n: u32| format!("-A INPUT -s 10.{}.{}.0/24 -j DROP\n", n / 256, n % 256);
    let text: String = (0..10_000).map(rule).collect();
    let text = text + "-A INPUT -s 10.3.7.9 -p tcp --dport 22 -j ACCEPT\n";
    let family = firewall_common::addr::Family::Ipv4;
    let rules = parse("rules", &text, family, &BuiltinServices).unwrap();
    let hidden = found(rules.tables[0].chain("INPUT").unwrap());
    assert_eq!(hidden.last(), Some(&Some(3 * 256 + 7)));
    assert_eq!(hidden.iter().flatten().count(), 1);
}
