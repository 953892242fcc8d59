//! What is wrong with a ruleset, and what to do about it.

use std::fmt;

/// A mistake in words: what was found, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    pub advice: Option<String>,
    pub fault: Fault,
}

/// What a mistake is a mistake in: programs under old names exit by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What is written is wrong whatever there is.
    Written,
    /// It cannot be done with the chains and rules that are there.
    Undoable,
    /// A rule asks a set that is not there.
    AbsentSet,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), advice: None, fault: Fault::Written }
    }

    pub(crate) fn undoable(message: impl Into<String>) -> Self {
        Self { fault: Fault::Undoable, ..Self::new(message) }
    }

    pub(crate) fn absent_set(message: impl Into<String>) -> Self {
        Self { fault: Fault::AbsentSet, ..Self::new(message) }
    }

    /// Adds what to do.
    pub(crate) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// Asks for the name that was probably meant, if there is one.
    pub(crate) fn did_you_mean(self, name: Option<&str>) -> Self {
        match name {
            Some(name) => self.advise(format!("did you mean {name}?")),
            None => self,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// The known name that is closest to a misspelt one.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(64).collect();
    let allowed = (word.len() / 3).clamp(1, 2);
    known
        .into_iter()
        .map(|name| (distance(&word, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters to insert, delete, replace or swap with their neighbour
/// (optimal string alignment).
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=a.len()).collect()];
    for i in 1..=b.len() {
        let mut row = vec![i];
        for j in 1..=a.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[j - 1] != b[i - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[j - 1] == b[i - 2] && a[j - 2] == b[i - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[b.len()][a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_right_one() {
        let known = ["ACCEPT", "DROP", "REJECT"];
        assert_eq!(nearest("ACEPT", known), Some("ACCEPT"));
        assert_eq!(nearest("drop", known), Some("DROP"));
        assert_eq!(nearest("CLIENTS", known), None);
        assert_eq!(nearest("tpc", ["udp", "tcp"]), Some("tcp"));
    }

    #[test]
    fn advice_follows_the_message() {
        let problem = Problem::new("unknown target 'ALLOW'").did_you_mean(Some("ACCEPT"));
        assert_eq!(problem.to_string(), "unknown target 'ALLOW'; did you mean ACCEPT?");
    }
}
