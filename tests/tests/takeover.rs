//! A start over what a former daemon has left: it takes everything over, or it
//! changes nothing; and whatever becomes of an interface, it is enforced on.

use std::{
    io::ErrorKind,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::control::device;
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability,
    command::Finished,
    firewall::Setup,
    foreign::programs,
    ledger::refused_since,
    needs,
    packet::Packet,
    wait,
    wire::{End, Wire, Wires},
};
use firewall_user::kernel::{maps::Maps, pins::Pins};
use serde_json::Value;

const CLOSED: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p udp --dport 7777 -j ACCEPT
-A FORWARD -i eth0 -p udp --dport 53 -j ACCEPT
COMMIT
";
const OPEN: &str = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n";

fn setup(interfaces: &[&str], hook: &str, rules: &str) -> Setup {
    Setup::on(interfaces).both(rules).option("--hook").option(hook)
}

/// A macvlan has no XDP in its driver.
mod a_hook_that_an_interface_does_not_have {
    use super::*;

    #[test]
    fn fails_the_start_and_leaves_the_former_one_in_force() {
        needs!(capability::firewall());
        the_former_one().unwrap();
    }

    fn the_former_one() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let gateway = network.gateway();
        add_macvlan(gateway)?;
        let wire = Wire::ghost(&network.client, gateway, "mv0", GHOSTS)?;
        let mut firewall = setup(&["mv0"], "xdp-generic", CLOSED).start(gateway)?;
        let listener = gateway.enter(|| UdpSocket::bind("192.0.2.5:0"))?;
        is_closed(&firewall, &wire, &listener)?;
        let before = Before::of(&firewall, gateway, "mv0")?;
        ensure!(before.hooks.contains("xdp-generic"), "{before:?}");

        firewall.kill();
        firewall.change(setup(&["mv0"], "xdp", OPEN))?;
        let refusal = firewall.refusal()?;
        names(&refusal, "mv0")?;
        let after = Before::of(&firewall, gateway, "mv0")?;
        ensure!(after == before, "{after:?}, before {before:?}: {}", refusal.stderr);
        is_closed(&firewall, &wire, &listener)?;

        // And the next start, which is right, takes over.
        firewall.change(setup(&["mv0"], "xdp-generic", OPEN))?;
        firewall.restart()?;
        wire.send(&to(&wire, &listener)?)?;
        listener.set_read_timeout(Some(wait::DEADLINE))?;
        listener.recv(&mut [0; 64]).context("nothing came through open rules")?;
        Ok(())
    }

    #[test]
    fn of_a_further_interface_leaves_the_first_in_force_and_the_further_one_alone() {
        needs!(capability::firewall());
        the_further_one().unwrap();
    }

    fn the_further_one() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let gateway = network.gateway();
        let wires = Wires::across(&network)?;
        let mut firewall = setup(&["eth0"], "xdp", CLOSED).start(gateway)?;
        let before = Before::of(&firewall, gateway, "eth0")?;
        ensure!(before.programs == 3, "XDP, ingress, egress: {before:?}");
        add_macvlan(gateway)?;
        // eth1 is attached to before mv0 fails.
        let starts: [(&str, &[&str]); 3] = [
            ("mv0", &["eth0", "mv0"]),
            ("nope", &["eth0", "nope"]),
            ("mv0", &["eth0", "eth1", "mv0"]),
        ];
        for (further, interfaces) in starts {
            firewall.kill();
            firewall.change(setup(interfaces, "xdp", OPEN))?;
            names(&firewall.refusal()?, further)?;
            ensure!(Before::of(&firewall, gateway, "eth0")? == before, "{further}: {before:?}");
            ensure!(programs(gateway, "eth1")? == 0, "{further}: programs on eth1");
            ensure!(described_as_ours(&firewall)? == ["eth0"], "{further}");
            ensure!(programs(gateway, "mv0")? == 0, "{further}: programs on mv0");
            ensure!(hooks(&firewall, "mv0")?.is_empty(), "{further}: mv0 has a status");
            judges(&firewall, &wires).with_context(|| further)?;
        }
        Ok(())
    }

    const GHOSTS: [&str; 2] = ["192.0.2.77", "2001:db8:1::77"];

    fn add_macvlan(gateway: &Netns) -> Result<()> {
        gateway.ip("link add mv0 link eth0 type macvlan mode bridge")?;
        gateway.ip("link set mv0 up")?;
        gateway.address("mv0", "192.0.2.5/24")
    }

    /// What a failed start must not change.
    #[derive(Debug, PartialEq, Eq)]
    struct Before {
        rules: Vec<String>,
        hooks: String,
        programs: usize,
    }

    impl Before {
        fn of(firewall: &Firewall<'_>, netns: &Netns, interface: &str) -> Result<Self> {
            let saved = firewall.text(&["save"])?;
            let rules = saved.lines().filter(|line| !line.starts_with(['#', ':']));
            Ok(Self {
                rules: rules.map(String::from).collect(),
                hooks: hooks(firewall, interface)?,
                programs: programs(netns, interface)?,
            })
        }
    }

    fn names(refusal: &Finished, interface: &str) -> Result<()> {
        ensure!(refusal.code() == 1, "{refusal:?}");
        ensure!(refusal.stderr.contains(interface), "nothing about {interface}: {refusal:?}");
        Ok(())
    }

    fn is_closed(firewall: &Firewall<'_>, wire: &Wire, listener: &UdpSocket) -> Result<()> {
        let before = firewall.stat("policy")?;
        wire.send(&to(wire, listener)?)?;
        refused_since(firewall, before, "a packet to the macvlan")?;
        hears_nothing(listener)
    }

    fn to(wire: &Wire, listener: &UdpSocket) -> Result<Packet> {
        let source = wire.endpoint(Family::V4, 40_000);
        Ok(Packet::udp(source, listener.local_addr()?, b"to the macvlan"))
    }
}

#[test]
fn from_hook_to_hook_nothing_passes_unjudged() {
    needs!(capability::firewall());
    from_hook_to_hook().unwrap();
}

/// While daemons come and go, somebody tries all the time: to the gateway, through
/// it, and from both sides.
fn from_hook_to_hook() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let gateway = network.gateway();
    let wires = Wires::across(&network)?;
    let listener = gateway.enter(|| UdpSocket::bind("192.0.2.1:7778"))?;
    let tries = Tries::of(&wires, &listener)?;
    let mut firewall = setup(&["eth0", "eth1"], "xdp", CLOSED).start(gateway)?;
    let is_over = AtomicBool::new(false);
    let changed = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                tries.send(&wires);
                thread::yield_now();
            }
        });
        let changed = change_hooks(&mut firewall, &listener);
        is_over.store(true, Ordering::Relaxed);
        changed
    });
    changed?;
    judges(&firewall, &wires)?;
    hears_nothing(&listener)?;
    for (wire, unwanted) in [(&wires.server, &tries.through), (&wires.client, &tries.back)] {
        wire.has_not_seen(unwanted)?;
    }
    Ok(())
}

/// Each start, and what is shown of it.
const HOOKS: [(&str, &str); 5] = [
    ("tc", "tc-ingress"),
    ("xdp-generic", "xdp-generic"),
    ("xdp", "xdp"),
    ("xdp-generic", "xdp-generic"),
    ("xdp", "xdp"),
];

fn change_hooks(firewall: &mut Firewall<'_>, listener: &UdpSocket) -> Result<()> {
    for (hook, shown) in HOOKS {
        firewall.change(setup(&["eth0", "eth1"], hook, CLOSED))?;
        firewall.restart().with_context(|| format!("--hook {hook}"))?;
        let hooks = hooks(firewall, "eth0")?;
        ensure!(hooks.contains(shown), "--hook {hook}: {hooks}");
        let before = firewall.stat("policy")?;
        refused_since(firewall, before + 10, hook)?;
        hears_nothing(listener).with_context(|| format!("while --hook {hook} took over"))?;
    }
    Ok(())
}

/// What no rule admits.
struct Tries {
    to_gateway: Packet,
    through: Packet,
    back: Packet,
}

impl Tries {
    fn of(wires: &Wires, listener: &UdpSocket) -> Result<Self> {
        let client = wires.client.endpoint(Family::V4, 40_000);
        let server = wires.server.endpoint(Family::V4, 54);
        Ok(Self {
            to_gateway: Packet::udp(client, listener.local_addr()?, b"to the gateway"),
            through: Packet::syn(client, server),
            back: Packet::syn(server, client),
        })
    }

    fn send(&self, wires: &Wires) {
        // A queue that is full now has room later.
        let _ = wires.client.send(&self.to_gateway);
        let _ = wires.client.send(&self.through);
        let _ = wires.server.send(&self.back);
    }
}

mod an_interface {
    use super::*;

    #[test]
    fn that_is_made_again_under_its_name_is_enforced_on_again() {
        needs!(capability::firewall());
        made_again().unwrap();
    }

    fn made_again() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let gateway = network.gateway();
        let firewall = setup(&["eth0", "eth1"], "xdp", CLOSED).start(gateway)?;
        judges(&firewall, &Wires::across(&network)?)?;
        let former = index(&firewall, "eth0")?;

        gateway.ip("link del eth0")?;
        wait::until_true("eth0 to be forgotten", || {
            hooks(&firewall, "eth0").is_ok_and(|hooks| hooks.is_empty())
        })?;
        network.client.connect("eth0", gateway, "eth0")?;
        for (netns, address) in [(&network.client, "192.0.2.2/24"), (gateway, "192.0.2.1/24")] {
            netns.address("eth0", address)?;
        }
        network.client.run("ethtool -K eth0 gro on tx off")?;
        wait::until_true("eth0 to be enforced on again", || {
            hooks(&firewall, "eth0").is_ok_and(|hooks| hooks.contains("xdp"))
        })?;
        ensure!(index(&firewall, "eth0")? != former, "the same index: {former}");
        judges(&firewall, &Wires::across(&network)?)
    }

    #[test]
    fn that_is_renamed_stays_enforced_on() {
        needs!(capability::firewall());
        renamed().unwrap();
    }

    fn renamed() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let gateway = network.gateway();
        let wires = Wires::across(&network)?;
        let firewall = setup(&["eth0", "eth1"], "xdp", CLOSED).start(gateway)?;
        let former = index(&firewall, "eth1")?;
        gateway.ip("link set eth1 name wan0")?;
        wait::until_true("the new name", || {
            hooks(&firewall, "wan0").is_ok_and(|hooks| hooks.contains("xdp"))
        })?;
        ensure!(index(&firewall, "wan0")? == former, "another index");
        judges(&firewall, &wires)
    }
}

/// What a rule admits crosses; what none admits is dropped, from either side.
fn judges(firewall: &Firewall<'_>, wires: &Wires) -> Result<()> {
    let [client, server] = [&wires.client, &wires.server].map(|wire| wire.endpoint(Family::V4, 53));
    if firewall.text(&["save"])?.contains("-i eth0 -p udp") {
        wires.cross(End::Client, &Packet::udp(client, server, b"question"))?;
    }
    for (from, unwanted) in
        [(End::Client, Packet::syn(client, server)), (End::Server, Packet::syn(server, client))]
    {
        let before = firewall.stat("policy")?;
        wires.at(from).send(&unwanted)?;
        refused_since(firewall, before, &format!("a connection from the {from:?}"))?;
        wires.at(from.other()).has_not_seen(&unwanted)?;
    }
    Ok(())
}

fn hears_nothing(listener: &UdpSocket) -> Result<()> {
    listener.set_nonblocking(true)?;
    let heard = listener.recv(&mut [0; 64]);
    listener.set_nonblocking(false)?;
    ensure!(heard.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{heard:?}");
    Ok(())
}

/// What `firewall status` says of an interface; `Null` when it is not enforced on.
fn status(firewall: &Firewall<'_>, interface: &str) -> Result<Value> {
    let status = firewall.json(&["status"])?.pop().context("no status")?;
    let interfaces = status["interfaces"].as_array().context("no interfaces")?;
    let found = interfaces.iter().find(|one| one["name"] == interface);
    Ok(found.cloned().unwrap_or_default())
}

fn hooks(firewall: &Firewall<'_>, interface: &str) -> Result<String> {
    let status = status(firewall, interface)?;
    let hooks = status["hooks"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(hooks.collect::<Vec<_>>().join(" "))
}

/// What the programs are told.
fn described_as_ours(firewall: &Firewall<'_>) -> Result<Vec<String>> {
    let devices = Maps::open(&Pins::new(firewall.pin()))?.devices()?;
    let ours = devices.iter().filter(|(_, known)| known.flags & device::OURS != 0);
    Ok(ours.map(|(_, known)| known.name().to_owned()).collect())
}

fn index(firewall: &Firewall<'_>, interface: &str) -> Result<u64> {
    let status = status(firewall, interface)?;
    status["index"].as_u64().with_context(|| format!("no index of {interface}: {status}"))
}
