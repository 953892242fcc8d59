//! FTP of the gateway itself behind table nat: its own clients, and its own servers.
//!
//! ```text
//!   client 192.0.2.2 ── eth0  gateway  eth1 ── server 198.51.100.2
//!             192.0.2.1                 198.51.100.1, .9
//! ```
//! The addresses that end in 9 are the gateway's, too; nobody has 203.0.113.5, which seems to be
//! behind the client.

use std::{
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, Translation, capability,
    client::{Client, Manner, transfer_calling},
    control::Control,
    files::Load,
    firewall::Setup,
    needs,
    server::{
        Kind, Server,
        own::{Own, Script},
    },
};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt::Mark,
};

/// What stands in table nat, and whom clients call for that; IPv4 and IPv6.
#[derive(Clone, Copy, Debug)]
struct Way {
    rules: [&'static str; 2],
    called: [&'static str; 2],
}

/// All where all is wanted, else one.
fn hooks(one: &'static str) -> Vec<&'static str> {
    if capability::full() { vec!["xdp", "xdp-generic", "tc"] } else { vec![one] }
}

mod own_clients {
    use super::*;

    const SERVER: [&str; 2] = ["198.51.100.2:21", "[2001:db8:2::2]:21"];

    #[test]
    fn keep_their_address_behind_a_masquerade() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        let rule = "-A POSTROUTING -o eth1 -j MASQUERADE";
        let way = Way { rules: [rule; 2], called: SERVER };
        for hook in hooks("xdp") {
            transfers(Kind::Vsftpd, way, hook).context(hook).unwrap();
        }
    }

    #[test]
    fn leave_with_the_address_of_snat() {
        needs!(capability::firewall(), Kind::Proftpd.available());
        let rules = [
            "-A POSTROUTING -o eth1 -p tcp -j SNAT --to-source 198.51.100.9",
            "-A POSTROUTING -o eth1 -p tcp -j SNAT --to-source 2001:db8:2::9",
        ];
        for hook in hooks("tc") {
            transfers(Kind::Proftpd, Way { rules, called: SERVER }, hook).context(hook).unwrap();
        }
    }

    #[test]
    fn transfer_through_dnat_of_output() {
        needs!(capability::firewall(), Kind::PureFtpd.available());
        let rules = [
            "-A OUTPUT -p tcp -d 203.0.113.5 -j DNAT --to-destination 198.51.100.2",
            "-A OUTPUT -p tcp -d 2001:db8:9::5 -j DNAT --to-destination 2001:db8:2::2",
        ];
        let called = ["203.0.113.5:21", "[2001:db8:9::5]:21"];
        for hook in hooks("xdp-generic") {
            transfers(Kind::PureFtpd, Way { rules, called }, hook).context(hook).unwrap();
        }
    }

    /// Where only the mark of the client's own socket leads.
    #[test]
    fn go_where_their_mark_leads_behind_dnat_of_output() {
        needs!(capability::firewall());
        marked().unwrap();
    }

    const MARK: u32 = 7;

    fn marked() -> Result<()> {
        let network = network()?;
        let gateway = network.gateway();
        gateway.ip(&format!("rule add fwmark {MARK} lookup 100"))?;
        gateway.ip("route add 198.51.100.2 dev eth1 table 100")?;
        gateway.ip("route add blackhole 198.51.100.2")?;
        let _server = Own::start(&network.server, Script::default())?;
        let rules = ["-A OUTPUT -p tcp -d 203.0.113.5 -j DNAT --to-destination 198.51.100.2", ""];
        let way = Way { rules, called: ["203.0.113.5:21", ""] };
        let _firewall = start(gateway, way, RELATED, "tc")?;
        let stream = gateway.enter(|| -> Result<TcpStream> {
            let flags = SockFlag::empty();
            let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
            setsockopt(&socket, Mark, &MARK)?;
            connect(socket.as_raw_fd(), &SockaddrIn::new(203, 0, 113, 5, 21))?;
            Ok(socket.into())
        });
        let mut control = Control::new(stream.context("the control connection")?)?;
        ensure!(control.reply()?.code == 220, "no greeting");
        control.login(("a", "b"))
    }

    fn transfers(kind: Kind, way: Way, hook: &str) -> Result<()> {
        let network = network()?;
        let server = Server::start(kind, &network.server)?;
        let firewall = start(network.gateway(), way, RELATED, hook)?;
        every(network.gateway(), &server, way)?;
        was_expected(&firewall)
    }

    const RELATED: &str = "-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT";

    fn network() -> Result<Gateway> {
        let network = Gateway::new(Offload::Tuned)?;
        let gateway = network.gateway();
        gateway.address("eth1", "198.51.100.9/24")?;
        gateway.address("eth1", "2001:db8:2::9/64")?;
        gateway.ip("route add 203.0.113.5 via 192.0.2.2")?;
        gateway.ip("-6 route add 2001:db8:9::5 via 2001:db8:1::2")?;
        Ok(network)
    }
}

mod own_servers {
    use super::*;

    /// In front of which table nat has nothing.
    const GATEWAY: [&str; 2] = ["192.0.2.1:21", "[2001:db8:1::1]:21"];

    #[test]
    fn serve_who_calls_them_straight() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        let rule = "-A POSTROUTING -o eth1 -j MASQUERADE";
        for hook in hooks("tc") {
            let way = Way { rules: [rule; 2], called: GATEWAY };
            serve(Kind::Vsftpd, way, hook).context(hook).unwrap();
        }
    }

    #[test]
    fn serve_behind_a_redirect_to_their_port() {
        needs!(capability::firewall(), Kind::PureFtpd.available());
        let rule = "-A PREROUTING -i eth0 -p tcp --dport 2121 -j REDIRECT --to-ports 21";
        let called = ["192.0.2.1:2121", "[2001:db8:1::1]:2121"];
        for hook in hooks("xdp") {
            let way = Way { rules: [rule; 2], called };
            serve(Kind::PureFtpd, way, hook).context(hook).unwrap();
        }
    }

    #[test]
    fn serve_at_another_address_of_the_gateway() {
        needs!(capability::firewall(), Kind::Proftpd.available());
        let rules = [
            "-A PREROUTING -i eth0 -p tcp --dport 21 -j DNAT --to-destination 198.51.100.1",
            "-A PREROUTING -i eth0 -p tcp --dport 21 -j DNAT --to-destination 2001:db8:2::1",
        ];
        for hook in hooks("xdp-generic") {
            serve(Kind::Proftpd, Way { rules, called: GATEWAY }, hook).context(hook).unwrap();
        }
    }

    fn serve(kind: Kind, way: Way, hook: &str) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        // The client has no way but to the gateway's address that it calls.
        Translation::Forwarded.hide(&network)?;
        let server = Server::start(kind, network.gateway())?;
        let filter = "-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
                      -A INPUT -i eth0 -p tcp --dport 21 -m state --state NEW -j ACCEPT";
        let firewall = start(network.gateway(), way, filter, hook)?;
        every(&network.client, &server, way)?;
        was_expected(&firewall)
    }
}

fn start<'n>(gateway: &'n Netns, way: Way, filter: &str, hook: &str) -> Result<Firewall<'n>> {
    let [rules, rules6] = way.rules.map(|nat| {
        format!(
            "*nat\n{nat}\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n\
             :OUTPUT ACCEPT [0:0]\n-A INPUT -p ipv6-icmp -j ACCEPT\n{filter}\nCOMMIT\n"
        )
    });
    Setup::on(&["eth0", "eth1"])
        .rules(&rules)
        .rules6(&rules6)
        .option(&format!("--hook={hook}"))
        .start(gateway)
}

/// What clients can, as far as it is asked for; every fifth of it where not all is wanted.
fn every(from: &Netns, server: &Server, way: Way) -> Result<()> {
    let possible = Client::ALL.into_iter().flat_map(|client| {
        Manner::all().filter(move |manner| client.can(*manner)).map(move |manner| (client, manner))
    });
    let step = if capability::full() { 1 } else { 5 };
    let mut failed = Vec::new();
    for (client, manner) in possible.skip(server.kind() as usize % step).step_by(step) {
        let called: SocketAddr = way.called[usize::from(manner.family == Family::V6)].parse()?;
        let done = transfer_calling(client, from, server, called, manner, Load::ONE_SMALL);
        failed.extend(done.err().map(|error| format!("{client:?} {manner:?}: {error:#}")));
    }
    ensure!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

fn was_expected(firewall: &Firewall<'_>) -> Result<()> {
    ensure!(firewall.stat("expectations-used")? > 0, "no connection was expected");
    ensure!(firewall.stat("helper-untold")? == 0, "something was not told");
    ensure!(firewall.stat("punt-skipped")? == 0, "something was not read");
    Ok(())
}
