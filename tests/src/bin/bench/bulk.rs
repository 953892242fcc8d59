//! What a firewall leaves of the rate of one TCP connection: to its host, from its host, and
//! through it. Kernels at both ends, with all the offload that the devices have.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{Family, Firewall, Gateway, Netns, Offload, firewall::Setup, wait};

use crate::{
    peers::Peers,
    report::{Goal, Report},
};

const PART: &str = "bulk TCP";
const PORT: u16 = 7_000;
/// How long one transfer lasts.
const TIME: Duration = Duration::from_millis(500);
const BLOCK: usize = 256 << 10;
const NO_FIREWALL: &str = "no firewall";
const AUTO: &str = "firewall";
const ROUTER: &str = "stateless XDP router";
const LEAST: f64 = 0.95;

const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 7000 -j ACCEPT
-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 7000 -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A OUTPUT -p tcp -m tcp --dport 7000 -j ACCEPT
COMMIT
";

/// Where a connection leads, and by what.
struct Path<'a> {
    name: String,
    from: &'a Netns,
    to: &'a Netns,
    address: SocketAddr,
}

/// One network, and who stands in it.
struct Place<'a> {
    network: &'a Gateway,
    who: &'static str,
    /// What the report calls the way through it.
    through: &'static str,
    _firewall: Option<Firewall<'a>>,
    _router: Option<Peers>,
}

/// Firewalls of a host.
const HOSTS: [(&str, &[&str]); 5] = [
    (NO_FIREWALL, &[]),
    (AUTO, &["--hook=auto"]),
    ("firewall, xdp", &["--hook=xdp"]),
    ("firewall, xdp-generic", &["--hook=xdp-generic"]),
    ("firewall, tc", &["--hook=tc"]),
];
/// Firewalls of a gateway; the last is forwarded to and from devices as the kernel makes them.
const GATEWAYS: [(&str, &[&str], Offload); 7] = [
    (NO_FIREWALL, &[], Offload::Tuned),
    (ROUTER, &[], Offload::Tuned),
    (AUTO, &["--hook=auto"], Offload::Tuned),
    ("firewall, tc", &["--hook=tc"], Offload::Tuned),
    (NO_FIREWALL, &[], Offload::Default),
    (AUTO, &["--hook=auto"], Offload::Default),
    ("firewall, tc", &["--hook=tc"], Offload::Default),
];

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let hosts = HOSTS.iter().map(|_| Gateway::hosts(Offload::Default));
    let hosts = hosts.collect::<Result<Vec<_>>>()?;
    let gateways = GATEWAYS.iter().map(|(_, _, offload)| Gateway::new(*offload));
    let gateways = gateways.collect::<Result<Vec<_>>>()?;
    let mut places = Vec::new();
    for ((who, options), network) in HOSTS.into_iter().zip(&hosts) {
        places.push(Place::new(network, who, "", &["eth0"], options)?);
    }
    for ((who, options, offload), network) in GATEWAYS.into_iter().zip(&gateways) {
        let through = match offload {
            Offload::Tuned => "forwarded",
            Offload::Default => "forwarded, devices as made",
        };
        places.push(Place::new(network, who, through, &["eth0", "eth1"], options)?);
    }
    let paths: Vec<_> = places.iter().flat_map(Place::paths).collect();
    for round in 0..=rounds {
        for path in &paths {
            let rate = path.transfer().with_context(|| path.name.clone())?;
            if round > 0 {
                report.note(PART, &path.name, "Gbit/s", rate);
            }
        }
    }
    judge(report);
    Ok(())
}

impl<'a> Place<'a> {
    fn new(
        network: &'a Gateway,
        who: &'static str,
        through: &'static str,
        interfaces: &[&str],
        options: &[&str],
    ) -> Result<Self> {
        let netns = network.gateway.as_ref().unwrap_or(&network.server);
        let mut router = None;
        if who == ROUTER {
            let mut peers = Peers::load(1, 1)?;
            netns.enter(|| {
                interfaces.iter().try_for_each(|interface| peers.attach("router", interface))
            })?;
            router = Some(peers);
        }
        let mut firewall = None;
        if let [option] = options {
            let setup = Setup::on(interfaces).rules(RULES).option(option);
            firewall = Some(setup.start(netns)?);
        }
        Ok(Self { network, who, through, _firewall: firewall, _router: router })
    }

    fn paths(&self) -> Vec<Path<'a>> {
        let (client, server) = (&self.network.client, &self.network.server);
        let [client_address, server_address] =
            [self.network.client_address(Family::V4), self.network.server_address(Family::V4)]
                .map(|address| SocketAddr::new(address, PORT));
        let path = |what: &str, from, to, address| Path {
            name: format!("{what}: {}", self.who),
            from,
            to,
            address,
        };
        match self.network.gateway {
            Some(_) => vec![path(self.through, client, server, server_address)],
            None => vec![
                path("to the host", client, server, server_address),
                path("from the host", server, client, client_address),
            ],
        }
    }
}

impl Path<'_> {
    /// Gigabits a second that arrive.
    fn transfer(&self) -> Result<f64> {
        let listener = self.to.enter(|| TcpListener::bind(self.address))?;
        let address = self.address;
        let sender = self.from.spawn(move || -> Result<()> {
            let mut stream = TcpStream::connect_timeout(&address, wait::DEADLINE)?;
            stream.set_write_timeout(Some(wait::DEADLINE))?;
            let (block, began) = (vec![7; BLOCK], Instant::now());
            while began.elapsed() < TIME {
                stream.write_all(&block)?;
            }
            Ok(())
        });
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(wait::DEADLINE))?;
        let (mut block, mut bytes) = (vec![0; BLOCK], 0_u64);
        let began = Instant::now();
        loop {
            match stream.read(&mut block).context("the transfer stands still")? {
                0 => break,
                count => bytes += count as u64,
            }
        }
        let took = began.elapsed();
        sender.join().expect("no panic")?;
        ensure!(bytes > 0, "nothing arrived");
        Ok(8.0 * bytes as f64 / took.as_nanos() as f64)
    }
}

fn judge(report: &mut Report) {
    let pairs = [
        ("to the host", NO_FIREWALL),
        ("from the host", NO_FIREWALL),
        ("forwarded", ROUTER),
        ("forwarded, devices as made", NO_FIREWALL),
    ];
    for (way, peer) in pairs {
        let of = |report: &Report, who: &str| report.median(PART, &format!("{way}: {who}"));
        if let (Some(ours), Some(theirs)) = (of(report, AUTO), of(report, peer)) {
            let what = format!("bulk TCP {way}: rate to that of {peer}");
            report.compare(&what, ours / theirs, Goal::AtLeast(LEAST));
        }
    }
}
