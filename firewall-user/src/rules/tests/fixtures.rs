//! Rules of the field, and what iptables 1.8.9 made of the same text: the
//! files beside each `.v4` and `.v6` were printed by iptables-save and
//! `iptables -L` in a network namespace of their own.

use firewall_common::{addr::Family, rule::Counter};

use crate::rules::{
    BuiltinServices, EtcServices, ListOptions, Place, Ruleset, TableName, compile, list, parse,
    to_save,
};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/rules/", $name))
    };
}

fn read(name: &str, text: &str) -> Ruleset {
    let family = if name.ends_with(".v6") { Family::Ipv6 } else { Family::Ipv4 };
    parse(name, text, family, &BuiltinServices).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The counters that the text itself gave.
fn own(ruleset: &Ruleset) -> impl Fn(Place<'_>) -> Counter {
    |place| {
        let chain = ruleset.table(place.table).and_then(|table| table.chain(place.chain)).unwrap();
        match place.number {
            Some(number) => chain.rules[number as usize - 1].counter,
            None => chain.policy.unwrap().counter,
        }
    }
}

const FIELD: [(&str, &str, &str); 8] = [
    ("client-box.v4", fixture!("client-box.v4"), fixture!("client-box.v4.save-c")),
    ("server-box.v4", fixture!("server-box.v4"), fixture!("server-box.v4.save-c")),
    ("server-short.v4", fixture!("server-short.v4"), fixture!("server-short.v4.save-c")),
    ("gateway.v4", fixture!("gateway.v4"), fixture!("gateway.v4.save-c")),
    ("gateway-related.v4", fixture!("gateway-related.v4"), fixture!("gateway-related.v4.save-c")),
    ("helper.v4", fixture!("helper.v4"), fixture!("helper.v4.save-c")),
    ("udp.v4", fixture!("udp.v4"), fixture!("udp.v4.save-c")),
    ("icmp.v4", fixture!("icmp.v4"), fixture!("icmp.v4.save-c")),
];

#[test]
fn rules_of_the_field_are_saved_as_iptables_saves_them() {
    for (name, text, saved) in FIELD {
        let ruleset = read(name, text);
        assert_eq!(to_save(&ruleset, Some(&own(&ruleset))), saved, "{name}");
    }
}

#[test]
fn rules_of_the_field_compile() {
    for (name, text, _) in FIELD {
        let compiled = compile(&read(name, text), &Ruleset::empty(Family::Ipv6))
            .unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(compiled.rules.len(), compiled.origins.len());
    }
}

#[test]
fn every_construct_is_saved_as_iptables_saves_it() {
    let v4 = read("everything.v4", fixture!("everything.v4"));
    for (ours, theirs) in to_save(&v4, None).lines().zip(fixture!("everything.v4.save").lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(to_save(&v4, None), fixture!("everything.v4.save"));
    assert_eq!(to_save(&v4, Some(&own(&v4))), fixture!("everything.v4.save-c"));
    let v6 = read("everything.v6", fixture!("everything.v6"));
    assert_eq!(to_save(&v6, None), fixture!("everything.v6.save"));
}

#[test]
fn every_match_and_target_with_options_of_its_own_is_saved_as_iptables_saves_it() {
    for (name, text, saved) in [
        ("extras.v4", fixture!("extras.v4"), fixture!("extras.v4.save")),
        ("extras.v6", fixture!("extras.v6"), fixture!("extras.v6.save")),
        ("mangle.v4", fixture!("mangle.v4"), fixture!("mangle.v4.save")),
        ("mangle.v6", fixture!("mangle.v6"), fixture!("mangle.v6.save")),
        ("nat.v4", fixture!("nat.v4"), fixture!("nat.v4.save")),
        ("nat.v6", fixture!("nat.v6"), fixture!("nat.v6.save")),
    ] {
        let ruleset = read(name, text);
        for (ours, theirs) in to_save(&ruleset, None).lines().zip(saved.lines()) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(to_save(&ruleset, None), saved);
        assert_eq!(read(name, saved), ruleset, "{name}");
    }
}

#[test]
fn empty_tables_are_saved_as_they_came() {
    let chain = |name: &&str| format!(":{name} ACCEPT [1:60]\n");
    let table = |table: TableName| {
        let chains: String = table.builtin_chains().iter().map(chain).collect();
        format!("*{table}\n{chains}COMMIT\n")
    };
    let text: String = TableName::ALL.map(table).concat();
    let ruleset = read("empty.v4", &text);
    assert_eq!(to_save(&ruleset, None), text);
    let compiled = compile(&ruleset, &Ruleset::empty(Family::Ipv6)).unwrap();
    assert_eq!(compiled.rules.len(), 6, "the policies of both families, and no more");
}

#[test]
fn a_listing_is_that_of_iptables() {
    let services =
        EtcServices::parse("tcpmux 1/tcp\nftp 21/tcp\nhttp 80/tcp\nhttps 443/tcp\ndomain 53/udp\n");
    let plain = ListOptions::default();
    let numbers = ListOptions { verbose: true, line_numbers: true, ..plain };
    let names = ListOptions { names: Some(&services), ..plain };
    let exact = ListOptions { exact: true, names: Some(&services), ..numbers };
    let of_nat = |options| ListOptions { table: TableName::Nat, ..options };
    let of_mangle = |options| ListOptions { table: TableName::Mangle, ..options };
    for (name, text, options, expected) in [
        ("v4", fixture!("nat.v4"), of_nat(numbers), fixture!("nat.v4.list")),
        ("v4", fixture!("nat.v4"), of_nat(names), fixture!("nat.v4.names")),
        (".v6", fixture!("nat.v6"), of_nat(numbers), fixture!("nat.v6.list")),
        (".v6", fixture!("nat.v6"), of_nat(names), fixture!("nat.v6.names")),
        ("v4", fixture!("mangle.v4"), of_mangle(numbers), fixture!("mangle.v4.list")),
        ("v4", fixture!("mangle.v4"), of_mangle(names), fixture!("mangle.v4.names")),
        (".v6", fixture!("mangle.v6"), of_mangle(numbers), fixture!("mangle.v6.list")),
        (".v6", fixture!("mangle.v6"), of_mangle(names), fixture!("mangle.v6.names")),
        ("v4", fixture!("extras.v4"), numbers, fixture!("extras.v4.list")),
        ("v4", fixture!("extras.v4"), names, fixture!("extras.v4.names")),
        (".v6", fixture!("extras.v6"), numbers, fixture!("extras.v6.list")),
        (".v6", fixture!("extras.v6"), names, fixture!("extras.v6.names")),
        ("v4", fixture!("everything.v4"), numbers, fixture!("everything.v4.list")),
        ("v4", fixture!("everything.v4"), names, fixture!("everything.v4.names")),
        ("v4", fixture!("everything.v4"), exact, fixture!("everything.v4.exact")),
        (".v6", fixture!("everything.v6"), numbers, fixture!("everything.v6.list")),
        (".v6", fixture!("everything.v6"), names, fixture!("everything.v6.names")),
        (".v6", fixture!("everything.v6"), exact, fixture!("everything.v6.exact")),
    ] {
        let ruleset = read(name, text);
        let listed = list(&ruleset, &own(&ruleset), &options);
        for (ours, theirs) in listed.lines().zip(expected.lines()) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(listed, expected);
    }
}

#[test]
fn json_has_one_object_a_line() {
    let ruleset = read("icmp.v4", fixture!("icmp.v4"));
    let json = crate::rules::json(&ruleset, &own(&ruleset));
    let lines: Vec<_> = json.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"family":"ipv4","table":"filter","chain":"INPUT","policy":"DROP","packets":12,"bytes":3456}"#
    );
    assert_eq!(
        lines[1],
        r#"{"family":"ipv4","table":"filter","chain":"INPUT","number":1,"packets":1,"bytes":84,"rule":"-p icmp -g ICMP","target":"ICMP"}"#
    );
    assert_eq!(lines.len(), 3 + 8);
}
