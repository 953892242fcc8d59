//! Control connections that the firewall meets in the middle: what comes next is
//! read, and what is encrypted is known to be.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    control::{Control, extended, host_port},
    firewall::Setup,
    ledger::refused_since,
    needs,
    server::own::{self, Own, Script, contents},
    wait,
};

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -p tcp --dport 21 -j ACCEPT
COMMIT
";

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn start(network: &Gateway) -> Result<Firewall<'_>> {
    Setup::on(&["eth0", "eth1"]).both(RULES).start(network.gateway())
}

fn open(network: &Gateway, family: Family) -> Result<Control> {
    let server = SocketAddr::new(network.server_address(family), 21);
    let mut control = Control::open(&network.client, server)?;
    control.login(("a", "b"))?;
    Ok(control)
}

mod that_were_met_in_the_middle {
    use super::*;

    #[test]
    fn transfer_both_ways_after_a_flush() {
        needs!(capability::firewall());
        flushed().unwrap();
    }

    fn flushed() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let firewall = start(&network)?;
        for family in FAMILIES {
            for (name, transfer) in TRANSFERS {
                let mut control = open(&network, family)?;
                for flush in 0..2 {
                    firewall.text(&["conntrack", "flush"])?;
                    transfer(&network, &firewall, &mut control)
                        .with_context(|| format!("{family:?}, {name}, flush {flush}"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn transfer_both_ways_when_they_are_older_than_the_firewall() {
        needs!(capability::firewall());
        older().unwrap();
    }

    fn older() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let mut sessions = Vec::new();
        for family in FAMILIES {
            for (name, transfer) in TRANSFERS {
                sessions.push((open(&network, family)?, format!("{family:?}, {name}"), transfer));
            }
        }
        let firewall = start(&network)?;
        for (mut control, name, transfer) in sessions {
            for _ in 0..2 {
                transfer(&network, &firewall, &mut control).with_context(|| name.clone())?;
            }
        }
        Ok(())
    }

    const TRANSFERS: [(&str, Transfer); 3] =
        [("passive", passive), ("active", active), ("beside", beside)];
}

mod auth_tls {
    use super::*;

    #[test]
    fn makes_a_session_encrypted() {
        needs!(capability::firewall());
        accepted().unwrap();
    }

    fn accepted() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let agrees = Script::default().wording(|reply| {
            let reply = reply.replace("502 not here", "234 go on");
            vec![format!("{reply}\r\n").into_bytes()]
        });
        let _server = Own::start(&network.server, agrees)?;
        let firewall = start(&network)?;
        for family in FAMILIES {
            let mut control = open(&network, family)?;
            ensure!(!is_encrypted(&firewall, &control)?, "{family:?}: before AUTH TLS");
            let answer = control.command("AUTH TLS")?;
            ensure!(answer.code == 234, "{answer:?}");
            wait::until_true("helper=ftp(tls)", || {
                is_encrypted(&firewall, &control).is_ok_and(|encrypted| encrypted)
            })?;
        }
        Ok(())
    }

    #[test]
    fn that_is_refused_does_not() {
        needs!(capability::firewall());
        refused().unwrap();
    }

    fn refused() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let firewall = start(&network)?;
        for family in FAMILIES {
            let mut control = open(&network, family)?;
            let answer = control.command("AUTH TLS")?;
            ensure!(answer.code == 502, "{answer:?}");
            passive(&network, &firewall, &mut control)?;
            ensure!(!is_encrypted(&firewall, &control)?, "{family:?}: encrypted against a 502");
        }
        Ok(())
    }

    /// What the listing says of the session.
    fn is_encrypted(firewall: &Firewall<'_>, control: &Control) -> Result<bool> {
        let local = control.local()?;
        let family = if local.is_ipv4() { "ipv4" } else { "ipv6" };
        let listed = firewall.text(&["conntrack", "list", "-f", family])?;
        let port = format!(" sport={} ", local.port());
        let line = listed.lines().find(|line| line.contains(&port));
        let line = line.with_context(|| format!("no session from {local} in:\n{listed}"))?;
        Ok(line.contains("helper=ftp(tls)"))
    }
}

type Transfer = fn(&Gateway, &Firewall<'_>, &mut Control) -> Result<()>;

fn passive(network: &Gateway, _: &Firewall<'_>, control: &mut Control) -> Result<()> {
    let data = announced(control)?;
    let stream = network.client.enter(|| TcpStream::connect_timeout(&data, wait::DEADLINE))?;
    control.write(b"RETR file\r\n")?;
    fetch(control, stream)
}

fn active(network: &Gateway, _: &Firewall<'_>, control: &mut Control) -> Result<()> {
    let own = SocketAddr::new(control.local()?.ip(), 0);
    let listener = network.client.enter(|| TcpListener::bind(own))?;
    let own = listener.local_addr()?;
    let port = if own.is_ipv4() {
        format!("PORT {}", host_port(own))
    } else {
        format!("EPRT {}", extended(own))
    };
    let answer = control.command(&port)?;
    ensure!(answer.code == 200, "{answer:?}");
    control.write(b"RETR file\r\n")?;
    // Before the connection is waited for: a refusal tells why there is none.
    let begin = control.reply()?;
    ensure!(begin.code == 150, "{begin:?}");
    let (mut stream, _) = listener.accept()?;
    is_the_file(&mut stream)?;
    done(control)
}

/// The port beside the announced one stays closed.
fn beside(network: &Gateway, firewall: &Firewall<'_>, control: &mut Control) -> Result<()> {
    let mut data = announced(control)?;
    data.set_port(data.port() ^ 1);
    let before = firewall.stat("policy")?;
    let _attempt = network.client.enter(|| own::begin_to_connect(None, data))?;
    refused_since(firewall, before, "to the port beside the announced one")
}

fn announced(control: &mut Control) -> Result<SocketAddr> {
    let server = control.peer()?;
    let command = if server.is_ipv4() { "PASV" } else { "EPSV" };
    Ok(SocketAddr::new(server.ip(), control.command(command)?.port()?))
}

fn fetch(control: &mut Control, mut stream: TcpStream) -> Result<()> {
    let begin = control.reply()?;
    ensure!(begin.code == 150, "{begin:?}");
    is_the_file(&mut stream)?;
    done(control)
}

fn is_the_file(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(wait::DEADLINE))?;
    let mut arrived = String::new();
    stream.read_to_string(&mut arrived)?;
    ensure!(arrived == contents("file"), "arrived: {arrived:?}");
    Ok(())
}

fn done(control: &mut Control) -> Result<()> {
    let end = control.reply()?;
    ensure!(end.code == 226, "{end:?}");
    Ok(())
}
