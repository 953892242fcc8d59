//! Flows as they begin, change and end: what `firewall conntrack events` and `firewall
//! monitor` tell is what the kernel's `conntrack -E` tells, and what the tables hold.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use firewall_common::{
    control::option,
    flow::{Flow, FlowKey, Sender, Tuple, protocol},
    tables::FlowTable,
};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    command::Background,
    control::Control,
    firewall::Setup,
    needs,
    packet::{Packet, Segment, flag},
    server::own::{Own, Script},
    wait,
    wire::{End, Wires},
};
use firewall_user::kernel::{
    flows::FlowTables,
    maps::{Maps, now},
    pins::Pins,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -j ACCEPT
COMMIT
";

fn start(network: &Gateway) -> Result<Firewall<'_>> {
    Setup::on(&["eth0", "eth1"]).both(RULES).start(network.gateway())
}

/// A command of the firewall that watches, from when it misses nothing on.
fn watch(firewall: &Firewall<'_>, arguments: &[&str]) -> Result<Background> {
    let watcher = Background::start(&mut firewall.command(arguments)?)?;
    wait::until_true("the watcher", || watcher.stderr().contains("watching"))?;
    Ok(watcher)
}

fn json_lines(watcher: &Background) -> Result<Vec<Value>> {
    let text = watcher.stdout();
    text.lines().map(|line| serde_json::from_str(line).context("not JSON")).collect()
}

/// Waits for so many lines that a test describes.
fn wait_for_lines(
    watcher: &Background,
    what: &str,
    count: usize,
    is_it: impl Fn(&str) -> bool,
) -> Result<()> {
    let found = || watcher.stdout().lines().filter(|line| is_it(line)).count();
    wait::until_true(what, || found() >= count)
        .with_context(|| format!("{}{}", watcher.stdout(), watcher.stderr()))
}

mod beside_the_kernel {
    use super::*;

    #[test]
    fn the_same_packets_make_the_same_events() {
        needs!(capability::firewall(), capability::program("conntrack"));
        same().unwrap();
    }

    fn same() -> Result<()> {
        let (ours, reference) = (of_the_firewall()?, of_the_kernel()?);
        ensure!(ours == reference, "ours:\n{ours:#?}\nconntrack -E:\n{reference:#?}");
        let events: usize = ours.values().map(Vec::len).sum();
        ensure!(ours.len() == 4 && events == 15, "{events} events of {} flows", ours.len());
        Ok(())
    }

    fn of_the_firewall() -> Result<BTreeMap<String, Vec<String>>> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let wires = Wires::across(&network)?;
        let watcher = watch(&firewall, &["conntrack", "events"])?;
        traffic(&wires)?;
        firewall.text(&["conntrack", "delete", "-s", "192.0.2.77"])?;
        by_flow(&watcher)
    }

    fn of_the_kernel() -> Result<BTreeMap<String, Vec<String>>> {
        let network = Gateway::new(Offload::Tuned)?;
        let gateway = network.gateway();
        gateway.set("netfilter/nf_conntrack_acct", "1")?;
        gateway.run("iptables -A FORWARD -m state --state INVALID -j DROP")?;
        let wires = Wires::across(&network)?;
        let watcher = Background::start(gateway.command("conntrack").arg("-E"))?;
        // It does not tell when it listens.
        let mut identifier = 1_000;
        wait::until_true("conntrack -E", || {
            identifier += 1;
            let [client, server] = [&wires.client, &wires.server].map(|w| w.address(Family::V4));
            let ping = Packet::ping(client, server, identifier);
            wires.cross(End::Client, &ping).is_ok() && !watcher.stdout().is_empty()
        })?;
        traffic(&wires)?;
        gateway.run("conntrack -D -s 192.0.2.77")?;
        by_flow(&watcher)
    }

    /// A connection from its beginning to its end, one that is refused, a question
    /// that is answered, a ping.
    fn traffic(wires: &Wires) -> Result<()> {
        let client = |port| wires.client.endpoint(Family::V4, port);
        let server = |port| wires.server.endpoint(Family::V4, port);
        let segments = [
            (End::Client, flag::SYN, 1000, 0),
            (End::Server, flag::SYN | flag::ACK, 5000, 1001),
            (End::Client, flag::ACK, 1001, 5001),
            (End::Client, flag::FIN | flag::ACK, 1001, 5001),
            (End::Server, flag::FIN | flag::ACK, 5001, 1002),
            (End::Client, flag::ACK, 1002, 5002),
        ];
        for (from, flags, seq, ack) in segments {
            cross(wires, from, 50_001, 80, Segment { flags, seq, ack, payload: Vec::new() })?;
        }
        cross(wires, End::Client, 50_002, 81, segment(flag::SYN, 1000, 0))?;
        cross(wires, End::Server, 50_002, 81, segment(flag::RST | flag::ACK, 0, 1001))?;
        wires.cross(End::Client, &Packet::udp(client(50_003), server(53), b"question"))?;
        wires.cross(End::Server, &Packet::udp(server(53), client(50_003), b"answer"))?;
        let ping = Packet::ping(client(0).ip(), server(0).ip(), 77);
        wires.cross(End::Client, &ping)?;
        wires.cross(End::Server, &ping.pong()).map(drop)
    }

    fn segment(flags: u8, seq: u32, ack: u32) -> Segment {
        Segment { flags, seq, ack, payload: Vec::new() }
    }

    fn cross(wires: &Wires, from: End, port: u16, service: u16, segment: Segment) -> Result<()> {
        let client = wires.client.endpoint(Family::V4, port);
        let server = wires.server.endpoint(Family::V4, service);
        let (source, destination) = match from {
            End::Client => (client, server),
            End::Server => (server, client),
        };
        wires.cross(from, &Packet::tcp(source, destination, segment)).map(drop)
    }

    /// The events of each flow of [`traffic`] in their order, when all have ended.
    fn by_flow(watcher: &Background) -> Result<BTreeMap<String, Vec<String>>> {
        let flows = ["dport=80 ", "dport=81 ", "dport=53 ", "id=77 "];
        let is_end =
            |line: &str| line.contains("[DESTROY]") && flows.iter().any(|flow| line.contains(flow));
        wait_for_lines(watcher, "the end of four flows", 4, is_end)?;
        let text = watcher.stdout();
        let events = flows.map(|flow| {
            let lines = text.lines().filter(|line| line.contains(flow));
            (flow.to_owned(), lines.map(comparable).collect())
        });
        Ok(events.into_iter().collect())
    }

    /// Timeouts rounded up to tens; without who has deleted it.
    fn comparable(line: &str) -> String {
        let words = line.split_whitespace().take_while(|word| *word != "[USERSPACE]");
        let mut words: Vec<_> = words.map(String::from).collect();
        if let Some(timeout) = words.get(3).and_then(|word| word.parse::<u64>().ok()) {
            words[3] = timeout.next_multiple_of(10).to_string();
        }
        words.join(" ")
    }
}

mod of_an_ftp_session {
    use super::*;

    #[test]
    fn are_those_of_the_flows_that_the_tables_hold() {
        needs!(capability::firewall());
        session().unwrap();
    }

    fn session() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let firewall = start(&network)?;
        let watcher = watch(&firewall, &["conntrack", "events", "-p", "tcp", "-o", "json"])?;
        let server = std::net::SocketAddr::new(network.server_address(Family::V4), 21);
        let mut control = Control::open(&network.client, server)?;
        control.login(("a", "b"))?;
        let client = control.local()?;
        for _ in 0..3 {
            let port = control.command("PASV")?.port()?;
            let data = std::net::SocketAddr::new(server.ip(), port);
            let _data = network
                .client
                .enter(|| std::net::TcpStream::connect_timeout(&data, wait::DEADLINE))?;
        }
        let flows = firewall.json(&["conntrack", "list", "-p", "tcp"])?;
        ensure!(flows.len() == 4, "{flows:?}");
        wait_for_lines(&watcher, "four beginnings", 4, |line| line.contains(r#""event":"new""#))?;
        let events = json_lines(&watcher)?;
        ensure!(endpoints(&of(&events, "new")) == endpoints(&flows), "{events:?}\n{flows:?}");
        for event in of(&events, "new") {
            match event["original"]["dport"].as_u64() {
                Some(21) => ensure!(event["helper"] == "ftp" && event["master"].is_null()),
                _ => ensure!(event["master"]["sport"] == client.port(), "{event}"),
            }
        }

        // Nothing moves any more: what a last listing counts is what the ends tell.
        drop(control);
        wait_until_closed(&firewall)?;
        let last = firewall.json(&["conntrack", "list", "-p", "tcp"])?;
        firewall.text(&["conntrack", "flush"])?;
        let is_end = |line: &str| line.contains(r#""event":"destroy""#);
        wait_for_lines(&watcher, "four ends", 4, is_end)?;
        let events = json_lines(&watcher)?;
        let ends = of(&events, "destroy");
        ensure!(counted(&ends) == counted(&last), "{ends:?}\n{last:?}");
        ensure!(of(&events, "new").len() == 4, "told twice: {events:?}");
        Ok(())
    }

    fn of(events: &[Value], kind: &str) -> Vec<Value> {
        events.iter().filter(|event| event["event"] == kind).cloned().collect()
    }

    fn endpoints(flows: &[Value]) -> Vec<String> {
        let side = |flow: &Value| format!("{}:{}", flow["original"]["src"], ports(flow));
        let mut all: Vec<_> = flows.iter().map(side).collect();
        all.sort();
        all
    }

    fn ports(flow: &Value) -> String {
        format!("{}->{}", flow["original"]["sport"], flow["original"]["dport"])
    }

    fn counted(flows: &[Value]) -> Vec<String> {
        let counted = |flow: &Value| {
            let [original, reply] = ["original", "reply"].map(|side| flow[side].to_string());
            format!("{original} {reply} {} {}", flow["state"], flow["status"])
        };
        let mut all: Vec<_> = flows.iter().map(counted).collect();
        all.sort();
        all
    }

    fn wait_until_closed(firewall: &Firewall<'_>) -> Result<()> {
        wait::until_true("the connections' end", || {
            firewall.json(&["conntrack", "list", "-p", "tcp"]).is_ok_and(|flows| {
                flows.iter().all(|flow| flow["state"] == "TIME_WAIT" || flow["state"] == "CLOSE")
            })
        })
    }
}

mod of_flows_that_expire {
    use super::*;

    #[test]
    fn tell_each_end_once_however_many_there_are() {
        needs!(capability::firewall());
        expire().unwrap();
    }

    fn expire() -> Result<()> {
        const FLOWS: u16 = 10_000;
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let watcher = watch(&firewall, &["conntrack", "events", "-p", "udp", "--dport", "7"])?;
        let maps = Maps::open(&Pins::new(firewall.pin()))?;
        let flows = FlowTables::open(&maps)?;
        for port in 1..=FLOWS {
            let address = |last| std::net::IpAddr::from([192, 0, 2, last]).into();
            let original = Tuple {
                src: address(1),
                dst: address(2),
                sport: port,
                dport: 7,
                protocol: protocol::UDP,
                ..Tuple::default()
            };
            let (key, sender) = FlowKey::of(&original);
            let originator = u8::from(sender == Sender::High);
            let flow = Flow { expires: now(), originator, ..Flow::default() };
            let tables = [FlowTable::Assured, FlowTable::Embryonic];
            flows.insert(tables[usize::from(port) % tables.len()], key, flow)?;
        }
        let is_end = |line: &str| line.starts_with("[DESTROY] udp");
        wait_for_lines(&watcher, "every end", FLOWS.into(), is_end)?;
        let text = watcher.stdout();
        let lines: BTreeSet<_> = text.lines().collect();
        ensure!(lines.len() == usize::from(FLOWS), "{} different lines", lines.len());
        ensure!(text.lines().count() == lines.len(), "some were told twice");
        Ok(())
    }
}

mod the_monitor {
    use super::*;

    #[test]
    fn shows_new_and_ended_flows_and_what_the_helper_expects() {
        needs!(capability::firewall());
        shows().unwrap();
    }

    fn shows() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let firewall = start(&network)?;
        let monitor = watch(&firewall, &["monitor"])?;
        let drops_alone = watch(&firewall, &["monitor", "--only", "drops"])?;
        let server = std::net::SocketAddr::new(network.server_address(Family::V4), 21);
        let mut control = Control::open(&network.client, server)?;
        control.login(("a", "b"))?;
        let port = control.command("PASV")?.port()?;
        firewall.text(&["conntrack", "delete", "-p", "tcp", "--dport", "21"])?;
        for words in [
            format!(" NEW tcp {} -> {server} SYN_SENT helper=ftp", control.local()?),
            format!(" FTP expects {} -> {}:{port} ", control.local()?.ip(), server.ip()),
            format!(" END tcp {} -> {server} ESTABLISHED [ASSURED] ", control.local()?),
        ] {
            wait_for_lines(&monitor, &words, 1, |line| line.contains(&words))?;
        }
        ensure!(!drops_alone.stdout().contains("tcp"), "{}", drops_alone.stdout());
        Ok(())
    }
}

mod watchers {
    use super::*;

    fn reports(firewall: &Firewall<'_>) -> Result<u32> {
        let maps = Maps::open(&Pins::new(firewall.pin()))?;
        Ok(maps.options()?.bits & (option::REPORT_FLOWS | option::REPORT_DROPS))
    }

    #[test]
    fn hear_the_same_and_one_that_is_killed_is_forgotten() {
        needs!(capability::firewall());
        several().unwrap();
    }

    fn several() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let wires = Wires::across(&network)?;
        ensure!(reports(&firewall)? == 0, "reports that nobody wants");
        let events = ["conntrack", "events", "--dport", "53"];
        let mut killed = watch(&firewall, &events)?;
        let [one, other] = [watch(&firewall, &events)?, watch(&firewall, &events)?];
        let ends = watch(&firewall, &[&events[..], &["-e", "DESTROY"]].concat())?;
        let ask = |port| {
            let client = wires.client.endpoint(Family::V4, port);
            let question = Packet::udp(client, wires.server.endpoint(Family::V4, 53), b"?");
            wires.cross(End::Client, &question).map(drop)
        };
        ask(40_001)?;
        for watcher in [&killed, &one, &other] {
            wait_for_lines(watcher, "the first event", 1, |line| line.contains("sport=40001 "))?;
        }
        killed.kill();
        ask(40_002)?;
        firewall.text(&["conntrack", "delete", "-p", "udp", "--sport", "40002"])?;
        for watcher in [&one, &other] {
            wait_for_lines(watcher, "two more events", 2, |line| line.contains("sport=40002 "))?;
        }
        wait_for_lines(&ends, "the end", 1, |line| line.contains("[DESTROY]"))?;
        ensure!(ends.stdout().lines().count() == 1, "{}", ends.stdout());
        ensure!(reports(&firewall)? == option::REPORT_FLOWS, "flows are watched, drops are not");
        drop((one, other, ends));
        wait::until_true("the reports' end", || reports(&firewall).is_ok_and(|bits| bits == 0))
    }

    #[test]
    fn that_are_too_slow_are_told_how_much_they_missed() {
        needs!(capability::firewall());
        slow().unwrap();
    }

    fn slow() -> Result<()> {
        const FLOWS: usize = 40_000;
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let wires = Wires::across(&network)?;
        let events = ["conntrack", "events", "-p", "udp", "--dport", "53", "-o", "json"];
        let [slow, quick] = [watch(&firewall, &events)?, watch(&firewall, &events)?];
        slow.signal(Signal::SIGSTOP)?;
        for port in 0..FLOWS as u16 {
            let client = wires.client.endpoint(Family::V4, 10_000 + port);
            let question = Packet::udp(client, wires.server.endpoint(Family::V4, 53), b"?");
            wires.client.send(&question)?;
            if port % 256 == 0 {
                // What the server's side is sent is no part of the test.
                wires.server.pending().for_each(drop);
            }
        }
        let created = firewall.stat("flows-created")? as usize;
        ensure!(created >= FLOWS, "{created} flows");
        wait_for_lines(&quick, "every flow", FLOWS, |line| line.contains(r#""event":"new""#))?;
        ensure!(!quick.stdout().contains(r#""event":"lost""#), "a quick reader lost something");
        slow.signal(Signal::SIGCONT)?;
        wait::until_true("all events, or how many were lost", || {
            json_lines(&slow).is_ok_and(|lines| accounted(&lines) == FLOWS as u64)
        })
        .with_context(|| format!("{:?}", json_lines(&slow).map(|lines| accounted(&lines))))?;
        ensure!(slow.stdout().contains(r#""at":"reader""#), "nothing was lost");
        Ok(())
    }

    /// Events, and those that are told to be lost.
    fn accounted(lines: &[Value]) -> u64 {
        lines.iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum()
    }
}
