//! Errors of a ruleset: all of them at once, each with its place, the line as
//! it stands in the file, and a caret.

use std::{fmt, sync::Arc};

use super::{
    check::Finding,
    problem::Problem,
    source::{Source, Span},
};

/// One mistake and where it stands. Lines and columns count from 1; column 0
/// when the whole line is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
    pub problem: Problem,
    excerpt: Option<Excerpt>,
}

/// The line of the file, and how many characters of it are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    text: String,
    width: usize,
}

/// Every mistake of a ruleset, in the order of the lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl Error {
    pub(crate) fn new(source: &Source<'_>, span: Span, problem: Problem) -> Self {
        let position = source.position(span.start);
        let text = source.line_at(span.start).replace(is_unprintable, "\u{fffd}");
        Self {
            file: source.name.clone(),
            line: position.line,
            column: position.column,
            problem,
            excerpt: Some(Excerpt { text, width: source.width(span) }),
        }
    }

    /// For mistakes that show after the text is gone.
    pub(crate) fn at_line(file: &Arc<str>, line: u32, problem: Problem) -> Self {
        Self { file: file.clone(), line, column: 0, problem, excerpt: None }
    }
}

fn is_unprintable(c: char) -> bool {
    c.is_control() && c != '\t'
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.file, self.line)?;
        if self.column > 0 {
            write!(f, "{}:", self.column)?;
        }
        write!(f, " {}", self.problem)?;
        let Some(Excerpt { text, width }) = &self.excerpt else { return Ok(()) };
        let before = text.chars().take(self.column as usize - 1);
        let margin: String = before.map(|c| if c == '\t' { c } else { ' ' }).collect();
        write!(f, "\n  {text}\n  {margin}{}", "^".repeat(*width))
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
impl std::error::Error for Errors {}

/// Collects mistakes while a text is read.
pub(crate) struct Report<'a> {
    pub(crate) source: &'a Source<'a>,
    errors: Vec<Error>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(source: &'a Source<'a>) -> Self {
        Self { source, errors: Vec::new() }
    }

    pub(crate) fn add(&mut self, span: Span, problem: Problem) {
        let error = Error::new(self.source, span, problem);
        let of_this_line = self.errors.iter().rev().take_while(|known| known.line == error.line);
        if !of_this_line.into_iter().any(|known| *known == error) {
            self.errors.push(error);
        }
    }

    /// A mistake that the whole ruleset shows, at its rule.
    pub(crate) fn found(&mut self, finding: Finding) {
        let Finding { origin, problem } = finding;
        if Arc::ptr_eq(&origin.file, &self.source.name) {
            return self.add(origin.target, problem);
        }
        self.errors.push(Error::at_line(&origin.file, origin.line, problem));
    }

    pub(crate) fn count(&self) -> usize {
        self.errors.len()
    }

    /// The value, unless there were errors.
    pub(crate) fn finish<T>(mut self, value: T) -> Result<T, Errors> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        self.errors.sort_by_key(|error| (error.line, error.column));
        Err(Errors(self.errors))
    }
}
