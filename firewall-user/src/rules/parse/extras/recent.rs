//! `-m recent`: options that say something together only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::{addr::Family, extra::recent::MAX_HITS};

use super::{Field, together::only, words::word32};
use crate::rules::{
    ast::Condition,
    extra::{Action, Fact, Recent},
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
pub(in crate::rules::parse) enum RecentField {
    Action(Action),
    Seconds,
    Reap,
    HitCount,
    Ttl,
    Name,
    Source,
    Destination,
    Mask,
}

/// What all options of one `-m recent` ask for.
pub(super) fn recent(span: Span, items: &[Item], family: Family) -> Parsed<Condition<Fact>> {
    let one = |field| only(items, Field::Recent(field));
    let (item, action) = action(span, items)?;
    let [seconds, hits, name, mask] = [
        one(RecentField::Seconds)?,
        one(RecentField::HitCount)?,
        one(RecentField::Name)?,
        one(RecentField::Mask)?,
    ];
    let [reap, ttl, source, destination] = [
        one(RecentField::Reap)?,
        one(RecentField::Ttl)?,
        one(RecentField::Source)?,
        one(RecentField::Destination)?,
    ];
    if let (Some(_), Some(second)) = (source, destination) {
        let problem = Problem::new("--rsource and --rdest exclude one another");
        return Err((second.span, problem.advise("write one of them")));
    }
    if let Action::Set | Action::Remove = action
        && let Some(foreign) = [seconds, reap, hits, ttl].into_iter().flatten().next()
    {
        let problem = Problem::new(format!("{} does not go with {}", foreign.name, item.name));
        return Err((foreign.span, problem.advise("write --rcheck or --update, or take it out")));
    }
    if let (Some(reap), None) = (reap, seconds) {
        let problem = Problem::new("--reap needs --seconds");
        return Err((reap.span, problem.advise("write --seconds before it")));
    }
    let value = Fact::Recent(Recent {
        name: name.map_or(Ok(Recent::DEFAULT_NAME.to_owned()), |item| list_name(&item.args[0]))?,
        action,
        seconds: seconds.map_or(Ok(0), |item| positive(&item.args[0], "time", u32::MAX))?,
        reap: reap.is_some(),
        hits: hits.map_or(Ok(0), |item| positive(&item.args[0], "number of hits", MAX_HITS))?,
        ttl: ttl.is_some(),
        is_destination: destination.is_some(),
        mask: mask.map_or(Ok(whole(family)), |item| address_mask(&item.args[0], family))?,
    });
    Ok(Condition { negated: item.negated, value })
}

fn action(span: Span, items: &[Item]) -> Parsed<(&Item, Action)> {
    let mut given = items.iter().filter_map(|item| match item.opt {
        Opt::Extra(Field::Recent(RecentField::Action(action))) => Some((item, action)),
        _ => None,
    });
    let Some(first) = given.next() else {
        let problem = Problem::new("-m recent does nothing by itself");
        let advice = "write --set, --rcheck, --update or --remove behind it";
        return Err((span, problem.advise(advice)));
    };
    match given.next() {
        Some((second, _)) => {
            let problem =
                Problem::new(format!("{} does not go with {}", second.name, first.0.name));
            Err((second.span, problem.advise("write a rule for each")))
        }
        None => Ok(first),
    }
}

/// A name that can be a file below /proc, as the kernel demands.
pub(super) fn list_name(word: &Word) -> Parsed<String> {
    let name = &word.text;
    let is_name = !name.is_empty()
        && name.len() <= Recent::LONGEST_NAME
        && !matches!(name.as_str(), "." | "..")
        && !name.contains(|c: char| c == '/' || c.is_control());
    if is_name {
        return Ok(name.clone());
    }
    let problem = Problem::new(format!("'{name}' cannot name a list"));
    let most = Recent::LONGEST_NAME;
    wrong(word, problem.advise(format!("write 1 to {most} characters without a slash")))
}

fn positive(word: &Word, what: &str, most: u32) -> Parsed<u32> {
    word32(&word.text).filter(|value| (1..=most).contains(value)).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no {what}", word.text));
        (word.span(), problem.advise(format!("write 1 to {most}")))
    })
}

pub(super) fn whole(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::BROADCAST.into(),
        Family::Ipv6 => Ipv6Addr::from_bits(u128::MAX).into(),
    }
}

fn address_mask(word: &Word, family: Family) -> Parsed<IpAddr> {
    let mask = word.text.parse::<IpAddr>().ok();
    mask.filter(|mask| mask.is_ipv4() == (family == Family::Ipv4)).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no mask", word.text));
        let like = match family {
            Family::Ipv4 => "write it as 255.255.255.0",
            Family::Ipv6 => "write it as ffff:ffff:ffff:ffff::",
        };
        (word.span(), problem.advise(like))
    })
}
