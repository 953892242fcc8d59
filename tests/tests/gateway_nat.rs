//! A masquerading gateway with port forwards, from a user's rules file to what its tools
//! print.
//!
//! ```text
//!   inside 192.0.2.2 ── eth0  gateway  eth1 ── outside 198.51.100.2
//!                 192.0.2.1             198.51.100.1
//! ```
//! The outside has no way to the inside: whatever comes back has been translated.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability, exchange, firewall::Setup, needs,
};

const RULES: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i eth1 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 192.0.2.2:8000
-A POSTROUTING -s 192.0.2.0/24 -o eth1 -j MASQUERADE
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -o eth1 -j ACCEPT
-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT
COMMIT
";

const RULES6: &str = "\
*nat
-A PREROUTING -i eth1 -p tcp --dport 2222 -j DNAT --to-destination [2001:db8:1::2]:8000
-A POSTROUTING -s 2001:db8:1::/64 -o eth1 -j MASQUERADE
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p ipv6-icmp -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -o eth1 -j ACCEPT
-A FORWARD -d 2001:db8:1::2 -p tcp --dport 8000 -j ACCEPT
COMMIT
";

/// The gateway's address outside.
fn public(family: Family) -> IpAddr {
    match family {
        Family::V4 => [198, 51, 100, 1].into(),
        Family::V6 => "2001:db8:2::1".parse().expect("an address"),
    }
}

fn start<'a>(network: &'a Gateway, hook: &str) -> Result<Firewall<'a>> {
    for line in ["route del default", "-6 route del default"] {
        network.server.ip(line)?;
    }
    exchange::serve(&network.client)?;
    exchange::serve(&network.server)?;
    let setup = Setup::on(&["eth0", "eth1"]).rules(RULES).rules6(RULES6);
    setup.option(&format!("--hook={hook}")).start(network.gateway())
}

#[test]
fn hosts_inside_reach_the_outside_and_are_reached_through_a_port_forward() {
    needs!(capability::firewall());
    for hook in ["xdp", "tc"] {
        both_ways(hook).with_context(|| hook).unwrap();
    }
}

fn both_ways(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, hook)?;
    for family in [Family::V4, Family::V6] {
        let (inner, outer) = (network.client_address(family), network.server_address(family));
        let out = exchange::connect(&network.client, SocketAddr::new(outer, exchange::PORT))?;
        exchange::exchange(&out, 100_000, 300_000).context("from inside")?;
        let seen = listed(&firewall, &["-n", "-s", &inner.to_string()])?;
        let port = out.local_addr()?.port();
        expect(&seen, &format!("src={inner} dst={outer} sport={port} dport=8000"))?;
        expect(&seen, &format!("src={outer} dst={} sport=8000", public(family)))?;

        let in_ = exchange::connect(&network.server, SocketAddr::new(public(family), 2222))?;
        exchange::exchange(&in_, 100_000, 300_000).context("through the port forward")?;
        let seen =
            listed(&firewall, &["-g", "-p", "tcp", "--dport", "2222", "-s", &outer.to_string()])?;
        let port = in_.local_addr()?.port();
        expect(&seen, &format!("src={outer} dst={} sport={port} dport=2222", public(family)))?;
        expect(&seen, &format!("src={inner} dst={outer} sport=8000 dport={port}"))?;
    }
    Ok(())
}

/// What `firewall conntrack list` says with these filters: one line.
fn listed(firewall: &Firewall<'_>, filters: &[&str]) -> Result<String> {
    let text = firewall.text(&[&["conntrack", "list"], filters].concat())?;
    ensure!(text.lines().count() == 1, "not one connection for {filters:?}:\n{text}");
    Ok(text)
}

fn expect(text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "no '{part}' in\n{text}");
    Ok(())
}

#[test]
fn what_table_nat_has_done_is_counted_listed_saved_and_deleted() {
    needs!(capability::firewall());
    told().unwrap();
}

fn told() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, "xdp")?;
    let family = Family::V4;
    let outer = network.server_address(family);
    let in_ = exchange::connect(&network.server, SocketAddr::new(public(family), 2222))?;
    exchange::exchange(&in_, 1_000, 1_000)?;

    let list = firewall.text(&["iptables", "-t", "nat", "-L", "PREROUTING", "-n", "-v"])?;
    let rule = list.lines().last().unwrap_or_default();
    // One connection is one packet to table nat, whatever it carries.
    ensure!(rule.split_whitespace().next() == Some("1"), "not one connection counted:\n{list}");
    expect(rule, "tcp dpt:2222 to:192.0.2.2:8000")?;
    let saved = firewall.text(&["save"])?;
    for line in RULES.lines().filter(|line| line.starts_with("-A")) {
        expect(&saved, line)?;
    }

    let flows = firewall.json(&["conntrack", "list", "--dst-nat"])?;
    ensure!(flows.len() == 1, "{flows:?}");
    ensure!(flows[0]["original"]["dport"] == 2222, "{flows:?}");
    ensure!(flows[0]["reply"]["src"] == "192.0.2.2", "{flows:?}");
    let status = flows[0]["status"].to_string();
    ensure!(status.contains("DST_NAT") && !status.contains("SRC_NAT"), "{status}");

    let by_wire = ["-s", &outer.to_string(), "-d", "198.51.100.1", "--dport", "2222"];
    firewall.text(&[&["conntrack", "delete"], &by_wire[..]].concat())?;
    ensure!(firewall.text(&["conntrack", "list", "-j"])?.is_empty(), "it is still there");
    // Its ends are free again.
    let again = exchange::connect(&network.server, SocketAddr::new(public(family), 2222))?;
    exchange::exchange(&again, 1_000, 1_000)
}

#[test]
fn a_rule_that_only_iptables_knows_to_refuse_is_refused_under_the_old_name() {
    needs!(capability::firewall());
    refused().unwrap();
}

fn refused() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, "xdp")?;
    for (line, words) in [
        ("-A PREROUTING -j DROP", "not for filtering"),
        ("-P PREROUTING DROP", "not intended for filtering"),
        ("-A PREROUTING -j SNAT --to-source 198.51.100.1", "SNAT does not work in PREROUTING"),
    ] {
        let words_of_line: Vec<_> =
            ["iptables", "-t", "nat"].into_iter().chain(line.split(' ')).collect();
        let finished = firewall.cli(&words_of_line)?;
        ensure!(finished.code() == 2, "{line}: status {}", finished.code());
        expect(&finished.stderr, words).context(line)?;
    }
    for line in [
        "-A POSTROUTING -o eth1 -j SNAT --to 198.51.100.1",
        "-C POSTROUTING -o eth1 -j SNAT --to-source 198.51.100.1",
        "-D POSTROUTING -o eth1 -j SNAT --to-source 198.51.100.1",
        "-Z",
        "-F",
    ] {
        let words: Vec<_> = ["iptables", "-t", "nat"].into_iter().chain(line.split(' ')).collect();
        firewall.text(&words).context(line)?;
    }
    ensure!(!firewall.text(&["save"])?.contains("DNAT --to"), "-F has left rules");
    Ok(())
}

#[test]
fn explain_tells_which_rule_translates_and_what_becomes_of_the_packet_and_its_answer() {
    needs!(capability::firewall());
    for hook in ["xdp", "tc"] {
        explained(hook).with_context(|| hook).unwrap();
    }
}

fn explained(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, hook)?;
    let to_forward = [
        "explain",
        "-i",
        "eth1",
        "-p",
        "tcp",
        "-s",
        "198.51.100.2",
        "-d",
        "198.51.100.1",
        "--sport",
        "40000",
        "--dport",
        "2222",
    ];
    let text = firewall.text(&[&to_forward[..], &["--syn"]].concat())?;
    for part in [
        "note: nat PREROUTING 1 makes it 198.51.100.2:40000 -> 192.0.2.2:8000",
        "in=eth1 out=eth0",
        "nat PREROUTING 1 yes -i eth1 -p tcp -m tcp --dport 2222 -j DNAT --to-destination",
        "ACCEPT by FORWARD 3",
    ] {
        expect(&text, part)?;
    }
    let answer = firewall.text(&[&to_forward[..], &["--syn", "--as-reply"]].concat())?;
    for part in [
        "tcp 192.0.2.2:8000 -> 198.51.100.2:40000 SYN,ACK in=eth0 out=eth1",
        "note: its connection is translated: 198.51.100.2:40000 -> 198.51.100.1:2222 goes on as \
         198.51.100.2:40000 -> 192.0.2.2:8000",
        "ctstate ESTABLISHED",
        "ACCEPT by FORWARD 1",
    ] {
        expect(&answer, part)?;
    }
    let out = [
        "explain",
        "-i",
        "eth0",
        "-p",
        "tcp",
        "-s",
        "192.0.2.2",
        "-d",
        "198.51.100.2",
        "--sport",
        "40001",
        "--dport",
        "80",
        "--syn",
    ];
    let text = firewall.text(&out)?;
    expect(&text, "nat POSTROUTING 1: it leaves as 198.51.100.1:40001 -> 198.51.100.2:80")?;
    ensure!(firewall.text(&["conntrack", "list"])?.is_empty(), "asking has begun a flow");

    // The next segment of a connection that is there, as it comes from the wire.
    let in_ = exchange::connect(&network.server, SocketAddr::new(public(Family::V4), 2222))?;
    exchange::exchange(&in_, 1_000, 1_000)?;
    let port = in_.local_addr()?.port().to_string();
    let next = firewall.text(&[
        "explain",
        "-i",
        "eth1",
        "-p",
        "tcp",
        "-s",
        "198.51.100.2",
        "-d",
        "198.51.100.1",
        "--sport",
        &port,
        "--dport",
        "2222",
    ])?;
    expect(&next, "ctstate ESTABLISHED")?;
    expect(&next, &format!("goes on as 198.51.100.2:{port} -> 192.0.2.2:8000"))
}
