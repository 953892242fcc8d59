//! FTP over translated control connections: what is announced is told by the address that the
//! other side knows.
//!
//! The networks are those of [`Translation`]. What people use is in `matrix.rs`; here a test
//! speaks the control connection itself.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use firewall_common::{
    flow::{FlowKey, Tuple},
    shift::Shifts,
    time::Nanos,
};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, Translation, capability,
    control::{Control, host_port},
    firewall::Setup,
    ledger::refused_since,
    needs,
    retrieval::{active, fetch_from, passive},
    server::own::{self, Own, Script, contents},
    wait,
};
use firewall_user::kernel::{
    maps::{Maps, SequenceShifts},
    pins::Pins,
};

fn session(network: &Gateway, translation: Translation, family: Family) -> Result<Control> {
    let called = SocketAddr::new(translation.called(network, family), 21);
    let mut control = Control::open(&network.client, called)?;
    control.login(("a", "b"))?;
    Ok(control)
}

#[test]
fn each_spelling_is_told_by_the_address_that_the_other_side_knows() {
    needs!(capability::firewall());
    for (translation, hook) in Translation::SOME.into_iter().zip(["xdp", "tc", "xdp-generic"]) {
        spellings(translation, hook).with_context(|| format!("{translation:?} {hook}")).unwrap();
    }
}

fn spellings(translation: Translation, hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let _server = Own::start(&network.server, Script::default())?;
    let firewall = translation.start(&network, hook)?;
    for family in [Family::V4, Family::V6] {
        let mut control = session(&network, translation, family)?;
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
    let firewall = Translation::Both.start(&network, "xdp")?;
    let mut control = session(&network, Translation::Both, Family::V4)?;
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
    let firewall = Translation::Masqueraded.start(&network, "xdp")?;
    let [mut first, mut second] = [(); 2]
        .map(|()| session(&network, Translation::Masqueraded, Family::V4).expect("a session"));
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
    let firewall = Translation::Masqueraded.start(&network, "xdp")?;
    network.server.address("eth0", "198.51.100.3/24")?;
    let mut control = session(&network, Translation::Masqueraded, Family::V4)?;
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
fn a_data_connection_beside_one_with_its_inner_ends_has_another_source_port() {
    needs!(capability::firewall());
    for hook in ["xdp", "tc"] {
        twins(hook).with_context(|| hook.to_owned()).unwrap();
    }
}

/// The server calls the client from its port 20 past the gateway's address, and where it is told.
fn twins(hook: &str) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let _server = Own::start(&network.server, Script::default())?;
    let rules = "*nat\n-A POSTROUTING -o eth1 -p tcp --dport 21 -j MASQUERADE\nCOMMIT\n\
                 *filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n";
    let setup = Setup::on(&["eth0", "eth1"]).rules(rules).option(&format!("--hook={hook}"));
    let firewall = setup.start(network.gateway())?;
    let mut control = session(&network, Translation::Masqueraded, Family::V4)?;
    let own = SocketAddr::new(control.local()?.ip(), 0);
    let listener = network.client.enter(|| TcpListener::bind(own))?;
    let from = SocketAddr::new(network.server_address(Family::V4), 20);
    let to = listener.local_addr()?;
    let mut straight = network.server.enter(|| own::connect_from(from, to))?;
    let (mut accepted, peer) = listener.accept()?;
    ensure!(peer == from, "straight from {peer}");

    let reply = control.command(&format!("PORT {}", host_port(to)))?;
    ensure!(reply.code == 200, "{reply:?}");
    control.write(b"RETR file\r\n")?;
    let led = fetch_from(&mut control, &listener)?;
    ensure!(led.ip() == from.ip() && led.port() != from.port(), "led from {led}");
    ensure!(firewall.stat("expectations-used")? == 1, "it was not expected");

    straight.write_all(b"still here")?;
    let mut heard = [0; 10];
    accepted.set_read_timeout(Some(wait::DEADLINE))?;
    accepted.read_exact(&mut heard).context("the straight connection")?;
    ensure!(&heard == b"still here", "{heard:?}");
    Ok(())
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
    let mut firewall = Translation::Masqueraded.start(&network, hook)?;
    let mut control = session(&network, Translation::Masqueraded, Family::V4)?;
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

#[test]
fn explain_names_what_was_told_beside_what_was_announced() {
    needs!(capability::firewall());
    explained().unwrap();
}

fn explained() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    // A transfer that goes on until the client has had enough.
    let script = Script::default().data(|name, stream| {
        stream.write_all(contents(name).as_bytes())?;
        stream.read(&mut [0]).map(drop)
    });
    let _server = Own::start(&network.server, script)?;
    let firewall = Translation::Masqueraded.start(&network, "xdp")?;
    let mut control = session(&network, Translation::Masqueraded, Family::V4)?;
    let bind = || TcpListener::bind(SocketAddr::new(control.local()?.ip(), 0)).context("a port");
    let listener = network.client.enter(bind)?;
    let port = listener.local_addr()?.port();
    let ask = |port: u16, flags: &[&str]| {
        let port = port.to_string();
        let ends = ["-s", "198.51.100.2", "-d", "198.51.100.1", "--sport", "20", "--dport", &port];
        let words = [&["explain", "-i", "eth1", "-p", "tcp"], &ends[..], flags].concat();
        firewall.text(&words)
    };
    let unannounced = ask(port, &["--syn"])?;
    ensure!(unannounced.contains("nothing that it announced is waited for"), "{unannounced}");
    control.command(&format!("PORT {}", host_port(listener.local_addr()?)))?;

    let told = format!(
        "note: its control connection announced 192.0.2.2:{port}, which was told as \
         198.51.100.1:{port}\n"
    );
    let own = control.local()?;
    // 198,51,100,1 is three letters longer than 192,0,2,2.
    let shifted = format!(
        "note: the control connection {own} -> 198.51.100.2:21 has its text written anew: sequence \
         numbers are shifted by +3 on the way to the server, by +0 on the way to the client\n"
    );
    let led = format!(
        "note: its control connection makes it 198.51.100.2:20 -> 192.0.2.2:{port}\n  FORWARD 1 "
    );
    let expected = ask(port, &["--syn"])?;
    for part in [told.as_str(), &shifted, &led, "ctstate RELATED: ", "ACCEPT by FORWARD 1"] {
        ensure!(expected.contains(part), "no '{part}' in\n{expected}");
    }
    let other = ask(port ^ 1, &["--syn"])?;
    let named = format!("named 192.0.2.2:{port}, told as 198.51.100.1:{port}, ");
    for part in [named.as_str(), "whose text is written anew", "DROP by the policy of INPUT"] {
        ensure!(other.contains(part), "no '{part}' in\n{other}");
    }

    control.write(b"RETR file\r\n")?;
    listener.set_nonblocking(true)?;
    let accept = || listener.accept().ok();
    let (mut stream, _) = wait::until("the data connection", wait::DEADLINE, accept)?;
    stream.set_nonblocking(false)?;
    stream.read_exact(&mut vec![0; contents("file").len()])?;
    let under_way = ask(port, &[])?;
    for part in [told.as_str(), &shifted, "ctstate ESTABLISHED: "] {
        ensure!(under_way.contains(part), "no '{part}' in\n{under_way}");
    }
    Ok(())
}

#[test]
fn a_hole_does_not_outlive_a_reply_whose_every_line_names_another() {
    needs!(capability::firewall());
    lines().unwrap();
}

/// The second reply to PASV has three lines, each with an address, and in a segment of its own.
fn lines() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let asked = AtomicU32::new(0);
    let script = Script::default().wording(move |reply| {
        let is_second = reply.starts_with("227 ") && asked.fetch_add(1, Ordering::Relaxed) == 1;
        let before: &[&str] = match is_second {
            true => &["227-one (198,51,100,2,200,1)", "227-two (198,51,100,2,200,2)"],
            false => &[],
        };
        let lines = before.iter().copied().chain([reply.as_str()]);
        lines.map(|line| format!("{line}\r\n").into_bytes()).collect()
    });
    let _server = Own::start(&network.server, script)?;
    let firewall = Translation::Forwarded.start(&network, "xdp")?;
    let mut control = session(&network, Translation::Forwarded, Family::V4)?;
    // Both are asked before the first is answered: its hole is there when the second comes.
    control.write(b"PASV\r\nPASV\r\n")?;
    let ports = [control.reply()?.port()?, control.reply()?.port()?];
    ensure!(ports[0] != ports[1], "one port twice: {ports:?}");
    let listed = firewall.text(&["expect", "list"])?;
    let latest = format!("dport={}", ports[1]);
    ensure!(listed.lines().count() == 1 && listed.contains(&latest), "{ports:?}, but\n{listed}");
    Ok(())
}

#[test]
fn where_nothing_more_can_be_noted_an_announcement_waits_for_room() {
    needs!(capability::firewall());
    no_room().unwrap();
}

fn no_room() -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let _server = Own::start(&network.server, Script::default())?;
    let firewall = Translation::Masqueraded.start(&network, "xdp")?;
    // The daemon takes away what belongs to no flow: it may do so just before.
    for _ in 0..5 {
        let mut control = session(&network, Translation::Masqueraded, Family::V4)?;
        let listener = network.client.enter(|| {
            TcpListener::bind(SocketAddr::new(control.local()?.ip(), 0))
                .map_err(anyhow::Error::from)
        })?;
        let [is_full, is_done] = [(); 2].map(|()| AtomicBool::new(false));
        let has_waited = thread::scope(|scope| {
            let filling = scope.spawn(|| keep_full(&firewall, &is_full, &is_done));
            let waited = announce_in_vain(&firewall, &mut control, &listener, &is_full);
            is_done.store(true, Ordering::Relaxed);
            filling.join().expect("no panic").and(waited)
        })?;
        // The daemon makes room now, and the client says it again.
        let reply = control.reply()?;
        ensure!(reply.code == 200, "{reply:?}");
        control.write(b"RETR file\r\n")?;
        fetch_from(&mut control, &listener)?;
        if has_waited {
            return Ok(());
        }
    }
    panic!("the table was never full");
}

/// Fills the table of connections whose text is written anew, until it is told to stop.
fn keep_full(firewall: &Firewall, is_full: &AtomicBool, is_done: &AtomicBool) -> Result<()> {
    let mut shifts = SequenceShifts::open(&Maps::open(&Pins::new(firewall.pin()))?)?;
    let mut numbers = 1u32..;
    while !is_done.load(Ordering::Relaxed) {
        let number = numbers.next().context("a number")?;
        let (sport, dport) = (number as u16, (number >> 16) as u16);
        let (key, _) = FlowKey::of(&Tuple { sport, dport, ..Tuple::default() });
        if shifts.insert(key, Shifts::of(Nanos(1))).is_err() {
            is_full.store(true, Ordering::Relaxed);
            thread::yield_now();
        }
    }
    Ok(())
}

/// Announces a port when the table is full; says whether the daemon says so, before the server
/// answers.
fn announce_in_vain(
    firewall: &Firewall,
    control: &mut Control,
    listener: &TcpListener,
    is_full: &AtomicBool,
) -> Result<bool> {
    wait::until_true("a full table", || is_full.load(Ordering::Relaxed))?;
    control.write(format!("PORT {}\r\n", host_port(listener.local_addr()?)).as_bytes())?;
    wait::until("the announcement", wait::DEADLINE, || {
        let waits = firewall.stat("helper-untold").ok()? > 0;
        (waits || control.has_more().ok()?).then_some(waits)
    })
}
