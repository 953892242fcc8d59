//! MASQUERADE and an address that changes: what went out by the old one is over, and what
//! begins goes out by the new one.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability, command::Background, exchange, firewall::Setup,
    needs, wait,
};

const OLD: &str = "198.51.100.1";
const NEW: &str = "198.51.100.7";

const RULES: &str = "\
*nat
-A POSTROUTING -o eth1 -p tcp --dport 8001 -j SNAT --to-source 198.51.100.1
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -j ACCEPT
COMMIT
";

fn start<'n>(network: &'n Gateway, hook: &str) -> Result<Firewall<'n>> {
    exchange::serve(&network.server)?;
    let setup = Setup::on(&["eth0", "eth1"]).rules(RULES).option("--hook").option(hook);
    setup.start(network.gateway())
}

/// Translated connections to this port, as `conntrack list` prints them.
fn listed(firewall: &Firewall<'_>, port: u16) -> Result<String> {
    firewall.text(&["conntrack", "list", "-n", "--dport", &port.to_string()])
}

/// Waits until masqueraded connections are gone, and told to be.
fn wait_for_end(firewall: &Firewall<'_>, ends: &Background) -> Result<()> {
    wait::until_true("the old connection's end", || {
        listed(firewall, exchange::PORT).is_ok_and(|text| text.is_empty())
    })?;
    wait::until_true("the news of it", || {
        ends.stdout().lines().any(|line| {
            line.contains("[DESTROY] tcp") && line.contains(&format!("dst={OLD} sport=8000"))
        })
    })
}

#[test]
fn connections_end_with_their_address_and_new_ones_have_the_new_address() {
    needs!(capability::firewall());
    for hook in ["xdp", "tc"] {
        changed(hook).with_context(|| hook).unwrap();
    }
}

fn changed(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, hook)?;
    let server = network.server_address(Family::V4);
    let [to, greeter] =
        [exchange::PORT, exchange::GREETER].map(|port| SocketAddr::new(server, port));
    let ends =
        Background::start(&mut firewall.command(&["conntrack", "events", "-e", "DESTROY"])?)?;
    wait::until_true("the watcher", || ends.stderr().contains("watching"))?;
    let old = exchange::connect(&network.client, to)?;
    exchange::exchange(&old, 10_000, 10_000)?;
    ensure!(listed(&firewall, exchange::PORT)?.contains(&format!("dst={OLD} ")));
    let _pinned = exchange::connect(&network.client, greeter)?;

    network.gateway().ip(&format!("address del {OLD}/24 dev eth1"))?;
    network.gateway().address("eth1", &format!("{NEW}/24"))?;
    wait_for_end(&firewall, &ends)?;
    // SNAT names its address, whoever has it.
    ensure!(listed(&firewall, exchange::GREETER)?.contains(&format!("dst={OLD} ")));
    let new = exchange::connect(&network.client, to)?;
    exchange::exchange(&new, 10_000, 10_000)?;
    ensure!(listed(&firewall, exchange::PORT)?.contains(&format!("dst={NEW} ")));
    Ok(())
}

#[test]
fn connections_end_when_their_interface_goes_down() {
    needs!(capability::firewall());
    down().unwrap();
}

fn down() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = start(&network, "xdp")?;
    let to = SocketAddr::new(network.server_address(Family::V4), exchange::PORT);
    let ends =
        Background::start(&mut firewall.command(&["conntrack", "events", "-e", "DESTROY"])?)?;
    wait::until_true("the watcher", || ends.stderr().contains("watching"))?;
    let old = exchange::connect(&network.client, to)?;
    exchange::exchange(&old, 10_000, 10_000)?;
    network.gateway().ip("link set eth1 down")?;
    wait_for_end(&firewall, &ends)?;
    network.gateway().ip("link set eth1 up")?;
    let new = wait::until("the link", std::time::Duration::from_secs(20), || {
        exchange::connect(&network.client, to).ok()
    })?;
    exchange::exchange(&new, 10_000, 10_000)
}
