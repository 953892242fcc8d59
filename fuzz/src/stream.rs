//! Any text as a TCP stream, in any pieces: what is read of it does not depend on them.
//!
//! The first byte says how many pieces come; three bytes say where each begins and how
//! long it is; the rest is the text. At the end the whole text comes once more.

use firewall_user::ftp::stream::{MAX_LINE, Read, Seq, Stream};

/// Pieces of one input.
const MAX_PIECES: u8 = 32;
/// The text lies across the end of the sequence numbers.
const START: Seq = Seq(u32::MAX - 20);

pub fn stream(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else { return };
    let pieces = usize::from(count % MAX_PIECES) * 3;
    let Some((pieces, text)) = rest.split_at_checked(pieces) else { return };
    let mut whole = Reading::default();
    whole.piece(text, 0, text.len());
    let mut cut = Reading::default();
    for piece in pieces.chunks_exact(3) {
        let start = usize::from(u16::from_le_bytes([piece[0], piece[1]])) % (text.len() + 1);
        let end = (start + usize::from(piece[2])).min(text.len());
        cut.piece(text, start, end);
        assert!(whole.lines.starts_with(&cut.lines) || cut.has_lost);
    }
    cut.piece(text, 0, text.len());
    assert!(cut.has_lost || cut.lines == whole.lines, "{cut:?} is not {whole:?}");
    assert!(!whole.has_lost, "a whole text has no gaps");
}

/// A stream, and what it has told.
#[derive(Debug)]
struct Reading {
    stream: Stream,
    /// Where each line begins, and its text; `None` for one that is too long.
    lines: Vec<(u32, Option<Vec<u8>>)>,
    has_lost: bool,
}

impl Default for Reading {
    fn default() -> Self {
        let mut stream = Stream::new(true);
        stream.starts_at(START);
        Self { stream, lines: Vec::new(), has_lost: false }
    }
}

impl Reading {
    fn piece(&mut self, text: &[u8], start: usize, end: usize) {
        let Self { stream, lines, has_lost } = self;
        stream.segment(START.plus(start), &text[start..end], &mut |read| match read {
            Read::Line(line) => {
                let at = line.at.bytes_after(START);
                assert!(line.whole && line.text.len() <= MAX_LINE);
                assert_eq!(&text[at..at + line.text.len()], line.text, "another place");
                lines.push((line.at.0, Some(line.text.to_vec())));
            }
            Read::TooLong(line) => {
                assert!(line.whole && line.text.len() == MAX_LINE);
                let at = line.at.bytes_after(START);
                assert_eq!(&text[at..at + MAX_LINE], line.text, "another place");
                lines.push((0, None));
            }
            Read::Lost(_) => *has_lost = true,
            Read::Clear => unreachable!("nothing was sealed"),
        });
    }
}
