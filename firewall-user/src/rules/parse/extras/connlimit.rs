//! `-m connlimit`: options that say something together only.

use firewall_common::{addr::Family, extra::connections::MAX_LIMIT};

use super::{
    Field,
    hashlimit::{all_bits, mask_bits},
    together::only,
    words::word32,
};
use crate::rules::{
    ast::Condition,
    extra::{ConnLimit, Fact},
    parse::{
        items::Item,
        lines::Word,
        options::Opt,
        values::{Parsed, wrong},
    },
    problem::Problem,
    source::Span,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules::parse) enum ConnLimitField {
    UpTo,
    Above,
    Mask,
    Source,
    Destination,
}

/// What all options of one `-m connlimit` ask for.
pub(super) fn connlimit(span: Span, items: &[Item], family: Family) -> Parsed<Condition<Fact>> {
    let one = |field| only(items, Field::ConnLimit(field));
    let (item, is_above) = bound(span, items)?;
    let (source, destination) = (one(ConnLimitField::Source)?, one(ConnLimitField::Destination)?);
    if let (Some(_), Some(second)) = (source, destination) {
        let problem = Problem::new("--connlimit-saddr and --connlimit-daddr exclude one another");
        return Err((second.span, problem.advise("write one of them")));
    }
    let whole = all_bits(family);
    let mask = match one(ConnLimitField::Mask)? {
        Some(item) => mask_bits(&item.args[0], family)?,
        None => whole,
    };
    let value = Fact::ConnLimit(ConnLimit {
        limit: limit(&item.args[0])?,
        is_above,
        mask,
        whole,
        is_destination: destination.is_some(),
    });
    Ok(Condition { negated: false, value })
}

/// The option with the number, and whether it asks for what is above.
fn bound(span: Span, items: &[Item]) -> Parsed<(&Item, bool)> {
    let mut given = items.iter().filter_map(|item| match item.opt {
        Opt::Extra(Field::ConnLimit(ConnLimitField::UpTo)) => Some((item, item.negated)),
        Opt::Extra(Field::ConnLimit(ConnLimitField::Above)) => Some((item, !item.negated)),
        _ => None,
    });
    let Some(first) = given.next() else {
        let problem = Problem::new("-m connlimit does nothing by itself");
        let advice = "write --connlimit-upto or --connlimit-above behind it";
        return Err((span, problem.advise(advice)));
    };
    match given.next() {
        Some((second, _)) => {
            let problem = Problem::new(format!("{} is a second limit", second.name));
            Err((second.span, problem.advise("write one of them")))
        }
        None => Ok(first),
    }
}

fn limit(word: &Word) -> Parsed<u32> {
    let Some(limit) = word32(&word.text) else {
        let problem = Problem::new(format!("'{}' is no number of connections", word.text));
        return wrong(word, problem.advise(format!("write 0 to {MAX_LIMIT}")));
    };
    if limit > MAX_LIMIT {
        let problem = Problem::new(format!("{limit} connections are more than can be counted"));
        return wrong(word, problem.advise(format!("write {MAX_LIMIT} or less")));
    }
    Ok(limit)
}
