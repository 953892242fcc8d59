//! The options of a call that are not part of a rule, in one table.

/// How an option of the call takes its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// What follows in the same word, or the next one.
    Value,
    /// As well, if there is one that is no option.
    Perhaps,
}

/// Letter, long names, arguments. An option without a letter has a digit or a sign.
const OPTIONS: &[(char, &[&str], Takes)] = &[
    ('A', &["append"], Takes::Value),
    ('C', &["check"], Takes::Value),
    ('D', &["delete"], Takes::Value),
    ('E', &["rename-chain"], Takes::Value),
    ('F', &["flush"], Takes::Perhaps),
    ('I', &["insert"], Takes::Value),
    ('L', &["list"], Takes::Perhaps),
    ('M', &["modprobe"], Takes::Value),
    ('N', &["new-chain", "new"], Takes::Value),
    ('P', &["policy"], Takes::Value),
    ('R', &["replace"], Takes::Value),
    ('S', &["list-rules"], Takes::Perhaps),
    ('V', &["version"], Takes::Nothing),
    ('W', &["wait-interval"], Takes::Perhaps),
    ('X', &["delete-chain"], Takes::Perhaps),
    ('Z', &["zero"], Takes::Perhaps),
    ('c', &["set-counters"], Takes::Value),
    ('h', &["help"], Takes::Nothing),
    (LINE_NUMBERS, &["line-numbers"], Takes::Nothing),
    ('n', &["numeric"], Takes::Nothing),
    ('t', &["table"], Takes::Value),
    ('v', &["verbose"], Takes::Nothing),
    ('w', &["wait"], Takes::Perhaps),
    ('x', &["exact"], Takes::Nothing),
    ('4', &["ipv4"], Takes::Nothing),
    ('6', &["ipv6"], Takes::Nothing),
];

/// The sign of `--line-numbers`, which has no letter.
pub(super) const LINE_NUMBERS: char = '#';

pub(super) fn by_letter(letter: char) -> Option<(char, Takes)> {
    let known = OPTIONS.iter().find(|(known, ..)| *known == letter && letter != LINE_NUMBERS);
    known.map(|(letter, _, takes)| (*letter, *takes))
}

/// By a long name without its dashes.
pub(super) fn by_name(name: &str) -> Option<(char, Takes)> {
    let known = OPTIONS.iter().find(|(_, names, _)| names.contains(&name));
    known.map(|(letter, _, takes)| (*letter, *takes))
}

/// By the beginning of a long name that no other option has.
pub(super) fn by_beginning(name: &str) -> Option<(char, Takes)> {
    let begins = |names: &[&str]| names.iter().any(|known| known.starts_with(name));
    let mut candidates = OPTIONS.iter().filter(|(_, names, _)| begins(names));
    match (candidates.next(), candidates.next()) {
        (Some((letter, _, takes)), None) => Some((*letter, *takes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_may_be_cut_short_where_no_other_begins_so() {
        assert_eq!(by_beginning("line"), Some((LINE_NUMBERS, Takes::Nothing)));
        assert_eq!(by_beginning("rename"), Some(('E', Takes::Value)));
        assert_eq!(by_name("list"), Some(('L', Takes::Perhaps)));
        assert_eq!(by_name("wait"), Some(('w', Takes::Perhaps)));
        assert_eq!((by_beginning("l"), by_beginning("dport")), (None, None));
    }

    #[test]
    fn no_letter_stands_for_two_options() {
        let mut letters: Vec<_> = OPTIONS.iter().map(|option| option.0).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), OPTIONS.len());
    }
}
