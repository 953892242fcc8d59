//! Text to lines of words: quotes, `\` continuations, comments.
//!
//! A word keeps its place in the text. Double quotes take a backslash before
//! `"`, `\` and `'` (as iptables-save writes them); single quotes take none.

use crate::rules::{error::Report, problem::Problem, source::Span};

/// One word, unquoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Some of it stood in quotes, so it is no option and no `!`.
    pub(super) quoted: bool,
}

impl Word {
    pub(super) const fn span(&self) -> Span {
        Span { start: self.start, end: self.end }
    }

    /// The place of a piece of the text, or of the word when quotes moved it.
    pub(super) const fn part(&self, start: usize, end: usize) -> Span {
        if self.end - self.start == self.text.len() {
            return Span { start: self.start + start, end: self.start + end };
        }
        self.span()
    }

    pub(super) fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }
}

/// Reads the next line that has words, with its continuations.
pub(super) struct Lines<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lines<'a> {
    /// A byte order mark, as editors on Windows write it, is passed over.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: if text.starts_with('\u{feff}') { 3 } else { 0 } }
    }

    pub(super) fn next(&mut self, report: &mut Report<'_>) -> Option<Vec<Word>> {
        while self.at < self.text.len() {
            let words = self.line(report);
            if !words.is_empty() {
                return Some(words);
            }
        }
        None
    }

    fn line(&mut self, report: &mut Report<'_>) -> Vec<Word> {
        let mut words = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                '\n' => {
                    self.advance();
                    break;
                }
                '#' => self.comment(),
                '\\' if self.skip_continuation() => {}
                c if c.is_whitespace() || c == '\0' => self.advance(),
                _ => words.push(self.word(report)),
            }
        }
        words
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn advance(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn comment(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    /// Skips a backslash that only blanks follow, and the end of the line.
    fn skip_continuation(&mut self) -> bool {
        let rest = &self.text[self.at + 1..];
        let end = rest.find('\n').unwrap_or(rest.len());
        let is_last = rest[..end].chars().all(char::is_whitespace);
        if is_last {
            self.at += 1 + (end + 1).min(rest.len());
        }
        is_last
    }

    fn word(&mut self, report: &mut Report<'_>) -> Word {
        let mut word = Word { text: String::new(), start: self.at, end: self.at, quoted: false };
        while let Some(c) = self.peek() {
            match c {
                '"' | '\'' => self.quoted(c, &mut word, report),
                '“' | '”' | '„' | '‘' | '’' | '«' if self.at == word.start => {
                    self.typographic_quote(c, &mut word, report);
                }
                '\\' if self.starts_continuation() => break,
                '\\' => {
                    self.advance();
                    self.take(&mut word);
                }
                c if c.is_whitespace() => break,
                _ => self.take(&mut word),
            }
        }
        word.end = self.at;
        word
    }

    fn starts_continuation(&self) -> bool {
        let rest = self.text[self.at + 1..].lines().next().unwrap_or_default();
        rest.chars().all(char::is_whitespace)
    }

    fn take(&mut self, word: &mut Word) {
        if let Some(c) = self.peek() {
            word.text.push(c);
            self.advance();
        }
    }

    fn quoted(&mut self, quote: char, word: &mut Word, report: &mut Report<'_>) {
        let start = self.at;
        word.quoted = true;
        self.advance();
        while let Some(c) = self.peek() {
            match c {
                '\n' => break,
                '\\' if quote == '"' && self.escapes() => {
                    self.advance();
                    self.take(word);
                }
                c if c == quote => return self.advance(),
                _ => self.take(word),
            }
        }
        let problem = Problem::new("the quotation that begins here is never closed")
            .advise(format!("write {quote} at its end"));
        report.add(Span { start, end: start + 1 }, problem);
    }

    /// Whether the backslash here makes a plain character of the next one.
    fn escapes(&self) -> bool {
        self.text[self.at + 1..].starts_with(['"', '\\', '\'', '$', '`'])
    }

    /// Complains, and reads on as if plain quotes stood there.
    fn typographic_quote(&mut self, open: char, word: &mut Word, report: &mut Report<'_>) {
        let start = self.at;
        word.quoted = true;
        self.advance();
        while let Some(c) = self.peek() {
            match c {
                '\n' => break,
                '“' | '”' | '‘' | '’' | '»' => {
                    self.advance();
                    break;
                }
                _ => self.take(word),
            }
        }
        let code = u32::from(open);
        let problem = Problem::new(format!(
            "'{open}' is a typographic quotation mark (U+{code:04X}), pasted from a web page?"
        ));
        let plain = format!("write \"{}\"", word.text.trim());
        report.add(Span { start, end: self.at }, problem.advise(plain));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::source::Source;

    fn words(text: &str) -> Vec<Vec<String>> {
        let source = Source::new("test", text);
        let mut report = Report::new(&source);
        let mut lines = Lines::new(text);
        let mut all = Vec::new();
        while let Some(line) = lines.next(&mut report) {
            all.push(line.into_iter().map(|word| word.text).collect());
        }
        report.finish(all).unwrap()
    }

    #[test]
    fn a_backslash_joins_lines_even_with_blanks_behind_it() {
        assert_eq!(words("a \\\n b\\  \n c\nd\\"), [vec!["a", "b", "c"], vec!["d"]]);
    }

    #[test]
    fn a_comment_ends_at_the_line_and_begins_at_a_word() {
        assert_eq!(words("# a \\\nb # c\nd#e"), [vec!["b"], vec!["d#e"]]);
    }

    #[test]
    fn quotes_hold_blanks_and_escapes() {
        assert_eq!(
            words(r#"a "b \"c\" \\ it\'s" 'd\e' f"#),
            [["a", r#"b "c" \ it's"#, r"d\e", "f"]]
        );
        assert_eq!(words("\u{feff}x \"\"\r\n"), [["x", ""]]);
    }

    #[test]
    fn an_open_quotation_is_shown_where_it_begins() {
        let source = Source::new("f", "a \"b\nc");
        let mut report = Report::new(&source);
        let mut lines = Lines::new(source.text);
        while lines.next(&mut report).is_some() {}
        let text = report.finish(()).unwrap_err().to_string();
        assert!(
            text.starts_with("f:1:3: the quotation that begins here is never closed"),
            "{text}"
        );
    }
}
