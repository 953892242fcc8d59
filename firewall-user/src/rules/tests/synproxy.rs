//! SYNPROXY and NOTRACK as they are typed, printed, compiled and refused.
//!
//! The lines of iptables-save and `iptables -L -v -n` were printed by iptables 1.8.9.

use firewall_common::{
    addr::Family,
    flow::CtState,
    rule::{Counter, Target},
    synproxy::{header::has, offer::Offer},
};

use crate::rules::{BuiltinServices, ListOptions, Ruleset, compile, list, parse, to_save};

const RULES: &str = "\
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j CT --notrack
-A PREROUTING -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j NOTRACK
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 80 -m state --state INVALID,UNTRACKED -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --ecn
-A INPUT -p tcp -j SYNPROXY
COMMIT
";

fn read(text: &str) -> Result<Ruleset, String> {
    parse("rules.v4", text, Family::Ipv4, &BuiltinServices).map_err(|errors| errors.to_string())
}

/// The first line of the one error.
fn refusal(line: &str) -> String {
    let errors = read(line).unwrap_err();
    errors.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn what_iptables_saves_is_saved_so() {
    assert_eq!(to_save(&read(RULES).unwrap(), None), RULES);
}

#[test]
fn a_listing_is_that_of_iptables() {
    let ruleset = read(RULES).unwrap();
    let numbers = ListOptions { verbose: true, ..ListOptions::default() };
    let listed = list(&ruleset, &|_| Counter::default(), &numbers);
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(
        lines[2],
        "    0     0 SYNPROXY   6    --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:80 state INVALID,UNTRACKED SYNPROXY sack-perm timestamp wscale 7 mss 1460 ecn "
    );
    assert_eq!(
        lines[3],
        "    0     0 SYNPROXY   6    --  *      *       0.0.0.0/0            0.0.0.0/0            SYNPROXY "
    );
    let raw = ListOptions { table: crate::rules::TableName::Raw, ..ListOptions::default() };
    let listed = list(&ruleset, &|_| Counter::default(), &raw);
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(
        lines[2..4],
        [
            "CT         6    --  0.0.0.0/0            0.0.0.0/0            tcp flags:0x17/0x02 CT notrack",
            "NOTRACK    6    --  0.0.0.0/0            0.0.0.0/0            tcp flags:0x17/0x02 NOTRACK",
        ]
    );
}

#[test]
fn the_datapath_is_told_of_the_offer_and_that_there_is_one() {
    let compiled = compile(&read(RULES).unwrap(), &Ruleset::empty(Family::Ipv6)).unwrap();
    assert_eq!(compiled.header.has_proxy, 1);
    let of = |target: Target| {
        compiled.rules.iter().filter(move |rule| rule.target == target as u8).collect::<Vec<_>>()
    };
    let all = has::MSS | has::SCALE | has::SACK_PERMITTED | has::TIMESTAMPS | has::ECN;
    let [full, plain] = of(Target::Proxy)[..] else { panic!("two rules") };
    assert_eq!(Offer::unpack(full.argument), Offer { mss: 1_460, scale: 7, present: all });
    assert_eq!(full.states, CtState::Invalid.bit() | CtState::Untracked.bit());
    assert_eq!(Offer::unpack(plain.argument), Offer::default());
    assert_eq!(of(Target::Untrack).len(), 2);
    let without = compile(&Ruleset::empty(Family::Ipv4), &Ruleset::empty(Family::Ipv6)).unwrap();
    assert_eq!(without.header.has_proxy, 0);
}

#[test]
fn what_cannot_work_is_refused_at_its_place() {
    for (line, expected) in [
        ("-A INPUT -j SYNPROXY", "rules.v4:1:13: SYNPROXY answers TCP; add -p tcp to the rule"),
        (
            "-A INPUT ! -p tcp -j SYNPROXY --mss 1460",
            "rules.v4:1:22: SYNPROXY answers TCP; add -p tcp to the rule",
        ),
        (
            "-t raw -A PREROUTING -p tcp -j SYNPROXY",
            "rules.v4:1:32: SYNPROXY does not work in table raw; put the rule into INPUT or FORWARD of table filter",
        ),
        (
            "-A OUTPUT -p tcp -j SYNPROXY",
            "rules.v4:1:21: SYNPROXY does not work in OUTPUT, nor in a chain that OUTPUT jumps to; put the rule into INPUT or FORWARD, or into a chain of theirs alone",
        ),
        (
            "-A INPUT -p tcp -j SYNPROXY --wscale 15",
            "rules.v4:1:38: '15' is no window scale; write the server's, 0 to 14",
        ),
        (
            "-A INPUT -p tcp -j SYNPROXY --mss 0",
            "rules.v4:1:35: '0' is no segment size; write the server's in bytes, as 1460; at most 65535",
        ),
        (
            "-A INPUT -p tcp -j ACCEPT --timestamp",
            "rules.v4:1:27: --timestamp is an option of SYNPROXY; write -j SYNPROXY before it",
        ),
        (
            "-A INPUT -p tcp -j NOTRACK",
            "rules.v4:1:20: NOTRACK does not work in table filter; write -t raw -A PREROUTING (or OUTPUT)",
        ),
        (
            "-t raw -A PREROUTING -p tcp -j CT --notrack --helper ftp",
            "rules.v4:1:45: a connection that is not tracked has no helper; write one of --helper and --notrack",
        ),
        (
            "-t raw -A PREROUTING -j DROP --notrack",
            "rules.v4:1:30: --notrack is an option of CT; write -j CT before it",
        ),
    ] {
        assert_eq!(refusal(line), expected, "{line}");
    }
}

#[test]
fn a_chain_that_output_reaches_is_no_place_for_it() {
    let chain = "-N WEB\n-A WEB -p tcp -j SYNPROXY\n-A INPUT -j WEB\n";
    assert!(read(chain).is_ok());
    let error = refusal(&format!("{chain}-N ALL\n-A ALL -g WEB\n-A OUTPUT -j ALL\n"));
    assert!(error.starts_with("rules.v4:2:18: SYNPROXY does not work in OUTPUT"), "{error}");
}
