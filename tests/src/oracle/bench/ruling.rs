//! One ruleset in two gateways: in iptables of this kernel, and in the firewall. Random
//! packets cross both; the fate of each must be the same, to the byte, and so must be every
//! rule's counter in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::IpAddr,
};

use anyhow::{Context as _, Result};

use super::{
    crossing::{Crossing, Until},
    gateway::Site,
    session::Sites,
    subject::Hook,
};
use crate::{
    Family, Firewall,
    firewall::Setup,
    oracle::place::Place,
    packet::wire::{checksum, pseudo_header, short},
    wire::End,
};

/// What the rules of a chain must say first: the bench's own datagrams always cross.
fn sentinels(chain: &str) -> String {
    format!(
        "-A {chain} -s 198.18.255.2/32 -d 198.19.255.2/32 -j ACCEPT\n\
         -A {chain} -s 198.19.255.2/32 -d 198.18.255.2/32 -j ACCEPT\n"
    )
}

/// What differed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disagreement {
    /// Packets that one of them forwarded and the other did not, in words.
    pub fates: Vec<String>,
    /// Packets that came out of both, and not the same.
    pub bytes: Vec<String>,
    /// Rules and policies: packets that iptables counted, and the firewall.
    pub counters: BTreeMap<String, [u64; 2]>,
    /// Elements of sets, with their counters, that one of them has and the other has not.
    pub elements: Vec<String>,
    /// How many of the rules iptables has counted packets at, and how many it has not.
    pub used: usize,
    pub unused: usize,
}

/// Plays so many random packets of this seed under rules of the chain FORWARD, written
/// as lines of iptables-save. What stands before a line `*filter` is of table mangle.
///
/// # Errors
/// When one of the two cannot be set up, or no longer forwards anything.
pub fn compare(
    sites: &Sites,
    hook: Hook,
    rules: &str,
    packets: usize,
    seed: u64,
) -> Result<Disagreement> {
    compare_with_sets(sites, hook, "", rules, packets, seed)
}

/// As [`compare`], with sets that both make first, written as lines of ipset; in the end
/// they must hold the same.
///
/// # Errors
/// As [`compare`].
pub fn compare_with_sets(
    sites: &Sites,
    hook: Hook,
    sets: &str,
    rules: &str,
    packets: usize,
    seed: u64,
) -> Result<Disagreement> {
    let text = ruleset(rules);
    let [kernel, ours] = sites.both();
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(sets.as_bytes())?;
    if !sets.is_empty() {
        kernel.gateway.run(&format!("ipset restore -file {}", file.path().display()))?;
    }
    load(kernel, &text).context("the rules in iptables")?;
    let firewall = Setup::on(&["eth0", "eth1"])
        .rules(&text)
        .option(&format!("--sets={}", file.path().display()))
        .option(&format!("--hook={}", hook.name()))
        .option("--ftp-ports=none")
        .start(&ours.gateway)
        .context("the rules in the firewall")?;
    let mut crossings = [Crossing::new(kernel.ports()?), Crossing::new(ours.ports()?)];
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut found = Disagreement::default();
    for number in 0..packets {
        let (from, packet) = random(&mut dice, (number % 0xffff + 1) as u16);
        let [kernel, ours] = &mut crossings;
        let arrived = [kernel, ours].map(|crossing| crossing.cross(from, &packet, Until::First));
        let [kernel, ours] = arrived;
        match [kernel?.first(), ours?.first()] {
            [Some(kernel), Some(ours)] if kernel != ours => {
                let text = format!("packet {number}: {packet:02x?}\n{kernel:02x?}\n{ours:02x?}");
                found.bytes.push(text);
            }
            [Some(_), None] => {
                found.fates.push(format!("packet {number}, only by iptables: {packet:02x?}"));
            }
            [None, Some(_)] => {
                found.fates.push(format!("packet {number}, only by the firewall: {packet:02x?}"));
            }
            _ => {}
        }
    }
    let mut counters = counters(kernel, &firewall)?;
    found.used = counters.values().filter(|[kernel, _]| *kernel > 0).count();
    found.unused = counters.len() - found.used;
    counters.retain(|_, [kernel, ours]| kernel != ours);
    found.counters = counters;
    if !sets.is_empty() {
        found.elements = differing_elements(kernel, &firewall)?;
    }
    Ok(found)
}

/// The lines of `ipset save` that only one side prints.
fn differing_elements(kernel: &Site, firewall: &Firewall<'_>) -> Result<Vec<String>> {
    let texts = [kernel.gateway.run("ipset save")?, firewall.text(&["set", "save"])?];
    let [kernel, ours] = texts
        .each_ref()
        .map(|text| text.lines().filter(|line| line.starts_with("add ")).collect::<BTreeSet<_>>());
    Ok(kernel.symmetric_difference(&ours).map(|line| (*line).to_owned()).collect())
}

fn ruleset(rules: &str) -> String {
    const MANGLE: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    const PASSED: [&str; 3] = ["PREROUTING", "FORWARD", "POSTROUTING"];
    const FILTER: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];
    match rules.split_once("*filter\n") {
        Some((mangle, filter)) => {
            table("mangle", &MANGLE, &PASSED, mangle)
                + &table("filter", &FILTER, &["FORWARD"], filter)
        }
        None => table("filter", &FILTER, &["FORWARD"], rules),
    }
}

/// A table whose sentinels cross the chains `passed`.
fn table(name: &str, chains: &[&str], passed: &[&str], rules: &str) -> String {
    let (declared, rules): (Vec<_>, Vec<_>) = rules.lines().partition(|line| line.starts_with(':'));
    let chains: String = chains.iter().map(|chain| format!(":{chain} ACCEPT [0:0]\n")).collect();
    let sentinels: String = passed.iter().map(|chain| sentinels(chain)).collect();
    let (declared, rules) = (declared.join("\n"), rules.join("\n"));
    format!("*{name}\n{chains}{declared}\n{sentinels}{rules}\nCOMMIT\n")
}

fn load(site: &Site, text: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    site.gateway.run("conntrack -F")?;
    site.gateway.run(&format!("iptables-restore {}", file.path().display())).map(drop)
}

/// The counters of all rules; those of the bench's own datagrams depend on the hour.
fn counters(kernel: &Site, firewall: &Firewall<'_>) -> Result<BTreeMap<String, [u64; 2]>> {
    let texts = [kernel.gateway.run("iptables-save -c")?, firewall.text(&["save", "-c"])?];
    let mut all: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (side, text) in texts.iter().enumerate() {
        let mut table = "";
        let mut place = 0;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                (table, place) = (name, 0);
            }
            if !line.starts_with('[') {
                continue;
            }
            place += 1;
            let (counter, rule) = line.split_once("] ").context("a rule without counters")?;
            let (packets, _) =
                counter.trim_start_matches('[').split_once(':').context("no counter")?;
            // The end of its calendar, which iptables shows where none was asked for.
            let rule = rule.replace(" --datestop 2038-01-19T03:14:07", "");
            let key = format!("{table} {place:03} {rule}");
            all.entry(key).or_default()[side] = packets.parse()?;
        }
    }
    all.retain(|rule, _| !rule.contains("255.2/32 -j ACCEPT"));
    Ok(all)
}

/// A packet of IPv4 that most rules can tell from another: one of four clients and
/// four servers, few ports, and all kinds of lengths, hops, types and options.
fn random(dice: &mut fastrand::Rng, id: u16) -> (End, Vec<u8>) {
    let from = if dice.u8(..3) == 0 { End::Server } else { End::Client };
    let place = |number| Place::numbered(Family::V4, number);
    let (client, server) = (place(dice.u16(..4)).client.ip(), place(dice.u16(..4)).server.ip());
    let (source, destination) = match from {
        End::Client => (client, server),
        End::Server => (server, client),
    };
    let ends = [octets(source), octets(destination)].concat();
    let (protocol, transport) = match dice.u8(..10) {
        0..6 => (6, tcp(dice, from, &ends)),
        6..9 => (17, udp(dice, from, &ends)),
        _ => (1, ping(dice, from)),
    };
    (from, ipv4(dice, id, protocol, &ends, &transport))
}

fn octets(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => unreachable!("the places are of IPv4"),
    }
}

fn one<T: Copy>(dice: &mut fastrand::Rng, of: &[T]) -> T {
    of[dice.usize(..of.len())]
}

fn ipv4(dice: &mut fastrand::Rng, id: u16, protocol: u8, ends: &[u8], transport: &[u8]) -> Vec<u8> {
    let [high, low] = short(20 + transport.len()).to_be_bytes();
    let [id_high, id_low] = id.to_be_bytes();
    let tos = one(dice, &[0, 0x10, 0x08, 0x28, 0xb8, 0xc0]);
    let ttl = one(dice, &[2, 3, 5, 6, 7, 64, 64, 255]);
    let head = [0x45, tos, high, low, id_high, id_low, 0x40, 0, ttl, protocol, 0, 0];
    let mut header = [&head[..], ends].concat();
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, transport.to_vec()].concat()
}

/// The ports of a packet: the service's on the server's side.
fn ports(dice: &mut fastrand::Rng, from: End) -> Vec<u8> {
    let client = one(dice, &[1_024_u16, 40_000, 40_001]).to_be_bytes();
    let server = one(dice, &[21_u16, 22, 53, 80]).to_be_bytes();
    match from {
        End::Client => [client, server].concat(),
        End::Server => [server, client].concat(),
    }
}

fn tcp(dice: &mut fastrand::Rng, from: End, ends: &[u8]) -> Vec<u8> {
    const OPTIONS: [&[u8]; 6] = [
        &[],
        &[2, 4, 5, 180],
        &[2, 4, 2, 24, 1, 3, 3, 7],
        &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
        &[4, 2, 1, 0],
        &[254, 4, 0, 0],
    ];
    let flags = match from {
        End::Client => one(dice, &[0x02, 0x02, 0x10, 0x18, 0x04]),
        End::Server => one(dice, &[0x12, 0x10]),
    };
    let options = one(dice, &OPTIONS);
    let payload = if flags == 0x02 { 0 } else { dice.usize(..80) };
    let offset = u8::try_from((20 + options.len()) / 4).expect("a short header") << 4;
    let head = [0, 0, 3, 232, 0, 0, 0, 1, offset, flags, 0x80, 0, 0, 0, 0, 0];
    let bytes = [&ports(dice, from)[..], &head, options, &vec![0; payload]].concat();
    with_sum(bytes, 16, 6, ends)
}

fn udp(dice: &mut fastrand::Rng, from: End, ends: &[u8]) -> Vec<u8> {
    let payload = vec![7; dice.usize(..120)];
    let length = short(8 + payload.len()).to_be_bytes();
    let bytes = [&ports(dice, from)[..], &length, &[0, 0], &payload].concat();
    with_sum(bytes, 6, 17, ends)
}

fn ping(dice: &mut fastrand::Rng, from: End) -> Vec<u8> {
    let kind = if from == End::Client { 8 } else { 0 };
    let mut bytes = vec![kind, 0, 0, 0, 0, dice.u8(..2), 0, 1];
    let sum = checksum(&[&bytes]);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn with_sum(mut bytes: Vec<u8>, at: usize, protocol: u8, ends: &[u8]) -> Vec<u8> {
    let pseudo = pseudo_header(protocol, ends, bytes.len());
    let sum = checksum(&[&pseudo, &bytes]);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}
