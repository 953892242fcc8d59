//! A running instance is saved whole, and another start makes the same of it.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use firewall_tests::{Firewall, Gateway, Offload, capability, firewall::Setup, needs};
use serde_json::Value;

const RULES: &str = "\
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 2121 -j CT --helper ftp
COMMIT
*filter
:INPUT ACCEPT [7:70]
:FORWARD DROP [3:30]
:OUTPUT ACCEPT [0:0]
[5:50] -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

/// What an instance is, but for who runs it and since when.
fn seen(firewall: &Firewall<'_>) -> Result<(String, String, Vec<Value>, Vec<Value>)> {
    let mut status = firewall.json(&["status"])?;
    for field in ["pid", "since", "generation"] {
        status[0][field].take();
    }
    for table in status[0]["tables"].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        table["used"].take();
    }
    Ok((
        firewall.text(&["save", "-c"])?,
        // Neighbours find each other while it is counted.
        firewall.text(&["save", "--ipv6"])?,
        firewall.json(&["conntrack", "settings"])?,
        status,
    ))
}

fn save(firewall: &Firewall<'_>, directory: &Path) -> Result<()> {
    firewall.text(&["save", "--all", &directory.to_string_lossy()]).map(drop)
}

fn from(directory: &Path) -> Setup {
    Setup::default().option(&format!("--state={}", directory.display()))
}

#[test]
fn what_was_saved_is_what_begins_again() {
    needs!(capability::firewall());
    round().unwrap();
}

fn round() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let place = tempfile::tempdir()?;
    let directory = place.path().join("state");
    let mut firewall = Setup::on(&["eth0", "eth1"])
        .both(RULES)
        .option("--ftp-ports=21,2121")
        .option("--ftp-loose=192.0.2.0/24")
        .option("--max-flows=1000")
        .option("--helper-failure=closed")
        .option("--no-loose")
        .start(network.gateway())?;
    firewall.text(&["conntrack", "set", "udp_timeout", "45"])?;
    firewall.text(&["conntrack", "set", "tcp_timeout_established", "1d"])?;
    let counted = "iptables -A FORWARD -c 7 700 -s 192.0.2.9 -j DROP";
    firewall.text(&counted.split(' ').collect::<Vec<_>>())?;
    firewall.text(&["ip6tables", "-P", "FORWARD", "ACCEPT"])?;
    let before = seen(&firewall)?;
    ensure!(before.0.contains("[7:700] -A FORWARD"), "{}", before.0);
    // It is there whole also while nobody runs it.
    firewall.kill();
    save(&firewall, &directory)?;
    firewall.unload()?;

    firewall.change(from(&directory))?;
    firewall.restart()?;
    let after = seen(&firewall)?;
    ensure!(after == before, "saved {before:#?}\nread {after:#?}");
    let written = fs::read_to_string(directory.join("firewall.toml"))?;
    ensure!(written.contains("loose = [\"192.0.2.0/24\"]"), "{written}");
    ensure!(written.contains("failure = \"closed\""), "{written}");

    // What runs is newer than what was saved.
    firewall.text(&["iptables", "-D", "FORWARD", "2"])?;
    firewall.text(&["conntrack", "set", "udp_timeout", "50"])?;
    let before = seen(&firewall)?;
    firewall.restart()?;
    let after = seen(&firewall)?;
    ensure!(after == before, "ran {before:#?}\nruns {after:#?}");

    // Saved over what was saved, and read again.
    save(&firewall, &directory)?;
    firewall.unload()?;
    firewall.restart()?;
    let after = seen(&firewall)?;
    ensure!(after == before, "saved again {before:#?}\nread {after:#?}");
    Ok(())
}

#[test]
fn sets_are_saved_with_the_rules_that_name_them() {
    needs!(capability::firewall());
    with_sets().unwrap();
}

fn with_sets() -> Result<()> {
    const SETS: [&str; 5] = [
        "create block hash:net counters comment",
        "create hosts hash:ip timeout 0",
        "add block 192.0.2.0/24 packets 3 bytes 300 comment office",
        "add hosts 198.51.100.7 timeout 0",
        "add hosts 198.51.100.8 timeout 86400",
    ];
    let network = Gateway::new(Offload::Tuned)?;
    let place = tempfile::tempdir()?;
    let directory = place.path().join("state");
    let mut firewall = Setup::on(&["eth0"]).rules(RULES).start(network.gateway())?;
    for line in SETS {
        let words = ["ipset"].into_iter().chain(line.split(' '));
        firewall.text(&words.collect::<Vec<_>>())?;
    }
    let rule = "iptables -A FORWARD -m set --match-set block src -j DROP";
    firewall.text(&rule.split(' ').collect::<Vec<_>>())?;
    let before = (firewall.text(&["save", "-c"])?, sets_of(&firewall)?);
    ensure!(before.1.contains("add block 192.0.2.0/24 packets 3 bytes 300"), "{}", before.1);
    save(&firewall, &directory)?;
    firewall.unload()?;
    firewall.change(from(&directory))?;
    firewall.restart()?;
    let after = (firewall.text(&["save", "-c"])?, sets_of(&firewall)?);
    ensure!(after == before, "saved {before:#?}\nread {after:#?}");
    Ok(())
}

/// All sets, without the seconds that go by, in an order of their own: elements have none.
fn sets_of(firewall: &Firewall<'_>) -> Result<String> {
    let text = firewall.text(&["ipset", "save"])?;
    let mut lines = Vec::new();
    for line in text.lines() {
        match line.split_once(" timeout ") {
            Some((element, rest)) if line.starts_with("add ") && rest != "0" => {
                let left: u64 = rest.split(' ').next().unwrap_or_default().parse()?;
                ensure!((86_000..=86_400).contains(&left), "{line}");
                lines.push(element.to_owned());
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

#[test]
fn what_cannot_be_saved_or_read_is_told_and_nothing_changes() {
    needs!(capability::firewall());
    refused().unwrap();
}

fn refused() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let place = tempfile::tempdir()?;
    let mut firewall = Setup::on(&["eth0"]).rules(RULES).start(network.gateway())?;
    fs::write(place.path().join("somebody's"), "text")?;
    let others = firewall.cli(&["save", "--all", &place.path().to_string_lossy()])?;
    ensure!(others.code() == 1 && others.stderr.contains("holds somebody's"), "{others:?}");
    ensure!(fs::read_dir(place.path())?.count() == 1, "something was written");
    let both = firewall.cli(&["save", "--all", "x", "--ipv6"])?;
    ensure!(both.code() == 2, "{both:?}");

    firewall.unload()?;
    let directory = place.path().join("state");
    firewall.change(from(&directory))?;
    let missing = firewall.refusal()?;
    ensure!(missing.stderr.contains("no state is saved in"), "{missing:?}");
    ensure!(missing.stderr.contains("firewall save --all"), "{missing:?}");
    fs::create_dir(&directory)?;
    fs::write(
        directory.join("firewall.toml"),
        "[run]\ninterfaces = [\"eth0\"]\nrules = \"rules.v4\"\n",
    )?;
    fs::write(directory.join("rules.v4"), "-A INPUT -j ALLOW\n")?;
    let wrong = firewall.refusal()?;
    ensure!(wrong.stderr.contains("rules.v4:1:"), "{wrong:?}");
    Ok(())
}
