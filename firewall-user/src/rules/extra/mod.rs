//! Matches with options of their own, beyond those that [`super::ast::Match`] names:
//! what they are called and what each of their options asks for.

use std::net::IpAddr;

use firewall_common::{
    extra::facts::{address_type, ct_status},
    flow::Direction,
    rule::PortRange,
};

mod connlimit;
mod extension;
mod hashlimit;
mod recent;
mod text;
mod time;

pub use self::connlimit::ConnLimit;
pub use self::extension::{FragmentHeader, HeaderChain, More};
pub(crate) use self::extension::{HEADERS, HeaderNames};
pub(crate) use self::hashlimit::MODES;
pub use self::hashlimit::{HashLimit, KeyedTable, Rate};
pub use self::recent::{Action, Recent, recent_lists};
pub use self::text::{Algorithm, Text};
pub use self::time::Time;
pub(crate) use self::time::WEEKDAYS;
use super::ast::{Condition, Network};

/// `-m NAME` and what it asks for, in the order in which iptables prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    pub kind: ExtraKind,
    pub facts: Vec<Condition<Fact>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtraKind {
    Length,
    Ttl,
    HopLimit,
    Tos,
    Dscp,
    IpRange,
    Mac,
    PacketType,
    AddressType,
    Mark,
    ConnMark,
    Owner,
    /// With more than `--ctstate`.
    Conntrack,
    TcpMss,
    Routing,
    Statistic,
    Limit,
    Recent,
    HashLimit,
    ConnLimit,
    Time,
    Text,
    HeaderChain,
    Fragment,
}

/// What an option asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// First and last, as with the other pairs here.
    Length(u16, u16),
    Ttl(Comparison, u8),
    Tos(Masked),
    Dscp(u8),
    SourceRange(IpAddr, IpAddr),
    DestinationRange(IpAddr, IpAddr),
    Mac([u8; 6]),
    PacketType(PacketType),
    /// Bits of [`address_type`].
    SourceType(u32),
    /// Bits of [`address_type`].
    DestinationType(u32),
    Mark(Masked),
    /// Of the connection.
    CtMark(Masked),
    Uid(u32, u32),
    Gid(u32, u32),
    SocketExists,
    /// Bits of [`super::ast::State::states`].
    CtState(u8),
    CtProtocol(u8),
    /// The originator's address, or the one that it called; of replies or not.
    CtAddress(Way, Network),
    CtPort(Way, PortRange),
    /// Bits of [`ct_status`]; none is `NONE`.
    CtStatus(u32),
    /// In seconds.
    CtExpire(u32, u32),
    CtDirection(Direction),
    Mss(u16, u16),
    RoutingType(u32, u32),
    RoutingLeft(u32, u32),
    /// In bytes.
    RoutingLength(u32),
    /// So many times in 2^31.
    Random(u32),
    Nth {
        every: u32,
        packet: u32,
    },
    Limit(Limit),
    Recent(Recent),
    HashLimit(HashLimit),
    ConnLimit(ConnLimit),
    Time(Time),
    Text(Text),
    HeaderChain(HeaderChain),
    Fragment(FragmentHeader),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Below,
    Above,
}

/// Bits, and which of them count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    pub value: u32,
    pub mask: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketType {
    Unicast,
    Broadcast,
    Multicast,
}

/// Which end of a connection, as the packets of which direction name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    OriginalSource,
    OriginalDestination,
    ReplySource,
    ReplyDestination,
}

impl Way {
    /// The letters between `--ct` and `port`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OriginalSource => "origsrc",
            Self::OriginalDestination => "origdst",
            Self::ReplySource => "replsrc",
            Self::ReplyDestination => "repldst",
        }
    }
}

/// `-m limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Ten-thousandths of a second for one packet.
    pub period: u32,
    /// Packets that may come at once.
    pub burst: u32,
}

impl Default for Limit {
    /// 3/hour, and 5 at once.
    fn default() -> Self {
        Self { period: Self::SCALE * 1_200, burst: Self::DEFAULT_BURST }
    }
}

impl Limit {
    /// The units of [`Limit::period`] in a second.
    pub const SCALE: u32 = 10_000;
    pub const DEFAULT_BURST: u32 = 5;
    /// The units that a rate is written in, the longest first.
    pub const UNITS: [(&'static str, u32); 4] = [
        ("day", 24 * 60 * 60 * Self::SCALE),
        ("hour", 60 * 60 * Self::SCALE),
        ("min", 60 * Self::SCALE),
        ("sec", Self::SCALE),
    ];

    /// As iptables prints it, `3/min`: in the longest unit in which it is a whole
    /// number, or nearly one.
    pub(crate) fn rate(&self) -> String {
        let period = self.period.max(1);
        let is_rough = |unit: u32| period > unit || unit / period < unit % period;
        let finer = Self::UNITS.iter().skip(1).position(|(_, unit)| is_rough(*unit));
        let (name, unit) = Self::UNITS[finer.unwrap_or(Self::UNITS.len() - 1)];
        format!("{}/{name}", unit / period)
    }
}

impl ExtraKind {
    pub(crate) const ALL: [Self; 24] = [
        Self::Length,
        Self::Ttl,
        Self::HopLimit,
        Self::Tos,
        Self::Dscp,
        Self::IpRange,
        Self::Mac,
        Self::PacketType,
        Self::AddressType,
        Self::Mark,
        Self::ConnMark,
        Self::Owner,
        Self::Conntrack,
        Self::TcpMss,
        Self::Routing,
        Self::Statistic,
        Self::Limit,
        Self::Recent,
        Self::HashLimit,
        Self::ConnLimit,
        Self::Time,
        Self::Text,
        Self::HeaderChain,
        Self::Fragment,
    ];

    /// As `-m` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Ttl => "ttl",
            Self::HopLimit => "hl",
            Self::Tos => "tos",
            Self::Dscp => "dscp",
            Self::IpRange => "iprange",
            Self::Mac => "mac",
            Self::PacketType => "pkttype",
            Self::AddressType => "addrtype",
            Self::Mark => "mark",
            Self::ConnMark => "connmark",
            Self::Owner => "owner",
            Self::Conntrack => "conntrack",
            Self::TcpMss => "tcpmss",
            Self::Routing => "rt",
            Self::Statistic => "statistic",
            Self::Limit => "limit",
            Self::Recent => "recent",
            Self::HashLimit => "hashlimit",
            Self::ConnLimit => "connlimit",
            Self::Time => "time",
            Self::Text => "string",
            Self::HeaderChain => "ipv6header",
            Self::Fragment => "frag",
        }
    }

    /// The option that is missing when it stands alone; a limit has a default.
    pub(crate) const fn option(self) -> &'static str {
        match self {
            Self::Length => "--length",
            Self::Ttl => "--ttl-eq, --ttl-lt or --ttl-gt",
            Self::HopLimit => "--hl-eq, --hl-lt or --hl-gt",
            Self::Tos => "--tos",
            Self::Dscp => "--dscp or --dscp-class",
            Self::IpRange => "--src-range or --dst-range",
            Self::Mac => "--mac-source",
            Self::PacketType => "--pkt-type",
            Self::AddressType => "--src-type or --dst-type",
            Self::Mark | Self::ConnMark => "--mark",
            Self::Owner => "--uid-owner, --gid-owner or --socket-exists",
            Self::Conntrack => "--ctstate",
            Self::TcpMss => "--mss",
            Self::Routing => "--rt-type, --rt-segsleft or --rt-len",
            Self::Statistic => "--mode random or --mode nth",
            Self::Limit => "--limit",
            Self::Recent => "--set, --rcheck, --update or --remove",
            Self::HashLimit => "--hashlimit-upto or --hashlimit-above",
            Self::ConnLimit => "--connlimit-upto or --connlimit-above",
            Self::Time => "--timestart, --weekdays or the like",
            Self::Text => "--algo and --string",
            Self::HeaderChain => "--header",
            Self::Fragment => "--fragid, --fragfirst or the like",
        }
    }
}

impl PacketType {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Broadcast => "broadcast",
            Self::Multicast => "multicast",
        }
    }
}

/// In the order in which they are printed.
pub(crate) const ADDRESS_TYPES: [(&str, u32); 4] = [
    ("UNICAST", address_type::UNICAST),
    ("LOCAL", address_type::LOCAL),
    ("BROADCAST", address_type::BROADCAST),
    ("MULTICAST", address_type::MULTICAST),
];

/// In the order in which they are printed.
pub(crate) const CT_STATUSES: [(&str, u32); 4] = [
    ("EXPECTED", ct_status::EXPECTED),
    ("SEEN_REPLY", ct_status::SEEN_REPLY),
    ("ASSURED", ct_status::ASSURED),
    ("CONFIRMED", ct_status::CONFIRMED),
];

/// Names of `--tos`, which stand for the bits of RFC 1349.
pub(crate) const TOS_NAMES: [(&str, u32); 5] = [
    ("Minimize-Delay", 0x10),
    ("Maximize-Throughput", 0x08),
    ("Maximize-Reliability", 0x04),
    ("Minimize-Cost", 0x02),
    ("Normal-Service", 0x00),
];
/// Which bits a name of `--tos` speaks of.
pub(crate) const TOS_NAME_MASK: u32 = 0x3f;

/// Classes of `--dscp-class` (RFC 2474, RFC 2597, RFC 3246).
pub(crate) fn dscp_class(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let digits: Vec<u8> = upper.bytes().skip(2).map(|digit| digit.wrapping_sub(b'0')).collect();
    match (upper.get(..2)?, &digits[..]) {
        ("EF", []) => Some(46),
        ("BE", []) => Some(0),
        ("CS", [class @ 0..=7]) => Some(class << 3),
        ("AF", [class @ 1..=4, drop @ 1..=3]) => Some(class << 3 | drop << 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_printed_in_the_longest_unit_that_it_fits() {
        for (period, rate) in [
            (Limit::SCALE * 20, "3/min"),
            (Limit::SCALE / 5, "5/sec"),
            (Limit::SCALE * 3_600, "1/hour"),
            (Limit::UNITS[0].1 / 7, "7/day"),
            (Limit::UNITS[2].1 / 90, "90/min"),
            (1, "10000/sec"),
            (Limit::default().period, "3/hour"),
        ] {
            assert_eq!(Limit { period, burst: 5 }.rate(), rate);
        }
    }

    #[test]
    fn classes_have_the_code_points_of_their_standards() {
        for (name, value) in [("CS6", 48), ("af21", 18), ("AF43", 38), ("EF", 46), ("BE", 0)] {
            assert_eq!(dscp_class(name), Some(value), "{name}");
        }
        for name in ["CS8", "AF51", "AF24", "EF1", "", "A", "CSx"] {
            assert_eq!(dscp_class(name), None, "{name}");
        }
    }
}
