//! A TOML document whose values are read one by one, each mistake at its place.

use std::{cell::RefCell, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::rules::{
    error::{Errors, Report},
    problem::{Problem, nearest},
    source::{Source, Span},
};

/// The mistakes of a document, as they are found.
#[derive(Default)]
pub(super) struct Mistakes(RefCell<Vec<(Range<usize>, Problem)>>);

impl Mistakes {
    fn add(&self, place: Range<usize>, problem: Problem) {
        self.0.borrow_mut().push((place, problem));
    }

    /// The value, unless there were mistakes.
    pub(super) fn finish<T>(self, source: &Source<'_>, value: T) -> Result<T, Errors> {
        let mut report = Report::new(source);
        for (place, problem) in self.0.into_inner() {
            report.add(Span { start: place.start, end: place.end }, problem);
        }
        report.finish(value)
    }
}

/// Reads the text as TOML; what is none is a mistake.
pub(super) fn parse<'t>(text: &'t str, mistakes: &Mistakes) -> DeTable<'t> {
    match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let place = error.span().unwrap_or(0..0);
            mistakes.add(place, Problem::new(format!("not TOML: {}", error.message())));
            DeTable::default()
        }
    }
}

/// A key with its value.
pub(super) struct Entry<'e> {
    /// As it stands in the section.
    pub(super) key: &'e str,
    key_place: Range<usize>,
    /// `tables.max_flows`
    path: String,
    value: &'e Spanned<DeValue<'e>>,
    mistakes: &'e Mistakes,
}

/// Every entry of a table, in no particular order.
pub(super) fn entries<'e>(
    section: &str,
    table: &'e DeTable<'e>,
    mistakes: &'e Mistakes,
) -> Vec<Entry<'e>> {
    let entry = |(key, value): (&'e Spanned<std::borrow::Cow<'e, str>>, _)| Entry {
        key: key.get_ref(),
        key_place: key.span(),
        path: match section {
            "" => key.get_ref().to_string(),
            section => format!("{section}.{}", key.get_ref()),
        },
        value,
        mistakes,
    };
    table.iter().map(entry).collect()
}

impl<'e> Entry<'e> {
    /// The key is none of these.
    pub(super) fn unknown(&self, what: &str, known: &[&str]) {
        let problem = Problem::new(format!("unknown {what} '{}'", self.path));
        let problem = match nearest(self.key, known.iter().copied()) {
            Some(name) => problem.did_you_mean(Some(name)),
            None => problem.advise(format!("there are: {}", known.join(", "))),
        };
        self.mistakes.add(self.key_place.clone(), problem);
    }

    /// The key is known, and what is wrong with it is this.
    pub(super) fn refuse_key(&self, message: String) {
        self.mistakes.add(self.key_place.clone(), Problem::new(message));
    }

    fn refuse(&self, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = match plain(value.get_ref()) {
            Some(text) => format!("'{text}'"),
            None => format!("a TOML {}", value.get_ref().type_str()),
        };
        let problem = Problem::new(format!("{} cannot be {found}", self.path));
        self.mistakes.add(value.span(), problem.advise(wanted));
    }

    /// The entries of a section.
    pub(super) fn section(&self) -> Vec<Entry<'e>> {
        match self.value.get_ref() {
            DeValue::Table(table) => entries(&self.path, table, self.mistakes),
            _ => {
                let advice = format!("wanted is a section: [{}]", self.path);
                self.refuse(self.value, &advice);
                Vec::new()
            }
        }
    }

    /// A number, a text or a switch, read from its text.
    pub(super) fn read<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.read_value(self.value, &read)
    }

    fn read_value<T>(
        &self,
        value: &Spanned<DeValue<'_>>,
        read: &impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = plain(value.get_ref()).unwrap_or_default();
        read(&text).inspect_err(|wanted| self.refuse(value, wanted)).ok()
    }

    /// A text, and nothing that could be one.
    pub(super) fn text(&self, wanted: &str) -> Option<&'e str> {
        let text = self.value.get_ref().as_str().filter(|text| !text.is_empty());
        if text.is_none() {
            self.refuse(self.value, wanted);
        }
        text
    }

    pub(super) fn switch(&self) -> Option<bool> {
        self.read(|text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("wanted is true or false".into()),
        })
    }

    /// A list; each item is read from its text.
    pub(super) fn list<T>(
        &self,
        wanted: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let Some(items) = self.value.get_ref().as_array() else {
            self.refuse(self.value, wanted);
            return None;
        };
        // Each wrong item is told, not the first alone.
        let read: Vec<_> = items.iter().map(|item| self.read_value(item, &read)).collect();
        read.into_iter().collect()
    }
}

/// What stands in one place as people see it; `None` for lists and the like.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(is_on) => Some(is_on.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => Some(integer(number.as_str(), number.radix())),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// TOML knows other bases than ten.
fn integer(digits: &str, radix: u32) -> String {
    match i64::from_str_radix(digits, radix) {
        Ok(number) => number.to_string(),
        Err(_) => digits.to_owned(),
    }
}
