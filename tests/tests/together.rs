//! `firewall apply` with the rules of both families and their sets: all of it comes, on trial
//! or for good, or nothing does.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    command::{Background, Finished, finish},
    firewall::Setup,
    ledger::refused_since,
    needs,
    packet::Packet,
    wait,
    wire::{End, Wires},
};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

const CLOSED: &str = "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\nCOMMIT\n";
const OLD_SETS: &str = "create kept hash:ip counters\nadd kept 192.0.2.9\ncreate guests hash:net\n\
                        add guests 203.0.113.0/24\ncreate old hash:ip\nadd old 192.0.2.7\n";

const V4: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m set --match-set guests src -j ACCEPT
COMMIT
";
const V6: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m set --match-set guests6 src -j ACCEPT
COMMIT
";
const SETS: &str = "\
create guests hash:net
add guests 192.0.2.0/24
create guests6 hash:net family inet6
add guests6 2001:db8:1::/64
create kept hash:ip counters
add kept 192.0.2.9
destroy old
";

struct Bench<'a> {
    firewall: Firewall<'a>,
    wires: Wires,
    files: TempDir,
    port: u16,
}

impl<'a> Bench<'a> {
    fn new(network: &'a Gateway) -> Result<Self> {
        let wires = Wires::across(network)?;
        let files = tempfile::Builder::new().prefix("fw-together-").tempdir()?;
        let old = files.path().join("old");
        fs::write(&old, OLD_SETS)?;
        let firewall = Setup::on(&["eth0", "eth1"])
            .both(CLOSED)
            .option(&format!("--sets={}", old.display()))
            .start(network.gateway())?;
        let bench = Self { firewall, wires, files, port: 2_000 };
        bench.write(V4, V6, SETS)?;
        Ok(bench)
    }

    fn write(&self, v4: &str, v6: &str, sets: &str) -> Result<()> {
        for (name, text) in [("rules.v4", v4), ("rules.v6", v6), ("sets", sets)] {
            fs::write(self.files.path().join(name), text)?;
        }
        Ok(())
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let file = |name: &str| self.files.path().join(name).display().to_string();
        let mut arguments = vec!["apply".to_owned()];
        for (option, name) in
            [("--rules", "rules.v4"), ("--rules6", "rules.v6"), ("--sets", "sets")]
        {
            arguments.extend([option.to_owned(), file(name)]);
        }
        arguments.extend(more.iter().map(ToString::to_string));
        arguments
    }

    fn apply(&self, more: &[&str]) -> Result<Finished> {
        let arguments = self.arguments(more);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        finish(&mut self.firewall.command(&arguments)?, DEADLINE)
    }

    /// Everything that `firewall apply` may change, as text.
    fn world(&self) -> Result<[String; 3]> {
        Ok([
            self.firewall.text(&["save"])?,
            self.firewall.text(&["save", "--ipv6"])?,
            self.firewall.text(&["set", "save"])?,
        ])
    }

    fn question(&mut self, family: Family) -> Packet {
        self.port += 1;
        let [client, server] = [(&self.wires.client, self.port), (&self.wires.server, 53)]
            .map(|(wire, port)| wire.endpoint(family, port));
        Packet::udp(client, server, b"question")
    }

    /// Whether new flows of both families pass, or none of either.
    fn passes(&mut self, does: bool) -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let question = self.question(family);
            if does {
                self.wires.cross(End::Client, &question)?;
                continue;
            }
            let before = self.firewall.stat("policy")?;
            self.wires.client.send(&question)?;
            refused_since(&self.firewall, before, "closed")?;
            self.wires.server.has_not_seen(&question)?;
        }
        Ok(())
    }
}

fn network() -> Result<Gateway> {
    Gateway::new(Offload::Tuned)
}

#[test]
fn rules_of_both_families_and_sets_come_in_one_step() {
    needs!(capability::firewall());
    come().unwrap();
}

fn come() -> Result<()> {
    let network = network()?;
    let mut bench = Bench::new(&network)?;
    bench.passes(false)?;
    let said = bench.apply(&[])?;
    ensure!(said.code() == 0, "{}", said.stderr);
    bench.passes(true)?;
    let [.., sets] = bench.world()?;
    for (line, is_there) in
        [("add guests 192.0.2.0/24", true), ("203.0.113.0", false), ("create old", false)]
    {
        ensure!(sets.contains(line) == is_there, "{line}: {sets}");
    }
    // The same once more changes nothing.
    let said = bench.apply(&["--dry-run"])?;
    ensure!(said.stdout == "nothing changes\n", "{}", said.stdout);
    // Sets go on to be changed by hand.
    bench.firewall.text(&["set", "del", "guests", "192.0.2.0/24"])?;
    let question = bench.question(Family::V4);
    let before = bench.firewall.stat("policy")?;
    bench.wires.client.send(&question)?;
    refused_since(&bench.firewall, before, "no guest any more")
}

#[test]
fn a_dry_run_tells_the_difference_in_all_three() {
    needs!(capability::firewall());
    dry_run().unwrap();
}

fn dry_run() -> Result<()> {
    let network = network()?;
    let bench = Bench::new(&network)?;
    let before = bench.world()?;
    let said = bench.apply(&["--dry-run"])?;
    for line in [
        "IPv4 filter FORWARD: + rule 1: -A FORWARD -m set --match-set guests src -j ACCEPT",
        "IPv6 filter FORWARD: + rule 1: -A FORWARD -m set --match-set guests6 src -j ACCEPT",
        "set guests: - 203.0.113.0/24",
        "set guests: + 192.0.2.0/24",
        "set guests6: it is new, hash:net with 1 element",
        "set old: it goes, with 1 element",
    ] {
        ensure!(said.stdout.lines().any(|it| it == line), "{line}: {}", said.stdout);
    }
    ensure!(!said.stdout.contains("kept"), "{}", said.stdout);
    ensure!(said.code() == 0 && bench.world()? == before, "something has changed");
    Ok(())
}

#[test]
fn a_mistake_in_any_file_changes_nothing() {
    needs!(capability::firewall());
    mistakes().unwrap();
}

fn mistakes() -> Result<()> {
    let network = network()?;
    let mut bench = Bench::new(&network)?;
    let before = bench.world()?;
    let wrong_rule = V4.replace("--match-set guests", "--match-sets guests");
    let unknown_set = V6.replace("guests6", "guests7");
    let wrong_type = SETS.replace("2001:db8:1::/64", "nowhere/64");
    let not_created = SETS.replace("create guests hash:net\n", "");
    let swapped = format!("{SETS}swap guests kept\n");
    let cases = [
        ([&wrong_rule, V6, SETS], "rules.v4:5:"),
        ([V4, &unknown_set, SETS], "there is no set 'guests7'"),
        ([V4, V6, &wrong_type], "sets:4:"),
        ([V4, V6, &not_created], "without creating it"),
        ([V4, V6, &swapped], "create, fill and destroy"),
        // What the rules name cannot go.
        ([V4, V6, "create guests6 hash:net family inet6\ndestroy guests\n"], "no set 'guests'"),
    ];
    for ([v4, v6, sets], words) in cases {
        bench.write(v4, v6, sets)?;
        for more in [&[][..], &["--dry-run"], &["--confirm", "5"]] {
            let said = bench.apply(more)?;
            ensure!(said.code() == 1 && said.stderr.contains(words), "{words}: {}", said.stderr);
            ensure!(bench.world()? == before, "{words}: something has changed");
        }
    }
    bench.passes(false)
}

mod on_trial {
    use super::*;

    fn begin(bench: &Bench<'_>, seconds: &str) -> Result<Background> {
        let arguments = bench.arguments(&["--confirm", seconds]);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let trial = Background::start(&mut bench.firewall.command(&arguments)?)?;
        wait::until_true("the trial to begin", || {
            bench.firewall.text(&["save"]).is_ok_and(|text| text.contains("guests"))
        })?;
        Ok(trial)
    }

    #[test]
    fn what_is_not_confirmed_goes_back_as_a_whole_though_the_daemon_is_dead() {
        needs!(capability::firewall());
        goes_back().unwrap();
    }

    fn goes_back() -> Result<()> {
        let network = network()?;
        let mut bench = Bench::new(&network)?;
        let before = bench.world()?;
        let trial = begin(&bench, "4")?;
        bench.passes(true)?;
        // What cannot be taken back is refused meanwhile.
        let said = bench.firewall.cli(&["set", "add", "guests", "198.51.100.0/24"])?;
        ensure!(said.code() != 0 && said.stderr.contains("firewall confirm"), "{}", said.stderr);
        // Both the command and the daemon are gone.
        bench.firewall.kill();
        drop(trial);
        wait::until_true("the old rules to be back", || {
            bench.world().is_ok_and(|world| world == before)
        })?;
        bench.passes(false)?;
        // Nothing stands in the way of what comes next.
        bench.firewall.text(&["set", "add", "guests", "198.51.100.0/24"])?;
        let said = bench.apply(&[])?;
        ensure!(said.code() == 0, "{}", said.stderr);
        bench.passes(true)
    }

    #[test]
    fn what_is_confirmed_stays_as_a_whole() {
        needs!(capability::firewall());
        stays().unwrap();
    }

    fn stays() -> Result<()> {
        let network = network()?;
        let mut bench = Bench::new(&network)?;
        let mut trial = begin(&bench, "60")?;
        bench.firewall.text(&["confirm"])?;
        let status = trial.wait(DEADLINE)?;
        ensure!(status.success(), "{}", trial.stderr());
        bench.passes(true)?;
        bench.firewall.text(&["set", "add", "guests", "198.51.100.0/24"])?;
        let [.., sets] = bench.world()?;
        ensure!(!sets.contains("create old"), "{sets}");
        bench.firewall.text(&["set", "create", "old", "hash:ip"]).context("the name is free")?;
        Ok(())
    }
}
