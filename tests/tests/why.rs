//! The classic mistakes: each is made, traffic fails for it, and `firewall why` names it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, Translation, capability,
    command::Background,
    control::Control,
    conversation::Conversation,
    firewall::Setup,
    needs,
    packet::{Packet, Segment, flag},
    server::own::{Own, Script},
    wait,
    wire::{End, Wire, Wires},
};
use serde_json::Value;

/// FTP as it should be allowed, but for what a test leaves out.
const RULES: [&str; 2] = [
    "-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT",
    "-A FORWARD -i eth0 -p tcp --dport 21 -j ACCEPT",
];

fn start<'n>(network: &'n Gateway, rules: &[&str], options: &[&str]) -> Result<Firewall<'n>> {
    let rules: String = rules.iter().map(|rule| format!("{rule}\n")).collect();
    let setup = Setup::on(&["eth0", "eth1"]).rules(&format!("-P FORWARD DROP\n{rules}"));
    options.iter().fold(setup, |setup, option| setup.option(option)).start(network.gateway())
}

/// Waits until `why` names a mistake; gives the line.
fn named(firewall: &Firewall<'_>, name: &str) -> Result<Value> {
    let mut found = None;
    let mut last = Vec::new();
    wait::until_true(name, || {
        last = firewall.json(&["why"]).unwrap_or_default();
        found = last.iter().find(|line| line["diagnosis"]["name"] == name).cloned();
        found.is_some()
    })
    .with_context(|| format!("{last:#?}"))?;
    let found = found.context("a line")?;
    // No other mistake is seen where there is one.
    let others = last.iter().filter(|line| !line["diagnosis"].is_null());
    ensure!(others.clone().all(|line| line["diagnosis"]["name"] == name), "{last:#?}");
    let text = firewall.text(&["why"])?;
    ensure!(text.contains(&format!("  {name}: ")) && text.contains("  do: "), "{text}");
    Ok(found)
}

fn message(line: &Value) -> &str {
    line["diagnosis"]["message"].as_str().unwrap_or_default()
}

fn data_connection(wires: &Wires, port: u16) -> Packet {
    Packet::syn(wires.client.endpoint(Family::V4, 40_000), wires.server.endpoint(Family::V4, port))
}

/// PASV and its answer, which names a port.
fn announce(control: &mut Conversation<'_>, port: u16) -> Result<()> {
    control.say(End::Client, b"PASV\r\n")?;
    let [high, low] = port.to_be_bytes();
    let answer = format!("227 Entering Passive Mode (198,51,100,77,{high},{low})\r\n");
    control.say(End::Server, answer.as_bytes())
}

#[test]
fn related_is_missing() {
    needs!(capability::firewall());
    related().unwrap();
}

fn related() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let rules = ["-A FORWARD -m state --state ESTABLISHED -j ACCEPT", RULES[1]];
    let firewall = start(&network, &rules, &[])?;
    let wires = Wires::across(&network)?;
    let mut control = Conversation::open(&wires, Family::V4, 39_000)?;
    control.login()?;
    announce(&mut control, 51_001)?;
    for _ in 0..3 {
        wires.client.send(&data_connection(&wires, 51_001))?;
    }
    let line = named(&firewall, "related-missing")?;
    ensure!(message(&line).contains("192.0.2.77:39000 -> 198.51.100.77:21"), "{line:#}");
    ensure!(line["ctstate"] == "RELATED" && line["dport"] == 51_001, "{line:#}");
    wait::until_true("three drops in one line", || {
        let all = firewall.json(&["why"]).unwrap_or_default();
        all.iter().any(|line| line["count"] == 3 && line["ctstate"] == "RELATED")
    })
}

#[test]
fn no_helper_is_assigned() {
    needs!(capability::firewall());
    helper().unwrap();
}

fn helper() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, &RULES, &["--ftp-ports=none"])?;
    let wires = Wires::across(&network)?;
    let mut control = Conversation::open(&wires, Family::V4, 39_000)?;
    control.login()?;
    announce(&mut control, 51_001)?;
    wires.client.send(&data_connection(&wires, 51_001))?;
    let line = named(&firewall, "helper-not-assigned")?;
    ensure!(line["rule"] == "the policy of FORWARD", "{line:#}");
    let advice = line["diagnosis"]["advice"].as_str().unwrap_or_default();
    ensure!(advice.contains("--dport 21 -j CT --helper ftp"), "{line:#}");
    Ok(())
}

#[test]
fn the_control_connection_is_encrypted() {
    needs!(capability::firewall());
    encrypted().unwrap();
}

fn encrypted() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, &RULES, &[])?;
    let wires = Wires::across(&network)?;
    let mut control = Conversation::open(&wires, Family::V4, 39_000)?;
    control.say(End::Server, b"220 ready\r\n")?;
    control.say(End::Client, b"AUTH TLS\r\n")?;
    control.say(End::Server, b"234 go on\r\n")?;
    wait::until_true("the mark", || {
        let marked = ["conntrack", "list", "-u", "ENCRYPTED"];
        firewall.json(&marked).is_ok_and(|list| list.len() == 1)
    })?;
    wires.client.send(&data_connection(&wires, 51_001))?;
    let line = named(&firewall, "control-encrypted")?;
    ensure!(message(&line).contains("AUTH TLS"), "{line:#}");
    Ok(())
}

#[test]
fn an_announcement_finds_no_port() {
    needs!(capability::firewall());
    untold().unwrap();
}

/// Each port of the gateway's from the announced one on is somebody's: 128 are tried.
fn untold() -> Result<()> {
    const TRIED: usize = 128;
    let network = Gateway::new(Offload::Tuned)?;
    let _server = Own::start(&network.server, Script::default())?;
    let firewall = Translation::Masqueraded.start(&network, "xdp")?;
    let called = SocketAddr::new(network.server_address(Family::V4), 21);
    let mut sessions = Vec::new();
    for _ in 0..=TRIED {
        let mut control = Control::open(&network.client, called)?;
        control.login(("a", "b"))?;
        let reply = control.command("PORT 192,0,2,2,200,1")?;
        ensure!(reply.code == 200, "{reply:?}");
        sessions.push(control);
    }
    let line = named(&firewall, "helper-untold")?;
    let last = sessions.last().context("a session")?.local()?;
    ensure!(line["count"] == 1 && line["control"]["sport"] == last.port(), "{line:#}");
    ensure!(message(&line).contains(&format!("{last} -> 198.51.100.2:21")), "{line:#}");
    ensure!(message(&line).contains("no port of 198.51.100.1 is free for it"), "{line:#}");
    let advice = line["diagnosis"]["advice"].as_str().unwrap_or_default();
    ensure!(advice.contains("passively") && advice.contains("--to-source"), "{line:#}");
    wait::until_true("its count", || firewall.stat("helper-untold").is_ok_and(|it| it == 1))
}

#[test]
fn a_segment_overtakes_what_it_follows() {
    needs!(capability::firewall());
    early().unwrap();
}

fn early() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = Translation::Masqueraded.start(&network, "xdp")?;
    let wires = Wires::across(&network)?;
    let client = wires.client.endpoint(Family::V4, 39_000);
    let server = wires.server.endpoint(Family::V4, 21);
    let from_client = |flags, seq, payload: &[u8]| {
        let ack = if flags & flag::ACK == 0 { 0 } else { 5_012 };
        let segment = Segment { flags, seq, ack, payload: payload.into() };
        wires.client.send(&Packet::tcp(client, server, segment))
    };
    from_client(flag::SYN, 1_000, b"")?;
    let syn = wires.server.wait_for("the SYN", |seen| seen.packet.destination == server)?;
    let answer = Segment { flags: flag::SYN | flag::ACK, seq: 5_000, ack: 1_001, payload: vec![] };
    wires.server.send(&Packet::tcp(server, syn.packet.source, answer))?;
    wires.client.wait_for("the answer", |seen| seen.packet.source == server)?;
    let greeting = Segment {
        flags: flag::PSH | flag::ACK,
        seq: 5_001,
        ack: 1_001,
        payload: b"220 ready\r\n".to_vec(),
    };
    wires.server.send(&Packet::tcp(server, syn.packet.source, greeting))?;
    wires.client.wait_for("the greeting", |seen| seen.packet.source == server)?;
    from_client(flag::ACK, 1_001, b"")?;
    from_client(flag::PSH | flag::ACK, 1_001, b"USER a\r\n")?;
    // What stands between is lost.
    for _ in 0..2 {
        from_client(flag::PSH | flag::ACK, 1_109, b"PORT 192,0,2,77,200,1\r\n")?;
    }
    let line = named(&firewall, "helper-early")?;
    ensure!(message(&line).contains("192.0.2.77:39000 -> 198.51.100.77:21"), "{line:#}");
    ensure!(message(&line).contains("came before what they follow"), "{line:#}");
    wait::until_true("both segments", || {
        named(&firewall, "helper-early").is_ok_and(|line| line["count"] == 2)
    })?;
    wait::until_true("their count", || firewall.stat("helper-early").is_ok_and(|it| it == 2))
}

#[test]
fn the_reply_direction_is_not_allowed() {
    needs!(capability::firewall());
    reply().unwrap();
}

fn reply() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, &["-A FORWARD -i eth0 -j ACCEPT"], &[])?;
    let wires = Wires::across(&network)?;
    let (client, server) =
        (wires.client.endpoint(Family::V4, 40_000), wires.server.endpoint(Family::V4, 80));
    wires.cross(End::Client, &Packet::syn(client, server))?;
    let segment = Segment { flags: flag::SYN | flag::ACK, seq: 5_000, ack: 1_001, payload: vec![] };
    wires.server.send(&Packet::tcp(server, client, segment))?;
    let line = named(&firewall, "reply-not-allowed")?;
    ensure!(line["in"] == "eth1" && line["ctstate"] == "ESTABLISHED", "{line:#}");
    Ok(())
}

#[test]
fn forwarding_is_switched_off() {
    needs!(capability::firewall());
    forwarding().unwrap();
}

fn forwarding() -> Result<()> {
    for (policy, is_dropped) in [("DROP", true), ("ACCEPT", false)] {
        let network = Gateway::new(Offload::Tuned)?;
        network.gateway().set("ipv4/ip_forward", "0")?;
        let policy = format!("-P INPUT {policy}");
        let firewall = start(&network, &[&policy, RULES[0]], &[])?;
        let wires = Wires::across(&network)?;
        wires.client.send(&data_connection(&wires, 80))?;
        let line = named(&firewall, "forwarding-off")?;
        ensure!(message(&line).contains("net.ipv4.ip_forward is 0"), "{line:#}");
        ensure!((line["count"] == 0) != is_dropped, "{line:#}");
    }
    Ok(())
}

#[test]
fn the_kernel_checks_the_reverse_path() {
    needs!(capability::firewall());
    reverse_path().unwrap();
}

fn reverse_path() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let gateway = network.gateway();
    gateway.set("ipv4/conf/eth0/rp_filter", "1")?;
    // The way back to 203.0.113.0/24 leads to the server's side.
    gateway.ip("route add 203.0.113.0/24 via 198.51.100.2")?;
    let firewall = start(&network, &["-A FORWARD -i eth0 -j ACCEPT"], &[])?;
    let wires = Wires::across(&network)?;
    let wire = Wire::opposite(&network.client, "eth0", gateway, "eth0")?;
    let source = "203.0.113.7:40000".parse()?;
    let syn = Packet::syn(source, wires.server.endpoint(Family::V4, 80));
    wire.send(&syn)?;
    let line = named(&firewall, "reverse-path-filter")?;
    ensure!(message(&line).contains("answer 203.0.113.7 by eth1, and eth0"), "{line:#}");
    wires.server.has_not_seen(&syn)
}

#[test]
fn the_monitor_tells_the_reason_of_each_drop_that_is_asked_for() {
    needs!(capability::firewall());
    monitored().unwrap();
}

fn monitored() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, &RULES, &[])?;
    let wires = Wires::across(&network)?;
    let _control = Conversation::open(&wires, Family::V4, 39_000)?;
    let arguments =
        ["monitor", "-o", "json", "-i", "eth0", "--chain", "FORWARD", "--dport", "51000"];
    let watcher = Background::start(&mut firewall.command(&arguments)?)?;
    wait::until_true("the watcher", || watcher.stderr().contains("watching"))?;
    wires.client.send(&data_connection(&wires, 51_002))?;
    wires.client.send(&data_connection(&wires, 51_000))?;
    wait::until_true("a drop", || !watcher.stdout().is_empty())?;
    let text = watcher.stdout();
    ensure!(text.lines().count() == 1, "{text}");
    let line: Value = serde_json::from_str(text.trim())?;
    ensure!(line["dport"] == 51_000 && line["reason"] == "policy", "{line:#}");
    let why = line["why"].as_str().unwrap_or_default();
    ensure!(why.starts_with("no flow has these endpoints; an FTP control connection"), "{why}");
    ensure!(why.contains("(192.0.2.77:39000 -> 198.51.100.77:21)"), "{why}");
    Ok(())
}

#[test]
fn where_nothing_is_wrong_nothing_is_said() {
    needs!(capability::firewall());
    nothing().unwrap();
}

fn nothing() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let mut firewall = start(&network, &RULES, &[])?;
    let wires = Wires::across(&network)?;
    let mut control = Conversation::open(&wires, Family::V4, 39_000)?;
    control.login()?;
    announce(&mut control, 51_001)?;
    wires.cross(End::Client, &data_connection(&wires, 51_001))?;
    let text = firewall.text(&["why"])?;
    ensure!(text == "nothing was dropped since the daemon was started\n", "{text}");
    // A drop without a mistake is told without one.
    wires.client.send(&Packet::udp(
        wires.client.endpoint(Family::V4, 5_000),
        wires.server.endpoint(Family::V4, 53),
        b"?",
    ))?;
    wait::until_true("the drop", || firewall.text(&["why"]).is_ok_and(|it| it.contains("udp")))?;
    let line = firewall.json(&["why"])?.remove(0);
    ensure!(line["count"] == 1 && line["diagnosis"].is_null(), "{line:#}");
    ensure!(line["reason"] == "policy" && line["dport"] == 53, "{line:#}");
    firewall.kill();
    let without = firewall.cli(&["why"])?;
    ensure!(without.code() == 1 && without.stderr.contains("no daemon answers"), "{without:?}");
    Ok(())
}
