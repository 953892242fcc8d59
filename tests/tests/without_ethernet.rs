//! Devices without an Ethernet header, where TC judges what comes in: the results
//! are those of Ethernet, by XDP or by TC. Counters and fragments on such devices
//! stand beside those of Ethernet, in their own files.

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    client::{Client, Direction, Manner, Mode, transfer},
    command::Background,
    files::Load,
    firewall::Setup,
    ledger::Ledger,
    needs,
    packet::{Body, IcmpError, Packet},
    server::{Kind, Server},
    wait,
    wire::{End, Wires},
};

const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p udp -m udp --dport 61 -j REJECT
-A INPUT {ECHO} -j ACCEPT
-A FORWARD -m state --state RELATED -j ACCEPT
-A FORWARD -m state --state ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -o eth1 -p udp -m udp --dport 53 -j LOG --log-prefix \"question \"
-A FORWARD -i eth0 -o eth1 -p udp -m udp --dport 53 -m state --state NEW -j ACCEPT
-A FORWARD -i eth0 -p tcp -m tcp --dport 21 -m state --state NEW -j ACCEPT
COMMIT
";

fn rules(family: Family) -> String {
    let echo = match family {
        Family::V4 => "-p icmp -m icmp --icmp-type 8",
        Family::V6 => "-p ipv6-icmp",
    };
    RULES.replace("{ECHO}", echo)
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What the gateway stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    TunAt(End),
    /// Ethernet, judged by TC.
    Ethernet,
}

impl Links {
    const ALL: [Self; 3] = [Self::TunAt(End::Client), Self::TunAt(End::Server), Self::Ethernet];

    fn network(self) -> Result<Gateway> {
        match self {
            Self::TunAt(end) => Gateway::with_tun(end),
            Self::Ethernet => Gateway::new(Offload::Tuned),
        }
    }

    fn start(self, network: &Gateway) -> Result<Firewall<'_>> {
        let setup = Setup::on(&["eth0", "eth1"]);
        let setup = match self {
            Self::TunAt(_) => setup,
            Self::Ethernet => setup.option("--hook").option("tc"),
        };
        setup.rules(&rules(Family::V4)).rules6(&rules(Family::V6)).start(network.gateway())
    }
}

#[test]
fn files_are_transferred_in_every_mode_and_family() {
    needs!(capability::firewall(), capability::tun(), Kind::Vsftpd.available());
    for links in Links::ALL {
        transfers(links).with_context(|| format!("{links:?}")).unwrap();
    }
}

fn transfers(links: Links) -> Result<()> {
    let network = links.network()?;
    let server = Server::start(Kind::Vsftpd, &network.server)?;
    let firewall = links.start(&network)?;
    for family in FAMILIES {
        for (mode, client) in [Mode::Active, Mode::Passive]
            .into_iter()
            .flat_map(|mode| [Client::Curl, Client::Lftp].map(|client| (mode, client)))
        {
            let address = network.server_address(family);
            for direction in [Direction::Down, Direction::Up] {
                let manner = Manner::new(mode, family, direction);
                transfer(client, &network.client, &server, address, manner, Load::ONE_SMALL)?;
            }
        }
    }
    let used = firewall.stat("expectations-used")?;
    ensure!(used >= 16, "{used} connections were announced");
    Ok(())
}

type Scenario = fn(&Bench<'_>) -> Result<()>;

const SCENARIOS: [(&str, Scenario); 4] = [
    ("errors about a flow", errors_about_a_flow_are_related),
    ("the gateway itself", the_gateway_answers_and_refuses),
    ("a LOG rule", a_log_rule_writes_its_line),
    ("a drop", a_drop_is_reported),
];

struct Bench<'a> {
    firewall: &'a Firewall<'a>,
    network: &'a Gateway,
    wires: &'a Wires,
    family: Family,
}

#[test]
fn packets_fare_as_on_ethernet() {
    needs!(capability::firewall(), capability::tun());
    for links in Links::ALL {
        fare(links).with_context(|| format!("{links:?}")).unwrap();
    }
}

fn fare(links: Links) -> Result<()> {
    let network = links.network()?;
    let wires = Wires::across(&network)?;
    let firewall = links.start(&network)?;
    for family in FAMILIES {
        let bench = Bench { firewall: &firewall, network: &network, wires: &wires, family };
        for (name, scenario) in SCENARIOS {
            scenario(&bench).with_context(|| format!("{name}, {family:?}"))?;
        }
    }
    Ok(())
}

impl Bench<'_> {
    fn question(&self, sport: u16, dport: u16) -> Packet {
        let client = self.wires.client.endpoint(self.family, sport);
        Packet::udp(client, self.wires.server.endpoint(self.family, dport), b"question")
    }
}

fn errors_about_a_flow_are_related(bench: &Bench<'_>) -> Result<()> {
    let question = bench.question(40_000, 53);
    bench.wires.cross(End::Client, &question)?;
    let server = bench.wires.server.address(bench.family);
    for error in [IcmpError::PortUnreachable, IcmpError::TooBig { mtu: 1_400 }] {
        let before = Ledger::read(bench.firewall)?;
        bench.wires.cross(End::Server, &question.error(server, error))?;
        let moved = Ledger::read(bench.firewall)?.since(&before);
        ensure!(moved.rule("--state RELATED -j ACCEPT") == 1, "{error:?}: {moved:#?}");
    }
    // About a flow that nobody knows: dropped before the next packet crosses.
    let invented = bench.question(40_001, 53).error(server, IcmpError::PortUnreachable);
    let before = Ledger::read(bench.firewall)?;
    bench.wires.server.send(&invented)?;
    let answer = Packet::udp(question.destination, question.source, b"answer");
    bench.wires.cross(End::Server, &answer)?;
    let moved = Ledger::read(bench.firewall)?.since(&before);
    ensure!(moved.policy_drops() == 1, "{moved:#?}");
    bench.wires.client.has_not_seen(&invented)
}

fn the_gateway_answers_and_refuses(bench: &Bench<'_>) -> Result<()> {
    let (clients, servers) = match bench.family {
        Family::V4 => ("192.0.2.1", "198.51.100.1"),
        Family::V6 => ("2001:db8:1::1", "2001:db8:2::1"),
    };
    for (wire, own) in [(&bench.wires.client, clients), (&bench.wires.server, servers)] {
        let own = own.parse()?;
        let ping = Packet::ping(wire.address(bench.family), own, 7);
        wire.send(&ping)?;
        wire.expect(&ping.pong())?;
        let refused = Packet::udp(wire.endpoint(bench.family, 40_000), (own, 61).into(), b"x");
        wire.send(&refused)?;
        let expected = refused.error(own, IcmpError::PortUnreachable);
        wire.wait_for("a port-unreachable", |seen| {
            seen.packet.source.ip() == own && is_error_like(&seen.packet, &expected)
        })?;
    }
    Ok(())
}

/// Of the same kind, about the same packet; how much of it is quoted is its own
/// affair.
fn is_error_like(packet: &Packet, expected: &Packet) -> bool {
    match (&packet.body, &expected.body) {
        (Body::Icmp(one), Body::Icmp(other)) => {
            (one.kind, one.code) == (other.kind, other.code)
                && one.payload.iter().zip(&other.payload).take(28).all(|(one, other)| one == other)
        }
        _ => false,
    }
}

fn a_log_rule_writes_its_line(bench: &Bench<'_>) -> Result<()> {
    let question = bench.question(40_777, 53);
    bench.wires.cross(End::Client, &question)?;
    let mac = match bench.network.gateway().has_ethernet("eth0")? {
        true => "MAC=",
        false => "MAC= ",
    };
    let said = || bench.firewall.said();
    wait::until_true("the line of the LOG rule", || {
        said().lines().any(|line| {
            line.contains("question IN=eth0 OUT=eth1 ")
                && line.contains(mac)
                && line.contains(&format!("SRC={} ", spelled(&question)))
                && line.contains("PROTO=UDP SPT=40777 DPT=53 LEN=16")
        })
    })
    .with_context(said)
}

/// The source as nf_log writes it.
fn spelled(packet: &Packet) -> String {
    match packet.source.ip() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => {
            address.segments().map(|word| format!("{word:04x}")).join(":")
        }
    }
}

fn a_drop_is_reported(bench: &Bench<'_>) -> Result<()> {
    let mut monitor = Background::start(&mut bench.firewall.command(&["monitor"])?)?;
    wait::until_true("the monitor", || monitor.stderr().contains("watching"))?;
    let unwanted = bench.question(40_778, 54);
    bench.wires.client.send(&unwanted)?;
    let (from, to) = (unwanted.source, unwanted.destination);
    let line = format!("DROP policy FORWARD in=eth0 out=eth1 ctstate=NEW udp {from} -> {to} ");
    wait::until_true(&line, || monitor.stdout().contains(&line))
        .with_context(|| monitor.stdout())?;
    monitor.kill();
    Ok(())
}
