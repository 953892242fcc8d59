//! One outside port for all that an inside endpoint sends by UDP, on request: real sockets, two
//! clients with one port, two servers, every hook, both families.
//!
//! ```text
//! client: 192.0.2.2, .3 ── eth0 gateway eth1 (MASQUERADE) ── server: 198.51.100.2, .3
//! ```

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability, firewall::Setup, needs, wait,
};

const RULES: &str = "\
*nat
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
-A INPUT -p icmpv6 -j ACCEPT
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -j ACCEPT
COMMIT
";
const SETTING: &str = "udp_endpoint_independent";
/// Of both clients, and of both servers.
const PORT: u16 = 41_000;
const SERVICE: u16 = 3_478;

/// Two sockets of one port at one end.
struct Pair([UdpSocket; 2]);

impl Pair {
    /// At these addresses, of which the second one is new.
    fn bind(netns: &Netns, addresses: [IpAddr; 2], port: u16) -> Result<Self> {
        let length = if addresses[0].is_ipv4() { 24 } else { 64 };
        let [first, second] = addresses;
        netns.address("eth0", &format!("{second}/{length}"))?;
        let bind = |address| -> Result<UdpSocket> {
            let socket = netns.enter(|| UdpSocket::bind((address, port)))?;
            socket.set_read_timeout(Some(wait::DEADLINE))?;
            Ok(socket)
        };
        Ok(Self([bind(first)?, bind(second)?]))
    }
}

struct Scene {
    clients: Pair,
    servers: Pair,
}

impl Scene {
    fn set(network: &Gateway, family: Family) -> Result<Self> {
        let beside = match family {
            Family::V4 => ["192.0.2.3", "198.51.100.3"],
            Family::V6 => ["2001:db8:1::3", "2001:db8:2::3"],
        };
        let [client, server]: [IpAddr; 2] = [beside[0].parse()?, beside[1].parse()?];
        let clients = [network.client_address(family), client];
        let servers = [network.server_address(family), server];
        Ok(Self {
            clients: Pair::bind(&network.client, clients, PORT)?,
            servers: Pair::bind(&network.server, servers, SERVICE)?,
        })
    }

    /// Whom a server sees when a client sends to it.
    fn seen(&self, client: usize, server: usize) -> Result<SocketAddr> {
        let to = self.servers.0[server].local_addr()?;
        self.clients.0[client].send_to(b"who am I?", to)?;
        let (_, from) = self.servers.0[server].recv_from(&mut [0; 64]).context("no datagram")?;
        Ok(from)
    }

    fn seen_port(&self, client: usize, server: usize) -> Result<u16> {
        self.seen(client, server).map(|from| from.port())
    }

    /// What a client hears next, and from whom.
    fn heard(&self, client: usize) -> Result<(Vec<u8>, SocketAddr)> {
        let mut bytes = [0; 64];
        let (length, from) = self.clients.0[client].recv_from(&mut bytes)?;
        Ok((bytes[..length].to_vec(), from))
    }
}

fn each(test: impl Fn(&str, Family) -> Result<()>) -> Result<()> {
    for hook in ["xdp", "xdp-generic", "tc"] {
        for family in [Family::V4, Family::V6] {
            test(hook, family).with_context(|| format!("{hook}, {family:?}"))?;
        }
    }
    Ok(())
}

fn start<'n>(network: &'n Gateway, hook: &str) -> Result<Firewall<'n>> {
    let setup = Setup::on(&["eth0", "eth1"]).both(RULES).option("--hook").option(hook);
    setup.start(network.gateway())
}

#[test]
fn unless_it_is_wanted_each_destination_is_looked_at_for_itself() {
    needs!(capability::firewall());
    each(unwanted).unwrap();
}

fn unwanted(hook: &str, family: Family) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, hook)?;
    let scene = Scene::set(&network, family)?;
    ensure!(scene.seen_port(0, 0)? == PORT);
    ensure!(scene.seen_port(1, 0)? != PORT, "two clients look alike");
    ensure!(scene.seen_port(1, 1)? == PORT, "the other destination has not seen the port yet");
    ensure!(firewall.stat("table-mappings")? == 0, "there are mappings");
    Ok(())
}

#[test]
fn two_destinations_see_one_port_when_that_is_wanted() {
    needs!(capability::firewall());
    each(two_destinations).unwrap();
}

fn two_destinations(hook: &str, family: Family) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, hook)?;
    let scene = Scene::set(&network, family)?;
    firewall.text(&["conntrack", "set", SETTING, "true"])?;
    ensure!(scene.seen_port(0, 0)? == PORT);
    let outside = scene.seen(1, 0)?;
    ensure!(outside.port() != PORT, "two clients look alike");
    ensure!(scene.seen(1, 1)? == outside, "another destination sees another port");
    ensure!(scene.seen_port(0, 1)? == PORT, "another destination sees another port");
    ensure!(firewall.stat("table-mappings")? == 4);
    ensure!(firewall.stat("mappings-full")? == 0);

    // Who was not asked is not let in; who was is.
    let stranger = network.server.enter(|| {
        UdpSocket::bind(SocketAddr::new(scene.servers.0[1].local_addr()?.ip(), SERVICE + 1))
    })?;
    stranger.send_to(b"unasked", outside)?;
    scene.servers.0[1].send_to(b"asked", outside)?;
    let (bytes, from) = scene.heard(1)?;
    ensure!(bytes == b"asked" && from == scene.servers.0[1].local_addr()?, "{bytes:?}: {from}");
    scene.clients.0[0].set_nonblocking(true)?;
    let heard = scene.clients.0[0].recv_from(&mut [0; 64]).map_err(|error| error.kind());
    ensure!(matches!(heard, Err(ErrorKind::WouldBlock)), "{heard:?}");
    Ok(())
}

#[test]
fn a_port_of_the_gateways_own_sockets_is_nobodys() {
    needs!(capability::firewall());
    each(spared).unwrap();
}

fn spared(hook: &str, family: Family) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, hook)?;
    firewall.text(&["conntrack", "set", SETTING, "true"])?;
    let any = SocketAddr::new("::".parse()?, PORT);
    let _own = network.gateway().enter(|| UdpSocket::bind(any))?;
    let scene = Scene::set(&network, family)?;
    let given = scene.seen_port(0, 0)?;
    ensure!(given != PORT, "the socket's port was given away");
    ensure!(scene.seen_port(0, 1)? == given);
    Ok(())
}

#[test]
fn a_mapping_ends_with_its_flows_and_is_swept() {
    needs!(capability::firewall());
    swept().unwrap();
}

fn swept() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, "xdp")?;
    firewall.text(&["conntrack", "set", SETTING, "true"])?;
    firewall.text(&["conntrack", "set", "udp_timeout", "1"])?;
    let scene = Scene::set(&network, Family::V4)?;
    ensure!(scene.seen_port(0, 0)? == PORT);
    ensure!(scene.seen_port(1, 0)? != PORT);
    wait::until_true("the mappings to end", || {
        firewall.stat("table-mappings").is_ok_and(|entries| entries == 0)
    })?;
    ensure!(scene.seen_port(1, 1)? == PORT, "a port that nobody has is not given");
    Ok(())
}

#[test]
fn who_asks_before_is_told_which_port_it_will_be() {
    needs!(capability::firewall());
    explained().unwrap();
}

fn explained() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, "xdp")?;
    firewall.text(&["conntrack", "set", SETTING, "true"])?;
    let scene = Scene::set(&network, Family::V4)?;
    ensure!(scene.seen_port(0, 0)? == PORT);
    let given = scene.seen(1, 0)?;
    let to = scene.servers.0[1].local_addr()?.ip().to_string();
    let (from, port) = (scene.clients.0[1].local_addr()?.ip().to_string(), PORT.to_string());
    let text = firewall.text(&[
        "explain", "-i", "eth0", "-p", "udp", "-s", &from, "-d", &to, "--sport", &port, "--dport",
        "53",
    ])?;
    ensure!(text.contains(&format!("it leaves as {given} -> {to}:53")), "{text}");
    ensure!(firewall.stat("table-mappings")? == 4, "explaining has changed something");
    Ok(())
}
