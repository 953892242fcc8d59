//! What helpers do beyond the announcements of clear control connections: the passive
//! range of encrypted ones, TFTP, and a crowd that talks at once.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Configuration, Family, Firewall, Gateway, Netns, Offload, Translation, capability,
    control::{Control, host_port},
    firewall::Setup,
    ledger::refused_since,
    needs, retrieval,
    server::own::{self, Own, Script, contents},
    stats::TcpLoss,
    wait,
};
use firewall_user::kernel::pins::Pins;

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -p tcp -m multiport --dports 21,2121 -m state --state NEW -j ACCEPT
-A FORWARD -i eth0 -p udp -m multiport --dports 69,6969 -m state --state NEW -j ACCEPT
COMMIT
";

/// TFTP on another port, by a rule.
const BY_RULE: &str = "\
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp --dport 6969 -j CT --helper tftp
COMMIT
";

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn start<'n>(
    configuration: &Configuration,
    network: &'n Gateway,
    rules: &str,
    hook: &str,
) -> Result<Firewall<'n>> {
    let setup = Setup::on(&["eth0", "eth1"]).both(rules).option("--hook").option(hook);
    configuration.given_to(setup).start(network.gateway())
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

mod tls_passive_range {
    use super::*;

    const INSIDE: [u16; 3] = [50_000, 50_050, 50_100];
    const OUTSIDE: [u16; 2] = [49_999, 50_101];

    #[test]
    fn is_open_while_the_control_connection_is_encrypted() {
        needs!(capability::firewall());
        range(Translation::None).unwrap();
    }

    /// The client reaches the range at the address that it has called, by no rule of table nat.
    #[test]
    fn is_open_behind_a_port_forward_of_the_control_connection_alone() {
        needs!(capability::firewall());
        for translation in [Translation::Forwarded, Translation::Both] {
            range(translation).with_context(|| format!("{translation:?}")).unwrap();
        }
    }

    fn range(translation: Translation) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let agrees = Script::default().wording(|reply| {
            vec![format!("{}\r\n", reply.replace("502 not here", "234 go on")).into_bytes()]
        });
        let _server = Own::start(&network.server, agrees)?;
        let listeners = INSIDE.map(|port| {
            network.server.enter(|| TcpListener::bind(everywhere(port))).expect("a free port")
        });
        let range = "[helper.ftp]\ntls_passive_range = \"50000-50100\"\n";
        let configuration = Configuration::new(range)?;
        translation.hide(&network)?;
        let setup = Setup::on(&["eth0", "eth1"])
            .rules(&translation.rules(Family::V4))
            .rules6(&translation.rules(Family::V6));
        let firewall = configuration.given_to(setup).start(network.gateway())?;
        for family in FAMILIES {
            let server = translation.called(&network, family);
            closed(&network, &firewall, server, "before any control connection")?;
            let mut control = Control::open(&network.client, SocketAddr::new(server, 21))?;
            let mut second = Control::open(&network.client, SocketAddr::new(server, 21))?;
            closed(&network, &firewall, server, "before AUTH TLS")?;
            for control in [&mut control, &mut second] {
                let answer = control.command("AUTH TLS")?;
                ensure!(answer.code == 234, "{answer:?}");
            }
            open(&network, server)?;
            outside(&network, &firewall, server)?;
            let listed = firewall.text(&["expect", "list"])?;
            ensure!(listed.contains(" dport=50000-50100 "), "{family:?}: {listed}");
            // The first one ends: the range is the second one's.
            drop(control);
            wait::until_true("the range to be the other's", || {
                let port = second.local().map_or(0, |local| local.port());
                let listed = firewall.text(&["expect", "list"]).unwrap_or_default();
                listed.contains(&format!(" sport={port} dport=21 class=0"))
            })?;
            open(&network, server)?;
            in_the_clear(&network, &firewall, &mut second)?;
            closed(&network, &firewall, server, "after the encryption")?;
        }
        drop(listeners);
        Ok(())
    }

    /// Each port of the range lets in as many connections as come.
    fn open(network: &Gateway, server: IpAddr) -> Result<()> {
        for port in INSIDE.into_iter().chain(INSIDE) {
            let to = SocketAddr::new(server, port);
            network
                .client
                .enter(|| TcpStream::connect_timeout(&to, wait::DEADLINE))
                .with_context(|| format!("a data connection to {to}"))?;
        }
        Ok(())
    }

    fn outside(network: &Gateway, firewall: &Firewall<'_>, server: IpAddr) -> Result<()> {
        for port in OUTSIDE {
            refused(network, firewall, SocketAddr::new(server, port), "outside of the range")?;
        }
        Ok(())
    }

    fn closed(
        network: &Gateway,
        firewall: &Firewall<'_>,
        server: IpAddr,
        when: &str,
    ) -> Result<()> {
        refused(network, firewall, SocketAddr::new(server, INSIDE[1]), when)
    }

    fn refused(
        network: &Gateway,
        firewall: &Firewall<'_>,
        to: SocketAddr,
        when: &str,
    ) -> Result<()> {
        let before = firewall.stat("policy")?;
        let _attempt = network.client.enter(|| own::begin_to_connect(None, to))?;
        refused_since(firewall, before, when)
    }

    /// Both ends speak without TLS records again, as after CCC.
    fn in_the_clear(
        network: &Gateway,
        firewall: &Firewall<'_>,
        control: &mut Control,
    ) -> Result<()> {
        let server = control.peer()?;
        let command = if server.is_ipv4() { "PASV" } else { "EPSV" };
        let port = control.command(command)?.port()?;
        let data = SocketAddr::new(server.ip(), port);
        let mut stream =
            network.client.enter(|| TcpStream::connect_timeout(&data, wait::DEADLINE))?;
        control.write(b"RETR file\r\n")?;
        let mut arrived = String::new();
        stream.read_to_string(&mut arrived)?;
        ensure!(arrived == contents("file"), "arrived: {arrived:?}");
        let encrypted = firewall.text(&["conntrack", "list", "-u", "ENCRYPTED"])?;
        let own = format!(" sport={} ", control.local()?.port());
        ensure!(!encrypted.contains(&own), "marked still: {encrypted}");
        Ok(())
    }
}

mod tftp {
    use super::*;

    const REQUEST: &[u8] = b"\0\x01boot/image\0octet\0";
    const DATA: &[u8] = b"\0\x03\0\x01the first block";
    const ACKNOWLEDGEMENT: &[u8] = b"\0\x04\0\x01";

    #[test]
    fn answers_come_from_any_port_of_the_server_to_the_one_that_asked() {
        needs!(capability::firewall());
        for hook in ["xdp", "xdp-generic", "tc"] {
            on_hook(hook).with_context(|| hook.to_owned()).unwrap();
        }
    }

    #[test]
    fn no_request_waits_for_whoever_keeps_the_settings() {
        needs!(capability::firewall());
        while_locked().unwrap();
    }

    fn while_locked() -> Result<()> {
        let network = Gateway::new(Offload::Default)?;
        let configuration = Configuration::new("[helper.tftp]\nports = [69]\n")?;
        let firewall = start(&configuration, &network, RULES, "xdp")?;
        let lock = Pins::new(firewall.pin()).lock_settings()?;
        let server = SocketAddr::new(network.server_address(Family::V4), 69);
        let listener = network.server.enter(|| UdpSocket::bind(server))?;
        listener.set_read_timeout(Some(wait::DEADLINE))?;
        let own = SocketAddr::new(network.client_address(Family::V4), 0);
        let client = network.client.enter(|| UdpSocket::bind(own))?;
        client.send_to(REQUEST, server)?;
        listener.recv_from(&mut [0; 600]).context("the request")?;
        let expected = firewall.text(&["expect", "list"])?;
        ensure!(expected.contains("helper=tftp"), "nothing is expected: {expected:?}");
        drop(lock);
        // Whoever has waited for that asks for what is expected: another one is answered.
        let answer = || {
            client.send_to(REQUEST, server).ok()?;
            let (_, from) = listener.recv_from(&mut [0; 600]).ok()?;
            let session = network.server.enter(|| UdpSocket::bind((server.ip(), 0))).ok()?;
            session.send_to(DATA, from).ok()?;
            client.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
            client.recv_from(&mut [0; 600]).ok().map(drop)
        };
        wait::until("an answer", wait::DEADLINE, answer)
    }

    fn on_hook(hook: &str) -> Result<()> {
        let network = Gateway::new(Offload::Default)?;
        let configuration = Configuration::new("[helper.tftp]\nports = [69]\n")?;
        let rules = format!("{BY_RULE}{RULES}");
        let firewall = start(&configuration, &network, &rules, hook)?;
        for family in FAMILIES {
            for port in [69, 6969] {
                let server = SocketAddr::new(network.server_address(family), port);
                transfer(&network, &firewall, server).with_context(|| format!("{server}"))?;
            }
        }
        Ok(())
    }

    fn transfer(network: &Gateway, firewall: &Firewall<'_>, server: SocketAddr) -> Result<()> {
        let bind = |netns: &Netns, at: SocketAddr| -> Result<UdpSocket> {
            let socket = netns.enter(|| UdpSocket::bind(at))?;
            socket.set_read_timeout(Some(wait::DEADLINE))?;
            Ok(socket)
        };
        let any = |ip: IpAddr| SocketAddr::new(ip, 0);
        let own = if server.is_ipv4() {
            network.client_address(Family::V4)
        } else {
            network.client_address(Family::V6)
        };
        let listener = bind(&network.server, server)?;
        let (client, bystander) =
            (bind(&network.client, any(own))?, bind(&network.client, any(own))?);
        let mut buffer = [0; 600];
        client.send_to(REQUEST, server)?;
        let (len, from) = listener.recv_from(&mut buffer).context("the request")?;
        ensure!(&buffer[..len] == REQUEST, "{:?}", &buffer[..len]);
        // The server's own port for this transfer.
        let session = bind(&network.server, any(server.ip()))?;
        let before = firewall.stat("policy")?;
        session.send_to(DATA, bystander.local_addr()?)?;
        refused_since(firewall, before, "to a port that asked for nothing")?;
        session.send_to(DATA, from)?;
        let (len, answer) = client.recv_from(&mut buffer).context("the first block")?;
        ensure!(&buffer[..len] == DATA && answer == session.local_addr()?, "{answer}");
        client.send_to(ACKNOWLEDGEMENT, answer)?;
        let (len, _) = session.recv_from(&mut buffer).context("the acknowledgement")?;
        ensure!(&buffer[..len] == ACKNOWLEDGEMENT, "{:?}", &buffer[..len]);
        // One use: another port of the server is no part of it.
        let other = bind(&network.server, any(server.ip()))?;
        let before = firewall.stat("policy")?;
        other.send_to(DATA, from)?;
        refused_since(firewall, before, "from a second port of the server")?;
        let listed = firewall.text(&["conntrack", "list", "-u", "EXPECTED", "-p", "udp"])?;
        ensure!(listed.contains(&format!(" dport={} ", from.port())), "{listed}");
        Ok(())
    }
}

mod a_crowd {
    use super::*;

    const IDLE: usize = 1_000;
    const BUSY: usize = 100;
    /// Files of each busy one in each direction.
    const FILES: usize = 5;

    #[test]
    fn of_a_thousand_idle_and_a_hundred_busy_sessions_no_data_connection_waits() {
        needs!(capability::firewall());
        talk().unwrap();
    }

    fn talk() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let configuration = Configuration::new("[helper.ftp]\nports = [21, 2121]\n")?;
        let firewall = start(&configuration, &network, RULES, "auto")?;
        let _server = Own::start(&network.server, Script::default())?;
        let (idle, _held) = idle(&network)?;
        // The daemon tells of them now and then.
        wait::until_true("all control connections to be followed", || {
            firewall.stat("helper-connections").is_ok_and(|followed| followed >= IDLE as u64)
        })?;
        let sides = [&network.client, &network.server];
        let before = [TcpLoss::of(sides[0])?, TcpLoss::of(sides[1])?];
        let server = SocketAddr::new(network.server_address(Family::V4), 21);
        network.client.enter(|| {
            thread::scope(|scope| {
                let sessions: Vec<_> = (0..BUSY).map(|_| scope.spawn(|| session(server))).collect();
                sessions.into_iter().try_for_each(|it| it.join().expect("no panic"))
            })
        })?;
        for (side, before) in sides.into_iter().zip(before) {
            let lost = TcpLoss::of(side)?.since(before);
            ensure!(lost.syn_retransmitted == 0, "{} sent SYNs again: {lost:?}", side.name());
        }
        let time = firewall.json(&["stats"])?;
        let time = time.iter().find(|line| line["name"] == "hold-time").context("hold-time")?;
        println!("{time}");
        ensure!(time["p99_ns"].as_u64().is_some(), "{time}");
        for name in ["helper-crowded", "helper-forgotten", "helper-refused"] {
            ensure!(firewall.stat(name)? == 0, "{name}");
        }
        drop(idle);
        wait::until_true("all control connections to be let go", || {
            firewall.stat("helper-connections").is_ok_and(|followed| followed == 0)
        })
    }

    /// Sessions that have been greeted and have named a user: both ends of each.
    fn idle(network: &Gateway) -> Result<(Vec<TcpStream>, thread::JoinHandle<()>)> {
        let listener = network.server.enter(|| TcpListener::bind(everywhere(2121)))?;
        let held = thread::spawn(move || {
            let accepted: Vec<_> = listener.incoming().take(IDLE).flatten().collect();
            for mut stream in accepted {
                let _ = stream.write_all(b"220 ready\r\n");
                thread::spawn(move || stream.read_to_end(&mut Vec::new()));
            }
        });
        let server = SocketAddr::new(network.server_address(Family::V4), 2121);
        let connect = || -> Result<Vec<TcpStream>> {
            let connect = |_| Ok(TcpStream::connect_timeout(&server, wait::DEADLINE)?);
            (0..IDLE).map(connect).collect()
        };
        let mut clients = network.client.enter(connect)?;
        for client in &mut clients {
            client.set_read_timeout(Some(wait::DEADLINE))?;
            client.read_exact(&mut [0; 11]).context("a greeting")?;
            client.write_all(b"USER a\r\n")?;
        }
        Ok((clients, held))
    }

    fn session(server: SocketAddr) -> Result<()> {
        let mut control = Control::new(TcpStream::connect_timeout(&server, wait::DEADLINE)?)?;
        control.reply()?;
        control.login(("a", "b"))?;
        for _ in 0..FILES {
            let port = control.command("PASV")?.port()?;
            let to = SocketAddr::new(server.ip(), port);
            let stream = TcpStream::connect_timeout(&to, wait::DEADLINE)?;
            control.write(b"RETR file\r\n")?;
            retrieval::finish(&mut control, stream)?;
            let listener = TcpListener::bind(SocketAddr::new(control.local()?.ip(), 0))?;
            control.command(&format!("PORT {}", host_port(listener.local_addr()?)))?;
            control.write(b"RETR file\r\n")?;
            let (stream, _) = listener.accept()?;
            retrieval::finish(&mut control, stream)?;
        }
        Ok(())
    }
}
