//! The options of `-m set` and `-j SET`.

use firewall_common::set::{NAME, ask::compare};

use super::{
    items::Item,
    lines::Word,
    options::Opt,
    values::{self, Parsed, wrong},
};
use crate::rules::{
    problem::Problem,
    set::{Compared, MOST_DIMENSIONS, SetMatch, SetPart, SetTarget},
    source::Span,
};

/// An option of `-m set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetOption {
    MatchSet,
    ReturnNomatch,
    UpdateCounters,
    UpdateSubcounters,
    /// One of [`compare`].
    Packets(u32),
    Bytes(u32),
}

/// An option of `-j SET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetOption {
    Add,
    Del,
    /// Known to be refused.
    Map,
    Exist,
    Timeout,
}

/// What the options of one `-m set` ask for.
pub(super) fn read(span: Span, items: &[Item]) -> Parsed<SetMatch> {
    let mut set = None;
    let mut read = SetMatch {
        negated: false,
        set: SetPart { name: String::new(), sources: 0, dimensions: 0 },
        return_nomatch: false,
        skips_counters: false,
        skips_subcounters: false,
        packets: None,
        bytes: None,
    };
    for item in items {
        let Opt::Set(option) = item.opt else { continue };
        match option {
            SetOption::MatchSet if set.is_some() => return Err((item.whole_span(), twice(item))),
            SetOption::MatchSet => {
                set = Some(part(item)?);
                read.negated = item.negated;
            }
            SetOption::ReturnNomatch => read.return_nomatch = true,
            SetOption::UpdateCounters => read.skips_counters = item.negated,
            SetOption::UpdateSubcounters => read.skips_subcounters = item.negated,
            SetOption::Packets(how) => put(&mut read.packets, how, item)?,
            SetOption::Bytes(how) => put(&mut read.bytes, how, item)?,
        }
    }
    match set {
        Some(set) => Ok(SetMatch { set, ..read }),
        None => {
            let problem = Problem::new("-m set does nothing by itself");
            Err((span, problem.advise("write --match-set NAME src (or dst) behind it")))
        }
    }
}

fn put(place: &mut Option<Compared>, how: u32, item: &Item) -> Parsed<()> {
    if place.is_some() {
        return Err((item.whole_span(), twice(item)));
    }
    let word = &item.args[0];
    let value = values::number(&word.text)
        .filter(|_| !word.text.is_empty())
        .ok_or_else(|| (word.span(), Problem::new(format!("'{}' is not a number", word.text))))?;
    let how = if item.negated { compare::NOT_EQUAL } else { how };
    *place = Some(Compared { how, value });
    Ok(())
}

fn twice(item: &Item) -> Problem {
    Problem::new(format!("{} is a second test of the same", item.name))
        .advise("write one of them, or a second -m set before it")
}

/// `NAME src,dst`
fn part(item: &Item) -> Parsed<SetPart> {
    let [name, directions] = &item.args[..] else {
        let problem = Problem::new(format!("{} needs a name and src or dst", item.name));
        return Err((item.span, problem));
    };
    if name.text.len() >= NAME || name.text.is_empty() {
        let problem = Problem::new(format!("'{}' is no name of a set", name.text));
        return wrong(name, problem.advise(format!("a name has 1 to {} characters", NAME - 1)));
    }
    let is_plain =
        |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\'' | '\\');
    if !name.text.chars().all(is_plain) || name.text.starts_with(['-', '!']) {
        let problem = Problem::new(format!("'{}' is no name of a set", name.text));
        return wrong(
            name,
            problem.advise("a name has no blanks and quotes, and begins with none of - and !"),
        );
    }
    let (sources, dimensions) = directions_of(directions)?;
    Ok(SetPart { name: name.text.clone(), sources, dimensions })
}

fn directions_of(word: &Word) -> Parsed<(u8, u8)> {
    let (mut sources, mut dimensions) = (0, 0);
    for (text, span) in values::list(word) {
        if dimensions == MOST_DIMENSIONS {
            let problem =
                Problem::new(format!("there are more than {MOST_DIMENSIONS} of src and dst"));
            return Err((span, problem.advise("write one for each part of the set's elements")));
        }
        match text {
            "src" => sources |= 1 << dimensions,
            "dst" => {}
            other => {
                let problem = Problem::new(format!("'{other}' is neither src nor dst"));
                return Err((span, problem.advise("write src, dst, or a list as src,dst")));
            }
        }
        dimensions += 1;
    }
    Ok((sources, dimensions))
}

/// Takes an option of `-j SET` over.
pub(super) fn target(target: &mut SetTarget, item: &Item) -> Parsed<()> {
    let Opt::SetTarget(option) = item.opt else { return Ok(()) };
    match option {
        TargetOption::Add if target.add.is_none() => target.add = Some(part(item)?),
        TargetOption::Del if target.del.is_none() => target.del = Some(part(item)?),
        TargetOption::Exist => target.exist = true,
        TargetOption::Timeout if target.timeout.is_none() => {
            let word = &item.args[0];
            let value = values::number(&word.text).filter(|_| !word.text.is_empty());
            let seconds = value.and_then(|value| u32::try_from(value).ok());
            let is_time = |seconds: &u32| *seconds <= MOST_SECONDS;
            target.timeout = Some(seconds.filter(is_time).ok_or_else(|| {
                let problem = Problem::new(format!("'{}' is no time of an element", word.text));
                (word.span(), problem.advise(format!("write seconds, 0 to {MOST_SECONDS}")))
            })?);
        }
        TargetOption::Map => {
            let problem = Problem::new("--map-set of SET is not supported");
            return Err((
                item.span,
                problem.advise("nothing here sets marks from sets: take it out"),
            ));
        }
        _ => {
            let problem = Problem::new(format!("{} is given twice", item.name));
            return Err((item.whole_span(), problem.advise("write a rule for each")));
        }
    }
    Ok(())
}

/// As ipset bounds it.
const MOST_SECONDS: u32 = 2_147_483;
