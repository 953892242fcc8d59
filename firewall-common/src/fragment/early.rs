//! Later fragments that come before their first: what the datapath tells the
//! daemon, which keeps them until they can be judged.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::FragmentKey;
use crate::{
    control::{
        FRAGMENT_NO_SPACE_EGRESS_MARK, FRAGMENT_NO_SPACE_INGRESS_MARK, FRAGMENT_WAITED_EGRESS_MARK,
        FRAGMENT_WAITED_INGRESS_MARK,
    },
    event::Hook,
    time::Nanos,
};

/// Fragments that each CPU hands to the daemon in one second, of whatever source:
/// beyond, they are dropped, so that a flood of them costs the daemon little.
pub const MAX_HELD_PER_SECOND: u64 = 10_000;

/// How often a packet has been here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// It comes from the network, or from this host.
    New,
    /// An early fragment that has waited as long as it may, or until its first one
    /// was judged: it is judged now.
    Waited,
    /// An early fragment for which there was no space to wait.
    NoSpace,
}

impl Visit {
    /// By the mark of a frame that the daemon sends back, and where it was held.
    #[inline(always)]
    pub const fn of_mark(mark: u32) -> Option<(Self, Hook)> {
        Some(match mark {
            FRAGMENT_WAITED_INGRESS_MARK => (Self::Waited, Hook::Ingress),
            FRAGMENT_WAITED_EGRESS_MARK => (Self::Waited, Hook::Egress),
            FRAGMENT_NO_SPACE_INGRESS_MARK => (Self::NoSpace, Hook::Ingress),
            FRAGMENT_NO_SPACE_EGRESS_MARK => (Self::NoSpace, Hook::Egress),
            _ => return None,
        })
    }

    /// As functions of the kernel take it.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Waited,
            2 => Self::NoSpace,
            _ => Self::New,
        }
    }
}

/// What an [`Early`] tells.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EarlyKind {
    /// A fragment came before its first; the frame's bytes follow.
    Fragment = 0,
    /// The first fragment that is waited for was accepted.
    Granted = 1,
    /// The first fragment that is waited for was dropped.
    Refused = 2,
}

impl EarlyKind {
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Fragment),
            1 => Some(Self::Granted),
            2 => Some(Self::Refused),
            _ => None,
        }
    }
}

/// A record of the ring `early`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Early {
    pub at: Nanos,
    /// Its interface is the one that the fragment came in by, 0 for the host's own.
    pub key: FragmentKey,
    /// The interface whose hook held the fragment.
    pub ifindex: u32,
    /// Bytes of the frame that follow this record.
    pub frame_len: u32,
    /// Where the IP header stands in it; 0 on devices without Ethernet header.
    pub l3: u16,
    /// An [`EarlyKind`].
    pub kind: u8,
    /// A [`Hook`].
    pub hook: u8,
}

impl Early {
    #[inline(always)]
    pub fn about(key: &FragmentKey, kind: EarlyKind, now: Nanos) -> Self {
        Self { at: now, key: *key, kind: kind as u8, ..Self::default() }
    }
}

const _: () = assert!(size_of::<Early>() == 64);
