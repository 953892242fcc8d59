//! Long rulesets: the loaded programs judge by the index as the model does by walking
//! from rule to rule, every counter compared; and what an index costs and saves.
//!
//! ```text
//!   192.0.2.2 ── eth0 │ gateway │ eth1 ── 198.51.100.2
//! ```
//!
//! The measurements need a quiet machine: `cargo test -p firewall-tests --test classifier
//! -- --ignored --nocapture --test-threads 1`.

use std::{
    fmt::Write as _,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use firewall_common::{
    control::{Options, option},
    rule::RULES_PER_GENERATION,
    testing::Frame,
    wire::tcp_flag::{ACK, PSH, SYN},
};
use firewall_tests::{
    Netns, capability, command,
    firewall::{Setup, mount_bpffs},
    model::{Bench, Gateway, Way},
    needs,
};
use firewall_user::kernel::pins::Pins;

const CLIENTS: [[&str; 3]; 2] = [
    ["192.0.2.2", "192.0.2.3", "192.0.2.77"],
    ["2001:db8:1::2", "2001:db8:1::3", "2001:db8:1::77"],
];
const SERVERS: [[&str; 2]; 2] =
    [["198.51.100.2", "198.51.100.3"], ["2001:db8:2::2", "2001:db8:2::3"]];
const PORTS: [u16; 6] = [21, 22, 53, 80, 8_005, 9_000];

/// Rules of one family in four chains: most meet some of the frames.
fn some_rules(family: usize, count: usize) -> String {
    let networks = [
        [
            "192.0.2.0/24",
            "192.0.2.2/31",
            "192.0.2.2",
            "198.51.100.0/24",
            "198.51.100.3",
            "128.0.0.0/1",
        ],
        [
            "2001:db8:1::/48",
            "2001:db8:1::2/127",
            "2001:db8:1::2",
            "2001:db8:2::/48",
            "2001:db8:2::3",
            "2000::/3",
        ],
    ][family];
    let mut random = fastrand::Rng::with_seed(77);
    let mut text = String::from("*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n");
    text += ":OUTPUT ACCEPT [0:0]\n:a - [0:0]\n:b - [0:0]\n:c - [0:0]\n";
    text += "-A FORWARD -m state --state ESTABLISHED -j ACCEPT\n";
    for number in 0..count {
        let chain = ["INPUT", "FORWARD", "FORWARD", "OUTPUT", "a", "b", "c"][random.usize(..7)];
        let mut rule = format!("-A {chain}");
        for side in ["-s", "-d"] {
            if random.u8(..3) == 0 {
                let not = if random.u8(..8) == 0 { "! " } else { "" };
                write!(rule, " {not}{side} {}", random.choice(networks).expect("one"))
                    .expect("text");
            }
        }
        let port = random.choice(PORTS).expect("one");
        rule += &match random.u8(..8) {
            0 => format!(" -p tcp --dport {port}"),
            1 => format!(" -p tcp --sport {port}:{}", port + 1_000),
            2 => format!(" -p udp -m multiport --dports {port},1000:2000"),
            3 => format!(" -p tcp -m multiport ! --ports {port},60000"),
            4 => " ! -p tcp".to_owned(),
            5 => format!(" -p tcp --syn --dport {port}:65535"),
            _ => String::new(),
        };
        // Later chains only, and few verdicts: a packet is to come by many rules.
        rule += match (number % 9, chain) {
            (0, "INPUT" | "FORWARD" | "OUTPUT") => " -j a",
            (0 | 1, "a") => " -j b",
            (0, "b") => " -g c",
            (2, "a" | "b" | "c") => " -j RETURN",
            (3, _) if number > count / 2 => " -j ACCEPT",
            _ => "",
        };
        text += &rule;
        text.push('\n');
    }
    text + "COMMIT\n"
}

/// A frame of some conversation, and the port that it comes in by.
fn some_frame(random: &mut fastrand::Rng) -> (Frame, usize) {
    let (family, port) = (random.usize(..2), random.usize(..2));
    let client = random.choice(CLIENTS[family]).expect("one");
    let server = random.choice(SERVERS[family]).expect("one");
    let (ephemeral, service) = (40_000 + random.u16(..10), random.choice(PORTS).expect("one"));
    let (frame, sport, dport) = match port {
        0 => (Frame::between(client, server), ephemeral, service),
        _ => (Frame::between(server, client), service, ephemeral),
    };
    let frame = match random.u8(..6) {
        0 => frame.udp(sport, dport).payload(b"question"),
        1 => frame.protocol(if random.bool() { 50 } else { 89 }).payload(&[7; 24]),
        _ => frame.tcp(sport, dport, random.choice([SYN, SYN | ACK, ACK, ACK | PSH]).expect("one")),
    };
    (frame, port)
}

/// Runs a task with the programs in a gateway of their own.
fn with_bench(way: Way, rules: [&str; 2], task: fn(&mut Bench) -> Result<()>) -> Result<()> {
    mount_bpffs()?;
    let gateway = Gateway::new()?;
    let pins = Pins::new(format!("/sys/fs/bpf/{}", gateway.netns.name()));
    let bits = option::TCP_LOOSE | option::CHECKSUM;
    let options = Options { bits, ..Options::default() };
    let outcome = std::panic::catch_unwind(|| {
        gateway.netns.enter(|| task(&mut Bench::new(&pins, way, rules, options)?))
    });
    pins.remove()?;
    outcome.expect("no panic")
}

fn agree(way: Way) -> Result<()> {
    let rules = [0, 1].map(|family| some_rules(family, 400));
    with_bench(way, rules.each_ref().map(String::as_str), |bench| {
        const FRAMES: usize = 2_000;
        let mut random = fastrand::Rng::with_seed(2_122);
        for _ in 0..FRAMES {
            let (frame, port) = some_frame(&mut random);
            let bytes = frame.clone().macs([2, 0, 0, 0, 0, 1], bench.mac(port)).build();
            bench.compare(&frame, &bytes, port)?;
        }
        let flows = bench.compare_tables()?;
        ensure!(flows > 50, "{flows} flows");
        Ok(())
    })
}

#[test]
fn xdp_judges_by_the_index_as_the_model_does_rule_by_rule() {
    needs!(capability::firewall(), capability::program("nft"));
    agree(Way::Xdp).unwrap();
}

#[test]
fn tc_ingress_judges_by_the_index_as_the_model_does_rule_by_rule() {
    needs!(capability::firewall(), capability::program("nft"));
    agree(Way::TcIngress).unwrap();
}

#[test]
fn tc_egress_judges_by_the_index_as_the_model_does_rule_by_rule() {
    needs!(capability::firewall(), capability::program("nft"));
    agree(Way::TcEgress).unwrap();
}

/// So many rules of distinct sources and ports, behind the one for known connections;
/// the last is for the client's web.
fn distinct(count: usize) -> String {
    let mut text = String::from("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n");
    text += ":OUTPUT ACCEPT [0:0]\n-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT\n";
    for number in 0..count - 2 {
        let (a, b, port) = (number >> 8, number & 0xff, 1_024 + number);
        writeln!(text, "-A FORWARD -s 10.{a}.{b}.0/24 -p tcp --dport {port} -j ACCEPT")
            .expect("text");
    }
    text + "-A FORWARD -s 192.0.2.2 -p tcp --dport 80 -j ACCEPT\nCOMMIT\n"
}

fn frame(bench: &Bench, port: usize, frame: Frame) -> Vec<u8> {
    frame.macs([2, 0, 0, 0, 0, 1], bench.mac(port)).build()
}

fn there(dport: u16, flags: u8, seq: u32, ack: u32) -> Frame {
    Frame::between("192.0.2.2", "198.51.100.2").tcp_at(40_000, dport, flags, seq, ack)
}

fn back(flags: u8, seq: u32, ack: u32) -> Frame {
    Frame::between("198.51.100.2", "192.0.2.2").tcp_at(80, 40_000, flags, seq, ack)
}

#[test]
fn as_many_rules_as_there_may_be_are_loaded_and_judge() {
    needs!(capability::firewall(), capability::program("nft"));
    // Each family has the policies of three chains.
    let rules = distinct(RULES_PER_GENERATION as usize - 6);
    with_bench(Way::Xdp, [&rules, ""], |bench| {
        for (port, told) in [
            (0, there(80, SYN, 100, 0)),
            (1, back(SYN | ACK, 500, 101)),
            (0, there(80, ACK, 101, 501)),
            (0, there(81, SYN, 100, 0)),
        ] {
            let bytes = frame(bench, port, told.clone());
            bench.compare(&told, &bytes, port)?;
        }
        ensure!(bench.compare_tables()? == 1, "one connection");
        Ok(())
    })
    .unwrap();
}

/// What one packet costs: of a connection that the last rule lets begin, of one that no
/// rule fits, and of an established one.
type Costs = [Duration; 3];

/// The best of several runs.
fn cost(bench: &mut Bench, of: Frame) -> Result<Duration> {
    const RUNS: usize = 15;
    const TIMES: u32 = 20_000;
    let bytes = frame(bench, 0, of);
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        best = best.min(bench.cost(&bytes, 0, TIMES)?);
    }
    Ok(best)
}

fn costs(rules: usize) -> Result<Costs> {
    let text = distinct(rules);
    mount_bpffs()?;
    let gateway = Gateway::new()?;
    let pins = Pins::new(format!("/sys/fs/bpf/{}", gateway.netns.name()));
    let options = Options { bits: option::TCP_LOOSE | option::CHECKSUM, ..Options::default() };
    let outcome = gateway.netns.enter(|| {
        let mut bench = Bench::new(&pins, Way::Xdp, [&text, ""], options)?;
        let new = cost(&mut bench, there(80, SYN, 100, 0))?;
        let refused = cost(&mut bench, there(81, SYN, 100, 0))?;
        for (port, told) in [(1, back(SYN | ACK, 500, 101)), (0, there(80, ACK, 101, 501))] {
            let bytes = frame(&bench, port, told);
            bench.cost(&bytes, port, 1)?;
        }
        Ok([new, refused, cost(&mut bench, there(80, ACK, 101, 501))?])
    });
    pins.remove()?;
    outcome
}

#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn a_packet_of_a_new_flow_costs_little_more_with_ten_thousand_rules_than_with_ten() {
    needs!(capability::firewall(), capability::program("nft"));
    measure().unwrap();
}

fn measure() -> Result<()> {
    /// With the policies, one rule too few for an index.
    const PLAIN: usize = 20;
    let ns = |time: Duration| time.as_nanos() as f64;
    let mut all = Vec::new();
    for rules in [10, PLAIN, 100, 1_000, 10_000, 32_000] {
        let found = costs(rules)?;
        let [new, refused, established] = found.map(ns);
        eprintln!(
            "{rules:6} rules: new {new:.0} ns, new and refused {refused:.0} ns, established \
             {established:.0} ns"
        );
        all.push(found.map(ns));
    }
    let a_rule = (all[1][0] - all[0][0]) / (PLAIN - 10) as f64;
    eprintln!("the plain walk: {a_rule:.1} ns a rule, {:.0} ns for 10,000", a_rule * 10_000.0);
    let [few, many] = [all[0], all[4]];
    for (what, few, many) in [("new", few[0], many[0]), ("refused", few[1], many[1])] {
        ensure!(many <= 2.0 * few, "{what}: {many} ns with 10,000 rules, {few} ns with 10");
    }
    ensure!(many[2] < few[2] * 1.1, "established: {} ns and {} ns", few[2], many[2]);
    Ok(())
}

#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn ten_thousand_rules_are_applied_no_slower_than_nft_does() {
    needs!(capability::firewall(), capability::program("nft"));
    apply_beside_nft().unwrap();
}

fn apply_beside_nft() -> Result<()> {
    const RULES: usize = 10_000;
    const RUNS: usize = 5;
    let netns = Netns::new("apply")?;
    let peer = Netns::new("peer")?;
    netns.connect("eth0", &peer, "eth0")?;
    let directory = tempfile::tempdir()?;
    let [ours, theirs] = ["rules.v4", "rules.nft"].map(|name| directory.path().join(name));
    fs::write(&ours, distinct(RULES))?;
    fs::write(&theirs, in_nft(RULES))?;
    let few = distinct(10);
    let firewall = Setup::on(&["eth0"]).rules(&few).start(&netns)?;
    let mut best = [Duration::MAX; 2];
    for _ in 0..RUNS {
        let name = ours.to_string_lossy();
        best[0] = best[0].min(took(&mut firewall.command(&["apply", &name])?)?);
        let few = directory.path().join("few.v4");
        fs::write(&few, distinct(10))?;
        took(&mut firewall.command(&["apply", &few.to_string_lossy()])?)?;
        best[1] = best[1].min(took(netns.command("nft").arg("-f").arg(&theirs))?);
        took(netns.command("nft").args(["flush", "ruleset"]))?;
    }
    let [ours, theirs] = best;
    eprintln!("{RULES} rules: firewall apply {ours:?}, nft -f {theirs:?}");
    ensure!(ours <= theirs, "{ours:?} where nft takes {theirs:?}");
    Ok(())
}

fn took(command: &mut Command) -> Result<Duration> {
    let begun = Instant::now();
    command::output(command)?;
    Ok(begun.elapsed())
}

/// The rules of [`distinct`] in the language of nft.
fn in_nft(count: usize) -> String {
    let mut text = String::from("table ip bench {\n chain forward {\n");
    text += "  type filter hook forward priority 0; policy drop;\n";
    text += "  ct state established,related counter accept\n";
    for number in 0..count - 2 {
        let (a, b, port) = (number >> 8, number & 0xff, 1_024 + number);
        writeln!(text, "  ip saddr 10.{a}.{b}.0/24 tcp dport {port} counter accept").expect("text");
    }
    text + "  ip saddr 192.0.2.2 tcp dport 80 counter accept\n }\n}\n"
}
