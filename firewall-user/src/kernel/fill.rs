//! How full the tables and rings are, how they fared, and who fills them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    ptr,
};

use anyhow::{Context as _, Result};
use firewall_common::{
    addr::{Addr, Family},
    flow::{Flow, FlowKey},
    pressure::{Bounded, Pressure},
    tables::FlowTable,
};
use nix::{
    libc,
    unistd::{SysconfVar, sysconf},
};

use super::{
    batch,
    families::{ByFamily, flow_names},
    maps::{Maps, cpus},
    raw::Raw,
};
use crate::pressure::{Candidates, Sources};

/// How full something is: a table in entries, a ring in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub used: u32,
    pub size: u32,
}

impl Maps {
    /// What is used, expired entries included. A table is walked: a million
    /// entries take a third of a second.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn fill(&self, what: Bounded) -> Result<Fill> {
        let data = self.data(what.map())?;
        let info = data.info()?;
        let used = match what {
            Bounded::Punts | Bounded::Events => ring_used(data.fd(), info.max_entries())?,
            _ => batch::count(data.fd(), info.key_size() as usize, info.value_size() as usize)?,
        };
        Ok(Fill { used, size: info.max_entries() })
    }

    /// Entries of a table, or bytes of a ring.
    ///
    /// # Errors
    /// When the map cannot be opened.
    pub fn size(&self, what: Bounded) -> Result<u32> {
        Ok(self.data(what.map())?.info()?.max_entries())
    }

    /// How each table fared, by the number of [`Bounded`].
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn pressures(&self) -> Result<[Pressure; Bounded::ALL.len()]> {
        let map = self.array::<Pressure>("pressure")?;
        let mut pressures = [Pressure::default(); Bounded::ALL.len()];
        for what in Bounded::ALL {
            pressures[what as usize] = map.get(&(what as u32), 0)?.0;
        }
        Ok(pressures)
    }

    /// # Errors
    /// When the map cannot be written.
    pub fn set_pressure(&self, what: Bounded, pressure: Pressure) -> Result<()> {
        self.array::<Pressure>("pressure")?
            .set(what as u32, Raw(pressure), 0)
            .context("cannot write map pressure")
    }

    /// Who began most of the flows of a family in a table. They are walked twice, in
    /// bounded memory.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn sources(&self, table: FlowTable, family: Family) -> Result<Sources> {
        let flows = ByFamily::open(self, flow_names(table))?;
        let mut candidates = Candidates::default();
        flows.for_each_of(family, |key, flow| candidates.see(originator(key, flow)))?;
        let mut sources = candidates.into_sources();
        flows.for_each_of(family, |key, flow| sources.see(originator(key, flow)))?;
        Ok(sources)
    }
}

fn originator(key: &FlowKey, flow: &Flow) -> Addr {
    key.tuple(flow.originator()).src
}

/// From how many entries on an LRU map of this size may recycle: each CPU keeps
/// some free ones to itself (`LOCAL_FREE_TARGET` in the kernel's bpf_lru_list.c).
///
/// # Errors
/// When the CPUs cannot be counted.
pub fn recycles_from(size: u64) -> Result<u64> {
    const KEPT: u64 = 128;
    let cpus = cpus()? as u64;
    let kept = (size / cpus.max(1) / 2).clamp(1, KEPT);
    Ok(size.saturating_sub(kept * cpus))
}

/// Bytes that wait in a ring. Its first page says how far it was read, its second
/// how far it was written.
fn ring_used(ring: impl AsFd, size: u32) -> Result<u32> {
    let page = sysconf(SysconfVar::PAGE_SIZE)?.context("no page size")?;
    let read = position(&ring, page, 0)?;
    let written = position(&ring, page, page)?;
    Ok(u32::try_from(written.saturating_sub(read)).unwrap_or(size).min(size))
}

/// The word at the beginning of a page of the ring.
fn position(ring: impl AsFd, page: i64, offset: i64) -> io::Result<u64> {
    let length = page as usize;
    let fd = ring.as_fd().as_raw_fd();
    // SAFETY: a new mapping of our own, only to be read.
    let mapping = unsafe {
        libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd, offset)
    };
    if mapping == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is mapped and begins with an aligned word, which the kernel
    // or the reader may change meanwhile.
    let position = unsafe { mapping.cast::<u64>().read_volatile() };
    // SAFETY: the mapping is ours, and nothing points into it any more.
    unsafe { libc::munmap(mapping, length) };
    Ok(position)
}
