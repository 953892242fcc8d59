//! What FTP and TFTP announce over a translated connection is translated as that is, and comes to
//! no rule of table nat: beside the kernel's helpers (nf_nat_ftp, nf_nat_tftp), under the same rules.
//!
//! ```text
//!   client 192.0.2.2 ── eth0  gateway  eth1 ── server 198.51.100.2
//!             192.0.2.1                 198.51.100.1, .9, .10
//! ```
//! The addresses that end in 9 and 10 are the gateway's, too; nobody has 203.0.113.5, which seems to
//! be behind the client. Each way is gone twice, with the kernel as gateway and with the firewall:
//! what the rules have counted, and whom each host has seen, must be the same.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, Translation, capability,
    control::Control,
    firewall::Setup,
    needs,
    retrieval::{active, passive},
    server::own::{Own, Script, contents},
    wait,
};

/// What stands in table nat beside rules that only count, IPv4 and IPv6, and who calls whom.
#[derive(Clone, Copy, Debug)]
struct Way {
    protocol: Protocol,
    nat: [&'static str; 2],
    called: [&'static str; 2],
    client: Host,
    server: Host,
    /// The ways past it.
    hides: Translation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Ftp,
    Tftp,
}

impl Protocol {
    /// Announced connections of IPv4 and IPv6 in one course.
    const fn transfers(self) -> u64 {
        match self {
            Self::Ftp => 4 + 2,
            Self::Tftp => 1 + 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    AtEnd,
    Gateway,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const SERVER: [&str; 2] = ["198.51.100.2:21", "[2001:db8:2::2]:21"];
const GATEWAY: [&str; 2] = ["192.0.2.1:21", "[2001:db8:1::1]:21"];

const THROUGH: Way = Way {
    protocol: Protocol::Ftp,
    nat: [""; 2],
    called: SERVER,
    client: Host::AtEnd,
    server: Host::AtEnd,
    hides: Translation::None,
};

const FORWARDS: [&str; 2] = [
    "-A PREROUTING -i eth0 -p tcp -m tcp --dport 21 -j DNAT --to-destination 198.51.100.2",
    "-A PREROUTING -i eth0 -p tcp -m tcp --dport 21 -j DNAT --to-destination 2001:db8:2::2",
];

/// Every connection that comes to table nat is counted before anything becomes of it.
const COUNTING: &str = "\
-A PREROUTING -p tcp
-A PREROUTING -p udp
-A INPUT -p tcp
-A INPUT -p udp
-A OUTPUT -p tcp
-A OUTPUT -p udp
-A POSTROUTING -p tcp
-A POSTROUTING -p udp
";

const REST: &str = "\
COMMIT
*raw
-A PREROUTING -p tcp -m multiport --dports 21,2121 -j CT --helper ftp
-A PREROUTING -p udp -m udp --dport 69 -j CT --helper tftp
-A OUTPUT -p tcp -m multiport --dports 21,2121 -j CT --helper ftp
-A OUTPUT -p udp -m udp --dport 69 -j CT --helper tftp
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p ipv6-icmp -j ACCEPT
-A INPUT -p tcp --syn -m conntrack --ctstate SNAT
-A INPUT -p tcp --syn -m conntrack --ctstate DNAT
-A FORWARD -p tcp --syn -m conntrack --ctstate SNAT
-A FORWARD -p tcp --syn -m conntrack --ctstate DNAT
-A FORWARD -p tcp --syn -m conntrack --ctorigdst 192.0.2.1
-A FORWARD -p tcp --syn -m conntrack --ctrepldst 198.51.100.1
-A FORWARD -p tcp --syn -m conntrack --ctreplsrc 192.0.2.2
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 21 -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 21 -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -p udp -m udp --dport 69 -m conntrack --ctstate NEW -j ACCEPT
COMMIT
";

/// What the two gateways must agree in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Course {
    /// Packets of each rule of table nat, and of those that look at first packets, IPv4 before
    /// IPv6.
    counted: Vec<(String, u64)>,
    /// The other ends of what was announced, as client and server see them.
    seen: Vec<IpAddr>,
}

#[test]
fn a_masquerade_of_the_port_of_ftp_alone_does_for_data_connections() {
    let rule = "-A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j MASQUERADE";
    agree(Way { nat: [rule; 2], hides: Translation::Masqueraded, ..THROUGH });
}

#[test]
fn a_port_forward_of_the_port_of_ftp_alone_does_for_data_connections() {
    let hides = Translation::Forwarded;
    agree(Way { nat: FORWARDS, called: GATEWAY, hides, ..THROUGH });
}

#[test]
fn both_at_once_do() {
    let nat = [
        "-A PREROUTING -i eth0 -p tcp -m tcp --dport 21 -j DNAT --to-destination 198.51.100.2\n\
         -A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j SNAT --to-source 198.51.100.9",
        "-A PREROUTING -i eth0 -p tcp -m tcp --dport 21 -j DNAT --to-destination 2001:db8:2::2\n\
         -A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j SNAT --to-source 2001:db8:2::9",
    ];
    agree(Way { nat, called: GATEWAY, hides: Translation::Both, ..THROUGH });
}

#[test]
fn whole_networks_do() {
    let nat = [
        "-A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j NETMAP --to 198.51.100.8/29",
        "-A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j NETMAP --to 2001:db8:2::8/125",
    ];
    agree(Way { nat, hides: Translation::Masqueraded, ..THROUGH });
}

#[test]
fn no_rule_for_other_ports_changes_them() {
    let nat = [
        "-A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j MASQUERADE\n\
         -A POSTROUTING -p tcp -m tcp --dport 1024:65535 -j SNAT --to-source 198.51.100.9",
        "-A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j MASQUERADE\n\
         -A POSTROUTING -p tcp -m tcp --dport 1024:65535 -j SNAT --to-source 2001:db8:2::9",
    ];
    agree(Way { nat, hides: Translation::Masqueraded, ..THROUGH });
}

#[test]
fn data_connections_of_an_untranslated_control_connection_come_to_table_nat() {
    let rule = "-A POSTROUTING -p tcp -m tcp --dport 1024:65535 -j MASQUERADE";
    agree(Way { nat: [rule; 2], ..THROUGH });
}

#[test]
fn the_gateways_own_client_is_followed() {
    let nat = [
        "-A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j SNAT --to-source 198.51.100.9",
        "-A POSTROUTING -o eth1 -p tcp -m tcp --dport 21 -j SNAT --to-source 2001:db8:2::9",
    ];
    agree(Way { nat, client: Host::Gateway, ..THROUGH });
}

#[test]
fn the_gateways_own_server_is_followed() {
    let nat = [
        "-A PREROUTING -i eth0 -p tcp -m tcp --dport 2121 -j DNAT --to-destination 198.51.100.9:21",
        "-A PREROUTING -i eth0 -p tcp -m tcp --dport 2121 -j DNAT --to-destination [2001:db8:2::9]:21",
    ];
    let called = ["192.0.2.1:2121", "[2001:db8:1::1]:2121"];
    let hides = Translation::Forwarded;
    agree(Way { nat, called, server: Host::Gateway, hides, ..THROUGH });
}

mod tftp {
    use super::*;

    const CALLED: [&str; 2] = ["198.51.100.2:69", "[2001:db8:2::2]:69"];
    const WAY: Way = Way { protocol: Protocol::Tftp, called: CALLED, ..THROUGH };

    #[test]
    fn answers_come_through_a_masquerade_of_the_port_of_requests_alone() {
        let rule = "-A POSTROUTING -o eth1 -p udp -m udp --dport 69 -j MASQUERADE";
        agree(Way { nat: [rule; 2], hides: Translation::Masqueraded, ..WAY });
    }

    #[test]
    fn answers_come_with_another_port_where_the_request_has_another() {
        let nat = [
            "-A POSTROUTING -o eth1 -p udp -m udp --dport 69 -j SNAT --to-source 198.51.100.9:4000-4999",
            "-A POSTROUTING -o eth1 -p udp -m udp --dport 69 -j SNAT --to-source [2001:db8:2::9]:4000-4999",
        ];
        agree(Way { nat, hides: Translation::Masqueraded, ..WAY });
    }

    #[test]
    fn answers_come_as_from_the_address_that_was_called() {
        let nat = [
            "-A PREROUTING -i eth0 -p udp -m udp --dport 69 -j DNAT --to-destination 198.51.100.2",
            "-A PREROUTING -i eth0 -p udp -m udp --dport 69 -j DNAT --to-destination 2001:db8:2::2",
        ];
        let called = ["192.0.2.1:69", "[2001:db8:1::1]:69"];
        agree(Way { nat, called, hides: Translation::Forwarded, ..WAY });
    }

    #[test]
    fn the_gateways_own_requests_are_answered() {
        let nat = [
            "-A POSTROUTING -o eth1 -p udp -m udp --dport 69 -j SNAT --to-source 198.51.100.9",
            "-A POSTROUTING -o eth1 -p udp -m udp --dport 69 -j SNAT --to-source 2001:db8:2::9",
        ];
        agree(Way { nat, client: Host::Gateway, ..WAY });
    }

    pub fn transfer(
        network: &Gateway,
        client: &Netns,
        family: Family,
        called: SocketAddr,
    ) -> Result<[IpAddr; 2]> {
        let bind = |netns: &Netns, at: SocketAddr| -> Result<UdpSocket> {
            let socket = netns.enter(|| UdpSocket::bind(at)).with_context(|| at.to_string())?;
            socket.set_read_timeout(Some(wait::DEADLINE))?;
            Ok(socket)
        };
        let server = |port| SocketAddr::new(network.server_address(family), port);
        let any = match family {
            Family::V4 => IpAddr::from([0; 4]),
            Family::V6 => IpAddr::from([0; 16]),
        };
        let listener = bind(&network.server, server(69))?;
        let asking = bind(client, SocketAddr::new(any, 0))?;
        let mut buffer = [0; 600];
        asking.send_to(b"\0\x01boot/image\0octet\0", called)?;
        let (_, from) = listener.recv_from(&mut buffer).context("the request")?;
        // The server's own port for this transfer.
        let session = bind(&network.server, server(0))?;
        session.send_to(b"\0\x03\0\x01the first block", from)?;
        let (_, answer) = asking.recv_from(&mut buffer).context("the first block")?;
        asking.send_to(b"\0\x04\0\x01", answer)?;
        let (_, acknowledged) = session.recv_from(&mut buffer).context("the acknowledgement")?;
        ensure!(acknowledged == from, "asked from {from}, acknowledged from {acknowledged}");
        Ok([from.ip(), answer.ip()])
    }
}

#[test]
fn the_gateways_own_client_is_led_elsewhere() {
    let nat = [
        "-A OUTPUT -d 203.0.113.5/32 -p tcp -m tcp --dport 21 -j DNAT --to-destination 198.51.100.2",
        "-A OUTPUT -d 2001:db8:9::5/128 -p tcp -m tcp --dport 21 -j DNAT --to-destination 2001:db8:2::2",
    ];
    let called = ["203.0.113.5:21", "[2001:db8:9::5]:21"];
    agree(Way { nat, called, client: Host::Gateway, ..THROUGH });
}

#[test]
fn the_gateways_own_server_is_followed_behind_another_port() {
    let rule = "-A PREROUTING -i eth0 -p tcp -m tcp --dport 2121 -j REDIRECT --to-ports 21";
    let called = ["192.0.2.1:2121", "[2001:db8:1::1]:2121"];
    agree(Way { nat: [rule; 2], called, server: Host::Gateway, ..THROUGH });
}

/// Through the kernel, and through the firewall on each hook that is wanted.
fn agree(way: Way) {
    needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
    let kernel = through_the_kernel(way).context("through the kernel").unwrap();
    let hooks: &[&str] = match capability::full() {
        true => &["xdp", "xdp-generic", "tc"],
        false => &["xdp", "tc"],
    };
    for hook in hooks {
        let own = through_the_firewall(way, hook).with_context(|| (*hook).to_owned()).unwrap();
        assert_eq!(own, kernel, "{hook}, beside the kernel");
    }
}

fn through_the_kernel(way: Way) -> Result<Course> {
    let network = network(way)?;
    let file = tempfile::NamedTempFile::new()?;
    for (restore, rules) in ["iptables-restore", "ip6tables-restore"].into_iter().zip(rules(way)) {
        fs::write(file.path(), rules)?;
        network.gateway().run(&format!("{restore} {}", file.path().display()))?;
    }
    let mut course = go(&network, way)?;
    for save in ["iptables-save", "ip6tables-save"] {
        course.count(&network.gateway().run(&format!("{save} -c"))?)?;
    }
    Ok(course)
}

fn through_the_firewall(way: Way, hook: &str) -> Result<Course> {
    let network = network(way)?;
    let [rules, rules6] = rules(way);
    let setup = Setup::on(&["eth0", "eth1"]).rules(&rules).rules6(&rules6);
    let firewall = setup.option(&format!("--hook={hook}")).start(network.gateway())?;
    let mut course = go(&network, way)?;
    for arguments in [&["save", "-c"][..], &["save", "-c", "--ipv6"]] {
        course.count(&firewall.text(arguments)?)?;
    }
    were_expected(&firewall, way.protocol)?;
    Ok(course)
}

fn were_expected(firewall: &Firewall<'_>, protocol: Protocol) -> Result<()> {
    let used = firewall.stat("expectations-used")?;
    ensure!(used == protocol.transfers(), "{used} connections were expected");
    for name in ["helper-untold", "punt-skipped"] {
        ensure!(firewall.stat(name)? == 0, "{name}");
    }
    Ok(())
}

fn network(way: Way) -> Result<Gateway> {
    let network = Gateway::new(Offload::Tuned)?;
    let gateway = network.gateway();
    for address in ["198.51.100.9/24", "2001:db8:2::9/64", "198.51.100.10/24", "2001:db8:2::a/64"] {
        gateway.address("eth1", address)?;
    }
    gateway.ip("route add 203.0.113.5 via 192.0.2.2")?;
    gateway.ip("-6 route add 2001:db8:9::5 via 2001:db8:1::2")?;
    way.hides.hide(&network)?;
    Ok(network)
}

fn rules(way: Way) -> [String; 2] {
    let [nat, nat6] = way.nat.map(|nat| format!("*nat\n{COUNTING}{nat}\n"));
    let rest6 = [
        ("192.0.2.1\n", "2001:db8:1::1\n"),
        ("198.51.100.1\n", "2001:db8:2::1\n"),
        ("192.0.2.2\n", "2001:db8:1::2\n"),
    ];
    let rest6 = rest6.iter().fold(REST.to_owned(), |rest, (v4, v6)| rest.replace(v4, v6));
    [nat + REST, nat6 + &rest6]
}

fn go(network: &Gateway, way: Way) -> Result<Course> {
    let [client, server] = [(way.client, &network.client), (way.server, &network.server)].map(
        |(host, end)| match host {
            Host::AtEnd => end,
            Host::Gateway => network.gateway(),
        },
    );
    let seen = match way.protocol {
        Protocol::Ftp => all_kinds(client, server, way)?,
        Protocol::Tftp => {
            let mut seen = Vec::new();
            for (family, called) in FAMILIES.into_iter().zip(way.called) {
                seen.extend(tftp::transfer(network, client, family, called.parse()?)?);
            }
            seen
        }
    };
    Ok(Course { counted: Vec::new(), seen })
}

/// Each way to announce a data connection once: whom the client sees, and then the server.
fn all_kinds(client: &Netns, server: &Netns, way: Way) -> Result<Vec<IpAddr>> {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&peers);
    let script = Script::default().data(move |name, stream| {
        noted.lock().expect("no panic").push(stream.peer_addr()?.ip().to_canonical());
        stream.write_all(contents(name).as_bytes())
    });
    let _server = Own::start(server, script)?;
    let mut seen = Vec::new();
    for (family, called) in FAMILIES.into_iter().zip(way.called) {
        let mut control = Control::open(client, called.parse()?)?;
        control.login(("a", "b"))?;
        client.enter(|| -> Result<()> {
            if family == Family::V4 {
                passive(&mut control, "PASV").context("PASV")?;
                seen.push(active(&mut control, false).context("PORT")?.0.ip());
            }
            passive(&mut control, "EPSV").context("EPSV")?;
            seen.push(active(&mut control, true).context("EPRT")?.0.ip());
            Ok(())
        })?;
    }
    seen.extend(peers.lock().expect("no panic").iter());
    Ok(seen)
}

impl Course {
    /// Reads what `iptables-save -c` prints.
    fn count(&mut self, saved: &str) -> Result<()> {
        let mut table = "";
        let mut rules = Vec::new();
        for line in saved.lines() {
            table = line.strip_prefix('*').unwrap_or(table);
            let Some((counters, rule)) = line.strip_prefix('[').and_then(|it| it.split_once("] "))
            else {
                continue;
            };
            if table != "nat" && !rule.contains(" SYN ") {
                continue;
            }
            let (packets, _) = counters.split_once(':').context("counters without a colon")?;
            rules.push((table, rule.to_owned(), packets.parse()?));
        }
        ensure!(rules.iter().any(|(table, ..)| *table == "nat"), "no table nat in\n{saved}");
        // Tables are saved in any order.
        rules.sort_by_key(|(table, ..)| *table);
        self.counted.extend(rules.into_iter().map(|(_, rule, packets)| (rule, packets)));
        Ok(())
    }
}
