//! Nothing overtakes its expectation: thousands of data connections, each opened
//! the moment it is announced, and not one SYN dropped or sent twice.

use std::{
    io::Read as _,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability, command,
    command::Background,
    control::{Control, extended, host_port},
    firewall::{FTP_RULES, Setup},
    ledger::Ledger,
    needs,
    server::own::{Own, Script, contents},
    stats::TcpLoss,
    wait,
};

/// A box that is client or server itself.
const BOX: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 21 -m state --state NEW -j ACCEPT
-A OUTPUT -p tcp --dport 21 -m state --state NEW -j ACCEPT
COMMIT
";

const CONNECTIONS: u16 = 2000;
/// Where it is not about the quickest way.
const SOME: u16 = 300;
/// Clients listen from this port on, each time on the next, so that no pair of
/// endpoints is used again while a kernel remembers it.
const FIRST_PORT: u16 = 20_000;

#[test]
fn no_data_connection_outruns_its_port_or_227() {
    needs!(capability::firewall());
    scenario(Family::V4, Daemon::Free).unwrap();
}

#[test]
fn no_data_connection_outruns_its_eprt_or_229() {
    needs!(capability::firewall());
    scenario(Family::V6, Daemon::Free).unwrap();
}

#[test]
fn no_data_connection_outruns_a_daemon_on_a_busy_cpu() {
    needs!(capability::firewall(), capability::program("taskset"));
    scenario(Family::V4, Daemon::OnBusyCpu).unwrap();
}

#[test]
fn no_data_connection_outruns_its_announcement_on_any_hook() {
    needs!(capability::firewall());
    for hook in ["xdp-generic", "tc"] {
        on_hook(hook).with_context(|| hook).unwrap();
    }
}

#[test]
fn no_data_connection_outruns_its_announcement_on_a_client_box() {
    needs!(capability::firewall());
    on_a_box(|network| &network.client).unwrap();
}

#[test]
fn no_data_connection_outruns_its_announcement_on_a_server_box() {
    needs!(capability::firewall());
    on_a_box(|network| &network.server).unwrap();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Free,
    OnBusyCpu,
}

fn scenario(family: Family, daemon: Daemon) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let mut firewall = Setup::on(&["eth0", "eth1"]).both(FTP_RULES).start(network.gateway())?;
    let _load = match daemon {
        Daemon::Free => None,
        Daemon::OnBusyCpu => Some(keep_busy(&mut firewall)?),
    };
    both_ways(&network, &firewall, family, CONNECTIONS)
}

/// Between devices as the kernel makes them.
fn on_hook(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Default)?;
    let setup = Setup::on(&["eth0", "eth1"]).both(FTP_RULES).option("--hook").option(hook);
    let firewall = setup.start(network.gateway())?;
    both_ways(&network, &firewall, Family::V4, SOME)
}

fn on_a_box(which: fn(&Gateway) -> &Netns) -> Result<()> {
    let network = Gateway::hosts(Offload::Default)?;
    let firewall = Setup::on(&["eth0"]).rules(BOX).start(which(&network))?;
    both_ways(&network, &firewall, Family::V4, SOME)
}

/// Passive and active files, one after another.
fn both_ways(network: &Gateway, firewall: &Firewall<'_>, family: Family, count: u16) -> Result<()> {
    let _server = Own::start(&network.server, Script::default())?;
    let server = SocketAddr::new(network.server_address(family), 21);
    let mut control = Control::open(&network.client, server)?;
    control.login(("a", "b"))?;
    many(network, firewall, &mut control, passive, count).context("passive")?;
    many(network, firewall, &mut control, active, count).context("active")
}

type Transfer = fn(&mut Control, u16) -> Result<TcpStream>;

/// Transfers one file after another, and looks at the counters of all three.
fn many(
    network: &Gateway,
    firewall: &Firewall<'_>,
    control: &mut Control,
    open: Transfer,
    count: u16,
) -> Result<()> {
    let before = Ledger::read(firewall)?;
    let sides = [&network.client, &network.server];
    let losses_before = [TcpLoss::of(sides[0])?, TcpLoss::of(sides[1])?];
    // Sockets are made on one thread in the client's namespace.
    network.client.enter(|| {
        (0..count).try_for_each(|number| {
            one_file(control, number, open)
                .with_context(|| format!("connection {number} of {count}"))
        })
    })?;
    let moved = Ledger::read(firewall)?.since(&before);
    let lost_all = [
        TcpLoss::of(sides[0])?.since(losses_before[0]),
        TcpLoss::of(sides[1])?.since(losses_before[1]),
    ];
    for (side, lost) in sides.into_iter().zip(lost_all) {
        let name = side.name();
        ensure!(lost.syn_retransmitted == 0, "{name} sent SYNs again: {lost:?}, {moved:#?}");
        let retransmitted: u64 = lost_all.iter().map(|lost| lost.retransmitted).sum();
        ensure!(
            lost.duplicates <= retransmitted,
            "{name} got segments twice that nobody sent twice: {lost:?}"
        );
    }
    ensure!(moved.drops() == 0, "dropped: {moved:#?}");
    Ok(())
}

fn one_file(control: &mut Control, number: u16, open: Transfer) -> Result<()> {
    let name = format!("file{number}");
    let mut stream = open(control, number)?;
    let mut arrived = String::new();
    stream.read_to_string(&mut arrived)?;
    ensure!(arrived == contents(&name), "arrived: {arrived:?}");
    let end = control.reply()?;
    ensure!(end.code == 226, "{end:?}");
    Ok(())
}

fn passive(control: &mut Control, number: u16) -> Result<TcpStream> {
    let server = control.peer()?;
    let announced = control.command(if server.is_ipv4() { "PASV" } else { "EPSV" })?.port()?;
    let stream =
        TcpStream::connect_timeout(&SocketAddr::new(server.ip(), announced), wait::DEADLINE)?;
    let begin = control.command(&format!("RETR file{number}"))?;
    ensure!(begin.code == 150, "{begin:?}");
    Ok(stream)
}

fn active(control: &mut Control, number: u16) -> Result<TcpStream> {
    let own: IpAddr = control.local()?.ip();
    let listener = TcpListener::bind(SocketAddr::new(own, FIRST_PORT + number))?;
    let endpoint = listener.local_addr()?;
    let announced = match own {
        IpAddr::V4(_) => control.command(&format!("PORT {}", host_port(endpoint)))?,
        IpAddr::V6(_) => control.command(&format!("EPRT {}", extended(endpoint)))?,
    };
    ensure!(announced.code == 200, "{announced:?}");
    let begin = control.command(&format!("RETR file{number}"))?;
    ensure!(begin.code == 150, "{begin:?}");
    Ok(listener.accept()?.0)
}

/// Pins all threads of the daemon to the first CPU that it may use, and lets a
/// process of ours spin there.
fn keep_busy(firewall: &mut Firewall<'_>) -> Result<Background> {
    let pid = firewall.daemon().context("the daemon is not running")?.pid().to_string();
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    let cpu = (0..1024).find(|cpu| allowed.is_set(*cpu).unwrap_or(false)).context("no CPU")?;
    let cpu = cpu.to_string();
    command::output(Command::new("taskset").args(["-a", "-c", "-p", &cpu, &pid]))?;
    let spin = ["-c", &cpu, "sh", "-c", "while :; do :; done"];
    Background::start(Command::new("taskset").args(spin))
}
