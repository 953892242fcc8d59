//! `-m string`: options that say something together only.

use firewall_common::extra::text::{LONGEST, WINDOW};

use super::{Field, together::only};
use crate::rules::{
    ast::Condition,
    extra::{Algorithm, Fact, Text},
    parse::{
        items::Item,
        lines::Word,
        values::{self, Parsed, wrong},
    },
    problem::Problem,
    source::Span,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules::parse) enum TextField {
    Algorithm,
    Text,
    Hex,
    From,
    To,
    IgnoreCase,
}

/// What all options of one `-m string` ask for.
pub(super) fn text(span: Span, items: &[Item]) -> Parsed<Condition<Fact>> {
    let one = |field| only(items, Field::Text(field));
    let lacks = |what: &str| {
        let problem = Problem::new(format!("-m string needs {what}"));
        (span, problem.advise(format!("write {what} behind it")))
    };
    let algorithm = one(TextField::Algorithm)?.ok_or_else(|| lacks("--algo bm or --algo kmp"))?;
    let (plain, hex) = (one(TextField::Text)?, one(TextField::Hex)?);
    if let (Some(_), Some(second)) = (plain, hex) {
        let problem = Problem::new("--string and --hex-string exclude one another");
        return Err((second.span, problem.advise("write one of them")));
    }
    let item = plain.or(hex).ok_or_else(|| lacks("--string or --hex-string"))?;
    let word = &item.args[0];
    let bytes = match hex {
        Some(_) => hexadecimal(word)?,
        None => word.text.clone().into_bytes(),
    };
    if bytes.is_empty() || bytes.len() > LONGEST {
        let problem = Problem::new(format!("a string of {} bytes", bytes.len()));
        return wrong(word, problem.advise(format!("write 1 to {LONGEST}")));
    }
    let offset = |field, default| match one(field)? {
        Some(item) => values::upto(&item.args[0], "offset", u16::MAX),
        None => Ok(default),
    };
    let (from, to) = (offset(TextField::From, 0)?, offset(TextField::To, u16::MAX)?);
    check_offsets(span, one(TextField::From)?, one(TextField::To)?, from, to)?;
    let ignores_case = one(TextField::IgnoreCase)?.is_some();
    let algorithm = algorithm_of(&algorithm.args[0])?;
    let value = Fact::Text(Text { bytes, algorithm, from, to, ignores_case });
    Ok(Condition { negated: item.negated, value })
}

fn check_offsets(
    span: Span,
    first: Option<&Item>,
    last: Option<&Item>,
    from: u16,
    to: u16,
) -> Parsed<()> {
    let place = |item: Option<&Item>| item.map_or(span, Item::value_span);
    if from > to {
        let problem = Problem::new("--from lies behind --to");
        return Err((place(first), problem.advise("write the smaller offset behind --from")));
    }
    let is_beyond = |offset: u16| offset != u16::MAX && usize::from(offset) > WINDOW;
    for (item, offset) in [(first, from), (last, to)] {
        if is_beyond(offset) {
            let problem = Problem::new(format!("{offset} lies behind what is searched"));
            let advice = format!("write {WINDOW} or less: so many bytes of a packet are searched");
            return Err((place(item), problem.advise(advice)));
        }
    }
    Ok(())
}

fn algorithm_of(word: &Word) -> Parsed<Algorithm> {
    match word.text.as_str() {
        "bm" => Ok(Algorithm::BoyerMoore),
        "kmp" => Ok(Algorithm::KnuthPrattMorris),
        other => {
            let problem = Problem::new(format!("unknown algorithm '{other}'"));
            wrong(word, problem.advise("write bm or kmp"))
        }
    }
}

/// `|de ad|text`: bytes in hexadecimal digits between bars, others as they are; a backslash
/// takes the next one as it is.
fn hexadecimal(word: &Word) -> Parsed<Vec<u8>> {
    let refused = |what: &str| {
        let problem = Problem::new(format!("'{}' {what}", word.text));
        (word.span(), problem.advise("write pairs of digits between bars, as in |0d 0a|"))
    };
    let (mut bytes, mut is_hex) = (Vec::new(), false);
    let mut digits: Option<char> = None;
    let mut rest = word.text.chars();
    while let Some(c) = rest.next() {
        match (is_hex, c) {
            (_, '|') if digits.is_some() => return Err(refused("has an odd digit")),
            (_, '|') => is_hex = !is_hex,
            (true, ' ') if digits.is_none() => {}
            (true, c) if c.is_ascii_hexdigit() => match digits.take() {
                None => digits = Some(c),
                Some(first) => {
                    let pair = u8::from_str_radix(&format!("{first}{c}"), 16);
                    bytes.push(pair.map_err(|_| refused("has no digits"))?);
                }
            },
            (true, _) => return Err(refused("has something else than digits between its bars")),
            (false, '\\') => {
                let c = rest.next().ok_or_else(|| refused("ends with a backslash"))?;
                bytes.extend(c.to_string().bytes());
            }
            (false, c) => bytes.extend(c.to_string().bytes()),
        }
    }
    if is_hex { Err(refused("lacks a bar at its end")) } else { Ok(bytes) }
}
