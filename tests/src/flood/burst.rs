//! Many frames with one system call.

use std::{
    io,
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::libc;

use crate::wire::Wire;

/// How long a link may have no room.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends on a wire, each frame exactly once.
#[derive(Debug)]
pub struct Burst<'a> {
    wire: &'a Wire,
    refused: u64,
}

impl<'a> Burst<'a> {
    pub const fn new(wire: &'a Wire) -> Self {
        Self { wire, refused: 0 }
    }

    pub const fn wire(&self) -> &'a Wire {
        self.wire
    }

    /// How often the link had no room, and was waited for.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Sends frames in their order.
    ///
    /// # Errors
    /// What the kernel said; that the link has no room only after ten seconds.
    pub fn send<F: AsRef<[u8]>>(&mut self, frames: &[F]) -> Result<()> {
        let mut vectors: Vec<_> = frames.iter().map(|frame| vector(frame.as_ref())).collect();
        let mut messages: Vec<_> = vectors.iter_mut().map(message).collect();
        let (mut sent, begun) = (0, Instant::now());
        while sent < messages.len() {
            match send(self.wire, &mut messages[sent..]) {
                Ok(more) => sent += more,
                Err(error) if is_full(&error) && begun.elapsed() < PATIENCE => {
                    self.refused += 1;
                    thread::yield_now();
                }
                Err(error) => return Err(error).context("cannot send a burst of frames"),
            }
        }
        Ok(())
    }
}

/// A virtual link that drops a frame because its queue is full says so.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN))
}

const fn vector(frame: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() }
}

fn message(vector: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeros is a valid header: no address, no data, no control messages.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = vector;
    message.msg_hdr.msg_iovlen = 1;
    message
}

/// How many of the messages were sent; an error is that of the first.
fn send(wire: &Wire, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let count = messages.len() as libc::c_uint;
    // SAFETY: each message points to a vector, and that to a frame, which the caller
    // keeps through the call; the kernel only reads the frames.
    let sent = unsafe {
        libc::sendmmsg(wire.socket().as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
