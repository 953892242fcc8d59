//! The texts that stand beside the rules: what they were compiled from, where they were
//! written, and what the daemon was told.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use firewall_common::{
    addr::Family,
    control::slot,
    ruleset_text::{CHUNK, CONFIGURATION, ChunkKey, SOURCES, STAMP},
};

use super::{batch, maps::Maps};

pub(super) const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// The texts of both slots.
#[derive(Debug)]
pub(super) struct Texts {
    map: OwnedFd,
}

/// What a generation's rules of both families say, and where they were written.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfGeneration<'a> {
    pub(super) rules: [&'a str; 2],
    pub(super) sources: [&'a str; 2],
}

impl Texts {
    pub(super) fn open(maps: &Maps) -> Result<Self> {
        Ok(Self { map: maps.open_map("ruleset_text")? })
    }

    /// Keeps the texts of a generation in place of what its slot holds. Most rulesets are the
    /// one before with a line more or less: what is there already stays.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub(super) fn keep(&self, generation: u32, texts: OfGeneration<'_>) -> Result<()> {
        let slot = slot(generation);
        self.stamp(slot, 0)?;
        for (family, text) in FAMILIES.into_iter().zip(texts.rules) {
            self.write(rules_key(slot, family), text).context("cannot keep the rules' text")?;
        }
        for (family, text) in FAMILIES.into_iter().zip(texts.sources) {
            self.write(sources_key(slot, family), text)
                .context("cannot keep where the rules were written")?;
        }
        self.stamp(slot, generation)
    }

    /// The text that a generation was compiled from; `None` when another has taken its place.
    pub(super) fn rules(&self, generation: u32, family: Family) -> Result<Option<String>> {
        let bytes = self.of(generation, rules_key(slot(generation), family))?;
        bytes.map(String::from_utf8).transpose().context("the rules' text is not UTF-8")
    }

    /// Where the rules of a generation were written; empty when that is not known.
    pub(super) fn sources(&self, generation: u32, family: Family) -> Result<String> {
        let bytes = self.of(generation, sources_key(slot(generation), family))?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default())
    }

    /// A text of a generation, unless another has taken its slot meanwhile.
    fn of(&self, generation: u32, key: ChunkKey) -> Result<Option<Vec<u8>>> {
        if self.stamped(key.slot)? != generation {
            return Ok(None);
        }
        let bytes = self.read(key)?;
        Ok((self.stamped(key.slot)? == generation).then_some(bytes))
    }

    /// Writes a text to which no stamp belongs: until it is whole there is none.
    fn replace(&self, first: ChunkKey, text: &str) -> Result<()> {
        batch::remove_all(&self.map, &[first])?;
        self.write(first, text)
    }

    fn stamp(&self, slot: u32, generation: u32) -> Result<()> {
        let mut piece = [0; CHUNK];
        piece[..4].copy_from_slice(&generation.to_ne_bytes());
        batch::put(&self.map, &stamp_key(slot), &piece).context("cannot keep the rules' text")
    }

    fn stamped(&self, slot: u32) -> Result<u32> {
        let mut piece = [0; CHUNK];
        batch::get_into(&self.map, &stamp_key(slot), &mut piece)?;
        Ok(u32::from_ne_bytes([piece[0], piece[1], piece[2], piece[3]]))
    }

    /// Only the pieces that differ are written, each of which is given its memory anew; the first
    /// one last.
    fn write(&self, first: ChunkKey, text: &str) -> Result<()> {
        let parts: Vec<_> = text.as_bytes().chunks(CHUNK).collect();
        // What a longer text has left.
        for key in pieces(first).skip(parts.len()) {
            if batch::remove_all(&self.map, &[key])? == 0 {
                break;
            }
        }
        for (number, part) in parts.iter().enumerate().rev() {
            let key = ChunkKey { number: number as u32, ..first };
            let (mut wanted, mut found) = ([0; CHUNK], [0; CHUNK]);
            wanted[..part.len()].copy_from_slice(part);
            if !batch::get_into(&self.map, &key, &mut found)? || found != wanted {
                batch::put(&self.map, &key, &wanted)?;
            }
        }
        Ok(())
    }

    fn read(&self, key: ChunkKey) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(CHUNK);
        for key in pieces(key) {
            let before = bytes.len();
            bytes.resize(before + CHUNK, 0);
            let (piece, _) = bytes[before..].as_chunks_mut::<CHUNK>();
            // Only the last piece is filled up.
            if !batch::get_into(&self.map, &key, &mut piece[0])? || piece[0][CHUNK - 1] == 0 {
                break;
            }
        }
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(end);
        Ok(bytes)
    }
}

/// The keys of a text, from its first piece on.
fn pieces(first: ChunkKey) -> impl Iterator<Item = ChunkKey> {
    (0..).map(move |number| ChunkKey { number, ..first })
}

impl Maps {
    /// Keeps where the rules of a generation were written, in place of what was kept.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn write_sources(&self, generation: u32, sources: [&str; 2]) -> Result<()> {
        let texts = Texts::open(self)?;
        for (family, text) in FAMILIES.into_iter().zip(sources) {
            texts
                .replace(sources_key(slot(generation), family), text)
                .context("cannot keep where the rules were written")?;
        }
        Ok(())
    }

    /// Keeps what the daemon was told, as a configuration file says it.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn keep_configuration(&self, text: &str) -> Result<()> {
        Texts::open(self)?.replace(CONFIGURATION, text).context("cannot keep the configuration")
    }

    /// What the last daemon was told.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn configuration(&self) -> Result<String> {
        let bytes = Texts::open(self)?.read(CONFIGURATION)?;
        String::from_utf8(bytes).context("the configuration is not UTF-8")
    }

    /// The text that a generation was compiled from; `None` when another has taken its place.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn ruleset_text(&self, generation: u32, family: Family) -> Result<Option<String>> {
        Texts::open(self)?.rules(generation, family)
    }

    /// Where the rules of a generation were written; empty when that is not known.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn rule_sources(&self, generation: u32, family: Family) -> Result<String> {
        Texts::open(self)?.sources(generation, family)
    }
}

/// The first piece of the rules' text.
const fn rules_key(slot: u32, family: Family) -> ChunkKey {
    let family = match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    ChunkKey { slot, family, number: 0 }
}

/// The first piece of what tells where they were written.
const fn sources_key(slot: u32, family: Family) -> ChunkKey {
    let key = rules_key(slot, family);
    ChunkKey { family: key.family | SOURCES, ..key }
}

const fn stamp_key(slot: u32) -> ChunkKey {
    ChunkKey { slot, family: STAMP, number: 0 }
}
