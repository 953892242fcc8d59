//! Options of the matches of [`ExtraKind`]: which match has which, and how their
//! arguments read.

mod connlimit;
mod extension;
mod hashlimit;
mod recent;
mod text;
mod time;
mod together;
pub(super) mod words;

use firewall_common::{addr::Family, rule::PortRange};

use self::words::{
    address_types, byte, class, direction, dscp, gid, mac, mark, packet_type, pair, statuses, tos,
    uid,
};
pub(super) use self::{
    connlimit::ConnLimitField, extension::FragmentField, hashlimit::HashLimitField,
    recent::RecentField, text::TextField, time::TimeField,
};
use super::{
    address,
    items::Item,
    lines::Word,
    options::Opt,
    values::{self, Parsed},
};
use crate::rules::{
    ast::Condition,
    extra::{Comparison, ExtraKind, Fact, Way},
    problem::Problem,
    services::Services,
    source::Span,
};

/// An option of one of these matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Length,
    Ttl(Comparison),
    HopLimit(Comparison),
    Tos,
    Dscp,
    DscpClass,
    SourceRange,
    DestinationRange,
    Mac,
    PacketType,
    SourceType,
    DestinationType,
    Mark,
    CtMark,
    Uid,
    Gid,
    SocketExists,
    CtProtocol,
    CtAddress(Way),
    CtPort(Way),
    CtStatus,
    CtExpire,
    CtDirection,
    Mss,
    RoutingType,
    RoutingLeft,
    RoutingLength,
    Mode,
    Probability,
    Every,
    Packet,
    Limit,
    LimitBurst,
    Recent(RecentField),
    HashLimit(HashLimitField),
    ConnLimit(ConnLimitField),
    Time(TimeField),
    Text(TextField),
    Header,
    Soft,
    Fragment(FragmentField),
}

impl Field {
    /// The match that it belongs to.
    pub(super) const fn kind(self) -> ExtraKind {
        match self {
            Self::Length => ExtraKind::Length,
            Self::Ttl(_) => ExtraKind::Ttl,
            Self::HopLimit(_) => ExtraKind::HopLimit,
            Self::Tos => ExtraKind::Tos,
            Self::Dscp | Self::DscpClass => ExtraKind::Dscp,
            Self::SourceRange | Self::DestinationRange => ExtraKind::IpRange,
            Self::Mac => ExtraKind::Mac,
            Self::PacketType => ExtraKind::PacketType,
            Self::SourceType | Self::DestinationType => ExtraKind::AddressType,
            Self::Mark => ExtraKind::Mark,
            Self::CtMark => ExtraKind::ConnMark,
            Self::Uid | Self::Gid | Self::SocketExists => ExtraKind::Owner,
            Self::CtProtocol
            | Self::CtAddress(_)
            | Self::CtPort(_)
            | Self::CtStatus
            | Self::CtExpire
            | Self::CtDirection => ExtraKind::Conntrack,
            Self::Mss => ExtraKind::TcpMss,
            Self::RoutingType | Self::RoutingLeft | Self::RoutingLength => ExtraKind::Routing,
            Self::Mode | Self::Probability | Self::Every | Self::Packet => ExtraKind::Statistic,
            Self::Limit | Self::LimitBurst => ExtraKind::Limit,
            Self::Recent(_) => ExtraKind::Recent,
            Self::HashLimit(_) => ExtraKind::HashLimit,
            Self::ConnLimit(_) => ExtraKind::ConnLimit,
            Self::Time(_) => ExtraKind::Time,
            Self::Text(_) => ExtraKind::Text,
            Self::Header | Self::Soft => ExtraKind::HeaderChain,
            Self::Fragment(_) => ExtraKind::Fragment,
        }
    }

    /// Its place among the options of its match, as iptables prints them. Options that
    /// exclude one another share it.
    const fn rank(self) -> u8 {
        match self {
            Self::DestinationRange | Self::DestinationType | Self::SocketExists => 2,
            Self::RoutingLeft => 2,
            Self::RoutingLength => 3,
            Self::CtAddress(Way::OriginalSource) => 2,
            Self::CtAddress(Way::OriginalDestination) => 3,
            Self::CtAddress(Way::ReplySource) => 4,
            Self::CtAddress(Way::ReplyDestination) => 5,
            Self::CtPort(Way::OriginalSource) => 6,
            Self::CtPort(Way::OriginalDestination) => 7,
            Self::CtPort(Way::ReplySource) => 8,
            Self::CtPort(Way::ReplyDestination) => 9,
            Self::CtStatus => 10,
            Self::CtExpire => 11,
            Self::CtDirection => 12,
            _ => 1,
        }
    }
}

/// Where a match cannot stand: it belongs to one family, or needs TCP.
pub(super) fn misplaced(kind: ExtraKind, family: Family, is_tcp: bool) -> Option<Problem> {
    match (kind, family) {
        (ExtraKind::Ttl, Family::Ipv6) => {
            Some(Problem::new("-m ttl in IPv6 rules").advise("write -m hl --hl-eq"))
        }
        (ExtraKind::HopLimit, Family::Ipv4) => {
            Some(Problem::new("-m hl in IPv4 rules").advise("write -m ttl --ttl-eq"))
        }
        (ExtraKind::Fragment, Family::Ipv4) => {
            Some(Problem::new("-m frag in IPv4 rules").advise("write -f"))
        }
        (ExtraKind::Routing | ExtraKind::HeaderChain, Family::Ipv4) => {
            let problem = Problem::new(format!("-m {} in IPv4 rules", kind.name()));
            Some(problem.advise("put the rule among those of ip6tables"))
        }
        (ExtraKind::TcpMss, _) if !is_tcp => {
            Some(Problem::new("-m tcpmss needs -p tcp").advise("write -p tcp before it"))
        }
        _ => None,
    }
}

/// Where a match cannot stand because of its chain, as in iptables.
pub(super) fn misplaced_in(kind: ExtraKind, chain: &str) -> Option<Problem> {
    match (kind, chain) {
        (ExtraKind::Owner, "INPUT" | "FORWARD" | "PREROUTING") => Some(
            Problem::new(format!("-m owner does not work in {chain}"))
                .advise("put the rule into OUTPUT: only there a packet has an owner"),
        ),
        (ExtraKind::Mac, "OUTPUT" | "POSTROUTING") => Some(
            Problem::new(format!("-m mac does not work in {chain}"))
                .advise("put the rule into INPUT or FORWARD"),
        ),
        _ => None,
    }
}

/// What the options of one match ask for, in the order in which they are printed.
pub(super) fn read(
    kind: ExtraKind,
    span: Span,
    items: &[Item],
    family: Family,
    services: &dyn Services,
) -> Parsed<Vec<Condition<Fact>>> {
    match kind {
        ExtraKind::Statistic => return together::statistic(span, items).map(|fact| vec![fact]),
        ExtraKind::Limit => return together::limit(items).map(|fact| vec![fact]),
        ExtraKind::Recent => {
            return recent::recent(span, items, family).map(|fact| vec![fact]);
        }
        ExtraKind::HashLimit => {
            return hashlimit::hashlimit(span, items, family).map(|fact| vec![fact]);
        }
        ExtraKind::ConnLimit => {
            return connlimit::connlimit(span, items, family).map(|fact| vec![fact]);
        }
        ExtraKind::Time => return time::time(items).map(|fact| vec![fact]),
        ExtraKind::Text => return text::text(span, items).map(|fact| vec![fact]),
        ExtraKind::HeaderChain => {
            return extension::header_chain(span, items).map(|fact| vec![fact]);
        }
        ExtraKind::Fragment => return extension::fragment(items).map(|fact| vec![fact]),
        _ => {}
    }
    let mut ranked = Vec::new();
    for item in items {
        let Opt::Extra(field) = item.opt else { continue };
        if ranked.iter().any(|(rank, _)| *rank == field.rank()) {
            return Err((item.whole_span(), twice(item)));
        }
        let value = fact(field, &item.args, family, services)?;
        ranked.push((field.rank(), Condition { negated: item.negated, value }));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|(_, fact)| fact).collect())
}

fn twice(item: &Item) -> Problem {
    Problem::new(format!("{} is a second test of the same", item.name))
        .advise("write one of them, or a second -m before it")
}

fn fact(field: Field, args: &[Word], family: Family, services: &dyn Services) -> Parsed<Fact> {
    let Some(word) = args.first() else { return Ok(Fact::SocketExists) };
    Ok(match field {
        Field::Length => pair(word, "length", u16::MAX).map(|(a, b)| Fact::Length(a, b))?,
        Field::Ttl(how) | Field::HopLimit(how) => Fact::Ttl(how, byte(word)?),
        Field::Tos => Fact::Tos(tos(word)?),
        Field::Dscp => Fact::Dscp(dscp(word)?),
        Field::DscpClass => Fact::Dscp(class(word)?),
        Field::SourceRange => {
            let (first, last) = address::range(word, family)?;
            Fact::SourceRange(first, last)
        }
        Field::DestinationRange => {
            let (first, last) = address::range(word, family)?;
            Fact::DestinationRange(first, last)
        }
        Field::Mac => Fact::Mac(mac(word)?),
        Field::PacketType => Fact::PacketType(packet_type(word)?),
        Field::SourceType => Fact::SourceType(address_types(word)?),
        Field::DestinationType => Fact::DestinationType(address_types(word)?),
        Field::Mark => Fact::Mark(mark(word)?),
        Field::CtMark => Fact::CtMark(mark(word)?),
        Field::Uid => uid(word, services).map(|(first, last)| Fact::Uid(first, last))?,
        Field::Gid => gid(word, services).map(|(first, last)| Fact::Gid(first, last))?,
        Field::CtProtocol => Fact::CtProtocol(values::protocol(word)?.unwrap_or(0)),
        Field::CtAddress(way) => Fact::CtAddress(way, address::network_of(word, family)?),
        Field::CtPort(way) => {
            let (first, last) = pair(word, "port", u16::MAX)?;
            Fact::CtPort(way, PortRange { first, last })
        }
        Field::CtStatus => Fact::CtStatus(statuses(word)?),
        Field::CtExpire => {
            pair(word, "time", u32::MAX).map(|(first, last)| Fact::CtExpire(first, last))?
        }
        Field::CtDirection => Fact::CtDirection(direction(word)?),
        Field::Mss => pair(word, "segment size", u16::MAX).map(|(a, b)| Fact::Mss(a, b))?,
        Field::RoutingLeft => {
            pair(word, "number of nodes", u32::MAX).map(|(a, b)| Fact::RoutingLeft(a, b))?
        }
        Field::RoutingLength => Fact::RoutingLength(values::upto(word, "length", u32::MAX)?),
        Field::RoutingType => {
            pair(word, "type", u32::MAX).map(|(first, last)| Fact::RoutingType(first, last))?
        }
        Field::SocketExists
        | Field::Mode
        | Field::Probability
        | Field::Every
        | Field::Packet
        | Field::Limit
        | Field::LimitBurst
        | Field::Recent(_)
        | Field::HashLimit(_)
        | Field::ConnLimit(_)
        | Field::Time(_)
        | Field::Text(_)
        | Field::Header
        | Field::Soft
        | Field::Fragment(_) => Fact::SocketExists,
    })
}
