//! `-m set` and `-j SET`: as they are printed, bound to sets, and refused.

use firewall_common::{
    addr::Family,
    extra::need,
    rule::{Target as Code, flag},
    set::{Question, change::Order},
};

use crate::rules::{BuiltinServices, Compiled, Ruleset, compile, parse, to_save};

fn read(rule: &str) -> Result<Ruleset, String> {
    let text = format!("-A INPUT {rule}\n");
    parse("rules", &text, Family::Ipv4, &BuiltinServices).map_err(|errors| errors.to_string())
}

fn saved(rule: &str) -> String {
    let text = to_save(&read(rule).unwrap(), None);
    let line = text.lines().find(|line| line.starts_with("-A")).unwrap();
    line.strip_prefix("-A INPUT ").unwrap().to_owned()
}

fn compiled(rule: &str) -> Compiled {
    compile(&read(rule).unwrap(), &Ruleset::empty(Family::Ipv6)).unwrap()
}

#[test]
fn what_iptables_prints_stays_as_it_is() {
    for rule in [
        "-m set --match-set a src -j DROP",
        "-m set ! --match-set b src,dst --return-nomatch ! --update-counters --packets-gt 5 ! --bytes-eq 7 -j DROP",
        "-m set --match-set b src,dst ! --update-subcounters ! --packets-eq 3 --bytes-lt 9",
        "-j SET --add-set b src,dst --exist --timeout 9",
        "-j SET --add-set c dst --del-set a src",
    ] {
        assert_eq!(saved(rule), rule);
    }
    assert_eq!(
        saved("-j SET --del-set a src --add-set c dst"),
        "-j SET --add-set c dst --del-set a src"
    );
    assert_eq!(saved("-m set --match-set a src --update-counters"), "-m set --match-set a src");
}

#[test]
fn names_become_slots_and_the_set_says_whether_its_answer_lasts() {
    let mut rules = compiled("-p tcp -m length --length 5 -m set --match-set b dst,src -j ACCEPT");
    rules.bind(&|name| (name == "b").then_some(7)).unwrap();
    let rule = rules.rules[0];
    assert!(rule.flags & flag::ASKS_SETS != 0 && rule.extra_count == 2);
    let question = Question::unpack(&rules.extras[usize::from(rule.extra_first) + 1].arguments);
    assert_eq!((question.slot, question.sources, question.dimensions), (7, 0b10, 2));

    let mut rules = compiled("-j SET --add-set a src --del-set b dst --timeout 0");
    rules.bind(&|name| Some(if name == "a" { 3 } else { 4 })).unwrap();
    let rule = rules.rules[0];
    assert_eq!((rule.target, rule.extra_count), (Code::Set as u8, 0));
    let order = Order::unpack(&rules.extras[rule.argument as usize].arguments);
    assert_eq!((order.add, order.del), (Some((3, 1, 1)), Some((4, 0, 1))));
    assert_eq!((order.exist, order.timeout), (false, Some(0)));
}

/// When table raw is asked whose PREROUTING has these rules, and whose OUTPUT has none.
fn sieve(rules: &[&str]) -> u32 {
    let lines = rules.iter().map(|rule| format!("-A {rule}\n"));
    let text = format!("*raw\n:list - [0:0]\n{}COMMIT\n", lines.collect::<String>());
    let rules = parse("rules", &text, Family::Ipv4, &BuiltinServices).unwrap();
    let compiled = compile(&rules, &Ruleset::empty(Family::Ipv6)).unwrap();
    compiled.header.needs & (need::SIEVE | need::SIEVE_FOR_ALL)
}

#[test]
fn a_list_in_table_raw_is_asked_before_tracking() {
    let all = need::SIEVE | need::SIEVE_FOR_ALL;
    for (rules, when) in [
        (&["PREROUTING -m set --match-set a src -j DROP"][..], all),
        (&["PREROUTING -m set ! --match-set a src -j ACCEPT", "PREROUTING -j DROP"], all),
        // Verdicts are remembered of what comes in by others.
        (&["PREROUTING -i eth0 -m set --match-set a src -j DROP"], need::SIEVE),
        (&["PREROUTING -s 192.0.2.0/24 -j DROP"], need::SIEVE),
        (&["PREROUTING -j list", "list -m set --match-set a src -j DROP"], need::SIEVE),
    ] {
        assert_eq!(sieve(rules), when, "{rules:?}");
    }
}

#[test]
fn table_raw_has_its_turn_behind_tracking_where_it_asks_for_more_than_headers() {
    const LIST: &str = "PREROUTING -m set --match-set a src -j DROP";
    for other in [
        "PREROUTING -p tcp --dport 21 -j CT --helper ftp",
        "PREROUTING -p udp --dport 53 -j CT --notrack",
        "PREROUTING -m limit --limit 5/sec -j ACCEPT",
        "PREROUTING -m length --length 5 -j DROP",
        "PREROUTING -j LOG",
        "PREROUTING -j SET --add-set b src",
    ] {
        assert_eq!(sieve(&[LIST, other]), 0, "{other}");
    }
    assert_eq!(sieve(&["PREROUTING -m set --match-set a src -j ACCEPT"]), 0, "nothing is dropped");
}

#[test]
fn a_set_that_is_not_there_is_told_with_its_rule() {
    let error = compiled("-m set --match-set nope src").bind(&|_| None).unwrap_err().to_string();
    assert_eq!(
        error,
        "rules:1: there is no set 'nope'; create it first, as with \
         `firewall set create nope hash:ip`"
    );
}

#[test]
fn what_is_wrong_says_what_to_write() {
    for (rule, message) in [
        ("-m set -j DROP", "-m set does nothing by itself; write --match-set"),
        ("--match-set a src", "--match-set needs -m set; write -m set before it"),
        ("-m set --match-set a foo", "'foo' is neither src nor dst; write src, dst"),
        ("-m set --match-set a src,src,src,src,src,src,src", "more than 6 of src and dst"),
        ("-m set --match-set a", "--match-set needs 2 arguments"),
        ("-m set --match-set a src --packets-gt x", "'x' is not a number"),
        ("-m set --match-set a src --match-set b src", "a second -m set before it"),
        (
            "-m set --match-set a23456789012345678901234567890ab src",
            "a name has 1 to 31 characters",
        ),
        ("-j SET", "SET does nothing by itself; write --add-set or --del-set"),
        ("-j SET --map-set a src", "--map-set of SET is not supported"),
        ("-j SET --add-set a src --timeout 2147484", "write seconds, 0 to 2147483"),
        ("-j DROP --add-set a src", "--add-set is an option of SET"),
        ("-j SET --add-set a src --add-set b src", "--add-set is given twice"),
    ] {
        let error = read(rule).unwrap_err();
        assert!(error.contains(message), "{rule}: {error}");
    }
}
