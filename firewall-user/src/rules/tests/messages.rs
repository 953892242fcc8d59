//! Every mistake has its message, its place and its remedy.

use firewall_common::addr::Family;

use crate::rules::{BuiltinServices, Ruleset, edit, parse, to_save};

fn errors_of(text: &str, family: Family) -> Vec<String> {
    match parse("rules.v4", text, family, &BuiltinServices) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

/// The one error of a line, without the excerpt.
fn one(line: &str) -> String {
    let errors = errors_of(line, Family::Ipv4);
    assert_eq!(errors.len(), 1, "{line}: {errors:#?}");
    errors[0].lines().next().unwrap_or_default().to_owned()
}

#[track_caller]
fn refuses(cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        assert_eq!(one(line), format!("rules.v4:{expected}"), "{line}");
    }
}

#[test]
fn an_error_shows_the_line_and_points_at_the_place() {
    let text = "*filter\n-A INPUT -p tcp --dport 22 -j ALLOW\nCOMMIT\n";
    assert_eq!(
        errors_of(text, Family::Ipv4),
        ["rules.v4:2:31: unknown target 'ALLOW'; did you mean ACCEPT?\n  \
          -A INPUT -p tcp --dport 22 -j ALLOW\n                                \
          ^^^^^"]
    );
}

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_the_lines() {
    let text = "-A INPUT -j NOWHERE\n-A INPUT -p tcp --dport 99999 -s 10.0.0.0/33 -j ACCEPT\n-A INPT -j DROP\n";
    let errors = errors_of(text, Family::Ipv4);
    assert!(errors_of("-A INPUT -p tcp --dport 0x -j ALLOW", Family::Ipv4).len() == 2);
    let places: Vec<_> = errors.iter().map(|error| &error[..13]).collect();
    assert_eq!(places, ["rules.v4:1:13", "rules.v4:2:25", "rules.v4:2:34", "rules.v4:3:4:"]);
}

#[test]
fn typographic_dashes_are_named_and_the_rest_of_the_line_is_read() {
    refuses(&[
        (
            "-A INPUT -p tcp —sport 21 -j ACCEPT",
            "1:17: '—sport' begins with a typographic dash (U+2014), pasted from a web page?; write --sport",
        ),
        (
            "-A INPUT -p tcp –dport 21 -m state --state NEW -j ACCEPT",
            "1:17: '–dport' begins with a typographic dash (U+2013), pasted from a web page?; write --dport",
        ),
        (
            "iptables –A INPUT -j ACCEPT",
            "1:10: '–A' begins with a typographic dash (U+2013), pasted from a web page?; write -A",
        ),
        (
            "-A INPUT -m comment --comment “from home” -j ACCEPT",
            "1:31: '“' is a typographic quotation mark (U+201C), pasted from a web page?; write \"from home\"",
        ),
    ]);
}

#[test]
fn conditions_say_what_they_take() {
    refuses(&[
        ("-A INPUT --dport 21", "1:10: --dport needs a protocol; write -p tcp or -p udp before it"),
        (
            "-A INPUT -p gre --dport 21",
            "1:17: --dport does not go with -p gre; ports are read of tcp, udp, sctp and udplite",
        ),
        ("-A INPUT -p tcp --dport 65536", "1:25: port 65536 is out of range; write 0 to 65535"),
        (
            "-A INPUT -p tcp --dport gopherx",
            "1:25: 'gopherx' is neither a port number nor a tcp service; write a number from 0 to 65535, or a name of /etc/services",
        ),
        (
            "-A INPUT -s 10.0.0.0/33",
            "1:13: /33 is too many bits: an IPv4 address has 32; write a length from /0 to /32",
        ),
        (
            "-A INPUT -s 10.0.0.1,2001:db8::1",
            "1:22: '2001:db8::1' is an IPv6 address among IPv4 rules; give it to ip6tables, or in a file read with --rules6",
        ),
        (
            "-A INPUT ! -s 10.0.0.1,10.0.0.2",
            "1:12: '!' cannot stand with a list after -s; write a chain with a RETURN for each",
        ),
        (
            "-A INPUT -p tcp --dports 21,22",
            "1:17: --dports needs -m multiport; write -m multiport before it",
        ),
        (
            "-A INPUT -p tcp --dport 21,22",
            "1:25: '21,22' is a list of ports; write -m multiport --dports (or --sports) for a list",
        ),
        (
            "-A INPUT -p dccp -m multiport --dports 1",
            "1:31: --dports does not go with -p dccp; ports are read of tcp, udp, sctp and udplite",
        ),
        (
            "-A INPUT -p udplite --dport 1",
            "1:21: --dport does not go with -p udplite; write -m multiport --dports (or --sports)",
        ),
        (
            "-A INPUT -p sctp --chunk-types any DATA",
            "1:18: --chunk-types of 'sctp' is not supported yet; take the rule out: it would not be enforced",
        ),
        ("-A INPUT -p udp -m sctp", "1:20: -m sctp with -p udp; write -p sctp, or take it out"),
        ("-A INPUT -p sctp --syn", "1:18: --syn needs -p tcp"),
        ("-A INPUT --state NEW", "1:10: --state needs -m state; write -m state before it"),
        (
            "-A INPUT -m state --ctstate NEW",
            "1:19: --ctstate is an option of -m conntrack; write --state",
        ),
        (
            "-A INPUT -m state -j ACCEPT",
            "1:13: -m state does nothing by itself; write --state behind it",
        ),
        ("-A INPUT -m stat --state NEW", "1:13: unknown match 'stat'; did you mean state?"),
        ("-A INPUT -o eth0", "1:10: -o does not work in INPUT; use -i"),
        ("-A INPUT -p tcp -p udp", "1:17: -p is given twice; write one of them"),
        (
            "-A INPUT -p tcp --syn --tcp-flags ALL ALL",
            "1:23: --tcp-flags is a second test of TCP flags; write one of --syn and --tcp-flags, once",
        ),
        ("-A INPUT -m helper --helper sip", "1:29: unknown helper 'sip'; there are ftp and tftp"),
        ("-A INPUT --icmp-type 8", "1:10: --icmp-type needs -p icmp; write -p icmp before it"),
        ("-A INPUT -sport 21", "1:10: '-sport' begins with one dash; write --sport"),
    ]);
}

#[test]
fn what_comes_later_is_refused_once_with_what_to_use() {
    refuses(&[
        (
            "-A INPUT -p tcp --dport 22 -m u32 --u32 0&0xff=1",
            "1:31: the match 'u32' is not supported yet; match what -s, -d, -m length, -m ttl or -m string can",
        ),
        (
            "-A OUTPUT -m owner --gid-owner 0 --suppl-groups -j ACCEPT",
            "1:34: --suppl-groups of 'owner' is not supported yet; take the rule out: it would not be enforced",
        ),
        (
            "-A OUTPUT -m owner --gid-owner nobodys -j ACCEPT",
            "1:32: there is no group 'nobodys' here; write a name that this machine knows, or a number",
        ),
        (
            "-t security -A INPUT -j ACCEPT",
            "1:16: rules of table security are not supported yet; take them out: tables with rules are filter, mangle, nat and raw",
        ),
        (
            "-A FORWARD -j NFQUEUE --queue-num 1",
            "1:15: the target NFQUEUE is not supported yet; take the rule out: it would not be enforced",
        ),
        (
            "-A INPUT --quota 5",
            "1:10: --quota: the match 'quota' is not supported yet; use -m hashlimit, which bounds packets or bytes in a time",
        ),
    ]);
}

#[test]
fn targets_of_table_nat_say_where_they_work() {
    refuses(&[
        (
            "-A FORWARD -j MASQUERADE",
            "1:15: MASQUERADE does not work in table filter; write -t nat -A POSTROUTING",
        ),
        (
            "-t nat -A PREROUTING -j SNAT --to-source 192.0.2.1",
            "1:25: SNAT does not work in PREROUTING, nor in a chain that PREROUTING jumps to; put the rule into POSTROUTING or INPUT, or into a chain of theirs alone",
        ),
        (
            "-t nat -A OUTPUT -j MASQUERADE",
            "1:21: MASQUERADE does not work in OUTPUT, nor in a chain that OUTPUT jumps to; put the rule into POSTROUTING, or into a chain of theirs alone",
        ),
        (
            "-t nat -A POSTROUTING -p tcp -j REDIRECT",
            "1:33: REDIRECT does not work in POSTROUTING, nor in a chain that POSTROUTING jumps to; put the rule into PREROUTING, or into a chain of theirs alone",
        ),
        (
            "-t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 8080",
            "1:28: REDIRECT does not work in OUTPUT, nor in a chain that OUTPUT jumps to; packets of this host are judged where they leave: let the program connect to the other port",
        ),
        (
            "*nat\n-N web\n-A web -j DNAT --to-destination 192.0.2.1\n-A INPUT -j web\nCOMMIT",
            "3:11: DNAT does not work in INPUT, nor in a chain that INPUT jumps to; put the rule into PREROUTING or OUTPUT, or into a chain of theirs alone",
        ),
        (
            "-t nat -A PREROUTING -j DROP",
            "1:25: table nat is not for filtering: DROP does not work there; put the rule into table filter, or into PREROUTING of mangle",
        ),
        (
            "-t nat -P PREROUTING DROP",
            "1:22: table nat is not for filtering: DROP does not work there; put the rule into table filter, or into PREROUTING of mangle",
        ),
        (
            "-t nat -A INPUT -j REJECT",
            "1:20: table nat is not for filtering: REJECT does not work there; put the rule into table filter, or into PREROUTING of mangle",
        ),
        ("-t nat -A POSTROUTING -i eth0", "1:23: -i does not work in POSTROUTING; use -o"),
        (
            "-t nat -A FORWARD -j ACCEPT",
            "1:11: there is no chain 'FORWARD' in table nat; it has PREROUTING, INPUT, OUTPUT, POSTROUTING",
        ),
    ]);
}

#[test]
fn targets_of_table_nat_say_what_they_take() {
    let with = |option: &str| one(&format!("-t nat -A POSTROUTING -p tcp -j SNAT {option}"));
    let expect = |option: &str, expected: &str| {
        assert_eq!(with(option), format!("rules.v4:1:{expected}"), "{option}");
    };
    expect("", "33: SNAT does nothing by itself; write --to-source ADDRESS behind it");
    expect(
        "--to-source 192.0.2.9-192.0.2.1",
        "50: the range 192.0.2.9-192.0.2.1 is empty; write 192.0.2.1-192.0.2.9",
    );
    expect("--to-source 192.0.2.1:90-80", "50: the port range 90-80 is empty; write 80-90");
    expect("--to-source 192.0.2.1:65536", "50: port 65536 is out of range; write 0 to 65535");
    expect("--to-source 192.0.2.1:", "50: a port is missing; write a number or a name");
    expect(
        "--to-source 192.0.2.1:80:90",
        "50: '80:90' is no port or range of ports; write one as 1000, or a range as 1000-2000",
    );
    expect(
        "--to-source 192.0.2",
        "50: '192.0.2' is not an IPv4 address; write four numbers from 0 to 255, as in 192.0.2.1",
    );
    expect(
        "--to-source gateway",
        "50: 'gateway' is a host name; write its address: names are looked up behind -s and -d only",
    );
    expect(
        "--to-source 2001:db8::1",
        "50: '2001:db8::1' is an IPv6 address among IPv4 rules; give it to ip6tables, or in a file read with --rules6",
    );
    expect(
        "--to-source 192.0.2.1 --to-source 192.0.2.2",
        "60: --to-source is given twice; write one of them",
    );
    expect(
        "--to-destination 192.0.2.1",
        "38: --to-destination is an option of DNAT; write -j DNAT before it",
    );
    refuses(&[
        (
            "-t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 80-90/8080",
            "1:52: '80-90/8080' shifts ports, which DNAT alone does; write a rule for each port",
        ),
        (
            "-t nat -A PREROUTING -p tcp -j DNAT --to-destination 192.0.2.1:80/8080",
            "1:54: '80/8080' shifts one port, not a range of them; write the port alone, or a range \
             as 1000-2000/8080",
        ),
        (
            "-t nat -A PREROUTING -p tcp -j DNAT --to-destination 192.0.2.1:80-90/0",
            "1:54: port 0 becomes no other; write 1 to 65535 behind the slash",
        ),
        (
            "-t nat -A PREROUTING -j DNAT --to-destination 192.0.2.1:80",
            "1:47: ports need a protocol that has them; add -p tcp or -p udp to the rule",
        ),
        (
            "-t nat -A PREROUTING -p sctp -j DNAT --to-destination 192.0.2.1:80",
            "1:55: ports of sctp and dccp are not translated; leave them out: the address is",
        ),
        (
            "-t nat -A POSTROUTING -p gre -j MASQUERADE --to-ports 1024-2000",
            "1:55: ports need a protocol that has them; add -p tcp or -p udp to the rule",
        ),
        (
            "-t nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 1024:2000",
            "1:55: '1024:2000' is no port or range of ports; write one as 1000, or a range as 1000-2000",
        ),
        (
            "-t nat -A PREROUTING -j NETMAP --to 192.0.2.0/255.0.255.0",
            "1:37: the mask of 192.0.2.0/255.0.255.0 has holes; write a length behind the address, as in 192.0.2.0/24",
        ),
        (
            "-t nat -A PREROUTING -p tcp -j DNAT --to-destination 192.0.2.1 --random-fully",
            "1:64: --random-fully is an option of SNAT and MASQUERADE; write -j SNAT before it",
        ),
    ]);
}

#[test]
fn targets_that_change_packets_say_where_they_work_and_what_they_take() {
    refuses(&[
        (
            "-A FORWARD -j TTL --ttl-set 65",
            "1:15: TTL does not work in table filter; put the rule into table mangle",
        ),
        (
            "-t mangle -A FORWARD -j HL --hl-set 65",
            "1:25: HL in IPv4 rules; write -j TTL --ttl-set",
        ),
        (
            "-t mangle -A FORWARD -j MARK",
            "1:25: MARK does nothing by itself; write --set-mark, --set-xmark, --and-mark, --or-mark or --xor-mark behind it",
        ),
        (
            "-t mangle -A FORWARD -j MARK --set-mark 1 --or-mark 2",
            "1:43: --or-mark does not go with --set-mark; write a rule for each",
        ),
        (
            "-t mangle -A FORWARD -j MARK --set-mark one",
            "1:41: 'one' is no mark; write a number, as 0x1, or number/mask",
        ),
        (
            "-t mangle -A FORWARD -j MARK --set-mark 0xf7b15c3e",
            "1:41: the mark 0xf7b15c3e is the firewall's own; choose another one",
        ),
        (
            "-t mangle -A FORWARD -j MARK --save-mark",
            "1:30: --save-mark is an option of CONNMARK; write -j CONNMARK before it",
        ),
        (
            "-t mangle -A FORWARD -j CONNMARK --set-mark 1 --nfmask 3",
            "1:47: --nfmask does not go with --set-mark; it is of --save-mark and --restore-mark; write value/mask here",
        ),
        (
            "-t mangle -A FORWARD -j CONNMARK --save-mark --mask 3 --ctmask 3",
            "1:55: --ctmask is a second mask of the same; write --mask, or --nfmask and --ctmask",
        ),
        ("-t mangle -A FORWARD -j TTL --ttl-inc 0", "1:39: 0 hops change nothing; write 1 to 255"),
        (
            "-t mangle -A FORWARD -j TOS --or-tos 0x100",
            "1:38: '0x100' is no type of service; write 0 to 255, as 0x10",
        ),
        (
            "-t mangle -A FORWARD -p tcp -j TCPMSS --set-mss 1400",
            "1:32: TCPMSS changes SYNs only; add --syn, or --tcp-flags SYN,RST SYN, to the rule",
        ),
        (
            "-t mangle -A FORWARD -p udp -j TCPMSS --set-mss 1400",
            "1:32: TCPMSS changes TCP; add -p tcp and --syn to the rule",
        ),
        (
            "-t mangle -A FORWARD -p tcp --syn -j TCPMSS --set-mss 65516",
            "1:55: '65516' is no segment size; write 0 to 65515",
        ),
        (
            "-t mangle -A PREROUTING -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu",
            "1:41: --clamp-mss-to-pmtu does not work in PREROUTING; put the rule into FORWARD, OUTPUT or POSTROUTING",
        ),
        (
            "-t mangle -A PREROUTING -o eth0 -j MARK --set-mark 1",
            "1:25: -o does not work in PREROUTING; use -i",
        ),
        (
            "-t mangle -A FORWARD -j REJECT",
            "1:25: REJECT does not work in table mangle; use DROP, or put the rule into table filter",
        ),
        (
            "-A INPUT -m connmark",
            "1:13: -m connmark does nothing by itself; write --mark behind it",
        ),
    ]);
}

#[test]
fn matches_say_what_their_options_take() {
    refuses(&[
        ("-A INPUT --limit 5/min", "1:10: --limit needs -m limit; write -m limit before it"),
        (
            "-A INPUT -m limit --limit 5/week",
            "1:27: '5/week' is no rate; write as 5/second, 3/minute, 10/hour or 1/day",
        ),
        (
            "-A INPUT -m limit --limit 5/min --limit 6/min",
            "1:33: --limit is a second test of the same; write one of them, or a second -m before it",
        ),
        ("-A INPUT -m length", "1:13: -m length does nothing by itself; write --length behind it"),
        ("-A INPUT -m length --length 9:5", "1:29: the range 9:5 is empty; write 5:9"),
        (
            "-A INPUT -m length --length 65536",
            "1:29: '65536' is no length or range of them; write 0 to 65535, or two with : between",
        ),
        ("-A INPUT -m hl --hl-eq 1", "1:13: -m hl in IPv4 rules; write -m ttl --ttl-eq"),
        ("-A INPUT -m ttl --ttl-eq 256", "1:26: '256' is no number of hops; write 0 to 255"),
        (
            "-A INPUT -m iprange --src-range 192.0.2.9-192.0.2.1",
            "1:33: the range 192.0.2.9-192.0.2.1 is empty; write 192.0.2.1-192.0.2.9",
        ),
        (
            "-A INPUT -m mac --mac-source 00:11:22:33:44",
            "1:30: '00:11:22:33:44' is no Ethernet address; write it as in 00:00:5e:00:53:01",
        ),
        (
            "-A INPUT -m addrtype --dst-type LOCAL,BLACKHOLE",
            "1:39: the address type BLACKHOLE is not supported; name the addresses with -s or -d",
        ),
        (
            "-A INPUT -m owner --uid-owner 0",
            "1:13: -m owner does not work in INPUT; put the rule into OUTPUT: only there a packet has an owner",
        ),
        (
            "-A OUTPUT -m owner --uid-owner www-data",
            "1:32: there is no user 'www-data' here; write a name that this machine knows, or a number",
        ),
        (
            "-A OUTPUT -m mac --mac-source 00:00:5e:00:53:01",
            "1:14: -m mac does not work in OUTPUT; put the rule into INPUT or FORWARD",
        ),
        ("-A INPUT -m tcpmss --mss 1", "1:13: -m tcpmss needs -p tcp; write -p tcp before it"),
        (
            "-A INPUT -m statistic --mode nth --every 3",
            "1:23: --mode nth needs --packet; write --packet behind it",
        ),
        (
            "-A INPUT -m statistic --mode nth --every 3 --packet 3",
            "1:53: '3' is no place among 3; write 0 to 2",
        ),
        (
            "-A INPUT -m conntrack --ctdir BOTH",
            "1:31: unknown direction 'BOTH'; write ORIGINAL or REPLY",
        ),
        (
            "-A INPUT -m state --state DNAT",
            "1:27: -m state does not know DNAT; write -m conntrack --ctstate DNAT",
        ),
        (
            "-A INPUT -m dscp --dscp 64",
            "1:25: '64' is no DSCP; write 0 to 63 (0x3f), or a name behind --dscp-class",
        ),
        (
            "-A INPUT -p tcp -j SYNPROXY ! --mss 5",
            "1:31: '!' cannot stand with --mss of SYNPROXY; take it out, or write -m tcpmss before it",
        ),
    ]);
}

#[test]
fn fragments_are_no_matter_of_ipv6() {
    let errors = errors_of("-A INPUT -f -j DROP", Family::Ipv6);
    assert!(errors[0].starts_with("rules.v4:1:10: -f in IPv6 rules"), "{errors:?}");
}

#[test]
fn a_rule_has_sixteen_conditions_with_options_of_their_own_and_no_more() {
    let rule = |count| format!("-A INPUT{}", " -m length --length 1".repeat(count));
    let compile = |count| {
        let ruleset = parse("rules", &rule(count), Family::Ipv4, &BuiltinServices).unwrap();
        crate::rules::compile(&ruleset, &Ruleset::empty(Family::Ipv6))
    };
    assert_eq!(compile(16).unwrap().extras.len(), 16);
    assert_eq!(
        compile(17).unwrap_err().to_string(),
        "rules:1: a rule can have 16 conditions with options of their own, not 17; split them over a chain of their own"
    );
}

#[test]
fn targets_say_where_they_work() {
    refuses(&[
        ("-A INPUT -j accept", "1:13: unknown target 'accept'; did you mean ACCEPT?"),
        ("-A INPUT -j DROP -j ACCEPT", "1:18: a rule has one target; write a rule for each"),
        (
            "-A INPUT -j REJECT --reject-with tcp-reset",
            "1:34: tcp-reset can only answer TCP; add -p tcp to the rule",
        ),
        (
            "-A INPUT -j DROP --reject-with tcp-reset",
            "1:18: --reject-with is an option of REJECT; write -j REJECT before it",
        ),
        (
            "-A INPUT -j REJECT --reject-with icmp6-no-route",
            "1:34: unknown kind of REJECT 'icmp6-no-route'; write one of icmp-net-unreachable, icmp-host-unreachable, icmp-proto-unreachable, icmp-port-unreachable, icmp-net-prohibited, icmp-host-prohibited, tcp-reset, icmp-admin-prohibited",
        ),
        (
            "-A INPUT -p tcp -j CT --helper ftp",
            "1:20: CT does not work in table filter; write -t raw -A PREROUTING (or OUTPUT)",
        ),
        (
            "-t raw -A PREROUTING -j CT --helper ftp",
            "1:25: the helper ftp reads TCP; add -p tcp to the rule",
        ),
        (
            "-t raw -A OUTPUT -j REJECT",
            "1:21: REJECT does not work in table raw; use DROP, or put the rule into table filter",
        ),
        (
            "-A INPUT -j LOG --log-level loud",
            "1:29: unknown log level 'loud'; write 0 to 7, or emerg, alert, crit, error, warning, notice, info or debug",
        ),
        ("-A INPUT -g DROP", "1:13: -g takes a chain, and DROP is a target; write -j DROP"),
    ]);
}

#[test]
fn commands_say_what_they_miss() {
    refuses(&[
        (
            "-A CLIENTS -j DROP",
            "1:4: there is no chain 'CLIENTS' in table filter; write -N CLIENTS before this line",
        ),
        (
            "-A INPUTT -j DROP",
            "1:4: there is no chain 'INPUTT' in table filter; did you mean INPUT?",
        ),
        (
            "-N INPUT",
            "1:4: there is a chain 'INPUT' already; take this line out, or choose another name",
        ),
        ("-N ACCEPT", "1:4: a chain cannot be called ACCEPT, which is a target"),
        (
            "-N a\n-P a DROP",
            "2:4: the user chain 'a' can have no policy; write - in its place, and a last rule with the verdict",
        ),
        (
            "-P INPUT REJECT",
            "1:10: 'REJECT' cannot be a policy; write DROP, and a rule -j REJECT at the chain's end",
        ),
        ("-I INPUT 2 -j DROP", "1:10: the chain has no place 2; write 1 to 1"),
        ("-p tcp -j DROP", "1:1: this line has no command; write -A CHAIN before the rule"),
        (
            "ip6tables -A INPUT -j DROP",
            "1:1: a line for ip6tables among IPv4 rules; move it into the file that is read with --rules6",
        ),
        (
            "$IPT -A INPUT -j DROP",
            "1:1: '$IPT': shell variables are not expanded here; write the value",
        ),
        (
            "*filter\n-A INPUT -j DROP",
            "1:1: this table is never finished; write COMMIT behind its last line",
        ),
        ("*filtre\nCOMMIT", "1:1: unknown table 'filtre'; did you mean filter?"),
        (
            "-A INPUT -m comment --comment \"x",
            "1:31: the quotation that begins here is never closed; write \" at its end",
        ),
        ("iptables -A", "1:10: -A needs an argument"),
    ]);
}

/// The rules of a text, without chains and frame.
fn rules(text: &str) -> Vec<String> {
    let ruleset = parse("rules.v4", text, Family::Ipv4, &BuiltinServices);
    let saved = to_save(&ruleset.unwrap_or_else(|errors| panic!("{errors}")), None);
    saved.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

#[test]
fn old_and_odd_spellings_are_understood() {
    for (written, saved) in [
        ("-A INPUT -s ! 10.0.0.1 -i !eth0", "-A INPUT ! -s 10.0.0.1/32 ! -i eth0"),
        (
            "/sbin/iptables --append INPUT --proto=tcp --source-port ftp",
            "-A INPUT -p tcp -m tcp --sport 21",
        ),
        ("iptables -t filter -AINPUT -ptcp -jDROP", "-A INPUT -p tcp -j DROP"),
        ("-A INPUT --dport 21 -p tcp", "-A INPUT -p tcp -m tcp --dport 21"),
        (
            "-A INPUT -p tcp -m multiport --dport 21,22",
            "-A INPUT -p tcp -m multiport --dports 21,22",
        ),
        ("-A INPUT -p tcp -m multiport --port 21", "-A INPUT -p tcp -m multiport --ports 21"),
        ("-4 -A INPUT -j DROP", "-A INPUT -j DROP"),
        ("iptables -w 5 -A INPUT -m helper --helper \"ftp\"", "-A INPUT -m helper --helper ftp"),
        (
            "-A INPUT -p tcp -m multiport -s 10/8 --dports 21 -j ACCEPT # ok",
            "-A INPUT -s 10.0.0.0/8 -p tcp -m multiport --dports 21 -j ACCEPT",
        ),
    ] {
        assert_eq!(rules(written), [saved], "{written}");
    }
    assert!(rules("-6 -A INPUT -j DROP").is_empty());
}

#[test]
fn an_edit_begins_with_the_rules_that_are_there() {
    let base = parse("base", "-N a\n-A INPUT -j a\n-A a -j DROP\n", Family::Ipv4, &BuiltinServices)
        .unwrap();
    let edit = |text: &str| edit(base.clone(), "edit", text, &BuiltinServices);
    let saved = |text: &str| to_save(&edit(text).unwrap_or_else(|errors| panic!("{errors}")), None);
    assert!(
        saved("-I INPUT -s 192.0.2.1 -j DROP")
            .contains("-A INPUT -s 192.0.2.1/32 -j DROP\n-A INPUT -j a\n")
    );
    assert!(!saved("-D INPUT -j a").contains("-A INPUT"));
    assert!(!saved("-D INPUT 1").contains("-A INPUT"));
    assert!(saved("-R INPUT 1 -j ACCEPT").contains("-A INPUT -j ACCEPT"));
    assert_eq!(saved("-F\n-X\n"), to_save(&Ruleset::empty(Family::Ipv4), None));
    assert_eq!(saved("*filter\nCOMMIT\n"), to_save(&Ruleset::empty(Family::Ipv4), None));
    assert!(saved("-E a b").contains(":b - [0:0]\n-A INPUT -j b\n-A b -j DROP\n"));
    assert!(saved("-E a b\n-A b -j ACCEPT\n-N a").contains(":a - [0:0]\n:b - [0:0]\n"));
    for (wrong, words) in [
        ("-E INPUT b", "the chain 'INPUT' is built in"),
        ("-E nowhere b", "nowhere"),
        ("-E a OUTPUT", "there is a chain 'OUTPUT' already"),
        ("-E a ACCEPT", "ACCEPT"),
    ] {
        let message = edit(wrong).unwrap_err().to_string();
        assert!(message.contains(words), "{wrong}: {message}");
    }
    assert!(edit("-X a").unwrap_err().to_string().contains("is the target of 1 rules"));
    assert!(edit("-D INPUT -j DROP").unwrap_err().to_string().contains("INPUT has no such rule"));
    assert!(edit("-D INPUT 2").unwrap_err().to_string().contains("no place 2"));
}

#[test]
fn empty_tables_of_other_kinds_may_stand_in_a_saved_file() {
    let text = "*nat\n:PREROUTING ACCEPT [1:2]\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
    assert!(errors_of(text, Family::Ipv4).is_empty());
}

#[test]
fn a_match_that_keeps_something_in_mind_says_what_it_lacks() {
    refuses(&[
        (
            "-A INPUT -m recent --name ssh",
            "1:13: -m recent does nothing by itself; write --set, --rcheck, --update or --remove behind it",
        ),
        (
            "-A INPUT -m recent --set --update",
            "1:26: --update does not go with --set; write a rule for each",
        ),
        (
            "-A INPUT -m recent --set --hitcount 3",
            "1:26: --hitcount does not go with --set; write --rcheck or --update, or take it out",
        ),
        (
            "-A INPUT -m recent --rcheck --reap",
            "1:29: --reap needs --seconds; write --seconds before it",
        ),
        (
            "-A INPUT -m recent --rcheck --hitcount 256",
            "1:40: '256' is no number of hits; write 1 to 255",
        ),
        (
            "-A INPUT -m recent --set --name a/b",
            "1:33: 'a/b' cannot name a list; write 1 to 199 characters without a slash",
        ),
        ("-A INPUT -m recent --set --mask 24", "1:33: '24' is no mask; write it as 255.255.255.0"),
        (
            "-A INPUT -m hashlimit --hashlimit-upto 1/s",
            "1:13: -m hashlimit needs a name; write --hashlimit-name NAME behind it",
        ),
        (
            "-A INPUT -m hashlimit --hashlimit-name a",
            "1:13: -m hashlimit does nothing by itself; write --hashlimit-upto or --hashlimit-above behind it",
        ),
        (
            "-A INPUT -m hashlimit --hashlimit-upto 1mb/s --hashlimit-burst 5kb --hashlimit-name a",
            "1:64: the burst is smaller than the rate of a second; write 1048576b or more",
        ),
        (
            "-A INPUT -m hashlimit --hashlimit-upto 1 --hashlimit-mode srcipp --hashlimit-name a",
            "1:59: unknown mode 'srcipp'; did you mean srcip?",
        ),
        (
            "-A INPUT -m connlimit --connlimit-mask 24",
            "1:13: -m connlimit does nothing by itself; write --connlimit-upto or --connlimit-above behind it",
        ),
        (
            "-A INPUT -m connlimit --connlimit-above 5000",
            "1:41: 5000 connections are more than can be counted; write 4096 or less",
        ),
        (
            "-A INPUT -m connlimit --connlimit-above 5 --connlimit-mask 33",
            "1:60: '33' is no length of a mask; write 0 to 32",
        ),
        (
            "-A INPUT -m time --timestart 24:00",
            "1:30: '24:00' is no time of day; write 00:00 to 23:59, with or without seconds",
        ),
        (
            "-A INPUT -m time --datestart 2023-02-29",
            "1:30: '2023-02-29' is no date; write it as 2026-11-21T17:30:00, from 1970 to 2037",
        ),
        (
            "-A INPUT -m time --weekdays Mond",
            "1:29: 'Mond' is no day of the week; write Mon, Tue, Wed, Thu, Fri, Sat, Sun or 1 to 7",
        ),
        (
            "-A INPUT -m time --monthdays 32",
            "1:30: '32' is no day of a month; write 1 to 31, with commas between",
        ),
        (
            "-A INPUT -m time --timestart 8:00 --timestop 9:00 --contiguous",
            "1:51: --contiguous needs hours that go over midnight; write a --timestop that is smaller than --timestart, or take it out",
        ),
    ]);
}

#[test]
fn the_options_of_nflog_have_their_bounds() {
    refuses(&[
        ("-A INPUT -j NFLOG --nflog-group 65536", "1:33: '65536' is no group; write 0 to 65535"),
        (
            "-A INPUT -j LOG --nflog-size 5",
            "1:17: --nflog-size is an option of NFLOG; write -j NFLOG before it",
        ),
    ]);
}

#[test]
fn a_string_says_what_it_lacks() {
    refuses(&[
        (
            "-A INPUT -m string --string x",
            "1:13: -m string needs --algo bm or --algo kmp; write --algo bm or --algo kmp behind it",
        ),
        (
            "-A INPUT -m string --algo bm",
            "1:13: -m string needs --string or --hex-string; write --string or --hex-string behind it",
        ),
        (
            "-A INPUT -m string --algo fsm --string x",
            "1:27: unknown algorithm 'fsm'; write bm or kmp",
        ),
        (
            "-A INPUT -m string --algo bm --hex-string '|0|'",
            "1:43: '|0|' has an odd digit; write pairs of digits between bars, as in |0d 0a|",
        ),
        ("-A INPUT -m string --algo bm --string ''", "1:39: a string of 0 bytes; write 1 to 128"),
        (
            "-A INPUT -m string --algo bm --string x --to 3000",
            "1:46: 3000 lies behind what is searched; write 2048 or less: so many bytes of a packet are searched",
        ),
        (
            "-A INPUT -m string --algo bm --string x --from 9 --to 8",
            "1:48: --from lies behind --to; write the smaller offset behind --from",
        ),
    ]);
}
