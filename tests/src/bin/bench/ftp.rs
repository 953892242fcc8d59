//! How long an FTP client waits: from its PASV to the first byte of data, with vsftpd, beside
//! the kernel's helper; and how long the firewall held what it read.

use std::{
    fs,
    io::Read as _,
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    control::Control,
    firewall::Setup,
    server::{Kind, Server},
    wait,
};
use firewall_user::kernel::{maps::Maps, pins::Pins};

use crate::{
    report::{Goal, Report},
    site::feed,
};

const PART: &str = "FTP";
const WHAT: &str = "PASV to the first byte";
const NOBODY: &str = "no firewall";
const KERNEL: &str = "nftables with nf_conntrack_ftp";
const OURS: &str = "firewall";
const FILE: &str = "one-byte";
/// Downloads in a round.
const DOWNLOADS: usize = 30;

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 21 -j ACCEPT
COMMIT
";
const IN_NFT: &str = "\
table ip ftp {
 ct helper reader { type \"ftp\" protocol tcp; }
 chain assign { type filter hook prerouting priority 0; tcp dport 21 ct helper set \"reader\"; }
 chain forward {
  type filter hook forward priority 0; policy drop;
  ct state established,related accept
  tcp dport 21 accept
 }
}
";

/// A client that is logged in, and who stands on its way.
struct Session<'a> {
    who: &'static str,
    network: &'a Gateway,
    control: Control,
    firewall: Option<Firewall<'a>>,
    _server: Server,
}

/// Measures all, round by round.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    if let Err(missing) = Kind::Vsftpd.available() {
        report.miss(PART, "vsftpd", &missing);
        return Ok(());
    }
    let mut all = vec![NOBODY, OURS];
    match capability::program("nft") {
        Ok(()) => all.push(KERNEL),
        Err(missing) => report.miss(PART, KERNEL, &missing),
    }
    let networks = all.iter().map(|_| Gateway::new(Offload::Tuned));
    let networks = networks.collect::<Result<Vec<_>>>()?;
    let mut sessions = Vec::new();
    for (who, network) in all.into_iter().zip(&networks) {
        sessions.push(Session::new(who, network).with_context(|| who)?);
    }
    for round in 0..=rounds {
        for session in &mut sessions {
            let median = session.round().with_context(|| session.who)?;
            if round > 0 {
                report.note(PART, &format!("{WHAT}: {}", session.who), "us", median);
            }
        }
    }
    for session in &sessions {
        if let Some(firewall) = &session.firewall {
            held(report, firewall)?;
        }
    }
    let of = |report: &Report, who: &str| report.median(PART, &format!("{WHAT}: {who}"));
    if let (Some(ours), Some(theirs)) = (of(report, OURS), of(report, KERNEL)) {
        report.compare(
            "FTP, PASV to the first byte: to the kernel's helper",
            ours / theirs,
            Goal::AtMost(1.1),
        );
    }
    Ok(())
}

impl<'a> Session<'a> {
    fn new(who: &'static str, network: &'a Gateway) -> Result<Self> {
        let mut firewall = None;
        match who {
            OURS => {
                let setup = Setup::on(&["eth0", "eth1"]).rules(RULES);
                firewall = Some(setup.start(network.gateway())?);
            }
            KERNEL => feed(network.gateway(), "nft", &["-f"], IN_NFT)?,
            _ => {}
        }
        let server = Server::start(Kind::Vsftpd, &network.server)?;
        fs::write(server.root().join(FILE), "x")?;
        let address = SocketAddr::new(network.server_address(Family::V4), server.port());
        let mut control = Control::open(&network.client, address)?;
        control.login(Kind::Vsftpd.account())?;
        control.command("TYPE I")?;
        Ok(Self { who, network, control, firewall, _server: server })
    }

    /// The median of some downloads, in microseconds.
    fn round(&mut self) -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..DOWNLOADS {
            times.push(self.download()?);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[DOWNLOADS / 2])
    }

    fn download(&mut self) -> Result<f64> {
        let host = self.network.server_address(Family::V4);
        let control = &mut self.control;
        self.network.client.enter(|| {
            let began = Instant::now();
            let port = control.command("PASV")?.port()?;
            let address = SocketAddr::new(host, port);
            let mut data = TcpStream::connect_timeout(&address, wait::DEADLINE)?;
            let answer = control.command(&format!("RETR {FILE}"))?;
            ensure!(answer.code == 150, "RETR: {answer:?}");
            data.set_read_timeout(Some(wait::DEADLINE))?;
            data.read_exact(&mut [0]).context("no byte came")?;
            let took = began.elapsed();
            ensure!(control.reply()?.code == 226, "the transfer did not end well");
            Ok(took.as_nanos() as f64 / 1e3)
        })
    }
}

/// How long segments of control connections were held.
fn held(report: &mut Report, firewall: &Firewall<'_>) -> Result<()> {
    let stats = Maps::open(&Pins::new(firewall.pin()))?.helper_stats()?;
    for (part, name, most) in [(500, "p50", 15.0), (990, "p99", 100.0)] {
        let time = stats.hold_time(part).context("no segment was held")? as f64 / 1e3;
        report.note(PART, &format!("hold time, {name}"), "us", time);
        report.compare(&format!("FTP, hold time, {name}, in us"), time, Goal::AtMost(most));
    }
    Ok(())
}
