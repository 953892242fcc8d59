//! FTP servers and clients that people use, through a gateway that forwards
//! nothing but FTP: what works without a firewall works through it.
//!
//! By default a subset that spans the matrix; all of it with `cargo xtask test
//! --full`.

use anyhow::Result;
use firewall_tests::{
    Family, Gateway, Offload, capability,
    client::{Client, Direction, Manner, Mode, transfer},
    files::Load,
    firewall::Setup,
    needs,
    server::{Kind, Server},
};

const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -p tcp --dport 21 -m state --state NEW -j ACCEPT
COMMIT
";

const RULES6: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p ipv6-icmp -j ACCEPT
-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -p tcp --dport 21 -m state --state NEW -j ACCEPT
COMMIT
";

#[derive(Clone, Copy, Debug)]
struct Case {
    client: Client,
    manner: Manner,
    load: Load,
}

#[test]
fn vsftpd_serves_every_client_through_the_gateway() {
    needs!(capability::firewall(), Kind::Vsftpd.available());
    through_the_gateway(Kind::Vsftpd, Offload::Tuned).unwrap();
}

#[test]
fn proftpd_serves_every_client_through_the_gateway() {
    needs!(capability::firewall(), Kind::Proftpd.available());
    through_the_gateway(Kind::Proftpd, Offload::Tuned).unwrap();
}

#[test]
fn pure_ftpd_serves_every_client_through_the_gateway() {
    needs!(capability::firewall(), Kind::PureFtpd.available());
    through_the_gateway(Kind::PureFtpd, Offload::Tuned).unwrap();
}

#[test]
fn pyftpdlib_serves_every_client_between_untuned_devices() {
    needs!(capability::firewall(), Kind::Pyftpdlib.available());
    through_the_gateway(Kind::Pyftpdlib, Offload::Default).unwrap();
}

/// First without the firewall, to know what works at all; then with it.
fn through_the_gateway(kind: Kind, offload: Offload) -> Result<()> {
    let network = Gateway::new(offload)?;
    let server = Server::start(kind, &network.server)?;
    let cases = cases(kind);
    let working: Vec<_> = cases
        .iter()
        .filter(|case| match run(&network, &server, case) {
            Ok(()) => true,
            Err(error) => {
                println!("{}: does not work without a firewall: {error:#}", kind.name());
                false
            }
        })
        .collect();
    assert!(working.len() * 10 >= cases.len() * 9, "{} of {} work", working.len(), cases.len());

    let _firewall =
        Setup::on(&["eth0", "eth1"]).rules(RULES).rules6(RULES6).start(network.gateway())?;
    let failed: Vec<_> = working
        .iter()
        .filter_map(|case| {
            run(&network, &server, case).err().map(|error| format!("{case:?}: {error:#}"))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), working.len(), failed.join("\n"));
    println!("{}: {} of {} combinations, all that work", kind.name(), working.len(), cases.len());
    Ok(())
}

fn run(network: &Gateway, server: &Server, case: &Case) -> Result<()> {
    let address = network.server_address(case.manner.family);
    transfer(case.client, &network.client, server, address, case.manner, case.load)
}

fn cases(kind: Kind) -> Vec<Case> {
    let possible = Client::ALL.into_iter().enumerate().flat_map(|(index, client)| {
        let manners = Manner::all().filter(move |manner| client.can(*manner));
        manners.enumerate().map(move |(number, manner)| (index + number, client, manner))
    });
    if capability::full() {
        return possible
            .flat_map(|(_, client, manner)| {
                [Load::MANY_SMALL, Load::BIG].map(|load| Case { client, manner, load })
            })
            .collect();
    }
    let third = possible
        .filter(|(number, ..)| (number + kind as usize).is_multiple_of(3))
        .map(|(_, client, manner)| Case { client, manner, load: Load::FEW_SMALL });
    third.chain(big(kind)).collect()
}

/// One big file down and up, in the mode and family that the server's turn gives.
fn big(kind: Kind) -> impl Iterator<Item = Case> {
    let (mode, family) = match kind {
        Kind::Vsftpd => (Mode::Active, Family::V4),
        Kind::Proftpd => (Mode::Passive, Family::V4),
        Kind::PureFtpd => (Mode::Active, Family::V6),
        Kind::Pyftpdlib => (Mode::Passive, Family::V6),
    };
    [Direction::Down, Direction::Up].into_iter().map(move |direction| {
        let manner = Manner::new(mode, family, direction);
        Case { client: Client::Lftp, manner, load: Load::BIG }
    })
}
