//! Tables that are full: the daemon says so once, and once that it is over; the
//! statistics tell since when, how often, what was lost, and whose the flows are.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    conversation::Conversation,
    firewall::Setup,
    needs,
    packet::Packet,
    wait,
    wire::{Wires, quiet_gateway},
};
use serde_json::Value;

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
";

/// A table has room again after a while without being full.
const CALM: Duration = Duration::from_secs(30);

fn setup(options: &[&str]) -> Setup {
    let setup = Setup::on(&["eth0", "eth1"]).rules(RULES);
    options.iter().fold(setup, |setup, option| setup.option(option))
}

/// How often the daemon has said this.
fn said(firewall: &mut Firewall<'_>, words: &str) -> Result<usize> {
    let daemon = firewall.daemon().context("the daemon")?;
    Ok(daemon.stderr().lines().filter(|line| line.contains(words)).count())
}

fn gauge(firewall: &Firewall<'_>, name: &str) -> Result<Value> {
    let stats = firewall.json(&["stats"])?;
    stats.into_iter().find(|line| line["name"] == name).with_context(|| format!("no {name}"))
}

fn number(gauge: &Value, field: &str) -> Result<u64> {
    gauge[field].as_u64().with_context(|| format!("no {field}: {gauge}"))
}

mod a_flood_of_embryonic_flows {
    use super::*;

    #[test]
    fn is_told_once_counted_exactly_and_over_in_the_end() {
        needs!(capability::firewall());
        flood(Family::V4, "IPv4", ["table-embryonic", "table-embryonic6"]).unwrap();
    }

    #[test]
    fn is_told_of_ipv6_alone_whose_table_is_another_one() {
        needs!(capability::firewall());
        flood(Family::V6, "IPv6", ["table-embryonic6", "table-embryonic"]).unwrap();
    }

    fn flood(family: Family, named: &str, [table, other]: [&str; 2]) -> Result<()> {
        const SYNS: u16 = 500;
        let (network, wires) = quiet_gateway()?;
        let mut firewall = setup(&["--max-embryonic", "64"]).start(network.gateway())?;
        send(&wires, family, 20_000, SYNS)?;
        wait::until_true("every flow to begin", || {
            firewall.stat("flows-created").is_ok_and(|flows| flows == u64::from(SYNS))
        })?;
        // Each flow is there, or lost its place.
        wait::until_true("what was lost to be counted", || {
            gauge(&firewall, table).is_ok_and(|gauge| {
                let sum = number(&gauge, "value").ok().zip(number(&gauge, "lost").ok());
                sum.is_some_and(|(here, lost)| lost > 0 && here + lost == u64::from(SYNS))
            })
        })
        .with_context(|| firewall.text(&["stats"]).unwrap_or_default())?;
        let full = gauge(&firewall, table)?;
        ensure!(full["full_since"].is_string() && full["times_full"] == 1, "{full}");
        wait::until("the daemon to say so", wait::DEADLINE, || {
            let words = format!("embryonic {named} flows (64) is full");
            said(&mut firewall, &words).ok().filter(|times| *times > 0)
        })?;
        let source = format!("most are from: {}", wires.client.address(family));
        ensure!(said(&mut firewall, &source)? == 1, "nobody is named");

        // The flood goes on, and is not told again.
        send(&wires, family, 30_000, SYNS)?;
        let lost = number(&full, "lost")?;
        wait::until_true("more to be lost", || {
            let now = gauge(&firewall, table).and_then(|now| number(&now, "lost"));
            now.is_ok_and(|now| now > lost)
        })?;
        ensure!(said(&mut firewall, "is full")? == 1, "told again");

        // It ends, and its flows expire.
        firewall.text(&["conntrack", "flush"])?;
        wait::until("room", CALM, || {
            let words = format!("embryonic {named} flows (64) has room again");
            said(&mut firewall, &words).ok().filter(|n| *n > 0)
        })?;
        let over = gauge(&firewall, table)?;
        ensure!(over["full_since"].is_null() && over["last_full"].is_string(), "{over}");
        ensure!(over["times_full"] == 1 && number(&over, "lost")? > lost, "{over}");
        let other = gauge(&firewall, other)?;
        ensure!(other["times_full"] == 0 && other["lost"] == 0, "{other}");
        Ok(())
    }

    fn send(wires: &Wires, family: Family, first: u16, count: u16) -> Result<()> {
        let server = wires.server.endpoint(family, 80);
        for port in first..first + count {
            wires.client.send(&Packet::syn(wires.client.endpoint(family, port), server))?;
        }
        Ok(())
    }
}

mod a_full_table_of_confirmed_flows {
    use super::*;

    #[test]
    fn names_who_fills_it() {
        needs!(capability::firewall());
        whose_it_is().unwrap();
    }

    fn whose_it_is() -> Result<()> {
        const CONVERSATIONS: u16 = 24;
        let (network, wires) = quiet_gateway()?;
        let options = ["--max-flows", "16", "--ftp-ports", "none"];
        let mut firewall = setup(&options).start(network.gateway())?;
        for port in 0..CONVERSATIONS {
            Conversation::open(&wires, Family::V4, 50_000 + port)?;
        }
        let table = gauge(&firewall, "table-assured")?;
        ensure!(number(&table, "size")? == 16, "{table}");
        let (here, lost) = (number(&table, "value")?, number(&table, "lost")?);
        ensure!(here + lost >= u64::from(CONVERSATIONS) && here >= 16, "{table}");
        wait::until("the daemon to say so", wait::DEADLINE, || {
            let words = "confirmed IPv4 flows (16) is full: connections stay embryonic";
            said(&mut firewall, words).ok().filter(|times| *times == 1)
        })?;
        ensure!(said(&mut firewall, "most are from: 192.0.2.77 (16, 100 %)")? == 1);
        let text = firewall.text(&["stats"])?;
        ensure!(text.contains("top sources of table-assured (16 flows):\n  192.0.2.77 16 100 %"));
        ensure!(!text.contains("top sources of table-embryonic"), "{text}");
        ensure!(text.contains("of 16, full since "), "{text}");
        Ok(())
    }

    #[test]
    fn of_ipv6_leaves_ipv4_its_own() {
        needs!(capability::firewall());
        leaves_ipv4_its_own().unwrap();
    }

    fn leaves_ipv4_its_own() -> Result<()> {
        const CONVERSATIONS: u16 = 24;
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let options = ["--max-flows", "16", "--ftp-ports", "none"];
        let mut firewall = setup(&options).start(network.gateway())?;
        for port in 0..CONVERSATIONS {
            Conversation::open(&wires, Family::V6, 50_000 + port)?;
        }
        wait::until("the daemon to say so", wait::DEADLINE, || {
            let words = "confirmed IPv6 flows (16) is full: connections stay embryonic";
            said(&mut firewall, words).ok().filter(|times| *times == 1)
        })?;
        let full = gauge(&firewall, "table-assured6")?;
        ensure!(number(&full, "value")? == 16 && number(&full, "lost")? > 0, "{full}");
        for port in 0..8 {
            Conversation::open(&wires, Family::V4, 50_000 + port)?;
        }
        let free = gauge(&firewall, "table-assured")?;
        ensure!(number(&free, "value")? == 8 && number(&free, "lost")? == 0, "{free}");
        ensure!(number(&free, "times_full")? == 0, "{free}");
        let listed = firewall.json(&["conntrack", "list", "-p", "tcp"])?;
        ensure!(listed.len() == usize::from(CONVERSATIONS) + 8, "{} flows", listed.len());
        Ok(())
    }

    #[test]
    fn is_remembered_beyond_the_daemon() {
        needs!(capability::firewall());
        beyond_the_daemon().unwrap();
    }

    fn beyond_the_daemon() -> Result<()> {
        let (network, wires) = quiet_gateway()?;
        let options = ["--max-flows", "16", "--ftp-ports", "none"];
        let mut firewall = setup(&options).start(network.gateway())?;
        for port in 0..20 {
            Conversation::open(&wires, Family::V4, 50_000 + port)?;
        }
        wait::until_true("the table to be full", || {
            gauge(&firewall, "table-assured").is_ok_and(|gauge| gauge["times_full"] == 1)
        })?;
        let before = gauge(&firewall, "table-assured")?;
        firewall.restart()?;
        let after = gauge(&firewall, "table-assured")?;
        ensure!(after["full_since"].is_string(), "{after}, before {before}");
        // The next daemon does not take it for new.
        firewall.text(&["conntrack", "flush"])?;
        wait::until("room", CALM, || {
            said(&mut firewall, "confirmed IPv4 flows (16) has room again").ok().filter(|n| *n == 1)
        })?;
        ensure!(said(&mut firewall, "is full")? == 0, "told again");
        ensure!(gauge(&firewall, "table-assured")?["times_full"] == 1);
        Ok(())
    }
}

#[test]
fn who_has_most_flows_is_told_when_asked() {
    needs!(capability::firewall());
    when_asked().unwrap();
}

fn when_asked() -> Result<()> {
    let (network, wires) = quiet_gateway()?;
    let firewall = setup(&[]).start(network.gateway())?;
    let server = wires.server.endpoint(Family::V4, 53);
    for port in 0..3 {
        let client = wires.client.endpoint(Family::V4, 40_000 + port);
        wires.cross(firewall_tests::wire::End::Client, &Packet::udp(client, server, b"x"))?;
    }
    let unasked = firewall.json(&["stats"])?;
    ensure!(unasked.iter().all(|line| line["kind"] != "source"), "{unasked:?}");
    let asked = firewall.json(&["stats", "--top"])?;
    let sources: Vec<_> = asked.iter().filter(|line| line["kind"] == "source").collect();
    ensure!(sources.len() == 1 && sources[0]["name"] == "sources-embryonic", "{sources:?}");
    ensure!(sources[0]["source"] == "192.0.2.77" && sources[0]["value"] == 3, "{sources:?}");
    Ok(())
}
