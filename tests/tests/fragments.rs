//! Datagrams that no link takes in one piece: what belongs to an accepted first
//! fragment passes, and nothing else does.

use std::{
    net::{SocketAddr, UdpSocket},
    ops::Range,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability, firewall::Setup, needs, packet::Packet, wait,
    wire::Wires,
};

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
            there_and_back(offload).unwrap();
        }
    }

    fn there_and_back(offload: Offload) -> Result<()> {
        let network = Gateway::new(offload)?;
        let _firewall = start(&network)?;
        for family in FAMILIES {
            let client = socket(&network, End::Client, family)?;
            let server = socket(&network, End::Server, family)?;
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

mod a_later_fragment {
    use super::*;

    #[test]
    fn without_its_first_is_unknown() {
        needs!(capability::firewall());
        on_both_families(unknown).unwrap();
    }

    fn unknown(bench: &Bench<'_>) -> Result<()> {
        let before = bench.firewall.stat("fragment-unknown")?;
        bench.send(1, FIRST.end..LENGTH)?;
        dropped_since(bench.firewall, "fragment-unknown", before, 1)?;
        // That of another datagram does not speak for it.
        bench.send(2, FIRST)?;
        bench.send(1, FIRST.end..LENGTH)?;
        dropped_since(bench.firewall, "fragment-unknown", before, 2)?;
        bench.send(2, FIRST.end..LENGTH)?;
        bench.arrives()
    }

    #[test]
    fn that_reaches_into_the_first_is_an_overlap() {
        needs!(capability::firewall());
        on_both_families(overlap).unwrap();
    }

    fn overlap(bench: &Bench<'_>) -> Result<()> {
        let before = bench.firewall.stat("fragment-overlap")?;
        bench.send(3, FIRST)?;
        for (dropped, start) in (1..).zip([8, 16, FIRST.end - 8]) {
            bench.send(3, start..FIRST.end + 8)?;
            dropped_since(bench.firewall, "fragment-overlap", before, dropped)?;
        }
        // The datagram is none the worse for it.
        bench.send(3, FIRST.end..LENGTH)?;
        bench.arrives()
    }
}

/// Of the UDP header and payload.
const LENGTH: usize = 8 + 200;
const FIRST: Range<usize> = 0..64;

/// A ghost that sends pieces of one datagram to a socket of the server.
struct Bench<'a> {
    firewall: &'a Firewall<'a>,
    wires: &'a Wires,
    server: UdpSocket,
    datagram: Packet,
}

fn on_both_families(scenario: fn(&Bench<'_>) -> Result<()>) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let wires = Wires::across(&network)?;
    let firewall = start(&network)?;
    for family in FAMILIES {
        let server = socket(&network, End::Server, family)?;
        let client = wires.client.endpoint(family, 40_000);
        let datagram = Packet::udp(client, server.local_addr()?, &[7; LENGTH - 8]);
        let bench = Bench { firewall: &firewall, wires: &wires, server, datagram };
        scenario(&bench).with_context(|| format!("{family:?}"))?;
    }
    Ok(())
}

impl Bench<'_> {
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
    let socket = netns.enter(|| UdpSocket::bind(SocketAddr::new(address, 7777)))?;
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
