//! Real FTP clients, all behind one function: [`transfer`].

mod arguments;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{Family, Netns, capability, command::finish, files::Load, server::Server};

/// An FTP client that the scenarios know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    Curl,
    Lftp,
    Tnftp,
    Wget,
    Ftplib,
}

/// Who opens the data connection: active, the server; passive, the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    Active,
    Passive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Down,
    Up,
}

/// How to transfer. `extended` says EPRT or EPSV instead of PORT or PASV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Manner {
    pub mode: Mode,
    pub extended: bool,
    pub family: Family,
    pub direction: Direction,
}

impl Manner {
    pub const fn new(mode: Mode, family: Family, direction: Direction) -> Self {
        Self { mode, extended: matches!(family, Family::V6), family, direction }
    }

    /// Every manner that has a meaning: IPv6 needs the extended commands.
    pub fn all() -> impl Iterator<Item = Self> {
        let kinds = [(Family::V4, false), (Family::V4, true), (Family::V6, true)];
        kinds.into_iter().flat_map(|(family, extended)| {
            [Mode::Active, Mode::Passive].into_iter().flat_map(move |mode| {
                [Direction::Down, Direction::Up].map(move |direction| Self {
                    mode,
                    extended,
                    family,
                    direction,
                })
            })
        })
    }

    /// The command that announces the data connection.
    pub const fn command(self) -> &'static str {
        match (self.mode, self.extended) {
            (Mode::Active, false) => "PORT",
            (Mode::Active, true) => "EPRT",
            (Mode::Passive, false) => "PASV",
            (Mode::Passive, true) => "EPSV",
        }
    }
}

impl Client {
    pub const ALL: [Self; 5] = [Self::Curl, Self::Lftp, Self::Tnftp, Self::Wget, Self::Ftplib];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Lftp => "lftp",
            Self::Tnftp => "tnftp",
            Self::Wget => "wget",
            Self::Ftplib => "python3",
        }
    }

    pub fn available(self) -> Result<(), String> {
        capability::program(self.name())
    }

    /// Whether the client has a way to be told this.
    pub const fn can(self, manner: Manner) -> bool {
        let extended_by_choice = manner.extended && matches!(manner.family, Family::V4);
        match self {
            Self::Wget => matches!(manner.direction, Direction::Down) && !extended_by_choice,
            Self::Lftp => !extended_by_choice || matches!(manner.mode, Mode::Passive),
            Self::Curl | Self::Tnftp | Self::Ftplib => true,
        }
    }
}

/// One transfer as the client sees it.
#[derive(Clone, Copy, Debug)]
struct Job<'a> {
    called: SocketAddr,
    account: (&'static str, &'static str),
    manner: Manner,
    load: Load,
    directory: &'a Path,
}

impl Job<'_> {
    /// `ftp://user:password@[2001:db8::1]:21/`
    fn url(&self) -> String {
        let (user, password) = self.account;
        format!("ftp://{user}:{password}@{}/", self.called)
    }
}

/// A silent hole in the firewall would otherwise hang until somebody gives up.
const DEADLINE: Duration = Duration::from_secs(60);
/// curl 7.88 stalls by itself for up to a second at each file in passive mode,
/// with and without a firewall.
const PER_FILE: Duration = Duration::from_secs(1);

/// Transfers files between a client in `netns` and a server at `address`, and
/// compares what arrived with what was sent.
pub fn transfer(
    client: Client,
    netns: &Netns,
    server: &Server,
    address: IpAddr,
    manner: Manner,
    load: Load,
) -> Result<()> {
    let called = SocketAddr::new(address, server.port());
    transfer_calling(client, netns, server, called, manner, load)
}

/// The same where the client calls another endpoint, which leads to the server.
pub fn transfer_calling(
    client: Client,
    netns: &Netns,
    server: &Server,
    called: SocketAddr,
    manner: Manner,
    load: Load,
) -> Result<()> {
    let local = tempfile::Builder::new().prefix("fw-client-").tempdir()?;
    let remote = server.root();
    let (from, to) = match manner.direction {
        Direction::Down => (remote.as_path(), local.path()),
        Direction::Up => (local.path(), remote.as_path()),
    };
    if manner.direction == Direction::Up {
        server.make_room(load.names())?;
    }
    load.create(from)?;
    let account = server.kind().account();
    let job = Job { called, account, manner, load, directory: local.path() };
    run(netns, client, job)?;
    load.compare(from, to).with_context(|| format!("{} {manner:?}", client.name()))
}

fn run(netns: &Netns, client: Client, job: Job<'_>) -> Result<()> {
    let mut command: Command = match client {
        Client::Curl => arguments::curl(netns, job)?,
        Client::Lftp => arguments::lftp(netns, job),
        Client::Tnftp => arguments::tnftp(netns, job)?,
        Client::Wget => arguments::wget(netns, job),
        Client::Ftplib => arguments::ftplib(netns, job),
    };
    let deadline = DEADLINE + PER_FILE * job.load.count as u32;
    let finished = finish(command.current_dir(job.directory).env("HOME", job.directory), deadline)?;
    if !finished.status.success() {
        let output = format!("{}{}", finished.stdout, finished.stderr);
        bail!("{} {:?} ended with {}: {output}", client.name(), job.manner, finished.status);
    }
    Ok(())
}
