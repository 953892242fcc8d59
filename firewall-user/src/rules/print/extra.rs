//! Matches with options of their own, as options and as a listing shows them.

use std::{
    fmt::{self, Display},
    net::IpAddr,
};

use firewall_common::{flow::Direction, rule::PortRange};

use super::{
    extension::{fragment, header_chain, listed_fragment, listed_header_chain},
    keeping::{connlimit, hashlimit, listed_connlimit, listed_hashlimit, listed_recent, recent},
    spec::{States, listed_address},
    text::{contained, listed_text},
    time::{listed_time, time},
};
use crate::rules::{
    ast::Condition,
    extra::{
        ADDRESS_TYPES, CT_STATUSES, Comparison, Extra, ExtraKind, Fact, Limit, Masked,
        TOS_NAME_MASK, TOS_NAMES,
    },
    services::Services,
};

/// `-m NAME` and its options.
pub(super) fn spec(extra: &Extra) -> String {
    let options = extra.facts.iter().map(|fact| option(extra.kind, fact));
    let options: Vec<_> = options.filter(|option| !option.is_empty()).collect();
    format!("-m {} {}", extra.kind.name(), options.join(" ")).trim_end().to_owned()
}

fn option(kind: ExtraKind, Condition { negated, value }: &Condition<Fact>) -> String {
    let not = if *negated { "! " } else { "" };
    match value {
        Fact::Ttl(how, hops) => {
            let how = match how {
                Comparison::Equal => "eq",
                Comparison::Below => "lt",
                Comparison::Above => "gt",
            };
            format!("{not}--{}-{how} {hops}", kind.name())
        }
        Fact::SocketExists => format!("{not}--socket-exists"),
        Fact::Random(_) => format!("--mode random {not}--probability {}", Value(value)),
        Fact::Nth { every, packet } => {
            format!("--mode nth {not}--every {every} --packet {packet}")
        }
        Fact::Limit(limit @ Limit { burst: Limit::DEFAULT_BURST, .. }) => {
            format!("--limit {}", limit.rate())
        }
        Fact::Limit(limit) => format!("--limit {} --limit-burst {}", limit.rate(), limit.burst),
        Fact::Recent(one) => recent(one, not),
        Fact::HashLimit(one) => hashlimit(one),
        Fact::ConnLimit(one) => connlimit(*one),
        Fact::Time(one) => time(one),
        Fact::Text(one) => contained(one, not),
        Fact::HeaderChain(one) => header_chain(one),
        Fact::Fragment(one) => fragment(one),
        _ => format!("{not}--{} {}", name(value), Value(value)),
    }
}

/// The option of a fact that has one to itself.
fn name(fact: &Fact) -> String {
    match fact {
        Fact::CtAddress(..)
        | Fact::CtState(_)
        | Fact::CtProtocol(_)
        | Fact::CtStatus(_)
        | Fact::CtExpire(..)
        | Fact::CtDirection(_)
        | Fact::CtPort(..) => ct_name(fact),
        Fact::Length(..) => "length".to_owned(),
        Fact::Tos(_) => "tos".to_owned(),
        Fact::Dscp(_) => "dscp".to_owned(),
        Fact::SourceRange(..) => "src-range".to_owned(),
        Fact::DestinationRange(..) => "dst-range".to_owned(),
        Fact::Mac(_) => "mac-source".to_owned(),
        Fact::PacketType(_) => "pkt-type".to_owned(),
        Fact::SourceType(_) => "src-type".to_owned(),
        Fact::DestinationType(_) => "dst-type".to_owned(),
        Fact::Mark(_) | Fact::CtMark(_) => "mark".to_owned(),
        Fact::Uid(..) => "uid-owner".to_owned(),
        Fact::Gid(..) => "gid-owner".to_owned(),
        Fact::Mss(..) => "mss".to_owned(),
        Fact::RoutingType(..) => "rt-type".to_owned(),
        Fact::RoutingLeft(..) => "rt-segsleft".to_owned(),
        Fact::RoutingLength(_) => "rt-len".to_owned(),
        Fact::Ttl(..)
        | Fact::SocketExists
        | Fact::Random(_)
        | Fact::Nth { .. }
        | Fact::Limit(_)
        | Fact::Recent(_)
        | Fact::HashLimit(_)
        | Fact::ConnLimit(_)
        | Fact::Time(_)
        | Fact::Text(_)
        | Fact::HeaderChain(_)
        | Fact::Fragment(_) => String::new(),
    }
}

fn ct_name(fact: &Fact) -> String {
    match fact {
        Fact::CtState(_) => "ctstate".to_owned(),
        Fact::CtProtocol(_) => "ctproto".to_owned(),
        Fact::CtAddress(way, _) => format!("ct{}", way.name()),
        Fact::CtPort(way, _) => format!("ct{}port", way.name()),
        Fact::CtStatus(_) => "ctstatus".to_owned(),
        Fact::CtExpire(..) => "ctexpire".to_owned(),
        _ => "ctdir".to_owned(),
    }
}

/// What stands behind the addresses of a listing, with a blank before it; where names are told,
/// with those for numbers that have one.
pub(super) fn remark(extra: &Extra, names: Option<&dyn Services>) -> String {
    let facts = extra.facts.iter().map(|fact| listed(extra.kind, fact, names));
    let text: String = facts.collect();
    match extra.kind {
        ExtraKind::AddressType => format!(" ADDRTYPE match{text}"),
        ExtraKind::Routing => format!(" rt{text}"),
        _ => text,
    }
}

fn listed(kind: ExtraKind, fact: &Condition<Fact>, names: Option<&dyn Services>) -> String {
    let Condition { negated, value } = fact;
    let text = Value(value);
    // Some stand right before what they negate, some apart, some before the name.
    let (tight, apart) = if *negated { ("!", "! ") } else { ("", "") };
    match value {
        Fact::Length(..) => format!(" length {tight}{text}"),
        Fact::Ttl(how, hops) => {
            let name = kind.name().to_ascii_uppercase();
            let sign = match how {
                Comparison::Equal if *negated => "!=",
                Comparison::Equal => "==",
                Comparison::Below => "<",
                Comparison::Above => ">",
            };
            format!(" {name} match {name} {sign} {hops}")
        }
        Fact::Tos(tos) => match tos_name(*tos).filter(|_| names.is_some()) {
            Some(name) => format!(" tos match{tight} {name}"),
            None => format!(" tos match{tight}{text}"),
        },
        Fact::Dscp(_) => format!(" DSCP match {tight}{text}"),
        Fact::SourceRange(..) => format!(" source IP range {apart}{text}"),
        Fact::DestinationRange(..) => format!(" destination IP range {apart}{text}"),
        Fact::Mac(_) => format!(" MAC {apart}{text}"),
        Fact::PacketType(_) => format!(" PKTTYPE {}= {text}", if *negated { "!" } else { "" }),
        Fact::SourceType(_) => format!(" src-type {tight}{text}"),
        Fact::DestinationType(_) => format!(" dst-type {tight}{text}"),
        Fact::Mark(_) => format!(" mark match {apart}{text}"),
        // A blank stands where the '!' would.
        Fact::CtMark(_) if *negated => format!(" connmark match ! {text}"),
        Fact::CtMark(_) => format!(" connmark match  {text}"),
        Fact::Uid(first, last) => {
            let one = names.filter(|_| first == last);
            let name = one.and_then(|names| names.user_name(*first));
            format!(" {apart}owner UID match {}", name.unwrap_or_else(|| text.to_string()))
        }
        Fact::Gid(first, last) => {
            let one = names.filter(|_| first == last);
            let name = one.and_then(|names| names.group_name(*first));
            format!(" {apart}owner GID match {}", name.unwrap_or_else(|| text.to_string()))
        }
        Fact::SocketExists => format!(" {apart}owner socket exists"),
        Fact::Mss(..) => format!(" tcpmss match {tight}{text}"),
        Fact::RoutingType(first, last) if first == last => format!(" type:{tight}{first}"),
        Fact::RoutingType(first, last) => format!(" types:{tight}{first}:{last}"),
        Fact::RoutingLeft(first, last) if first == last => format!(" segsleft:{tight}{first}"),
        Fact::RoutingLeft(first, last) => format!(" segslefts:{tight}{first}:{last}"),
        Fact::RoutingLength(bytes) => format!(" length:{tight}{bytes}"),
        Fact::Random(_) => format!(" statistic mode random {apart}probability {text}"),
        Fact::Nth { every, packet: 0 } => format!(" statistic mode nth {apart}every {every}"),
        Fact::Nth { every, packet } => {
            format!(" statistic mode nth {apart}every {every} packet {packet}")
        }
        Fact::Limit(limit) => format!(" limit: avg {} burst {}", limit.rate(), limit.burst),
        Fact::Recent(one) => listed_recent(one, apart),
        Fact::HashLimit(one) => listed_hashlimit(one),
        Fact::ConnLimit(one) => listed_connlimit(*one),
        Fact::Time(one) => listed_time(one),
        Fact::Text(one) => listed_text(one, apart),
        Fact::HeaderChain(one) => listed_header_chain(one, names.is_some()),
        Fact::Fragment(one) => listed_fragment(one),
        _ => format!(" {apart}{} {text}", ct_name(value)),
    }
}

fn tos_name(Masked { value, mask }: Masked) -> Option<&'static str> {
    let named = TOS_NAMES.iter().find(|(_, known)| *known == value && mask == TOS_NAME_MASK);
    named.map(|(name, _)| *name)
}

/// What a fact asks for, as both forms write it.
struct Value<'a>(&'a Fact);

impl Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fact::Length(first, last) | Fact::Mss(first, last) => pair(f, first, last, ':'),
            Fact::CtPort(_, PortRange { first, last }) => pair(f, first, last, ':'),
            Fact::RoutingLength(bytes) => bytes.fmt(f),
            Fact::CtExpire(first, last)
            | Fact::RoutingType(first, last)
            | Fact::RoutingLeft(first, last) => pair(f, first, last, ':'),
            Fact::Uid(first, last) | Fact::Gid(first, last) => pair(f, first, last, '-'),
            Fact::Tos(Masked { value, mask }) => write!(f, "{value:#04x}/{mask:#04x}"),
            Fact::Dscp(value) => write!(f, "{value:#04x}"),
            Fact::SourceRange(first, last) | Fact::DestinationRange(first, last) => {
                range(f, first, last)
            }
            Fact::Mac([a, b, c, d, e, g]) => {
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Fact::PacketType(kind) => f.write_str(kind.name()),
            Fact::SourceType(types) | Fact::DestinationType(types) => {
                f.write_str(&names(*types, &ADDRESS_TYPES))
            }
            Fact::Mark(Masked { value, mask: u32::MAX })
            | Fact::CtMark(Masked { value, mask: u32::MAX }) => write!(f, "{value:#x}"),
            Fact::Mark(Masked { value, mask }) | Fact::CtMark(Masked { value, mask }) => {
                write!(f, "{value:#x}/{mask:#x}")
            }
            Fact::CtState(states) => States(*states).fmt(f),
            Fact::CtProtocol(protocol) => protocol.fmt(f),
            Fact::CtAddress(_, network) => f.write_str(&listed_address(network)),
            Fact::CtStatus(0) => f.write_str("NONE"),
            Fact::CtStatus(status) => f.write_str(&names(*status, &CT_STATUSES)),
            Fact::CtDirection(Direction::Original) => f.write_str("ORIGINAL"),
            Fact::CtDirection(Direction::Reply) => f.write_str("REPLY"),
            Fact::Random(times) => write!(f, "{:.11}", f64::from(*times) / 2_147_483_648.0),
            Fact::Ttl(..)
            | Fact::SocketExists
            | Fact::Nth { .. }
            | Fact::Limit(_)
            | Fact::Recent(_)
            | Fact::HashLimit(_)
            | Fact::ConnLimit(_)
            | Fact::Time(_)
            | Fact::Text(_)
            | Fact::HeaderChain(_)
            | Fact::Fragment(_) => Ok(()),
        }
    }
}

fn pair<T: Display + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    first: &T,
    last: &T,
    between: char,
) -> fmt::Result {
    if first == last { first.fmt(f) } else { write!(f, "{first}{between}{last}") }
}

fn range(f: &mut fmt::Formatter<'_>, first: &IpAddr, last: &IpAddr) -> fmt::Result {
    write!(f, "{first}-{last}")
}

pub(super) fn names(bits: u32, known: &[(&'static str, u32)]) -> String {
    let set = known.iter().filter(|(_, bit)| bits & bit != 0);
    set.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}
