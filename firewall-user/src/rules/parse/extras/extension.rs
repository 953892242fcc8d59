//! `-m ipv6header` and `-m frag`.

use super::{
    Field,
    together::only,
    words::{pair, word32},
};
use crate::rules::{
    ast::Condition,
    extra::{Fact, FragmentHeader, HEADERS, HeaderChain, HeaderNames, More},
    names,
    parse::{
        items::Item,
        lines::Word,
        values::{Parsed, list, number, wrong},
    },
    problem::{Problem, nearest},
    source::Span,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules::parse) enum FragmentField {
    Ids,
    Length,
    Reserved,
    First,
    More,
    Last,
}

/// `--header` and `--soft`.
pub(super) fn header_chain(span: Span, items: &[Item]) -> Parsed<Condition<Fact>> {
    let soft = only(items, Field::Soft)?;
    let Some(headers) = only(items, Field::Header)? else {
        let problem = Problem::new("-m ipv6header needs headers");
        return Err((span, problem.advise("write --header LIST behind it")));
    };
    let value = HeaderChain {
        headers: named(&headers.args[0])?,
        is_soft: soft.is_some(),
        negated: headers.negated,
    };
    Ok(Condition { negated: false, value: Fact::HeaderChain(value) })
}

/// `hop,dst,route`: their bits.
fn named(word: &Word) -> Parsed<u8> {
    let mut headers = 0;
    // A comma may stand behind the last.
    for (name, span) in list(word).filter(|(name, _)| !name.is_empty()) {
        let value = names::protocol_number(name).or_else(|| u8::try_from(number(name)?).ok());
        let is_meant = |(long, short, number, _): &HeaderNames| {
            name == *long || name == *short || (value.is_some() && value == *number)
        };
        let Some((.., bit)) = HEADERS.iter().find(|header| is_meant(header)) else {
            let known = HEADERS.iter().flat_map(|(long, short, ..)| [*long, *short]);
            let problem = Problem::new(format!("'{name}' is no header of -m ipv6header"));
            return Err((
                span,
                match nearest(name, known) {
                    Some(near) => problem.did_you_mean(Some(near)),
                    None => problem.advise("write hop, dst, route, frag, auth, esp, none or prot"),
                },
            ));
        };
        headers |= bit;
    }
    match headers {
        0 => wrong(word, Problem::new("no header is named").advise("write hop, dst or the like")),
        headers => Ok(headers),
    }
}

/// What all options of one `-m frag` ask for.
pub(super) fn fragment(items: &[Item]) -> Parsed<Condition<Fact>> {
    let one = |field| only(items, Field::Fragment(field));
    let (more, last) = (one(FragmentField::More)?, one(FragmentField::Last)?);
    if let (Some(_), Some(last)) = (more, last) {
        let problem = Problem::new("--fragmore and --fraglast exclude one another");
        return Err((last.span, problem.advise("write one of them")));
    }
    let mut value = FragmentHeader {
        is_reserved: one(FragmentField::Reserved)?.is_some(),
        is_first: one(FragmentField::First)?.is_some(),
        more: more.map(|_| More::Yes).or(last.map(|_| More::No)),
        ..FragmentHeader::default()
    };
    if let Some(item) = one(FragmentField::Ids)? {
        value.ids = pair(&item.args[0], "number of a datagram", u32::MAX)?;
        value.ids_negated = item.negated;
    }
    if let Some(item) = one(FragmentField::Length)? {
        let word = &item.args[0];
        let Some(length) = word32(&word.text) else {
            let problem = Problem::new(format!("'{}' is no length", word.text));
            return wrong(word, problem.advise("write bytes"));
        };
        value.length = Some((item.negated, length));
    }
    Ok(Condition { negated: false, value: Fact::Fragment(value) })
}
