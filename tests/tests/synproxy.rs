//! SYNPROXY in front of real servers: FORWARD and INPUT, every hook, both families,
//! with and without the options of TCP, behind table nat; servers that are down, refuse or speak first;
//! and a flood that leaves nothing behind.

use std::{
    io::{ErrorKind, Read as _},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability,
    exchange::{self, GREETER, GREETING, PORT},
    firewall::Setup,
    flood::{Burst, Syns},
    needs,
    packet::{Packet, Segment, flag},
    wait,
    wire::{Wire, Wires},
};

const FORWARD: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -p tcp --dport 8000:8002 --syn -m conntrack --ctstate NEW -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460 --ecn
COMMIT
";
const INPUT: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p icmp -j ACCEPT
-A INPUT -p icmpv6 -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 8000:8002 --syn -m conntrack --ctstate NEW -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
COMMIT
";
/// As iptables' manual has it.
const CLASSIC: &str = "\
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 8000:8002 --syn -j CT --notrack
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p tcp -m tcp --dport 8000:8002 -m state --state INVALID,UNTRACKED -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
-A FORWARD -m state --state INVALID -j DROP
-A FORWARD -m state --state ESTABLISHED -j ACCEPT
COMMIT
";

const MANY: usize = 3_000_000;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn server(network: &Gateway, family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(network.server_address(family), port)
}

/// One exchange, and that a cookie brought it about.
fn proxied(network: &Gateway, firewall: &Firewall<'_>, family: Family) -> Result<()> {
    let before = firewall.stat("syn-cookies-right")?;
    let stream = exchange::connect(&network.client, server(network, family, PORT))?;
    exchange::exchange(&stream, MANY, MANY).with_context(|| format!("{family:?}"))?;
    let right = firewall.stat("syn-cookies-right")? - before;
    ensure!(right >= 1, "{family:?}: no cookie came back");
    Ok(())
}

fn gateway(offload: Offload) -> Result<Gateway> {
    let network = Gateway::new(offload)?;
    exchange::serve(&network.server)?;
    Ok(network)
}

fn through(interfaces: &[&str], hook: &str, offload: Offload, rules: &str) -> Result<()> {
    let network = gateway(offload)?;
    let setup = Setup::on(interfaces).both(rules).option("--hook").option(hook);
    let firewall = setup.start(network.gateway())?;
    for family in FAMILIES {
        proxied(&network, &firewall, family)?;
    }
    Ok(())
}

mod through_a_gateway {
    use super::*;

    const BOTH: [&str; 2] = ["eth0", "eth1"];

    #[test]
    fn bytes_arrive_whole_in_native_xdp() {
        needs!(capability::firewall());
        for offload in [Offload::Tuned, Offload::Default] {
            through(&BOTH, "xdp", offload, FORWARD)
                .with_context(|| format!("{offload:?}"))
                .unwrap();
        }
    }

    #[test]
    fn bytes_arrive_whole_in_generic_xdp() {
        needs!(capability::firewall());
        for offload in [Offload::Tuned, Offload::Default] {
            through(&BOTH, "xdp-generic", offload, FORWARD)
                .with_context(|| format!("{offload:?}"))
                .unwrap();
        }
    }

    #[test]
    fn bytes_arrive_whole_in_tc() {
        needs!(capability::firewall());
        through(&BOTH, "tc", Offload::Default, FORWARD).unwrap();
    }

    #[test]
    fn one_interface_is_enough() {
        needs!(capability::firewall());
        for interface in ["eth0", "eth1"] {
            through(&[interface], "xdp", Offload::Tuned, FORWARD)
                .with_context(|| interface)
                .unwrap();
        }
    }

    #[test]
    fn the_rules_of_the_manual_work() {
        needs!(capability::firewall());
        through(&BOTH, "xdp", Offload::Tuned, CLASSIC).unwrap();
    }

    #[test]
    fn a_server_may_speak_first() {
        needs!(capability::firewall());
        greeted().unwrap();
    }

    fn greeted() -> Result<()> {
        let network = gateway(Offload::Tuned)?;
        let _firewall = Setup::on(&BOTH).both(FORWARD).start(network.gateway())?;
        for family in FAMILIES {
            let mut stream = exchange::connect(&network.client, server(&network, family, GREETER))?;
            let mut greeting = Vec::new();
            stream.read_to_end(&mut greeting)?;
            ensure!(greeting == GREETING, "{family:?}: {greeting:?}");
        }
        Ok(())
    }
}

/// Of connections that table nat translates.
mod with_nat {
    use super::*;

    const MASQUERADED: &str = "\
*nat
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -p tcp --dport 8000:8002 --syn -m conntrack --ctstate NEW -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
COMMIT
";
    /// Who calls this port of the gateway comes to the server.
    const FORWARDED: u16 = 9_000;
    const WAYS: [(&str, Offload); 4] = [
        ("xdp", Offload::Tuned),
        ("xdp", Offload::Default),
        ("xdp-generic", Offload::Default),
        ("tc", Offload::Default),
    ];

    fn each(test: impl Fn(&str, Offload) -> Result<()>) {
        for (hook, offload) in WAYS {
            test(hook, offload).with_context(|| format!("{hook}, {offload:?}")).unwrap();
        }
    }

    /// An exchange with the one server and a greeting of the other, through cookies.
    fn talk(network: &Gateway, firewall: &Firewall<'_>, to: [SocketAddr; 2]) -> Result<()> {
        let before = firewall.stat("syn-cookies-right")?;
        let stream = exchange::connect(&network.client, to[0])?;
        exchange::exchange(&stream, MANY, MANY).with_context(|| format!("{to:?}"))?;
        let mut stream = exchange::connect(&network.client, to[1])?;
        let mut greeting = Vec::new();
        stream.read_to_end(&mut greeting).with_context(|| format!("{to:?}"))?;
        ensure!(greeting == GREETING, "{to:?}: {greeting:?}");
        let right = firewall.stat("syn-cookies-right")? - before;
        ensure!(right >= 2, "{to:?}: {right} cookies came back");
        Ok(())
    }

    #[test]
    fn a_server_knows_a_masqueraded_client_by_the_gateways_address() {
        needs!(capability::firewall());
        each(|hook, offload| masqueraded(MASQUERADED, hook, offload));
    }

    #[test]
    fn a_masquerade_holds_for_what_table_raw_does_not_track() {
        needs!(capability::firewall());
        let nat = "*nat\n-A POSTROUTING -o eth1 -j MASQUERADE\nCOMMIT\n";
        masqueraded(&format!("{nat}{CLASSIC}"), "xdp", Offload::Tuned).unwrap();
    }

    fn masqueraded(rules: &str, hook: &str, offload: Offload) -> Result<()> {
        let network = gateway(offload)?;
        // It knows nobody but the gateway.
        network.server.ip("route del default")?;
        network.server.ip("-6 route del default")?;
        let setup = Setup::on(&["eth0", "eth1"]).both(rules).option("--hook").option(hook);
        let firewall = setup.start(network.gateway())?;
        for family in FAMILIES {
            let to = [PORT, GREETER].map(|port| server(&network, family, port));
            talk(&network, &firewall, to)?;
        }
        Ok(())
    }

    const SENT_ON: [&str; 2] = ["198.51.100.2", "[2001:db8:2::2]"];
    const GATEWAY: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];

    /// Port forwards to both servers, and `more` of table nat.
    fn port_forwards(hook: &str, more: &str) -> Setup {
        let [rules, rules6] = SENT_ON.map(|to| {
            let forwards: String = (0..3)
                .map(|n| {
                    format!(
                        "-A PREROUTING -i eth0 -p tcp --dport {} -j DNAT --to-destination {to}:{}\n",
                        FORWARDED + n,
                        PORT + n
                    )
                })
                .collect();
            format!("*nat\n{forwards}{more}COMMIT\n{FORWARD}")
        });
        Setup::on(&["eth0", "eth1"]).rules(&rules).rules6(&rules6).option("--hook").option(hook)
    }

    fn called(family: Family, port: u16) -> SocketAddr {
        let address = GATEWAY[usize::from(family == Family::V6)];
        SocketAddr::new(address.parse().expect("an address"), port)
    }

    #[test]
    fn a_port_forward_leads_to_a_server_behind_cookies() {
        needs!(capability::firewall());
        each(|hook, offload| forwarded(hook, offload, ""));
    }

    #[test]
    fn so_does_one_behind_which_the_client_is_translated_as_well() {
        needs!(capability::firewall());
        each(|hook, offload| forwarded(hook, offload, "-A POSTROUTING -o eth1 -j MASQUERADE\n"));
    }

    fn forwarded(hook: &str, offload: Offload, more: &str) -> Result<()> {
        let network = gateway(offload)?;
        if !more.is_empty() {
            network.server.ip("route del default")?;
            network.server.ip("-6 route del default")?;
        }
        let firewall = port_forwards(hook, more).start(network.gateway())?;
        for family in FAMILIES {
            talk(&network, &firewall, [0, 1].map(|n| called(family, FORWARDED + n)))?;
        }
        Ok(())
    }

    #[test]
    fn a_forwarded_server_that_comes_up_late_is_still_reached() {
        needs!(capability::firewall());
        for hook in ["xdp", "tc"] {
            late(hook).with_context(|| hook).unwrap();
        }
    }

    fn late(hook: &str) -> Result<()> {
        let network = gateway(Offload::Tuned)?;
        let firewall = port_forwards(hook, "").start(network.gateway())?;
        network.server.run("ip link set eth0 arp off")?;
        network.server.run("ip addr del 198.51.100.2/24 dev eth0")?;
        let stream = exchange::connect(&network.client, called(Family::V4, FORWARDED))?;
        wait::until_true("the SYN to the server", || {
            firewall.stat("syn-cookies-right").is_ok_and(|right| right >= 1)
        })?;
        network.server.run("ip link set eth0 arp on")?;
        network.server.address("eth0", "198.51.100.2/24")?;
        network.server.ip("route replace default via 198.51.100.1")?;
        exchange::exchange(&stream, 100_000, 100_000)
    }

    #[test]
    fn a_redirect_leads_to_this_hosts_server_behind_cookies() {
        needs!(capability::firewall());
        each(redirected);
    }

    fn redirected(hook: &str, offload: Offload) -> Result<()> {
        let network = Gateway::hosts(offload)?;
        exchange::serve(&network.server)?;
        let redirects: String = (0..2)
            .map(|n| {
                let (from, to) = (FORWARDED + n, PORT + n);
                format!("-A PREROUTING -p tcp --dport {from} -j REDIRECT --to-ports {to}\n")
            })
            .collect();
        let rules = format!("*nat\n{redirects}COMMIT\n{INPUT}");
        let setup = Setup::on(&["eth0"]).both(&rules).option("--hook").option(hook);
        let firewall = setup.start(&network.server)?;
        for family in FAMILIES {
            let to = [0, 1].map(|n| server(&network, family, FORWARDED + n));
            talk(&network, &firewall, to)?;
        }
        Ok(())
    }
}

mod to_this_host {
    use super::*;

    #[test]
    fn bytes_arrive_whole_by_every_hook() {
        needs!(capability::firewall());
        for (hook, offload) in [
            ("xdp", Offload::Tuned),
            ("xdp", Offload::Default),
            ("xdp-generic", Offload::Default),
            ("tc", Offload::Default),
        ] {
            here(hook, offload).with_context(|| format!("{hook}, {offload:?}")).unwrap();
        }
    }

    fn here(hook: &str, offload: Offload) -> Result<()> {
        let network = Gateway::hosts(offload)?;
        exchange::serve(&network.server)?;
        let setup = Setup::on(&["eth0"]).both(INPUT).option("--hook").option(hook);
        let firewall = setup.start(&network.server)?;
        for family in [FAMILIES, FAMILIES].concat() {
            proxied(&network, &firewall, family)?;
        }
        // Who is not told that its window is open asks for it, after some time, and each time.
        let asked = window_probes(&network.client)?;
        ensure!(asked < 4, "the client asked for its window {asked} times");
        Ok(())
    }

    /// How often the kernel of a namespace has asked whether a closed window is open.
    fn window_probes(netns: &Netns) -> Result<u64> {
        let text = netns.run("cat /proc/net/netstat")?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
        let found =
            names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "TCPWinProbe");
        Ok(found.context("no TCPWinProbe")?.1.parse()?)
    }
}

mod the_options_of_tcp {
    use super::*;

    #[test]
    fn may_be_missing_at_either_end() {
        needs!(capability::firewall());
        for end in ["client", "server"] {
            for option in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"] {
                without(end, option).with_context(|| format!("{end} without {option}")).unwrap();
            }
        }
    }

    fn without(end: &str, option: &str) -> Result<()> {
        let network = gateway(Offload::Tuned)?;
        let netns = if end == "client" { &network.client } else { &network.server };
        netns.set(&format!("ipv4/{option}"), "0")?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(FORWARD).start(network.gateway())?;
        proxied(&network, &firewall, Family::V4)
    }
}

mod a_server {
    use super::*;

    #[test]
    fn that_refuses_makes_the_client_hear_of_it() {
        needs!(capability::firewall());
        refused().unwrap();
    }

    fn refused() -> Result<()> {
        let network = gateway(Offload::Tuned)?;
        let _firewall = Setup::on(&["eth0", "eth1"]).both(FORWARD).start(network.gateway())?;
        for family in FAMILIES {
            // The client hears of it once it is connected, or just before it knows.
            let to = server(&network, family, 8_002);
            let heard = network.client.enter(|| {
                let mut stream = TcpStream::connect_timeout(&to, wait::DEADLINE)?;
                stream.set_read_timeout(Some(wait::DEADLINE))?;
                stream.read(&mut [0])
            });
            let heard = heard.map_err(|error| error.kind());
            ensure!(heard == Err(ErrorKind::ConnectionReset), "{family:?}: {heard:?}");
        }
        Ok(())
    }

    #[test]
    fn that_comes_up_late_is_still_reached() {
        needs!(capability::firewall());
        late().unwrap();
    }

    fn late() -> Result<()> {
        let network = gateway(Offload::Tuned)?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(FORWARD).start(network.gateway())?;
        // The server hears nothing.
        network.server.run("ip link set eth0 arp off")?;
        network.server.run("ip addr del 198.51.100.2/24 dev eth0")?;
        let stream = exchange::connect(&network.client, server(&network, Family::V4, PORT))?;
        wait::until_true("the SYN to the server", || {
            firewall.stat("syn-cookies-right").is_ok_and(|right| right >= 1)
        })?;
        network.server.run("ip link set eth0 arp on")?;
        network.server.address("eth0", "198.51.100.2/24")?;
        network.server.ip("route replace default via 198.51.100.1")?;
        exchange::exchange(&stream, 100_000, 100_000)
    }
}

mod a_flood_of_syns {
    use super::*;

    const SYNS: u16 = 20_000;
    /// SYNs of a flood that go out at once.
    const BURST: u32 = 64;
    const ACCEPTING: &str = "\
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -p tcp --dport 8000:8002 --syn -m conntrack --ctstate NEW -j ACCEPT
COMMIT
";

    #[test]
    fn lets_everybody_connect_meanwhile_with_cookies_and_without() {
        needs!(capability::firewall());
        for (way, rules) in [("SYNPROXY", FORWARD), ("ACCEPT", ACCEPTING)] {
            connect_during_a_flood(way, rules).with_context(|| way).unwrap();
        }
    }

    /// Real connections to the port that the flood goes to.
    fn connect_during_a_flood(way: &str, rules: &str) -> Result<()> {
        let newcomers = if capability::full() { 1_250 } else { 100 };
        let network = gateway(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let _firewall = Setup::on(&["eth0", "eth1"]).both(rules).start(network.gateway())?;
        let target = server(&network, Family::V4, PORT);
        let SocketAddr::V4(flooded) = target else { unreachable!("an IPv4 server") };
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let flood = scope.spawn(|| flood(&wires.client, flooded, &is_over));
            let begun = Instant::now();
            let connected = (0..newcomers).try_for_each(|number| {
                let stream = exchange::connect(&network.client, target)?;
                exchange::exchange(&stream, 100, 100)
                    .with_context(|| format!("newcomer {number} of {newcomers}"))
            });
            let took = begun.elapsed();
            is_over.store(true, Ordering::Relaxed);
            let syns = flood.join().expect("the flood does not panic")?;
            connected?;
            ensure!(syns > 0, "no flood");
            eprintln!(
                "{way}: {newcomers} of {newcomers} connected one after another, {:.0} a second, \
                 beside {:.0} SYNs a second",
                f64::from(newcomers) / took.as_secs_f64(),
                f64::from(syns) / took.as_secs_f64(),
            );
            Ok(())
        })
    }

    /// Floods until it is over; gives the number of SYNs.
    fn flood(wire: &Wire, target: SocketAddrV4, is_over: &AtomicBool) -> Result<u32> {
        let (mut burst, mut frames, mut sent) = (Burst::new(wire), Syns::to(wire, target), 0);
        while !is_over.load(Ordering::Relaxed) {
            burst.send(&frames.take(BURST))?;
            sent += BURST;
        }
        Ok(sent)
    }

    #[test]
    fn touches_no_table_and_keeps_nobody_out() {
        needs!(capability::firewall());
        flooded().unwrap();
    }

    fn flooded() -> Result<()> {
        let network = gateway(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(FORWARD).start(network.gateway())?;
        let target = server(&network, Family::V4, PORT);
        for port in 10_000..10_000 + SYNS {
            wires.client.send(&Packet::syn(wires.client.endpoint(Family::V4, port), target))?;
        }
        // An ACK that guesses.
        let guess = Segment { flags: flag::ACK, seq: 1, ack: 2, ..Segment::default() };
        let from = wires.client.endpoint(Family::V4, 9_999);
        wires.client.send(&Packet::tcp(from, target, guess))?;
        wait::until_true("the flood to be answered", || {
            firewall.stat("syn-cookies-sent").is_ok_and(|sent| sent == u64::from(SYNS))
                && firewall.stat("syn-cookie-wrong").is_ok_and(|wrong| wrong == 1)
        })?;
        for counter in ["flows-created", "syn-cookies-right", "table-embryonic", "table-assured"] {
            let value = firewall.stat(counter)?;
            ensure!(value == 0, "{counter}: {value}");
        }
        for family in FAMILIES {
            proxied(&network, &firewall, family)?;
        }
        let created = firewall.stat("flows-created")?;
        ensure!(created == 2, "{created} flows were created");
        Ok(())
    }
}
