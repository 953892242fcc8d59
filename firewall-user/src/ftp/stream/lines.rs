//! Bytes in order, cut into lines.

use super::{
    Line, Read, Seq,
    records::{End, Records},
};

/// The longest line that is read, without its end. A path has at most 4 KiB on
/// Linux, but no line that matters here has a path.
pub const MAX_LINE: usize = 2048;

#[derive(Clone, Debug)]
enum State {
    /// In a line of which this much has come.
    Within(Vec<u8>),
    /// In a line that is not read.
    Skipping,
    /// Among TLS records.
    Sealed(Records),
    /// Behind TLS records of which one was missed: nothing can be read any more.
    Opaque,
}

/// The line reader of one direction.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    state: State,
    /// Whether the present line was seen from its first byte.
    whole: bool,
}

impl Lines {
    pub(super) fn new(whole: bool) -> Self {
        Self { state: State::Within(Vec::new()), whole }
    }

    /// Takes in what follows; `at` is the place of its first byte.
    pub(super) fn feed(&mut self, at: Seq, bytes: &[u8], tell: &mut impl FnMut(Read<'_>)) {
        let (mut at, mut bytes) = match self.unsealed(bytes, tell) {
            Some(text) => (at.plus(bytes.len() - text.len()), text),
            None => return,
        };
        while let Some(newline) = bytes.iter().position(|byte| *byte == b'\n') {
            self.finish(at, &bytes[..newline], tell);
            bytes = &bytes[newline + 1..];
            at = at.plus(newline + 1);
        }
        self.keep(at, bytes, tell);
    }

    /// What of these bytes is text.
    fn unsealed<'b>(
        &mut self,
        bytes: &'b [u8],
        tell: &mut impl FnMut(Read<'_>),
    ) -> Option<&'b [u8]> {
        let records = match &mut self.state {
            State::Within(_) | State::Skipping => return Some(bytes),
            State::Opaque => return None,
            State::Sealed(records) => records,
        };
        match records.pass(bytes) {
            End::None => None,
            End::Unknown => {
                self.state = State::Opaque;
                None
            }
            End::Text(text) => {
                *self = Self::new(true);
                tell(Read::Clear);
                Some(text)
            }
        }
    }

    /// From here on TLS records come. What of a line has come is left unread.
    pub(super) fn seal(&mut self) {
        self.state = State::Sealed(Records::default());
    }

    /// What is left of the present line is not read.
    pub(super) fn skip_to_newline(&mut self) {
        self.state = self.after_loss(State::Skipping);
    }

    /// Bytes were missed; what follows may begin a line.
    pub(super) fn lose_place(&mut self) {
        self.state = self.after_loss(State::Within(Vec::new()));
        self.whole = false;
    }

    fn after_loss(&self, readable: State) -> State {
        match self.state {
            State::Within(_) | State::Skipping => readable,
            State::Sealed(_) | State::Opaque => State::Opaque,
        }
    }

    /// Frees what of a line has come; the line is not read.
    pub(super) fn shed(&mut self) {
        if self.memory() > 0 {
            self.state = State::Skipping;
        }
    }

    /// What of a line has come whose end has not.
    pub(super) fn begun(&self) -> Option<&[u8]> {
        match &self.state {
            State::Within(begun) if !begun.is_empty() => Some(begun),
            _ => None,
        }
    }

    /// Whether the present line was seen from its first byte.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn memory(&self) -> usize {
        match &self.state {
            State::Within(begun) => begun.capacity(),
            State::Skipping | State::Sealed(_) | State::Opaque => 0,
        }
    }

    /// `rest` is the end of the present line, and stands at `at`.
    fn finish(&mut self, at: Seq, rest: &[u8], tell: &mut impl FnMut(Read<'_>)) {
        let whole = std::mem::replace(&mut self.whole, true);
        let state = std::mem::replace(&mut self.state, State::Within(Vec::new()));
        let State::Within(mut begun) = state else { return };
        if begun.len() + rest.len() > MAX_LINE {
            tell_too_long(begun, whole, at, rest, tell);
        } else if begun.is_empty() {
            tell(Read::Line(Line { text: without_end(rest), whole, at, len: rest.len() }));
        } else {
            let at = at.minus(begun.len());
            begun.extend_from_slice(rest);
            tell(Read::Line(Line { text: without_end(&begun), whole, at, len: begun.len() }));
        }
    }

    /// `bytes` belong to a line that is not finished, and stand at `at`.
    fn keep(&mut self, at: Seq, bytes: &[u8], tell: &mut impl FnMut(Read<'_>)) {
        let State::Within(begun) = &mut self.state else { return };
        if begun.len() + bytes.len() > MAX_LINE {
            let begun = std::mem::take(begun);
            self.state = State::Skipping;
            tell_too_long(begun, self.whole, at, bytes, tell);
        } else {
            begun.extend_from_slice(bytes);
        }
    }
}

/// What comes at `at` is too much for a line that has begun.
fn tell_too_long(
    mut begun: Vec<u8>,
    whole: bool,
    at: Seq,
    rest: &[u8],
    tell: &mut impl FnMut(Read<'_>),
) {
    let at = at.minus(begun.len());
    begun.extend_from_slice(&rest[..MAX_LINE - begun.len()]);
    tell(Read::TooLong(Line { text: &begun, whole, at, len: begun.len() }));
}

/// The NVT end of line (RFC 854: CR LF, CR NUL) in all its spellings.
fn without_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | 0)).map_or(0, |last| last + 1);
    &line[..end]
}
