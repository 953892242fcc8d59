//! The commands print what people and scripts know from iptables and
//! conntrack(8): the kernel's own tools, given the same rules and packets in
//! namespaces of their own, are the reference.

use std::{net::SocketAddr, process::Command};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability,
    command::{self, Background},
    control::Control,
    conversation::Conversation,
    firewall::Setup,
    needs,
    packet::Packet,
    server::own::{Own, Script},
    wait,
    wire::{End, Wires},
};

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:CLIENTS - [0:0]
-A INPUT -i lo -j ACCEPT
-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -j CLIENTS
-A FORWARD -p tcp -m tcp --dport 113 -j REJECT --reject-with tcp-reset
-A FORWARD ! -s 192.0.2.0/24 -d 198.51.100.0/24 -p udp -m comment --comment \"not from outside\" -j DROP
-A CLIENTS -p tcp -m multiport --dports 21,80,443 -j ACCEPT
-A CLIENTS -p udp -m udp --dport 53 -j ACCEPT
-A CLIENTS -p udp -m udp --sport 1024:65535 --dport 500:600 -j RETURN
-A CLIENTS -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A CLIENTS -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN
COMMIT
";

fn start(network: &Gateway) -> Result<Firewall<'_>> {
    Setup::on(&["eth0", "eth1"]).rules(RULES).start(network.gateway())
}

/// Feeds rules to the kernel's iptables.
fn iptables_restore(netns: &Netns, options: &str, rules: &str) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), rules)?;
    let line = format!("iptables-restore {options} {}", file.path().display());
    netns.run(&line)
}

mod conntrack {
    use super::*;

    /// An FTP session without helper, a ping, questions with and without answer.
    fn traffic(wires: &Wires) -> Result<()> {
        let mut conversation = Conversation::open(wires, Family::V4, 50_000)?;
        conversation.say(End::Client, b"GET / HTTP/1.0\r\n\r\n")?;
        let [client, server] = [&wires.client, &wires.server];
        let client = |port| client.endpoint(Family::V4, port);
        let server = |port| server.endpoint(Family::V4, port);
        wires.cross(End::Client, &Packet::syn(client(50_001), server(80)))?;
        wires.cross(End::Client, &Packet::udp(client(50_002), server(53), b"lost"))?;
        wires.cross(End::Client, &Packet::udp(client(50_003), server(53), b"question"))?;
        wires.cross(End::Server, &Packet::udp(server(53), client(50_003), b"answer"))?;
        let ping = Packet::ping(client(0).ip(), server(0).ip(), 77);
        wires.cross(End::Client, &ping)?;
        wires.cross(End::Server, &ping.pong()).map(drop)
    }

    #[test]
    fn lists_flows_as_conntrack_8_does() {
        needs!(capability::firewall(), capability::program("conntrack"));
        as_conntrack().unwrap();
    }

    fn as_conntrack() -> Result<()> {
        let kernel = Gateway::new(Offload::Tuned)?;
        kernel.gateway().set("netfilter/nf_conntrack_acct", "1")?;
        iptables_restore(kernel.gateway(), "", RULES)?;
        traffic(&Wires::across(&kernel)?)?;
        let reference = kernel.gateway().run("conntrack -L")?;

        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        traffic(&Wires::across(&network)?)?;
        let listed = firewall.text(&["conntrack", "list"])?;
        let (listed, reference) = (comparable(&listed), comparable(&reference));
        ensure!(listed == reference, "ours:\n{listed:#?}\nconntrack -L:\n{reference:#?}");
        Ok(())
    }

    /// Flows of the ghosts, sorted, timeouts rounded up to tens, without the
    /// helper: the kernel was told of none.
    fn comparable(listing: &str) -> Vec<String> {
        let flows = listing.lines().filter(|line| line.contains(".77 "));
        let mut flows: Vec<_> = flows
            .map(|line| {
                let mut words: Vec<_> = line.split_whitespace().map(String::from).collect();
                words.retain(|word| !word.starts_with("helper="));
                if let Some(timeout) = words.get(2).and_then(|word| word.parse::<u64>().ok()) {
                    words[2] = timeout.next_multiple_of(10).to_string();
                }
                words.join(" ")
            })
            .collect();
        flows.sort();
        flows
    }

    #[test]
    fn columns_are_aligned_as_in_conntrack_8() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let firewall = start(&network).unwrap();
        traffic(&Wires::across(&network).unwrap()).unwrap();
        let listed = firewall.text(&["conntrack", "list"]).unwrap();
        for start in ["tcp      6 ", "udp      17 ", "icmp     1 "] {
            assert!(listed.lines().any(|line| line.starts_with(start)), "{start}: {listed}");
        }
    }

    #[test]
    fn counts_deletes_and_flushes() {
        needs!(capability::firewall());
        count_delete_flush().unwrap();
    }

    fn count_delete_flush() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        network.gateway().set("ipv6/conf/all/disable_ipv6", "1")?;
        let firewall = start(&network)?;
        traffic(&wires)?;
        let count = |filter: &[&str]| -> Result<u64> {
            let text = firewall.text(&[&["conntrack", "count"], filter].concat())?;
            text.trim().parse().with_context(|| format!("not a number: {text}"))
        };
        ensure!(count(&[])? == 5, "{} flows", count(&[])?);
        ensure!(count(&["-p", "udp"])? == 2, "{} of UDP", count(&["-p", "udp"])?);
        ensure!(count(&["-p", "tcp", "--dport", "21"])? == 1, "not one to port 21");

        let deleted = firewall.cli(&["conntrack", "delete", "-p", "udp"])?;
        ensure!(deleted.code() == 0 && deleted.stdout.lines().count() == 2, "{deleted:?}");
        ensure!(deleted.stderr.contains("2 flow entries have been deleted"), "{deleted:?}");
        ensure!(count(&[])? == 3, "{} flows after deleting two", count(&[])?);
        let none = firewall.cli(&["conntrack", "delete", "-p", "udp"])?;
        ensure!(none.code() == 1, "deleting nothing: {none:?}");

        // What was deleted is unknown: its reply is not let through.
        let [client, server] =
            [wires.client.endpoint(Family::V4, 50_003), wires.server.endpoint(Family::V4, 53)];
        let before = firewall.stat("policy")?;
        let late = Packet::udp(server, client, b"late answer");
        wires.server.send(&late)?;
        firewall_tests::ledger::refused_since(&firewall, before, "a reply to a deleted flow")?;

        firewall.text(&["conntrack", "flush"])?;
        ensure!(count(&[])? == 0, "{} flows after a flush", count(&[])?);
        Ok(())
    }

    #[test]
    fn has_the_fields_of_the_contract_in_json() {
        needs!(capability::firewall());
        in_json().unwrap();
    }

    fn in_json() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let wires = Wires::across(&network)?;
        traffic(&wires)?;
        let flows = firewall.json(&["conntrack", "list"])?;
        let of = |port: u16| flows.iter().find(|flow| flow["original"]["sport"] == port);
        let control = of(50_000).context("no control connection")?;
        ensure!(control["family"] == "ipv4" && control["protocol"] == "tcp", "{control}");
        ensure!(control["state"] == "ESTABLISHED" && control["helper"] == "ftp", "{control}");
        ensure!(control["status"] == serde_json::json!(["SEEN_REPLY", "ASSURED"]), "{control}");
        ensure!(control["original"]["packets"] == 3, "SYN, ACK, data: {control}");
        ensure!(control["reply"]["packets"] == 2, "SYN-ACK, ACK: {control}");
        ensure!(control["master"].is_null() && control["mark"] == 0, "{control}");
        let lost = of(50_002).context("no unanswered question")?;
        ensure!(lost["status"] == serde_json::json!([]), "{lost}");
        ensure!(lost["reply"]["packets"] == 0 && lost["original"]["bytes"] == 32, "{lost}");
        Ok(())
    }
}

mod rules {
    use super::*;

    #[test]
    fn are_saved_as_iptables_save_does() {
        needs!(capability::firewall(), capability::program("iptables-save"));
        saved().unwrap();
    }

    fn saved() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let kernel = Netns::new("kernel")?;
        iptables_restore(&kernel, "", RULES)?;
        let without_comments = |text: &str| {
            text.lines().filter(|line| !line.starts_with('#')).map(String::from).collect()
        };
        let ours: Vec<String> = without_comments(&firewall.text(&["save"])?);
        let reference: Vec<String> = without_comments(&kernel.run("iptables-save -t filter")?);
        // Policies have been counting.
        let rules = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| !line.starts_with(':')).cloned().collect()
        };
        ensure!(
            rules(&ours) == rules(&reference),
            "ours:\n{}\niptables-save:\n{}",
            ours.join("\n"),
            reference.join("\n")
        );
        Ok(())
    }

    #[test]
    fn that_were_saved_are_taken_by_iptables_restore_and_by_apply() {
        needs!(capability::firewall(), capability::program("iptables-restore"));
        round_trip().unwrap();
    }

    fn round_trip() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let kernel = Netns::new("kernel")?;
        for options in [&["save"][..], &["save", "-c"]] {
            let text = firewall.text(options)?;
            iptables_restore(&kernel, "--test", &text).with_context(|| text.clone())?;
            let before = firewall.text(&["save"])?;
            firewall.apply(&text)?;
            let after = firewall.text(&["save"])?;
            let rules = |text: &str| -> Vec<String> {
                text.lines().filter(|line| line.starts_with('-')).map(String::from).collect()
            };
            ensure!(rules(&after) == rules(&before), "before:\n{before}\nafter:\n{after}");
        }
        Ok(())
    }

    #[test]
    fn are_listed_as_iptables_does() {
        needs!(capability::firewall(), capability::program("iptables"));
        listed().unwrap();
    }

    fn listed() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        let kernel = Netns::new("kernel")?;
        iptables_restore(&kernel, "", RULES)?;
        // The policies of INPUT and OUTPUT count noise of the namespace.
        let comparable = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with("Chain"));
            lines.map(|line| line.trim_end().to_string()).collect()
        };
        let ours = firewall.text(&["rules"])?;
        let reference = kernel.run("iptables -L -v -n --line-numbers")?;
        ensure!(
            comparable(&ours) == comparable(&reference),
            "ours:\n{ours}\niptables -L -v -n --line-numbers:\n{reference}"
        );
        for chain in ["Chain FORWARD (policy DROP ", "Chain CLIENTS (1 references)"] {
            ensure!(ours.contains(chain), "no `{chain}` in\n{ours}");
        }
        Ok(())
    }

    #[test]
    fn are_one_json_object_a_line_with_counters() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let firewall = start(&network).unwrap();
        let lines = firewall.json(&["rules"]).unwrap();
        assert!(lines.len() >= RULES.matches("-A ").count(), "{lines:?}");
        assert!(lines.iter().all(|line| line["chain"].is_string()), "{lines:?}");
        assert!(lines.iter().filter(|line| line["packets"].is_u64()).count() >= 10, "{lines:?}");
    }

    #[test]
    fn that_compile_pass_check_without_being_applied() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let firewall = start(&network).unwrap();
        let other = RULES.replace("21,80,443", "21,8080");
        let checked = firewall.with_rules("check", &other).unwrap();
        assert_eq!(checked.code(), 0, "{checked:?}");
        assert!(!firewall.text(&["save"]).unwrap().contains("8080"));
        firewall.apply(&other).unwrap();
        assert!(firewall.text(&["save"]).unwrap().contains("8080"));
    }

    #[test]
    fn typed_as_commands_are_taken() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let firewall = start(&network).unwrap();
        let typed = "# as in a how-to\niptables -P FORWARD DROP\n\
                     iptables -A FORWARD -p tcp --dport ftp \\\n    -m state --state NEW -j ACCEPT\n";
        firewall.apply(typed).unwrap();
        let saved = firewall.text(&["save"]).unwrap();
        let rule = "-A FORWARD -p tcp -m tcp --dport 21 -m state --state NEW -j ACCEPT";
        assert!(saved.contains(rule) && saved.contains(":FORWARD DROP"), "{saved}");
    }
}

mod monitor {
    use super::*;

    #[test]
    fn shows_a_drop_with_its_reason() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let firewall = start(&network).unwrap();
        let wires = Wires::across(&network).unwrap();
        for (options, words) in [
            (&[][..], &["policy", "198.51.100.77", "192.0.2.77", "40001"][..]),
            (&["-o", "json"], &["\"policy\"", "198.51.100.77", "192.0.2.77", "40001"]),
        ] {
            shows(&firewall, &wires, options, words).unwrap();
        }
    }

    fn shows(
        firewall: &Firewall<'_>,
        wires: &Wires,
        options: &[&str],
        words: &[&str],
    ) -> Result<()> {
        let mut monitor =
            Background::start(&mut firewall.command(&[&["monitor"], options].concat())?)?;
        wait::until_true("the monitor", || monitor.stderr().contains("watching"))?;
        let source = wires.server.endpoint(Family::V4, 40_000);
        let unwanted = Packet::syn(source, wires.client.endpoint(Family::V4, 40_001));
        wires.server.send(&unwanted)?;
        let told = |line: &str| words.iter().all(|word| line.contains(word));
        wait::until("the drop", wait::DEADLINE, || {
            monitor.stdout().lines().any(told).then_some(())
        })
        .with_context(|| format!("{}{}", monitor.stdout(), monitor.stderr()))?;
        ensure!(monitor.ended().is_none(), "the monitor has ended");
        Ok(())
    }
}

mod expect {
    use super::*;

    #[test]
    fn lists_what_a_session_has_announced_and_no_more() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let rules = "*filter\n:FORWARD DROP\n-A FORWARD -p tcp --dport 21 -j ACCEPT\n\
                     -A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n";
        let setup = Setup::on(&["eth0", "eth1"]).both(rules);
        let firewall = setup.start(network.gateway()).unwrap();
        let _server = Own::start(&network.server, Script::default()).unwrap();
        for family in [Family::V4, Family::V6] {
            session(&network, &firewall, family).unwrap();
        }
    }

    fn session(network: &Gateway, firewall: &Firewall<'_>, family: Family) -> Result<()> {
        let server = SocketAddr::new(network.server_address(family), 21);
        let mut control = Control::open(&network.client, server)?;
        control.login(("a", "b"))?;
        ensure!(firewall.json(&["expect", "list"])?.is_empty(), "before anything was announced");

        let command = if server.is_ipv4() { "PASV" } else { "EPSV" };
        let announced = control.command(command)?.port()?;
        let listed = firewall.json(&["expect", "list"])?;
        let [expectation] = &listed[..] else { anyhow::bail!("not one: {listed:?}") };
        let client = control.local()?;
        ensure!(expectation["dport"] == announced, "{expectation}");
        ensure!(expectation["src"] == client.ip().to_string(), "{expectation}");
        ensure!(expectation["dst"] == server.ip().to_string(), "{expectation}");
        ensure!(expectation["helper"] == "ftp", "{expectation}");
        ensure!(expectation["master"]["sport"] == client.port(), "{expectation}");
        ensure!(expectation["master"]["dport"] == 21, "{expectation}");
        let text = firewall.text(&["expect", "list"])?;
        ensure!(text.contains(&format!("dport={announced} ")), "{text}");

        // The next one supersedes it; used, it is gone.
        let announced = control.command(command)?.port()?;
        let listed = firewall.json(&["expect", "list"])?;
        ensure!(listed.len() == 1 && listed[0]["dport"] == announced, "{listed:?}");
        let data = SocketAddr::new(server.ip(), announced);
        let _stream =
            network.client.enter(|| std::net::TcpStream::connect_timeout(&data, wait::DEADLINE))?;
        ensure!(firewall.json(&["expect", "list"])?.is_empty(), "used, and still there");
        let flows = firewall.json(&["conntrack", "list"])?;
        let flow = flows.iter().find(|flow| flow["original"]["dport"] == announced);
        let flow = flow.context("no flow of the data connection")?;
        ensure!(flow["master"]["sport"] == client.port(), "{flow}");

        // With the control connection, what it announced goes.
        control.command(command)?;
        drop(control);
        wait::until_true("the end of the expectation", || {
            firewall.json(&["expect", "list"]).is_ok_and(|listed| listed.is_empty())
        })
    }
}

mod status {
    use super::*;

    #[test]
    fn tells_who_enforces_where() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let mut firewall = start(&network).unwrap();
        let pid = firewall.daemon().unwrap().pid().to_string();
        let status = firewall.text(&["status"]).unwrap();
        for word in ["eth0", "eth1", &pid] {
            assert!(status.contains(word), "nothing about {word} in:\n{status}");
        }
        let json = firewall.json(&["status"]).unwrap();
        assert!(!json.is_empty());
        firewall.kill();
        let status = firewall.text(&["status"]).unwrap();
        assert!(!status.contains(&pid) || status.contains("not running"), "{status}");
    }
}

#[test]
fn two_instances_in_two_namespaces_know_nothing_of_each_other() {
    needs!(capability::firewall());
    let networks = [Gateway::new(Offload::Tuned).unwrap(), Gateway::new(Offload::Tuned).unwrap()];
    let [one, other] = networks.each_ref().map(|network| start(network).unwrap());
    one.apply("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n").unwrap();
    assert!(!one.text(&["save"]).unwrap().contains("CLIENTS"));
    assert!(other.text(&["save"]).unwrap().contains("CLIENTS"));
    drop(one);
    assert!(other.text(&["save"]).unwrap().contains("CLIENTS"));
}

#[test]
fn output_that_nobody_reads_to_its_end_is_no_failure() {
    needs!(capability::firewall());
    let network = Gateway::new(Offload::Tuned).unwrap();
    let firewall = start(&network).unwrap();
    let binary = firewall_tests::firewall::binary().unwrap();
    let line = format!(
        "set -o pipefail; FIREWALL_PIN={} {} rules | head -n 1",
        firewall.pin().display(),
        binary.display()
    );
    command::output(Command::new("bash").args(["-c", &line])).unwrap();
}
