//! The spellings of an endpoint: host-port (RFC 959 section 5.3.2) and the
//! delimited form of RFC 2428 sections 2 and 3.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    ops::{Range, RangeInclusive},
    str::FromStr,
};

use super::{Endpoint, ErrorKind, ParseError, cursor::Cursor};

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
    short.next();
    short.expect(delimiter, "a delimiter")?;
    let port = last_field(&mut short, delimiter)?;
    *cursor = short;
    Ok(Endpoint { host: None, port })
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

/// Finds the host-port in the free text of a 227 reply: with or without
/// parentheses, behind `=`, with other digits in front.
pub(super) fn find_host_port(text: &[u8], from: usize) -> Result<Found, ParseError> {
    first_that_parses(text, from, is_host_port_start, host_port)
}

/// Finds the endpoint in the free text of a 229 reply.
pub(super) fn find_passive(text: &[u8], from: usize) -> Result<Found, ParseError> {
    first_that_parses(text, from, is_passive_start, passive)
}

/// Tries the grammar at each place where it may begin. Of several failures the
/// one that got furthest is told.
fn first_that_parses(
    text: &[u8],
    from: usize,
    may_begin: fn(&[u8], usize) -> bool,
    grammar: fn(&mut Cursor<'_>) -> Result<Endpoint, ParseError>,
) -> Result<Found, ParseError> {
    let mut furthest = ParseError { position: from, kind: ErrorKind::NoAddress };
    for at in (from..text.len()).filter(|at| may_begin(text, *at)) {
        let mut cursor = Cursor::at(text, at);
        match grammar(&mut cursor) {
            Ok(endpoint) => return Ok((endpoint, at..cursor.position())),
            Err(error) if error.position > furthest.position => furthest = error,
            Err(_) => {}
        }
    }
    Err(furthest)
}

/// A digit that continues neither a number nor a list of numbers.
fn is_host_port_start(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    let follows_digit = before.last().is_some_and(u8::is_ascii_digit);
    text[at].is_ascii_digit() && !follows_digit && before.trim_ascii_end().last() != Some(&b',')
}

/// Two delimiters with nothing or a protocol number between them. Behind a
/// parenthesis any delimiter counts; elsewhere letters and digits are text.
fn is_passive_start(text: &[u8], at: usize) -> bool {
    let is_marked = at > 0 && text[at - 1] == b'(';
    match text[at..] {
        [first, ..] if !is_marked && !first.is_ascii_punctuation() => false,
        [first, second, ..] if first == second => true,
        [first, b'1' | b'2', second, ..] => first == second,
        _ => false,
    }
}
