//! FTP servers and clients that people use, through a gateway that lets nothing but FTP through,
//! and translates neither side, the client, the server, or both ([`Translation`]): what works
//! without a firewall works through it.
//!
//! By default a subset that spans the matrix: each way of each client passes once through a
//! translation. All of it with `cargo xtask test --full`.

use anyhow::{Result, ensure};
use firewall_tests::{
    Family, Gateway, Offload, Translation, capability,
    client::{Client, Direction, Manner, Mode, transfer},
    files::Load,
    needs,
    server::{Kind, Server},
};

#[derive(Clone, Copy, Debug)]
struct Case {
    client: Client,
    manner: Manner,
    load: Load,
}

mod straight {
    use super::*;

    #[test]
    fn vsftpd_serves_every_client_through_the_gateway() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        through_the_gateway(Kind::Vsftpd, Translation::None).unwrap();
    }

    #[test]
    fn proftpd_serves_every_client_through_the_gateway() {
        needs!(capability::firewall(), Kind::Proftpd.available());
        through_the_gateway(Kind::Proftpd, Translation::None).unwrap();
    }

    #[test]
    fn pure_ftpd_serves_every_client_through_the_gateway() {
        needs!(capability::firewall(), Kind::PureFtpd.available());
        through_the_gateway(Kind::PureFtpd, Translation::None).unwrap();
    }

    #[test]
    fn pyftpdlib_serves_every_client_between_untuned_devices() {
        needs!(capability::firewall(), Kind::Pyftpdlib.available());
        through_the_gateway(Kind::Pyftpdlib, Translation::None).unwrap();
    }
}

mod behind_a_masquerade {
    use super::*;

    #[test]
    fn clients_are_served_by_vsftpd() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        through_the_gateway(Kind::Vsftpd, Translation::Masqueraded).unwrap();
    }

    #[test]
    fn clients_are_served_by_proftpd() {
        needs!(capability::firewall(), Kind::Proftpd.available());
        through_the_gateway(Kind::Proftpd, Translation::Masqueraded).unwrap();
    }

    #[test]
    fn clients_are_served_by_pure_ftpd() {
        needs!(capability::firewall(), Kind::PureFtpd.available());
        through_the_gateway(Kind::PureFtpd, Translation::Masqueraded).unwrap();
    }

    #[test]
    fn clients_are_served_by_pyftpdlib_between_untuned_devices() {
        needs!(capability::firewall(), Kind::Pyftpdlib.available());
        through_the_gateway(Kind::Pyftpdlib, Translation::Masqueraded).unwrap();
    }
}

mod behind_a_port_forward {
    use super::*;

    #[test]
    fn vsftpd_serves_every_client() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        through_the_gateway(Kind::Vsftpd, Translation::Forwarded).unwrap();
    }

    #[test]
    fn proftpd_serves_every_client() {
        needs!(capability::firewall(), Kind::Proftpd.available());
        through_the_gateway(Kind::Proftpd, Translation::Forwarded).unwrap();
    }

    #[test]
    fn pure_ftpd_serves_every_client() {
        needs!(capability::firewall(), Kind::PureFtpd.available());
        through_the_gateway(Kind::PureFtpd, Translation::Forwarded).unwrap();
    }

    #[test]
    fn pyftpdlib_serves_every_client_between_untuned_devices() {
        needs!(capability::firewall(), Kind::Pyftpdlib.available());
        through_the_gateway(Kind::Pyftpdlib, Translation::Forwarded).unwrap();
    }
}

mod behind_both {
    use super::*;

    #[test]
    fn vsftpd_serves_every_client() {
        needs!(capability::firewall(), Kind::Vsftpd.available());
        through_the_gateway(Kind::Vsftpd, Translation::Both).unwrap();
    }

    #[test]
    fn proftpd_serves_every_client() {
        needs!(capability::firewall(), Kind::Proftpd.available());
        through_the_gateway(Kind::Proftpd, Translation::Both).unwrap();
    }

    #[test]
    fn pure_ftpd_serves_every_client() {
        needs!(capability::firewall(), Kind::PureFtpd.available());
        through_the_gateway(Kind::PureFtpd, Translation::Both).unwrap();
    }

    #[test]
    fn pyftpdlib_serves_every_client_between_untuned_devices() {
        needs!(capability::firewall(), Kind::Pyftpdlib.available());
        through_the_gateway(Kind::Pyftpdlib, Translation::Both).unwrap();
    }
}

/// First without the firewall, to know what works at all; then with it. Of the few that pass
/// through a translation by default each works.
fn through_the_gateway(kind: Kind, translation: Translation) -> Result<()> {
    let network = Gateway::new(offload(kind))?;
    let server = Server::start(kind, &network.server)?;
    let cases = cases(kind, translation);
    let is_asked = translation == Translation::None || capability::full();
    let working: Vec<_> = cases
        .iter()
        .filter(|case| {
            !is_asked
                || match run(&network, &server, Translation::None, case) {
                    Ok(()) => true,
                    Err(error) => {
                        println!("{}: does not work without a firewall: {error:#}", kind.name());
                        false
                    }
                }
        })
        .collect();
    ensure!(working.len() * 10 >= cases.len() * 9, "{} of {} work", working.len(), cases.len());

    let hook = hook(kind, translation);
    let firewall = translation.start(&network, hook)?;
    let failed: Vec<_> = working
        .iter()
        .filter_map(|case| {
            let done = run(&network, &server, translation, case);
            done.err().map(|error| format!("{case:?}: {error:#}"))
        })
        .collect();
    let whole = format!("{} {translation:?} {hook}", kind.name());
    ensure!(failed.is_empty(), "{whole}: {} fail:\n{}", failed.len(), failed.join("\n"));
    for [counter, what] in [["expectations-used", "used"], ["helper-untold", "not told"]] {
        let is_any = firewall.stat(counter)? > 0;
        ensure!(is_any == (what == "used"), "{whole}: announcements {what}: {is_any}");
    }
    println!("{whole}: {} of {} combinations, all that work", working.len(), cases.len());
    Ok(())
}

fn run(network: &Gateway, server: &Server, translation: Translation, case: &Case) -> Result<()> {
    let address = translation.called(network, case.manner.family);
    transfer(case.client, &network.client, server, address, case.manner, case.load)
}

const fn offload(kind: Kind) -> Offload {
    match kind {
        Kind::Pyftpdlib => Offload::Default,
        _ => Offload::Tuned,
    }
}

/// Every server and every translation meets each of them.
fn hook(kind: Kind, translation: Translation) -> &'static str {
    match translation {
        // Of devices as the kernel makes them the other hooks have their turn below.
        Translation::None if matches!(offload(kind), Offload::Default) => "xdp",
        Translation::None => "auto",
        _ => ["xdp", "tc", "xdp-generic"][(kind as usize + translation as usize) % 3],
    }
}

fn cases(kind: Kind, translation: Translation) -> Vec<Case> {
    let possible = Client::ALL.into_iter().enumerate().flat_map(|(client_number, client)| {
        let manners = Manner::all().enumerate();
        manners.filter(move |(_, manner)| client.can(*manner)).map(move |(number, manner)| {
            // Clients begin apart: what a few of them do differs in everything.
            (5 * client_number + number, client, manner)
        })
    });
    if capability::full() {
        let (loads, biggest): (&[Load], _) = match translation {
            Translation::None => (&[Load::MANY_SMALL, Load::BIG], None),
            _ => (&[Load::FEW_SMALL], Some(big(kind))),
        };
        return possible
            .flat_map(|(_, client, manner)| {
                loads.iter().map(move |load| Case { client, manner, load: *load })
            })
            .chain(biggest.into_iter().flatten())
            .collect();
    }
    let some = |divisor: usize, remainder: usize, load| {
        possible
            .filter(move |(number, ..)| number % divisor == remainder % divisor)
            .map(move |(_, client, manner)| Case { client, manner, load })
    };
    match translation {
        Translation::None => some(3, kind as usize, Load::FEW_SMALL).chain(big(kind)).collect(),
        _ => {
            let turn = Kind::ALL.len() * (translation as usize - 1) + kind as usize;
            some(PAIRS, turn, Load::ONE_SMALL).collect()
        }
    }
}

/// Of a server and a translation.
const PAIRS: usize = Kind::ALL.len() * Translation::SOME.len();

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
