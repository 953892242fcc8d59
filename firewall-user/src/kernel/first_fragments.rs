//! What the datapath knows of first fragments, for those who keep later ones that
//! came before.

use anyhow::Result;
use aya::maps::{HashMap, MapData};
use firewall_common::{
    fragment::{FragmentGrant, FragmentKey},
    time::Nanos,
};

use super::{
    maps::{Maps, get, insert, remove},
    raw::Raw,
};

/// The tables of grants, refusals, and of what is waited for.
#[derive(Debug)]
pub struct FirstFragments {
    granted: HashMap<MapData, Raw<FragmentKey>, Raw<FragmentGrant>>,
    refused: HashMap<MapData, Raw<FragmentKey>, Raw<Nanos>>,
    awaited: HashMap<MapData, Raw<FragmentKey>, Raw<u32>>,
}

impl FirstFragments {
    /// # Errors
    /// When the maps cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        Ok(Self {
            granted: maps.hash("fragments")?,
            refused: maps.hash("refusals")?,
            awaited: maps.hash("awaited")?,
        })
    }

    /// Whether the first fragment was accepted or dropped.
    pub fn is_decided(&self, key: &FragmentKey, now: Nanos) -> Result<bool> {
        let is_live = |expires: Nanos| expires.is_after(now);
        Ok(get(&self.granted, key)?.is_some_and(|grant| is_live(grant.expires))
            || get(&self.refused, key)?.is_some_and(is_live))
    }

    /// The datapath will tell of this first fragment.
    pub fn wait_for(&mut self, key: &FragmentKey) -> Result<()> {
        insert(&mut self.awaited, *key, 1)
    }

    pub fn no_longer_wait_for(&mut self, key: &FragmentKey) -> Result<()> {
        remove(&mut self.awaited, *key).map(drop)
    }

    pub fn await_none(&mut self) -> Result<()> {
        let all: Vec<_> = self.awaited.keys().collect::<Result<_, _>>()?;
        all.into_iter().try_for_each(|key| self.no_longer_wait_for(&key.0))
    }
}
