//! How the tables fared: what the daemon has seen of them and keeps beside them,
//! so that it is known after its end.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::time::Nanos;

/// What has a bound. The number is the place in the `pressure` map.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bounded {
    Assured,
    Embryonic,
    Expectations,
    Masters,
    Fragments,
    /// The ring of held segments.
    Punts,
    /// The ring of LOG lines and drops.
    Events,
    /// The wire faces of confirmed connections that are translated.
    Translations,
    /// Of those that are not confirmed.
    EmbryonicTranslations,
    /// The two entries of each outside port that an inside endpoint of UDP keeps.
    Mappings,
}

impl Bounded {
    pub const ALL: [Self; 10] = [
        Self::Assured,
        Self::Embryonic,
        Self::Expectations,
        Self::Masters,
        Self::Fragments,
        Self::Punts,
        Self::Events,
        Self::Translations,
        Self::EmbryonicTranslations,
        Self::Mappings,
    ];

    /// The name of the map.
    pub const fn map(self) -> &'static str {
        match self {
            Self::Assured => "assured",
            Self::Embryonic => "embryonic",
            Self::Expectations => "expectations",
            Self::Masters => "masters",
            Self::Fragments => "fragments",
            Self::Punts => "punts",
            Self::Events => "events",
            Self::Translations => "translations",
            Self::EmbryonicTranslations => "embryonic_nat",
            Self::Mappings => "mappings",
        }
    }
}

/// Places of the `pressure` map.
pub const PRESSURES: u32 = 16;
const _: () = assert!(Bounded::ALL.len() <= PRESSURES as usize);

/// How a table fared; a value of the `pressure` map. Only the daemon writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Pressure {
    /// Since when it is full; zero while it is not.
    pub since: Nanos,
    /// When it was seen full last; zero for never.
    pub last: Nanos,
    /// How often it became full.
    pub times: u64,
    /// What found no room in it, or lost its place before its time.
    pub lost: u64,
}

const _: () = assert!(size_of::<Pressure>() == 32);
