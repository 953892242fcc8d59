//! Dashes that a web page or a word processor made of the hyphens of an option.

use super::{lines::Word, options};
use crate::rules::problem::Problem;

/// Hyphens, dashes, minus and their full-width forms.
const fn is_typographic(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}')
}

/// Whether a word begins with a typographic dash, after hyphens perhaps.
pub(super) fn begins(word: &Word) -> bool {
    !word.quoted && typographic(&word.text).is_some()
}

fn typographic(text: &str) -> Option<char> {
    text.trim_start_matches('-').chars().next().filter(|c| is_typographic(*c))
}

/// The option that was meant, and the complaint, when a word begins with a
/// typographic dash.
pub(super) fn plain_option(word: &Word) -> Option<(String, Problem)> {
    if word.quoted {
        return None;
    }
    let dash = typographic(&word.text)?;
    let name = word.text.trim_start_matches(|c| c == '-' || is_typographic(c));
    let meant = meant(name);
    let problem = Problem::new(format!(
        "'{}' begins with a typographic dash (U+{:04X}), pasted from a web page?",
        word.text,
        u32::from(dash)
    ));
    Some((meant.clone(), problem.advise(format!("write {meant}"))))
}

/// One letter takes one hyphen, a word two.
fn meant(name: &str) -> String {
    let short = format!("-{name}");
    if options::find(&short).is_some() || name.chars().count() == 1 {
        return short;
    }
    format!("--{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        Word { text: text.into(), start: 0, end: text.len(), quoted: false }
    }

    #[test]
    fn every_kind_of_dash_is_told_apart_and_the_option_named() {
        for (text, code, meant) in [
            ("—sport", "U+2014", "--sport"),
            ("–dport", "U+2013", "--dport"),
            ("−j", "U+2212", "-j"),
            ("‐p", "U+2010", "-p"),
            ("-–state", "U+2013", "--state"),
            ("––dport", "U+2013", "--dport"),
        ] {
            let (name, problem) = plain_option(&word(text)).unwrap();
            assert_eq!(name, meant);
            assert_eq!(
                problem.to_string(),
                format!(
                    "'{text}' begins with a typographic dash ({code}), pasted from a web page?; write {meant}"
                )
            );
        }
    }

    #[test]
    fn hyphens_are_left_alone() {
        assert!(plain_option(&word("--sport")).is_none());
        assert!(plain_option(&word("192.0.2.1")).is_none());
    }
}
