//! Table raw before everything else, where it asks for little.

use crate::{
    control::{option, slot},
    extra::need,
    headers::Fragment,
    rule::{Chain, NO_ENTRY},
    scratch::Scratch,
    tables::{Route, Tables},
    time::Nanos,
    walk::{Outcome, part},
};

use super::judging::prepare;

/// What table raw says of a packet before anything else is asked.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sifted {
    /// If it was asked, which [`Walk::is_sifted`] tells.
    Passes = 0,
    Dropped = 1,
    ByPolicy = 2,
    /// The rules led nowhere.
    Broken = 3,
}

impl Sifted {
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Dropped,
            2 => Self::ByPolicy,
            3 => Self::Broken,
            _ => Self::Passes,
        }
    }
}

/// Shows a packet to table raw before it is routed and tracked, where that table asks for nothing
/// but headers and sets ([`need::SIEVE`]): what stands on a list is refused for the price of
/// looking there. A packet whose verdict may be remembered is tracked first.
#[inline(always)]
pub fn sift<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    generation: u32,
    in_ifindex: u32,
    now: Nanos,
) -> Sifted {
    let Some(header) = tables.ruleset(slot(generation)) else { return Sifted::Passes };
    let is_first = header.needs & need::SIEVE_FOR_ALL != 0 || !scratch.headers.is_plain();
    let has_rules = header.raw_entry(scratch.headers.version == 4) != NO_ENTRY;
    if header.needs & need::SIEVE == 0
        || !(is_first && has_rules)
        || scratch.headers.fragment != Fragment::Whole as u8
        || tables.options().has(option::REHEARSAL)
    {
        return Sifted::Passes;
    }
    // Until it is known where the packet goes.
    let route = Route { chain: Chain::Input, in_ifindex, out_ifindex: 0 };
    prepare(tables, scratch, generation, &route);
    scratch.walk.is_unrouted = 1;
    scratch.walk.part = part::SIEVE;
    scratch.facts.of_headers(&scratch.headers, now);
    let outcome = tables.judge(scratch);
    scratch.walk.part = part::WHOLE;
    scratch.walk.is_sifted = 1;
    match outcome {
        Outcome::Accept => Sifted::Passes,
        Outcome::Drop if scratch.walk.is_policy != 0 => Sifted::ByPolicy,
        Outcome::Drop => Sifted::Dropped,
        _ => Sifted::Broken,
    }
}
