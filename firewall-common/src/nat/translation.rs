//! The ways between the wire and the inside, as the maps hold them.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, flow::FlowKey, time::Nanos};

/// Which way a translation leads, as [`TranslationKey::way`].
pub mod way {
    /// From a wire face of the flow to the inside.
    pub const IN: u32 = 0;
    /// From the inside to the wire: what becomes of each endpoint when it is the source of a
    /// packet that leaves.
    pub const OUT: u32 = 1;
}

/// The endpoints before, and the way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct TranslationKey {
    pub endpoints: FlowKey,
    /// One of [`way`].
    pub way: u32,
    pub _pad: u32,
}

/// Bits of [`Translation::flags`].
pub mod flag {
    /// By MASQUERADE: it ends when the interface loses the address.
    pub const MASQUERADE: u8 = 1 << 0;
    /// [`way::IN`]: packets whose sender is the key's high endpoint are concerned, else those
    /// of its low one. A packet of the other one is no packet of this flow.
    pub const FROM_HIGH: u8 = 1 << 1;
}

/// The endpoints behind it: `low` is what becomes of the key's low endpoint, `high` of the
/// high one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Translation {
    pub low: Addr,
    pub high: Addr,
    pub low_port: u16,
    pub high_port: u16,
    /// Bits of [`flag`].
    pub flags: u8,
    pub _pad: [u8; 3],
    /// When its flow was created: it holds as long as that flow is there.
    pub flow_created: Nanos,
}

const _: () = assert!(size_of::<TranslationKey>() == 48);
const _: () = assert!(size_of::<Translation>() == 48);
