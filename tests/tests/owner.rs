//! Rules about who sends a packet: `-m owner` in OUTPUT.
//!
//! ```text
//!   sender                peer
//!   eth0 ──────────────── eth0
//!   192.0.2.2             192.0.2.3
//! ```

use std::net::{TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{Firewall, Netns, capability, command::output, firewall::Setup, needs};

const DATAGRAM: [&str; 3] = ["bash", "-c", "echo > /dev/udp/192.0.2.3/9"];
const SENDER: &str = "192.0.2.2:8080";

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A OUTPUT -p udp --dport 9 -m owner --gid-owner 3003
-A OUTPUT -p udp --dport 9 -m owner --gid-owner 3000-3002
-A OUTPUT -p udp --dport 9 -m owner ! --gid-owner 3003
-A OUTPUT -p tcp --sport 8080 --tcp-flags SYN,ACK SYN,ACK -m owner --gid-owner 0
-A OUTPUT -p tcp --sport 8080 --tcp-flags SYN,ACK SYN,ACK -m owner ! --gid-owner 0
COMMIT
";

/// Packets that each rule has counted.
fn counted(firewall: &Firewall<'_>) -> Result<Vec<u64>> {
    let text = firewall.text(&["save", "-c"])?;
    let rules = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once(':'));
    rules.map(|(packets, _)| packets.parse().context("a rule without a counter")).collect()
}

#[test]
fn the_group_of_the_process_that_sends_is_known_and_of_the_one_that_listens() {
    needs!(capability::firewall(), capability::program("setpriv"), capability::program("bash"));
    groups().unwrap();
}

fn groups() -> Result<()> {
    let (sender, peer) = (Netns::new("sender")?, Netns::new("peer")?);
    sender.connect("eth0", &peer, "eth0")?;
    sender.address("eth0", "192.0.2.2/24")?;
    peer.address("eth0", "192.0.2.3/24")?;
    let firewall = Setup::on(&["eth0"]).rules(RULES).start(&sender)?;
    output(sender.command("setpriv").args(["--regid=3003", "--clear-groups"]).args(DATAGRAM))?;
    ensure!(counted(&firewall)? == [1, 0, 0, 0, 0], "of the group: {:?}", counted(&firewall)?);
    output(sender.command(DATAGRAM[0]).args(&DATAGRAM[1..]))?;
    ensure!(counted(&firewall)? == [1, 0, 1, 0, 0], "of another: {:?}", counted(&firewall)?);
    let _listener = sender.enter(|| TcpListener::bind(SENDER))?;
    peer.enter(|| TcpStream::connect(SENDER)).context("the listener does not answer")?;
    ensure!(counted(&firewall)? == [1, 0, 1, 1, 0], "of a listener: {:?}", counted(&firewall)?);
    Ok(())
}
