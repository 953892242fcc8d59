//! FTP over translated control connections: what is announced is told by the address that the
//! other side knows.
//!
//! ```text
//!   client 192.0.2.2 ── eth0  gateway  eth1 ── server 198.51.100.2
//!             192.0.2.1                 198.51.100.1
//! ```
//! *Masqueraded*, the client is inside, and the server has no way to it. *Forwarded*, the server
//! is inside; the client calls the gateway, and has no way to the server. *Both* is both.

use std::{
    io::Read as _,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    client::{Client, Manner, transfer},
    control::{Control, extended, host_port},
    files::Load,
    firewall::Setup,
    ledger::refused_since,
    needs,
    server::{
        Kind, Server,
        own::{self, Own, Script, contents},
    },
    wait,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrangement {
    Masqueraded,
    Forwarded,
    Both,
}

impl Arrangement {
    const fn is_masqueraded(self) -> bool {
        matches!(self, Self::Masqueraded | Self::Both)
    }

    const fn is_forwarded(self) -> bool {
        matches!(self, Self::Forwarded | Self::Both)
    }

    fn rules(self, family: Family) -> String {
        let server = match family {
            Family::V4 => "198.51.100.2",
            Family::V6 => "[2001:db8:2::2]:21",
        };
        let mut nat = String::new();
        if self.is_forwarded() {
            nat += &format!(
                "-A PREROUTING -i eth0 -p tcp --dport 21 -j DNAT --to-destination {server}\n"
            );
        }
        if self.is_masqueraded() {
            nat += "-A POSTROUTING -o eth1 -j MASQUERADE\n";
        }
        format!(
            "*nat\n{nat}COMMIT\n*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT \
             [0:0]\n-A INPUT -p ipv6-icmp -j ACCEPT\n-A FORWARD -m conntrack --ctstate \
             RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -i eth0 -o eth1 -p tcp --dport 21 -m \
             conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n"
        )
    }

    /// Whom the client calls.
    fn called(self, network: &Gateway, family: Family) -> IpAddr {
        match (self.is_forwarded(), family) {
            (false, _) => network.server_address(family),
            (true, Family::V4) => [192, 0, 2, 1].into(),
            (true, Family::V6) => "2001:db8:1::1".parse().expect("an address"),
        }
    }

    /// Takes away the ways past the gateway's translation, and starts the firewall.
    fn start<'n>(self, network: &'n Gateway, hook: &str) -> Result<Firewall<'n>> {
        for (is_hidden, other) in
            [(self.is_masqueraded(), &network.server), (self.is_forwarded(), &network.client)]
        {
            if is_hidden {
                other.ip("route del default")?;
                other.ip("-6 route del default")?;
            }
        }
        Setup::on(&["eth0", "eth1"])
            .rules(&self.rules(Family::V4))
            .rules6(&self.rules(Family::V6))
            .option(&format!("--hook={hook}"))
            .start(network.gateway())
    }
}

const ALL: [Arrangement; 3] = [Arrangement::Masqueraded, Arrangement::Forwarded, Arrangement::Both];

mod with_real_programs {
    use super::*;

    #[test]
    fn clients_behind_a_masquerade_transfer_in_every_mode() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        transfers(Arrangement::Masqueraded, Kind::Vsftpd, "xdp").unwrap();
    }

    #[test]
    fn servers_behind_a_port_forward_serve_in_every_mode() {
        needs!(capability::firewall(), Kind::Proftpd.available());
        transfers(Arrangement::Forwarded, Kind::Proftpd, "xdp").unwrap();
    }

    #[test]
    fn where_both_are_translated_every_mode_works() {
        needs!(capability::firewall(), Kind::PureFtpd.available());
        transfers(Arrangement::Both, Kind::PureFtpd, "tc").unwrap();
    }

    fn transfers(arrangement: Arrangement, kind: Kind, hook: &str) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let server = Server::start(kind, &network.server)?;
        let firewall = arrangement.start(&network, hook)?;
        let mut failed = Vec::new();
        let cases = cases(kind);
        for (client, manner, load) in &cases {
            let address = arrangement.called(&network, manner.family);
            let done = transfer(*client, &network.client, &server, address, *manner, *load);
            failed.extend(done.err().map(|error| format!("{client:?} {manner:?}: {error:#}")));
        }
        ensure!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
        ensure!(firewall.stat("expectations-used")? > 0, "no connection was expected");
        Ok(())
    }

    /// What everybody can, and with `--full` all that the matrix has. curl says more than is
    /// needed, lftp checks whom it talks to.
    fn cases(kind: Kind) -> Vec<(Client, Manner, Load)> {
        let possible = Client::ALL.into_iter().flat_map(|client| {
            Manner::all().filter(move |manner| client.can(*manner)).map(move |it| (client, it))
        });
        if capability::full() {
            let loads = [Load::FEW_SMALL, Load::BIG];
            return possible
                .flat_map(|(client, manner)| loads.map(|load| (client, manner, load)))
                .collect();
        }
        possible
            .enumerate()
            .filter(|(number, _)| (number + kind as usize).is_multiple_of(4))
            .map(|(_, (client, manner))| (client, manner, Load::ONE_SMALL))
            .collect()
    }
}

/// A file by a data connection that the server opens to where the client has said; gives whom
/// the client sees, and what it has listened to.
fn active(control: &mut Control, extended_: bool) -> Result<(SocketAddr, SocketAddr)> {
    let listener = TcpListener::bind(SocketAddr::new(control.local()?.ip(), 0))?;
    let own = listener.local_addr()?;
    let line = match extended_ {
        false => format!("PORT {}", host_port(own)),
        true => format!("EPRT {}", extended(own)),
    };
    let reply = control.command(&line)?;
    ensure!(reply.code == 200, "{reply:?}");
    control.write(b"RETR file\r\n")?;
    Ok((fetch_from(control, &listener)?, own))
}

fn fetch_from(control: &mut Control, listener: &TcpListener) -> Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let stream = wait::until("the data connection", wait::DEADLINE, || listener.accept().ok());
    let (stream, from) = stream?;
    stream.set_nonblocking(false)?;
    finish(control, stream)?;
    Ok(from)
}

/// A file by a data connection that the client opens.
fn passive(control: &mut Control, command: &str) -> Result<()> {
    let reply = control.command(command)?;
    let port = reply.port()?;
    let to = SocketAddr::new(control.peer()?.ip(), port);
    let stream = TcpStream::connect_timeout(&to, wait::DEADLINE)
        .with_context(|| format!("to {to}, by {}", reply.text))?;
    control.write(b"RETR file\r\n")?;
    finish(control, stream)
}

fn finish(control: &mut Control, mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(wait::DEADLINE))?;
    let mut arrived = String::new();
    stream.read_to_string(&mut arrived)?;
    ensure!(arrived == contents("file"), "arrived: {arrived:?}");
    for code in [150, 226] {
        let reply = control.reply()?;
        ensure!(reply.code == code, "{reply:?}");
    }
    Ok(())
}

fn session(network: &Gateway, arrangement: Arrangement, family: Family) -> Result<Control> {
    let called = SocketAddr::new(arrangement.called(network, family), 21);
    let mut control = Control::open(&network.client, called)?;
    control.login(("a", "b"))?;
    Ok(control)
}

#[test]
fn each_spelling_is_told_by_the_address_that_the_other_side_knows() {
    needs!(capability::firewall());
    for (arrangement, hook) in ALL.into_iter().zip(["xdp", "tc", "xdp-generic"]) {
        spellings(arrangement, hook).with_context(|| format!("{arrangement:?} {hook}")).unwrap();
    }
}

fn spellings(arrangement: Arrangement, hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let _server = Own::start(&network.server, Script::default())?;
    let firewall = arrangement.start(&network, hook)?;
    for family in [Family::V4, Family::V6] {
        let mut control = session(&network, arrangement, family)?;
        network.client.enter(|| -> Result<()> {
            // Again and again: each leaves a shift behind.
            for _ in 0..6 {
                if family == Family::V4 {
                    let (from, _) = active(&mut control, false).context("PORT")?;
                    // The one that it has called.
                    ensure!(from.ip() == control.peer()?.ip(), "from {from}");
                    passive(&mut control, "PASV").context("PASV")?;
                }
                active(&mut control, true).context("EPRT")?;
                passive(&mut control, "EPSV").context("EPSV")?;
            }
            ensure!(control.command("QUIT")?.code == 221, "no farewell");
            Ok(())
        })?;
    }
    ensure!(firewall.stat("helper-untold")? == 0, "something was not told");
    Ok(())
}

#[test]
fn an_announcement_in_pieces_is_told_and_no_byte_is_lost() {
    needs!(capability::firewall());
    pieces().unwrap();
}

fn pieces() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    // The server's replies come letter by letter, too.
    let letters = Script::default()
        .wording(|reply| format!("{reply}\r\n").bytes().map(|byte| vec![byte]).collect());
    let _server = Own::start(&network.server, letters)?;
    let firewall = Arrangement::Both.start(&network, "xdp")?;
    let mut control = session(&network, Arrangement::Both, Family::V4)?;
    network.client.enter(|| -> Result<()> {
        passive(&mut control, "PASV").context("PASV")?;
        let listener = TcpListener::bind(SocketAddr::new(control.local()?.ip(), 0))?;
        let line = format!("PORT {}\r\n", host_port(listener.local_addr()?));
        let letters: Vec<_> = line.bytes().map(|byte| vec![byte]).collect();
        control.write_apart(&letters)?;
        ensure!(control.reply()?.code == 200, "PORT is not understood");
        control.write_apart(&[b"RETR f".to_vec(), b"ile\r\n".to_vec()])?;
        fetch_from(&mut control, &listener).context("PORT")?;
        Ok(())
    })?;
    ensure!(firewall.stat("helper-untold")? == 0, "something was not told");
    Ok(())
}

#[test]
fn two_control_connections_that_name_one_port_are_told_apart() {
    needs!(capability::firewall());
    apart().unwrap();
}

fn apart() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let _server = Own::start(&network.server, Script::default())?;
    let firewall = Arrangement::Masqueraded.start(&network, "xdp")?;
    let [mut first, mut second] = [(); 2]
        .map(|()| session(&network, Arrangement::Masqueraded, Family::V4).expect("a session"));
    network.client.enter(|| -> Result<()> {
        let listener = TcpListener::bind(SocketAddr::new(first.local()?.ip(), 0))?;
        let own = listener.local_addr()?;
        for control in [&mut first, &mut second] {
            let reply = control.command(&format!("PORT {}", host_port(own)))?;
            ensure!(reply.code == 200, "{reply:?}");
        }
        let listed = firewall.text(&["expect", "list"])?;
        for port in [own.port(), own.port() + 1] {
            let told = format!("src=198.51.100.2 dst=198.51.100.1 sport=0 dport={port}");
            ensure!(listed.contains(&told), "no {told} in\n{listed}");
        }
        // To nobody but the server that was told.
        for control in [&mut second, &mut first] {
            control.write(b"RETR file\r\n")?;
            fetch_from(control, &listener)?;
        }
        Ok(())
    })?;
    ensure!(firewall.stat("expectations-used")? == 2, "not two connections were expected");
    Ok(())
}

#[test]
fn a_told_port_admits_whom_it_was_told_once() {
    needs!(capability::firewall());
    once().unwrap();
}

fn once() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let _server = Own::start(&network.server, Script::default())?;
    let firewall = Arrangement::Masqueraded.start(&network, "xdp")?;
    network.server.address("eth0", "198.51.100.3/24")?;
    let mut control = session(&network, Arrangement::Masqueraded, Family::V4)?;
    let listener = network.client.enter(|| {
        TcpListener::bind(SocketAddr::new(control.local()?.ip(), 0)).map_err(anyhow::Error::from)
    })?;
    let told = SocketAddr::new([198, 51, 100, 1].into(), listener.local_addr()?.port());
    let try_from = |from: [u8; 4], when: &str| -> Result<()> {
        let before = firewall.stat("policy")?;
        let own = SocketAddr::new(from.into(), 0);
        let _attempt = network.server.enter(|| own::begin_to_connect(Some(own), told))?;
        refused_since(&firewall, before, when)
    };
    try_from([198, 51, 100, 2], "before it was told")?;
    control.command(&format!("PORT {}", host_port(listener.local_addr()?)))?;
    try_from([198, 51, 100, 3], "from another host")?;
    control.write(b"RETR file\r\n")?;
    fetch_from(&mut control, &listener)?;
    try_from([198, 51, 100, 2], "after it was used")
}

#[test]
fn a_control_connection_with_shifts_outlives_the_daemon() {
    needs!(capability::firewall());
    for hook in ["xdp", "xdp-generic", "tc"] {
        survives(hook).with_context(|| hook.to_owned()).unwrap();
    }
}

fn survives(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Default)?;
    let _server = Own::start(&network.server, Script::default())?;
    let mut firewall = Arrangement::Masqueraded.start(&network, hook)?;
    let mut control = session(&network, Arrangement::Masqueraded, Family::V4)?;
    network.client.enter(|| active(&mut control, false))?;
    firewall.kill();
    // The first ones wait for somebody to read them, and are sent again until nobody is waited for.
    for _ in 0..20 {
        let reply = control.command("NOOP")?;
        ensure!(reply.code == 200, "{reply:?}");
    }
    firewall.restart()?;
    network.client.enter(|| active(&mut control, false)).context("with the next daemon")?;
    ensure!(control.command("QUIT")?.code == 221, "no farewell");
    Ok(())
}
