//! An interface that changes its Ethernet address is judged as before: frames for
//! another station pass unjudged only as long as the stack ignores them.

use std::{io::ErrorKind, net::UdpSocket};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability, firewall::Setup, needs, packet::Packet,
    wait, wire::Wires,
};

const CLOSED: &str = "*filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT ACCEPT\nCOMMIT\n";
const OPEN: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p udp --dport 7777 -j ACCEPT
COMMIT
";

/// The gateway's own endpoint.
const OWN: &str = "192.0.2.1:7777";
const HOOKS: [&str; 2] = ["xdp", "xdp-generic"];

#[test]
fn a_new_address_is_judged_as_the_old_one_was() {
    needs!(capability::firewall());
    for hook in HOOKS {
        judged(hook).with_context(|| hook).unwrap();
    }
}

fn judged(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let gateway = network.gateway();
    let firewall = start(&network, hook, CLOSED)?;
    let listener = listen(gateway)?;
    refuses(&firewall, &Wires::across(&network)?, &listener).context("the old address")?;
    for address in ["02:00:5e:00:53:01", "02:00:5e:00:53:02"] {
        readdress(gateway, address)?;
        // The wires send to the new address.
        let wires = Wires::across(&network)?;
        firewall.apply(CLOSED)?;
        refuses(&firewall, &wires, &listener).context(address)?;
        firewall.apply(OPEN)?;
        accepts(&wires, &listener, b"wanted").context(address)?;
    }
    Ok(())
}

#[test]
fn a_new_address_lets_nothing_in_while_there_is_no_daemon_to_learn_it() {
    needs!(capability::firewall());
    for hook in HOOKS {
        unlearnt(hook).with_context(|| hook).unwrap();
    }
}

fn unlearnt(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let gateway = network.gateway();
    let mut firewall = start(&network, hook, CLOSED)?;
    let listener = listen(gateway)?;
    firewall.kill();
    readdress(gateway, "02:00:5e:00:53:01")?;
    let wires = Wires::across(&network)?;
    let before = firewall.stat("pass-other-host")?;
    for _ in 0..3 {
        wires.client.send(&to_gateway(&wires, b"unwanted"))?;
    }
    wait::until_true("frames to an address that is not known", || {
        firewall.stat("pass-other-host").is_ok_and(|now| now >= before + 3)
    })?;
    hears_nothing(&listener).context("without a daemon")?;
    // What had been let in would be heard first.
    firewall.restart()?;
    refuses(&firewall, &wires, &listener).context("with a daemon again")?;
    firewall.apply(OPEN)?;
    accepts(&wires, &listener, b"wanted")
}

/// Rules for IPv4 alone: what IPv6 says of itself is not counted as dropped.
fn start<'a>(network: &'a Gateway, hook: &str, rules: &str) -> Result<Firewall<'a>> {
    let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
    setup.rules(rules).start(network.gateway())
}

fn listen(gateway: &Netns) -> Result<UdpSocket> {
    Ok(gateway.enter(|| UdpSocket::bind(OWN))?)
}

fn readdress(gateway: &Netns, address: &str) -> Result<()> {
    for change in ["down", &format!("address {address}"), "up"] {
        gateway.ip(&format!("link set eth0 {change}"))?;
    }
    Ok(())
}

#[test]
fn frames_for_another_station_are_not_judged_and_reach_nobody() {
    needs!(capability::firewall());
    another_station("xdp").unwrap();
}

fn another_station(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, hook, OPEN)?;
    let wires = Wires::across(&network)?;
    let listener = listen(network.gateway())?;
    let [accepted, other] =
        ["accept-input", "pass-other-host"].map(|name| firewall.stat(name).unwrap_or(0));
    let frame = to_gateway(&wires, b"astray").frame([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    wires.client.send_frame(&frame)?;
    wait::until_true("a frame for another station", || {
        firewall.stat("pass-other-host").is_ok_and(|now| now > other)
    })?;
    accepts(&wires, &listener, b"wanted")?;
    wait::until_true("the packet to be counted", || {
        firewall.stat("accept-input").is_ok_and(|now| now > accepted)
    })
}

fn to_gateway(wires: &Wires, payload: &[u8]) -> Packet {
    let own = OWN.parse().expect("an endpoint");
    Packet::udp(wires.client.endpoint(Family::V4, 40_000), own, payload)
}

/// The policy drops what comes, from when the address is known on.
fn refuses(firewall: &Firewall<'_>, wires: &Wires, listener: &UdpSocket) -> Result<()> {
    listener.set_nonblocking(true)?;
    while listener.recv(&mut [0; 64]).is_ok() {}
    let before = firewall.stat("policy")?;
    wait::until_true("drops by the policy", || {
        wires.client.send(&to_gateway(wires, b"unwanted")).is_ok()
            && firewall.stat("policy").is_ok_and(|now| now >= before + 3)
    })?;
    hears_nothing(listener)
}

fn hears_nothing(listener: &UdpSocket) -> Result<()> {
    listener.set_nonblocking(true)?;
    let heard = listener.recv(&mut [0; 64]);
    ensure!(heard.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{heard:?}");
    Ok(())
}

/// The first that is heard is what a rule admits.
fn accepts(wires: &Wires, listener: &UdpSocket, wanted: &[u8]) -> Result<()> {
    listener.set_nonblocking(true)?;
    let mut heard = [0; 64];
    let length = wait::until("what the rules admit", wait::DEADLINE, || {
        wires.client.send(&to_gateway(wires, wanted)).ok()?;
        listener.recv(&mut heard).ok()
    })?;
    ensure!(heard[..length] == *wanted, "something else: {:?}", &heard[..length]);
    Ok(())
}
