//! Rules that people have written for FTP, as they wrote them, under real
//! traffic; and beside each what must not pass.
//!
//! Boxes (a, b) are neighbours, and one of them has the firewall:
//!
//! ```text
//!   client                server
//!   eth0 ──────────────── eth0
//!   192.0.2.2             192.0.2.3, and a ghost 192.0.2.99
//! ```
//!
//! The gateway (c to f) stands in the middle, as the crate's drawing shows; at
//! (c) the client is 192.168.7.2. Ghosts: 192.0.2.77 and 198.51.100.77.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability,
    client::{Client, Direction, Manner, Mode, transfer},
    control::{Control, host_port},
    files::Load,
    firewall::Setup,
    ledger::{Ledger, refused_since},
    needs,
    packet::{IcmpError, Packet},
    server::{
        Kind, Server,
        own::{self, Own, Script},
    },
    wire::{End, Wire, Wires},
};

const CLIENT_BOX: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -p tcp --sport 21 -m state --state ESTABLISHED -j ACCEPT
-A OUTPUT -p tcp --dport 21 -m state --state NEW,ESTABLISHED -j ACCEPT
-A INPUT -p tcp --sport 20 -m state --state ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -p tcp --dport 20 -m state --state ESTABLISHED -j ACCEPT
-A INPUT -p tcp --sport 1024: --dport 1024: -m state --state ESTABLISHED -j ACCEPT
-A OUTPUT -p tcp --sport 1024: --dport 1024: -m state --state ESTABLISHED,RELATED -j ACCEPT
COMMIT
";

const SERVER_BOX: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -p tcp --dport 21 -m state --state NEW,ESTABLISHED -j ACCEPT
-A OUTPUT -p tcp --sport 21 -m state --state ESTABLISHED -j ACCEPT
-A OUTPUT -p tcp --sport 20 -m state --state ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 20 -m state --state ESTABLISHED -j ACCEPT
-A OUTPUT -p tcp --sport 1024: --dport 1024: -m state --state ESTABLISHED -j ACCEPT
-A INPUT -p tcp --sport 1024: --dport 1024: -m state --state ESTABLISHED,RELATED -j ACCEPT
COMMIT
";

const SERVER_BOX_SHORT: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -p tcp --dport 21 -m state --state NEW -j ACCEPT
-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
COMMIT
";

const SOMEBODY: [&str; 2] = ["192.0.2.99", "2001:db8:1::99"];

/// A box with the firewall, and who attacks it from the other end of the link.
struct Boxed<'a> {
    firewall: Firewall<'a>,
    wire: Wire,
    own: std::net::IpAddr,
}

impl<'a> Boxed<'a> {
    fn start(netns: &'a Netns, other: &Netns, own: std::net::IpAddr, rules: &str) -> Result<Self> {
        let firewall = Setup::on(&["eth0"]).rules(rules).start(netns)?;
        let wire = Wire::ghost(other, netns, "eth0", SOMEBODY)?;
        Ok(Self { firewall, wire, own })
    }

    /// A connection that somebody opens to a port of the box is dropped by the
    /// policy of INPUT.
    fn refuses_from(&self, source_port: u16, port: u16) -> Result<()> {
        let syn = Packet::syn(
            self.wire.endpoint(Family::V4, source_port),
            SocketAddr::new(self.own, port),
        );
        let before = Ledger::read(&self.firewall)?;
        self.wire.send(&syn)?;
        let what = format!("from port {source_port} to port {port}");
        refused_since(&self.firewall, before.policy_drops(), &what)?;
        let moved = Ledger::read(&self.firewall)?.since(&before);
        ensure!(moved.policies.contains_key("filter INPUT DROP"), "{what}: {:?}", moved.policies);
        Ok(())
    }
}

fn ftp(network: &Gateway, server: &Server, client: Client, mode: Mode) -> Result<()> {
    let manner = Manner::new(mode, Family::V4, Direction::Down);
    let address = network.server_address(Family::V4);
    transfer(client, &network.client, server, address, manner, Load::ONE_SMALL)?;
    let upload = Manner { direction: Direction::Up, ..manner };
    transfer(client, &network.client, server, address, upload, Load::ONE_SMALL)
}

mod client_box {
    use super::*;

    #[test]
    fn active_and_passive_transfers_pass() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        transfers().unwrap();
    }

    fn transfers() -> Result<()> {
        let network = Gateway::hosts(Offload::Tuned)?;
        let server = Server::start(Kind::Vsftpd, &network.server)?;
        let own = network.client_address(Family::V4);
        let boxed = Boxed::start(&network.client, &network.server, own, CLIENT_BOX)?;
        for mode in [Mode::Active, Mode::Passive] {
            ftp(&network, &server, Client::Curl, mode)?;
            ftp(&network, &server, Client::Lftp, mode)?;
        }
        let ledger = Ledger::read(&boxed.firewall)?;
        for rule in ["--sport 20 -m state", "--sport 1024:65535 --dport 1024:65535 -m state"] {
            let used = ledger.rules.iter().filter(|(text, _)| text.contains(rule));
            ensure!(used.clone().all(|(_, packets)| *packets > 0), "unused: {:?}", ledger.rules);
            ensure!(used.count() > 0, "no rule {rule} in {:?}", ledger.rules);
        }
        Ok(())
    }

    #[test]
    fn a_connection_from_port_20_that_no_port_announced_is_dropped() {
        needs!(capability::firewall());
        unannounced_active().unwrap();
    }

    fn unannounced_active() -> Result<()> {
        let network = Gateway::hosts(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let own = network.client_address(Family::V4);
        let boxed = Boxed::start(&network.client, &network.server, own, CLIENT_BOX)?;
        boxed.refuses_from(20, 40_000)?;

        // The same while a session has announced a port: another host is refused
        // at that port, the server is refused at the next.
        let server = SocketAddr::new(network.server_address(Family::V4), 21);
        let mut control = Control::open(&network.client, server)?;
        control.login(("a", "b"))?;
        let reply =
            control.command(&format!("PORT {}", host_port(SocketAddr::new(own, 40_000))))?;
        ensure!(reply.code == 200, "{reply:?}");
        boxed.refuses_from(20, 40_000)?;
        let from = SocketAddr::new(server.ip(), 20);
        let before = boxed.firewall.stat("policy")?;
        let syn = Packet::syn(from, SocketAddr::new(own, 40_001));
        boxed.wire.send(&syn)?;
        refused_since(&boxed.firewall, before, "from the server to the next port")
    }

    #[test]
    fn a_connection_to_a_high_port_that_no_227_announced_is_dropped() {
        needs!(capability::firewall());
        unannounced_passive().unwrap();
    }

    fn unannounced_passive() -> Result<()> {
        let network = Gateway::hosts(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let own = network.client_address(Family::V4);
        let boxed = Boxed::start(&network.client, &network.server, own, CLIENT_BOX)?;
        boxed.refuses_from(40_000, 40_001)?;

        let address = network.server_address(Family::V4);
        let begin = |to| network.client.enter(|| own::begin_to_connect(None, to));
        let before = boxed.firewall.stat("policy")?;
        let _attempt = begin(SocketAddr::new(address, 40_000))?;
        refused_since(&boxed.firewall, before, "to a high port of the server")?;

        let mut control = Control::open(&network.client, SocketAddr::new(address, 21))?;
        control.login(("a", "b"))?;
        let announced = control.command("PASV")?.port()?;
        let before = boxed.firewall.stat("policy")?;
        let _attempt = begin(SocketAddr::new(address, announced ^ 1))?;
        refused_since(&boxed.firewall, before, "to the port beside the announced one")
    }
}

mod server_box {
    use super::*;

    #[test]
    fn transfers_pass_with_the_long_form() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        transfers(SERVER_BOX).unwrap();
    }

    #[test]
    fn transfers_pass_with_the_short_form() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        transfers(SERVER_BOX_SHORT).unwrap();
    }

    fn transfers(rules: &str) -> Result<()> {
        let network = Gateway::hosts(Offload::Tuned)?;
        let server = Server::start(Kind::Vsftpd, &network.server)?;
        let own = network.server_address(Family::V4);
        let boxed = Boxed::start(&network.server, &network.client, own, rules)?;
        for mode in [Mode::Active, Mode::Passive] {
            ftp(&network, &server, Client::Curl, mode)?;
            ftp(&network, &server, Client::Lftp, mode)?;
        }
        boxed.refuses_from(40_000, 40_001)
    }

    #[test]
    fn unannounced_connections_are_dropped_with_the_long_form() {
        needs!(capability::firewall());
        unannounced(SERVER_BOX).unwrap();
    }

    #[test]
    fn unannounced_connections_are_dropped_with_the_short_form() {
        needs!(capability::firewall());
        unannounced(SERVER_BOX_SHORT).unwrap();
    }

    fn unannounced(rules: &str) -> Result<()> {
        let network = Gateway::hosts(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let own = network.server_address(Family::V4);
        let boxed = Boxed::start(&network.server, &network.client, own, rules)?;
        boxed.refuses_from(40_000, 40_001)?;
        boxed.refuses_from(40_000, 20)?;

        let mut control = Control::open(&network.client, SocketAddr::new(own, 21))?;
        control.login(("a", "b"))?;
        let announced = control.command("PASV")?.port()?;
        boxed.refuses_from(40_000, announced)?;

        // From the box itself: port 20 to a client that announced nothing.
        let before = boxed.firewall.stat("policy")?;
        let client = SocketAddr::new(network.client_address(Family::V4), 40_000);
        let port_20 = Some(SocketAddr::new(own, 20));
        let _attempt = network.server.enter(|| own::begin_to_connect(port_20, client))?;
        refused_since(&boxed.firewall, before, "from port 20 to a client that did not ask")
    }
}

mod gateway_with_a_clients_chain {
    use super::*;

    const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:CLIENTS - [0:0]
-A FORWARD -j CLIENTS
-A CLIENTS -p tcp -m multiport -s 192.168.0.0/16 --dports 21,443,1863 -j ACCEPT
-A CLIENTS -p tcp -m multiport -d 192.168.0.0/16 --sports 21,443,1863 -j ACCEPT
-A CLIENTS -p tcp --sport 20 -m state --state ESTABLISHED,RELATED -j ACCEPT
-A CLIENTS -p tcp --dport 20 -m state --state ESTABLISHED,RELATED -j ACCEPT
COMMIT
";

    #[test]
    fn active_passes_and_passive_only_after_a_related_rule() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        scenario().unwrap();
    }

    fn scenario() -> Result<()> {
        let network = Gateway::with_lan(Offload::Tuned)?;
        let server = Server::start(Kind::Vsftpd, &network.server)?;
        let firewall = Setup::on(&["eth0", "eth1"]).rules(RULES).start(network.gateway())?;
        ftp(&network, &server, Client::Curl, Mode::Active)?;

        let address = SocketAddr::new(network.server_address(Family::V4), 21);
        let mut control = Control::open(&network.client, address)?;
        control.login(server.kind().account())?;
        let data = SocketAddr::new(address.ip(), control.command("PASV")?.port()?);
        let before = firewall.stat("policy")?;
        let _attempt = network.client.enter(|| own::begin_to_connect(None, data))?;
        refused_since(&firewall, before, "passive without a RELATED rule")?;

        let related = "-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT\nCOMMIT";
        firewall.apply(&RULES.replace("COMMIT", related))?;
        ftp(&network, &server, Client::Curl, Mode::Passive)?;
        ftp(&network, &server, Client::Curl, Mode::Active)
    }

    #[test]
    fn a_client_outside_the_network_of_the_rule_is_refused() {
        needs!(capability::firewall());
        outside().unwrap();
    }

    fn outside() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let firewall = Setup::on(&["eth0", "eth1"]).rules(RULES).start(network.gateway())?;
        let before = firewall.stat("policy")?;
        let server = wires.server.endpoint(Family::V4, 21);
        let syn = Packet::syn(wires.client.endpoint(Family::V4, 40_000), server);
        wires.client.send(&syn)?;
        refused_since(&firewall, before, "192.0.2.77 to port 21")?;
        wires.server.has_not_seen(&syn)
    }
}

mod helper_match {
    use super::*;

    const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state ESTABLISHED -j ACCEPT
-A FORWARD -m state --state RELATED -m helper --helper ftp -j ACCEPT
-A FORWARD -i eth0 -p tcp --dport 21 -m state --state NEW -j ACCEPT
-A FORWARD -i eth0 -p udp --dport 9 -m state --state NEW -j ACCEPT
COMMIT
";

    #[test]
    fn related_to_ftp_admits_data_connections() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        admits().unwrap();
    }

    fn admits() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let server = Server::start(Kind::Vsftpd, &network.server)?;
        let firewall = Setup::on(&["eth0", "eth1"]).rules(RULES).start(network.gateway())?;
        for mode in [Mode::Active, Mode::Passive] {
            ftp(&network, &server, Client::Curl, mode)?;
        }
        let used = Ledger::read(&firewall)?.rule("--helper ftp -j ACCEPT");
        ensure!(used >= 4, "the rule has seen {used} of four data connections");
        Ok(())
    }

    #[test]
    fn related_to_ftp_refuses_an_error_about_another_flow() {
        needs!(capability::firewall());
        refuses().unwrap();
    }

    fn refuses() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let firewall = Setup::on(&["eth0", "eth1"]).rules(RULES).start(network.gateway())?;
        let [client, server] =
            [wires.client.endpoint(Family::V4, 40_000), wires.server.endpoint(Family::V4, 9)];
        let asked = Packet::udp(client, server, b"anyone?");
        wires.cross(End::Client, &asked)?;
        let before = firewall.stat("policy")?;
        let error = asked.error(server.ip(), IcmpError::PortUnreachable);
        wires.server.send(&error)?;
        refused_since(&firewall, before, "an ICMP error that no FTP announced")?;
        ensure!(Ledger::read(&firewall)?.rule("--helper ftp -j ACCEPT") == 0, "taken for FTP");
        wires.client.has_not_seen(&error)
    }
}

mod udp {
    use super::*;

    const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -i eth0 -p udp -m state --state NEW,ESTABLISHED -j ACCEPT
-A FORWARD -i eth1 -p udp -m state --state ESTABLISHED -j ACCEPT
COMMIT
";

    #[test]
    fn only_replies_to_what_went_out_pass() {
        needs!(capability::firewall());
        for family in [Family::V4, Family::V6] {
            replies(family).unwrap();
        }
    }

    fn replies(family: Family) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(RULES).start(network.gateway())?;
        let client = wires.client.endpoint(family, 40_000);
        let server = |port| wires.server.endpoint(family, port);
        let refused = |packet: &Packet, what| {
            let before = firewall.stat("policy")?;
            wires.server.send(packet)?;
            refused_since(&firewall, before, what)?;
            wires.client.has_not_seen(packet)
        };

        refused(&Packet::udp(server(53), client, b"early"), "before anything went out")?;
        wires.cross(End::Client, &Packet::udp(client, server(53), b"question"))?;
        wires.cross(End::Server, &Packet::udp(server(53), client, b"answer"))?;
        wires.cross(End::Server, &Packet::udp(server(53), client, b"more"))?;
        refused(&Packet::udp(server(54), client, b"x"), "from another port")?;
        let other = SocketAddr::new(client.ip(), 40_001);
        refused(&Packet::udp(server(53), other, b"x"), "to another port")
    }
}

mod icmp_errors {
    use super::*;

    /// Rules without a target count the states.
    const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p ICMP -m state --state NEW
-A FORWARD -p ICMP -m state --state ESTABLISHED
-A FORWARD -p ICMP -m state --state RELATED
-A FORWARD -p ICMP -m state --state INVALID
-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -p udp -m state --state NEW -j ACCEPT
COMMIT
";

    #[test]
    fn about_a_tracked_flow_are_related() {
        needs!(capability::firewall());
        for family in [Family::V4, Family::V6] {
            for error in [IcmpError::PortUnreachable, IcmpError::TooBig { mtu: 1400 }] {
                related(family, error).unwrap();
            }
        }
    }

    #[test]
    fn about_an_unknown_flow_are_invalid() {
        needs!(capability::firewall());
        for family in [Family::V4, Family::V6] {
            for error in [IcmpError::PortUnreachable, IcmpError::TooBig { mtu: 1400 }] {
                invalid(family, error).unwrap();
            }
        }
    }

    struct Bench {
        network: Gateway,
        wires: Wires,
    }

    impl Bench {
        fn new() -> Result<Self> {
            let network = Gateway::new(Offload::Tuned)?;
            let wires = Wires::across(&network)?;
            Ok(Self { network, wires })
        }

        fn firewall(&self) -> Result<Firewall<'_>> {
            Setup::on(&["eth0", "eth1"])
                .rules(&RULES.replace("ICMP", "icmp"))
                .rules6(&RULES.replace("ICMP", "ipv6-icmp"))
                .start(self.network.gateway())
        }

        fn question(&self, family: Family, port: u16) -> Packet {
            let client = self.wires.client.endpoint(family, 40_000);
            Packet::udp(client, self.wires.server.endpoint(family, port), b"question")
        }
    }

    fn related(family: Family, error: IcmpError) -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall()?;
        let question = bench.question(family, 53);
        bench.wires.cross(End::Client, &question)?;
        let before = Ledger::read(&firewall)?;
        let error = question.error(bench.wires.server.address(family), error);
        bench.wires.cross(End::Server, &error)?;
        let moved = Ledger::read(&firewall)?.since(&before);
        ensure!(states(&moved, family) == [0, 0, 1, 0], "{error:?}: {moved:#?}");
        Ok(())
    }

    fn invalid(family: Family, error: IcmpError) -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall()?;
        let before = Ledger::read(&firewall)?;
        let question = bench.question(family, 54);
        let error = question.error(bench.wires.server.address(family), error);
        bench.wires.server.send(&error)?;
        refused_since(&firewall, before.policy_drops(), "an error about an unknown flow")?;
        let moved = Ledger::read(&firewall)?.since(&before);
        ensure!(states(&moved, family) == [0, 0, 0, 1], "{error:?}: {moved:#?}");
        bench.wires.client.has_not_seen(&error)
    }

    /// NEW, ESTABLISHED, RELATED, INVALID.
    fn states(moved: &Ledger, family: Family) -> [u64; 4] {
        let protocol = match family {
            Family::V4 => "-A FORWARD -p icmp",
            Family::V6 => "6: -A FORWARD -p ipv6-icmp",
        };
        ["NEW", "ESTABLISHED", "RELATED", "INVALID"].map(|state| {
            let key = format!("{protocol} -m state --state {state}");
            moved.rules.get(&key).copied().unwrap_or(0)
        })
    }
}

#[test]
fn a_listener_behind_the_client_box_hears_only_what_was_announced() {
    needs!(capability::firewall());
    listener().unwrap();
}

/// The whole way with kernel sockets at both ends: the announced connection
/// arrives, the one beside it does not.
fn listener() -> Result<()> {
    let network = Gateway::hosts(Offload::Default)?;
    let _server = Own::start(&network.server, Script::default())?;
    let own = network.client_address(Family::V4);
    let boxed = Boxed::start(&network.client, &network.server, own, CLIENT_BOX)?;
    let address = network.server_address(Family::V4);
    let [announced, beside] = [40_000, 40_001].map(|port| SocketAddr::new(own, port));
    let listen = |endpoint| network.client.enter(|| TcpListener::bind(endpoint));
    let (announced_listener, beside_listener) = (listen(announced)?, listen(beside)?);

    let mut control = Control::open(&network.client, SocketAddr::new(address, 21))?;
    control.login(("a", "b"))?;
    control.command(&format!("PORT {}", host_port(announced)))?;
    let before = boxed.firewall.stat("policy")?;
    let port_20 = SocketAddr::new(address, 20);
    let _attempt = network.server.enter(|| own::begin_to_connect(Some(port_20), beside))?;
    refused_since(&boxed.firewall, before, "beside the announced port")?;

    control.write(b"RETR file\r\n")?;
    let (stream, peer) = announced_listener.accept()?;
    ensure!(peer == port_20, "from {peer}");
    ensure!(std::io::read_to_string(stream)? == own::contents("file"), "other contents");
    ensure!(control.reply()?.code == 150 && control.reply()?.code == 226, "no 150 and 226");
    beside_listener.set_nonblocking(true)?;
    ensure!(beside_listener.accept().is_err(), "the port beside was reached");
    Ok(())
}
