//! The time between two daemons.
//!
//! While the heartbeat is young, segments of control connections wait on the
//! ring for the next daemon. Loading the programs takes longer than the datapath
//! waits: the heart beats meanwhile.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
};

use firewall_common::control::HEARTBEAT_LIMIT;

use super::HEARTBEAT;
use crate::kernel::{
    maps::{Maps, now},
    pins::Pins,
};

/// A heart that beats until this is dropped.
#[derive(Debug)]
pub struct Takeover {
    stop: Option<Sender<()>>,
    beating: Option<JoinHandle<()>>,
}

impl Takeover {
    /// `None` when there is nothing to take over, or when the daemon before has
    /// been away for so long that segments have passed unread.
    pub fn begin(pins: &Pins) -> Option<Self> {
        let maps = Maps::open(pins).ok()?;
        let last = maps.heartbeat().ok()?;
        if now().since(last).is_after(HEARTBEAT_LIMIT) {
            return None;
        }
        maps.set_heartbeat(now()).ok()?;
        let (stop, stopped) = channel::<()>();
        let beating = thread::spawn(move || {
            while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = maps.set_heartbeat(now()) {
                    tracing::warn!("cannot write the heartbeat: {error:#}");
                }
            }
        });
        Some(Self { stop: Some(stop), beating: Some(beating) })
    }
}

impl Drop for Takeover {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(beating) = self.beating.take() {
            let _ = beating.join();
        }
    }
}
