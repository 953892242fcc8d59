//! What one generation of rules can hold, both families together.

use firewall_common::{
    addr::Family,
    rule::{Target, condition, flag},
};

use crate::rules::{BuiltinServices, Compiled, Part, Place, Ruleset, TableName, compile, parse};

fn read(text: &str, family: Family) -> Ruleset {
    let ruleset = parse("rules", text, family, &BuiltinServices);
    ruleset.unwrap_or_else(|errors| panic!("{errors}"))
}

fn compiled(text: &str) -> Compiled {
    let (v4, v6) = (read(text, Family::Ipv4), Ruleset::empty(Family::Ipv6));
    compile(&v4, &v6).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The same text for both families.
fn refusal(text: &str) -> String {
    let (v4, v6) = (read(text, Family::Ipv4), read(text, Family::Ipv6));
    compile(&v4, &v6).unwrap_err().to_string()
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn sixty_four_interface_names_are_enough() {
    let names = |count| lines(count, |n| format!("-A INPUT -i vlan{n}\n-A FORWARD -o vlan{n}\n"));
    assert_eq!(compiled(&names(64)).patterns.len(), 64);
    assert_eq!(
        refusal(&names(65)),
        "rules:130: the rules of both families need 65 different interface names; there may be 64"
    );
}

#[test]
fn rules_of_both_families_share_one_list() {
    let text = lines(16_382, |_| "-A INPUT\n".into());
    assert!(refusal(&text).contains("need 32770 rules"), "{}", refusal(&text));
    assert_eq!(compiled(&text).rules.len(), 16_382 + 6);
}

#[test]
fn equal_port_lists_are_kept_once() {
    let same = lines(9_000, |_| "-A INPUT -p tcp -m multiport --dports 20,21\n".into());
    assert_eq!(compiled(&same).port_sets.len(), 1);
    let different = lines(8_193, |n| format!("-A INPUT -p tcp -m multiport --dports {n},9000\n"));
    assert!(refusal(&different).contains("need 8193 different multiport lists"));
}

#[test]
fn origins_lead_back_to_the_rule_and_its_log_prefix() {
    let text = "-N a\n-A INPUT -j a\n-A a -j LOG --log-prefix x --log-level 6\n";
    let compiled = compiled(text);
    let log = compiled.rules.iter().position(|rule| rule.target == Target::Log as u8).unwrap();
    let origin = &compiled.origins[log];
    assert_eq!((&*origin.chain, origin.part), ("a", Part::Rule(1)));
    assert_eq!(origin.log.as_ref().map(|log| (log.prefix.as_str(), log.level)), Some(("x", 6)));
    assert_eq!(compiled.rules[log].flags, flag::PER_PACKET);
    assert_eq!(compiled.origins[log + 1].place(), None);
    let places = compiled.places(Family::Ipv4);
    let place = |chain, number| places[&Place { table: TableName::Filter, chain, number }];
    assert_eq!(place("a", Some(1)), log as u32);
    assert_eq!((place("INPUT", Some(1)), place("INPUT", None)), (0, 1));
}

#[test]
fn a_rule_that_looks_at_single_packets_says_so() {
    for (rule, is_per_packet) in [
        ("-p tcp --syn", false),
        ("-p tcp --syn -m limit --limit 3/min", false),
        ("-p tcp ! --syn -m limit --limit 3/min", true),
        ("-p tcp --tcp-flags ALL ACK", true),
        ("-p tcp ! --tcp-flags ACK,PSH ACK", true),
        ("-p tcp --tcp-flags SYN,FIN SYN,FIN", false),
        ("-p tcp --tcp-flags SYN,RST,FIN NONE", false),
        ("-p tcp --tcp-flags ACK SYN", false),
        ("-p icmp --icmp-type 8", true),
        ("-j LOG", true),
        ("-m limit --limit 3/min", true),
        ("-m length --length 100", true),
        ("-p tcp --tcp-option 2", true),
        ("-m conntrack --ctstate NEW --ctdir ORIGINAL --ctorigsrc 192.0.2.1", false),
        ("-m iprange --src-range 192.0.2.1-192.0.2.9", false),
        ("-p icmp --icmp-type any", false),
        ("-p tcp --dport 21 -m state --state NEW", false),
    ] {
        let flags = compiled(&format!("-A INPUT {rule}\n")).rules[0].flags;
        assert_eq!(flags & flag::PER_PACKET != 0, is_per_packet, "{rule}");
    }
}

#[test]
fn two_sets_of_states_leave_what_both_have() {
    let text = "-A INPUT -m state --state NEW,RELATED -m conntrack ! --ctstate NEW\n";
    let rule = compiled(text).rules[0];
    assert_eq!((rule.present, rule.invert, rule.states), (condition::STATES, 0, 4));
}
