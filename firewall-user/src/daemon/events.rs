//! What the datapath reports, told to people: LOG lines to the log, drops to
//! whoever watches by `firewall monitor`.
//!
//! Watchers connect to a socket beside the system's runtime files; the programs
//! report drops only while there is one.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use firewall_common::{control::option, event::Event};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::broadcast,
};

use crate::kernel::{maps::Maps, pins::Pins};

/// Events that a slow watcher may lag behind before it misses some.
const BACKLOG: usize = 4_096;

/// Where watchers of an instance connect.
pub fn socket_path(pins: &Pins) -> PathBuf {
    let name: String = pins
        .root()
        .to_string_lossy()
        .trim_start_matches('/')
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .collect();
    Path::new("/run/firewall").join(format!("{name}.sock"))
}

/// Hands events to the watchers.
#[derive(Debug)]
pub struct Watchers {
    path: PathBuf,
    sender: broadcast::Sender<Event>,
}

impl Watchers {
    /// Listens for watchers; serves them until dropped.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen(maps: &Maps) -> Result<Self> {
        let path = socket_path(maps.pins());
        let listener = bind(&path)
            .with_context(|| format!("cannot listen for watchers at {}", path.display()))?;
        let (sender, _) = broadcast::channel(BACKLOG);
        tokio::spawn(serve(listener, maps.clone(), sender.clone()));
        Ok(Self { path, sender })
    }

    /// Nobody may be there to hear.
    pub fn tell(&self, event: Event) {
        let _ = self.sender.send(event);
    }
}

impl Drop for Watchers {
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

async fn serve(listener: UnixListener, maps: Maps, sender: broadcast::Sender<Event>) {
    let watching = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let receiver = sender.subscribe();
        let (maps, watching) = (maps.clone(), Arc::clone(&watching));
        if watching.fetch_add(1, Ordering::SeqCst) == 0 {
            report_drops(&maps, true);
        }
        tokio::spawn(async move {
            let _ = feed(stream, receiver).await;
            if watching.fetch_sub(1, Ordering::SeqCst) == 1 {
                report_drops(&maps, false);
            }
        });
    }
}

/// Sends events as they come, until the watcher goes.
async fn feed(stream: UnixStream, mut events: broadcast::Receiver<Event>) -> io::Result<()> {
    let (mut watcher, mut stream) = stream.into_split();
    // Tells the watcher that from now on nothing is missed.
    stream.write_all(bytemuck::bytes_of(&<Event as bytemuck::Zeroable>::zeroed())).await?;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            // A watcher sends nothing: whatever is read is its end.
            _ = watcher.read_u8() => return Ok(()),
        };
        match event {
            Ok(event) => stream.write_all(bytemuck::bytes_of(&event)).await?,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

fn report_drops(maps: &Maps, wanted: bool) {
    let changed = maps.change_options(|options| match wanted {
        true => options.bits |= option::REPORT_DROPS,
        false => options.bits &= !option::REPORT_DROPS,
    });
    if let Err(error) = changed {
        tracing::error!("cannot switch the reports of drops: {error:#}");
    }
}
