//! The demonstration: FTP through the firewall, step by step.
//!
//! `cargo xtask demo` builds everything and starts it. The exit status is 0 only
//! when every step went as expected.

mod screen;
mod steps;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use firewall_tests::{
    Family, Gateway, Offload, capability,
    client::{Client, Mode},
    firewall::Setup,
    server::{Kind, Server},
};

use crate::screen::Screen;

const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -p tcp -m tcp --dport 21 -m state --state NEW -j ACCEPT
COMMIT
";

/// The gateway must find its neighbours.
const NEIGHBOUR_DISCOVERY: &str = "-A INPUT -p ipv6-icmp -j ACCEPT\nCOMMIT";

const DRAWING: &str = "\
    client                 gateway                 server
    eth0 ────────────── eth0     eth1 ────────────── eth0
    192.0.2.2             firewall            198.51.100.2
    2001:db8:1::2                            2001:db8:2::2
    curl, lftp                                     vsftpd
";

fn main() -> ExitCode {
    let mut screen = Screen::new();
    match demonstrate(&mut screen) {
        Ok(()) => screen.summary(),
        Err(error) => {
            screen.broken_off(&error);
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(screen: &mut Screen) -> Result<()> {
    let needs = [capability::firewall(), Kind::Vsftpd.available()];
    let needs = needs.into_iter().chain([Client::Curl, Client::Lftp].map(Client::available));
    for need in needs {
        need.map_err(anyhow::Error::msg)?;
    }

    screen.title("Three boxes, each in a network namespace of its own");
    screen.text(DRAWING);
    let network = Gateway::new(Offload::Tuned)?;
    let server = Server::start(Kind::Vsftpd, &network.server)?;

    screen.title("The gateway forwards FTP's control connections and what they announce");
    screen.text(RULES);
    let rules6 = RULES.replace("COMMIT", NEIGHBOUR_DISCOVERY);
    let firewall = Setup::on(&["eth0", "eth1"])
        .rules(RULES)
        .rules6(&rules6)
        .start(network.gateway())
        .context("the firewall does not start")?;
    let demonstration = steps::Demonstration { network: &network, server: &server, firewall };

    screen.title("curl and lftp fetch and store files");
    for client in [Client::Curl, Client::Lftp] {
        for family in [Family::V4, Family::V6] {
            for mode in [Mode::Active, Mode::Passive] {
                demonstration.transfer(screen, client, mode, family);
            }
        }
    }
    screen.title("What the gateway knows while a file is on its way");
    demonstration.announced(screen);
    demonstration.running(screen, Mode::Active, Family::V4);
    demonstration.running(screen, Mode::Passive, Family::V6);

    screen.title("What nobody announced");
    demonstration.unannounced(screen);
    demonstration.beside(screen);

    screen.title("What was counted");
    screen.output("firewall rules", &demonstration.firewall.text(&["rules"])?);
    demonstration.end(screen);
    Ok(())
}
