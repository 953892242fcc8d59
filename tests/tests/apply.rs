//! Rules change while packets pass: all at once, for good or on trial, whoever
//! asks for it and whatever becomes of them.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    command::{Background, finish, output},
    firewall::{Setup, binary},
    ledger::refused_since,
    needs,
    packet::Packet,
    wait,
    wire::{End, Wires},
};
use nix::sys::signal::Signal;

const CLOSED: &str = "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\nCOMMIT\n";
const OTHER: &str = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n";

fn start(network: &Gateway) -> Result<Firewall<'_>> {
    Setup::on(&["eth0", "eth1"]).both(CLOSED).start(network.gateway())
}

fn is_other(firewall: &Firewall<'_>) -> bool {
    firewall.text(&["save"]).is_ok_and(|text| text.contains(":FORWARD ACCEPT"))
}

mod from_another_namespace {
    use super::*;

    const BY_INTERFACE: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -i eth0 -o eth1 -p udp --dport 53 -j ACCEPT
COMMIT
";

    #[test]
    fn rules_name_the_interfaces_of_the_firewall() {
        needs!(capability::firewall());
        by_interface().unwrap();
    }

    fn by_interface() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let firewall = start(&network)?;
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), BY_INTERFACE)?;
        let commands = [
            ("the machine's", Command::new(binary()?)),
            ("the client's", network.client.command(binary()?)),
        ];
        for (whose, mut command) in commands {
            firewall.apply(CLOSED)?;
            let [client, server] =
                [&wires.client, &wires.server].map(|wire| wire.endpoint(Family::V4, 53));
            let question = Packet::udp(client, server, b"question");
            let refused = |from: End, packet: &Packet| -> Result<()> {
                let before = firewall.stat("policy")?;
                wires.at(from).send(packet)?;
                refused_since(&firewall, before, whose)?;
                wires.at(from.other()).has_not_seen(packet)
            };
            refused(End::Client, &question)?;
            output(command.arg("apply").arg(file.path()).arg("--pin").arg(firewall.pin()))?;
            wires.cross(End::Client, &question).with_context(|| format!("from {whose}"))?;
            // By the other interface the same is not admitted.
            refused(End::Server, &Packet::udp(server, client, b"question"))?;
        }
        Ok(())
    }
}

mod of_both_families_at_once {
    use super::*;

    #[test]
    fn neither_is_lost() {
        needs!(capability::firewall());
        both().unwrap();
    }

    fn both() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let files = [tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?];
        for round in 1..=8_u16 {
            let ports = [1_000 + round, 2_000 + round];
            let mut running = Vec::new();
            for ((file, port), options) in files.iter().zip(ports).zip([&[][..], &["--ipv6"]]) {
                let rule = format!("-A FORWARD -p tcp --dport {port} -j ACCEPT");
                std::fs::write(file.path(), CLOSED.replace("COMMIT", &format!("{rule}\nCOMMIT")))?;
                let path = file.path().to_string_lossy();
                let arguments = [&["apply", &*path], options].concat();
                running.push(Background::start(&mut firewall.command(&arguments)?)?);
            }
            for apply in &mut running {
                let status = apply.wait(wait::DEADLINE)?;
                ensure!(status.success(), "round {round}: {}", apply.stderr());
            }
            for (port, options) in ports.into_iter().zip([&["save"][..], &["save", "--ipv6"]]) {
                let saved = firewall.text(options)?;
                ensure!(saved.contains(&format!("--dport {port} ")), "round {round}: {saved}");
            }
        }
        Ok(())
    }
}

mod on_trial {
    use super::*;

    /// `apply --confirm SECONDS`, in the background, when it says that it waits.
    fn apply(firewall: &Firewall<'_>, seconds: &str, file: &Path) -> Result<Background> {
        std::fs::write(file, OTHER)?;
        let mut command =
            firewall.command(&["apply", &file.to_string_lossy(), "--confirm", seconds])?;
        let apply = Background::start(&mut command)?;
        wait::until_true("the new rules", || apply.stderr().contains("`firewall confirm`"))?;
        Ok(apply)
    }

    #[test]
    fn rules_that_are_confirmed_stay() {
        needs!(capability::firewall());
        confirmed().unwrap();
    }

    fn confirmed() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let file = tempfile::NamedTempFile::new()?;
        for round in 0..3 {
            // As soon as it says so.
            let mut applied = apply(&firewall, "600", file.path())?;
            firewall.text(&["confirm"])?;
            let status = applied.wait(wait::DEADLINE)?;
            ensure!(status.success(), "round {round}: {}", applied.stderr());
            ensure!(is_other(&firewall), "round {round}: confirmed, and the old rules are back");
            firewall.apply(CLOSED)?;
        }
        Ok(())
    }

    #[test]
    fn rules_that_nobody_confirms_go() {
        needs!(capability::firewall());
        not_confirmed().unwrap();
    }

    fn not_confirmed() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let file = tempfile::NamedTempFile::new()?;
        let mut applied = apply(&firewall, "1", file.path())?;
        let status = applied.wait(wait::DEADLINE)?;
        ensure!(status.code() == Some(1), "{status}: {}", applied.stderr());
        ensure!(applied.stderr().contains("the old rules are back"), "{}", applied.stderr());
        ensure!(!is_other(&firewall), "the new rules are still in force");
        let late = firewall.cli(&["confirm"])?;
        ensure!(late.code() == 1 && late.stderr.contains("nothing waits"), "{late:?}");
        Ok(())
    }

    #[test]
    fn rules_go_at_once_when_the_command_is_asked_to_end() {
        needs!(capability::firewall());
        interrupted().unwrap();
    }

    fn interrupted() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let file = tempfile::NamedTempFile::new()?;
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            // The deadline of the wait is shorter than the time to confirm.
            let mut applied = apply(&firewall, "60", file.path())?;
            ensure!(is_other(&firewall), "it waits, and the old rules are in force");
            applied.signal(signal)?;
            let status = applied.wait(wait::DEADLINE)?;
            let told = applied.stderr();
            ensure!(status.code() == Some(1), "{signal}: ended with {status}: {told}");
            ensure!(told.contains("interrupted: the old rules are back"), "{signal}: {told}");
            ensure!(!is_other(&firewall), "{signal}: the new rules are still in force");
            firewall.apply(OTHER).with_context(|| format!("after {signal}"))?;
            firewall.apply(CLOSED)?;
        }
        Ok(())
    }

    #[test]
    fn rules_go_also_when_nobody_is_alive_to_take_them_back() {
        needs!(capability::firewall());
        killed().unwrap();
    }

    /// The command and the daemon are killed; packets tell which rules count.
    fn killed() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let mut firewall = start(&network)?;
        let file = tempfile::NamedTempFile::new()?;
        let mut applied = apply(&firewall, "2", file.path())?;
        let (client, server) =
            (wires.client.endpoint(Family::V4, 4_000), wires.server.endpoint(Family::V4, 53));
        wires.cross(End::Client, &Packet::udp(client, server, b"admitted by the new rules"))?;
        applied.kill();
        firewall.kill();
        ensure!(is_other(&firewall), "the time is not over, and the old rules are back");
        wait::until_true("the old rules", || !is_other(&firewall))?;
        let before = firewall.stat("policy")?;
        let question = Packet::udp(client, server, b"refused by the old rules");
        wires.client.send(&question)?;
        refused_since(&firewall, before, "by the old rules")?;
        wires.server.has_not_seen(&question)?;
        let late = firewall.cli(&["confirm"])?;
        ensure!(late.code() == 1 && late.stderr.contains("too late"), "{late:?}");
        // The generation that failed stands in nobody's way.
        firewall.apply(OTHER)?;
        ensure!(is_other(&firewall), "applied after the trial, and not in force");
        firewall.apply(CLOSED)?;
        ensure!(!is_other(&firewall), "applied after the trial, and not in force");
        Ok(())
    }

    #[test]
    fn what_the_old_rules_need_is_kept_for_them() {
        needs!(capability::firewall());
        needed().unwrap();
    }

    fn needed() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let file = tempfile::NamedTempFile::new()?;
        firewall.text(&["set", "create", "block", "hash:ip"])?;
        let asks = "-A FORWARD -m set --match-set block src -j DROP\n\
                    -A FORWARD -m recent --rcheck --name seen -j DROP\n";
        firewall.apply(&CLOSED.replace("COMMIT", &format!("{asks}COMMIT")))?;
        firewall.text(&["recent", "seen", "+192.0.2.9"])?;
        let mut applied = apply(&firewall, "600", file.path())?;
        let refused = firewall.cli(&["set", "destroy", "block"])?;
        ensure!(refused.code() == 1 && refused.stderr.contains("in use"), "{refused:?}");
        applied.signal(Signal::SIGTERM)?;
        applied.wait(wait::DEADLINE)?;
        let seen = firewall.text(&["recent", "seen"])?;
        ensure!(seen.contains("192.0.2.9"), "{seen}");
        Ok(())
    }

    #[test]
    fn a_daemon_that_starts_during_a_trial_leaves_it_alone() {
        needs!(capability::firewall());
        restarted().unwrap();
    }

    fn restarted() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let mut firewall = start(&network)?;
        let file = tempfile::NamedTempFile::new()?;
        let mut applied = apply(&firewall, "600", file.path())?;
        firewall.restart()?;
        ensure!(is_other(&firewall), "the start took the rules back");
        ensure!(firewall.said().contains("wait to be confirmed"), "{}", firewall.said());
        firewall.text(&["confirm"])?;
        ensure!(applied.wait(wait::DEADLINE)?.success(), "{}", applied.stderr());
        ensure!(is_other(&firewall), "confirmed, and the old rules are back");
        Ok(())
    }

    #[test]
    fn rules_that_are_in_force_already_need_no_confirmation() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let firewall = start(&network).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rules.v4");
        std::fs::write(&file, CLOSED).unwrap();
        let applied =
            firewall.cli(&["apply", &file.to_string_lossy(), "--confirm", "600"]).unwrap();
        assert_eq!(applied.code(), 0, "{applied:?}");
        assert!(applied.stderr.contains("nothing to confirm"), "{applied:?}");
        firewall.apply(OTHER).unwrap();
    }

    #[test]
    fn rules_keep_others_out_until_they_are_confirmed() {
        needs!(capability::firewall());
        others().unwrap();
    }

    fn others() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let file = tempfile::NamedTempFile::new()?;
        let mut applied = apply(&firewall, "600", file.path())?;
        let refused = firewall.with_rules("apply", CLOSED)?;
        ensure!(refused.code() == 1 && refused.stderr.contains("still waits"), "{refused:?}");
        ensure!(is_other(&firewall), "refused, and applied");
        firewall.text(&["confirm"])?;
        ensure!(applied.wait(wait::DEADLINE)?.success(), "{}", applied.stderr());
        firewall.apply(CLOSED)
    }
}

mod looked_at_before {
    use super::*;

    #[test]
    fn the_difference_is_told_and_nothing_changes() {
        needs!(capability::firewall());
        difference().unwrap();
    }

    fn difference() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("rules.v4");
        let path = file.to_string_lossy();
        std::fs::write(&file, "*filter\n:FORWARD DROP\n-A FORWARD -p icmp -j ACCEPT\nCOMMIT\n")?;
        let told = firewall.text(&["apply", "--dry-run", &path])?;
        ensure!(told == "IPv4 filter FORWARD: + rule 1: -A FORWARD -p icmp -j ACCEPT\n", "{told}");
        let json = firewall.json(&["apply", "--dry-run", &path])?;
        ensure!(json[0]["change"] == "added" && json[0]["number"] == 1, "{json:?}");
        ensure!(!firewall.text(&["save"])?.contains("icmp"), "the rules have changed");
        std::fs::write(&file, CLOSED)?;
        let told = firewall.text(&["apply", "--dry-run", &path])?;
        ensure!(told == "nothing changes\n", "{told}");
        Ok(())
    }
}

mod over_the_network {
    use super::*;

    const LOCKS_OUT: &str = "*filter\n:INPUT DROP\n-A INPUT -p tcp --dport 80 -j ACCEPT\nCOMMIT\n";
    const LETS_IN: &str = "*filter\n:INPUT DROP\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n";

    #[test]
    fn rules_that_cut_the_session_of_the_caller_are_refused() {
        needs!(capability::firewall());
        session().unwrap();
    }

    fn session() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let ssh = format!("{} 50000 192.0.2.1 22", network.client_address(Family::V4));
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("rules.v4");
        let path = file.to_string_lossy();
        let apply = |rules: &str, options: &[&str]| {
            std::fs::write(&file, rules)?;
            let mut command = firewall.command(&[&["apply", &*path], options].concat())?;
            finish(command.env("SSH_CONNECTION", &ssh), wait::DEADLINE)
        };
        let refused = apply(LOCKS_OUT, &[])?;
        ensure!(
            refused.code() == 1 && refused.stderr.contains("your connection is cut off"),
            "{refused:?}"
        );
        ensure!(refused.stderr.contains("--force"), "{refused:?}");
        ensure!(firewall.text(&["save"])?.contains(":INPUT ACCEPT"), "refused, and applied");
        let told = apply(LOCKS_OUT, &["--dry-run"])?;
        ensure!(told.code() == 0 && told.stdout.contains("your connection is cut off"), "{told:?}");
        let allowed = apply(LETS_IN, &[])?;
        ensure!(allowed.code() == 0 && allowed.stderr.is_empty(), "{allowed:?}");
        let forced = apply(LOCKS_OUT, &["--force"])?;
        ensure!(forced.code() == 0, "{forced:?}");
        ensure!(firewall.text(&["save"])?.contains("--dport 80"), "forced, and not applied");
        // An interface that nobody judges cuts nobody off.
        let elsewhere = "192.0.2.7 50000 192.0.2.8 22";
        std::fs::write(&file, LOCKS_OUT.replace("80", "81"))?;
        let mut command = firewall.command(&["apply", &path])?;
        let applied = finish(command.env("SSH_CONNECTION", elsewhere), wait::DEADLINE)?;
        ensure!(applied.code() == 0, "{applied:?}");
        Ok(())
    }
}

#[test]
fn rulesets_of_any_length_replace_each_other_whole() {
    needs!(capability::firewall());
    of_any_length().unwrap();
}

/// Their texts are kept in pieces, of which those stay that are the same.
fn of_any_length() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network)?;
    for (count, other) in [(600, 0), (3, 0), (600, 300), (601, 300), (90, 0), (0, 0), (600, 599)] {
        let rules: String = (0..count)
            .map(|i| {
                let target = if i == other { "ACCEPT" } else { "DROP" };
                format!("-A FORWARD -s 10.0.{}.{}/32 -j {target}\n", i / 250, i % 250)
            })
            .collect();
        firewall.apply(&CLOSED.replace("COMMIT", &format!("{rules}COMMIT")))?;
        let saved = firewall.text(&["save"])?;
        let kept = saved.lines().filter(|line| line.starts_with("-A"));
        ensure!(kept.eq(rules.lines()), "of {count} rules: {saved}");
    }
    Ok(())
}

#[test]
fn a_file_without_table_filter_takes_nothing_away() {
    needs!(capability::firewall());
    let run = || -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let before = firewall.text(&["save"])?;
        for cut_short in ["", "# rules of the gateway\n", "*nat\nCOMMIT\n"] {
            let refused = firewall.with_rules("apply", cut_short)?;
            ensure!(refused.code() == 1, "{cut_short:?}: {refused:?}");
            ensure!(refused.stderr.contains("no table filter"), "{refused:?}");
            ensure!(firewall.text(&["save"])? == before, "{cut_short:?}: refused, and applied");
        }
        Ok(())
    };
    run().unwrap();
}
