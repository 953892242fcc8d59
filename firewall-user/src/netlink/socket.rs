//! A netlink socket: one request, all of its answer.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
        socket,
    },
};

use super::wire::{Message, message, messages};

/// The kernel sends at most 32 KiB at once.
pub const DATAGRAM: usize = 64 * 1024;
/// How often a dump is begun again because the tables changed under it.
const ATTEMPTS: usize = 16;

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const DUMP: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
const INTERRUPTED: u16 = libc::NLM_F_DUMP_INTR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// A message of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: u16,
    pub body: Vec<u8>,
}

/// Why a dump's answer stopped short.
enum End {
    Whole,
    Interrupted,
}

impl Socket {
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open(protocol: SockProtocol) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { fd })
    }

    /// Joins multicast groups on a socket that does not block.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn listen(protocol: SockProtocol, groups: u32) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(fd)
    }

    /// Everything that the kernel lists for this request.
    ///
    /// # Errors
    /// What the kernel answered, or what the socket said.
    pub fn dump(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Answer>> {
        for _ in 0..ATTEMPTS {
            self.send(&message(kind, DUMP, body))?;
            let (answers, end) = self.receive_dump()?;
            if matches!(end, End::Whole) {
                return Ok(answers);
            }
        }
        Err(io::Error::other("the kernel's tables changed faster than they could be read"))
    }

    /// The single message that answers this request.
    ///
    /// # Errors
    /// What the kernel answered, or what the socket said.
    pub fn ask(&self, kind: u16, body: &[u8]) -> io::Result<Answer> {
        self.send(&message(kind, REQUEST, body))?;
        let mut buffer = vec![0; DATAGRAM];
        let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let message = messages(&buffer[..length]).next();
        let message = message.ok_or(io::ErrorKind::UnexpectedEof)?;
        refused(&message)?;
        Ok(Answer { kind: message.kind, body: message.body.to_vec() })
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    fn receive_dump(&self) -> io::Result<(Vec<Answer>, End)> {
        let mut answers = Vec::new();
        let mut end = End::Whole;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in messages(&buffer[..length]) {
                if message.flags & INTERRUPTED != 0 {
                    end = End::Interrupted;
                }
                refused(&message)?;
                if message.kind == DONE {
                    return Ok((answers, end));
                }
                answers.push(Answer { kind: message.kind, body: message.body.to_vec() });
            }
        }
    }
}

/// The error that a message carries; zero is an acknowledgement.
fn refused(message: &Message<'_>) -> io::Result<()> {
    if message.kind != ERROR {
        return Ok(());
    }
    match message.body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
