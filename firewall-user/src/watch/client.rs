//! A watcher's end of the socket.

use std::{
    io::{BufReader, Write},
    os::unix::net::UnixStream,
};

use anyhow::{Context, Result, bail};

use super::{
    socket_path,
    wire::{Cause, Message, Request, Trouble, want},
};
use crate::kernel::pins::Pins;

/// Bytes read at once: a thousand messages of a busy stream.
const BUFFER: usize = 256 << 10;

/// What a daemon tells, from the moment on when this stands.
#[derive(Debug)]
pub struct Watching {
    stream: BufReader<UnixStream>,
    body: Vec<u8>,
}

impl Watching {
    /// Asks for what [`super::wire::want`] names, and waits until nothing of it is
    /// missed any more.
    ///
    /// # Errors
    /// When no daemon answers.
    pub fn begin(pins: &Pins, wants: u32) -> Result<Self> {
        let path = socket_path(pins);
        let mut stream = UnixStream::connect(&path).with_context(|| {
            format!("no daemon answers at {}: `firewall run` starts one", path.display())
        })?;
        stream.write_all(bytemuck::bytes_of(&Request::new(wants))).context("cannot ask it")?;
        let mut watching =
            Self { stream: BufReader::with_capacity(BUFFER, stream), body: Vec::new() };
        match watching.receive()? {
            Some(Message::Ready) => Ok(watching),
            _ => bail!("the daemon is of another version of this program: start it again"),
        }
    }

    /// The causes of the most recent drops that a daemon remembers, and its helpers' troubles.
    ///
    /// # Errors
    /// When no daemon answers.
    pub fn recall(pins: &Pins) -> Result<(Vec<Cause>, Vec<Trouble>)> {
        let mut watching = Self::begin(pins, want::CAUSES)?;
        let (mut causes, mut troubles) = (Vec::new(), Vec::new());
        while let Some(message) = watching.receive()? {
            match message {
                Message::Cause(cause) => causes.push(*cause),
                Message::Trouble(trouble) => troubles.push(*trouble),
                _ => {}
            }
        }
        Ok((causes, troubles))
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// When the daemon has ended.
    pub fn message(&mut self) -> Result<Message> {
        self.receive()?.context("the daemon has ended")
    }

    /// Whether the next message is there already.
    pub fn has_more(&self) -> bool {
        !self.stream.buffer().is_empty()
    }

    fn receive(&mut self) -> Result<Option<Message>> {
        Message::read(&mut self.stream, &mut self.body).context("cannot read from the daemon")
    }
}
