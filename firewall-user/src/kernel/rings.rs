//! The rings by which the programs speak to the daemon.

use std::{io, ops::Deref};

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

use super::pins::Pins;

/// Records taken in a row before other tasks get their turn.
const AT_ONCE: usize = 64;

/// A ring, read by one task.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// Hands over the records that are there, without waiting for more.
///
/// # Errors
/// When the pinned ring cannot be opened.
pub fn take_all(pins: &Pins, name: &str, mut take: impl FnMut(&[u8])) -> Result<()> {
    let mut ring = open(pins, name)?;
    while let Some(record) = ring.next() {
        take(record.deref());
    }
    Ok(())
}

fn open(pins: &Pins, name: &str) -> Result<RingBuf<MapData>> {
    let data = MapData::from_pin(pins.map(name))
        .with_context(|| format!("cannot open the ring {name}"))?;
    Ok(RingBuf::try_from(Map::from_map_data(data)?)?)
}

impl Ring {
    /// # Errors
    /// When the pinned ring cannot be opened.
    pub fn open(pins: &Pins, name: &str) -> Result<Self> {
        let ring = open(pins, name)?;
        // SAFETY: the ring owns its descriptor and keeps it as long as it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self { ring })
    }

    /// Waits for records and hands over those that are there, up to so many.
    ///
    /// # Errors
    /// When waiting fails.
    pub async fn gather(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        for _ in 0..most {
            let Some(record) = guard.get_inner_mut().next() else {
                guard.clear_ready();
                break;
            };
            take(record.deref());
        }
        Ok(())
    }

    /// Waits for records and hands over those that are there, up to a number
    /// that lets other tasks live.
    ///
    /// # Errors
    /// When waiting fails.
    pub async fn drain(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        for _ in 0..AT_ONCE {
            if let Some(record) = guard.get_inner_mut().next() {
                take(record.deref());
                continue;
            }
            guard.clear_ready();
            break;
        }
        drop(guard);
        tokio::task::yield_now().await;
        Ok(())
    }
}
