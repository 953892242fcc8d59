//! What cannot be done is refused with a message that says what was wanted,
//! where and what to do; and nothing has changed.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Firewall, Gateway, Netns, Offload, capability, command,
    command::Finished,
    firewall::{self, Setup},
    foreign::{Place, Program, programs},
    needs,
    wire::{End, Wires},
};

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -i eth0 -p udp -m udp --dport 53 -j ACCEPT
COMMIT
";

/// How long a command may take to refuse.
const DEADLINE: Duration = Duration::from_secs(20);

/// One message on stderr, with these words in it, and exit status 1.
fn says(finished: &Finished, words: &[&str]) -> Result<()> {
    let Finished { stdout, stderr, .. } = finished;
    ensure!(finished.code() == 1, "exit status {}: {stdout}{stderr}", finished.code());
    for word in words {
        ensure!(stderr.contains(word), "nothing about `{word}` in: {stderr}");
    }
    ensure!(!stderr.contains("panicked"), "{stderr}");
    Ok(())
}

mod run {
    use super::*;

    /// A start that is refused leaves no program and no pin.
    fn refused(network: &Gateway, setup: Setup, words: &[&str]) -> Result<()> {
        let gateway = network.gateway();
        let before = programs_on(gateway)?;
        let firewall = setup.prepare(gateway)?;
        says(&firewall.refusal()?, words)?;
        ensure!(programs_on(gateway)? == before, "programs came or went");
        ensure!(!firewall.pin().exists(), "it left {}", firewall.pin().display());
        everything_passes(network)
    }

    fn programs_on(gateway: &Netns) -> Result<[usize; 2]> {
        Ok([programs(gateway, "eth0")?, programs(gateway, "eth1")?])
    }

    fn everything_passes(network: &Gateway) -> Result<()> {
        use firewall_tests::{Family, packet::Packet};
        let wires = Wires::across(network)?;
        let server = wires.server.endpoint(Family::V4, 40_000);
        let packet = Packet::udp(server, wires.client.endpoint(Family::V4, 40_000), b"free");
        wires.cross(End::Server, &packet).map(drop)
    }

    #[test]
    fn on_an_unknown_interface_names_it_and_those_that_are_there() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let setup = Setup::on(&["eth0", "eht1"]).rules(RULES);
        refused(&network, setup, &["eht1", "eth0", "did you mean eth1?"]).unwrap();
    }

    #[test]
    fn on_an_interface_with_a_foreign_xdp_program_says_whose_place_it_is() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let _foreign = Program::attach(network.gateway(), "eth1", Place::Xdp).unwrap();
        let setup = Setup::on(&["eth0", "eth1"]).rules(RULES);
        let words = ["eth1", "XDP program that is not ours", "--hook tc"];
        let gateway = network.gateway();
        let firewall = setup.prepare(gateway).unwrap();
        says(&firewall.refusal().unwrap(), &words).unwrap();
        assert_eq!(programs_on(gateway).unwrap(), [0, 1]);
        assert!(!firewall.pin().exists());
    }

    #[test]
    fn beside_a_foreign_xdp_program_works_at_tc() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let _foreign = Program::attach(network.gateway(), "eth1", Place::Xdp).unwrap();
        let setup = Setup::on(&["eth0", "eth1"]).rules(RULES).option("--hook").option("tc");
        setup.start(network.gateway()).unwrap();
    }

    #[test]
    fn with_a_mistake_in_the_rules_changes_nothing() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let rules = RULES.replace("--dport 53", "--dport fifty");
        refused(&network, Setup::on(&["eth0", "eth1"]).rules(&rules), &["rules.v4:5:", "fifty"])
            .unwrap();
    }

    #[test]
    fn without_its_rules_file_names_the_file() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let setup = Setup::on(&["eth0"]).option("--rules").option("/no/such/file.v4");
        refused(&network, setup, &["/no/such/file.v4", "No such file"]).unwrap();
    }

    #[test]
    fn with_mistakes_in_its_configuration_tells_each_with_its_place() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("firewall.toml");
        let text = "[run]\ninterfaces = [\"eth0\"]\nhok = \"tc\"\n[conntrack]\n\
                    tcp_timeout_established = \"400d\"\n[tables]\nmax_flows = 3\n";
        fs::write(&path, text).unwrap();
        let setup = Setup::default().option("--config").option(&path.to_string_lossy());
        let words = [
            "firewall.toml:3:1: unknown key 'run.hok'; did you mean hook?",
            "firewall.toml:5:27: conntrack.tcp_timeout_established cannot be '400d'",
            "from 1 to 31536000 seconds",
            "firewall.toml:7:13: tables.max_flows cannot be '3'",
            "from 16 to 67108864",
        ];
        refused(&network, setup, &words).unwrap();
    }

    #[test]
    fn without_its_configuration_names_the_file() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let setup = Setup::default().option("--config").option("/no/such/firewall.toml");
        refused(&network, setup, &["/no/such/firewall.toml", "No such file"]).unwrap();
    }

    #[test]
    fn without_an_interface_in_its_configuration_says_where_to_name_one() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_string_lossy().into_owned();
        let setup = Setup::default().option("--config").option(&path);
        refused(&network, setup, &[&path, "no interface", "[run]", "-i"]).unwrap();
    }

    #[test]
    fn by_an_ordinary_user_says_what_it_needs() {
        needs!(capability::firewall(), capability::program("setpriv"));
        let network = Gateway::new(Offload::Tuned).unwrap();
        let (_directory, binary) = copy_for_everybody().unwrap();
        let mut command = network.gateway().command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args([&binary, "run", "-i", "eth0", "--pin", "/sys/fs/bpf/fw-nobody"]);
        let finished = command::finish(&mut command, DEADLINE).unwrap();
        says(&finished, &["root", "sudo", "CAP_NET_ADMIN"]).unwrap();
        assert_eq!(programs_on(network.gateway()).unwrap(), [0, 0]);
    }

    #[test]
    fn without_a_bpffs_says_how_to_mount_one() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let pin = directory.path().join("pins");
        let mut command = network.gateway().command(firewall::binary().unwrap());
        command.args(["run", "-i", "eth0", "--pin"]).arg(&pin);
        let finished = command::finish(&mut command, DEADLINE).unwrap();
        says(&finished, &[&pin.to_string_lossy(), "bpffs", "mount -t bpf"]).unwrap();
        assert!(!pin.exists());
        assert_eq!(programs_on(network.gateway()).unwrap(), [0, 0]);
    }

    #[test]
    fn twice_on_the_same_pins_names_the_first() {
        needs!(capability::firewall());
        twice().unwrap();
    }

    fn twice() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let setup = Setup::on(&["eth0", "eth1"]).rules(RULES);
        let mut first = setup.start(network.gateway())?;
        let pid = first.daemon().context("the daemon")?.pid().to_string();
        let before = programs_on(network.gateway())?;
        says(&first.refusal()?, &[&first.pin().to_string_lossy(), &pid, "--pin"])?;
        ensure!(programs_on(network.gateway())? == before, "programs came or went");
        let daemon = first.daemon().context("the daemon")?;
        ensure!(daemon.ended().is_none(), "the first has ended: {}", daemon.stderr());
        ensure!(first.text(&["save"])?.contains("--dport 53"), "other rules");
        Ok(())
    }

    /// A directory of root's, such as a home, hides the binary from others.
    fn copy_for_everybody() -> Result<(tempfile::TempDir, String)> {
        let directory = tempfile::tempdir()?;
        let binary = directory.path().join("firewall");
        fs::copy(firewall::binary()?, &binary)?;
        for path in [directory.path(), &binary] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        let binary = binary.to_string_lossy().into_owned();
        Ok((directory, binary))
    }
}

mod usage {
    use super::*;

    fn status(arguments: &[&str]) -> Finished {
        let mut command = Command::new(firewall::binary().unwrap());
        command::finish(command.args(arguments), DEADLINE).unwrap()
    }

    #[test]
    fn that_is_wrong_has_exit_status_2() {
        needs!(capability::firewall());
        for arguments in [
            &["walk"][..],
            &["run"],
            &["apply"],
            &["conntrack", "delete"],
            &["stats", "--no-such-option"],
            &["stats", "-o", "xml"],
            &["conntrack", "list", "--dport", "70000"],
            &["conntrack", "set", "udp_timeout"],
        ] {
            let finished = status(arguments);
            assert_eq!(finished.code(), 2, "{arguments:?}: {finished:?}");
            assert!(!finished.stderr.is_empty(), "{arguments:?}: no message");
        }
    }

    #[test]
    fn that_asks_for_help_has_exit_status_0() {
        needs!(capability::firewall());
        for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
            let finished = status(arguments);
            assert_eq!(finished.code(), 0, "{arguments:?}: {finished:?}");
            assert!(finished.stderr.is_empty() && !finished.stdout.is_empty(), "{finished:?}");
        }
    }

    #[test]
    fn of_an_instance_that_does_not_run_says_so() {
        needs!(capability::firewall());
        for command in ["stats", "status", "save", "rules", "monitor"] {
            let finished = status(&[command, "--pin", "/sys/fs/bpf/fw-nowhere"]);
            says(&finished, &["/sys/fs/bpf/fw-nowhere"]).expect(command);
        }
    }
}

mod a_setting {
    use super::*;

    /// What is typed behind `conntrack set`, and what must be told of it.
    const MISTAKES: &[([&str; 2], &[&str])] = &[
        (["udp_timout", "5"], &["no setting 'udp_timout'", "did you mean udp_timeout?"]),
        (["established", "5"], &["tcp_timeout_established", "sctp_timeout_established"]),
        (["nonsense", "5"], &["nonsense", "firewall conntrack settings"]),
        (["udp_timeout", "0"], &["udp_timeout cannot be '0'", "from 1 to 31536000 seconds"]),
        (["udp_timeout", "-1"], &["'-1'", "from 1 to 31536000 seconds"]),
        (["udp_timeout", "two days"], &["'two days'", "1h 30m"]),
        (["tcp_loose", "2"], &["tcp_loose cannot be '2'", "true or false"]),
        (["tcp_max_retrans", "256"], &["'256'", "from 0 to 255"]),
        (["nf_conntrack_max", "1000"], &["nf_conntrack_max", "--max-flows", "unload"]),
        (["max_fragments", "1000"], &["size of a table", "[tables]", "unload"]),
    ];

    #[test]
    fn that_cannot_be_is_refused_with_what_can() {
        needs!(capability::firewall());
        let netns = Netns::new("settings").unwrap();
        netns.ip("link add eth0 type veth peer name eth1").unwrap();
        let firewall = Setup::on(&["eth0"]).rules(RULES).start(&netns).unwrap();
        let before = firewall.text(&["conntrack", "settings"]).unwrap();
        let failed: Vec<_> = MISTAKES
            .iter()
            .filter_map(|([name, value], words)| {
                let finished = firewall.cli(&["conntrack", "set", name, value]).unwrap();
                says(&finished, words).err().map(|error| format!("{name} {value}: {error:#}"))
            })
            .collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
        assert_eq!(firewall.text(&["conntrack", "settings"]).unwrap(), before);
    }
}

/// A mistake in rules, and the place and words that must be told of it.
struct Mistake {
    rules: &'static str,
    place: &'static str,
    words: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        rules: "-A INPUT -p tcp -m tcpp --dport 21 -j ACCEPT",
        place: ":3:",
        words: &["tcpp", "did you mean tcp?"],
    },
    Mistake {
        rules: "-A INPUT -p tcp --dport 65536 -j ACCEPT",
        place: ":3:",
        words: &["65536", "65535"],
    },
    Mistake { rules: "-A INPUT -p tcp --dport ftpp -j ACCEPT", place: ":3:", words: &["ftpp"] },
    Mistake { rules: "-A INPUT -s 192.0.2.0/33 -j ACCEPT", place: ":3:", words: &["33", "32"] },
    Mistake { rules: "-A INPUT -s 192.0.2.256 -j ACCEPT", place: ":3:", words: &["192.0.2.256"] },
    Mistake { rules: "-A INPUT -j CLIENTS", place: ":3:", words: &["CLIENTS"] },
    Mistake { rules: "-A NOWHERE -j ACCEPT", place: ":3:", words: &["NOWHERE"] },
    Mistake {
        rules: ":A - [0:0]\n:B - [0:0]\n-A INPUT -j A\n-A A -j B\n-A B -j A",
        place: ":",
        words: &["A -> B -> A"],
    },
    Mistake {
        rules: "-A INPUT -p tcp --dport 21 -j ALLOW",
        place: ":3:",
        words: &["ALLOW", "ACCEPT"],
    },
    Mistake {
        rules: "-A INPUT -p tcp —sport 21 -j ACCEPT",
        place: ":3:",
        words: &["dash", "--sport", "web page"],
    },
    Mistake {
        rules: "-A INPUT -p tcp –dport 21 -j ACCEPT",
        place: ":3:",
        words: &["dash", "--dport", "web page"],
    },
    Mistake { rules: "-A INPUT --dport 21 -j ACCEPT", place: ":3:", words: &["--dport", "-p tcp"] },
    Mistake {
        rules: "-A INPUT -m state --state RELATE -j ACCEPT",
        place: ":3:",
        words: &["RELATE"],
    },
];

impl Mistake {
    fn file(&self) -> String {
        format!("*filter\n:INPUT DROP [0:0]\n{}\nCOMMIT\n", self.rules)
    }
}

mod rules {
    use super::*;

    #[test]
    fn with_a_mistake_are_refused_by_check_with_place_and_remedy() {
        needs!(capability::firewall());
        let netns = Netns::new("check").unwrap();
        let firewall = Setup::default().prepare(&netns).unwrap();
        let failed: Vec<_> = MISTAKES
            .iter()
            .filter_map(|mistake| {
                let finished = firewall.with_rules("check", &mistake.file()).unwrap();
                let told = says(&finished, &[&format!("rules.v4{}", mistake.place)])
                    .and_then(|()| says(&finished, mistake.words));
                told.err().map(|error| format!("{}: {error:#}", mistake.rules))
            })
            .collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    #[test]
    fn with_several_mistakes_have_each_of_them_told() {
        needs!(capability::firewall());
        let netns = Netns::new("check").unwrap();
        let firewall = Setup::default().prepare(&netns).unwrap();
        let file =
            "-A INPUT -p tcp --dport x -j ACCEPT\n-A INPUT -j ALLOW\n-A INPUT -s y -j DROP\n";
        let finished = firewall.with_rules("check", file).unwrap();
        says(&finished, &["rules.v4:1:", "rules.v4:2:", "rules.v4:3:"]).unwrap();
    }

    #[test]
    fn with_a_mistake_leave_the_old_ones_running() {
        needs!(capability::firewall());
        leave_the_old_ones().unwrap();
    }

    fn leave_the_old_ones() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let firewall = Setup::on(&["eth0", "eth1"]).rules(RULES).start(network.gateway())?;
        let before = counted_rules(&firewall)?;
        for mistake in MISTAKES {
            let finished = firewall.with_rules("apply", &mistake.file())?;
            says(&finished, mistake.words).with_context(|| mistake.rules)?;
            ensure!(counted_rules(&firewall)? == before, "{} changed the rules", mistake.rules);
        }
        let [client, server] = [&wires.client, &wires.server]
            .map(|wire| wire.endpoint(firewall_tests::Family::V4, 53));
        let question = firewall_tests::packet::Packet::udp(client, server, b"question");
        wires.cross(End::Client, &question).map(drop)
    }

    fn counted_rules(firewall: &Firewall<'_>) -> Result<Vec<String>> {
        let text = firewall.text(&["save", "-c"])?;
        Ok(text.lines().filter(|line| line.contains("-A ")).map(String::from).collect())
    }
}
