//! What floods do to the helper: who was silent longest goes first, nobody waits for the
//! flood of another, and everything that was refused is counted.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Configuration, Family, Firewall, Gateway, Netns, Offload, capability,
    control::{Control, host_port},
    firewall::Setup,
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
-A FORWARD -i eth0 -p tcp -m multiport --dports 21,2121 -m state --state NEW -j ACCEPT
COMMIT
";

/// Where sessions are greeted, and nothing else happens.
const GREETER: u16 = 2_121;

fn start<'n>(network: &'n Gateway, settings: &str) -> Result<Firewall<'n>> {
    let text = format!("[helper.ftp]\nports = [21, {GREETER}]\n{settings}");
    let configuration = Configuration::new(&text)?;
    let setup = Setup::on(&["eth0", "eth1"]).both(RULES);
    configuration.given_to(setup).start(network.gateway())
}

/// A session that is logged in.
fn session(network: &Gateway, family: Family) -> Result<Control> {
    let server = SocketAddr::new(network.server_address(family), 21);
    let mut control = Control::open(&network.client, server)?;
    control.login(("a", "b"))?;
    Ok(control)
}

/// A file by a data connection that the server opens: only who was followed all the time may
/// have it.
fn transfer(client: &Netns, control: &mut Control) -> Result<()> {
    let own = SocketAddr::new(control.local()?.ip(), 0);
    let listener = client.enter(|| TcpListener::bind(own))?;
    let reply = control.command(&format!("PORT {}", host_port(listener.local_addr()?)))?;
    ensure!(reply.code == 200, "{reply:?}");
    let begin = control.command("RETR file")?;
    ensure!(begin.code == 150, "{begin:?}");
    let (mut stream, _) = listener.accept()?;
    let mut arrived = String::new();
    stream.read_to_string(&mut arrived)?;
    ensure!(arrived == contents("file"), "arrived: {arrived:?}");
    let end = control.reply()?;
    ensure!(end.code == 226, "{end:?}");
    Ok(())
}

mod of_control_connections {
    use super::*;

    const PLACES: u64 = 50;
    const FLOOD: u64 = 500;
    /// The one that is at work speaks after so many others have begun.
    const BETWEEN: u64 = 20;

    #[test]
    fn takes_the_places_of_those_that_were_silent_longest_and_of_nobody_else() {
        needs!(capability::firewall());
        flood().unwrap();
    }

    fn flood() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network, &format!("max_connections = {PLACES}\n"))?;
        let _server = Own::start(&network.server, Script::default())?;
        greet(&network.server)?;
        let mut busy = session(&network, Family::V4)?;
        let mut crowd = Vec::new();
        for number in 0..FLOOD {
            crowd.push(idle(&network)?);
            if number % BETWEEN == 0 {
                transfer(&network.client, &mut busy)
                    .with_context(|| format!("behind {number} others"))?;
            }
        }
        // Whoever has begun has a place, or was forgotten; the daemon tells now and then.
        wait::until_true("the flood to be counted", || {
            firewall.stat("helper-begun").is_ok_and(|begun| begun > FLOOD)
        })?;
        let followed = firewall.stat("helper-connections")?;
        ensure!(followed == PLACES, "{followed} are followed");
        let (begun, forgotten) =
            (firewall.stat("helper-begun")?, firewall.stat("helper-forgotten")?);
        ensure!(begun == FLOOD + 1 && forgotten == begun - PLACES, "{begun} less {forgotten}");
        drop((crowd, busy));
        wait::until_true("all of them to be let go", || {
            firewall.stat("helper-connections").is_ok_and(|followed| followed == 0)
        })
    }

    /// Greets whoever comes, and listens to them.
    fn greet(server: &Netns) -> Result<()> {
        let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), GREETER);
        let listener = server.enter(|| TcpListener::bind(everywhere))?;
        thread::spawn(move || {
            for mut stream in listener.incoming().take(FLOOD as usize).flatten() {
                // What fails here fails at the client, too, which says so.
                let _ = stream.write_all(b"220 ready\r\n");
                thread::spawn(move || stream.read_to_end(&mut Vec::new()));
            }
        });
        Ok(())
    }

    /// A session that has been greeted and has named a user.
    fn idle(network: &Gateway) -> Result<TcpStream> {
        let greeter = SocketAddr::new(network.server_address(Family::V4), GREETER);
        let connect = || TcpStream::connect_timeout(&greeter, wait::DEADLINE);
        let mut stream = network.client.enter(connect)?;
        stream.set_read_timeout(Some(wait::DEADLINE))?;
        stream.read_exact(&mut [0; 11]).context("a greeting")?;
        stream.write_all(b"USER a\r\n")?;
        Ok(stream)
    }
}

mod of_holes {
    use super::*;

    const HOLES: usize = 3;

    #[test]
    fn of_one_client_is_refused_beyond_its_bound_and_others_have_their_own() {
        needs!(capability::firewall());
        bounded().unwrap();
    }

    fn bounded() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network, &format!("max_holes_per_host = {HOLES}\n"))?;
        let _server = Own::start(&network.server, Script::default())?;
        let mut sessions = Vec::new();
        for _ in 0..=HOLES {
            let mut control = session(&network, Family::V4)?;
            control.command("PASV")?.port()?;
            sessions.push(control);
        }
        let standing = || Ok::<_, anyhow::Error>(firewall.json(&["expect", "list"])?.len());
        ensure!(standing()? == HOLES, "{} holes stand", standing()?);
        // The same client by another address is another one.
        let mut other = session(&network, Family::V6)?;
        other.command("EPSV")?.port()?;
        ensure!(standing()? == HOLES + 1, "{} holes stand", standing()?);
        wait::until_true("the refusal to be counted", || {
            firewall.stat("helper-refused").is_ok_and(|refused| refused == 1)
        })?;
        // One that ends makes room for the one that was refused.
        drop(sessions.remove(0));
        wait::until_true("a hole to be closed", || standing().is_ok_and(|count| count == HOLES))?;
        let last = sessions.last_mut().context("a session")?;
        last.command("PASV")?.port()?;
        ensure!(standing()? == HOLES + 1, "{} holes stand", standing()?);
        Ok(())
    }
}

mod of_commands {
    use super::*;

    const TRANSFERS: usize = 50;
    /// Far below the second after which a SYN is sent again. A busy machine may take longer once.
    const AT_MOST: Duration = Duration::from_millis(900);
    /// Held segments of the flood before anything is measured.
    const UNDER_WAY: u64 = 500;

    #[test]
    fn on_one_connection_holds_up_no_other() {
        needs!(capability::firewall());
        fair().unwrap();
    }

    fn fair() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = start(&network, "")?;
        let _server = Own::start(&network.server, Script::default())?;
        let greeter = listen(&network.server)?;
        let mut quiet = session(&network, Family::V4)?;
        let to = SocketAddr::new(network.server_address(Family::V4), GREETER);
        let flood = network.client.enter(|| TcpStream::connect_timeout(&to, wait::DEADLINE))?;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let sent = scope.spawn(|| pour(flood, &is_over));
            let read = scope.spawn(|| swallow(&greeter));
            let measured = measure(&network, &firewall, &mut quiet);
            is_over.store(true, Ordering::Relaxed);
            let sent = sent.join().expect("no panic")?;
            let read = read.join().expect("no panic")?;
            measured?;
            ensure!(sent == read, "{sent} bytes were sent, {read} have arrived");
            Ok(())
        })
    }

    fn measure(network: &Gateway, firewall: &Firewall<'_>, quiet: &mut Control) -> Result<()> {
        let begun = firewall.stat("punted")?;
        wait::until_true("the flood to be under way", || {
            firewall.stat("punted").is_ok_and(|punted| punted > begun + UNDER_WAY)
        })?;
        let sides = [&network.client, &network.server];
        let before = [TcpLoss::of(sides[0])?, TcpLoss::of(sides[1])?];
        let mut took = Vec::new();
        for number in 0..TRANSFERS {
            let start = Instant::now();
            transfer(&network.client, quiet).with_context(|| format!("transfer {number}"))?;
            took.push(start.elapsed());
        }
        took.sort_unstable();
        let median = took[TRANSFERS / 2];
        ensure!(median < AT_MOST, "half of the transfers took {median:?} and more: {took:?}");
        for (side, before) in sides.into_iter().zip(before) {
            let lost = TcpLoss::of(side)?.since(before);
            ensure!(lost.syn_retransmitted == 0, "{} sent SYNs again: {lost:?}", side.name());
        }
        Ok(())
    }

    fn listen(server: &Netns) -> Result<TcpListener> {
        let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), GREETER);
        Ok(server.enter(|| TcpListener::bind(everywhere))?)
    }

    /// Commands as fast as they go; gives how many bytes.
    fn pour(mut stream: TcpStream, is_over: &AtomicBool) -> io::Result<u64> {
        stream.read_exact(&mut [0; 11])?;
        let chunk = b"NOOP\r\n".repeat(1_000);
        let mut sent = 0;
        while !is_over.load(Ordering::Relaxed) {
            stream.write_all(&chunk)?;
            sent += chunk.len() as u64;
        }
        Ok(sent)
    }

    /// Greets one client and reads what it says to the end; gives how many bytes.
    fn swallow(greeter: &TcpListener) -> io::Result<u64> {
        let (mut stream, _) = greeter.accept()?;
        stream.write_all(b"220 ready\r\n")?;
        io::copy(&mut stream, &mut io::sink())
    }
}
