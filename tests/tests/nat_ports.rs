//! Ports that table nat has to give, and has not.

use std::{
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability, exchange, firewall::Setup, needs,
    server::own::connect_from, wait,
};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

const RULES: &str = "\
*nat
-A POSTROUTING -o eth1 -p tcp -j SNAT --to-source 198.51.100.1:5000-5002
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -j ACCEPT
COMMIT
";

/// Less than a SYN takes to be sent for the third time.
const SHORT: Duration = Duration::from_millis(1_500);

fn start<'n>(network: &'n Gateway, hook: &str) -> Result<Firewall<'n>> {
    exchange::serve(&network.server)?;
    let setup = Setup::on(&["eth0", "eth1"]).rules(RULES).option("--hook").option(hook);
    setup.start(network.gateway())
}

/// The ports that the server sees of these connections, in order.
fn given(firewall: &Firewall<'_>, port: u16) -> Result<Vec<u64>> {
    let flows = firewall.json(&["conntrack", "list", "-n", "--dport", &port.to_string()])?;
    let mut ports: Vec<_> =
        flows.iter().filter_map(|flow| flow["reply"]["dport"].as_u64()).collect();
    ports.sort_unstable();
    Ok(ports)
}

#[test]
fn a_fourth_connection_through_three_ports_is_dropped_counted_and_told() {
    needs!(capability::firewall());
    for hook in ["xdp", "tc"] {
        exhausted(hook).unwrap();
    }
}

fn exhausted(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, hook)?;
    let to = SocketAddr::new(network.server_address(Family::V4), exchange::PORT);
    let mut first: Vec<_> =
        (0..3).map(|_| exchange::connect(&network.client, to)).collect::<Result<_>>()?;
    ensure!(given(&firewall, exchange::PORT)? == [5_000, 5_001, 5_002]);
    ensure!(firewall.stat("nat-ports-exhausted")? == 0, "there were ports");

    let fourth = network.client.enter(|| TcpStream::connect_timeout(&to, SHORT));
    ensure!(fourth.is_err(), "a fourth connection had a port");
    ensure!(firewall.stat("nat-ports-exhausted")? > 0, "nothing was counted");
    wait::until_true("an explanation", || {
        firewall.text(&["why"]).is_ok_and(|text| {
            text.contains("nat-ports-exhausted: ") && text.contains("--to-source A-B")
        })
    })?;

    // Another server does not know whom the first one talks to.
    let other = SocketAddr::new(to.ip(), exchange::GREETER);
    let _greeted = exchange::connect(&network.client, other)?;
    ensure!(given(&firewall, exchange::GREETER)?.len() == 1);

    // Those that have a port keep it, and one that is given back is given again.
    for stream in &first {
        exchange::exchange(stream, 10_000, 10_000)?;
    }
    let ended = first.swap_remove(0);
    let own = ended.local_addr()?.port().to_string();
    reset(ended)?;
    wait::until_true("the reset in the table", || {
        firewall
            .json(&["conntrack", "list", "-n", "--sport", &own])
            .is_ok_and(|flows| flows.iter().all(|flow| flow["state"] == "CLOSE"))
    })?;
    firewall.text(&["conntrack", "delete", "-p", "tcp", "--sport", &own])?;
    let stream = exchange::connect(&network.client, to)?;
    exchange::exchange(&stream, 10_000, 10_000)?;
    ensure!(given(&firewall, exchange::PORT)? == [5_000, 5_001, 5_002]);
    Ok(())
}

/// Ends a connection, which the server has closed already, so that neither end says
/// anything more and the server has no socket left for a SYN from the same port.
fn reset(mut stream: TcpStream) -> Result<()> {
    ensure!(stream.read_to_end(&mut Vec::new())? == 0, "more came than was wanted");
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &at_once)?;
    Ok(())
}

const MASQUERADE: &str = "\
*nat
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -j ACCEPT
COMMIT
";

/// A port on which a socket of the gateway waits, and one on which none does.
const TAKEN: u16 = 51_820;
const FREE: u16 = 51_821;

#[test]
fn ports_of_the_gateways_own_sockets_are_not_given_to_clients() {
    needs!(capability::firewall());
    for hook in ["xdp", "xdp-generic", "tc"] {
        spared(hook).with_context(|| hook).unwrap();
    }
}

fn spared(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    exchange::serve(&network.server)?;
    let setup = Setup::on(&["eth0", "eth1"]).both(MASQUERADE).option("--hook").option(hook);
    let firewall = setup.start(network.gateway())?;
    let any = |port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let _sockets = network.gateway().enter(|| {
        Ok::<_, std::io::Error>((TcpListener::bind(any(TAKEN))?, UdpSocket::bind(any(TAKEN))?))
    })?;
    for family in [Family::V4, Family::V6] {
        let server = SocketAddr::new(network.server_address(family), exchange::PORT);
        for (port, is_kept) in [(TAKEN, false), (FREE, true)] {
            let own = SocketAddr::new(network.client_address(family), port);
            let stream = network.client.enter(|| connect_from(own, server))?;
            exchange::exchange(&stream, 1_000, 1_000)?;
            let given = reply_port(&firewall, "tcp", own)?;
            ensure!((given == u64::from(port)) == is_kept, "TCP from {own} left by {given}");

            let any = if own.is_ipv4() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            } else {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED)
            };
            let socket = network.client.enter(|| UdpSocket::bind((any, port)))?;
            socket.send_to(b"anybody?", server)?;
            let given = reply_port(&firewall, "udp", own)?;
            ensure!((given == u64::from(port)) == is_kept, "UDP from {own} left by {given}");
        }
    }
    Ok(())
}

/// The port that the server answers to.
fn reply_port(firewall: &Firewall<'_>, protocol: &str, own: SocketAddr) -> Result<u64> {
    let (address, port) = (own.ip().to_string(), own.port().to_string());
    let filters = ["-p", protocol, "-s", &address, "--sport", &port];
    let list = [&["conntrack", "list", "-n"], &filters[..]].concat();
    let mut found = None;
    wait::until_true("a translated flow", || {
        found = firewall.json(&list).ok().and_then(|flows| flows.first().cloned());
        found.is_some()
    })?;
    found.and_then(|flow| flow["reply"]["dport"].as_u64()).context("no port")
}
