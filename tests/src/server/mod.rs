//! Real FTP servers in a namespace, each with a directory of its own.

mod configuration;
pub mod own;

use std::{
    env,
    fs::{self, Permissions},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{Netns, capability, command::Background, wait};

/// Python with the packages of the system, whatever else is on the path.
pub const PYTHON: &str = "/usr/bin/python3";

/// An FTP server that the scenarios know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Vsftpd,
    Proftpd,
    PureFtpd,
    Pyftpdlib,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Vsftpd, Self::Proftpd, Self::PureFtpd, Self::Pyftpdlib];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Vsftpd => "vsftpd",
            Self::Proftpd => "proftpd",
            Self::PureFtpd => "pure-ftpd",
            Self::Pyftpdlib => "pyftpdlib",
        }
    }

    /// User and password. vsftpd serves anonymous users, who may write; the others
    /// have one user of their own, so that no account is made on this machine.
    pub const fn account(self) -> (&'static str, &'static str) {
        match self {
            Self::Vsftpd => ("ftp", "fw"),
            _ => ("fw", "fw"),
        }
    }

    /// Whether this machine can run it.
    pub fn available(self) -> Result<(), String> {
        capability::namespaces()?;
        match self {
            Self::Pyftpdlib => capability::file(Path::new(PYTHON)),
            _ => capability::file(&self.binary()),
        }
    }

    /// vsftpd refuses a root that anonymous users may write to.
    const fn root_mode(self) -> u32 {
        match self {
            Self::Vsftpd => 0o755,
            _ => 0o777,
        }
    }

    fn binary(self) -> PathBuf {
        unpacked(self.name()).join("usr/sbin").join(self.name())
    }

    fn command(self, netns: &Netns, directory: &Path) -> Result<Command> {
        let root = directory.join("root");
        match self {
            Self::Vsftpd => configuration::vsftpd(netns, &self.binary(), directory, &root),
            Self::Proftpd => configuration::proftpd(netns, &self.binary(), directory, &root),
            Self::PureFtpd => configuration::pure_ftpd(netns, &self.binary(), directory, &root),
            Self::Pyftpdlib => configuration::pyftpdlib(netns, directory, &root),
        }
    }
}

/// Where `cargo xtask setup` unpacked a server.
fn unpacked(name: &str) -> PathBuf {
    let default = || {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        workspace.join("target/servers")
    };
    env::var_os("FIREWALL_SERVERS").map_or_else(default, PathBuf::from).join(name)
}

/// A running FTP server; ends on drop, and its files are removed.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    directory: TempDir,
    port: u16,
    process: Background,
}

impl Server {
    /// Starts a server on port 21 of all addresses; it answers when this returns.
    pub fn start(kind: Kind, netns: &Netns) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("fw-ftp-").tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let root = directory.path().join("root");
        fs::create_dir(&root)?;
        fs::set_permissions(&root, Permissions::from_mode(kind.root_mode()))?;
        let process = Background::start(&mut kind.command(netns, directory.path())?)?;
        let mut server = Self { kind, directory, port: 21, process };
        server.wait_until_it_answers(netns)?;
        Ok(server)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory that clients see as `/`.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Makes way for files that will be uploaded: they are gone, or empty and open
    /// to everybody where the directory is not.
    pub fn make_room(&self, names: impl Iterator<Item = String>) -> Result<()> {
        for name in names {
            let path = self.root().join(name);
            let _ = fs::remove_file(&path);
            if self.kind == Kind::Vsftpd {
                fs::write(&path, "")?;
                fs::set_permissions(&path, Permissions::from_mode(0o666))?;
            }
        }
        Ok(())
    }

    fn wait_until_it_answers(&mut self, netns: &Netns) -> Result<()> {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port);
        let second = Duration::from_secs(1);
        let what = format!("{} to answer on port {}", self.kind.name(), self.port);
        let answered = netns.enter(|| {
            wait::until(&what, wait::DEADLINE, || {
                if let Some(status) = self.process.ended() {
                    return Some(Err(status));
                }
                TcpStream::connect_timeout(&address, second).ok().map(|_| Ok(()))
            })
        });
        match answered.context(self.process.stderr())? {
            Ok(()) => Ok(()),
            Err(status) => bail!(
                "{} ended with {status}: {}{}",
                self.kind.name(),
                self.process.stdout(),
                self.process.stderr()
            ),
        }
    }
}
