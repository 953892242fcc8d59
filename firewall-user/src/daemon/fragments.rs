//! Fragments that come before the first one of their datagram.
//!
//! The datapath hands them over unjudged. They are kept ([`Waiting`]) until the
//! first one was accepted or dropped, or their time is over; then each is sent back
//! to where it was held, with a mark by which TC judges it. So the datapath alone
//! decides and counts, whatever becomes of a fragment.
//!
//! That a datagram is awaited is noted in the map `awaited`, and then the tables
//! are asked what became of its first fragment. The datapath does it the other way
//! round: whoever comes second sees what the other has done.

use anyhow::{Context, Result};
use firewall_common::{
    fragment::{Early, EarlyKind, FragmentKey, Visit},
    time::Nanos,
};

use super::{
    inject::{Judgement, Tokens},
    waiting::{Kept, Limits, Waiting},
};
use crate::kernel::{
    first_fragments::FirstFragments,
    maps::{Maps, now},
};

/// All fragments that wait, and the way back.
#[derive(Debug)]
pub struct Fragments {
    maps: Maps,
    tables: FirstFragments,
    tokens: Tokens,
    judgement: Judgement,
    waiting: Waiting,
}

impl Fragments {
    /// # Errors
    /// When the maps or packet sockets cannot be opened.
    pub fn new(maps: Maps) -> Result<Self> {
        let mut tables = FirstFragments::open(&maps)?;
        tables.await_none().context("cannot forget what a former daemon has kept")?;
        Ok(Self {
            tables,
            tokens: Tokens::open(&maps)?,
            judgement: Judgement::new()?,
            waiting: Waiting::new(Limits::default()),
            maps,
        })
    }

    /// Reads one record of the ring.
    pub fn record(&mut self, record: &[u8]) {
        let Some((early, frame)) = split(record) else {
            tracing::error!("a record of {} bytes on the ring of early fragments", record.len());
            return;
        };
        match EarlyKind::from_byte(early.kind) {
            Some(EarlyKind::Fragment) => self.keep(early, frame),
            Some(EarlyKind::Granted | EarlyKind::Refused) => self.release(&early.key),
            None => {
                tracing::error!("a record of kind {} on the ring of early fragments", early.kind);
            }
        }
    }

    fn keep(&mut self, early: Early, frame: &[u8]) {
        match self.waiting.keep(early, frame) {
            Kept::WithOthers => {}
            Kept::No => self.send(&early, frame, Visit::NoSpace),
            Kept::Alone => match self.begin_to_wait(&early.key) {
                Ok(false) => {}
                Ok(true) => self.release(&early.key),
                Err(error) => {
                    tracing::error!("cannot wait for a first fragment: {error:#}");
                    self.release(&early.key);
                }
            },
        }
    }

    /// Whether the first fragment has come meanwhile.
    fn begin_to_wait(&mut self, key: &FragmentKey) -> Result<bool> {
        self.tables.wait_for(key)?;
        self.tables.is_decided(key, now())
    }

    /// Has those who wait for a first fragment judged.
    fn release(&mut self, key: &FragmentKey) {
        for held in self.waiting.release(key) {
            self.send(&held.early, &held.frame, Visit::Waited);
        }
        if let Err(error) = self.tables.no_longer_wait_for(key) {
            tracing::error!("cannot forget a first fragment that was waited for: {error:#}");
        }
    }

    fn send(&self, early: &Early, frame: &[u8], visit: Visit) {
        let sent = self
            .tokens
            .of(early.ifindex)
            .and_then(|token| self.judgement.send(early, frame, token, visit));
        if let Err(error) = sent {
            tracing::warn!("{error:#}: it is lost");
        }
    }

    /// Lets go of those whose time is over, and of those whose first fragment has
    /// come without a word: the ring may have been full.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn look_around(&mut self) -> Result<()> {
        if self.waiting.datagrams().next().is_none() {
            return Ok(());
        }
        let (now, lifetime) = (now(), self.maps.timeouts()?.fragment);
        let datagrams: Vec<_> = self.waiting.datagrams().collect();
        for (key, since) in datagrams {
            if now.since(since) >= lifetime || self.tables.is_decided(&key, now)? {
                self.release(&key);
            }
        }
        Ok(())
    }

    /// Has all that wait judged: nobody will keep them any longer.
    pub fn end(&mut self) {
        let datagrams: Vec<(FragmentKey, Nanos)> = self.waiting.datagrams().collect();
        for (key, _) in datagrams {
            self.release(&key);
        }
    }
}

/// A record of the ring: what is known of the frame, and the frame.
fn split(record: &[u8]) -> Option<(Early, &[u8])> {
    let (head, rest) = record.split_at_checked(size_of::<Early>())?;
    let early: Early = bytemuck::pod_read_unaligned(head);
    Some((early, rest.get(..early.frame_len as usize)?))
}
