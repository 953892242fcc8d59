//! A whole text of commands, line by line.

use std::fmt;

use super::{
    command::{Action, read},
    plan::Plan,
    refusal::Refusal,
};

/// The first line that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    pub refusal: Refusal,
    text: String,
}

/// Notes in the plan what the lines say.
///
/// # Errors
/// The first line that cannot be done.
pub fn run(plan: &mut Plan, file: &str, text: &str, exist: bool) -> Result<(), Box<Mistake>> {
    each_line(file, text, |action, line_says| plan.execute(action, exist || line_says))
}

/// Hands on what each line says, and whether what is done already is no mistake in it.
///
/// # Errors
/// The first line that cannot be read, or is refused.
pub(super) fn each_line(
    file: &str,
    text: &str,
    mut execute: impl FnMut(&Action<'_>, bool) -> Result<(), Refusal>,
) -> Result<(), Box<Mistake>> {
    for (line, number) in text.lines().zip(1..) {
        let done = read(line).and_then(|read| match read.action {
            Some(action) => execute(&action, read.exist),
            None => Ok(()),
        });
        if let Err(refusal) = done {
            let text = line.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}");
            let file = file.to_owned();
            return Err(Box::new(Mistake { file, line: number, refusal, text }));
        }
    }
    Ok(())
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, refusal, text } = self;
        write!(f, "{file}:{line}:")?;
        let column = refusal.column as usize;
        if column == 0 {
            return write!(f, " {refusal}\n  {text}");
        }
        let before = text.chars().take(column - 1);
        let margin: String = before.map(|c| if c == '\t' { c } else { ' ' }).collect();
        let word = text.chars().skip(column - 1).take_while(|c| !c.is_whitespace()).count();
        write!(f, "{column}: {refusal}\n  {text}\n  {margin}{}", "^".repeat(word.max(1)))
    }
}

impl std::error::Error for Mistake {}
