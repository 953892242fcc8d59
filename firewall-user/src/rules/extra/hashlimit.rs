//! `-m hashlimit`: a limit for each address or port.

use super::Limit;

/// What a rule lets through, of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashLimit {
    /// Rules that name the same have their buckets in common.
    pub name: String,
    /// It holds for what is too much, not for what is not.
    pub is_above: bool,
    pub rate: Rate,
    /// Bits of [`firewall_common::extra::bucket::mode`].
    pub mode: u8,
    /// Bits of an address that count.
    pub src_mask: u8,
    pub dst_mask: u8,
    /// All bits of an address of the rule's family.
    pub whole: u8,
    pub table: KeyedTable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Packets {
        /// Microseconds for one packet.
        period: u64,
        burst: u32,
    },
    Bytes {
        per_second: u64,
        /// 0 when it was not written: those of one second.
        burst: u64,
    },
}

/// How the kernel keeps its table; read and kept, as ours needs no such numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyedTable {
    pub size: Option<u32>,
    pub max: Option<u32>,
    /// Milliseconds.
    pub gcinterval: Option<u32>,
    /// Milliseconds.
    pub expire: Option<u32>,
}

/// What tells buckets apart, as `--hashlimit-mode` calls it, in the order in which it is
/// printed.
pub(crate) const MODES: [(&str, u8); 4] = {
    use firewall_common::extra::bucket::mode;
    [
        ("srcip", mode::SRC_IP),
        ("srcport", mode::SRC_PORT),
        ("dstip", mode::DST_IP),
        ("dstport", mode::DST_PORT),
    ]
};

impl Rate {
    /// Microseconds in a second.
    pub const SCALE: u64 = 1_000_000;
    pub const DEFAULT_BURST: u32 = 5;
    pub const MOST_BURST: u32 = 1_000_000;

    /// The units of a rate in microseconds, the longest first.
    pub(crate) fn units() -> [(&'static str, u64); 4] {
        Limit::UNITS
            .map(|(name, unit)| (name, u64::from(unit) * (Self::SCALE / u64::from(Limit::SCALE))))
    }

    /// The number and the place of the unit in which it is printed.
    fn packets(period: u64) -> (u64, usize) {
        let units = Self::units();
        let period = period.max(1);
        let is_rough = |unit: u64| period > unit || unit / period < unit % period;
        let finer = units.iter().skip(1).position(|(_, unit)| is_rough(*unit));
        let place = finer.unwrap_or(units.len() - 1);
        (units[place].1 / period, place)
    }

    /// As iptables prints it: `5/min`, `512kb/s`.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Packets { period, .. } => {
                let (count, place) = Self::packets(period);
                format!("{count}/{}", Self::units()[place].0)
            }
            Self::Bytes { per_second, .. } => format!("{}/s", bytes(per_second)),
        }
    }

    /// What stands behind `--hashlimit-burst`, if anything.
    pub(crate) fn burst(self) -> Option<String> {
        match self {
            Self::Packets { burst, .. } => Some(burst.to_string()),
            Self::Bytes { burst: 0, .. } => None,
            Self::Bytes { burst, .. } => Some(bytes(burst)),
        }
    }

    /// How long the kernel keeps a bucket that nobody uses, in milliseconds, unless a
    /// rule says otherwise: the unit of its rate.
    pub(crate) fn default_expire(self) -> Option<u32> {
        match self {
            Self::Packets { period, .. } => {
                let (_, unit) = Self::units()[Self::packets(period).1];
                u32::try_from(unit / 1_000).ok()
            }
            Self::Bytes { .. } => None,
        }
    }
}

/// `1mb`, `512kb`, `100b`: in the largest unit in which it is a whole number.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 2] = [(1 << 20, "mb"), (1 << 10, "kb")];
    match UNITS.iter().find(|(unit, _)| count.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", count / unit),
        None => format!("{count}b"),
    }
}
