//! Why something cannot be done, in ipset's own words where it has some: scripts look for
//! them.

use std::fmt;

/// A command that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    /// What to do about it, where ipset has nothing to say.
    pub advice: Option<String>,
    /// The column of the word that is wrong; 0 for the whole line.
    pub column: u32,
    /// Wrong usage, for which ipset ends with status 2.
    pub is_usage: bool,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), advice: None, column: 0, is_usage: false }
    }

    /// `Syntax error: …`
    pub(super) fn syntax(column: u32, message: impl fmt::Display) -> Self {
        Self { column, ..Self::new(format!("Syntax error: {message}")) }
    }

    pub(super) fn usage(column: u32, message: impl Into<String>) -> Self {
        Self { column, is_usage: true, ..Self::new(message) }
    }

    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    pub(super) fn no_set() -> Self {
        Self::new("The set with the given name does not exist")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}
