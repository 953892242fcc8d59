//! What goes with a packet through the stack, which carries no more than a number.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::{Mangling, change};
use crate::{
    addr::Addr,
    flow::Tuple,
    nat::{Desk, desk::done},
};

/// Packets that may be on their way through the stack at once; a power of two.
pub const PARCELS: u32 = 8_192;

/// What is to be done with the packet by whom it meets next, as [`Parcel::kind`].
pub mod kind {
    /// It goes to this host.
    pub const INPUT: u8 = 0;
    /// FORWARD has judged it.
    pub const FORWARDED: u8 = 1;
    /// Judged, and a packet of a proxied flow: its numbers are not translated yet.
    pub const PROXIED: u8 = 2;
}

/// What TC writes into the kernel's packet, and at its end into the packet itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Parcel {
    pub mark: u32,
    pub mark_out: u32,
    /// Bits of [`change`].
    pub changes: u8,
    pub ttl_out: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// 1 when its source is to be put right, and with it the ends below.
    pub leaves: u8,
    pub source: Addr,
    pub sport: u16,
    pub dport: u16,
}

impl Parcel {
    #[inline(always)]
    pub const fn of(mangling: &Mangling, kind: u8) -> Self {
        Self {
            mark: mangling.mark,
            mark_out: mangling.mark_out,
            changes: mangling.changes,
            ttl_out: mangling.ttl_out,
            kind,
            ..Self::NOTHING
        }
    }

    /// With the ends that a translated packet leaves with.
    #[must_use]
    #[inline(always)]
    pub const fn leaving(self, nat: &Desk) -> Self {
        if !nat.has(done::LEAVES) {
            return self;
        }
        let Tuple { src, sport, dport, .. } = nat.leaving;
        Self { leaves: 1, source: src, sport, dport, ..self }
    }

    /// Gives a packet those ends.
    #[inline(always)]
    pub const fn apply(&self, tuple: &mut Tuple) {
        tuple.src = self.source;
        tuple.sport = self.sport;
        tuple.dport = self.dport;
    }

    const NOTHING: Self = Self {
        mark: 0,
        mark_out: 0,
        changes: 0,
        ttl_out: 0,
        kind: 0,
        leaves: 0,
        source: Addr::ANY,
        sport: 0,
        dport: 0,
    };

    #[inline(always)]
    pub const fn has(&self, changes: u8) -> bool {
        self.changes & changes != 0
    }

    /// Whether something is left to do when the packet leaves.
    #[inline(always)]
    pub const fn goes_on(&self) -> bool {
        self.has(change::TTL_OUT | change::MARK_OUT) || self.leaves != 0
    }
}

const _: () = assert!(size_of::<Parcel>() == 32);
