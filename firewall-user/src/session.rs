//! The connection by which whoever started this process is logged in.
//!
//! sshd leaves it in the environment, which sudo and su clear: so the processes that
//! this one descends from are asked, too. A login that leaves nothing there (telnet, a
//! serial console's server) is told by the socket that one of them holds.

use std::{
    collections::HashSet,
    env, iter,
    net::{IpAddr, SocketAddr},
};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use procfs::{
    net::{TcpNetEntry, TcpState},
    process::{FDTarget, Process},
};

use crate::rules::lint::Caller;

/// Where sshd tells who is connected: client, its port, server, its port.
const SSH: &str = "SSH_CONNECTION";

/// Deeper than people nest shells.
const MAX_ANCESTORS: usize = 32;

/// The session by which the caller came, if it came over the network.
pub fn caller() -> Option<Caller> {
    own_environment().or_else(|| ancestors().find_map(|process| environment(&process))).or_else(
        || {
            let connections = connections();
            ancestors().find_map(|process| socket(&process, &connections))
        },
    )
}

fn own_environment() -> Option<Caller> {
    Caller::from_ssh(&env::var(SSH).ok()?, interface)
}

/// The processes that this one descends from, the nearest first, without init.
fn ancestors() -> impl Iterator<Item = Process> {
    let parent = |process: &Process| {
        let parent = process.stat().ok()?.ppid;
        if parent > 1 { Process::new(parent).ok() } else { None }
    };
    let first = Process::myself().ok().and_then(|own| parent(&own));
    iter::successors(first, move |process| parent(process)).take(MAX_ANCESTORS)
}

fn environment(process: &Process) -> Option<Caller> {
    let environment = process.environ().ok()?;
    let text = environment.iter().find(|(name, _)| *name == SSH)?.1.to_str()?;
    Caller::from_ssh(text, interface)
}

/// Every connection of this network namespace that others have made to it or that it has
/// made.
fn connections() -> Vec<TcpNetEntry> {
    let v4 = procfs::net::tcp().unwrap_or_default();
    let v6 = procfs::net::tcp6().unwrap_or_default();
    let is_far = |entry: &TcpNetEntry| {
        entry.state == TcpState::Established && !canonical(entry.remote_address).is_loopback()
    };
    v4.into_iter().chain(v6).filter(is_far).collect()
}

fn socket(process: &Process, connections: &[TcpNetEntry]) -> Option<Caller> {
    let targets = process.fd().ok()?.filter_map(Result::ok).map(|held| held.target);
    let held: HashSet<u64> = targets
        .filter_map(|target| match target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect();
    let entry = connections.iter().find(|entry| held.contains(&entry.inode))?;
    let server = canonical(entry.local_address);
    Some(Caller {
        client: canonical(entry.remote_address),
        client_port: entry.remote_address.port(),
        server,
        server_port: entry.local_address.port(),
        interface: interface(server),
    })
}

fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

/// The interface that has an address of this host.
fn interface(address: IpAddr) -> Option<String> {
    let own =
        |storage: &SockaddrStorage| match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
            (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
            (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
            _ => None,
        };
    let mut all = getifaddrs().ok()?;
    let found = all.find(|one| one.address.as_ref().and_then(own) == Some(address))?;
    Some(found.interface_name)
}
