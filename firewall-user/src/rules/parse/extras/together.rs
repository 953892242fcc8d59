//! `-m statistic` and `-m limit`: options that say something together only.

use super::{Field, twice, words::word32};
use crate::rules::{
    ast::Condition,
    extra::{Fact, Limit},
    parse::{
        items::Item,
        lines::Word,
        options::Opt,
        values::{Parsed, wrong},
    },
    problem::Problem,
    source::Span,
};

/// The one item of a field, which may stand once.
pub(super) fn only(items: &[Item], field: Field) -> Parsed<Option<&Item>> {
    let mut given = items.iter().filter(|item| item.opt == Opt::Extra(field));
    let first = given.next();
    match given.next() {
        Some(second) => Err((second.whole_span(), twice(second))),
        None => Ok(first),
    }
}

/// `--mode random --probability P` or `--mode nth --every N --packet P`.
pub(super) fn statistic(span: Span, items: &[Item]) -> Parsed<Condition<Fact>> {
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
pub(super) fn limit(items: &[Item]) -> Parsed<Condition<Fact>> {
    let mut limit = Limit::default();
    let (rate, burst) = (only(items, Field::Limit)?, only(items, Field::LimitBurst)?);
    if let Some(item) = rate {
        limit.period = period(&item.args[0])?;
    }
    if let Some(item) = burst {
        limit.burst = packets(&item.args[0])?;
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
