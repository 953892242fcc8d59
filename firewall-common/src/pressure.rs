//! How the tables fared: what the daemon has seen of them and keeps beside them,
//! so that it is known after its end.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{addr::Family, tables::FlowTable, time::Nanos};

/// What has a bound. The number is the place in the `pressure` map.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bounded {
    /// Confirmed flows of IPv4.
    Assured,
    /// Of IPv6.
    Assured6,
    /// Flows of IPv4 that nobody has confirmed.
    Embryonic,
    /// Of IPv6.
    Embryonic6,
    Expectations,
    Masters,
    Fragments,
    /// The ring of held segments.
    Punts,
    /// The ring of LOG lines and drops.
    Events,
    /// The wire faces of confirmed connections of IPv4 that are translated.
    Translations,
    /// Of IPv6.
    Translations6,
    /// Of connections of IPv4 that are not confirmed.
    EmbryonicTranslations,
    /// Of IPv6.
    EmbryonicTranslations6,
    /// The two entries of each outside port that an inside endpoint of UDP keeps.
    Mappings,
}

impl Bounded {
    pub const ALL: [Self; 14] = [
        Self::Assured,
        Self::Assured6,
        Self::Embryonic,
        Self::Embryonic6,
        Self::Expectations,
        Self::Masters,
        Self::Fragments,
        Self::Punts,
        Self::Events,
        Self::Translations,
        Self::Translations6,
        Self::EmbryonicTranslations,
        Self::EmbryonicTranslations6,
        Self::Mappings,
    ];

    /// Which flows it holds, if it holds flows.
    pub const fn flows(self) -> Option<(FlowTable, Family)> {
        Some(match self {
            Self::Assured => (FlowTable::Assured, Family::Ipv4),
            Self::Assured6 => (FlowTable::Assured, Family::Ipv6),
            Self::Embryonic => (FlowTable::Embryonic, Family::Ipv4),
            Self::Embryonic6 => (FlowTable::Embryonic, Family::Ipv6),
            _ => return None,
        })
    }

    /// The name of the map.
    pub const fn map(self) -> &'static str {
        match self {
            Self::Assured => "assured",
            Self::Assured6 => "assured6",
            Self::Embryonic => "embryonic",
            Self::Embryonic6 => "embryonic6",
            Self::Expectations => "expectations",
            Self::Masters => "masters",
            Self::Fragments => "fragments",
            Self::Punts => "punts",
            Self::Events => "events",
            Self::Translations => "translations",
            Self::Translations6 => "translations6",
            Self::EmbryonicTranslations => "embryonic_nat",
            Self::EmbryonicTranslations6 => "embryonic_nat6",
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
