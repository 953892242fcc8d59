//! FTP through NAT over links that lose, repeat and delay frames: what is announced is told
//! once, however often it is said, and no byte of a control connection is lost.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Translation, capability,
    client::{Client, Direction, Manner, Mode, transfer},
    control::{Control, host_port},
    files::Load,
    needs,
    server::{
        Kind, Server,
        own::{Own, Script, contents},
    },
    wait,
};

/// Which frames are lost; `FIREWALL_FULL=1` plays more of them.
fn seeds() -> std::ops::Range<u64> {
    if capability::full() { 1..11 } else { 1..2 }
}

#[test]
fn real_programs_transfer_through_native_xdp() {
    needs!(capability::firewall(), Kind::Vsftpd.available());
    for seed in seeds() {
        transfers(Kind::Vsftpd, Translation::Masqueraded, "xdp", seed).unwrap();
    }
}

#[test]
fn real_programs_transfer_through_tc() {
    needs!(capability::firewall(), Kind::Proftpd.available());
    for seed in seeds() {
        transfers(Kind::Proftpd, Translation::Both, "tc", seed).unwrap();
    }
}

#[test]
fn real_programs_transfer_through_generic_xdp() {
    needs!(capability::firewall(), Kind::PureFtpd.available());
    for seed in seeds() {
        transfers(Kind::PureFtpd, Translation::Forwarded, "xdp-generic", seed).unwrap();
    }
}

fn transfers(kind: Kind, translation: Translation, hook: &str, seed: u64) -> Result<()> {
    let network = Gateway::with_rough_links(seed)?;
    let server = Server::start(kind, &network.server)?;
    let firewall = translation.start(&network, hook)?;
    let whole = format!("{} {translation:?} {hook} seed {seed}", kind.name());
    for (client, mode, family, direction) in [
        (Client::Ftplib, Mode::Active, Family::V4, Direction::Down),
        (Client::Ftplib, Mode::Passive, Family::V4, Direction::Up),
        (Client::Tnftp, Mode::Passive, Family::V6, Direction::Down),
    ] {
        let manner = Manner::new(mode, family, direction);
        let address = translation.called(&network, family);
        transfer(client, &network.client, &server, address, manner, Load::TWO_SMALL)
            .with_context(|| format!("{whole}: {}", told(&network, &firewall)))?;
    }
    let [lost, repeated, delayed] = network.fates();
    ensure!(lost > 2 && repeated > 2 && delayed > 2, "{whole}: {}", told(&network, &firewall));
    ensure!(firewall.stat("helper-untold")? == 0, "{whole}: something was not told");
    println!("{whole}: {}", told(&network, &firewall));
    Ok(())
}

/// What was rough, and what the helper made of it.
fn told(network: &Gateway, firewall: &Firewall<'_>) -> String {
    let [lost, repeated, delayed] = network.fates();
    let count = |name| firewall.stat(name).unwrap_or_default();
    format!(
        "{lost} frames lost, {repeated} repeated, {delayed} delayed; {} announcements told, {} \
         segments early",
        count("helper-rewritten"),
        count("helper-early")
    )
}

#[test]
fn commands_that_wait_for_no_reply_arrive_in_order_around_what_is_told() {
    needs!(capability::firewall());
    for seed in seeds() {
        for hook in ["xdp", "tc"] {
            pipelined(hook, seed).with_context(|| format!("{hook} seed {seed}")).unwrap();
        }
    }
}

/// Segments before an announcement and behind it are under way at the same time: what is lost
/// leaves gaps, and what was told moves all that comes behind.
fn pipelined(hook: &str, seed: u64) -> Result<()> {
    let network = Gateway::with_rough_links(100 + seed)?;
    let _server = Own::start(&network.server, Script::default())?;
    let translation = Translation::Both;
    let firewall = translation.start(&network, hook)?;
    let called = SocketAddr::new(translation.called(&network, Family::V4), 21);
    let mut control = Control::open(&network.client, called)?;
    control.login(("a", "b"))?;
    network.client.enter(|| -> Result<()> {
        for round in 0..4 {
            let listener = TcpListener::bind(SocketAddr::new(control.local()?.ip(), 0))?;
            let port = format!("PORT {}\r\n", host_port(listener.local_addr()?));
            let lines = ["NOOP\r\n", &port, "NOOP\r\n", "TYPE I\r\n", "RETR file\r\n"];
            for line in lines {
                control.write(line.as_bytes())?;
            }
            let what = format!("round {round}: {}", told(&network, &firewall));
            let file = fetch(&listener).with_context(|| what.clone())?;
            ensure!(file == contents("file"), "{what}: {file:?}");
            for code in [200, 200, 200, 200, 150, 226] {
                let reply = control.reply().with_context(|| what.clone())?;
                ensure!(reply.code == code, "{what}: {reply:?} instead of {code}");
            }
        }
        ensure!(control.command("QUIT")?.code == 221, "no farewell");
        Ok(())
    })?;
    ensure!(network.fates().iter().all(|count| *count > 0), "{}", told(&network, &firewall));
    // The daemon writes down what it counts from time to time.
    let is_told = || firewall.stat("helper-rewritten").is_ok_and(|count| count >= 4);
    wait::until_true("all announcements to be counted", is_told)?;
    println!("{hook} seed {seed}: {}", told(&network, &firewall));
    Ok(())
}

fn fetch(listener: &TcpListener) -> Result<String> {
    listener.set_nonblocking(true)?;
    let accept = || listener.accept().ok();
    let (mut stream, _) = wait::until("the data connection", wait::DEADLINE, accept)?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(wait::DEADLINE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
