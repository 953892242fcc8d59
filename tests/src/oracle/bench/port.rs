//! A packet socket at one end of a gateway.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use nix::libc;

use crate::{Netns, wire};

/// More than the MTU of the links and an Ethernet header.
const FRAME: usize = 16_384;
const ETHERNET: usize = 14;

/// Sends to the gateway and hears what comes from it.
#[derive(Debug)]
pub(super) struct Port {
    socket: OwnedFd,
    /// The addresses of an Ethernet header: the gateway's and our own.
    ethernet: [u8; 12],
    buffer: Box<[u8; FRAME]>,
}

impl Port {
    /// At the `eth0` of a namespace, opposite that interface of the gateway.
    pub(super) fn open(netns: &Netns, gateway: &Netns, interface: &str) -> Result<Self> {
        let mut ethernet = [0; 12];
        ethernet[..6].copy_from_slice(&gateway.mac(interface)?);
        ethernet[6..].copy_from_slice(&netns.mac("eth0")?);
        let socket = netns.enter(|| wire::open("eth0")).context("cannot open a packet socket")?;
        Ok(Self { socket, ethernet, buffer: Box::new([0; FRAME]) })
    }

    /// Sends what begins with an IP header.
    pub(super) fn send(&mut self, packet: &[u8]) -> Result<()> {
        let kind: u16 =
            if packet.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x800 };
        let end = ETHERNET + packet.len();
        let frame = self.buffer.get_mut(..end).context("a frame that is too long for the link")?;
        frame[..12].copy_from_slice(&self.ethernet);
        frame[12..ETHERNET].copy_from_slice(&kind.to_be_bytes());
        frame[ETHERNET..].copy_from_slice(packet);
        nix::unistd::write(&self.socket, frame)
            .with_context(|| format!("cannot send a packet of {} bytes", packet.len()))
            .map(drop)
    }

    /// Sends to one station, to a group or to all, as the destination says.
    pub(super) fn send_to(&mut self, destination: IpAddr, packet: &[u8]) -> Result<()> {
        let gateway = self.ethernet;
        if let Some(group) = group(destination) {
            self.ethernet[..6].copy_from_slice(&group);
        }
        let sent = self.send(packet);
        self.ethernet = gateway;
        sent
    }

    /// Asks for an address of the gateway, as a host does that wants to know whether
    /// it is free (RFC 5227): nobody remembers who has asked.
    pub(super) fn probe(&self, own: Ipv4Addr) -> Result<()> {
        let mut frame = [0; 42];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&self.ethernet[6..]);
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame[22..28].copy_from_slice(&self.ethernet[6..]);
        frame[38..].copy_from_slice(&own.octets());
        nix::unistd::write(&self.socket, &frame).context("cannot send a probe").map(drop)
    }

    /// What has come in next; `None` when there is nothing yet.
    pub(super) fn hear(&mut self) -> Result<Option<Heard<'_>>> {
        let Some(read) = self.read()? else { return Ok(None) };
        let frame = &self.buffer[..read];
        Ok(Some(match frame.get(12..ETHERNET) {
            Some([8, 0] | [0x86, 0xdd]) => Heard::Packet(&frame[ETHERNET..]),
            Some([8, 6]) => Heard::Probe,
            _ => Heard::Other,
        }))
    }

    /// The next packet that has come in, from its IP header on; `None` when there is
    /// none yet. What is not IP is passed over.
    pub(super) fn receive(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let Some(read) = self.read()? else { return Ok(None) };
            let is_ip =
                self.buffer[12..ETHERNET] == [8, 0] || self.buffer[12..ETHERNET] == [0x86, 0xdd];
            if read > ETHERNET && is_ip {
                return Ok(Some(&self.buffer[ETHERNET..read]));
            }
        }
    }

    /// Reads a frame into the buffer, and gives its length.
    fn read(&mut self) -> Result<Option<usize>> {
        // SAFETY: the buffer is as long as we say, and lives through the call.
        let read = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                self.buffer.as_mut_ptr().cast(),
                FRAME,
                libc::MSG_DONTWAIT,
            )
        };
        if let Ok(read) = usize::try_from(read) {
            return Ok(Some(read));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => Ok(None),
            _ => Err(error).context("cannot receive"),
        }
    }
}

/// What a port has heard.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    /// From the IP header on.
    Packet(&'a [u8]),
    /// The answer to a probe.
    Probe,
    Other,
}

/// The Ethernet address of a group or of all (RFC 1112 section 6.4, RFC 2464 section 7).
fn group(address: IpAddr) -> Option<[u8; 6]> {
    match address {
        IpAddr::V4(address) if address.is_broadcast() => Some([0xff; 6]),
        IpAddr::V4(address) if address.is_multicast() => {
            let [_, b, c, d] = address.octets();
            Some([1, 0, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(address) if address.is_multicast() => {
            let [.., a, b, c, d] = address.octets();
            Some([0x33, 0x33, a, b, c, d])
        }
        _ => None,
    }
}
