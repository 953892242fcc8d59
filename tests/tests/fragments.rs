//! Datagrams that no link takes in one piece: what belongs to an accepted first
//! fragment passes, and nothing else does.

use std::{
    net::{SocketAddr, UdpSocket},
    ops::Range,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::{control::Timeouts, time::Nanos};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    firewall::Setup,
    ledger::Ledger,
    needs,
    packet::{Packet, Segment, flag},
    wait,
    wire::{self, Wire, Wires},
};
use firewall_user::kernel::{maps::Maps, pins::Pins};

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -p udp --dport 7777 -m state --state NEW -j ACCEPT
COMMIT
";

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn start(network: &Gateway) -> Result<Firewall<'_>> {
    Setup::on(&["eth0", "eth1"]).both(RULES).start(network.gateway())
}

mod a_datagram_of_4000_bytes {
    use super::*;

    #[test]
    fn crosses_there_and_back_whatever_the_flow_has_seen() {
        needs!(capability::firewall());
        for offload in [Offload::Tuned, Offload::Default] {
            let network = Gateway::new(offload).unwrap();
            let setup = Setup::on(&["eth0", "eth1"]).both(RULES).option("--hook=xdp");
            let _firewall = setup.start(network.gateway()).unwrap();
            there_and_back(&network).unwrap();
        }
    }

    #[test]
    fn crosses_a_link_without_ethernet() {
        needs!(capability::firewall(), capability::tun());
        for end in [wire::End::Client, wire::End::Server] {
            let network = Gateway::with_tun(end).unwrap();
            let _firewall = start(&network).unwrap();
            there_and_back(&network).unwrap();
        }
    }

    fn there_and_back(network: &Gateway) -> Result<()> {
        for family in FAMILIES {
            let client = socket(network, End::Client, family)?;
            let server = socket(network, End::Server, family)?;
            for round in 0..4_u8 {
                let what = format!("{family:?}, round {round}");
                let question = [round; 4_000];
                client.send_to(&question, server.local_addr()?)?;
                let from = receive(&server, &question).with_context(|| format!("to, {what}"))?;
                let answer = [round + 100; 4_000];
                server.send_to(&answer, from)?;
                receive(&client, &answer).with_context(|| format!("back, {what}"))?;
            }
        }
        Ok(())
    }

    #[test]
    fn that_no_rule_admits_is_dropped_with_all_its_fragments() {
        needs!(capability::firewall());
        unwanted().unwrap();
    }

    fn unwanted() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network)?;
        for family in FAMILIES {
            let before = [firewall.stat("policy")?, firewall.stat("fragment-unknown")?];
            let client = socket(&network, End::Client, family)?;
            let elsewhere = SocketAddr::new(network.server_address(family), 7778);
            client.send_to(&[1; 4_000], elsewhere)?;
            dropped_since(&firewall, "policy", before[0], 1)?;
            dropped_since(&firewall, "fragment-unknown", before[1], 2)?;
        }
        Ok(())
    }
}

/// What becomes of the fragments of one datagram to UDP port 7777, whatever hook
/// they are judged at.
mod fragments_that_come {
    use super::*;

    const SCENARIOS: [(&str, Scenario); 5] = [
        ("in any order", in_any_order_arrive_as_one_datagram_and_count_once),
        ("too early", too_early_leave_in_the_order_in_which_they_came),
        ("before one that is dropped", before_a_first_one_that_is_dropped_are_dropped_with_it),
        ("without a first one", without_a_first_one_are_dropped_when_their_time_is_over),
        ("too small", too_small_for_a_header_are_dropped_with_all_that_belong_to_them),
    ];

    #[test]
    fn by_xdp_are_judged_as_their_first_one_is() {
        needs!(capability::firewall());
        in_every_scenario(Way::Xdp, &SCENARIOS).unwrap();
    }

    #[test]
    fn by_generic_xdp_are_judged_as_their_first_one_is() {
        needs!(capability::firewall());
        in_every_scenario(Way::Generic, &SCENARIOS).unwrap();
    }

    #[test]
    fn by_tc_are_judged_as_their_first_one_is() {
        needs!(capability::firewall());
        in_every_scenario(Way::Tc, &SCENARIOS).unwrap();
    }

    #[test]
    fn by_a_device_without_ethernet_are_judged_as_their_first_one_is() {
        needs!(capability::firewall(), capability::tun());
        for end in [wire::End::Client, wire::End::Server] {
            in_every_scenario(Way::Tun(end), &SCENARIOS).unwrap();
        }
    }

    #[test]
    fn by_an_interface_that_is_not_ours_are_judged_when_they_leave() {
        needs!(capability::firewall());
        in_every_scenario(Way::Egress, &SCENARIOS).unwrap();
    }

    fn in_any_order_arrive_as_one_datagram_and_count_once(bench: &Bench<'_>) -> Result<()> {
        let orders: [&[usize]; 6] = [
            &[0, 1, 2, 3],
            &[1, 0, 2, 3],
            &[3, 2, 1, 0],
            &[2, 3, 0, 1],
            &[1, 2, 3, 0],
            &[3, 0, 2, 1],
        ];
        for (id, order) in (100..).zip(orders) {
            let early = order.iter().take_while(|piece| **piece != 0).count() as u64;
            let before = Ledger::read(bench.firewall)?;
            let held = bench.firewall.stat("fragments-held")?;
            for piece in order {
                bench.send(id, PIECES[*piece].clone())?;
            }
            bench.arrives().with_context(|| format!("{order:?}"))?;
            let moved = Ledger::read(bench.firewall)?.since(&before);
            let accepted = moved.accepted.get("accept-forward").copied();
            ensure!(accepted == Some(4) && moved.drops() == 0, "{order:?}: {moved:#?}");
            ensure!(moved.rule("--state NEW -j ACCEPT") == 4, "{order:?}: {moved:#?}");
            let held = bench.firewall.stat("fragments-held")? - held;
            ensure!(held == early, "{order:?}: {held} were held");
        }
        Ok(())
    }

    fn too_early_leave_in_the_order_in_which_they_came(bench: &Bench<'_>) -> Result<()> {
        let ghost = bench.wires.server.endpoint(bench.family, 7777);
        let datagram = Packet::udp(bench.client(), ghost, &[7; LENGTH - 8]);
        for piece in [2, 3, 1, 0] {
            let range = PIECES[piece].clone();
            bench.wires.client.send_ip(&datagram.fragment(200, range))?;
        }
        let mut offsets = Vec::new();
        wait::until_true("four fragments", || {
            offsets.extend(bench.wires.server.frames().filter_map(|frame| offset(&frame)));
            offsets.len() >= 4
        })?;
        let expected = [0, 2, 3, 1].map(|piece: usize| PIECES[piece].start);
        ensure!(offsets == expected, "{offsets:?}, not {expected:?}");
        Ok(())
    }

    /// Of a fragment in an Ethernet frame, in bytes.
    fn offset(frame: &[u8]) -> Option<usize> {
        let field = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        match field(12)? {
            0x0800 => Some(usize::from(field(20)? & 0x1fff) * 8),
            0x86dd if frame.get(20) == Some(&44) => Some(usize::from(field(56)? & 0xfff8)),
            _ => None,
        }
    }

    fn before_a_first_one_that_is_dropped_are_dropped_with_it(bench: &Bench<'_>) -> Result<()> {
        let elsewhere = SocketAddr::new(bench.datagram.destination.ip(), 7778);
        let unwanted = Packet::udp(bench.client(), elsewhere, &[7; LENGTH - 8]);
        let before = Ledger::read(bench.firewall)?;
        for piece in [3, 1, 0, 2] {
            bench.wires.client.send_ip(&unwanted.fragment(300, PIECES[piece].clone()))?;
        }
        // Long before their time is over.
        wait::until_true("every fragment to be dropped", || {
            Ledger::read(bench.firewall).is_ok_and(|now| now.since(&before).drops() == 4)
        })?;
        let moved = Ledger::read(bench.firewall)?.since(&before);
        let reasons = [("fragment-unknown".to_owned(), 3), ("policy".to_owned(), 1)];
        ensure!(moved.dropped == reasons.into(), "{moved:#?}");
        Ok(())
    }

    fn without_a_first_one_are_dropped_when_their_time_is_over(bench: &Bench<'_>) -> Result<()> {
        let maps = Maps::open(&Pins::new(bench.firewall.pin()))?;
        let patience = Nanos::from_millis(1_500);
        maps.set_timeouts(Timeouts { fragment: patience, ..Timeouts::DEFAULT })?;
        let before =
            [bench.firewall.stat("fragment-unknown")?, bench.firewall.stat("fragments-held")?];
        let start = Instant::now();
        bench.send(400, PIECES[1].clone())?;
        // That of another datagram does not speak for it.
        bench.send(401, PIECES[0].clone())?;
        bench.send(400, PIECES[2].clone())?;
        dropped_since(bench.firewall, "fragment-unknown", before[0], 2)?;
        ensure!(start.elapsed() >= Duration::from_secs(1), "after {:?}", start.elapsed());
        ensure!(bench.firewall.stat("fragments-held")? == before[1] + 2, "they were not held");
        maps.set_timeouts(Timeouts::DEFAULT)?;
        // Its sender may try again.
        for piece in [3, 2, 1, 0] {
            bench.send(400, PIECES[piece].clone())?;
        }
        bench.arrives()
    }

    #[test]
    fn too_early_are_dropped_while_the_daemon_is_away_and_wait_for_the_next_one() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        daemon_away(&network).unwrap();
    }

    fn daemon_away(network: &Gateway) -> Result<()> {
        let wires = Wires::across(network)?;
        let mut firewall = start(network)?;
        firewall.kill();
        let unknown = firewall.stat("fragment-unknown")?;
        let bench = Bench::new(&firewall, network, &wires, Family::V4)?;
        wait::until_true("the datapath to miss the daemon", || {
            let sent = bench.send(500, PIECES[1].clone());
            sent.is_ok() && firewall.stat("fragment-unknown").is_ok_and(|now| now > unknown)
        })?;
        drop(bench);
        firewall.restart()?;
        let bench = Bench::new(&firewall, network, &wires, Family::V4)?;
        for piece in [1, 2, 3, 0] {
            bench.send(501, PIECES[piece].clone())?;
        }
        bench.arrives()
    }

    fn too_small_for_a_header_are_dropped_with_all_that_belong_to_them(
        bench: &Bench<'_>,
    ) -> Result<()> {
        let to = bench.datagram.destination;
        let segment = Segment { flags: flag::SYN, payload: vec![7; 100], ..Segment::default() };
        let datagram = Packet::tcp(bench.client(), to, segment);
        let before = Ledger::read(bench.firewall)?;
        for range in [8..16, 0..8, 16..120] {
            bench.wires.client.send_ip(&datagram.fragment(600, range))?;
        }
        wait::until_true("every fragment to be dropped", || {
            Ledger::read(bench.firewall).is_ok_and(|now| now.since(&before).drops() == 3)
        })?;
        let moved = Ledger::read(bench.firewall)?.since(&before);
        let reasons = [("fragment-tiny".to_owned(), 1), ("fragment-unknown".to_owned(), 2)];
        ensure!(moved.dropped == reasons.into(), "{moved:#?}");
        Ok(())
    }
}

/// The kernel's reassembly is the measure: a set of fragments that it puts together
/// arrives through the firewall, and no other one does.
mod the_receiver_gets {
    use super::*;

    /// Pieces of one datagram, in bytes, in the order in which they are sent.
    const SETS: [&[Range<usize>]; 12] = [
        &[0..64, 64..128, 128..LENGTH],
        &[128..LENGTH, 64..128, 0..64],
        &[0..64, 128..LENGTH, 64..128],
        // Duplicates.
        &[0..64, 0..64, 64..128, 64..128, 128..LENGTH],
        &[64..128, 64..128, 0..64, 128..LENGTH],
        &[0..64, 64..128, 72..120, 128..LENGTH],
        // Overlaps.
        &[0..64, 56..128, 128..LENGTH],
        &[0..64, 8..72, 64..LENGTH],
        &[56..128, 0..64, 128..LENGTH],
        &[0..64, 64..128, 120..LENGTH],
        &[0..64, 128..LENGTH, 64..136],
        // Gaps.
        &[0..64, 128..LENGTH],
    ];

    #[test]
    fn what_the_kernel_puts_together() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let wires = Wires::across(&network).unwrap();
        let expected = FAMILIES.map(|family| outcomes(&network, &wires, family).unwrap());
        assert!(expected.iter().all(|all| all.contains(&true) && all.contains(&false)));
        for way in Way::ETHERNET {
            let _firewall = way.start(&network).unwrap();
            let through = FAMILIES.map(|family| outcomes(&network, &wires, family).unwrap());
            assert_eq!(through, expected, "{way:?}");
        }
    }

    /// Whether each set arrives as a whole: a datagram that follows tells, which has
    /// to wait behind what waits of the set.
    fn outcomes(network: &Gateway, wires: &Wires, family: Family) -> Result<Vec<bool>> {
        let server = socket(network, End::Server, family)?;
        let to = server.local_addr()?;
        let datagram = Packet::udp(wires.client.endpoint(family, 40_000), to, &[7; LENGTH - 8]);
        let [whole, last] = [[7; LENGTH - 8], [9; LENGTH - 8]];
        let end = Packet::udp(wires.client.endpoint(family, 40_000), to, &last);
        let mut outcomes = Vec::new();
        for set in SETS {
            let id = next_id();
            for range in set {
                wires.client.send_ip(&datagram.fragment(id, range.clone()))?;
            }
            let id = next_id();
            for range in [64..LENGTH, 0..64] {
                wires.client.send_ip(&end.fragment(id, range))?;
            }
            let mut has_arrived = false;
            loop {
                let mut buffer = [0; 8_000];
                let length = server.recv(&mut buffer).context("the end did not arrive")?;
                if buffer[..length] == last {
                    break;
                }
                has_arrived |= buffer[..length] == whole;
            }
            outcomes.push(has_arrived);
        }
        Ok(outcomes)
    }

    /// No two datagrams of this process have the same.
    fn next_id() -> u16 {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

mod a_flood_of_later_fragments {
    use super::*;

    #[test]
    fn leaves_space_for_those_of_others() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        flood(&network).unwrap();
    }

    fn flood(network: &Gateway) -> Result<()> {
        let wires = Wires::across(network)?;
        let firewall = start(network)?;
        let bench = Bench::new(&firewall, network, &wires, Family::V4)?;
        let attacker = SocketAddr::from(([192, 0, 2, 99], 40_000));
        let datagram = Packet::udp(attacker, bench.datagram.destination, &[7; LENGTH - 8]);
        let before = Ledger::read(&firewall)?;
        let held = firewall.stat("fragments-held")?;
        for id in 0..3_000 {
            wires.client.send_ip(&datagram.fragment(id, PIECES[1].clone()))?;
        }
        for piece in [3, 2, 1, 0] {
            bench.send(1, PIECES[piece].clone())?;
        }
        bench.arrives()?;
        let moved = Ledger::read(&firewall)?.since(&before);
        let overflow = moved.dropped.get("fragment-overflow").copied().unwrap_or(0);
        let held = firewall.stat("fragments-held")? - held;
        // Of one source 256 datagrams wait; each of the others was dropped.
        ensure!(held == 3_003 && overflow == 3_000 - 256, "{held} held, {moved:#?}");
        Ok(())
    }
}

/// Of the gateway itself: judged by OUTPUT when they leave.
mod own_fragments_that_leave {
    use super::*;

    #[test]
    fn out_of_order_arrive_as_one_datagram() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        own(&network).unwrap();
    }

    fn own(network: &Gateway) -> Result<()> {
        let firewall = start(network)?;
        let wire = Wire::opposite(network.gateway(), "eth1", &network.server, "eth0")?;
        for (family, own) in FAMILIES.into_iter().zip(["198.51.100.1", "2001:db8:2::1"]) {
            let server = socket(network, End::Server, family)?;
            let own = SocketAddr::new(own.parse()?, 40_000);
            let datagram = Packet::udp(own, server.local_addr()?, &[7; LENGTH - 8]);
            let before = Ledger::read(&firewall)?;
            for piece in [2, 1, 0, 3] {
                wire.send_ip(&datagram.fragment(700, PIECES[piece].clone()))?;
            }
            receive(&server, &[7; LENGTH - 8]).with_context(|| format!("{family:?}"))?;
            let moved = Ledger::read(&firewall)?.since(&before);
            let accepted = moved.accepted.get("accept-output").copied();
            ensure!(accepted >= Some(4) && moved.drops() == 0, "{family:?}: {moved:#?}");
        }
        Ok(())
    }
}

/// Where what comes from the client is judged.
#[derive(Clone, Copy, Debug)]
enum Way {
    Xdp,
    Generic,
    Tc,
    /// Only the server's side is ours: when it leaves.
    Egress,
    /// In or out by a device without Ethernet header, at one side.
    Tun(wire::End),
}

impl Way {
    const ETHERNET: [Self; 4] = [Self::Xdp, Self::Generic, Self::Tc, Self::Egress];

    fn start(self, network: &Gateway) -> Result<Firewall<'_>> {
        let both = |hook| Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
        let setup = match self {
            Self::Xdp => both("xdp"),
            Self::Generic => both("xdp-generic"),
            Self::Tc => both("tc"),
            Self::Egress => Setup::on(&["eth1"]),
            Self::Tun(_) => Setup::on(&["eth0", "eth1"]),
        };
        setup.both(RULES).start(network.gateway())
    }
}

/// Of the UDP header and payload.
const LENGTH: usize = 8 + 200;
const PIECES: [Range<usize>; 4] = [0..64, 64..128, 128..192, 192..LENGTH];

/// A ghost that sends pieces of one datagram to a socket of the server.
struct Bench<'a> {
    firewall: &'a Firewall<'a>,
    wires: &'a Wires,
    family: Family,
    server: UdpSocket,
    datagram: Packet,
}

type Scenario = fn(&Bench<'_>) -> Result<()>;

/// In each family.
fn in_every_scenario(way: Way, scenarios: &[(&str, Scenario)]) -> Result<()> {
    let network = match way {
        Way::Tun(end) => Gateway::with_tun(end)?,
        _ => Gateway::new(Offload::Tuned)?,
    };
    let wires = Wires::across(&network)?;
    let firewall = way.start(&network)?;
    for family in FAMILIES {
        let bench = Bench::new(&firewall, &network, &wires, family)?;
        for (name, scenario) in scenarios {
            scenario(&bench).with_context(|| format!("{name}, {family:?}"))?;
        }
    }
    Ok(())
}

impl<'a> Bench<'a> {
    fn new(
        firewall: &'a Firewall<'a>,
        network: &Gateway,
        wires: &'a Wires,
        family: Family,
    ) -> Result<Self> {
        let server = socket(network, End::Server, family)?;
        let client = wires.client.endpoint(family, 40_000);
        let datagram = Packet::udp(client, server.local_addr()?, &[7; LENGTH - 8]);
        Ok(Self { firewall, wires, family, server, datagram })
    }

    fn client(&self) -> SocketAddr {
        self.datagram.source
    }

    fn send(&self, identification: u16, bytes: Range<usize>) -> Result<()> {
        self.wires.client.send_ip(&self.datagram.fragment(identification, bytes))
    }

    fn arrives(&self) -> Result<()> {
        receive(&self.server, &[7; LENGTH - 8]).map(drop)
    }
}

#[derive(Clone, Copy)]
enum End {
    Client,
    Server,
}

/// At port 7777 of a box.
fn socket(network: &Gateway, end: End, family: Family) -> Result<UdpSocket> {
    let (netns, address) = match end {
        End::Client => (&network.client, network.client_address(family)),
        End::Server => (&network.server, network.server_address(family)),
    };
    // A process that another test is just starting may still hold the one before.
    let bind = || UdpSocket::bind(SocketAddr::new(address, 7777)).ok();
    let socket = netns.enter(|| wait::until("port 7777 to be free", wait::DEADLINE, bind))?;
    socket.set_read_timeout(Some(wait::DEADLINE))?;
    Ok(socket)
}

/// Waits for a datagram, which must be this one; tells who sent it.
fn receive(socket: &UdpSocket, expected: &[u8]) -> Result<SocketAddr> {
    let mut buffer = [0; 8_000];
    let (length, from) = socket.recv_from(&mut buffer).context("nothing arrived")?;
    ensure!(buffer[..length] == *expected, "{length} other bytes arrived");
    Ok(from)
}

fn dropped_since(firewall: &Firewall<'_>, reason: &str, before: u64, count: u64) -> Result<()> {
    wait::until_true(&format!("{count} drops by {reason}"), || {
        firewall.stat(reason).is_ok_and(|now| now >= before + count)
    })
}
