//! The text of a ruleset, and positions in it.

use std::sync::Arc;

/// Byte offsets of a piece of the text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Where a piece of text stands; lines and columns count from 1, columns in
/// characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

pub(crate) struct Source<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(name: &str, text: &'a str) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        Self { name: name.into(), text, line_starts }
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let before = &self.text[self.line_starts[line - 1]..offset.min(self.text.len())];
        Position { line: number(line), column: number(before.chars().count() + 1) }
    }

    /// The line that holds the offset, without its end.
    pub(crate) fn line_at(&self, offset: usize) -> &'a str {
        let line = self.position(offset).line as usize;
        let rest = &self.text[self.line_starts[line - 1]..];
        rest.lines().next().unwrap_or_default()
    }

    /// How many characters of the span stand on its first line.
    pub(crate) fn width(&self, span: Span) -> usize {
        let end = span.end.min(self.text.len()).max(span.start);
        let piece = self.text[span.start..end].lines().next().unwrap_or_default();
        piece.chars().count().max(1)
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = Source::new("rules.v4", "*filter\n-A “x” y\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        let y = source.text.find('y').unwrap();
        assert_eq!(source.position(y), Position { line: 2, column: 8 });
        assert_eq!(source.line_at(y), "-A “x” y");
    }

    #[test]
    fn the_end_of_the_text_has_a_position() {
        let source = Source::new("rules.v4", "");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.line_at(0), "");
    }
}
