//! `firewall explain` says what the datapath does: it is asked, then the packet is sent.
//! And asking changes nothing.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    conversation::Conversation,
    firewall::Setup,
    needs,
    packet::{Packet, Segment, flag},
    wait,
    wire::{End, Wires},
};
use serde_json::Value;

const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:web - [0:0]
-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -p tcp --dport 21 -j ACCEPT
-A FORWARD -i eth0 -p tcp -j web
-A FORWARD -p icmp -j ACCEPT
-A FORWARD -p ipv6-icmp -j ACCEPT
-A FORWARD -p udp --dport 53 -j REJECT
-A web -p tcp --dport 80 -j ACCEPT
COMMIT
";

fn start(network: &Gateway) -> Result<Firewall<'_>> {
    // Each family has its own word for pings over IPv6 and IPv4.
    let without = |word: &str| {
        let lines = RULES.lines().filter(|line| !line.contains(word));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let setup = Setup::on(&["eth0", "eth1"]).rules(&without("ipv6-icmp"));
    setup.rules6(&without("-p icmp")).start(network.gateway())
}

/// What `explain` says of a TCP segment that comes in by `input`.
fn asked(
    firewall: &Firewall<'_>,
    input: &str,
    (from, to): (SocketAddr, SocketAddr),
    more: &[&str],
) -> Result<Value> {
    let (src, dst) = (from.ip().to_string(), to.ip().to_string());
    let (sport, dport) = (from.port().to_string(), to.port().to_string());
    let packet = ["-s", &src, "-d", &dst, "--sport", &sport, "--dport", &dport];
    let arguments = [&["explain", "-i", input, "-p", "tcp"], &packet[..], more].concat();
    firewall.json(&arguments)?.pop().context("an explanation")
}

#[test]
fn sctp_is_told_by_its_chunk() {
    needs!(capability::firewall());
    sctp().unwrap();
}

fn sctp() -> Result<()> {
    const SIGNALLING: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -p sctp --dport 5060 -m state --state NEW -j ACCEPT
COMMIT
";
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = Setup::on(&["eth0", "eth1"]).both(SIGNALLING).start(network.gateway())?;
    let wires = Wires::across(&network)?;
    for family in [Family::V4, Family::V6] {
        let [src, dst] = [&wires.client, &wires.server].map(|wire| wire.address(family));
        let (src, dst) = (src.to_string(), dst.to_string());
        let ask = |more: &[&str]| -> Result<Value> {
            let packet = ["-s", &src, "-d", &dst, "--sport", "5060", "--dport", "5060"];
            let words = [&["explain", "-i", "eth0", "-p", "sctp"], &packet[..], more].concat();
            firewall.json(&words)?.pop().context("an explanation")
        };
        for (more, chunk, ctstate, verdict) in [
            (&[][..], "INIT", "NEW", "accept"),
            (&["--as-reply"], "INIT_ACK", "ESTABLISHED", "accept"),
            (&["--chunk-type", "data", "--payload", "100"], "DATA", "INVALID", "drop"),
            (&["--chunk-type", "abort"], "ABORT", "INVALID", "drop"),
        ] {
            let told = ask(more)?;
            ensure!(
                told["packet"]["chunk"] == chunk
                    && told["ctstate"] == ctstate
                    && told["verdict"] == verdict,
                "{more:?}: {told:#}"
            );
        }
    }
    let flows = firewall.text(&["conntrack", "count"])?;
    ensure!(flows == "0\n", "asked, and there are flows: {flows}");
    let refused = firewall.cli(&["explain", "-i", "eth0", "-p", "sctp", "--chunk-type", "SYN"])?;
    ensure!(refused.code() == 2 && refused.stderr.contains("COOKIE_ECHO"), "{refused:?}");
    Ok(())
}

fn why(value: &Value) -> &str {
    value["why"].as_str().unwrap_or_default()
}

#[test]
fn each_verdict_is_told_with_its_rule_and_where_that_was_written() {
    needs!(capability::firewall());
    verdicts().unwrap();
}

fn verdicts() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network)?;
    let wires = Wires::across(&network)?;
    for family in [Family::V4, Family::V6] {
        let client = wires.client.endpoint(family, 40_000);
        let server = |port| wires.server.endpoint(family, port);
        let syn = |port| asked(&firewall, "eth0", (client, server(port)), &["--syn"]);

        let web = syn(80)?;
        ensure!(web["verdict"] == "accept" && web["chain"] == "FORWARD", "{web:#}");
        ensure!(web["in"] == "eth0" && web["out"] == "eth1" && web["hook"] == "xdp", "{web:#}");
        ensure!(web["ctstate"] == "NEW" && why(&web) == "no flow has these endpoints", "{web:#}");
        let rule = &web["rule"];
        ensure!(rule["chain"] == "web" && rule["number"] == 1, "{web:#}");
        let file = rule["file"].as_str().unwrap_or_default();
        ensure!(file.starts_with('/') && file.contains("/rules.v"), "{web:#}");
        ensure!(rule["line"] == 11, "{web:#}");

        let other = syn(51_000)?;
        ensure!(other["verdict"] == "drop" && other["reason"] == "policy", "{other:#}");
        ensure!(other["rule"]["number"].is_null(), "{other:#}");
        let considered = other["considered"].as_array().context("rules")?;
        let told: Vec<_> = considered
            .iter()
            .map(|one| (one["matches"] == true, one["because"].as_str().unwrap_or_default()))
            .collect();
        let wanted = [
            (false, "ctstate is NEW"),
            (false, "dport is 51000"),
            (true, ""),
            (false, "dport is 51000"),
            (false, "protocol is tcp"),
            (false, "protocol is tcp"),
            (true, ""),
        ];
        ensure!(told == wanted, "{told:?}");

        // The datapath does the same.
        wires.cross(End::Client, &Packet::syn(client, server(80)))?;
        wires.client.send(&Packet::syn(client, server(51_000)))?;
        wait::until_true("the drop", || firewall.stat("policy").unwrap_or(0) > 0)?;
        wires.server.has_not_seen(&Packet::syn(client, server(51_000)))?;
    }
    Ok(())
}

#[test]
fn asking_changes_no_flow_no_counter_and_no_expectation() {
    needs!(capability::firewall());
    untouched().unwrap();
}

fn untouched() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network)?;
    let wires = Wires::across(&network)?;
    let mut control = Conversation::open(&wires, Family::V4, 39_000)?;
    control.login()?;
    announce(&mut control, 51_001)?;
    wait::until_true("the expectation", || {
        firewall.json(&["expect", "list"]).is_ok_and(|list| list.len() == 1)
    })?;
    // The daemon tells now and then what it has read: all that it was given, in the end.
    wait::until_true("the daemon's last figures", || {
        let [given, told] = ["punted", "hold-time"].map(|name| firewall.stat(name).ok());
        told.is_some_and(|told| told > 0) && told == given
    })?;
    // Nothing else is under way: the lists stand still, but for the time that is left.
    let state = || -> Result<Vec<Value>> {
        let lists =
            [vec!["conntrack", "list"], vec!["expect", "list"], vec!["rules"], vec!["stats"]];
        let mut all = Vec::new();
        for list in lists {
            all.extend(firewall.json(&list)?);
        }
        // This host's own neighbour discovery goes on meanwhile, by INPUT and OUTPUT.
        let noise = ["policy", "accept-input", "accept-output", "pass-non-ip"];
        all.retain(|value| {
            !noise.iter().any(|name| value["name"] == *name)
                && value["chain"] != "INPUT"
                && value["chain"] != "OUTPUT"
        });
        for value in &mut all {
            if let Some(fields) = value.as_object_mut() {
                fields.remove("timeout");
            }
        }
        Ok(all)
    };
    let client = |port| wires.client.endpoint(Family::V4, port);
    let server = |port| wires.server.endpoint(Family::V4, port);
    let before = state()?;
    for (ends, input, more) in [
        ((client(40_000), server(51_001)), "eth0", &["--syn"][..]),
        ((client(40_000), server(80)), "eth0", &["--syn"]),
        ((client(40_000), server(9)), "eth0", &["--syn"]),
        ((client(39_000), server(21)), "eth0", &["--payload", "10"]),
        ((client(39_000), server(21)), "eth0", &["--tcp-flags", "RST"]),
        ((server(21), client(39_000)), "eth1", &["--tcp-flags", "FIN,ACK", "--seq", "1"]),
    ] {
        asked(&firewall, input, ends, more)?;
    }
    let after = state()?;
    let other: Vec<_> = before.iter().zip(&after).filter(|(was, is)| was != is).collect();
    ensure!(before.len() == after.len() && other.is_empty(), "{other:#?}");
    ensure!(before.len() > 20, "{before:#?}");
    Ok(())
}

/// PASV and its answer, which names a port.
fn announce(control: &mut Conversation<'_>, port: u16) -> Result<()> {
    control.say(End::Client, b"PASV\r\n")?;
    let [high, low] = port.to_be_bytes();
    let answer = format!("227 Entering Passive Mode (198,51,100,77,{high},{low})\r\n");
    control.say(End::Server, answer.as_bytes())
}

#[test]
fn an_expectation_that_is_absent_is_told_with_the_last_announcement() {
    needs!(capability::firewall());
    announcements().unwrap();
}

fn announcements() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network)?;
    let wires = Wires::across(&network)?;
    let mut control = Conversation::open(&wires, Family::V4, 39_000)?;
    control.login()?;
    announce(&mut control, 51_001)?;
    let client = wires.client.endpoint(Family::V4, 40_000);
    let server = |port| wires.server.endpoint(Family::V4, port);
    let syn = |port| asked(&firewall, "eth0", (client, server(port)), &["--syn"]);
    let note = |value: &Value| value["notes"][0].as_str().unwrap_or_default().to_owned();

    let expected = syn(51_001)?;
    ensure!(expected["verdict"] == "accept" && expected["ctstate"] == "RELATED", "{expected:#}");
    ensure!(why(&expected).contains("192.0.2.77:39000 -> 198.51.100.77:21"), "{expected:#}");
    let wrong = syn(51_000)?;
    ensure!(wrong["verdict"] == "drop", "{wrong:#}");
    let text = note(&wrong);
    ensure!(text.contains("(192.0.2.77:39000 -> 198.51.100.77:21)"), "{wrong:#}");
    ensure!(text.contains("(227 or 229) named port 51001 "), "{wrong:#}");
    ensure!(text.ends_with("and is not used yet"), "{wrong:#}");

    wires.cross(End::Client, &Packet::syn(client, server(51_001)))?;
    let text = note(&syn(51_000)?);
    ensure!(text.contains("named port 51001 and was used "), "{text}");
    let again = syn(51_001)?;
    ensure!(why(&again).contains("is not answered yet"), "{again:#}");
    Ok(())
}

#[test]
fn a_segment_out_of_the_window_is_told_from_one_without_a_flow() {
    needs!(capability::firewall());
    misfits().unwrap();
}

fn misfits() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network)?;
    let wires = Wires::across(&network)?;
    let ends = (wires.client.endpoint(Family::V4, 39_000), wires.server.endpoint(Family::V4, 21));
    let _control = Conversation::open(&wires, Family::V4, 39_000)?;
    let known = asked(&firewall, "eth0", ends, &[])?;
    ensure!(known["verdict"] == "accept" && known["ctstate"] == "ESTABLISHED", "{known:#}");
    ensure!(known["rule"]["number"] == 1, "{known:#}");
    let far = asked(&firewall, "eth0", ends, &["--seq", "1000000000"])?;
    ensure!(far["ctstate"] == "INVALID" && far["verdict"] == "accept", "{far:#}");
    ensure!(why(&far).contains("out of its window: seq 1000000000"), "{far:#}");
    let unread = asked(&firewall, "eth0", ends, &["--payload", "5"])?;
    ensure!(unread["held"] == true && unread["unread"] == false, "{unread:#}");
    let back = (wires.server.endpoint(Family::V4, 9), wires.client.endpoint(Family::V4, 9));
    let stray = asked(&firewall, "eth1", back, &["--tcp-flags", "SYN,ACK"])?;
    ensure!(stray["ctstate"] == "INVALID", "{stray:#}");
    ensure!(why(&stray).ends_with("SYN,ACK begins none"), "{stray:#}");
    // The datapath does the same with the first.
    let segment = Segment { flags: flag::ACK, seq: 1_000_000_000, ack: 5_001, payload: vec![] };
    wires.cross(End::Client, &Packet::tcp(ends.0, ends.1, segment))?;
    Ok(())
}

#[test]
fn the_answer_is_explained_behind_its_packet() {
    needs!(capability::firewall());
    answers().unwrap();
}

fn answers() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let mut firewall = start(&network)?;
    let wires = Wires::across(&network)?;
    let client = wires.client.endpoint(Family::V4, 40_000);
    let server = |port| wires.server.endpoint(Family::V4, port);
    let reply = |firewall: &Firewall<'_>, port| {
        asked(firewall, "eth0", (client, server(port)), &["--syn", "--as-reply"])
    };
    // The commands work without the daemon too.
    firewall.kill();
    let answer = reply(&firewall, 80)?;
    ensure!(answer["packet"]["flags"] == "SYN,ACK" && answer["in"] == "eth1", "{answer:#}");
    ensure!(answer["ctstate"] == "ESTABLISHED" && answer["verdict"] == "accept", "{answer:#}");
    ensure!(why(&answer).starts_with("the first answer in a known flow"), "{answer:#}");
    let answer = reply(&firewall, 9)?;
    ensure!(answer["ctstate"] == "INVALID" && answer["verdict"] == "drop", "{answer:#}");
    let note = answer["notes"][0].as_str().unwrap_or_default();
    ensure!(note.starts_with("the packet that it answers is dropped itself (policy)"), "{note}");
    // To the gateway itself, and from it.
    let arguments = ["-p", "icmp", "-s", "192.0.2.2", "-d", "192.0.2.1"];
    let input = firewall.json(&[&["explain", "-i", "eth0"][..], &arguments].concat())?;
    ensure!(input[0]["chain"] == "INPUT" && input[0]["verdict"] == "drop", "{input:#?}");
    let arguments = ["-O", "eth0", "-p", "icmp", "-s", "192.0.2.1", "-d", "192.0.2.2"];
    let own = firewall.json(&[&["explain"][..], &arguments].concat())?;
    ensure!(own[0]["chain"] == "OUTPUT" && own[0]["verdict"] == "accept", "{own:#?}");
    let answer = firewall.json(&[&["explain", "--as-reply"][..], &arguments].concat())?;
    ensure!(answer[0]["chain"] == "INPUT" && answer[0]["ctstate"] == "ESTABLISHED", "{answer:#?}");
    ensure!(answer[0]["packet"]["type"] == 0, "{answer:#?}");
    Ok(())
}

#[test]
fn what_cannot_be_asked_says_what_to_ask() {
    needs!(capability::firewall());
    refusals().unwrap();
}

fn refusals() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = Setup::on(&["eth0"]).rules(RULES_FOR_ONE).start(network.gateway())?;
    let ping = ["-p", "icmp", "-s", "192.0.2.2", "-d", "198.51.100.2"];
    let refused = |way: &[&str]| -> Result<String> {
        let finished = firewall.cli(&[&["explain"][..], way, &ping].concat())?;
        ensure!(finished.code() == 1, "{}", finished.stdout);
        Ok(finished.stderr)
    };
    let said = refused(&["-i", "eth1"])?;
    ensure!(said.contains("by eth1, only by eth0; name with -o"), "{said}");
    ensure!(refused(&["-i", "eth9"])?.contains("knows no interface eth9; it judges eth0"));
    ensure!(refused(&["-O", "eth1"])?.contains("what leaves by eth1, only by eth0"));
    ensure!(refused(&["-i", "eth0", "-O", "eth1"])?.contains("leave -o out"));
    // What comes in by an interface that is not ours is judged where it leaves.
    let back = ["-p", "icmp", "-s", "198.51.100.2", "-d", "192.0.2.2"];
    let through = firewall.json(&[&["explain", "-i", "eth1", "-O", "eth0"][..], &back].concat())?;
    ensure!(through[0]["chain"] == "FORWARD" && through[0]["hook"] == "tc egress", "{through:#?}");
    ensure!(through[0]["in"] == "eth1" && through[0]["out"] == "eth0", "{through:#?}");
    Ok(())
}

const RULES_FOR_ONE: &str = "-A FORWARD -p icmp -j ACCEPT\n";

#[test]
fn people_read_it_on_a_few_lines() {
    needs!(capability::firewall());
    readable().unwrap();
}

fn readable() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network)?;
    let text = firewall.text(&[
        "explain",
        "-i",
        "eth0",
        "-p",
        "udp",
        "-s",
        "192.0.2.2",
        "-d",
        "198.51.100.2",
        "--sport",
        "5000",
        "--dport",
        "53",
    ])?;
    let lines: Vec<_> = text.lines().collect();
    ensure!(lines[0] == "udp 192.0.2.2:5000 -> 198.51.100.2:53 in=eth0 out=eth1 (xdp)", "{text}");
    ensure!(lines[1] == "ctstate NEW: no flow has these endpoints", "{text}");
    ensure!(lines[2].starts_with("  FORWARD 1        no  -m state --state "), "{text}");
    ensure!(lines[2].contains("  [ctstate is NEW]  /"), "{text}");
    ensure!(text.contains("rules.v4:6\n"), "{text}");
    let last = lines.last().copied().unwrap_or_default();
    ensure!(last.starts_with("REJECT by FORWARD 5 (/") && last.ends_with(":10)"), "{text}");
    Ok(())
}
