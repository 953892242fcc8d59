//! The thread that reads held segments.
//!
//! A held segment is a transfer that waits: no event, no line of the log and no look at the
//! interfaces comes before it, and where the CPUs are busy this thread goes before others.

use std::{
    io,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::libc;
use tokio::{runtime, sync::oneshot, task::yield_now};

use super::{HEARTBEAT, every, helper::Helper, report};
use crate::{
    kernel::{pins::Pins, rings::Ring},
    log::speak_aside,
};

/// How often some control connections are looked at for their end.
const LOOK_AT_ENDS: Duration = Duration::from_millis(200);
/// Segments that are taken from the ring in one go: each waits for the turn of its
/// connection, and none for a flood of another.
const GATHERED: usize = 1_024;
/// Leaves ordinary work a tenth of a CPU whatever a flood brings.
const NICENESS: i32 = -10;
/// Whoever runs for no longer at a time is let in at once when it wakes (from Linux 6.12 on).
const SLICE: Duration = Duration::from_micros(100);

/// Reads until dropped.
#[derive(Debug)]
pub struct Attention {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    failed: oneshot::Receiver<anyhow::Error>,
}

impl Attention {
    /// # Errors
    /// When there can be no thread.
    pub fn start(helper: Helper, pins: Pins) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (tell, failed) = oneshot::channel();
        let attend = move || {
            go_before_others();
            if let Err(error) = speak_aside() {
                tracing::warn!("who does not read the log holds segments up: {error:#}");
            }
            let done = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start the runtime of the helper")
                .and_then(|runtime| runtime.block_on(attend(helper, &pins, stopped)));
            if let Err(error) = done {
                let _ = tell.send(error);
            }
        };
        let thread = thread::Builder::new()
            .name("helper".to_owned())
            .spawn(attend)
            .context("cannot start the thread of the helper")?;
        Ok(Self { stop: Some(stop), thread: Some(thread), failed })
    }

    /// Waits until it has failed; it ends for nothing else.
    pub async fn failed(&mut self) -> anyhow::Error {
        (&mut self.failed)
            .await
            .unwrap_or_else(|_| anyhow!("the thread of the helper has panicked"))
    }
}

impl Drop for Attention {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The heart beats here: it tells the programs that held segments are read.
async fn attend(mut helper: Helper, pins: &Pins, mut stopped: oneshot::Receiver<()>) -> Result<()> {
    let mut ring = Ring::open(pins, "punts")?;
    let mut heartbeat = every(HEARTBEAT);
    let mut ends = every(LOOK_AT_ENDS);
    loop {
        tokio::select! {
            done = ring.gather(GATHERED, |record| helper.hold(record)) => {
                done.context("cannot read held segments")?;
                helper.serve();
                // The clock's turn, also while the ring is never empty.
                yield_now().await;
            }
            () = yield_now(), if helper.is_behind() => helper.serve(),
            _ = heartbeat.tick() => {
                helper.beat()?;
                report(helper.report());
            }
            _ = ends.tick() => report(helper.sweep()),
            _ = &mut stopped => {
                report(helper.leave());
                return Ok(());
            }
        }
    }
}

/// Where that is not allowed, segments wait as long as the CPUs are busy.
fn go_before_others() {
    let wanted = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: NICENESS,
        sched_priority: 0,
        sched_runtime: SLICE.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the structure lives through the call, says its size, and is only read; the first
    // 0 is this thread.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
    if answer != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!("held segments are read like ordinary work: {error}");
    }
}
