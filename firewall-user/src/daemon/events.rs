//! The daemon's end of the watchers' socket: who watches, what of, and what the
//! datapath must report for it.
//!
//! The programs report drops and flows only while somebody watches them.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use bytemuck::Zeroable;
use firewall_common::{
    control::option,
    event::{Event, EventKind},
    flow::{Flow, FlowKey},
    flow_event::FlowEvent,
    verdict::Stat,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use super::{
    memory::Memory,
    watcher::{self, Watcher},
};
pub use crate::watch::socket_path;
use crate::{
    kernel::{maps::Maps, quiescence::wait_for_programs},
    listing::{
        helper_event::HelperEvent,
        lost::{Loss, Place},
    },
    watch::{
        ended::ended,
        wire::{Message, Request, want},
    },
};

/// Hands what happens to the watchers.
#[derive(Clone, Debug)]
pub struct Watchers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    maps: Maps,
    watchers: Mutex<Vec<Watcher>>,
    memory: Mutex<Memory>,
    /// Bits of [`want`] that somebody has asked for.
    wanted: AtomicU32,
    /// What the rings had lost when it was told last: of flows, of drops.
    lost: [AtomicU64; 2],
}

const LOSSES: [(Stat, Place); 2] =
    [(Stat::FlowEventsLost, Place::FlowRing), (Stat::EventsLost, Place::DropRing)];

impl Watchers {
    /// Listens for watchers; serves them until dropped.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen(maps: &Maps) -> Result<Self> {
        let path = socket_path(maps.pins());
        let listener = bind(&path)
            .with_context(|| format!("cannot listen for watchers at {}", path.display()))?;
        let watchers = Self(Arc::new(Shared {
            path,
            maps: maps.clone(),
            watchers: Mutex::default(),
            memory: Mutex::default(),
            wanted: AtomicU32::new(0),
            lost: Default::default(),
        }));
        tokio::spawn(watchers.clone().serve(listener));
        Ok(watchers)
    }

    /// Whether somebody watches flows.
    pub fn wants_flows(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed) & want::FLOWS != 0
    }

    pub fn dropped(&self, event: &Event) {
        if EventKind::from_byte(event.kind) == Some(EventKind::Drop) {
            self.memory().note(event);
            self.tell(&Message::Drop(Box::new(*event)));
        }
    }

    /// A record of the ring of flow events.
    pub fn flow(&self, record: &[u8]) {
        match bytemuck::try_pod_read_unaligned::<FlowEvent>(record) {
            Ok(event) => self.tell(&Message::Flow(Box::new(event))),
            Err(_) => {
                tracing::error!("a record of {} bytes on the ring of flow events", record.len());
            }
        }
    }

    /// A flow that the daemon took out of its table.
    pub fn ended(&self, key: &FlowKey, flow: &Flow) {
        self.tell(&Message::Flow(Box::new(ended(key, flow))));
    }

    pub fn helper(&self, event: HelperEvent) {
        self.memory().note_helper(&event);
        self.tell(&Message::Helper(Box::new(event)));
    }

    /// Tells what has found no space in the rings since this was called last.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn tell_losses(&self) -> Result<()> {
        if self.0.wanted.load(Ordering::Relaxed) & (want::FLOWS | want::DROPS) == 0 {
            return Ok(());
        }
        let stats = self.0.maps.stats()?;
        for ((stat, place), told) in LOSSES.into_iter().zip(&self.0.lost) {
            let now = stats[stat as usize];
            let count = now.wrapping_sub(told.swap(now, Ordering::Relaxed));
            if count > 0 {
                self.tell(&Message::Lost(Loss { place, count }));
            }
        }
        Ok(())
    }

    fn tell(&self, message: &Message) {
        let wanted_by = message.wanted_by();
        if self.0.wanted.load(Ordering::Relaxed) & wanted_by == 0 {
            return;
        }
        for watcher in self.lock().iter().filter(|watcher| watcher.wants & wanted_by != 0) {
            watcher.tell(message);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The causes of the most recent drops, the helpers' troubles, and no more.
    async fn recall(&self, mut stream: UnixStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        Message::Ready.encode(&mut bytes);
        for cause in self.memory().causes() {
            Message::Cause(Box::new(cause)).encode(&mut bytes);
        }
        for trouble in self.memory().troubles() {
            Message::Trouble(Box::new(trouble)).encode(&mut bytes);
        }
        stream.write_all(&bytes).await
    }

    async fn serve(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().answer(stream))),
                Err(error) => {
                    tracing::error!("cannot take a watcher: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Does what a request asks for, until the other end goes.
    async fn answer(self, mut stream: UnixStream) {
        let mut request = Request::zeroed();
        let read = stream.read_exact(bytemuck::bytes_of_mut(&mut request)).await;
        if read.is_err() || !request.is_understood() {
            return;
        }
        // Both end when the other end goes, in whatever way.
        let _ = match request.wants {
            want::TO_TELL => self.pass_on(stream).await,
            want::CAUSES => self.recall(stream).await,
            wants => self.watch(stream, wants).await,
        };
    }

    /// Flows that a command has taken out of the tables.
    async fn pass_on(&self, stream: UnixStream) -> io::Result<()> {
        let mut stream = tokio::io::BufReader::with_capacity(1 << 16, stream);
        loop {
            let mut event = FlowEvent::default();
            stream.read_exact(bytemuck::bytes_of_mut(&mut event)).await?;
            self.tell(&Message::Flow(Box::new(event)));
            if stream.buffer().is_empty() {
                // Those who listen get their turn.
                tokio::task::yield_now().await;
            }
        }
    }

    async fn watch(&self, stream: UnixStream, wants: u32) -> io::Result<()> {
        let (watcher, queue) = watcher::new(wants);
        let id = watcher.id;
        self.lock().push(watcher);
        self.switch_reports();
        // Programs under way may have seen that nobody watches.
        let _ = tokio::task::spawn_blocking(wait_for_programs).await;
        let fed = queue.feed(stream).await;
        self.lock().retain(|watcher| watcher.id != id);
        self.switch_reports();
        fed
    }

    /// Has the programs report what somebody wants, and nothing else.
    fn switch_reports(&self) {
        let wanted = self.lock().iter().fold(0, |all, watcher| all | watcher.wants);
        let before = self.0.wanted.swap(wanted, Ordering::Relaxed);
        if let Err(error) = self.try_switch(before, wanted) {
            tracing::error!("cannot switch the reports of drops and flows: {error:#}");
        }
    }

    fn try_switch(&self, before: u32, wanted: u32) -> Result<()> {
        if before == 0 {
            // What was lost while nobody watched is not told.
            let stats = self.0.maps.stats()?;
            for ((stat, _), told) in LOSSES.into_iter().zip(&self.0.lost) {
                told.store(stats[stat as usize], Ordering::Relaxed);
            }
        }
        let reports = [(want::DROPS, option::REPORT_DROPS), (want::FLOWS, option::REPORT_FLOWS)];
        self.0.maps.change_options(|options| {
            for (want, report) in reports {
                match wanted & want {
                    0 => options.bits &= !report,
                    _ => options.bits |= report,
                }
            }
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
