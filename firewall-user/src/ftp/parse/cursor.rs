//! A place in a line, and what the grammars share.

use super::{ErrorKind, ParseError};

#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn at(text: &'a [u8], at: usize) -> Self {
        Self { text, at: at.min(text.len()) }
    }

    /// How many bytes stand before it.
    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Takes bytes as long as they are of a kind.
    pub(super) fn take_while(&mut self, of_kind: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.text[self.at..];
        let len = rest.iter().position(|byte| !of_kind(*byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    pub(super) fn blanks(&mut self) {
        self.take_while(is_blank);
    }

    pub(super) fn expect(&mut self, wanted: u8, name: &'static str) -> Result<(), ParseError> {
        match self.peek() {
            Some(byte) if byte == wanted => {
                self.at += 1;
                Ok(())
            }
            found => Err(self.unlike(found, name)),
        }
    }

    /// A decimal number up to `limit`; leading zeros do not make it octal.
    pub(super) fn number(&mut self, limit: u16) -> Result<u16, ParseError> {
        let start = *self;
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.unlike(self.peek(), "a number"));
        }
        let value = digits.iter().fold(0u32, |value, digit| {
            value.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
        });
        match u16::try_from(value) {
            Ok(value) if value <= limit => Ok(value),
            _ => Err(start.error(ErrorKind::NumberAbove(limit))),
        }
    }

    /// Nothing but blanks follows.
    pub(super) fn end(&mut self) -> Result<(), ParseError> {
        self.blanks();
        self.peek().map_or(Ok(()), |_| Err(self.error(ErrorKind::Trailing)))
    }

    pub(super) fn error(&self, kind: ErrorKind) -> ParseError {
        ParseError { position: self.at, kind }
    }

    fn unlike(&self, found: Option<u8>, wanted: &'static str) -> ParseError {
        self.error(found.map_or(ErrorKind::Incomplete, |_| ErrorKind::Wanted(wanted)))
    }
}

pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
