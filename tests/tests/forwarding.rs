//! Whatever way a packet takes through the host, FORWARD has judged it, and what
//! only the stack can check is checked.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    firewall::Setup,
    ledger::Ledger,
    needs,
    packet::Packet,
    wait,
    wire::{End, Wires},
};

const CLOSED: &str = "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\nCOMMIT\n";
const OPEN: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p udp -m state --state NEW,ESTABLISHED -j ACCEPT
COMMIT
";

fn question(wires: &Wires, family: Family, port: u16) -> Packet {
    let server = wires.server.endpoint(family, 53);
    Packet::udp(wires.client.endpoint(family, port), server, b"question")
}

fn answer(question: &Packet) -> Packet {
    Packet::udp(question.destination, question.source, b"answer")
}

/// The kernel forwards by `all`; the interface's own setting says that it does not
/// (Documentation/networking/ip-sysctl.rst).
mod where_one_interface_denies_forwarding {
    use super::*;

    #[test]
    fn forward_drops_what_it_does_not_accept() {
        needs!(capability::firewall());
        for hook in ["xdp", "tc"] {
            dropped(hook).with_context(|| hook).unwrap();
        }
    }

    fn dropped(hook: &str) -> Result<()> {
        let network = denying()?;
        let wires = Wires::across(&network)?;
        let firewall = start(&network, hook, CLOSED)?;
        let before = Ledger::read(&firewall)?;
        let questions = [40_000, 40_001, 40_002].map(|port| question(&wires, Family::V6, port));
        for question in &questions {
            wires.client.send(question)?;
        }
        wait::until_true("every packet to be dropped by FORWARD", || {
            Ledger::read(&firewall).is_ok_and(|now| {
                let moved = now.since(&before);
                moved.policies.get("6: filter FORWARD DROP") == Some(&3)
                    && moved.policy_drops() == 3
            })
        })?;
        let arrived = wires.server.pending().count();
        ensure!(arrived == 0, "{arrived} packets reached the server");
        Ok(())
    }

    #[test]
    fn forward_lets_through_what_it_accepts() {
        needs!(capability::firewall());
        accepted("xdp").unwrap();
    }

    fn accepted(hook: &str) -> Result<()> {
        let network = denying()?;
        let wires = Wires::across(&network)?;
        let _firewall = start(&network, hook, OPEN)?;
        for port in [40_000, 40_001] {
            let question = question(&wires, Family::V6, port);
            for _ in 0..3 {
                wires.cross(End::Client, &question)?;
                wires.cross(End::Server, &answer(&question))?;
            }
        }
        Ok(())
    }

    fn denying() -> Result<Gateway> {
        let network = Gateway::new(Offload::Tuned)?;
        network.gateway().set("ipv6/conf/eth0/forwarding", "0")?;
        Ok(network)
    }

    fn start<'a>(network: &'a Gateway, hook: &str, rules6: &str) -> Result<Firewall<'a>> {
        let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
        setup.rules(CLOSED).rules6(rules6).start(network.gateway())
    }
}

mod a_flow {
    use super::*;

    #[test]
    fn takes_the_stack_until_it_is_answered_and_is_redirected_then() {
        needs!(capability::firewall());
        stack_then_redirect().unwrap();
    }

    fn stack_then_redirect() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(OPEN).start(network.gateway())?;
        for family in [Family::V4, Family::V6] {
            let question = question(&wires, family, 40_000);
            let ways = |count: usize, from: End, packet: &Packet| -> Result<[u64; 2]> {
                let read = || -> Result<[u64; 2]> {
                    Ok([firewall.stat("forward-stack")?, firewall.stat("forward-fast")?])
                };
                let before = read()?;
                for _ in 0..count {
                    wires.cross(from, packet)?;
                }
                let now = read()?;
                Ok([now[0] - before[0], now[1] - before[1]])
            };
            let unanswered = ways(3, End::Client, &question)?;
            ensure!(unanswered == [3, 0], "{family:?}, unanswered: {unanswered:?}");
            wires.cross(End::Server, &answer(&question))?;
            let answered = ways(3, End::Client, &question)?;
            ensure!(answered == [0, 3], "{family:?}, answered: {answered:?}");
            let answers = ways(3, End::Server, &answer(&question))?;
            ensure!(answers == [0, 3], "{family:?}, answers: {answers:?}");

            // A router sends on nothing that came for many stations (RFC 1812 section 5.3.4).
            // The packet behind it tells that it has been judged.
            let mut for_many = wires.client.frame(&question);
            for_many[..6].fill(0xff);
            let read = || -> Result<_> {
                let names = ["accept-forward", "frame-for-many"];
                Ok([firewall.stat(names[0])?, firewall.stat(names[1])?])
            };
            let [accepted, dropped] = read()?;
            wires.client.send_frame(&for_many)?;
            wires.cross(End::Client, &question)?;
            ensure!(read()? == [accepted + 1, dropped + 1], "{family:?}: {:?}", read()?);
            wires.server.has_not_seen(&question)?;
        }
        Ok(())
    }
}

mod a_source_of_the_other_side {
    use super::*;

    #[test]
    fn is_refused_by_the_reverse_path_filter() {
        needs!(capability::firewall());
        let arrived = spoof("1").unwrap();
        assert!(!arrived, "it reached the server");
    }

    #[test]
    fn passes_where_the_host_asks_for_no_such_filter() {
        needs!(capability::firewall());
        let arrived = spoof("0").unwrap();
        assert!(arrived, "it did not reach the server");
    }

    /// Whether a packet from the client's side arrives that claims to come from
    /// the server's network.
    fn spoof(rp_filter: &str) -> Result<bool> {
        let network = Gateway::new(Offload::Tuned)?;
        for interface in ["all", "eth0"] {
            network.gateway().set(&format!("ipv4/conf/{interface}/rp_filter"), rp_filter)?;
        }
        let wires = Wires::across(&network)?;
        let _firewall = Setup::on(&["eth0", "eth1"]).both(OPEN).start(network.gateway())?;
        let honest = question(&wires, Family::V4, 40_000);
        let source: SocketAddr = "198.51.100.99:40000".parse()?;
        let spoofed = Packet::udp(source, honest.destination, b"spoofed");
        for _ in 0..3 {
            wires.client.send(&spoofed)?;
        }
        wires.client.send(&honest)?;
        let mut arrived = false;
        wires.server.wait_for("the honest packet", |seen| {
            arrived |= seen.packet == spoofed;
            seen.packet == honest
        })?;
        Ok(arrived)
    }
}
