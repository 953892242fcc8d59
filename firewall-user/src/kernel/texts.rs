//! The texts that stand beside the rules: what they were compiled from, where they were
//! written, and what the daemon was told.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use firewall_common::{
    addr::Family,
    ruleset_text::{CHUNK, CONFIGURATION, ChunkKey, SOURCES},
};

use super::{batch, maps::Maps};

pub(super) const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// The texts of all generations.
#[derive(Debug)]
pub(super) struct Texts {
    map: OwnedFd,
}

/// Pieces that are removed at once.
const PIECES: usize = 16;

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

    /// Keeps the texts of a generation, and those of `replaced` no longer.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub(super) fn keep(
        &self,
        generation: u32,
        replaced: u32,
        texts: OfGeneration<'_>,
    ) -> Result<()> {
        // What an install that was cut off has left under its own number goes, too.
        for gone in [replaced, generation] {
            for family in FAMILIES {
                self.forget(rules_key(gone, family))?;
                self.forget(sources_key(gone, family))?;
            }
        }
        for (family, text) in FAMILIES.into_iter().zip(texts.rules) {
            self.write(rules_key(generation, family), text)
                .context("cannot keep the rules' text")?;
        }
        for (family, text) in FAMILIES.into_iter().zip(texts.sources) {
            self.write(sources_key(generation, family), text)
                .context("cannot keep where the rules were written")?;
        }
        Ok(())
    }

    fn replace(&self, key: ChunkKey, text: &str) -> Result<()> {
        self.forget(key)?;
        self.write(key, text)
    }

    fn write(&self, key: ChunkKey, text: &str) -> Result<()> {
        let (whole, rest) = text.as_bytes().as_chunks::<CHUNK>();
        let keys: Vec<_> = pieces(key).take(whole.len()).collect();
        batch::put_all(&self.map, &keys, whole)?;
        if !rest.is_empty() {
            let mut last = [0; CHUNK];
            last[..rest.len()].copy_from_slice(rest);
            batch::put(&self.map, &ChunkKey { number: whole.len() as u32, ..key }, &last)?;
        }
        Ok(())
    }

    fn forget(&self, key: ChunkKey) -> Result<()> {
        let mut pieces = pieces(key);
        loop {
            let some: [_; PIECES] = std::array::from_fn(|_| pieces.next().unwrap_or(key));
            if batch::remove_all(&self.map, &some)? < PIECES {
                return Ok(());
            }
        }
    }

    /// The text that a generation was compiled from; empty when it is not kept.
    pub(super) fn rules(&self, generation: u32, family: Family) -> Result<String> {
        self.read(rules_key(generation, family))
    }

    /// Where the rules of a generation were written; empty when it is not kept.
    pub(super) fn sources(&self, generation: u32, family: Family) -> Result<String> {
        self.read(sources_key(generation, family))
    }

    fn read(&self, key: ChunkKey) -> Result<String> {
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
        String::from_utf8(bytes).context("the rules' text is not UTF-8")
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
                .replace(sources_key(generation, family), text)
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
        Texts::open(self)?.read(CONFIGURATION)
    }

    /// The text that a generation was compiled from; empty when it is not kept.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn ruleset_text(&self, generation: u32, family: Family) -> Result<String> {
        Texts::open(self)?.rules(generation, family)
    }

    /// Where the rules of a generation were written; empty when it is not kept.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn rule_sources(&self, generation: u32, family: Family) -> Result<String> {
        Texts::open(self)?.sources(generation, family)
    }
}

/// The first piece of the rules' text.
const fn rules_key(generation: u32, family: Family) -> ChunkKey {
    let family = match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    ChunkKey { generation, family, number: 0 }
}

/// The first piece of what tells where they were written.
const fn sources_key(generation: u32, family: Family) -> ChunkKey {
    let key = rules_key(generation, family);
    ChunkKey { family: key.family | SOURCES, ..key }
}
