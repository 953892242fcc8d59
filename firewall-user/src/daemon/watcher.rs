//! One watcher: its queue, and the task that empties it into the socket.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc::{self, error::TrySendError},
};

use crate::{
    listing::lost::{Loss, Place},
    watch::wire::Message,
};

/// Messages that a watcher may lag behind before it misses some: 4 MB, taken only
/// while it does.
const BACKLOG: usize = 16_384;
/// Messages written at once.
const AT_ONCE: usize = 256;

/// Who watches, as those see it who have something to tell.
#[derive(Debug)]
pub struct Watcher {
    pub id: u64,
    /// Bits of [`crate::watch::wire::want`].
    pub wants: u32,
    sender: mpsc::Sender<Message>,
    missed: Arc<AtomicU64>,
}

/// The watcher's own end of its queue.
#[derive(Debug)]
pub struct Queue {
    receiver: mpsc::Receiver<Message>,
    missed: Arc<AtomicU64>,
}

pub fn new(wants: u32) -> (Watcher, Queue) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let missed = Arc::new(AtomicU64::new(0));
    let watcher = Watcher { id, wants, sender, missed: Arc::clone(&missed) };
    (watcher, Queue { receiver, missed })
}

impl Watcher {
    /// Never waits: what finds no space is counted, and told later.
    pub fn tell(&self, message: &Message) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(message.clone()) {
            let count = match message {
                // What it tells of is missed as well.
                Message::Lost(loss) => loss.count,
                _ => 1,
            };
            self.missed.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Queue {
    /// Sends messages as they come, until the watcher goes.
    ///
    /// # Errors
    /// When it has gone.
    pub async fn feed(mut self, stream: UnixStream) -> io::Result<()> {
        let (mut watcher, mut stream) = stream.into_split();
        let mut bytes = Vec::new();
        Message::Ready.encode(&mut bytes);
        stream.write_all(&bytes).await?;
        let mut messages = Vec::with_capacity(AT_ONCE);
        loop {
            let count = tokio::select! {
                count = self.receiver.recv_many(&mut messages, AT_ONCE) => count,
                // A watcher says nothing more: whatever is read is its end.
                _ = watcher.read_u8() => return Ok(()),
            };
            if count == 0 {
                return Ok(());
            }
            bytes.clear();
            messages.drain(..).for_each(|message| message.encode(&mut bytes));
            match self.missed.swap(0, Ordering::Relaxed) {
                0 => {}
                count => Message::Lost(Loss { place: Place::Reader, count }).encode(&mut bytes),
            }
            stream.write_all(&bytes).await?;
        }
    }
}
