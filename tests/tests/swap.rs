//! Rules are replaced under load, again and again: no packet is lost, none is judged by
//! a mixture of two rulesets, and a rule that stays counts every packet.
//!
//! ```text
//! client: a flow as fast as it arrives         ─┐
//! client: a new TCP connection a millisecond  ─┴─ gateway ── server
//!                                                  rules A, B, A, B …
//! ```
//!
//! Both rulesets let all of it pass. Read together they would not: what one of them
//! accepts with stands where the other drops, be it a chain's place, a list of ports, an
//! interface's bit or a condition.
//!
//! The flow is read from packet sockets: UDP sockets of a busy machine keep datagrams back.
//!
//! So are whole worlds: the rules of both families and the sets that they ask. With the sets
//! of the other world each of them would drop what it lets pass with its own.
//!
//! `FIREWALL_SWAPS=1000` says how often.

use std::{
    env, io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::addr::Family;
use firewall_tests::{
    Family::{V4, V6},
    Firewall, Gateway, Offload, capability,
    firewall::Setup,
    needs,
    packet::Packet,
    wait,
    wire::{End, Wires, quiet_gateway},
};
use firewall_user::{
    kernel::{maps::Maps, pins::Pins},
    rules::{BuiltinServices, Ruleset, TableName, parse},
    ruleset::{Edit, Shelf},
    sets::File,
};

const A: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:early - [0:0]
:late - [0:0]
-A FORWARD
-A FORWARD -i eth8 -j late
-A FORWARD -p udp -m multiport --ports 6000,6001 -j late
-A FORWARD -m length --length 0:19 -j late
-A FORWARD -i eth0 -o eth1 -p udp -m multiport --dports 5000,5002 -m length --length 20:65535 -j early
-A FORWARD -i eth1 -o eth0 -p udp -m multiport --sports 5000,5002 -j early
-A FORWARD -p tcp -j early
-A early -j ACCEPT
-A late -j DROP
COMMIT
";

const B: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:early - [0:0]
:late - [0:0]
-A FORWARD
-A FORWARD -i eth0 -p udp -m multiport --ports 5000,5003 -m length --length 20:65535 -j late
-A FORWARD -i eth1 -p udp -m multiport --ports 5000,5003 -j late
-A FORWARD -p udp -m multiport --dports 7000,7001 -j early
-A FORWARD -o eth8 -j early
-A FORWARD -p tcp -m length --length 20:65535 -j late
-A FORWARD -m length --length 0:19 -j early
-A early -j DROP
-A late -j ACCEPT
COMMIT
";

/// In the ordinary run.
const SWAPS: u32 = 200;
/// Datagrams on their way at once.
const WINDOW: u64 = 16;
/// The flow's port.
const SERVICE: u16 = 5_000;
const ACCEPT: &str = "198.51.100.2:5001";

/// What passed.
#[derive(Debug, Default)]
struct Load {
    has_ended: AtomicBool,
    datagrams: AtomicU64,
    connections: AtomicU64,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.has_ended.load(Ordering::Relaxed)
    }

    /// Sends numbered datagrams from the client as fast as they arrive, then others back;
    /// each must.
    fn flow(&self, wires: &Wires, families: &[firewall_tests::Family]) -> Result<()> {
        for (round, family) in (0u64..).zip(families.iter().cycle()) {
            if !self.goes_on() {
                break;
            }
            let (client, server) =
                (wires.client.endpoint(*family, 40_000), wires.server.endpoint(*family, SERVICE));
            for (from, source, destination) in
                [(End::Client, client, server), (End::Server, server, client)]
            {
                let packet = |number: u64| {
                    let payload = (round * WINDOW + number).to_be_bytes();
                    Packet::udp(source, destination, &payload)
                };
                window(wires, from, (0..WINDOW).map(packet).collect())?;
                self.datagrams.fetch_add(WINDOW, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// A connection each millisecond; each must be made.
    fn newcomers(&self, connect: impl Fn(SocketAddr) -> io::Result<TcpStream>) -> Result<()> {
        let server = ACCEPT.parse()?;
        let mut next = Instant::now();
        while self.goes_on() {
            let number = self.connections.fetch_add(1, Ordering::Relaxed);
            connect(server).with_context(|| format!("connection {number}"))?;
            next += Duration::from_millis(1);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }
}

/// All of them arrive at the other end, whichever first.
fn window(wires: &Wires, from: End, mut missing: Vec<Packet>) -> Result<()> {
    missing.iter().try_for_each(|packet| wires.at(from).send(packet))?;
    let start = Instant::now();
    while !missing.is_empty() {
        ensure!(start.elapsed() < wait::DEADLINE, "lost: {missing:?}");
        for seen in wires.at(from.other()).pending() {
            missing.retain(|packet| *packet != seen.packet);
        }
        thread::yield_now();
    }
    Ok(())
}

fn accept(listener: &TcpListener, load: &Load) {
    while load.goes_on() {
        if listener.accept().is_err() {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// The rule without a condition, which both rulesets begin with, stays as it is.
fn swap(maps: &Maps, wanted: &str) -> Result<()> {
    let _lock = maps.pins().lock_ruleset()?;
    let edit = Edit::begin(maps)?;
    let mut rules = parse("swapped", wanted, Family::Ipv4, &BuiltinServices)?;
    let stays = forward(edit.before().family(Family::Ipv4)).context("the rules")?.clone();
    let first = rules.table_mut(TableName::Filter).chain_mut("FORWARD").context("FORWARD")?;
    first.rules[0] = stays;
    let after = edit.before().clone().with_counted(rules);
    edit.finish(&after)
}

fn forward(rules: &Ruleset) -> Option<&firewall_user::rules::Rule> {
    rules.table(TableName::Filter)?.chain("FORWARD")?.rules.first()
}

/// What the rule without a condition has counted.
fn counted(firewall: &Firewall<'_>) -> Result<u64> {
    first_of(&firewall.text(&["save", "-c"])?)
}

fn first_of(saved: &str) -> Result<u64> {
    let line = saved.lines().find(|line| line.ends_with("] -A FORWARD")).context("the rule")?;
    let packets = line.trim_start_matches('[').split(':').next().context("a counter")?;
    Ok(packets.parse()?)
}

fn dropped(firewall: &Firewall<'_>) -> Result<Vec<(&'static str, u64)>> {
    let of = |name| Ok((name, firewall.stat(name)?));
    ["rule", "policy", "reject", "ruleset-broken", "table-full"].into_iter().map(of).collect()
}

#[test]
fn no_packet_is_lost_or_judged_by_two_rulesets() {
    needs!(capability::firewall());
    under_load().unwrap();
}

fn under_load() -> Result<()> {
    let (network, wires) = quiet_gateway()?;
    network.client.set("ipv4/ip_local_port_range", "1024 65535")?;
    let firewall = Setup::on(&["eth0", "eth1"]).rules(A).start(network.gateway())?;
    let maps = Maps::open(&Pins::new(firewall.pin()))?;
    let swaps = env::var("FIREWALL_SWAPS").ok().and_then(|it| it.parse().ok()).unwrap_or(SWAPS);

    let listener = network.server.enter(|| TcpListener::bind(ACCEPT))?;
    listener.set_nonblocking(true)?;

    let (load, before) = (Load::default(), dropped(&firewall)?);
    let connect = |server| TcpStream::connect_timeout(&server, wait::DEADLINE);
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| accept(&listener, &load));
        let flow = scope.spawn(|| load.flow(&wires, &[V4]));
        let newcomers = scope.spawn(|| network.client.enter(|| load.newcomers(connect)));
        let swapped = (0..swaps).try_for_each(|number| {
            swap(&maps, if number % 2 == 0 { B } else { A })?;
            // Packets pass under each of them.
            let passed = load.datagrams.load(Ordering::Relaxed);
            wait::until_true("a packet under these rules", || {
                load.datagrams.load(Ordering::Relaxed) > passed
                    || flow.is_finished()
                    || newcomers.is_finished()
            })
        });
        load.has_ended.store(true, Ordering::Relaxed);
        let flow = flow.join().expect("the flow's thread");
        let newcomers = newcomers.join().expect("the newcomers' thread");
        flow.context("the flow").and(newcomers.context("new connections")).and(swapped)
    })
    .with_context(|| format!("{:?}\n{}", firewall.cli(&["stats"]), firewall.said()))?;
    let after = dropped(&firewall)?;
    ensure!(before == after, "dropped: {before:?}, then {after:?}");
    println!("{swaps} swaps: {load:?}");

    // The last of them close their connections still.
    let mut last = [0, 1];
    wait::until_true("every packet to be counted", || {
        let Ok(counts) =
            counted(&firewall).and_then(|it| Ok([it, firewall.stat("accept-forward")?]))
        else {
            return false;
        };
        last = counts;
        counts[0] == counts[1]
    })
    .with_context(|| format!("counted by the rule and by the programs: {last:?}"))
}

mod worlds {
    use super::*;

    /// Only what is in the sets passes.
    const LISTED: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD
-A FORWARD -m set --match-set here src -m set --match-set ports dst -j ACCEPT
-A FORWARD -m set --match-set here dst -j ACCEPT
COMMIT
";
    /// Only what is in none of them passes.
    const UNLISTED: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD
-A FORWARD -m set --match-set here src -j DROP
-A FORWARD -m set --match-set here dst -j DROP
-A FORWARD -m set --match-set ports src -j DROP
-A FORWARD -p udp -m set ! --match-set ports dst -j ACCEPT
COMMIT
";
    /// `here` is a list, whose members change with it.
    const CLIENTS: &str = "\
create four hash:net
add four 192.0.2.0/24
create six hash:net family inet6
add six 2001:db8:1::/64
create here list:set
add here four
add here six
create ports bitmap:port range 0-65535
add ports 5000
create same hash:ip
add same 192.0.2.1
";
    const NOBODY: &str = "\
create four hash:net
add four 203.0.113.0/24
create six hash:net family inet6
create here list:set
add here four
add here six
create ports bitmap:port range 0-65535
add ports 5001
create same hash:ip
add same 192.0.2.1
";

    fn listed() -> [String; 3] {
        [LISTED, LISTED, CLIENTS].map(str::to_owned)
    }

    fn unlisted() -> [String; 3] {
        [UNLISTED, UNLISTED, NOBODY].map(str::to_owned)
    }

    fn swap(maps: &Maps, [v4, v6, sets]: &[String; 3]) -> Result<()> {
        let _lock = maps.pins().lock_ruleset()?;
        let edit = Edit::begin(maps)?;
        let mut after = edit.before().clone();
        for (family, text) in [(Family::Ipv4, v4), (Family::Ipv6, v6)] {
            let mut rules = parse("swapped", text, family, &BuiltinServices)?;
            let stays = forward(edit.before().family(family)).context("the rules")?.clone();
            let first = rules.table_mut(TableName::Filter).chain_mut("FORWARD");
            first.context("FORWARD")?.rules[0] = stays;
            after = after.with_counted(rules);
        }
        let file = File { name: "sets".into(), text: sets.clone() };
        edit.install(&after, Shelf::take(maps, Some(&file))?, None).map(drop)
    }

    fn counted(firewall: &Firewall<'_>) -> Result<u64> {
        let v6 = first_of(&firewall.text(&["save", "-c", "--ipv6"])?)?;
        Ok(super::counted(firewall)? + v6)
    }

    #[test]
    fn of_rules_and_sets_come_as_one() {
        needs!(capability::firewall());
        under_load().unwrap();
    }

    fn under_load() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let [v4, v6, sets] = listed();
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), &sets)?;
        let firewall = Setup::on(&["eth0", "eth1"])
            .rules(&v4)
            .rules6(&v6)
            .option(&format!("--sets={}", file.path().display()))
            .start(network.gateway())?;
        let maps = Maps::open(&Pins::new(firewall.pin()))?;
        let swaps = env::var("FIREWALL_SWAPS").ok().and_then(|it| it.parse().ok());
        let swaps: u32 = swaps.unwrap_or(SWAPS / 4);

        let (load, before) = (Load::default(), dropped(&firewall)?);
        thread::scope(|scope| -> Result<()> {
            let flow = scope.spawn(|| load.flow(&wires, &[V4, V6]));
            let swapped = (0..swaps).try_for_each(|number| {
                swap(&maps, &if number % 2 == 0 { unlisted() } else { listed() })?;
                // Packets of both families pass in each of them.
                let passed = load.datagrams.load(Ordering::Relaxed) + 4 * WINDOW;
                wait::until_true("packets in this world", || {
                    load.datagrams.load(Ordering::Relaxed) > passed || flow.is_finished()
                })
            });
            load.has_ended.store(true, Ordering::Relaxed);
            flow.join().expect("the flow's thread").context("the flow").and(swapped)
        })
        .with_context(|| format!("{:?}\n{}", firewall.cli(&["stats"]), firewall.said()))?;
        let after = dropped(&firewall)?;
        ensure!(before == after, "dropped: {before:?}, then {after:?}");
        let counts = [counted(&firewall)?, firewall.stat("accept-forward")?];
        ensure!(counts[0] == counts[1], "counted by the rule and by the programs: {counts:?}");
        println!("{swaps} worlds: {load:?}");

        // Of each set one is left, and nothing of the worlds before.
        let left = firewall.text(&["set", "list", "--names"])?;
        let mut left: Vec<_> = left.lines().collect();
        left.sort_unstable();
        ensure!(left == ["four", "here", "ports", "same", "six"], "left: {left:?}");
        mixture(&maps, &wires, &firewall)
    }

    /// The proof that the load could tell: each world with the sets of the other drops.
    fn mixture(maps: &Maps, wires: &Wires, firewall: &Firewall<'_>) -> Result<()> {
        let ([a4, a6, a], [b4, b6, b]) = (listed(), unlisted());
        for (world, number) in [([a4, a6, b], 6_100), ([b4, b6, a], 6_200)] {
            swap(maps, &world)?;
            for family in [V4, V6] {
                let (client, server) =
                    (wires.client.endpoint(family, number), wires.server.endpoint(family, SERVICE));
                let packet = Packet::udp(client, server, b"mixed");
                let before = dropped(firewall)?;
                wires.at(End::Client).send(&packet)?;
                wait::until_true("a drop", || dropped(firewall).is_ok_and(|now| now != before))?;
            }
        }
        Ok(())
    }
}
