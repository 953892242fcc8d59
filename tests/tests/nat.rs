//! Translation in real networks: connections reach whom the rules say, whatever way their
//! packets take through the host.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability,
    command::finish,
    exchange,
    firewall::{Setup, binary},
    meeting::{ask, meet},
    needs,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// The gateway's addresses towards the client and towards the server.
const INNER: &str = "192.0.2.1";
const OUTER: &str = "198.51.100.1";
const OUTER6: &str = "2001:db8:2::1";

const FILTER: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -m conntrack --ctstate NEW -j ACCEPT
COMMIT
";

/// Table nat with these rules, and a filter that lets tracked packets pass.
fn rules(nat: &str) -> String {
    format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         :POSTROUTING ACCEPT [0:0]\n{nat}\nCOMMIT\n{FILTER}"
    )
}

const MASQUERADE: &str = "-A POSTROUTING -o eth1 -j MASQUERADE";

/// The ways a packet takes: redirected by XDP, through generic XDP, by the stack and TC, and
/// the stack alone where senders leave checksums to hardware.
const WAYS: [(&str, Offload); 4] = [
    ("xdp", Offload::Tuned),
    ("xdp", Offload::Default),
    ("xdp-generic", Offload::Default),
    ("tc", Offload::Default),
];

fn on_every_way(test: impl Fn(&Gateway, &str) -> Result<()>) -> Result<()> {
    for (hook, offload) in WAYS {
        let network = Gateway::new(offload)?;
        test(&network, hook).with_context(|| format!("{hook}, {offload:?}"))?;
    }
    Ok(())
}

fn start<'n>(network: &'n Gateway, hook: &str, nat: &str) -> Result<Firewall<'n>> {
    let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
    setup.both(&rules(nat)).start(network.gateway())
}

/// Without a way back but to the gateway itself.
fn isolate(server: &Netns) -> Result<()> {
    server.ip("route del default")?;
    server.ip("-6 route del default").map(drop)
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

mod masquerade {
    use super::*;

    #[test]
    fn a_client_reaches_a_server_that_knows_only_the_gateway() {
        needs!(capability::firewall());
        on_every_way(|network, hook| {
            isolate(&network.server)?;
            exchange::serve(&network.server)?;
            let firewall = start(network, hook, MASQUERADE)?;
            for (family, outer) in [(Family::V4, OUTER), (Family::V6, OUTER6)] {
                let server = network.server_address(family);
                let (peer, _) =
                    meet(&network.client, SocketAddr::new(server, 80), &network.server, 80)?;
                ensure!(peer.ip() == outer.parse::<IpAddr>()?, "the server saw {peer}");
                for (up, down) in [(1_000_000, 10), (10, 1_000_000), (70_000, 70_000)] {
                    let to = SocketAddr::new(server, exchange::PORT);
                    let stream = exchange::connect(&network.client, to)?;
                    exchange::exchange(&stream, up, down)?;
                }
                let peer =
                    ask(&network.client, SocketAddr::new(server, 53), &network.server, 53, 900)?;
                ensure!(peer.ip() == outer.parse::<IpAddr>()?, "the server saw {peer}");
            }
            let invalid =
                firewall.stat("nat-ports-exhausted")? + firewall.stat("ruleset-broken")?;
            ensure!(invalid == 0, "{invalid} packets found no translation");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn segments_both_ways_take_the_short_way() {
        needs!(capability::firewall());
        segments_on_the_short_way().unwrap();
    }

    fn segments_on_the_short_way() -> Result<()> {
        const ENOUGH: u64 = 100;
        let network = Gateway::new(Offload::Tuned)?;
        isolate(&network.server)?;
        exchange::serve(&network.server)?;
        let firewall = start(&network, "xdp", MASQUERADE)?;
        for family in [Family::V4, Family::V6] {
            let to = SocketAddr::new(network.server_address(family), exchange::PORT);
            for (up, down) in [(1_000_000, 10), (10, 1_000_000)] {
                let before = firewall.stat("forward-short")?;
                let stream = exchange::connect(&network.client, to)?;
                exchange::exchange(&stream, up, down)?;
                let taken = firewall.stat("forward-short")? - before;
                let way = format!("{family:?}, {up} bytes up, {down} down");
                ensure!(taken > ENOUGH, "{way}: {taken} took the short way");
            }
        }
        Ok(())
    }

    #[test]
    fn large_datagrams_are_translated_in_pieces() {
        needs!(capability::firewall());
        on_every_way(|network, hook| {
            isolate(&network.server)?;
            let _firewall = start(network, hook, MASQUERADE)?;
            for (family, outer) in [(Family::V4, OUTER), (Family::V6, OUTER6)] {
                let to = SocketAddr::new(network.server_address(family), 53);
                let peer = ask(&network.client, to, &network.server, 53, 5_000)?;
                ensure!(peer.ip() == outer.parse::<IpAddr>()?, "the server saw {peer}");
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_client_hears_that_nobody_listens() {
        needs!(capability::firewall());
        on_every_way(|network, hook| {
            isolate(&network.server)?;
            let _firewall = start(network, hook, MASQUERADE)?;
            for family in [Family::V4, Family::V6] {
                let to = SocketAddr::new(network.server_address(family), 4_444);
                let any = SocketAddr::new(
                    if to.is_ipv4() { [0; 4].into() } else { IpAddr::V6([0; 16].into()) },
                    0,
                );
                let socket = network.client.enter(|| UdpSocket::bind(any))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.connect(to)?;
                socket.send(b"anybody?")?;
                let heard = socket.recv(&mut [0; 9]).map_err(|error| error.kind());
                ensure!(
                    heard == Err(std::io::ErrorKind::ConnectionRefused),
                    "{family:?}: {heard:?}"
                );
            }
            Ok(())
        })
        .unwrap();
    }
}

mod destination {
    use super::*;

    /// As a script adds one more address to drop.
    fn add_alone(firewall: &Firewall<'_>, host: &str) -> Result<()> {
        let mut command = firewall.in_its_namespace(&binary()?.to_string_lossy());
        command.args(["iptables", "-A", "INPUT", "-s", host, "-j", "DROP"]);
        let finished = finish(command.env("FIREWALL_PIN", firewall.pin()), PATIENCE)?;
        ensure!(finished.code() == 0, "{}: {}", finished.code(), finished.stderr);
        Ok(())
    }

    #[test]
    fn a_connection_to_the_gateway_reaches_the_server_behind_it() {
        needs!(capability::firewall());
        on_every_way(|network, hook| {
            exchange::serve(&network.server)?;
            let nat = format!(
                "-A PREROUTING -i eth0 -p tcp --dport 80 -j DNAT --to-destination {0}:8080\n\
                 -A PREROUTING -i eth0 -p tcp --dport 8000 -j DNAT --to-destination {0}\n\
                 -A PREROUTING -i eth0 -p udp --dport 53 -j DNAT --to-destination {0}:5353",
                network.server_address(Family::V4)
            );
            let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
            let firewall = setup.rules(&rules(&nat)).start(network.gateway())?;
            // Also when a rule that has come alone has had the rules change their slot.
            for host in [None, Some("203.0.113.1"), Some("203.0.113.2")] {
                if let Some(host) = host {
                    add_alone(&firewall, host)?;
                }
                let reached = meet(&network.client, at(INNER, 80), &network.server, 8_080);
                let (peer, talked_to) = reached.with_context(|| format!("{host:?}"))?;
                ensure!(peer.ip() == network.client_address(Family::V4), "the server saw {peer}");
                ensure!(talked_to == at(INNER, 80), "the client saw {talked_to}");
            }
            let stream = exchange::connect(&network.client, at(INNER, exchange::PORT))?;
            exchange::exchange(&stream, 500_000, 500_000)?;
            ask(&network.client, at(INNER, 53), &network.server, 5_353, 700)?;
            ask(&network.client, at(INNER, 53), &network.server, 5_353, 5_000)?;
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn redirect_leads_to_the_gateway_itself() {
        needs!(capability::firewall());
        on_every_way(|network, hook| {
            let nat = "-A PREROUTING -i eth0 -p tcp --dport 80 -j REDIRECT --to-ports 3128";
            let _firewall = start(network, hook, nat)?;
            for family in [Family::V4, Family::V6] {
                let to = SocketAddr::new(network.server_address(family), 80);
                let (peer, talked_to) = meet(&network.client, to, network.gateway(), 3_128)?;
                ensure!(peer.ip() == network.client_address(family), "the gateway saw {peer}");
                ensure!(talked_to == to, "the client saw {talked_to}");
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn both_ends_are_translated_together() {
        needs!(capability::firewall());
        on_every_way(|network, hook| {
            isolate(&network.server)?;
            let nat = format!(
                "-A PREROUTING -d {INNER} -p tcp --dport 80 -j DNAT --to-destination {}\n\
                 {MASQUERADE}",
                network.server_address(Family::V4)
            );
            let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
            let _firewall = setup.rules(&rules(&nat)).start(network.gateway())?;
            let (peer, talked_to) = meet(&network.client, at(INNER, 80), &network.server, 80)?;
            ensure!(peer.ip() == OUTER.parse::<IpAddr>()?, "the server saw {peer}");
            ensure!(talked_to == at(INNER, 80), "the client saw {talked_to}");
            Ok(())
        })
        .unwrap();
    }
}

mod the_host {
    use super::*;

    #[test]
    fn leads_its_own_connections_elsewhere() {
        needs!(capability::firewall());
        for hook in ["xdp", "xdp-generic", "tc"] {
            elsewhere(hook).with_context(|| hook).unwrap();
        }
    }

    fn elsewhere(hook: &str) -> Result<()> {
        let network = Gateway::new(Offload::Default)?;
        let real = network.server_address(Family::V4);
        let nat = format!("-A OUTPUT -d 198.51.100.99 -p tcp -j DNAT --to-destination {real}");
        let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
        let _firewall = setup.rules(&rules(&nat)).start(network.gateway())?;
        // Somebody must have an address for its frames.
        network.gateway().ip("neigh replace 198.51.100.99 lladdr 02:00:00:00:00:99 dev eth1")?;
        let to = at("198.51.100.99", 80);
        let (peer, talked_to) = meet(network.gateway(), to, &network.server, 80)?;
        ensure!(peer.ip() == OUTER.parse::<IpAddr>()?, "the server saw {peer}");
        ensure!(talked_to == to, "the gateway saw {talked_to}");
        Ok(())
    }
}

/// Whom the routing table tells nothing: the kernel answers programs of hosts that forward alone.
mod a_host_that_forwards_nothing {
    use super::*;

    /// Of the host itself, and an address that nobody has, which it is to be led away from.
    const OWN: &str = "192.0.2.3";
    const NOBODY: &str = "203.0.113.9";

    fn on_every_hook(test: impl Fn(&Gateway, &str) -> Result<()>) -> Result<()> {
        for hook in ["xdp", "xdp-generic", "tc"] {
            let network = Gateway::hosts(Offload::Default)?;
            test(&network, hook).with_context(|| hook)?;
        }
        Ok(())
    }

    fn start<'n>(network: &'n Gateway, hook: &str, nat: &str) -> Result<Firewall<'n>> {
        let setup = Setup::on(&["eth0"]).option("--hook").option(hook);
        setup.both(&rules(nat)).start(&network.server)
    }

    #[test]
    fn redirects_to_its_own_ports() {
        needs!(capability::firewall());
        on_every_hook(|network, hook| {
            let nat = "-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 3128";
            let _firewall = start(network, hook, nat)?;
            for family in [Family::V4, Family::V6] {
                let to = SocketAddr::new(network.server_address(family), 80);
                let (peer, talked_to) = meet(&network.client, to, &network.server, 3_128)?;
                ensure!(peer.ip() == network.client_address(family), "the host saw {peer}");
                ensure!(talked_to == to, "the client saw {talked_to}");
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn sends_what_a_masquerade_translates_with_its_own_address() {
        needs!(capability::firewall());
        on_every_hook(|network, hook| {
            let _firewall = start(network, hook, "-A POSTROUTING -o eth0 -j MASQUERADE")?;
            for (family, port) in [(Family::V4, 80), (Family::V6, 81)] {
                let to = SocketAddr::new(network.client_address(family), port);
                let (peer, _) = meet(&network.server, to, &network.client, port)?;
                ensure!(peer.ip() == network.server_address(family), "the other saw {peer}");
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn leads_its_own_connections_elsewhere_by_the_interface_that_they_leave_by() {
        needs!(capability::firewall());
        on_every_hook(|network, hook| {
            let real = network.client_address(Family::V4);
            let nat = format!("-A OUTPUT -d {NOBODY} -p tcp -j DNAT --to-destination {real}");
            let setup = Setup::on(&["eth0"]).option("--hook").option(hook);
            let _firewall = setup.rules(&rules(&nat)).start(&network.server)?;
            network.server.ip(&format!("route add {NOBODY} dev eth0"))?;
            network
                .server
                .ip(&format!("neigh replace {NOBODY} lladdr 02:00:00:00:00:99 dev eth0"))?;
            let to = at(NOBODY, 80);
            let (peer, talked_to) = meet(&network.server, to, &network.client, 80)?;
            ensure!(peer.ip() == OWN.parse::<IpAddr>()?, "the other saw {peer}");
            ensure!(talked_to == to, "the host saw {talked_to}");
            Ok(())
        })
        .unwrap();
    }
}

mod passive_ftp {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    /// Only the control connection has a rule: what it announces goes out by its address.
    const RULES: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 21 -j ACCEPT
COMMIT
";

    #[test]
    fn a_masqueraded_client_gets_its_data() {
        needs!(capability::firewall());
        on_every_way(|network, hook| {
            isolate(&network.server)?;
            let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
            let firewall = setup.rules(RULES).start(network.gateway())?;
            let listeners = network.server.enter(|| {
                let listen = |port| TcpListener::bind(SocketAddr::from(([0; 4], port)));
                Ok::<_, std::io::Error>((listen(21)?, listen(0)?))
            })?;
            let serving = std::thread::spawn(move || serve(&listeners.0, &listeners.1));
            fetch(network)?;
            let (control, data) = serving.join().expect("no panic")?;
            let outer = OUTER.parse::<IpAddr>()?;
            ensure!((control.ip(), data.ip()) == (outer, outer), "seen: {control}, {data}");
            ensure!(firewall.stat("expectations-used")? == 1, "no connection was expected");
            Ok(())
        })
        .unwrap();
    }

    /// One session; gives whom the server took its client for, twice.
    fn serve(control: &TcpListener, data: &TcpListener) -> Result<(SocketAddr, SocketAddr)> {
        let port = data.local_addr()?.port();
        let (mut stream, peer) = control.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"220 ready\r\n")?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        for answer in ["331 password", "230 welcome"] {
            lines.next().context("the client has left")??;
            stream.write_all(format!("{answer}\r\n").as_bytes())?;
        }
        lines.next().context("the client has left")??;
        let passive = format!("227 Passive (198,51,100,2,{},{})\r\n", port >> 8, port & 255);
        stream.write_all(passive.as_bytes())?;
        lines.next().context("the client has left")??;
        stream.write_all(b"150 here it comes\r\n")?;
        let (mut transfer, data_peer) = data.accept()?;
        transfer.write_all(&[b'x'; 100_000])?;
        drop(transfer);
        stream.write_all(b"226 done\r\n")?;
        Ok((peer, data_peer))
    }

    fn fetch(network: &Gateway) -> Result<()> {
        let server = network.server_address(Family::V4);
        let mut stream = exchange::connect(&network.client, SocketAddr::new(server, 21))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let mut said = String::new();
        for command in ["USER a", "PASS b", "PASV", "RETR file"] {
            said = lines.next().context("the server has left")??;
            stream.write_all(format!("{command}\r\n").as_bytes())?;
        }
        let port = said.trim_end_matches(')').rsplit(',').take(2).map(str::parse::<u16>);
        let port: Vec<u16> = port.collect::<Result<_, _>>().with_context(|| said.clone())?;
        let at = SocketAddr::new(server, port[1] << 8 | port[0]);
        let mut data = exchange::connect(&network.client, at)?;
        let mut got = Vec::new();
        data.read_to_end(&mut got)?;
        ensure!(got.len() == 100_000, "{} bytes came", got.len());
        // Who closes with words unread resets the connection under the server's last ones.
        for expected in ["150", "226"] {
            let said = lines.next().context("the server has left")??;
            ensure!(said.starts_with(expected), "{said}");
        }
        Ok(())
    }
}
