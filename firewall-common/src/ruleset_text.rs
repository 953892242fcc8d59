//! The rules as text, beside the compiled ones: what a listing shows, and what a
//! daemon that takes over compiles its names from.

use bytemuck::{Pod, Zeroable};

/// Bytes in one entry of the `ruleset_text` map.
pub const CHUNK: usize = 4096;

/// Which piece of which text; the last piece is filled up with zero bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ChunkKey {
    pub generation: u32,
    /// 4 or 6.
    pub family: u32,
    /// Counts from 0.
    pub number: u32,
}
