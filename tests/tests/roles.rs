//! What an interface is to the host decides where its packets are judged, unless somebody
//! says otherwise; `firewall status` says where, and why.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::control::LAYOUT_VERSION;
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    firewall::Setup,
    needs,
    packet::Packet,
    wait,
    wire::{End, Wires},
};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

const CLOSED: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A INPUT -p tcp --dport 7000 -j ACCEPT
COMMIT
";

/// Hooks and reason of an interface, as `firewall status` gives them.
fn judged(firewall: &Firewall<'_>, interface: &str) -> Result<(String, String)> {
    let status = firewall.json(&["status"])?.pop().context("no status")?;
    let interfaces = status["interfaces"].as_array().context("no interfaces")?;
    let found = interfaces.iter().find(|one| one["name"] == interface);
    let found = found.with_context(|| format!("no {interface}"))?;
    let hooks = found["hooks"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reason = found["reason"].as_str().context("no reason")?.to_owned();
    let text = firewall.text(&["status"])?;
    ensure!(text.contains(&format!("({reason})")), "no {reason:?} in {text}");
    Ok((hooks.collect::<Vec<_>>().join(" "), reason))
}

/// The gateway's address towards the client.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

const AT_TC: &str = "tc-ingress tc-egress";
const BY_XDP: &str = "tc-ingress tc-egress xdp";

fn is(firewall: &Firewall<'_>, hooks: &str, reason: &str) -> Result<()> {
    is_at(firewall, "eth0", hooks, reason)
}

fn is_at(firewall: &Firewall<'_>, interface: &str, hooks: &str, reason: &str) -> Result<()> {
    let (at, because) = judged(firewall, interface)?;
    let same = |one: &str, other: &str| {
        let sorted = |text: &str| {
            let mut words: Vec<_> = text.split(' ').map(String::from).collect();
            words.sort();
            words
        };
        sorted(one) == sorted(other)
    };
    ensure!(same(&at, hooks) && because.contains(reason), "{at}: {because}");
    Ok(())
}

mod a_host_that_forwards_nothing {
    use super::*;

    #[test]
    fn is_judged_at_tc_and_keeps_its_receive_offload() {
        needs!(capability::firewall());
        at_tc().unwrap();
    }

    fn at_tc() -> Result<()> {
        let network = Gateway::hosts(Offload::Default)?;
        let firewall = Setup::on(&["eth0"]).both(CLOSED).start(&network.server)?;
        is(&firewall, AT_TC, "nothing is forwarded")?;
        let length = received(&network, &firewall)?;
        ensure!(length > 3_000, "segments of {length} bytes: nothing has joined them");
        Ok(())
    }

    #[test]
    fn is_judged_by_xdp_when_that_is_asked_for() {
        needs!(capability::firewall());
        by_xdp().unwrap();
    }

    fn by_xdp() -> Result<()> {
        let network = Gateway::hosts(Offload::Default)?;
        let setup = Setup::on(&["eth0"]).both(CLOSED).option("--hook=xdp");
        let firewall = setup.start(&network.server)?;
        is(&firewall, BY_XDP, "as --hook or the configuration asks")?;
        let length = received(&network, &firewall)?;
        ensure!(length <= 1_500, "segments of {length} bytes");
        Ok(())
    }

    /// Moves some megabytes to the host; the mean length of the packets that the firewall has
    /// seen come in.
    fn received(network: &Gateway, firewall: &Firewall<'_>) -> Result<u64> {
        const BYTES: usize = 20 << 20;
        let address = SocketAddr::new(network.server_address(Family::V4), 7_000);
        let listener = network.server.enter(|| TcpListener::bind(address))?;
        let client = network.client.spawn(move || -> Result<()> {
            let mut stream = TcpStream::connect_timeout(&address, wait::DEADLINE)?;
            Ok(stream.write_all(&vec![7; BYTES])?)
        });
        let mut heard = Vec::new();
        listener.accept()?.0.read_to_end(&mut heard)?;
        client.join().expect("no panic")?;
        ensure!(heard.len() == BYTES, "{} bytes arrived", heard.len());
        let flows = firewall.json(&["conntrack", "list", "--dport", "7000"])?;
        let original = &flows.first().context("no flow")?["original"];
        let count = |what: &str| original[what].as_u64().with_context(|| format!("no {what}"));
        ensure!(count("bytes")? > BYTES as u64, "{original}");
        Ok(count("bytes")? / count("packets")?)
    }
}

mod a_gateway {
    use super::*;

    #[test]
    fn is_judged_by_xdp() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let firewall = Setup::on(&["eth0", "eth1"]).both(CLOSED).start(network.gateway()).unwrap();
        is(&firewall, BY_XDP, "packets are forwarded from here").unwrap();
    }

    #[test]
    fn is_judged_at_tc_when_that_is_asked_for() {
        needs!(capability::firewall());
        let network = Gateway::new(Offload::Tuned).unwrap();
        let setup = Setup::on(&["eth0", "eth1"]).both(CLOSED).option("--hook=tc");
        let firewall = setup.start(network.gateway()).unwrap();
        is(&firewall, AT_TC, "as --hook or the configuration asks").unwrap();
    }

    #[test]
    fn whose_devices_take_no_redirected_frames_is_judged_at_tc_until_they_do() {
        needs!(capability::firewall());
        until_they_do().unwrap();
    }

    fn until_they_do() -> Result<()> {
        let network = Gateway::new(Offload::Default)?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(CLOSED).start(network.gateway())?;
        let both = |hooks: &str, reason: &str| {
            is(&firewall, hooks, reason)?;
            is_at(&firewall, "eth1", hooks, reason)
        };
        both(AT_TC, "no interface takes redirected frames")?;
        // One is enough: it redirects to the other, or is redirected to.
        network.client.run("ethtool -K eth0 gro on")?;
        wait::until_true("XDP", || both(BY_XDP, "auto: packets are forwarded from here").is_ok())?;
        network.client.run("ethtool -K eth0 gro off")?;
        wait::until_true("the other reason", || both(BY_XDP, "a restart chooses anew").is_ok())
    }

    #[test]
    fn with_one_interface_redirects_to_another_or_not_at_all() {
        needs!(capability::firewall());
        with_one_interface().unwrap();
    }

    fn with_one_interface() -> Result<()> {
        let network = Gateway::new(Offload::Default)?;
        network.client.run("ethtool -K eth0 gro on")?;
        let firewall = Setup::on(&["eth0"]).both(CLOSED).start(network.gateway())?;
        is(&firewall, AT_TC, "no interface takes redirected frames")?;
        network.server.run("ethtool -K eth0 gro on")?;
        wait::until_true("XDP", || {
            is(&firewall, BY_XDP, "auto: packets are forwarded from here").is_ok()
        })
    }

    #[test]
    fn beside_a_link_without_ethernet_has_no_use_for_xdp() {
        needs!(capability::firewall(), capability::tun());
        beside_a_tun().unwrap();
    }

    fn beside_a_tun() -> Result<()> {
        let network = Gateway::with_tun(End::Server)?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(CLOSED).start(network.gateway())?;
        // Another device does take frames.
        is(&firewall, BY_XDP, "auto: packets are forwarded from here")?;
        is_at(&firewall, "eth1", AT_TC, "no Ethernet header")?;
        drop(firewall);
        network.gateway().ip("link del taker")?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(CLOSED).start(network.gateway())?;
        is(&firewall, AT_TC, "no interface takes redirected frames")
    }

    #[test]
    fn hopes_for_no_device_without_xdp() {
        needs!(capability::firewall());
        beside_a_bridge().unwrap();
    }

    fn beside_a_bridge() -> Result<()> {
        let network = Gateway::new(Offload::Default)?;
        let gateway = network.gateway();
        gateway.ip("link add br0 type bridge")?;
        gateway.ip("link set br0 up")?;
        let firewall = Setup::on(&["eth0", "br0"]).both(CLOSED).start(gateway)?;
        is(&firewall, AT_TC, "no interface takes redirected frames")?;
        is_at(&firewall, "br0", AT_TC, "no interface takes redirected frames")?;
        let said = firewall.said();
        ensure!(!said.contains("TC is to judge"), "XDP was attached in vain: {said}");
        Ok(())
    }
}

/// While forwarding is switched on and off, somebody tries all the time: to come through, and to
/// the gateway itself.
#[test]
fn a_host_that_becomes_a_gateway_and_back_lets_nothing_pass_meanwhile() {
    needs!(capability::firewall());
    there_and_back().unwrap();
}

fn there_and_back() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let gateway = network.gateway();
    let wires = Wires::across(&network)?;
    let forward = |value: &str| {
        gateway.set("ipv4/ip_forward", value)?;
        gateway.set("ipv6/conf/all/forwarding", value)
    };
    forward("0")?;
    let firewall = Setup::on(&["eth0", "eth1"]).both(CLOSED).start(gateway)?;
    let client = wires.client.endpoint(Family::V4, 40_000);
    let unwanted = Packet::udp(client, wires.server.endpoint(Family::V4, 53), b"unwanted");
    let own = SocketAddr::from((GATEWAY, 9_000));
    let listener = gateway.enter(|| UdpSocket::bind(own))?;
    listener.set_nonblocking(true)?;
    let intruding = Packet::udp(client, own, b"unwanted");
    let refused = firewall.stat("policy")?;
    let is_over = AtomicBool::new(false);
    let moved = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // A full queue loses it.
                let _ = wires.client.send(&unwanted);
                let _ = wires.client.send(&intruding);
                thread::yield_now();
            }
        });
        let moved = follow(&firewall, &forward);
        is_over.store(true, Ordering::Relaxed);
        moved
    });
    moved.with_context(|| firewall.said())?;
    wires.server.has_not_seen(&unwanted)?;
    ensure!(listener.recv_from(&mut [0; 64]).is_err(), "the gateway was reached");
    ensure!(firewall.stat("policy")? > refused, "nothing was refused");
    Ok(())
}

/// The hook follows the settings to XDP, when nobody changes the rules; back it goes with the
/// next start alone.
fn follow(firewall: &Firewall<'_>, forward: &dyn Fn(&str) -> Result<()>) -> Result<()> {
    is(firewall, AT_TC, "nothing is forwarded")?;
    let lock = Flock::lock(
        File::open(firewall.pin().join(format!("v{LAYOUT_VERSION}/maps")))?,
        FlockArg::LockExclusive,
    );
    let lock = lock.map_err(|(_, error)| error)?;
    forward("1")?;
    wait::until_true("a word about the rules that are being changed", || {
        firewall.said().contains("the hook of eth0 waits")
    })?;
    is(firewall, AT_TC, "nothing is forwarded")?;
    drop(lock);
    for (value, reason) in [("1", "packets are forwarded"), ("0", "a restart chooses anew")] {
        forward(value)?;
        wait::until_true(&format!("XDP because {reason}"), || {
            is(firewall, BY_XDP, reason).is_ok()
        })?;
    }
    Ok(())
}
