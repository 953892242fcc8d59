//! Bytes in order, cut into lines.

use super::{Line, Read};

/// The longest line that is read, without its end. A path has at most 4 KiB on
/// Linux, but no line that matters here has a path.
pub const MAX_LINE: usize = 2048;

#[derive(Clone, Debug)]
enum State {
    /// In a line of which this much has come.
    Within(Vec<u8>),
    /// In a line that is not read.
    Skipping,
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

    pub(super) fn feed(&mut self, mut bytes: &[u8], tell: &mut impl FnMut(Read<'_>)) {
        while let Some(newline) = bytes.iter().position(|byte| *byte == b'\n') {
            self.finish(&bytes[..newline], tell);
            bytes = &bytes[newline + 1..];
        }
        self.keep(bytes, tell);
    }

    /// What is left of the present line is not read.
    pub(super) fn skip_to_newline(&mut self) {
        self.state = State::Skipping;
    }

    pub(super) fn memory(&self) -> usize {
        match &self.state {
            State::Within(begun) => begun.capacity(),
            State::Skipping => 0,
        }
    }

    /// `rest` is the end of the present line.
    fn finish(&mut self, rest: &[u8], tell: &mut impl FnMut(Read<'_>)) {
        let whole = std::mem::replace(&mut self.whole, true);
        let state = std::mem::replace(&mut self.state, State::Within(Vec::new()));
        let State::Within(mut begun) = state else { return };
        if begun.len() + rest.len() > MAX_LINE {
            tell(Read::TooLong { whole });
        } else if begun.is_empty() {
            tell(Read::Line(Line { text: without_end(rest), whole }));
        } else {
            begun.extend_from_slice(rest);
            tell(Read::Line(Line { text: without_end(&begun), whole }));
        }
    }

    /// `bytes` belong to a line that is not finished.
    fn keep(&mut self, bytes: &[u8], tell: &mut impl FnMut(Read<'_>)) {
        let State::Within(begun) = &mut self.state else { return };
        if begun.len() + bytes.len() > MAX_LINE {
            self.state = State::Skipping;
            tell(Read::TooLong { whole: self.whole });
        } else {
            begun.extend_from_slice(bytes);
        }
    }
}

/// The NVT end of line (RFC 854: CR LF, CR NUL) in all its spellings.
fn without_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | 0)).map_or(0, |last| last + 1);
    &line[..end]
}
