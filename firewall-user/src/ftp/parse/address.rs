//! The spellings of an endpoint: host-port (RFC 959 section 5.3.2) and the
//! delimited form of RFC 2428 sections 2 and 3.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    ops::{Range, RangeInclusive},
    str::FromStr,
};

use super::{Endpoint, ErrorKind, ParseError, cursor::Cursor};

/// Bytes in which an endpoint is spelled, and the blanks behind it, are fewer than these: as
/// much has to be kept in mind until its end is seen. The longest spelling of an IPv6 endpoint
/// in the form of EPRT has 55.
pub const MAX_SPELLING: usize = 64;

/// What RFC 2428 allows as a delimiter.
const DELIMITERS: RangeInclusive<u8> = 33..=126;

/// h1,h2,h3,h4,p1,p2 (RFC 959 section 5.3.2, host-port); blanks around the
/// commas do no harm.
pub(super) fn host_port(cursor: &mut Cursor<'_>) -> Result<Endpoint, ParseError> {
    let mut numbers = [0; 6];
    let mut port_at = *cursor;
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 {
            comma(cursor)?;
        }
        if index == 4 {
            port_at = *cursor;
        }
        *number = cursor.number(255)?;
    }
    if comma(&mut cursor.clone()).is_ok() {
        return Err(cursor.error(ErrorKind::TooManyNumbers));
    }
    let [a, b, c, d, high, low] = numbers;
    let [a, b, c, d] = [a, b, c, d].map(|number| number as u8);
    let port = NonZeroU16::new(high << 8 | low).ok_or(port_at.error(ErrorKind::PortZero))?;
    Ok(Endpoint { host: Some(Ipv4Addr::new(a, b, c, d).into()), port })
}

fn comma(cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
    cursor.blanks();
    cursor.expect(b',', "a comma")?;
    cursor.blanks();
    Ok(())
}

/// `<d>protocol<d>address<d>port<d>` (RFC 2428 section 2); the last delimiter
/// may be missing.
pub(super) fn delimited(cursor: &mut Cursor<'_>) -> Result<Endpoint, ParseError> {
    let start = *cursor;
    let delimiter = match cursor.next() {
        None => return Err(start.error(ErrorKind::Incomplete)),
        Some(byte) if DELIMITERS.contains(&byte) => byte,
        Some(_) => return Err(start.error(ErrorKind::Wanted("a delimiter"))),
    };
    let (protocol_at, protocol) = field(cursor, delimiter)?;
    let (address_at, address) = field(cursor, delimiter)?;
    let host = match protocol {
        b"1" => Some(parsed::<Ipv4Addr>(address, address_at)?),
        b"2" => Some(parsed::<Ipv6Addr>(address, address_at)?.to_canonical()),
        _ => return Err(protocol_at.error(ErrorKind::UnknownProtocol)),
    };
    Ok(Endpoint { host, port: last_field(cursor, delimiter)? })
}

/// `<d><d><d>port<d>` (RFC 2428 section 3), or the form of EPRT with protocol
/// and address, as some servers answer.
pub(super) fn passive(cursor: &mut Cursor<'_>) -> Result<Endpoint, ParseError> {
    let mut short = *cursor;
    let delimiter = short.next().filter(|byte| DELIMITERS.contains(byte));
    let Some(delimiter) = delimiter.filter(|_| short.peek() == delimiter) else {
        return delimited(cursor);
    };
    *cursor = short;
    cursor.next();
    cursor.expect(delimiter, "a delimiter")?;
    Ok(Endpoint { host: None, port: last_field(cursor, delimiter)? })
}

/// Up to the delimiter, which is taken too; and where it began.
fn field<'a>(cursor: &mut Cursor<'a>, delimiter: u8) -> Result<(Cursor<'a>, &'a [u8]), ParseError> {
    cursor.blanks();
    let start = *cursor;
    let text = cursor.take_while(|byte| byte != delimiter);
    cursor.expect(delimiter, "a delimiter")?;
    Ok((start, text.trim_ascii_end()))
}

fn last_field(cursor: &mut Cursor<'_>, delimiter: u8) -> Result<NonZeroU16, ParseError> {
    cursor.blanks();
    let start = *cursor;
    let port = NonZeroU16::new(cursor.number(u16::MAX)?).ok_or(start.error(ErrorKind::PortZero))?;
    cursor.blanks();
    if cursor.peek() == Some(delimiter) {
        cursor.next();
    }
    Ok(port)
}

fn parsed<A: FromStr + Into<IpAddr>>(text: &[u8], at: Cursor<'_>) -> Result<IpAddr, ParseError> {
    let address = std::str::from_utf8(text).ok().and_then(|text| text.parse::<A>().ok());
    address.map(Into::into).ok_or(at.error(ErrorKind::BadAddress))
}

/// An endpoint, and the bytes of the text that spell it.
pub(super) type Found = (Endpoint, Range<usize>);

/// What the beginning of a line shows of the endpoint in it. It depends on nothing but these
/// bytes, and what is found stays, whatever follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// None begins in it.
    Nothing,
    /// One may begin here: what follows decides.
    Begun(usize),
    Found(Endpoint, Range<usize>),
}

/// How an endpoint stands in free text.
struct Spelling {
    /// Whether one may begin at a place. The last argument says whether the text is all there.
    may_begin: fn(&[u8], usize, bool) -> bool,
    grammar: fn(&mut Cursor<'_>) -> Result<Endpoint, ParseError>,
}

/// In a 227 reply: with or without parentheses, behind `=`, with other digits in front.
const HOST_PORT: Spelling =
    Spelling { may_begin: |text, at, _| is_host_port_start(text, at), grammar: host_port };
/// In a 229 reply.
const PASSIVE: Spelling = Spelling { may_begin: is_passive_start, grammar: passive };

/// Finds the host-port in the text of a 227 reply.
pub(super) fn find_host_port(text: &[u8], from: usize) -> Result<Found, ParseError> {
    HOST_PORT.find(text, from)
}

/// Finds the endpoint in the text of a 229 reply.
pub(super) fn find_passive(text: &[u8], from: usize) -> Result<Found, ParseError> {
    PASSIVE.find(text, from)
}

/// As [`find_host_port`], in the beginning of a text.
pub(super) fn sight_host_port(text: &[u8], from: usize) -> Sight {
    HOST_PORT.sight(text, from)
}

/// As [`find_passive`], in the beginning of a text.
pub(super) fn sight_passive(text: &[u8], from: usize) -> Sight {
    PASSIVE.sight(text, from)
}

impl Spelling {
    /// Tries the grammar at each place where it may begin. Of several failures the
    /// one that got furthest is told.
    fn find(&self, text: &[u8], from: usize) -> Result<Found, ParseError> {
        let mut furthest = ParseError { position: from, kind: ErrorKind::NoAddress };
        for at in (from..text.len()).filter(|at| (self.may_begin)(text, *at, true)) {
            match self.attempt(text, at).0 {
                Ok(found) => return Ok(found),
                Err(error) if error.position > furthest.position => furthest = error,
                Err(_) => {}
            }
        }
        Err(furthest)
    }

    fn sight(&self, text: &[u8], from: usize) -> Sight {
        for at in (from..text.len()).filter(|at| (self.may_begin)(text, *at, false)) {
            match self.attempt(text, at) {
                (_, false) => return Sight::Begun(at),
                (Ok((endpoint, place)), true) => return Sight::Found(endpoint, place),
                (Err(_), true) => {}
            }
        }
        Sight::Nothing
    }

    /// Tries the grammar at a place, and says whether that would be the same whatever followed
    /// the text. Where the end is not in sight after [`MAX_SPELLING`] bytes, nothing is there.
    fn attempt(&self, text: &[u8], at: usize) -> (Result<Found, ParseError>, bool) {
        let limit = at + MAX_SPELLING;
        let mut cursor = Cursor::at(&text[..limit.min(text.len())], at);
        let start = cursor;
        let endpoint = (self.grammar)(&mut cursor);
        let end = cursor.position();
        cursor.blanks();
        match cursor.position() {
            looked_at if looked_at >= limit => (Err(start.error(ErrorKind::TooLong)), true),
            looked_at => (endpoint.map(|endpoint| (endpoint, at..end)), looked_at < text.len()),
        }
    }
}

/// A digit that continues neither a number nor a list of numbers.
fn is_host_port_start(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    let follows_digit = before.last().is_some_and(u8::is_ascii_digit);
    text[at].is_ascii_digit() && !follows_digit && before.trim_ascii_end().last() != Some(&b',')
}

/// Two delimiters with nothing or a protocol number between them. Behind a
/// parenthesis any delimiter counts; elsewhere letters and digits are text.
fn is_passive_start(text: &[u8], at: usize, is_whole: bool) -> bool {
    let is_marked = at > 0 && text[at - 1] == b'(';
    match text[at..] {
        [first, ..] if !is_marked && !first.is_ascii_punctuation() => false,
        [first, second, ..] if first == second => true,
        [first, b'1' | b'2', second, ..] => first == second,
        [_] | [_, b'1' | b'2'] => !is_whole,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Find = fn(&[u8], usize) -> Result<Found, ParseError>;
    type Sighting = fn(&[u8], usize) -> Sight;
    const BOTH: [(Find, Sighting); 2] =
        [(find_host_port, sight_host_port), (find_passive, sight_passive)];

    /// Texts in which much looks like an endpoint.
    fn texts() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "[0-9]{1,3}[,|! (]",
            "[0-9],[0-9],[0-9],[0-9],[0-9],[0-9]{1,2}",
            r"[|!(]{1,3}",
            r"[|!][12][|!]10\.0\.0\.2[|!][0-9]{1,5}[|!]?",
            r"\|\|\|[0-9]{4}\|?",
            " {1,70}",
            "[a-z]{1,5}",
            "\r",
        ];
        proptest::collection::vec(part, 1..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn what_is_sighted_in_a_beginning_is_what_the_whole_text_says(text in texts()) {
            let (text, line) = (text.as_bytes(), text.trim_end_matches('\r').as_bytes());
            for (find, sight) in BOTH {
                let whole = find(line, 0);
                for len in 0..=text.len() {
                    match (sight(&text[..len], 0), &whole) {
                        (Sight::Found(endpoint, place), whole) => {
                            prop_assert_eq!(whole, &Ok((endpoint, place)));
                        }
                        // It is kept in mind from its first byte on.
                        (Sight::Begun(at), Ok((_, place))) => {
                            prop_assert!(at <= place.start && len - at < MAX_SPELLING);
                        }
                        (Sight::Begun(at), Err(_)) => prop_assert!(len - at < MAX_SPELLING),
                        (Sight::Nothing, Ok((_, place))) => prop_assert!(len <= place.start),
                        (Sight::Nothing, Err(_)) => {}
                    }
                }
            }
        }
    }
}
