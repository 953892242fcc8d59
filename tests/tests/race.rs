//! Nothing overtakes its expectation: thousands of data connections, each opened
//! the moment it is announced, and not one SYN dropped or sent twice.

use std::{
    io::Read as _,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability, command,
    command::Background,
    control::{Control, extended, host_port},
    firewall::Setup,
    ledger::Ledger,
    needs,
    server::own::{Own, Script, contents},
    stats::TcpLoss,
    wait,
};

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -p tcp --dport 21 -m state --state NEW -j ACCEPT
COMMIT
";

const CONNECTIONS: u16 = 2000;
/// Clients listen from this port on, each time on the next, so that no pair of
/// endpoints is used again while a kernel remembers it.
const FIRST_PORT: u16 = 20_000;

#[test]
fn no_passive_data_connection_outruns_its_227() {
    needs!(capability::firewall());
    scenario(Family::V4, passive, Daemon::Free).unwrap();
}

#[test]
fn no_active_data_connection_outruns_its_port() {
    needs!(capability::firewall());
    scenario(Family::V4, active, Daemon::Free).unwrap();
}

#[test]
fn no_passive_data_connection_outruns_its_229() {
    needs!(capability::firewall());
    scenario(Family::V6, passive, Daemon::Free).unwrap();
}

#[test]
fn no_active_data_connection_outruns_its_eprt() {
    needs!(capability::firewall());
    scenario(Family::V6, active, Daemon::Free).unwrap();
}

#[test]
fn no_passive_data_connection_outruns_a_daemon_on_a_busy_cpu() {
    needs!(capability::firewall(), capability::program("taskset"));
    scenario(Family::V4, passive, Daemon::OnBusyCpu).unwrap();
}

#[test]
fn no_active_data_connection_outruns_a_daemon_on_a_busy_cpu() {
    needs!(capability::firewall(), capability::program("taskset"));
    scenario(Family::V4, active, Daemon::OnBusyCpu).unwrap();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Free,
    OnBusyCpu,
}

type Transfer = fn(&mut Control, u16) -> Result<TcpStream>;

fn scenario(family: Family, open: Transfer, daemon: Daemon) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let _server = Own::start(&network.server, Script::default())?;
    let mut firewall = Setup::on(&["eth0", "eth1"]).both(RULES).start(network.gateway())?;
    let _load = match daemon {
        Daemon::Free => None,
        Daemon::OnBusyCpu => Some(keep_busy(&mut firewall)?),
    };
    let server = SocketAddr::new(network.server_address(family), 21);
    let mut control = Control::open(&network.client, server)?;
    control.login(("a", "b"))?;

    let before = Ledger::read(&firewall)?;
    let losses = || Ok::<_, anyhow::Error>([&network.client, &network.server].map(TcpLoss::of));
    let [client_before, server_before] = losses()?;
    // Sockets are made on one thread in the client's namespace.
    network.client.enter(|| {
        (0..CONNECTIONS).try_for_each(|number| {
            one_file(&mut control, number, open)
                .with_context(|| format!("connection {number} of {CONNECTIONS}"))
        })
    })?;

    let [client, server] = losses()?;
    for (side, now, before) in
        [("client", client, client_before), ("server", server, server_before)]
    {
        let lost = now?.since(before?);
        ensure!(lost.syn_retransmitted == 0, "the {side} sent SYNs again: {lost:?}");
    }
    let moved = Ledger::read(&firewall)?.since(&before);
    ensure!(moved.drops() == 0, "dropped: {:?}", moved.dropped);
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
