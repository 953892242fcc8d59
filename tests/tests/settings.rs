//! What is set holds: at the next packet, whether or not a daemon looks; over
//! takeovers, as an administrator expects; and beside others who change settings.

use std::{fs, path::PathBuf, thread};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, capability,
    command::Background,
    firewall::Setup,
    needs,
    packet::Packet,
    wait,
    wire::{End, quiet_gateway},
};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p udp -m state --state NEW -j ACCEPT
-A FORWARD -p udp -m state --state ESTABLISHED -j ACCEPT
COMMIT
";

fn setup() -> Setup {
    Setup::on(&["eth0", "eth1"]).rules(RULES)
}

/// A setting as `conntrack settings` lists it.
fn setting(firewall: &Firewall<'_>, name: &str) -> Result<Value> {
    let settings = firewall.json(&["conntrack", "settings"])?;
    let found = settings.into_iter().find(|line| line["name"] == name);
    Ok(found.with_context(|| format!("no setting {name}"))?["value"].clone())
}

fn set(firewall: &Firewall<'_>, name: &str, value: &str) -> Result<()> {
    firewall.text(&["conntrack", "set", name, value]).map(drop)
}

/// A configuration file.
struct Configuration {
    directory: TempDir,
}

impl Configuration {
    fn new(text: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("fw-config-").tempdir()?;
        fs::write(directory.path().join("firewall.toml"), text)?;
        fs::write(directory.path().join("rules.v4"), RULES)?;
        Ok(Self { directory })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("firewall.toml")
    }

    fn setup(&self) -> Setup {
        Setup::default().option("--config").option(&self.path().to_string_lossy())
    }
}

mod a_short_timeout {
    use super::*;

    #[test]
    fn makes_an_idle_flow_new_again_while_the_daemon_is_stopped() {
        needs!(capability::firewall());
        while_the_daemon_is(|firewall| firewall.halt()).unwrap();
    }

    #[test]
    fn makes_an_idle_flow_new_again_while_the_daemon_is_dead() {
        needs!(capability::firewall());
        while_the_daemon_is(|firewall| {
            firewall.kill();
            Ok(())
        })
        .unwrap();
    }

    fn while_the_daemon_is(away: impl FnOnce(&mut Firewall<'_>) -> Result<()>) -> Result<()> {
        let (network, wires) = quiet_gateway()?;
        let mut firewall = setup().start(network.gateway())?;
        let [client, server] =
            [&wires.client, &wires.server].map(|wire| wire.endpoint(Family::V4, 53));
        let question = Packet::udp(client, server, b"question");
        let answer = Packet::udp(server, client, b"answer");
        away(&mut firewall)?;
        wires.cross(End::Client, &question)?;
        wires.cross(End::Server, &answer)?;
        wires.cross(End::Client, &question)?;
        ensure!(firewall.stat("flows-created")? == 1, "not one flow");

        set(&firewall, "net.netfilter.nf_conntrack_udp_timeout", "1")?;
        wires.cross(End::Client, &question)?;
        ensure!(firewall.stat("flows-created")? == 1, "the packet began another flow");
        wait::until_true("the flow to expire", || {
            firewall.text(&["conntrack", "count"]).is_ok_and(|count| count.trim() == "0")
        })?;
        ensure!(firewall.stat("table-embryonic")? == 1, "somebody swept");
        wires.cross(End::Client, &question)?;
        ensure!(firewall.stat("flows-created")? == 2, "the idle flow went on");
        let saved = firewall.text(&["save", "-c"])?;
        ensure!(saved.contains("[2:72] -A FORWARD -p udp -m state --state NEW"), "{saved}");
        Ok(())
    }

    #[test]
    fn gives_memory_back_soon() {
        needs!(capability::firewall());
        gives_memory_back().unwrap();
    }

    fn gives_memory_back() -> Result<()> {
        const FLOWS: u16 = 500;
        let (network, wires) = quiet_gateway()?;
        let firewall = setup().start(network.gateway())?;
        set(&firewall, "udp_timeout", "1")?;
        firewall.halt()?;
        for port in 0..FLOWS {
            let client = wires.client.endpoint(Family::V4, 20_000 + port);
            wires.client.send(&Packet::udp(client, wires.server.endpoint(Family::V4, 53), b"x"))?;
        }
        wait::until_true("every flow to begin", || {
            firewall.stat("flows-created").is_ok_and(|flows| flows == u64::from(FLOWS))
        })?;
        wait::until_true("every flow to expire", || {
            firewall.text(&["conntrack", "count"]).is_ok_and(|count| count.trim() == "0")
        })?;
        let kept = firewall.stat("table-embryonic")?;
        ensure!(kept == u64::from(FLOWS), "{kept} entries before any sweep");
        firewall.signal(Signal::SIGCONT)?;
        wait::until_true("the sweep", || {
            firewall.stat("table-embryonic").is_ok_and(|entries| entries == 0)
        })
    }
}

mod what_was_set {
    use super::*;

    #[test]
    fn is_listed_and_marked() {
        needs!(capability::firewall());
        listed().unwrap();
    }

    fn listed() -> Result<()> {
        let (network, _wires) = quiet_gateway()?;
        let firewall = setup().start(network.gateway())?;
        set(&firewall, "nf_conntrack_tcp_timeout_established", "1h 30m")?;
        set(&firewall, "tcp_be_liberal", "1")?;
        ensure!(setting(&firewall, "tcp_timeout_established")? == 5_400);
        ensure!(setting(&firewall, "tcp_be_liberal")? == true);
        let text = firewall.text(&["conntrack", "settings"])?;
        let marked: Vec<_> = text.lines().filter(|line| line.starts_with('*')).collect();
        ensure!(marked.len() == 2 && marked[0].ends_with("1h 30m  5d"), "{text}");
        Ok(())
    }

    #[test]
    fn stays_over_a_takeover_unless_the_configuration_names_it() {
        needs!(capability::firewall());
        over_a_takeover().unwrap();
    }

    fn over_a_takeover() -> Result<()> {
        let (network, _wires) = quiet_gateway()?;
        let run = "[run]\ninterfaces = [\"eth0\", \"eth1\"]\nrules = \"rules.v4\"\n";
        let silent = Configuration::new(run)?;
        let named = Configuration::new(&format!("{run}[conntrack]\nicmp_timeout = \"7s\"\n"))?;
        let mut firewall = silent.setup().start(network.gateway())?;
        set(&firewall, "udp_timeout", "5")?;
        set(&firewall, "icmp_timeout", "6")?;

        firewall.restart()?;
        ensure!(setting(&firewall, "udp_timeout")? == 5, "a restart forgot udp_timeout");
        ensure!(setting(&firewall, "icmp_timeout")? == 6, "a restart forgot icmp_timeout");

        firewall.change(named.setup())?;
        firewall.restart()?;
        ensure!(setting(&firewall, "udp_timeout")? == 5, "another file forgot udp_timeout");
        ensure!(setting(&firewall, "icmp_timeout")? == 7, "the file does not count");

        // What the file no longer names has its default: nobody set it by hand.
        firewall.change(silent.setup())?;
        firewall.restart()?;
        ensure!(setting(&firewall, "icmp_timeout")? == 30, "the file is not forgotten");
        ensure!(setting(&firewall, "udp_timeout")? == 5, "udp_timeout is forgotten");

        firewall.unload()?;
        firewall.restart()?;
        ensure!(setting(&firewall, "udp_timeout")? == 30, "unloaded, it still stands");
        Ok(())
    }

    #[test]
    fn is_not_undone_by_others_who_set_at_the_same_time() {
        needs!(capability::firewall());
        at_the_same_time().unwrap();
    }

    /// Four change settings of the same word, while somebody begins and ceases to
    /// watch, which stands in that word too.
    fn at_the_same_time() -> Result<()> {
        let (network, _wires) = quiet_gateway()?;
        let firewall = setup().start(network.gateway())?;
        let names = ["tcp_loose", "tcp_be_liberal", "checksum", "tcp_ignore_invalid_rst"];
        let flip = |name: &str| -> Result<()> {
            for round in 0..12 {
                let wanted = round % 2 == 1;
                set(&firewall, name, if wanted { "true" } else { "false" })?;
                let found = setting(&firewall, name)?;
                ensure!(found == wanted, "{name} was undone: {found}, not {wanted}");
            }
            Ok(())
        };
        let watch = || -> Result<()> {
            for _ in 0..12 {
                let mut command = firewall.command(&["monitor"])?;
                let monitor = Background::start(&mut command)?;
                wait::until_true("the monitor", || monitor.stderr().contains("watching"))?;
            }
            Ok(())
        };
        let flip = &flip;
        thread::scope(|scope| {
            let mut all: Vec<_> =
                names.iter().map(|name| scope.spawn(move || flip(name))).collect();
            all.push(scope.spawn(watch));
            all.into_iter().try_for_each(|one| one.join().expect("no test panics"))
        })
    }
}

mod a_configuration {
    use super::*;

    #[test]
    fn is_all_that_a_start_needs() {
        needs!(capability::firewall());
        all_that_a_start_needs().unwrap();
    }

    fn all_that_a_start_needs() -> Result<()> {
        let (network, wires) = quiet_gateway()?;
        let configuration = Configuration::new(
            "[run]\ninterfaces = [\"eth0\", \"eth1\"]\nrules = \"rules.v4\"\nhook = \"tc\"\n\
             [tables]\nmax_flows = 1024\nmax_embryonic = 512\nmax_expectations = 64\n\
             max_fragments = 32\n[conntrack]\nudp_timeout = \"45s\"\nnf_conntrack_tcp_loose = 0\n\
             [helper.ftp]\nports = [2121]\n",
        )?;
        let firewall = configuration.setup().start(network.gateway())?;
        let [client, server] =
            [&wires.client, &wires.server].map(|wire| wire.endpoint(Family::V4, 53));
        wires.cross(End::Client, &Packet::udp(client, server, b"question"))?;
        let status = firewall.json(&["status"])?.pop().context("no status")?;
        ensure!(status["ftp_ports"] == serde_json::json!([2121]), "{status}");
        ensure!(status["interfaces"][0]["hooks"][0] == "tc-ingress", "{status}");
        let stats = firewall.json(&["stats"])?;
        for (table, size) in [
            ("assured", 1_024),
            ("embryonic", 512),
            ("expectations", 64),
            ("masters", 64),
            ("fragments", 32),
        ] {
            let gauge = stats.iter().find(|line| line["name"] == format!("table-{table}"));
            let gauge = gauge.with_context(|| format!("no {table}"))?;
            ensure!(gauge["size"] == size, "{gauge}");
        }
        ensure!(setting(&firewall, "udp_timeout")? == 45);
        ensure!(setting(&firewall, "tcp_loose")? == false);
        Ok(())
    }

    #[test]
    fn with_another_size_of_a_table_in_use_says_how_to_change_it() {
        needs!(capability::firewall());
        another_size().unwrap();
    }

    fn another_size() -> Result<()> {
        let (network, _wires) = quiet_gateway()?;
        let mut firewall = setup().start(network.gateway())?;
        firewall.change(setup().option("--max-flows").option("1000"))?;
        firewall.restart()?;
        let said = firewall.daemon().context("the daemon")?.stderr();
        for word in ["max_flows stays 262144, not 1000", "firewall unload"] {
            ensure!(said.contains(word), "nothing about `{word}`: {said}");
        }
        firewall.unload()?;
        firewall.restart()?;
        let said = firewall.daemon().context("the daemon")?.stderr();
        ensure!(!said.contains("max_flows"), "{said}");
        Ok(())
    }
}
