//! Options of the matches of [`ExtraKind`]: which match has which, and how their
//! arguments read.

use firewall_common::{addr::Family, flow::Direction, rule::PortRange};

use super::{
    address,
    items::Item,
    lines::Word,
    options::Opt,
    values::{self, Parsed, list, number, wrong},
};
use crate::rules::{
    ast::Condition,
    extra::{
        ADDRESS_TYPES, CT_STATUSES, Comparison, ExtraKind, Fact, Limit, Masked, PacketType,
        TOS_NAME_MASK, TOS_NAMES, Way, dscp_class,
    },
    problem::{Problem, nearest},
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
    Uid,
    /// Known to be refused.
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
    Mode,
    Probability,
    Every,
    Packet,
    Limit,
    LimitBurst,
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
            Self::Uid | Self::Gid | Self::SocketExists => ExtraKind::Owner,
            Self::CtProtocol
            | Self::CtAddress(_)
            | Self::CtPort(_)
            | Self::CtStatus
            | Self::CtExpire
            | Self::CtDirection => ExtraKind::Conntrack,
            Self::Mss => ExtraKind::TcpMss,
            Self::RoutingType => ExtraKind::Routing,
            Self::Mode | Self::Probability | Self::Every | Self::Packet => ExtraKind::Statistic,
            Self::Limit | Self::LimitBurst => ExtraKind::Limit,
        }
    }

    /// Its place among the options of its match, as iptables prints them. Options that
    /// exclude one another share it.
    const fn rank(self) -> u8 {
        match self {
            Self::DestinationRange | Self::DestinationType | Self::SocketExists => 2,
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
        (ExtraKind::Routing, Family::Ipv4) => Some(
            Problem::new("-m rt in IPv4 rules").advise("put the rule among those of ip6tables"),
        ),
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
) -> Parsed<Vec<Condition<Fact>>> {
    match kind {
        ExtraKind::Statistic => return statistic(span, items).map(|fact| vec![fact]),
        ExtraKind::Limit => return limit(span, items).map(|fact| vec![fact]),
        _ => {}
    }
    let mut ranked = Vec::new();
    for item in items {
        let Opt::Extra(field) = item.opt else { continue };
        if ranked.iter().any(|(rank, _)| *rank == field.rank()) {
            return Err((item.whole_span(), twice(item)));
        }
        let value = fact(field, &item.args, family)?;
        ranked.push((field.rank(), Condition { negated: item.negated, value }));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|(_, fact)| fact).collect())
}

fn twice(item: &Item) -> Problem {
    Problem::new(format!("{} is a second test of the same", item.name))
        .advise("write one of them, or a second -m before it")
}

fn fact(field: Field, args: &[Word], family: Family) -> Parsed<Fact> {
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
        Field::Uid => uid(word).map(|(first, last)| Fact::Uid(first, last))?,
        Field::Gid => {
            let problem = Problem::new("the group of a packet's owner is not known here");
            return wrong(word, problem.advise("write --uid-owner with the users of the group"));
        }
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
        Field::RoutingType => {
            pair(word, "type", u32::MAX).map(|(first, last)| Fact::RoutingType(first, last))?
        }
        Field::SocketExists
        | Field::Mode
        | Field::Probability
        | Field::Every
        | Field::Packet
        | Field::Limit
        | Field::LimitBurst => Fact::SocketExists,
    })
}

/// `5`, `5:10`, `:10`, `5:`.
fn pair<T: TryFrom<u64> + Into<u64> + Copy>(word: &Word, what: &str, most: T) -> Parsed<(T, T)> {
    let text = &word.text;
    let (first, last) = match text.split_once(':') {
        Some((first, last)) => (first, last),
        None => (text.as_str(), text.as_str()),
    };
    let one = |piece: &str, open: u64| match piece {
        "" if text.contains(':') && text.len() > 1 => T::try_from(open).ok(),
        "" => None,
        _ => number(piece).filter(|value| *value <= most.into()).and_then(|v| T::try_from(v).ok()),
    };
    let (Some(first), Some(last)) = (one(first, 0), one(last, most.into())) else {
        let problem = Problem::new(format!("'{text}' is no {what} or range of them"));
        let most: u64 = most.into();
        return wrong(word, problem.advise(format!("write 0 to {most}, or two with : between")));
    };
    if first.into() > last.into() {
        let problem = Problem::new(format!("the range {text} is empty"));
        let (first, last): (u64, u64) = (first.into(), last.into());
        return wrong(word, problem.advise(format!("write {last}:{first}")));
    }
    Ok((first, last))
}

fn byte(word: &Word) -> Parsed<u8> {
    let value = number(&word.text).filter(|_| !word.text.is_empty());
    value.and_then(|value| u8::try_from(value).ok()).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no number of hops", word.text));
        (word.span(), problem.advise("write 0 to 255"))
    })
}

/// Decimal, or hexadecimal behind `0x`, or octal behind `0`, as iptables takes numbers.
fn word32(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
    }
    if text.len() > 1 && text.starts_with('0') {
        return u32::from_str_radix(text, 8).ok();
    }
    number(text).filter(|_| !text.is_empty()).and_then(|value| u32::try_from(value).ok())
}

/// `value` or `value/mask`.
fn masked(text: &str, most: u32) -> Option<Masked> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (word32(value)?, word32(mask)?),
        None => (word32(text)?, most),
    };
    (value <= most && mask <= most).then_some(Masked { value, mask })
}

fn mark(word: &Word) -> Parsed<Masked> {
    masked(&word.text, u32::MAX).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no mark", word.text));
        (word.span(), problem.advise("write a number, as 0x1, or number/mask"))
    })
}

fn tos(word: &Word) -> Parsed<Masked> {
    let text = &word.text;
    if let Some((_, value)) = TOS_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok(Masked { value: *value, mask: TOS_NAME_MASK });
    }
    masked(text, 0xff).ok_or_else(|| {
        let problem = Problem::new(format!("'{text}' is no type of service"));
        let near = nearest(text, TOS_NAMES.iter().map(|(name, _)| *name));
        (
            word.span(),
            match near {
                Some(near) => problem.did_you_mean(Some(near)),
                None => problem.advise("write a number as 0x10, or number/mask"),
            },
        )
    })
}

fn dscp(word: &Word) -> Parsed<u8> {
    word32(&word.text).filter(|value| *value < 64).map(|value| value as u8).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no DSCP", word.text));
        (word.span(), problem.advise("write 0 to 63 (0x3f), or a name behind --dscp-class"))
    })
}

fn class(word: &Word) -> Parsed<u8> {
    dscp_class(&word.text).ok_or_else(|| {
        let problem = Problem::new(format!("unknown DSCP class '{}'", word.text));
        (word.span(), problem.advise("write CS0 to CS7, AF11 to AF43, EF or BE"))
    })
}

fn mac(word: &Word) -> Parsed<[u8; 6]> {
    let is_pair = |piece: &&str| {
        (1..=2).contains(&piece.len()) && piece.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let pieces: Vec<_> = word.text.split(':').filter(is_pair).collect();
    let bytes: Option<Vec<u8>> =
        pieces.iter().map(|piece| u8::from_str_radix(piece, 16).ok()).collect();
    let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    bytes.filter(|_| word.text.split(':').count() == 6).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no Ethernet address", word.text));
        (word.span(), problem.advise("write it as in 00:00:5e:00:53:01"))
    })
}

fn packet_type(word: &Word) -> Parsed<PacketType> {
    Ok(match word.text.to_ascii_lowercase().as_str() {
        "unicast" | "host" => PacketType::Unicast,
        "broadcast" | "bcast" => PacketType::Broadcast,
        "multicast" | "mcast" => PacketType::Multicast,
        _ => {
            let problem = Problem::new(format!("unknown packet type '{}'", word.text));
            return wrong(word, problem.advise("write unicast, broadcast or multicast"));
        }
    })
}

/// Types that a routing table tells of, and addresses do not.
const UNTOLD_TYPES: [&str; 8] =
    ["UNSPEC", "ANYCAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW", "NAT", "XRESOLVE"];

fn address_types(word: &Word) -> Parsed<u32> {
    let mut types = 0;
    for (name, span) in list(word) {
        let upper = name.to_ascii_uppercase();
        match ADDRESS_TYPES.iter().find(|(known, _)| *known == upper) {
            Some((_, bit)) => types |= bit,
            None => return Err((span, unknown_type(name, &upper))),
        }
    }
    Ok(types)
}

fn unknown_type(name: &str, upper: &str) -> Problem {
    if UNTOLD_TYPES.contains(&upper) {
        return Problem::new(format!("the address type {upper} is not supported"))
            .advise("name the addresses with -s or -d");
    }
    let problem = Problem::new(format!("unknown address type '{name}'"));
    match nearest(upper, ADDRESS_TYPES.map(|(known, _)| known)) {
        Some(near) => problem.did_you_mean(Some(near)),
        None => problem.advise("write UNICAST, LOCAL, BROADCAST or MULTICAST"),
    }
}

fn uid(word: &Word) -> Parsed<(u32, u32)> {
    let text = &word.text;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let one = |text: &str| number(text).filter(|_| !text.is_empty()).map(u32::try_from);
    match (one(first), one(last)) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Ok((first, last)),
        (None, _) if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
            let problem = Problem::new(format!("'{text}' is a user name"));
            wrong(word, problem.advise(format!("write the number that `id -u {text}` tells")))
        }
        _ => {
            let problem = Problem::new(format!("'{text}' is no user or range of users"));
            wrong(word, problem.advise("write a number, or two with - between"))
        }
    }
}

fn statuses(word: &Word) -> Parsed<u32> {
    let mut statuses = 0;
    for (name, span) in list(word) {
        let upper = name.to_ascii_uppercase();
        match CT_STATUSES.iter().find(|(known, _)| *known == upper) {
            Some((_, bit)) => statuses |= bit,
            None if upper == "NONE" => {}
            None => {
                let problem = Problem::new(format!("unknown status '{name}'"));
                let problem = match nearest(&upper, CT_STATUSES.map(|(known, _)| known)) {
                    Some(near) => problem.did_you_mean(Some(near)),
                    None => problem.advise("write EXPECTED, SEEN_REPLY, ASSURED or CONFIRMED"),
                };
                return Err((span, problem));
            }
        }
    }
    Ok(statuses)
}

fn direction(word: &Word) -> Parsed<Direction> {
    match word.text.to_ascii_uppercase().as_str() {
        "ORIGINAL" => Ok(Direction::Original),
        "REPLY" => Ok(Direction::Reply),
        _ => {
            let problem = Problem::new(format!("unknown direction '{}'", word.text));
            wrong(word, problem.advise("write ORIGINAL or REPLY"))
        }
    }
}

/// The one item of a field, which may stand once.
fn only(items: &[Item], field: Field) -> Parsed<Option<&Item>> {
    let mut given = items.iter().filter(|item| item.opt == Opt::Extra(field));
    let first = given.next();
    match given.next() {
        Some(second) => Err((second.whole_span(), twice(second))),
        None => Ok(first),
    }
}

/// `--mode random --probability P` or `--mode nth --every N --packet P`.
fn statistic(span: Span, items: &[Item]) -> Parsed<Condition<Fact>> {
    let mode = only(items, Field::Mode)?;
    let probability = only(items, Field::Probability)?;
    let (every, packet) = (only(items, Field::Every)?, only(items, Field::Packet)?);
    let Some(mode) = mode else {
        let problem = Problem::new("-m statistic needs a mode");
        return Err((span, problem.advise("write --mode random or --mode nth behind it")));
    };
    let foreign = |item: Option<&Item>| match item {
        Some(item) => {
            let problem = Problem::new(format!("{} does not go with this mode", item.name));
            Err((item.span, problem.advise("take it out")))
        }
        None => Ok(()),
    };
    let needs = |what: &str| {
        let problem = Problem::new(format!("--mode {} needs {what}", mode.arg()));
        (mode.whole_span(), problem.advise(format!("write {what} behind it")))
    };
    match mode.arg() {
        "random" => {
            foreign(every)?;
            foreign(packet)?;
            let item = probability.ok_or_else(|| needs("--probability"))?;
            let value = Fact::Random(chance(&item.args[0])?);
            Ok(Condition { negated: item.negated, value })
        }
        "nth" => {
            foreign(probability)?;
            let item = every.ok_or_else(|| needs("--every"))?;
            let place = packet.ok_or_else(|| needs("--packet"))?;
            let value = nth(&item.args[0], &place.args[0])?;
            Ok(Condition { negated: item.negated, value })
        }
        other => {
            let problem = Problem::new(format!("unknown mode '{other}'"));
            Err((mode.value_span(), problem.advise("write random or nth")))
        }
    }
}

/// A probability as times in 2^31.
fn chance(word: &Word) -> Parsed<u32> {
    const ALWAYS: f64 = 2_147_483_648.0;
    let is_plain = word.text.bytes().all(|byte| byte.is_ascii_digit() || b".eE-".contains(&byte));
    let value =
        word.text.parse::<f64>().ok().filter(|value| is_plain && (0.0..=1.0).contains(value));
    value.map(|value| (value * ALWAYS).round() as u32).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no probability", word.text));
        (word.span(), problem.advise("write 0 to 1, as 0.5"))
    })
}

fn nth(every: &Word, packet: &Word) -> Parsed<Fact> {
    let count = word32(&every.text).filter(|count| *count > 0);
    let Some(count) = count else {
        let problem = Problem::new(format!("'{}' is no number of packets", every.text));
        return wrong(every, problem.advise("write 1 or more"));
    };
    match word32(&packet.text).filter(|place| *place < count) {
        Some(place) => Ok(Fact::Nth { every: count, packet: place }),
        None => {
            let problem = Problem::new(format!("'{}' is no place among {count}", packet.text));
            wrong(packet, problem.advise(format!("write 0 to {}", count - 1)))
        }
    }
}

/// `--limit RATE`, `--limit-burst PACKETS`, or both, or none.
fn limit(span: Span, items: &[Item]) -> Parsed<Condition<Fact>> {
    let mut limit = Limit::default();
    let (rate, burst) = (only(items, Field::Limit)?, only(items, Field::LimitBurst)?);
    if let Some(item) = rate {
        limit.period = period(&item.args[0])?;
    }
    if let Some(item) = burst {
        limit.burst = packets(&item.args[0])?;
    }
    if limit.period.checked_mul(limit.burst).is_none() {
        let span = rate.or(burst).map_or(span, Item::whole_span);
        let problem = Problem::new(format!("a burst of {} takes too long to earn", limit.burst));
        return Err((span, problem.advise("write a higher rate, or a smaller --limit-burst")));
    }
    Ok(Condition { negated: false, value: Fact::Limit(limit) })
}

/// `5`, `5/s`, `3/minute`: how long one packet takes.
fn period(word: &Word) -> Parsed<u32> {
    const NAMES: [(&str, usize); 4] = [("second", 3), ("minute", 2), ("hour", 1), ("day", 0)];
    let (count, unit) = word.text.split_once('/').unwrap_or((&word.text, "second"));
    let unit = unit.to_ascii_lowercase();
    let is_meant = |name: &str| !unit.is_empty() && name.starts_with(&unit);
    let unit = NAMES.iter().find(|(name, _)| is_meant(name));
    let count = word32(count).filter(|count| *count > 0);
    let (Some(count), Some((_, unit))) = (count, unit) else {
        let problem = Problem::new(format!("'{}' is no rate", word.text));
        return wrong(word, problem.advise("write as 5/second, 3/minute, 10/hour or 1/day"));
    };
    let (_, scale) = Limit::UNITS[*unit];
    match scale / count {
        0 => wrong(word, Problem::new(format!("the rate {} is too fast", word.text))),
        period => Ok(period),
    }
}

fn packets(word: &Word) -> Parsed<u32> {
    word32(&word.text).filter(|burst| (1..=10_000).contains(burst)).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no burst", word.text));
        (word.span(), problem.advise("write 1 to 10000 packets"))
    })
}
