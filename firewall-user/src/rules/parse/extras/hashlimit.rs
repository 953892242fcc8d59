//! `-m hashlimit`: options that say something together only.

use firewall_common::addr::Family;

use super::{Field, recent::list_name, together::only, words::word32};
use crate::rules::{
    ast::Condition,
    extra::{Fact, HashLimit, KeyedTable, MODES, Rate},
    parse::{
        items::Item,
        lines::Word,
        options::Opt,
        values::{Parsed, list, number, wrong},
    },
    problem::{Problem, nearest},
    source::Span,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules::parse) enum HashLimitField {
    UpTo,
    Above,
    Burst,
    Mode,
    Name,
    SrcMask,
    DstMask,
    Size,
    Max,
    GcInterval,
    Expire,
}

/// What all options of one `-m hashlimit` ask for.
pub(super) fn hashlimit(span: Span, items: &[Item], family: Family) -> Parsed<Condition<Fact>> {
    let one = |field| only(items, Field::HashLimit(field));
    let (rate_item, is_above) = limit(span, items)?;
    let Some(name) = one(HashLimitField::Name)? else {
        let problem = Problem::new("-m hashlimit needs a name");
        return Err((span, problem.advise("write --hashlimit-name NAME behind it")));
    };
    let burst = one(HashLimitField::Burst)?.map(|item| &item.args[0]);
    let rate = rate(&rate_item.args[0], burst)?;
    let word = |field, what| match one(field)? {
        Some(item) => milliseconds(&item.args[0], what).map(Some),
        None => Ok(None),
    };
    let bits = |field| match one(field)? {
        Some(item) => mask_bits(&item.args[0], family),
        None => Ok(all_bits(family)),
    };
    let table = KeyedTable {
        size: word(HashLimitField::Size, "number of buckets")?,
        max: word(HashLimitField::Max, "number of entries")?,
        gcinterval: word(HashLimitField::GcInterval, "time")?,
        expire: word(HashLimitField::Expire, "time")?
            .filter(|time| rate.default_expire() != Some(*time)),
    };
    let value = Fact::HashLimit(HashLimit {
        name: list_name(&name.args[0])?,
        is_above,
        rate,
        mode: one(HashLimitField::Mode)?.map_or(Ok(0), |item| modes(&item.args[0]))?,
        src_mask: bits(HashLimitField::SrcMask)?,
        dst_mask: bits(HashLimitField::DstMask)?,
        whole: all_bits(family),
        table,
    });
    Ok(Condition { negated: false, value })
}

/// The option with the rate, and whether it asks for what is above.
fn limit(span: Span, items: &[Item]) -> Parsed<(&Item, bool)> {
    let mut given = items.iter().filter_map(|item| match item.opt {
        Opt::Extra(Field::HashLimit(HashLimitField::UpTo)) => Some((item, item.negated)),
        Opt::Extra(Field::HashLimit(HashLimitField::Above)) => Some((item, !item.negated)),
        _ => None,
    });
    let Some(first) = given.next() else {
        let problem = Problem::new("-m hashlimit does nothing by itself");
        let advice = "write --hashlimit-upto or --hashlimit-above behind it";
        return Err((span, problem.advise(advice)));
    };
    match given.next() {
        Some((second, _)) => {
            let problem = Problem::new(format!("{} is a second rate", second.name));
            Err((second.span, problem.advise("write one of them")))
        }
        None => Ok(first),
    }
}

fn rate(word: &Word, burst: Option<&Word>) -> Parsed<Rate> {
    if let Some(per_second) =
        word.text.strip_suffix("/s").and_then(bytes).filter(|_| is_bytes(&word.text))
    {
        let burst_word = burst;
        let burst = burst.map_or(Ok(0), |word| {
            bytes(&word.text).ok_or_else(|| {
                let problem = Problem::new(format!("'{}' is no burst of bytes", word.text));
                (word.span(), problem.advise("write it as 1mb, 512kb or 2000b"))
            })
        })?;
        return match (per_second, burst_word) {
            (0, _) => {
                wrong(word, Problem::new("the rate is nothing").advise("write -j DROP alone"))
            }
            (_, Some(word)) if burst < per_second => {
                let problem = Problem::new("the burst is smaller than the rate of a second");
                wrong(word, problem.advise(format!("write {per_second}b or more")))
            }
            _ => Ok(Rate::Bytes { per_second, burst }),
        };
    }
    let burst = burst.map_or(Ok(Rate::DEFAULT_BURST), packets)?;
    Ok(Rate::Packets { period: period(word)?, burst })
}

/// `512kb/s`: a rate of packets has no letter in front of its slash.
fn is_bytes(text: &str) -> bool {
    text.trim_end_matches("/s").ends_with(['b', 'B'])
}

/// `100b`, `512kb`, `1mb`.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.strip_suffix('b')?;
    let (digits, unit) = match digits.strip_suffix('m') {
        Some(digits) => (digits, 1 << 20),
        None => digits.strip_suffix('k').map_or((digits, 1), |digits| (digits, 1 << 10)),
    };
    let count = number(digits).filter(|_| !digits.is_empty())?.checked_mul(unit)?;
    (count <= u64::from(u32::MAX)).then_some(count)
}

/// `5`, `5/sec`, `5/minute`, `5/h`: microseconds for one packet.
fn period(word: &Word) -> Parsed<u64> {
    const NAMES: [(&str, usize); 4] = [("second", 3), ("minute", 2), ("hour", 1), ("day", 0)];
    let (count, unit) = word.text.split_once('/').unwrap_or((&word.text, "second"));
    let unit = unit.to_ascii_lowercase();
    let unit = NAMES.iter().find(|(name, _)| !unit.is_empty() && name.starts_with(&unit));
    let count = number(count).filter(|count| *count > 0);
    let (Some(count), Some((_, unit))) = (count, unit) else {
        let problem = Problem::new(format!("'{}' is no rate", word.text));
        let advice = "write as 5/second, 3/minute, 10/hour, 1/day or 512kb/s";
        return wrong(word, problem.advise(advice));
    };
    match Rate::units()[*unit].1 / count {
        0 => wrong(word, Problem::new(format!("the rate {} is too fast", word.text))),
        period => Ok(period),
    }
}

fn packets(word: &Word) -> Parsed<u32> {
    word32(&word.text).filter(|burst| (1..=Rate::MOST_BURST).contains(burst)).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no burst", word.text));
        (word.span(), problem.advise(format!("write 1 to {} packets", Rate::MOST_BURST)))
    })
}

fn modes(word: &Word) -> Parsed<u8> {
    if word.text == "none" {
        return Ok(0);
    }
    let mut bits = 0;
    for (name, span) in list(word) {
        match MODES.iter().find(|(known, _)| *known == name) {
            Some((_, bit)) => bits |= bit,
            None => {
                let problem = Problem::new(format!("unknown mode '{name}'"));
                let problem = match nearest(name, MODES.map(|(known, _)| known)) {
                    Some(near) => problem.did_you_mean(Some(near)),
                    None => problem.advise("write srcip, srcport, dstip, dstport, or none"),
                };
                return Err((span, problem));
            }
        }
    }
    Ok(bits)
}

pub(super) const fn all_bits(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    }
}

pub(super) fn mask_bits(word: &Word, family: Family) -> Parsed<u8> {
    let most = all_bits(family);
    let length = number(&word.text).filter(|_| !word.text.is_empty());
    length.and_then(|length| u8::try_from(length).ok()).filter(|length| *length <= most).ok_or_else(
        || {
            let problem = Problem::new(format!("'{}' is no length of a mask", word.text));
            (word.span(), problem.advise(format!("write 0 to {most}")))
        },
    )
}

fn milliseconds(word: &Word, what: &str) -> Parsed<u32> {
    word32(&word.text).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no {what}", word.text));
        (word.span(), problem.advise("write a number"))
    })
}
