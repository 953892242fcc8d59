//! What is printed is read back as it was; what is not rules never panics.

use firewall_common::{addr::Family, rule::Counter};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{extra, random};
use crate::rules::{BuiltinServices, Match, Place, Ruleset, TableName, compile, parse, to_save};

fn own(ruleset: &Ruleset, place: Place<'_>) -> Counter {
    let chain = ruleset.table(place.table).unwrap().chain(place.chain).unwrap();
    match place.number {
        Some(number) => chain.rules[number as usize - 1].counter,
        None => chain.policy.unwrap().counter,
    }
}

/// Pieces of rules, to be put together in the wrong order.
const WORDS: &[&str] = &[
    "*filter",
    "*raw",
    "*nat",
    "COMMIT",
    ":INPUT",
    ":x",
    "DROP",
    "ACCEPT",
    "-",
    "[0:0]",
    "[1:2",
    "-A",
    "-I",
    "-D",
    "-N",
    "-P",
    "-F",
    "-X",
    "-R",
    "INPUT",
    "FORWARD",
    "x",
    "y",
    "-j",
    "-g",
    "-m",
    "tcp",
    "udp",
    "state",
    "--state",
    "NEW,",
    "NEW",
    "multiport",
    "--dports",
    "1:2,ftp",
    "-p",
    "icmp",
    "!",
    "--sport",
    "1024:",
    ":",
    "-s",
    "10.0.0.0/8",
    "1.2.3.4/5/6",
    "a,b",
    "\"",
    "'",
    "\\",
    "\n",
    "\\\n",
    "#",
    "—sport",
    "–",
    "“x”",
    "-t",
    "1",
    "0",
    "99999999999999999999",
    "--log-prefix",
    "LOG",
    "CT",
    "--helper",
    "ftp",
    "--tcp-flags",
    "SYN",
    "--=",
    "-m=x",
    "-p=",
    "iptables",
    "ip6tables",
    "sudo",
    "é",
    "--é",
    "-é",
    "-pé",
    "limit",
    "--limit",
    "3/min",
    "--limit-burst",
    "length",
    "--length",
    "statistic",
    "SNAT",
    "DNAT",
    "MASQUERADE",
    "REDIRECT",
    "NETMAP",
    "POSTROUTING",
    "--to-source",
    "--to-destination",
    "--to-ports",
    "--to",
    "--random-fully",
    "[2001:db8::1]:80",
    "192.0.2.1-192.0.2.9:1-2",
    "--mode",
    "nth",
    "--every",
    "--packet",
    "conntrack",
    "--ctdir",
    "REPLY",
    "--ctstate",
    "--ctorigsrc",
    "-f",
    "tcpmss",
    "--mss",
    "--tcp-option",
    "iprange",
    "--src-range",
    "1.2.3.4-1.2.3.5",
    "SYNPROXY",
    "MARK",
    "\0",
    "\r",
    "!-s",
    "!é",
    "-i",
    "+",
    "eth+",
    "--icmp-type",
    "3/4",
    "-c",
    "--reject-with",
    "REJECT",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_saved_ruleset_is_read_back_as_it_was(
        ruleset in random::any_family().prop_flat_map(random::translating_ruleset)
    ) {
        let saved = to_save(&ruleset, Some(&|place| own(&ruleset, place)));
        let read = parse("saved", &saved, ruleset.family, &BuiltinServices);
        let read = read.map_err(|errors| TestCaseError::fail(format!("{errors}\n{saved}")))?;
        prop_assert_eq!(&read, &ruleset, "{}", saved);
        prop_assert_eq!(to_save(&read, None), to_save(&ruleset, None));
    }

    #[test]
    fn a_match_that_keeps_something_in_mind_is_read_back_as_it_was(
        (family, matches) in select(vec![Family::Ipv4, Family::Ipv6]).prop_flat_map(|family| {
            (Just(family), vec(extra::remembering(family).prop_map(Match::Extra), 1..4))
        })
    ) {
        let text = "-A INPUT -j LOG";
        let mut ruleset = parse("rules", text, family, &BuiltinServices).unwrap();
        ruleset.table_mut(TableName::Filter).chain_mut("INPUT").unwrap().rules[0].spec.matches =
            matches;
        let saved = to_save(&ruleset, None);
        let read = parse("saved", &saved, family, &BuiltinServices);
        let read = read.map_err(|errors| TestCaseError::fail(format!("{errors}\n{saved}")))?;
        prop_assert_eq!(&read, &ruleset, "{}", saved);
        let of_both = match family {
            Family::Ipv4 => compile(&read, &Ruleset::empty(Family::Ipv6)),
            Family::Ipv6 => compile(&Ruleset::empty(Family::Ipv4), &read),
        };
        prop_assert!(of_both.is_ok());
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}", family in random::any_family()) {
        let _ = parse("any", &text, family, &BuiltinServices).map_err(|errors| errors.to_string());
    }

    #[test]
    fn no_mixture_of_words_makes_the_parser_panic(words in vec(select(WORDS), 0..40)) {
        let text = words.join(" ");
        match parse("words", &text, Family::Ipv4, &BuiltinServices) {
            Ok(ruleset) => {
                let saved = to_save(&ruleset, None);
                let again = parse("saved", &saved, Family::Ipv4, &BuiltinServices);
                prop_assert_eq!(to_save(&again.unwrap(), None), saved);
            }
            Err(errors) => prop_assert!(!errors.to_string().is_empty()),
        }
    }
}
