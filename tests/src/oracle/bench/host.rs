//! What the gateway itself says: packets through raw sockets, and servers that listen.

use std::{
    io::{self, ErrorKind},
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use nix::libc;

use crate::{
    Family, Netns,
    oracle::rulebook::{self, GROUPS_V4, GROUPS_V6},
    wire::End,
};

/// Of the sockets that have joined the groups: the same at both gateways, as what is
/// sent to them gets no answer.
const MEMBER_PORTS: [u16; 2] = [9, 10];

/// Sockets of a gateway.
#[derive(Debug)]
pub(super) struct Host {
    raw: [OwnedFd; 2],
    listeners: Vec<TcpListener>,
    /// Held for the groups that they have joined.
    _members: [UdpSocket; 2],
}

impl Host {
    pub(super) fn open(gateway: &Netns) -> Result<Self> {
        gateway.enter(|| {
            let raw = [raw(libc::AF_INET)?, raw(libc::AF_INET6)?];
            Ok(Self { raw, listeners: Vec::new(), _members: [member_v4()?, member_v6(gateway)?] })
        })
    }

    /// Listens on these ports of TCP and no others.
    pub(super) fn serve(&mut self, gateway: &Netns, ports: &[u16]) -> Result<()> {
        self.listeners.clear();
        let listen = |port: &u16| -> Result<TcpListener> {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port))
                .with_context(|| format!("cannot listen on port {port}"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        self.listeners = gateway.enter(|| ports.iter().map(listen).collect::<Result<_>>())?;
        Ok(())
    }

    /// Takes the connections that clients have made, and ends them.
    pub(super) fn accept(&self) -> Result<()> {
        for listener in &self.listeners {
            loop {
                match listener.accept() {
                    Ok(_) => {}
                    // The client has reset it meanwhile.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("cannot accept a connection"),
                }
            }
        }
        Ok(())
    }

    /// Sends a packet of its own. What the rules drop is not an error.
    pub(super) fn send(&self, destination: IpAddr, packet: &[u8]) -> Result<()> {
        let sent = match destination {
            IpAddr::V4(address) => send_to(&self.raw[0], packet, &v4(address)),
            IpAddr::V6(address) => send_to(&self.raw[1], packet, &v6(address)),
        };
        let Err(error) = sent else { return Ok(()) };
        match error.raw_os_error() {
            // So the stack tells of a rule: EPERM of netfilter's, ENOBUFS of a device.
            Some(libc::EPERM | libc::ENOBUFS) => Ok(()),
            _ => bail!("the gateway cannot send to {destination}: {error}"),
        }
    }
}

/// A socket that takes whole packets, headers and all.
fn raw(family: i32) -> Result<OwnedFd> {
    // SAFETY: a system call that takes numbers.
    let socket =
        unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    if socket < 0 {
        return Err(io::Error::last_os_error()).context("cannot open a raw socket");
    }
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn send_to<T>(socket: &OwnedFd, packet: &[u8], address: &T) -> io::Result<()> {
    // SAFETY: packet and address are as long as we say, and live through the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            std::ptr::from_ref(address).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn v4(address: Ipv4Addr) -> libc::sockaddr_in {
    // SAFETY: all zeros is a valid address of this kind.
    let mut socket: libc::sockaddr_in = unsafe { mem::zeroed() };
    socket.sin_family = libc::AF_INET as u16;
    socket.sin_addr.s_addr = u32::from(address).to_be();
    socket
}

fn v6(address: Ipv6Addr) -> libc::sockaddr_in6 {
    // SAFETY: all zeros is a valid address of this kind.
    let mut socket: libc::sockaddr_in6 = unsafe { mem::zeroed() };
    socket.sin6_family = libc::AF_INET6 as u16;
    socket.sin6_addr.s6_addr = address.octets();
    socket
}

/// In the namespace of the gateway.
fn member_v4() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, MEMBER_PORTS[0]))?;
    for end in [End::Client, End::Server] {
        let IpAddr::V4(own) = rulebook::own(end, Family::V4) else { bail!("no address of IPv4") };
        for group in &GROUPS_V4 {
            socket.join_multicast_v4(group, &own).context("cannot join a group")?;
        }
    }
    Ok(socket)
}

fn member_v6(gateway: &Netns) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, MEMBER_PORTS[1]))?;
    for interface in ["eth0", "eth1"] {
        let index = nix::net::if_::if_nametoindex(interface)
            .with_context(|| format!("{} has no {interface}", gateway.name()))?;
        for group in &GROUPS_V6 {
            socket.join_multicast_v6(group, index).context("cannot join a group")?;
        }
    }
    Ok(socket)
}
