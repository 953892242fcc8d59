//! Sets under real packets, in the words of `firewall set` and under ipset's own name.
//!
//! The gateway stands between two ghosts, as the crate's drawing shows.

use std::{io::Write as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    command::{Finished, finish},
    firewall::Setup,
    needs,
    packet::{Packet, Segment, flag},
    wait,
    wire::{End, Wires},
};
use tempfile::{NamedTempFile, TempDir};

const DEADLINE: Duration = Duration::from_secs(120);

const BLOCKLIST: &str = "create block hash:net\ncreate other hash:net\nadd other 192.0.2.0/24\n";
const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m set --match-set block src -j DROP
COMMIT
";

struct Bench<'a> {
    firewall: Firewall<'a>,
    wires: Wires,
    links: TempDir,
    /// What the daemon reads, again when it is restarted.
    _sets: NamedTempFile,
    port: u16,
}

impl<'a> Bench<'a> {
    fn new(network: &'a Gateway, hook: &str, sets: &str, rules: &str) -> Result<Self> {
        let wires = Wires::across(network)?;
        network.hush()?;
        let file = file(sets)?;
        let firewall = Setup::on(&["eth0", "eth1"])
            .rules(rules)
            .option(&format!("--sets={}", file.path().display()))
            .option(&format!("--hook={hook}"))
            .start(network.gateway())?;
        let links = tempfile::Builder::new().prefix("fw-links-").tempdir()?;
        firewall.text(&["link", "--dir", &links.path().to_string_lossy()])?;
        Ok(Self { firewall, wires, links, _sets: file, port: 2_000 })
    }

    /// A shell script that calls ipset and iptables.
    fn sh(&self, script: &str) -> Result<Finished> {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.links.path().display());
        let mut command = self.firewall.in_its_namespace("sh");
        let pin = self.firewall.pin();
        finish(command.args(["-c", script]).env("PATH", path).env("FIREWALL_PIN", pin), DEADLINE)
    }

    /// Its stdout; another exit status than 0 is an error.
    fn text(&self, script: &str) -> Result<String> {
        let finished = self.sh(script)?;
        ensure!(finished.code() == 0, "{script}: {}: {}", finished.code(), finished.stderr);
        Ok(finished.stdout)
    }

    /// It must fail with this status and these words.
    fn refused(&self, script: &str, status: i32, words: &str) -> Result<()> {
        let finished = self.sh(script)?;
        ensure!(
            finished.code() == status && finished.stderr.contains(words),
            "{script}: {}: {}",
            finished.code(),
            finished.stderr
        );
        Ok(())
    }

    /// A datagram of a flow that is new.
    fn datagram(&mut self) -> Packet {
        self.port += 1;
        let source = self.wires.client.endpoint(Family::V4, self.port);
        Packet::udp(source, self.wires.server.endpoint(Family::V4, 9), &self.port.to_be_bytes())
    }

    fn passes(&mut self) -> Result<()> {
        let packet = self.datagram();
        self.wires.cross(End::Client, &packet).map(drop).context("a datagram was to pass")
    }

    fn is_blocked(&mut self) -> Result<()> {
        let packet = self.datagram();
        let before = self.dropped()?;
        self.wires.client.send(&packet)?;
        wait::until_true("a rule to drop it", || {
            self.dropped().is_ok_and(|dropped| dropped > before)
        })?;
        self.wires.server.has_not_seen(&packet)
    }

    /// Packets that rules have dropped.
    fn dropped(&self) -> Result<u64> {
        let rules = self.firewall.text(&["save", "-c"])?;
        let drops = rules.lines().filter(|line| line.starts_with('[') && line.ends_with("DROP"));
        drops
            .map(|line| {
                let packets = line[1..].split(':').next().unwrap_or_default();
                packets.parse::<u64>().context("a rule without counters")
            })
            .sum()
    }
}

fn file(text: &str) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn on_a_gateway(sets: &str, rules: &str, test: impl FnOnce(&mut Bench<'_>) -> Result<()>) {
    by_hook("auto", sets, rules, test).unwrap();
}

fn by_hook(
    hook: &str,
    sets: &str,
    rules: &str,
    test: impl FnOnce(&mut Bench<'_>) -> Result<()>,
) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    test(&mut Bench::new(&network, hook, sets, rules)?)
}

#[test]
fn elements_come_and_go_under_rules_that_stay() {
    needs!(capability::firewall());
    on_a_gateway(BLOCKLIST, RULES, |bench| {
        bench.passes()?;
        for (element, same) in [
            ("192.0.2.77", "192.0.2.77/32"),
            ("192.0.2.0/24", "192.0.2.9/24"),
            ("192.0.0.0/2", "192.0.2.9/2"),
        ] {
            bench.firewall.text(&["set", "add", "block", element])?;
            bench.is_blocked()?;
            bench.firewall.text(&["set", "del", "block", same])?;
            bench.passes()?;
        }
        bench.firewall.text(&["set", "add", "block", "192.0.2.0/24"])?;
        bench.firewall.text(&["set", "add", "block", "192.0.2.77", "nomatch"])?;
        bench.passes()?;
        // The counter has gone on: nothing but packets touched the rules.
        ensure!(bench.dropped()? == 3);
        Ok(())
    });
}

#[test]
fn a_list_in_table_raw_is_asked_first_and_what_passes_is_counted_once() {
    needs!(capability::firewall());
    let rules = "\
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m set --match-set block src -j DROP
-A PREROUTING -p udp
COMMIT
*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -p udp -j ACCEPT
COMMIT
";
    for hook in ["xdp", "xdp-generic", "tc"] {
        let asked = |bench: &mut Bench<'_>| -> Result<()> {
            bench.passes()?;
            bench.firewall.text(&["set", "add", "block", "192.0.2.0/24"])?;
            bench.is_blocked()?;
            bench.firewall.text(&["set", "flush", "block"])?;
            bench.passes()?;
            ensure!(bench.dropped()? == 1);
            let saved = bench.firewall.text(&["save", "-c"])?;
            for rule in ["-A PREROUTING -p udp", "-A FORWARD -p udp -j ACCEPT"] {
                let is_counted = |line: &str| line.starts_with("[2:") && line.ends_with(rule);
                ensure!(saved.lines().any(is_counted), "{rule}:\n{saved}");
            }
            Ok(())
        };
        by_hook(hook, BLOCKLIST, rules, asked).context(hook).unwrap();
    }
}

#[test]
fn an_element_expires_without_a_daemon_and_the_daemon_returns_its_memory() {
    needs!(capability::firewall());
    let sets = "create block hash:ip timeout 600\n";
    on_a_gateway(sets, RULES, |bench| {
        bench.firewall.kill();
        bench.text("ipset add block 192.0.2.77 timeout 2")?;
        bench.is_blocked()?;
        wait::until_true("the element to expire", || {
            bench.sh("ipset -q test block 192.0.2.77").is_ok_and(|done| done.code() == 1)
        })?;
        bench.passes()?;
        let list = bench.text("ipset list block")?;
        ensure!(list.contains("Number of entries: 0"), "{list}");
        bench.firewall.restart()?;
        bench.text("ipset add block 192.0.2.77")?;
        let save = bench.text("ipset save block")?;
        ensure!(
            save.contains("add block 192.0.2.77 timeout 5") || save.contains("timeout 600"),
            "{save}"
        );
        bench.is_blocked()
    });
}

#[test]
fn swapping_under_traffic_changes_what_a_rule_sees_and_the_rule_not() {
    needs!(capability::firewall());
    on_a_gateway(BLOCKLIST, RULES, |bench| {
        for _ in 0..3 {
            bench.passes()?;
            bench.text("ipset swap block other")?;
            bench.is_blocked()?;
            bench.firewall.text(&["set", "swap", "other", "block"])?;
        }
        bench.text("ipset swap block other && ipset flush block")?;
        bench.passes()?;
        let names = bench.text("ipset list -n")?;
        ensure!(names == "block\nother\n", "{names}");
        Ok(())
    });
}

#[test]
fn sets_outlive_the_daemon_and_what_is_in_use_stays() {
    needs!(capability::firewall());
    on_a_gateway(BLOCKLIST, RULES, |bench| {
        bench.text("ipset add block 192.0.2.77 && ipset create l list:set && ipset add l other")?;
        let before = bench.text("ipset save")?;
        bench.firewall.restart()?;
        ensure!(bench.text("ipset save")? == before);
        bench.is_blocked()?;
        bench.refused("ipset destroy block", 1, "in use by a kernel component")?;
        bench.refused("ipset destroy other", 1, "in use by a kernel component")?;
        bench.refused("ipset rename block z", 1, "in use by another system")?;
        bench.text("iptables -F FORWARD && ipset destroy block && ipset destroy l")?;
        bench.refused("iptables -A FORWARD -m set --match-set block src", 2, "no set 'block'")?;
        bench.passes()
    });
}

#[test]
fn a_file_with_a_mistake_changes_nothing_and_a_full_set_says_so() {
    needs!(capability::firewall());
    on_a_gateway("create block hash:ip maxelem 3\nadd block 203.0.113.1\n", RULES, |bench| {
        let before = bench.text("ipset save")?;
        for (text, at, words) in [
            ("add block 203.0.113.2\nadd block nonsense\n", ":2:11:", "cannot parse nonsense"),
            ("create new hash:ip\nadd block 203.0.113.1\n", ":2:", "already added"),
            ("add block 203.0.113.2\ndestroy block\n", ":2:", "in use"),
            ("flush block\nadd block 203.0.113.8/29\n", ":2:", "Hash is full"),
            ("add block 203.0.113.8/29\n", ":1:", "Hash is full"),
        ] {
            let file = file(text)?;
            let refused =
                bench.firewall.cli(&["set", "restore", &file.path().to_string_lossy()])?;
            ensure!(
                refused.code() == 1
                    && refused.stderr.contains(at)
                    && refused.stderr.contains(words),
                "{text}: {}",
                refused.stderr
            );
            ensure!(bench.text("ipset save")? == before, "{text}");
        }
        bench.refused(
            "printf 'add block x\\n' | ipset restore",
            1,
            "ipset v7.17: Error in line 1: ",
        )?;
        bench.text("ipset add block 203.0.113.2 && ipset add block 203.0.113.3")?;
        bench.refused(
            "ipset add block 203.0.113.4",
            1,
            "Hash is full, cannot add more elements",
        )?;
        bench.text("ipset -exist add block 203.0.113.2 && ipset del block 203.0.113.2 && ipset add block 192.0.2.77")?;
        bench.is_blocked()
    });
}

#[test]
fn fail2ban_bans_and_unbans_with_its_ipset_actions() {
    needs!(capability::firewall());
    on_a_gateway("", "*filter\nCOMMIT\n", |bench| {
        bench.text(
            "ipset -exist create f2b-sshd hash:ip timeout 600 && \
             iptables -w -I FORWARD -p udp -m multiport --dports 9 -m set --match-set f2b-sshd src -j DROP",
        )?;
        bench.passes()?;
        bench.text("ipset -exist add f2b-sshd 192.0.2.77 timeout 600")?;
        bench.text("ipset -exist add f2b-sshd 192.0.2.77 timeout 600")?;
        bench.is_blocked()?;
        bench.text("ipset -exist del f2b-sshd 192.0.2.77")?;
        bench.text("ipset -exist del f2b-sshd 192.0.2.77")?;
        bench.passes()?;
        bench.text("ipset flush f2b-sshd")?;
        bench.text("iptables -w -D FORWARD -p udp -m multiport --dports 9 -m set --match-set f2b-sshd src -j DROP")?;
        bench.text("ipset destroy f2b-sshd 2>/dev/null || { sleep 1; ipset destroy f2b-sshd; }")?;
        ensure!(bench.text("ipset list -n")?.is_empty());
        Ok(())
    });
}

#[test]
fn rules_put_senders_into_sets_and_later_ones_see_them() {
    needs!(capability::firewall());
    let sets = "create seen hash:ip,port timeout 60 counters\ncreate trap hash:net\n";
    let rules = "*filter\n\
        -A FORWARD -m set --match-set trap src -j DROP\n\
        -A FORWARD -j SET --add-set seen src,dst --exist --timeout 30\n\
        -A FORWARD -m set --match-set seen src,dst --packets-gt 2 -j SET --add-set trap src\n\
        COMMIT\n";
    on_a_gateway(sets, rules, |bench| {
        bench.passes()?;
        let seen = bench.text("ipset list seen")?;
        let left = seen.split("192.0.2.77,udp:9 timeout ").nth(1).unwrap_or_default();
        let left: u32 = left.split(' ').next().unwrap_or_default().parse().context(seen.clone())?;
        // Not the set's own time.
        ensure!((1..=30).contains(&left), "{seen}");
        // The first rule counts one, the question another.
        bench.passes()?;
        bench.text("ipset test seen 192.0.2.77,udp:9")?;
        bench.refused("ipset test trap 192.0.2.77", 1, "NOT in set trap")?;
        bench.text("ipset add trap 192.0.2.77")?;
        bench.is_blocked()
    });
}

#[test]
fn a_connection_behind_a_list_takes_the_short_way_until_it_is_on_it() {
    needs!(capability::firewall());
    let sets = "create block hash:net\ncreate trap hash:ip timeout 60\n";
    let rules = "*filter\n\
        -A FORWARD -m set --match-set block src -j DROP\n\
        -A FORWARD -m set --match-set trap src -j DROP\n\
        -A FORWARD -p udp --dport 7 -j SET --add-set trap src\n\
        COMMIT\n";
    by_hook("xdp", sets, rules, |bench| {
        let client = bench.wires.client.endpoint(Family::V4, 40_000);
        let server = |port| bench.wires.server.endpoint(Family::V4, port);
        let segment = |flags, seq, ack, payload: &[u8]| Segment {
            flags,
            seq,
            ack,
            payload: payload.to_vec(),
        };
        let syn = Packet::tcp(client, server(80), segment(flag::SYN, 1_000, 0, b""));
        let accept = segment(flag::SYN | flag::ACK, 5_000, 1_001, b"");
        let accept = Packet::tcp(server(80), client, accept);
        let question = segment(flag::ACK | flag::PSH, 1_001, 5_001, b"?");
        let question = Packet::tcp(client, server(80), question);
        let trapped = Packet::udp(client, server(7), b"trap");
        bench.wires.cross(End::Client, &syn)?;
        bench.wires.cross(End::Server, &accept)?;
        let is_short = |bench: &Bench<'_>| -> Result<bool> {
            let before = bench.firewall.stat("forward-short")?;
            bench.wires.cross(End::Client, &question)?;
            Ok(bench.firewall.stat("forward-short")? > before)
        };
        wait::until_true("the short way", || is_short(bench).unwrap_or(false))?;
        let is_dropped = |bench: &Bench<'_>| -> Result<()> {
            let before = bench.dropped()?;
            bench.wires.client.send(&question)?;
            wait::until_true("a rule to drop it", || {
                bench.dropped().is_ok_and(|dropped| dropped > before)
            })?;
            bench.wires.server.has_not_seen(&question)
        };
        for (set, element) in [("block", "192.0.0.0/16"), ("trap", "192.0.2.77")] {
            bench.firewall.text(&["set", "add", set, element])?;
            is_dropped(bench).with_context(|| format!("{element} in {set}"))?;
            bench.firewall.text(&["set", "del", set, element])?;
            wait::until_true("the short way again", || is_short(bench).unwrap_or(false))?;
        }
        // And when a packet puts its sender there.
        bench.wires.cross(End::Client, &trapped)?;
        is_dropped(bench).context("trapped")?;
        bench.firewall.text(&["set", "flush", "trap"])?;
        wait::until_true("the short way at last", || is_short(bench).unwrap_or(false))
    })
    .unwrap();
}

#[test]
fn explain_asks_the_sets_in_force_and_counts_nothing_in_them() {
    needs!(capability::firewall());
    let sets = "create block hash:net counters\nadd block 192.0.2.0/24\n";
    on_a_gateway(sets, RULES, |bench| {
        let asked = [
            "explain",
            "-i",
            "eth0",
            "-p",
            "udp",
            "-s",
            "192.0.2.77",
            "-d",
            "198.51.100.2",
            "--sport",
            "1",
            "--dport",
            "9",
        ];
        let told = bench.firewall.text(&asked)?;
        ensure!(told.contains("--match-set block src -j DROP"), "{told}");
        ensure!(bench.text("ipset save")?.contains("packets 0 bytes 0"));
        bench.text("ipset flush block")?;
        let told = bench.firewall.text(&asked)?;
        ensure!(told.contains("it is not in the set"), "{told}");
        Ok(())
    });
}

#[test]
fn several_who_add_at_once_lose_nothing() {
    needs!(capability::firewall());
    on_a_gateway("create block hash:ip\n", RULES, |bench| {
        bench.text(
            "for n in 1 2 3 4; do (for m in 1 2 3 4 5; do ipset add block 203.0.113.$n$m || echo lost; done) & done; wait",
        )?;
        let list = bench.text("ipset list -t block")?;
        ensure!(list.contains("Number of entries: 20"), "{list}");
        Ok(())
    });
}

#[test]
fn a_million_elements_are_loaded_at_once_and_asked() {
    needs!(capability::firewall());
    let mut text = "create big hash:ip hashsize 1048576 maxelem 1000000\n".to_owned();
    // Every third address from 10.0.0.0 on.
    for n in 0..1_000_000_u32 {
        let [a, b, c, d] = (0x0a00_0000 + 3 * n).to_be_bytes();
        text += &format!("add big {a}.{b}.{c}.{d}\n");
    }
    on_a_gateway(BLOCKLIST, RULES, |bench| {
        let file = file(&text)?;
        bench.firewall.text(&["set", "restore", &file.path().to_string_lossy()])?;
        let list = bench.text("ipset list -t big")?;
        ensure!(list.contains("Number of entries: 1000000"), "{list}");
        bench.text("iptables -I FORWARD -m set --match-set big src -j DROP")?;
        bench.passes()?;
        bench.refused("ipset add big 192.0.2.77", 1, "Hash is full")?;
        bench.text("ipset del big 10.0.0.0 && ipset add big 192.0.2.77")?;
        bench.is_blocked()?;
        let saved = bench.text("ipset save big | wc -l")?;
        ensure!(saved.trim() == "1000001", "{saved}");
        bench.text("ipset flush big")?;
        bench.passes()
    });
}
