//! One rule that comes or goes by the short way, against the compiler: the rules, what
//! stands beside them and the kept texts are those of the whole.

use std::{cell::Cell, sync::Arc};

use firewall_common::{addr::Family, rule::Rule as CompiledRule};
use proptest::{prelude::*, test_runner::TestRunner};

use super::random;
use crate::{
    rules::{
        BuiltinServices, Compiled, Rule, Ruleset, TableName, compile, edit, parse, spec_text,
        splice::used, to_save,
    },
    ruleset::{
        patch::{Kept, Sketch, Step, Where},
        sources,
    },
};

/// Where the new rule was written.
const HERE: &str = "the command line";

/// Conditions of rules that stand for themselves, and of some that do not.
const SPECS: [&str; 12] = [
    "-s 192.0.2.1 -j DROP",
    "-s 192.0.2.0/24 -j ACCEPT",
    "! -d 198.51.100.7 -p tcp --dport 22 -j REJECT",
    "-p udp --sport 53 -j RETURN",
    "-p icmp --icmp-type 8 -j LOG --log-prefix \"ping \"",
    "-m state --state NEW",
    "",
    "-i eth0 -j ACCEPT",
    "-p tcp -m multiport --dports 1,2 -j DROP",
    "-m limit --limit 5/s -j ACCEPT",
    "-m set --match-set block src -j DROP",
    "-j b-c",
];

/// What is kept of rulesets as they were read.
fn kept(all: &[Ruleset; 2]) -> Kept {
    let written =
        |rules: &Ruleset| sources::write(rules, |rule| (&rule.origin.file, rule.origin.line));
    Kept {
        texts: all.each_ref().map(|rules| to_save(rules, None)),
        sources: all.each_ref().map(written),
    }
}

/// As it is read from what is kept of it.
fn read(rules: &Ruleset) -> Ruleset {
    parse("the running rules", &to_save(rules, None), rules.family, &BuiltinServices).unwrap()
}

/// A rule of the command line; `None` where the chain does not take it.
fn rule(rules: &Ruleset, place: Where<'_>, spec: &str) -> Option<Rule> {
    let line = format!("-t {} -A {} {spec}", place.table, place.chain);
    let after = edit(rules.clone(), HERE, &line, &BuiltinServices).ok()?;
    after.table(place.table)?.chain(place.chain)?.rules.last().cloned()
}

/// The long way.
fn carried_out(
    rules: &Ruleset,
    place: Where<'_>,
    step: Step,
    rule: Option<&Rule>,
) -> Option<Ruleset> {
    let mut after = rules.clone();
    let rules = &mut after.table_mut(place.table).chain_mut(place.chain)?.rules;
    match step {
        Step::Append => rules.push(rule?.clone()),
        Step::Insert(number) if number <= rules.len() => rules.insert(number, rule?.clone()),
        Step::Replace(number) if number < rules.len() => rules[number] = rule?.clone(),
        Step::DeleteNumber(number) if number < rules.len() => drop(rules.remove(number)),
        Step::Delete => {
            let spec = &rule?.spec;
            let at = rules.iter().position(|known| known.spec == *spec)?;
            rules.remove(at);
        }
        _ => return None,
    }
    Some(after)
}

/// The compiled rules after the short way.
fn spliced(before: &Compiled, patch: &crate::ruleset::patch::Patch) -> Vec<CompiledRule> {
    let mut after = vec![CompiledRule::default(); patch.splice.length(before.rules.len())];
    patch.splice.rules(&before.rules, &mut after);
    after
}

#[derive(Clone, Debug)]
struct Wish {
    family: bool,
    table: usize,
    chain: usize,
    kind: usize,
    number: usize,
    spec: usize,
}

fn wish() -> impl Strategy<Value = Wish> {
    (any::<bool>(), 0..3usize, 0..9usize, 0..5usize, 0..7usize, 0..SPECS.len() + 8).prop_map(
        |(family, table, chain, kind, number, spec)| Wish {
            family,
            table,
            chain,
            kind,
            number,
            spec,
        },
    )
}

/// Carries a wish out both ways, compares, and gives the rulesets afterwards, and whether
/// the short way was taken.
fn both_ways(all: &[Ruleset; 2], wish: &Wish) -> Option<([Ruleset; 2], bool)> {
    let rules = &all[usize::from(wish.family)];
    let table = [TableName::Filter, TableName::Raw, TableName::Mangle][wish.table];
    let chains = &rules.table(table)?.chains;
    let chain = &chains[wish.chain % chains.len()];
    let place = Where { family: rules.family, table, chain: &chain.name };
    let step = match wish.kind {
        0 => Step::Append,
        1 => Step::Insert(wish.number),
        2 => Step::Replace(wish.number),
        3 => Step::DeleteNumber(wish.number),
        _ => Step::Delete,
    };
    // Also what is there already, which a deletion finds.
    let own = chain.rules.get(wish.number).map(|rule| spec_text(rules.family, &rule.spec));
    let spec = SPECS.get(wish.spec).map(|spec| (*spec).to_owned()).or(own)?;
    let rule = match step {
        Step::DeleteNumber(_) => None,
        _ => Some(rule(rules, place, &spec)?),
    };
    let before = compile(&all[0], &all[1]).ok()?;
    let mut texts = kept(all);
    let patch = Sketch::of(&texts, place)
        .and_then(|sketch| sketch.carry_out(&mut texts, step, rule.as_ref()))
        .filter(|patch| patch.fits(&before.header, &before.rules));
    let after = carried_out(rules, place, step, rule.as_ref());
    let Some(patch) = patch else { return Some((with(all, after?), false)) };
    let after = with(all, after.expect("what the short way does, the long way does"));
    let whole = compile(&after[0], &after[1]).expect("what the short way does is right");
    let seen = (spliced(&before, &patch), patch.splice.header(before.header));
    // What stands beside the rules goes to the other slot as far as they use it.
    let used = used(&whole.rules);
    assert_eq!((used.port_sets, used.extras), (whole.port_sets.len(), whole.extras.len()));
    assert_eq!(seen, (whole.rules, whole.header), "{step:?} {spec:?} in {place:?}");
    assert_eq!((before.port_sets, before.extras), (whole.port_sets, whole.extras));
    assert_eq!((before.texts, before.patterns), (whole.texts, whole.patterns));
    assert_eq!(before.set_uses.len(), whole.set_uses.len());
    assert_eq!(texts, kept(&after), "{step:?} {spec:?} in {place:?}");
    let moved =
        whole.origins.iter().enumerate().filter(|(at, _)| patch.splice.source(*at).is_none());
    assert_eq!(moved.count(), usize::from(patch.splice.comes.is_some()));
    for (at, origin) in whole.origins.iter().enumerate() {
        if let Some(source) = patch.splice.source(at) {
            let was = &before.origins[source];
            assert_eq!(
                (&origin.chain, origin.table, &origin.log),
                (&was.chain, was.table, &was.log)
            );
        }
    }
    Some((after, true))
}

fn with(all: &[Ruleset; 2], rules: Ruleset) -> [Ruleset; 2] {
    let mut after = all.clone();
    let at = usize::from(rules.family == Family::Ipv6);
    after[at] = rules;
    after
}

#[test]
fn the_short_way_comes_to_what_the_compiler_comes_to() {
    let (short, long) = (Cell::new(0), Cell::new(0));
    let rulesets = (random::ruleset(Family::Ipv4), random::ruleset(Family::Ipv6));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) };
    let mut runner = TestRunner::new(config);
    let wishes = proptest::collection::vec(wish(), 1..12);
    let outcome = runner.run(&(rulesets, wishes), |((v4, v6), wishes)| {
        let mut all = [read(&v4), read(&v6)];
        for wish in wishes {
            let Some((after, is_short)) = both_ways(&all, &wish) else { continue };
            let count = if is_short { &short } else { &long };
            count.set(count.get() + 1);
            all = after;
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(short.get() > 80 && long.get() > 80, "short {}, long {}", short.get(), long.get());
}

#[test]
fn a_thousand_rules_one_by_one_are_a_thousand_rules() {
    let mut all = [Family::Ipv4, Family::Ipv6].map(Ruleset::empty);
    let place = Where { family: Family::Ipv4, table: TableName::Filter, chain: "INPUT" };
    let mut texts = kept(&all);
    let mut compiled = compile(&all[0], &all[1]).unwrap();
    for number in 0..1_000 {
        let spec = format!("-s 10.0.{}.{} -j DROP", number / 250, number % 250);
        let rule = rule(&all[0], place, &spec).unwrap();
        let sketch = Sketch::of(&texts, place).unwrap();
        let patch = sketch.carry_out(&mut texts, Step::Append, Some(&rule)).unwrap();
        assert!(patch.fits(&compiled.header, &compiled.rules));
        compiled.rules = spliced(&compiled, &patch);
        compiled.header = patch.splice.header(compiled.header);
        all[0].table_mut(TableName::Filter).chain_mut("INPUT").unwrap().rules.push(rule);
    }
    let whole = compile(&all[0], &all[1]).unwrap();
    assert_eq!((compiled.rules, compiled.header), (whole.rules, whole.header));
    assert_eq!(texts, kept(&all));
}

#[test]
fn places_of_several_files_stay_with_their_rules() {
    let file = |name: &str| Arc::<str>::from(name);
    let mut rules = parse(
        "a",
        "-A INPUT -s 192.0.2.1\n-A INPUT -s 192.0.2.2\n",
        Family::Ipv4,
        &BuiltinServices,
    )
    .unwrap();
    let chain = &mut rules.table_mut(TableName::Filter).chains[0];
    chain.rules[1].origin.file = file("b");
    let text = sources::write(&rules, |rule| (&rule.origin.file, rule.origin.line));
    assert_eq!(text, "[\"a\",\"b\"]\n0:1 1:2");
    let splice = |number, goes, comes| sources::splice(&text, 2, number, goes, comes).unwrap();
    assert_eq!(splice(0, false, Some(("b", 7))), "[\"b\",\"a\"]\n0:7 1:1 0:2");
    assert_eq!(splice(2, false, Some((HERE, 1))), format!("[\"a\",\"b\",\"{HERE}\"]\n0:1 1:2 2:1"));
    assert_eq!(splice(0, true, None), "[\"b\"]\n0:2");
    assert_eq!(sources::splice(&text, 3, 0, true, None), None);
    assert_eq!(sources::splice("", 0, 0, false, Some(("a", 3))).unwrap(), "[\"a\"]\n0:3");
    assert_eq!(sources::splice("[\"a\"]\n0:3", 1, 0, true, None).unwrap(), "");
}

#[test]
fn what_targets_keep_beside_the_rules_is_used() {
    let text = "*nat\n\
        -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.1.5:8080\n\
        -A PREROUTING -p tcp --dport 5000:5009 -j DNAT --to-destination 10.0.1.6:80-89/5000\n\
        -A POSTROUTING -j SNAT --to-source 203.0.113.1\n\
        COMMIT\n*filter\n-A INPUT -m state --state NEW -j SET --add-set seen src\nCOMMIT\n";
    let last = "*nat\n-A PREROUTING -p tcp --dport 5000:5009 -j DNAT --to-destination \
        :80-89/5000\nCOMMIT\n";
    for text in [text, last] {
        let rules = parse("rules", text, Family::Ipv4, &BuiltinServices).unwrap();
        let compiled = compile(&rules, &Ruleset::empty(Family::Ipv6)).unwrap();
        assert!(!compiled.extras.is_empty());
        assert_eq!(used(&compiled.rules).extras, compiled.extras.len(), "{text}");
    }
}
