//! The steps of the demonstration.

use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway,
    client::{Client, Direction, Manner, Mode, transfer},
    command::Background,
    control::Control,
    files::Load,
    ledger::{Ledger, refused_since},
    server::{Server, own},
    wait,
};

use crate::screen::Screen;

/// What a throttled transfer fetches, at a tenth of it each second.
const FILE: Load = Load { count: 1, size: 2_000_000 };
const RATE: &str = "500k";

pub struct Demonstration<'a> {
    pub network: &'a Gateway,
    pub server: &'a Server,
    pub firewall: Firewall<'a>,
}

impl Demonstration<'_> {
    /// A file down and up again, compared with what was sent.
    pub fn transfer(&self, screen: &mut Screen, client: Client, mode: Mode, family: Family) {
        let manner = Manner::new(mode, family, Direction::Down);
        let step = format!("{}: {}", client.name(), described(manner));
        screen.step(&step, |_| {
            for direction in [Direction::Down, Direction::Up] {
                let manner = Manner { direction, ..manner };
                let address = self.network.server_address(family);
                let netns = &self.network.client;
                transfer(client, netns, self.server, address, manner, Load::FEW_SMALL)?;
            }
            Ok(format!("{} files there and back, checksums equal", Load::FEW_SMALL.count))
        });
    }

    /// The expectation between the server's 227 and the data connection.
    pub fn announced(&self, screen: &mut Screen) {
        screen.shown_step("PASV is answered by 227: one connection is expected", |screen| {
            let mut control = self.log_in()?;
            let reply = control.command("PASV")?;
            let announced = reply.port()?;
            screen.text(&format!("{}\n\n", reply.text));
            screen.output("firewall expect list", &self.firewall.text(&["expect", "list"])?);
            let listed = self.firewall.json(&["expect", "list"])?;
            ensure!(
                listed.len() == 1 && listed[0]["dport"] == announced,
                "expected port {announced}, listed: {listed:?}"
            );
            let data = SocketAddr::new(self.network.server_address(Family::V4), announced);
            self.network.client.enter(|| TcpStream::connect_timeout(&data, wait::DEADLINE))?;
            let left = self.firewall.json(&["expect", "list"])?;
            ensure!(left.is_empty(), "used, but still listed: {left:?}");
            Ok(format!("port {announced}, once"))
        });
    }

    /// The flows of a transfer that curl is told to make slowly.
    pub fn running(&self, screen: &mut Screen, mode: Mode, family: Family) {
        let manner = Manner::new(mode, family, Direction::Down);
        let step = format!("a throttled transfer, {}", described(manner));
        screen.shown_step(&step, |screen| {
            FILE.create(&self.server.root())?;
            let directory = tempfile::tempdir()?;
            let mut curl = Background::start(
                self.curl(manner).args(["--limit-rate", RATE]).current_dir(directory.path()),
            )?;
            let flow = wait::until("the data connection", wait::DEADLINE, || {
                let flows = self.firewall.json(&["conntrack", "list"]).ok()?;
                let is_running = |flow: &serde_json::Value| {
                    let bytes = [&flow["original"]["bytes"], &flow["reply"]["bytes"]];
                    let bytes: u64 = bytes.into_iter().filter_map(serde_json::Value::as_u64).sum();
                    flow["master"].is_object()
                        && flow["state"] == "ESTABLISHED"
                        && bytes > 100_000
                        && curl_is_running(&flow["family"], family)
                };
                flows.into_iter().find(is_running)
            })
            .with_context(|| curl.stderr())?;
            let listed = self.firewall.text(&[
                "conntrack",
                "list",
                "-p",
                "tcp",
                "--state",
                "ESTABLISHED",
            ])?;
            screen.output("firewall conntrack list -p tcp --state ESTABLISHED", &listed);
            let status = curl.wait(wait::DEADLINE)?;
            ensure!(status.success(), "curl ended with {status}: {}", curl.stderr());
            FILE.compare(&self.server.root(), directory.path())?;
            Ok(format!("related to the control connection from port {}", flow["master"]["sport"]))
        });
    }

    /// A listener that no FTP session announced, and a connection to it.
    pub fn unannounced(&self, screen: &mut Screen) {
        screen.shown_step("a connection to port 50000, which listens, is refused", |screen| {
            let target = SocketAddr::new(self.network.server_address(Family::V4), 50_000);
            self.refused(screen, target)
        });
    }

    /// The port beside the announced one.
    pub fn beside(&self, screen: &mut Screen) {
        screen.shown_step("the port beside an announced one is refused", |screen| {
            let mut control = self.log_in()?;
            let announced = control.command("PASV")?.port()?;
            let target = SocketAddr::new(self.network.server_address(Family::V4), announced ^ 1);
            self.refused(screen, target)
        });
    }

    /// Nobody has dropped what he should not.
    pub fn end(&self, screen: &mut Screen) {
        screen.step("only the two unannounced connections were dropped", |_| {
            let ledger = Ledger::read(&self.firewall)?;
            let others: Vec<_> = ledger
                .dropped
                .iter()
                .filter(|(why, count)| *why != "policy" && **count > 0)
                .collect();
            ensure!(others.is_empty(), "dropped as well: {others:?}");
            Ok(format!("{} packets by the policy", ledger.policy_drops()))
        });
    }

    fn refused(&self, screen: &Screen, target: SocketAddr) -> Result<String> {
        let listener = self.network.server.enter(|| TcpListener::bind(target))?;
        listener.set_nonblocking(true)?;
        let mut monitor = Background::start(&mut self.firewall.command(&["monitor"])?)?;
        wait::until_true("the monitor", || {
            monitor.stderr().contains("watching") || monitor.ended().is_some()
        })?;
        let before = self.firewall.stat("policy")?;
        let _attempt = self.network.client.enter(|| own::begin_to_connect(None, target))?;
        refused_since(&self.firewall, before, "the connection")?;
        let port = target.port().to_string();
        let told = wait::until("the drop in the monitor", wait::DEADLINE, || {
            monitor.stdout().lines().find(|line| line.contains(&port)).map(String::from)
        })
        .with_context(|| monitor.stderr())?;
        screen.output("firewall monitor", &told);
        ensure!(listener.accept().is_err(), "the listener was reached");
        ensure!(told.contains("policy"), "no reason in: {told}");
        Ok("dropped by the policy of FORWARD".into())
    }

    fn log_in(&self) -> Result<Control> {
        let server = SocketAddr::new(self.network.server_address(Family::V4), self.server.port());
        let mut control = Control::open(&self.network.client, server)?;
        control.login(self.server.kind().account())?;
        Ok(control)
    }

    fn curl(&self, manner: Manner) -> std::process::Command {
        let (user, password) = self.server.kind().account();
        let host = match SocketAddr::new(self.network.server_address(manner.family), 21) {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        let mut command = self.network.client.command("curl");
        command.args(["--silent", "--show-error", "--connect-timeout", "10", "--remote-name"]);
        match manner.mode {
            Mode::Active => command.args(["--ftp-port", "-"]),
            Mode::Passive => command.arg("--ftp-pasv"),
        };
        let name = FILE.names().next().unwrap_or_default();
        command.arg(format!("ftp://{user}:{password}@{host}/{name}"));
        command
    }
}

fn curl_is_running(listed: &serde_json::Value, family: Family) -> bool {
    let name = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    listed == name
}

fn described(manner: Manner) -> String {
    let mode = match manner.mode {
        Mode::Active => "active",
        Mode::Passive => "passive",
    };
    let family = match manner.family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    format!("{mode} ({}), {family}", manner.command())
}
