//! One command of ipset, from words.

use firewall_common::set::{COMMENT, Kind, NAME, SetHeader};

use super::{
    header, names,
    refusal::Refusal,
    words::{self, Word},
};

/// What a line of a restore file, or a call, wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    Create {
        name: &'a str,
        header: Box<SetHeader>,
    },
    Add {
        set: &'a str,
        element: Word<'a>,
        with: Added<'a>,
    },
    Delete {
        set: &'a str,
        element: Word<'a>,
        with: Added<'a>,
    },
    Test {
        set: &'a str,
        element: Word<'a>,
        with: Added<'a>,
    },
    /// Of one set, or of all.
    Flush(Option<&'a str>),
    Destroy(Option<&'a str>),
    Rename(&'a str, &'a str),
    Swap(&'a str, &'a str),
}

/// What stands behind an element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added<'a> {
    /// In seconds.
    pub timeout: Option<u32>,
    pub packets: Option<u64>,
    pub bytes: Option<u64>,
    pub comment: Option<&'a str>,
    pub is_exception: bool,
    /// Of a list:set: the neighbour, and whether the new one comes before it.
    pub beside: Option<(&'a str, bool)>,
}

/// A line of a file: a command, or none; and whether it says `-exist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub action: Option<Action<'a>>,
    pub exist: bool,
}

/// The longest timeout that ipset takes, in seconds.
pub(super) const MAX_TIMEOUT: u32 = 2_147_483;

/// Reads a line as restore files have it.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(line: &str) -> Result<Line<'_>, Refusal> {
    let none = Line { action: None, exist: false };
    if line.trim_start().starts_with('#') {
        return Ok(none);
    }
    let unended = |column| Refusal::syntax(column, "missing close quote");
    let mut words = words::split(line).map_err(unended)?;
    let before = words.len();
    words.retain(|word| !matches!(word.text, "-exist" | "-!" | "--exist"));
    let exist = words.len() != before;
    match words.split_first() {
        // It ends what was collected so far; here all is done together.
        None => Ok(none),
        Some((first, [])) if first.text == "COMMIT" => Ok(none),
        Some((command, rest)) => Ok(Line { action: Some(action(*command, rest)?), exist }),
    }
}

/// A command and its arguments.
pub(super) fn action<'a>(command: Word<'a>, rest: &[Word<'a>]) -> Result<Action<'a>, Refusal> {
    let missing =
        || Refusal::usage(0, format!("Missing mandatory argument to command {}", command.text));
    let name = |at: usize| rest.get(at).copied().ok_or_else(missing).and_then(set_name);
    let most = |count: usize| match rest.get(count) {
        Some(word) => Err(Refusal::usage(word.column, format!("Unknown argument {}", word.text))),
        None => Ok(()),
    };
    Ok(match command.text {
        "create" | "-N" | "--create" | "n" | "new" => {
            let kind = kind(*rest.get(1).ok_or_else(missing)?)?;
            let header = header::read(kind, &rest[2..])?;
            Action::Create { name: name(0)?, header: Box::new(header) }
        }
        "add" | "-A" | "--add" => {
            let element = *rest.get(1).ok_or_else(missing)?;
            Action::Add { set: name(0)?, element, with: added(&rest[2..])? }
        }
        "del" | "-D" | "--del" => {
            let element = *rest.get(1).ok_or_else(missing)?;
            Action::Delete { set: name(0)?, element, with: added(&rest[2..])? }
        }
        "test" | "-T" | "--test" => {
            let element = *rest.get(1).ok_or_else(missing)?;
            Action::Test { set: name(0)?, element, with: added(&rest[2..])? }
        }
        "flush" | "-F" | "--flush" => {
            most(1)?;
            Action::Flush(rest.first().map(|_| name(0)).transpose()?)
        }
        "destroy" | "x" | "-X" | "--destroy" => {
            most(1)?;
            Action::Destroy(rest.first().map(|_| name(0)).transpose()?)
        }
        "rename" | "e" | "-E" | "--rename" => {
            most(2)?;
            Action::Rename(name(0)?, name(1)?)
        }
        "swap" | "w" | "-W" | "--swap" => {
            most(2)?;
            Action::Swap(name(0)?, name(1)?)
        }
        other => {
            let message = format!("No command specified: unknown argument {other}");
            return Err(Refusal::usage(command.column, message));
        }
    })
}

fn kind(word: Word<'_>) -> Result<Kind, Refusal> {
    names::kind_of(word.text).ok_or_else(|| match names::instead_of(word.text) {
        Some(advice) => {
            let message = format!("typename '{}' is not supported", word.text);
            Refusal::syntax(word.column, message).advise(advice)
        }
        None => Refusal::syntax(word.column, format!("typename '{}' is unknown", word.text)),
    })
}

/// A name is printed into lines again, so that it holds no blanks and no quotes.
fn set_name(word: Word<'_>) -> Result<&str, Refusal> {
    let name = word.text;
    if name.len() >= NAME {
        let message = format!("setname '{name}' is longer than {} characters", NAME - 1);
        return Err(Refusal::syntax(word.column, message));
    }
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
    if name.is_empty() || name.starts_with('-') || !name.chars().all(is_plain) {
        let message = format!("'{name}' is no name of a set");
        return Err(Refusal::syntax(word.column, message)
            .advise("write letters, digits and signs, without blanks and quotes"));
    }
    Ok(name)
}

/// A number in these bounds, decimal or hexadecimal.
pub(super) fn number(word: Word<'_>, least: u64, most: u64) -> Result<u64, Refusal> {
    let text = word.text;
    let read = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let is_number = !text.starts_with('+');
    match read {
        Ok(value) if is_number && (least..=most).contains(&value) => Ok(value),
        Ok(_) if is_number => {
            let message = format!("'{text}' is out of range {least}-{most}");
            Err(Refusal::syntax(word.column, message))
        }
        _ => Err(Refusal::syntax(word.column, format!("'{text}' is invalid as number"))),
    }
}

fn added<'a>(words: &[Word<'a>]) -> Result<Added<'a>, Refusal> {
    let mut with = Added::default();
    let mut rest = words.iter().copied();
    while let Some(option) = rest.next() {
        let mut value = || {
            let message = format!("Missing mandatory argument of option `{}'", option.text);
            rest.next().ok_or_else(|| Refusal::usage(option.column, message))
        };
        match option.text {
            "timeout" => with.timeout = Some(number(value()?, 0, MAX_TIMEOUT.into())? as u32),
            "packets" => with.packets = Some(number(value()?, 0, u64::MAX)?),
            "bytes" => with.bytes = Some(number(value()?, 0, u64::MAX)?),
            "comment" => with.comment = Some(comment(value()?)?),
            "nomatch" => with.is_exception = true,
            "before" => with.beside = Some((set_name(value()?)?, true)),
            "after" => with.beside = Some((set_name(value()?)?, false)),
            "skbmark" | "skbprio" | "skbqueue" => {
                let message = format!("{} is not supported", option.text);
                return Err(Refusal::syntax(option.column, message)
                    .advise("take it out: nothing here sets marks from sets"));
            }
            other => {
                return Err(Refusal::usage(option.column, format!("Unknown argument: `{other}'")));
            }
        }
    }
    Ok(with)
}

fn comment(word: Word<'_>) -> Result<&str, Refusal> {
    if word.text.contains('"') {
        return Err(Refusal::syntax(word.column, "\" character is not permitted in comments"));
    }
    if word.text.len() >= COMMENT {
        let message =
            format!("Comment is longer than the maximum allowed {} characters", COMMENT - 1);
        return Err(Refusal::syntax(word.column, message));
    }
    if word.text.chars().any(char::is_control) {
        return Err(Refusal::syntax(word.column, "a comment is one line"));
    }
    Ok(word.text)
}
