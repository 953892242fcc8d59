//! Arguments of these options: numbers, ranges, marks, names.

use firewall_common::flow::Direction;

use crate::rules::{
    extra::{ADDRESS_TYPES, CT_STATUSES, Masked, PacketType, TOS_NAME_MASK, TOS_NAMES, dscp_class},
    parse::{
        lines::Word,
        values::{Parsed, list, number, wrong},
    },
    problem::{Problem, nearest},
    services::Services,
};

/// `5`, `5:10`, `:10`, `5:`.
pub(super) fn pair<T: TryFrom<u64> + Into<u64> + Copy>(
    word: &Word,
    what: &str,
    most: T,
) -> Parsed<(T, T)> {
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

pub(in crate::rules::parse) fn byte(word: &Word) -> Parsed<u8> {
    let value = number(&word.text).filter(|_| !word.text.is_empty());
    value.and_then(|value| u8::try_from(value).ok()).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no number of hops", word.text));
        (word.span(), problem.advise("write 0 to 255"))
    })
}

/// Decimal, or hexadecimal behind `0x`, or octal behind `0`, as iptables takes numbers.
pub(in crate::rules::parse) fn word32(text: &str) -> Option<u32> {
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

pub(in crate::rules::parse) fn mark(word: &Word) -> Parsed<Masked> {
    masked(&word.text, u32::MAX).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no mark", word.text));
        (word.span(), problem.advise("write a number, as 0x1, or number/mask"))
    })
}

pub(in crate::rules::parse) fn tos(word: &Word) -> Parsed<Masked> {
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

pub(in crate::rules::parse) fn dscp(word: &Word) -> Parsed<u8> {
    word32(&word.text).filter(|value| *value < 64).map(|value| value as u8).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no DSCP", word.text));
        (word.span(), problem.advise("write 0 to 63 (0x3f), or a name behind --dscp-class"))
    })
}

pub(in crate::rules::parse) fn class(word: &Word) -> Parsed<u8> {
    dscp_class(&word.text).ok_or_else(|| {
        let problem = Problem::new(format!("unknown DSCP class '{}'", word.text));
        (word.span(), problem.advise("write CS0 to CS7, AF11 to AF43, EF or BE"))
    })
}

pub(super) fn mac(word: &Word) -> Parsed<[u8; 6]> {
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

pub(super) fn packet_type(word: &Word) -> Parsed<PacketType> {
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

pub(super) fn address_types(word: &Word) -> Parsed<u32> {
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

pub(super) fn uid(word: &Word, services: &dyn Services) -> Parsed<(u32, u32)> {
    numbers_or_name(word, "user", |name| services.user(name))
}

pub(super) fn gid(word: &Word, services: &dyn Services) -> Parsed<(u32, u32)> {
    numbers_or_name(word, "group", |name| services.group(name))
}

/// `5`, `5-10`, or a name that stands for one number.
fn numbers_or_name(
    word: &Word,
    what: &str,
    named: impl Fn(&str) -> Option<u32>,
) -> Parsed<(u32, u32)> {
    let text = &word.text;
    if let Some(number) = named(text) {
        return Ok((number, number));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let one = |text: &str| number(text).filter(|_| !text.is_empty()).map(u32::try_from);
    match (one(first), one(last)) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Ok((first, last)),
        (None, _) if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
            let problem = Problem::new(format!("there is no {what} '{text}' here"));
            wrong(word, problem.advise("write a name that this machine knows, or a number"))
        }
        _ => {
            let problem = Problem::new(format!("'{text}' is no {what} or range of them"));
            wrong(word, problem.advise("write a number, or two with - between"))
        }
    }
}

pub(super) fn statuses(word: &Word) -> Parsed<u32> {
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

pub(super) fn direction(word: &Word) -> Parsed<Direction> {
    match word.text.to_ascii_uppercase().as_str() {
        "ORIGINAL" => Ok(Direction::Original),
        "REPLY" => Ok(Direction::Reply),
        _ => {
            let problem = Problem::new(format!("unknown direction '{}'", word.text));
            wrong(word, problem.advise("write ORIGINAL or REPLY"))
        }
    }
}
