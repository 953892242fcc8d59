//! What was lost of control connections before it was read: kept by programs and daemon, so that
//! the next daemon knows it, too.

use std::os::fd::OwnedFd;

use anyhow::Result;
use aya::maps::{HashMap, MapData};
use firewall_common::{flow::Tuple, time::Nanos, unread::Unread};

use super::{
    batch,
    maps::{Maps, get, insert, now, remove},
    raw::Raw,
};

/// The maps, kept open for the helper.
#[derive(Debug)]
pub struct Losses {
    told: HashMap<MapData, Raw<Tuple>, Raw<Unread>>,
    untold: OwnedFd,
}

impl Losses {
    /// # Errors
    /// When the maps cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        Ok(Self { told: maps.hash("unread")?, untold: maps.open_map("unread_untold")? })
    }

    /// What was lost of a direction.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn get(&self, way: &Tuple) -> Result<Option<Unread>> {
        get(&self.told, way)
    }

    /// Until when something may have been lost of which nothing was kept, for want of room.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn untold(&self) -> Result<Nanos> {
        Ok(batch::get(&self.untold, &0u32)?.unwrap_or_default())
    }

    /// Notes that something was lost of a direction.
    ///
    /// # Errors
    /// When neither map can be written.
    pub fn add(&mut self, way: Tuple, lost: Unread) -> Result<()> {
        let mut unread = self.get(&way)?.unwrap_or(lost);
        unread.add(&lost);
        match insert(&mut self.told, way, unread) {
            Ok(()) => Ok(()),
            Err(_) => Ok(batch::put(&self.untold, &0u32, &now())?),
        }
    }

    /// # Errors
    /// When the map cannot be written.
    pub fn remove(&mut self, way: &Tuple) -> Result<()> {
        remove(&mut self.told, *way).map(drop)
    }

    /// # Errors
    /// When the map cannot be read.
    pub fn ways(&self) -> Result<Vec<Tuple>> {
        self.told.keys().map(|way| Ok(way?.0)).collect()
    }
}
