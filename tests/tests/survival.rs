//! The gate does not move when the daemon dies, and what it knew is still there
//! when it comes back. Unloaded, it leaves nothing, and takes nothing else along.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    control::Control,
    firewall::Setup,
    foreign::{Place, Program, programs},
    ledger::refused_since,
    needs,
    packet::Packet,
    server::own::{Own, Script, contents},
    wait,
    wire::{End, Wires},
};
use serde_json::Value;

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -p tcp --dport 21 -m state --state NEW -j ACCEPT
-A FORWARD -i eth0 -p udp --dport 53 -m state --state NEW -j ACCEPT
COMMIT
";

const BIG: u64 = 500_000_000;
/// The daemon is killed after this much has arrived.
const AMID: u64 = 100_000_000;
/// The last of the file waits until the daemon is back.
const HELD_BACK: u64 = 1_000_000;

mod a_killed_daemon {
    use super::*;

    #[test]
    fn interrupts_no_transfer_and_loses_no_flow() {
        needs!(capability::firewall());
        transfer_and_flows().unwrap();
    }

    fn transfer_and_flows() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let held_back = Arc::new(Gate::default());
        let gate = Arc::clone(&held_back);
        let script = Script::default().data(move |_, stream| send_big(stream, &gate));
        let _server = Own::start(&network.server, script)?;
        let wires = Wires::across(&network)?;
        let mut firewall = start(&network)?;
        let mut control = open(&network)?;
        let mut other = open(&network)?;
        let download = Download::start(data_connection(&network, &mut control, "big")?);
        // However this test ends, the sender does not wait for ever.
        let _open_at_the_end = OpenOnDrop(&held_back);

        download.wait_for(AMID)?;
        let before = flows(&firewall)?;
        firewall.kill();
        download.wait_for(2 * AMID)?;
        new_flows_are_judged(&firewall, &wires)?;
        let meanwhile = other.command("NOOP")?;
        ensure!(meanwhile.code == 200, "{meanwhile:?}");

        firewall.restart()?;
        let after = flows(&firewall)?;
        for (flow, packets) in &before {
            let now = after.get(flow).with_context(|| format!("{flow} is gone of {after:?}"))?;
            ensure!(now >= packets, "{flow}: {now} packets, {packets} before the kill");
        }
        held_back.open();
        download.finish()?;
        let end = control.reply()?;
        ensure!(end.code == 226, "{end:?}");
        Ok(())
    }

    #[test]
    fn leaves_expectations_usable() {
        needs!(capability::firewall());
        expectations().unwrap();
    }

    fn expectations() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let mut firewall = start(&network)?;
        let mut control = open(&network)?;
        let announced = control.command("PASV")?.port()?;
        firewall.kill();
        let listed = firewall.json(&["expect", "list"])?;
        ensure!(listed.len() == 1 && listed[0]["dport"] == announced, "{listed:?}");
        fetch(&network, &mut control, announced)?;

        // And one that outlives both death and return.
        firewall.restart()?;
        control.command("NOOP")?;
        let announced = control.command("PASV")?.port()?;
        firewall.restart()?;
        fetch(&network, &mut control, announced)
    }

    #[test]
    fn that_returns_follows_running_sessions() {
        needs!(capability::firewall());
        running_sessions().unwrap();
    }

    /// Of what was said meanwhile it knows nothing; what comes next it reads.
    fn running_sessions() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let mut firewall = start(&network)?;
        let mut control = open(&network)?;
        firewall.kill();
        for command in ["NOOP", "TYPE I"] {
            let meanwhile = control.command(command)?;
            ensure!(meanwhile.code == 200, "{meanwhile:?}");
        }
        firewall.restart()?;
        let next = control.command("NOOP")?;
        ensure!(next.code == 200, "{next:?}");
        let announced = control.command("PASV")?.port()?;
        fetch(&network, &mut control, announced)
    }

    #[test]
    fn that_returns_reads_the_very_next_command_of_a_session() {
        needs!(capability::firewall());
        next_command().unwrap();
    }

    /// A client that is fetching one file after another says PASV first.
    fn next_command() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let _server = Own::start(&network.server, Script::default())?;
        let mut firewall = start(&network)?;
        let mut control = open(&network)?;
        firewall.restart()?;
        let announced = control.command("PASV")?.port()?;
        fetch(&network, &mut control, announced)
    }

    #[test]
    fn keeps_rules_and_counters() {
        needs!(capability::firewall());
        rules_and_counters().unwrap();
    }

    fn rules_and_counters() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let mut firewall = start(&network)?;
        new_flows_are_judged(&firewall, &wires)?;
        let save = |firewall: &Firewall<'_>| -> Result<Vec<String>> {
            let text = firewall.text(&["save", "-c"])?;
            Ok(text.lines().filter(|line| !line.starts_with('#')).map(String::from).collect())
        };
        let before = save(&firewall)?;
        let dropped = firewall.stat("policy")?;
        firewall.kill();
        ensure!(save(&firewall)? == before, "other rules or counters after the kill");
        firewall.restart()?;
        ensure!(firewall.stat("policy")? >= dropped, "the counters of verdicts began anew");
        new_flows_are_judged(&firewall, &wires)
    }
}

mod unload {
    use super::*;

    #[test]
    fn removes_everything_that_the_firewall_made() {
        needs!(capability::firewall());
        everything().unwrap();
    }

    fn everything() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let wires = Wires::across(&network)?;
        let mut firewall = start(&network)?;
        ensure!(programs(network.gateway(), "eth0")? > 0, "no program on eth0");
        firewall.unload()?;
        for interface in ["eth0", "eth1"] {
            let left = programs(network.gateway(), interface)?;
            ensure!(left == 0, "{left} programs are left on {interface}");
        }
        ensure!(!firewall.pin().exists(), "left: {:?}", list(firewall.pin()));
        // Nothing judges any more.
        wires.cross(End::Server, &unwanted(&wires)).map(drop)
    }

    #[test]
    fn leaves_programs_and_pins_of_others() {
        needs!(capability::firewall());
        others().unwrap();
    }

    fn others() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let gateway = network.gateway();
        let ingress = Program::attach(gateway, "eth0", Place::TcxIngress)?;
        let _egress = Program::attach(gateway, "eth0", Place::TcxEgress)?;
        gateway.run("tc qdisc add dev eth1 clsact")?;
        let mut firewall = start(&network)?;
        let name = format!("{}_somebody", firewall.pin().display());
        let beside = Path::new(&name);
        let pin = ingress.pin(beside)?;
        firewall.unload()?;
        ensure!(pin.exists(), "the pin of somebody else is gone");
        ensure!(gateway.run("tc qdisc show dev eth1")?.contains("clsact"), "clsact is gone");
        let left = programs(gateway, "eth0")?;
        ensure!(left == 2, "{left} programs on eth0, of the two of others");
        Ok(())
    }

    #[test]
    fn after_a_kill_removes_everything_too() {
        needs!(capability::firewall());
        after_a_kill().unwrap();
    }

    fn after_a_kill() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let mut firewall = start(&network)?;
        firewall.kill();
        firewall.unload()?;
        ensure!(programs(network.gateway(), "eth0")? == 0, "programs are left");
        ensure!(!firewall.pin().exists(), "left: {:?}", list(firewall.pin()));
        // And there is nothing in the way of the next start.
        firewall.restart()
    }

    /// `FIREWALL_UNLOADS=50` says how often.
    #[test]
    fn leaves_the_interfaces_free_at_once() {
        needs!(capability::firewall());
        again_and_again().unwrap();
    }

    fn again_and_again() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let rounds = std::env::var("FIREWALL_UNLOADS").ok().and_then(|it| it.parse().ok());
        let mut firewall = start(&network)?;
        for round in 0..rounds.unwrap_or(4) {
            // By the command, and at the end of a daemon.
            if round % 2 == 0 {
                firewall.unload()?;
            } else {
                firewall.signal(nix::sys::signal::SIGTERM)?;
                firewall.daemon().context("the daemon")?.wait(wait::DEADLINE)?;
            }
            for interface in ["eth0", "eth1"] {
                let left = programs(network.gateway(), interface)?;
                ensure!(left == 0, "round {round}: {left} programs are left on {interface}");
            }
            let mut setup = Setup::on(&["eth0", "eth1"]).both(RULES);
            if round % 2 == 0 {
                setup = setup.option("--unload-on-exit");
            }
            firewall.change(setup)?;
            firewall.restart().with_context(|| format!("round {round}"))?;
        }
        Ok(())
    }

    #[test]
    fn on_exit_happens_when_asked_for_only() {
        needs!(capability::firewall());
        on_exit().unwrap();
    }

    fn on_exit() -> Result<()> {
        for (options, left) in [(&[][..], true), (&["--unload-on-exit"], false)] {
            let network = Gateway::new(Offload::Tuned)?;
            let mut setup = Setup::on(&["eth0", "eth1"]).both(RULES);
            for option in options {
                setup = setup.option(option);
            }
            let mut firewall = setup.start(network.gateway())?;
            firewall.signal(nix::sys::signal::SIGTERM)?;
            let daemon = firewall.daemon().context("the daemon")?;
            let status = daemon.wait(wait::DEADLINE)?;
            ensure!(status.success(), "ended with {status} on SIGTERM: {}", daemon.stderr());
            let programs = programs(network.gateway(), "eth0")?;
            ensure!((programs > 0) == left, "{options:?}: {programs} programs are left");
        }
        Ok(())
    }
}

fn start(network: &Gateway) -> Result<Firewall<'_>> {
    Setup::on(&["eth0", "eth1"]).both(RULES).start(network.gateway())
}

fn open(network: &Gateway) -> Result<Control> {
    let server = SocketAddr::new(network.server_address(Family::V4), 21);
    let mut control = Control::open(&network.client, server)?;
    control.login(("a", "b"))?;
    Ok(control)
}

fn data_connection(network: &Gateway, control: &mut Control, name: &str) -> Result<TcpStream> {
    let announced = control.command("PASV")?.port()?;
    connect_and_ask(network, control, announced, name)
}

fn connect_and_ask(
    network: &Gateway,
    control: &mut Control,
    announced: u16,
    name: &str,
) -> Result<TcpStream> {
    let address = SocketAddr::new(network.server_address(Family::V4), announced);
    let stream = network.client.enter(|| TcpStream::connect_timeout(&address, wait::DEADLINE))?;
    let begin = control.command(&format!("RETR {name}"))?;
    ensure!(begin.code == 150, "{begin:?}");
    Ok(stream)
}

fn fetch(network: &Gateway, control: &mut Control, announced: u16) -> Result<()> {
    let mut stream = connect_and_ask(network, control, announced, "file")?;
    let mut arrived = String::new();
    stream.read_to_string(&mut arrived)?;
    ensure!(arrived == contents("file"), "arrived: {arrived:?}");
    let end = control.reply()?;
    ensure!(end.code == 226, "{end:?}");
    Ok(())
}

/// What no rule admits, from the server's side.
fn unwanted(wires: &Wires) -> Packet {
    let source = wires.server.endpoint(Family::V4, 40_000);
    Packet::syn(source, wires.client.endpoint(Family::V4, 40_001))
}

/// What is allowed passes, what is not is dropped and counted.
fn new_flows_are_judged(firewall: &Firewall<'_>, wires: &Wires) -> Result<()> {
    let client = wires.client.endpoint(Family::V4, 40_000);
    let question = Packet::udp(client, wires.server.endpoint(Family::V4, 53), b"question");
    wires.cross(End::Client, &question).context("what a rule allows")?;
    let before = firewall.stat("policy")?;
    let unwanted = unwanted(wires);
    wires.server.send(&unwanted)?;
    refused_since(firewall, before, "what no rule allows")?;
    wires.client.has_not_seen(&unwanted)
}

/// Packets of each flow, by what it is.
fn flows(firewall: &Firewall<'_>) -> Result<BTreeMap<String, u64>> {
    let flows = firewall.json(&["conntrack", "list"])?.into_iter().map(|flow| {
        let side = |side: &str| {
            let number = flow[side]["packets"].as_u64();
            number.with_context(|| format!("no packets of {side} in {flow}"))
        };
        let packets = side("original")? + side("reply")?;
        Ok((endpoints(&flow), packets))
    });
    flows.collect()
}

fn endpoints(flow: &Value) -> String {
    let original = &flow["original"];
    let keys = ["src", "sport", "dst", "dport"].map(|key| original[key].to_string());
    format!("{} {}", flow["protocol"], keys.join(" "))
}

fn list(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// What stops a sender until somebody opens it.
#[derive(Debug, Default)]
struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().expect("nobody panics here") = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let is_open = self.is_open.lock().expect("nobody panics here");
        drop(self.changed.wait_while(is_open, |is_open| !*is_open));
    }
}

struct OpenOnDrop<'a>(&'a Gate);

impl Drop for OpenOnDrop<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Byte `at` of the big file; every block of 64 KiB differs.
fn block(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.take(BLOCK as usize / 8).flat_map(u64::to_le_bytes).collect()
}

const BLOCK: u64 = 65_536;

fn send_big(stream: &mut TcpStream, gate: &Gate) -> io::Result<()> {
    let mut sent = 0;
    while sent < BIG {
        if sent + BLOCK > BIG - HELD_BACK {
            gate.wait();
        }
        let size = BLOCK.min(BIG - sent) as usize;
        stream.write_all(&block(sent / BLOCK)[..size])?;
        sent += size as u64;
    }
    Ok(())
}

/// Reads the big file and compares every byte with what was sent.
struct Download {
    arrived: Arc<AtomicU64>,
    reader: thread::JoinHandle<Result<()>>,
}

impl Download {
    fn start(mut stream: TcpStream) -> Self {
        let arrived = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&arrived);
        let reader = thread::spawn(move || {
            stream.set_read_timeout(Some(2 * wait::DEADLINE))?;
            let mut at = 0;
            let mut buffer = vec![0; BLOCK as usize];
            while at < BIG {
                let size = BLOCK.min(BIG - at) as usize;
                stream.read_exact(&mut buffer[..size]).with_context(|| format!("at {at}"))?;
                ensure!(buffer[..size] == block(at / BLOCK)[..size], "other bytes at {at}");
                at += size as u64;
                progress.store(at, Ordering::Relaxed);
            }
            ensure!(stream.read(&mut buffer)? == 0, "more than was sent");
            Ok(())
        });
        Self { arrived, reader }
    }

    fn wait_for(&self, bytes: u64) -> Result<()> {
        let what = format!("{bytes} bytes of the transfer");
        wait::until_true(&what, || {
            self.arrived.load(Ordering::Relaxed) >= bytes || self.reader.is_finished()
        })
    }

    fn finish(self) -> Result<()> {
        self.reader.join().expect("the reader does not panic")
    }
}
