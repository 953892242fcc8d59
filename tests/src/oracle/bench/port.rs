//! A packet socket at one end of a gateway.

use std::{
    io,
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

    /// The next packet that has come in, from its IP header on; `None` when there is
    /// none yet. What is not IP is passed over.
    pub(super) fn receive(&mut self) -> Result<Option<&[u8]>> {
        loop {
            // SAFETY: the buffer is as long as we say, and lives through the call.
            let read = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    FRAME,
                    libc::MSG_DONTWAIT,
                )
            };
            let Ok(read) = usize::try_from(read) else {
                let error = io::Error::last_os_error();
                return match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(None),
                    _ => Err(error).context("cannot receive"),
                };
            };
            let is_ip =
                self.buffer[12..ETHERNET] == [8, 0] || self.buffer[12..ETHERNET] == [0x86, 0xdd];
            if read > ETHERNET && is_ip {
                return Ok(Some(&self.buffer[ETHERNET..read]));
            }
        }
    }
}
