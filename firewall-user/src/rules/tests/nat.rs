//! Random targets of table nat, what they are written as, and what becomes of them when they
//! are lowered.

use firewall_common::{
    addr::Family,
    extra::{Test, need},
    flow::protocol,
    nat::{
        Kind, Order,
        order::flag::{ADDRESSES, PERSISTENT, PORTS, RANDOM, RANDOM_FULLY},
    },
    rule::{Chain, NO_ENTRY, PortRange, Target as Code},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::random::{address, port};
use crate::rules::{
    BuiltinServices, Compiled, Network, Ruleset, compile, nat::Nat, parse, to_save,
};

/// With all that one can say; [`suited`] takes what does not go together.
pub(super) fn any(family: Family) -> BoxedStrategy<Nat> {
    let kinds =
        [Kind::Source, Kind::Destination, Kind::Masquerade, Kind::Redirect, Kind::Netmap].to_vec();
    let ports = option::of(
        (port(), port()).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) }),
    );
    let choices = vec(select(vec![RANDOM, RANDOM_FULLY, PERSISTENT]), 0..3);
    let addresses = (address(family), address(family));
    (select(kinds), addresses, ports, option::of(1..=u16::MAX), choices)
        .prop_map(|(kind, (a, b), ports, base, choices)| {
            let choice = choices.into_iter().fold(0, |all, bit| all | bit);
            let addresses = Some((a.min(b), a.max(b)));
            Nat { kind, addresses, ports, base, choice }
        })
        .boxed()
}

/// Without what its kind does not take.
fn whole(nat: Nat) -> Nat {
    let Nat { kind, addresses, choice, base, .. } = nat;
    let is_range = nat.ports.is_some_and(|PortRange { first, last }| first < last);
    let base = base.filter(|_| is_range && kind == Kind::Destination);
    let nat = Nat { base, ..nat };
    match kind {
        Kind::Source => nat,
        Kind::Destination => Nat { choice: choice & !RANDOM_FULLY, ..nat },
        Kind::Masquerade => Nat { addresses: None, choice: choice & !PERSISTENT, ..nat },
        Kind::Redirect => Nat { addresses: None, choice: choice & RANDOM, ..nat },
        Kind::Netmap => {
            let net = addresses.map(|(first, _)| {
                let mask = if first.is_ipv4() { "255.255.255.0" } else { "ffff:ffff:ffff::" };
                let Network { address, mask } = Network::new(first, mask.parse().unwrap());
                (address, mask)
            });
            Nat { addresses: net, ports: None, base: None, choice: 0, kind }
        }
    }
}

/// As it may stand in a chain, for packets of this protocol.
pub(super) fn suited(nat: Nat, chain: &str, only: Option<u8>) -> Nat {
    let has_ports = matches!(only, Some(protocol::TCP | protocol::UDP));
    let ports = nat.ports.filter(|_| has_ports);
    match nat.chains().contains(&chain) {
        true => whole(Nat { ports, ..nat }),
        // In user chains, to which any may jump, only this one works.
        false => whole(Nat { kind: Kind::Netmap, addresses: nat.addresses, ..nat }),
    }
}

fn read(text: &str, family: Family) -> Ruleset {
    match parse("rules", text, family, &BuiltinServices) {
        Ok(rules) => rules,
        Err(errors) => panic!("{text}: {errors}"),
    }
}

fn compiled(text: &str, family: Family) -> Compiled {
    let rules = read(text, family);
    let (v4, v6) = match family {
        Family::Ipv4 => (rules, Ruleset::empty(Family::Ipv6)),
        Family::Ipv6 => (Ruleset::empty(Family::Ipv4), rules),
    };
    compile(&v4, &v6).unwrap()
}

/// The one rule of a chain of table nat, as the datapath reads it.
fn order(rule: &str, chain: Chain, family: Family) -> Order {
    let compiled = compiled(&format!("-t nat -A {rule}\n"), family);
    let family = usize::from(family == Family::Ipv6);
    let at = compiled.header.entries[family][chain as usize];
    let rule = &compiled.rules[at as usize];
    assert_eq!(rule.target, Code::Translate as u8);
    let words = Order::extra_of(rule).map(|at| {
        let extra = &compiled.extras[at as usize];
        assert_eq!(extra.test, Test::Order as u8);
        extra.arguments
    });
    let base = Order::base_of(rule).map_or(0, |at| compiled.extras[at as usize].arguments[0]);
    Order::unpack(rule.argument, rule.mask, &words.unwrap_or_default(), base as u16).unwrap()
}

/// How each line comes back from iptables-save.
fn saved(rule: &str, family: Family) -> String {
    let text = to_save(&read(&format!("-t nat -A {rule}\n"), family), None);
    text.lines().find_map(|line| line.strip_prefix("-A ")).unwrap_or_default().to_owned()
}

#[test]
fn targets_are_saved_as_iptables_saves_them() {
    for (written, expected) in [
        ("POSTROUTING -j SNAT --to 192.0.2.1", "POSTROUTING -j SNAT --to-source 192.0.2.1"),
        (
            "POSTROUTING -p tcp -j SNAT --to-source 192.0.2.1-192.0.2.9:1000-2000 --persistent --random-fully --random",
            "POSTROUTING -p tcp -j SNAT --to-source 192.0.2.1-192.0.2.9:1000-2000 --random --random-fully --persistent",
        ),
        (
            "POSTROUTING -p udp -j SNAT --to-source 192.0.2.1-192.0.2.1:80-80",
            "POSTROUTING -p udp -j SNAT --to-source 192.0.2.1:80",
        ),
        (
            "PREROUTING -p tcp -j DNAT --to-destination :8080",
            "PREROUTING -p tcp -j DNAT --to-destination :8080",
        ),
        (
            "PREROUTING -p tcp -j DNAT --to-dest 192.0.2.1:http",
            "PREROUTING -p tcp -j DNAT --to-destination 192.0.2.1:80",
        ),
        (
            "PREROUTING -p tcp -j DNAT --to-destination :8080-8090/http --random",
            "PREROUTING -p tcp -j DNAT --to-destination :8080-8090/80 --random",
        ),
        (
            "PREROUTING -p udp -j DNAT --to-destination 192.0.2.1-192.0.2.9:80-90/65530",
            "PREROUTING -p udp -j DNAT --to-destination 192.0.2.1-192.0.2.9:80-90/65530",
        ),
        (
            "POSTROUTING -p icmp -j MASQUERADE --to-ports 1000-2000 --random",
            "POSTROUTING -p icmp -j MASQUERADE --to-ports 1000-2000 --random",
        ),
        ("POSTROUTING -o eth0 -j MASQUERADE", "POSTROUTING -o eth0 -j MASQUERADE"),
        (
            "PREROUTING -p tcp -j REDIRECT --to-port 80",
            "PREROUTING -p tcp -j REDIRECT --to-ports 80",
        ),
        ("INPUT -j NETMAP --to 192.0.2.9/24", "INPUT -j NETMAP --to 192.0.2.0/24"),
        ("INPUT -j NETMAP --to 192.0.2.9", "INPUT -j NETMAP --to 192.0.2.9/32"),
    ] {
        assert_eq!(saved(written, Family::Ipv4), expected);
    }
}

#[test]
fn addresses_of_ipv6_with_ports_stand_in_brackets() {
    for (written, expected) in [
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("[2001:db8::1-2001:db8::9]:80-90", "[2001:db8::1-2001:db8::9]:80-90"),
        ("[2001:db8::1]:80-90/8080", "[2001:db8::1]:80-90/8080"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1-2001:db8::9", "2001:db8::1-2001:db8::9"),
        ("::1", "::1"),
        (":80", ":80"),
    ] {
        let rule = format!("PREROUTING -p tcp -j DNAT --to-destination {written}");
        let expected = format!("PREROUTING -p tcp -j DNAT --to-destination {expected}");
        assert_eq!(saved(&rule, Family::Ipv6), expected);
    }
}

#[test]
fn the_option_to_is_of_whom_it_stands_behind() {
    for (written, expected) in [
        (
            "PREROUTING -p tcp -j REDIRECT --to 80 -m string --algo bm --string x --to 100",
            "PREROUTING -p tcp -m string --string \"x\" --algo bm --to 100 -j REDIRECT --to-ports 80",
        ),
        (
            "PREROUTING -m string --algo bm --string x --to 9 -j NETMAP --to 192.0.2.0/24",
            "PREROUTING -m string --string \"x\" --algo bm --to 9 -j NETMAP --to 192.0.2.0/24",
        ),
    ] {
        assert_eq!(saved(written, Family::Ipv4), expected);
    }
    let text = "-t nat -A PREROUTING -m string --algo bm --string x -j DNAT --to 192.0.2.1";
    let error = parse("rules", text, Family::Ipv4, &BuiltinServices).unwrap_err();
    assert!(error.0.len() >= 2, "both the match and the target lack something: {error}");
}

#[test]
fn an_order_holds_addresses_ports_and_how_they_are_chosen() {
    let snat = order(
        "POSTROUTING -p tcp -j SNAT --to-source 192.0.2.1-192.0.2.9:1000-2000 --random",
        Chain::NatPostrouting,
        Family::Ipv4,
    );
    assert_eq!(snat.kind, Kind::Source);
    assert_eq!(snat.flags, ADDRESSES | PORTS | RANDOM);
    assert_eq!(snat.first.to_ip().to_string(), "192.0.2.1");
    assert_eq!(snat.last.to_ip().to_string(), "192.0.2.9");
    assert_eq!((snat.first_port, snat.last_port), (1000, 2000));
}

#[test]
fn an_order_without_addresses_takes_no_place_among_the_extras() {
    let text = "-t nat -A POSTROUTING -o eth0 -j MASQUERADE\n";
    let compiled = compiled(text, Family::Ipv4);
    assert!(compiled.extras.is_empty());
    let masquerade =
        order("POSTROUTING -o eth0 -j MASQUERADE", Chain::NatPostrouting, Family::Ipv4);
    assert_eq!((masquerade.kind, masquerade.flags), (Kind::Masquerade, 0));
    let redirect =
        order("PREROUTING -p tcp -j REDIRECT --to-ports 80", Chain::NatPrerouting, Family::Ipv6);
    assert_eq!((redirect.kind, redirect.flags), (Kind::Redirect, PORTS));
}

#[test]
fn a_net_is_a_prefix_and_its_mask() {
    let netmap =
        order("POSTROUTING -j NETMAP --to 2001:db8:1::5/48", Chain::NatPostrouting, Family::Ipv6);
    assert_eq!(netmap.first.to_ip().to_string(), "2001:db8:1::");
    assert_eq!(netmap.last.to_ip().to_string(), "ffff:ffff:ffff::");
}

#[test]
fn a_table_without_rules_asks_for_nothing() {
    let empty = compiled("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", Family::Ipv4);
    assert_eq!(empty.header.needs & need::NAT, 0);
    assert_eq!(empty.header.entries[0][Chain::NatPrerouting as usize], NO_ENTRY);
    let used = compiled("-t nat -A PREROUTING -p tcp -j REDIRECT\n", Family::Ipv4);
    assert_ne!(used.header.needs & need::NAT, 0);
    assert_eq!(used.header.needs & need::FACTS, 0);
    assert_eq!(used.header.entries[0][Chain::NatPostrouting as usize], NO_ENTRY);
}
