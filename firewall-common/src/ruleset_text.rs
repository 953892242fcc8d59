//! The rules as text, beside the compiled ones: what a listing shows, and what a
//! daemon that takes over compiles its names from.

use bytemuck::{Pod, Zeroable};

/// Bytes in one entry of the `ruleset_text` map.
pub const CHUNK: usize = 4096;

/// Added to the family: not the rules, but where each of them was written.
pub const SOURCES: u32 = 0x100;

/// Not rules, but what the daemon was told at its start, as a configuration file. It
/// belongs to no slot.
pub const CONFIGURATION: ChunkKey = ChunkKey { slot: 0, family: 0, number: 0 };

/// In place of a family: of which generation the texts of a slot are. It stands in the first
/// four bytes, 0 while they are being written.
pub const STAMP: u32 = 0x200;

/// Which piece of which text; the last piece is filled up with zero bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ChunkKey {
    /// [`crate::control::slot`] of the generation.
    pub slot: u32,
    /// 4 or 6, or one of them with [`SOURCES`]; [`STAMP`]; 0 in [`CONFIGURATION`].
    pub family: u32,
    /// Counts from 0.
    pub number: u32,
}
