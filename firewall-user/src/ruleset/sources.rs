//! Where each rule in force was written: its file and line, kept beside the rules'
//! text, which is the same wherever they came from.
//!
//! The first line lists the files as a JSON array, the second has `FILE:LINE` for each
//! rule in the order of the text, FILE as the number in that list. What does not fit the
//! rules at hand is not believed.

use std::{path::Path, sync::Arc};

use crate::rules::{Rule, Ruleset};

/// A file and its line.
pub type Written = (Arc<str>, u32);

/// Writes down where the rules of one family come from.
pub fn write<'r>(ruleset: &'r Ruleset, place: impl Fn(&'r Rule) -> (&'r Arc<str>, u32)) -> String {
    let mut files: Vec<&Arc<str>> = Vec::new();
    let mut places = Vec::new();
    for rule in rules(ruleset) {
        let (file, line) = place(rule);
        let known = files.iter().position(|known| *known == file);
        let number = known.unwrap_or_else(|| {
            files.push(file);
            files.len() - 1
        });
        places.push(format!("{number}:{line}"));
    }
    if places.is_empty() {
        return String::new();
    }
    let files: Vec<_> = files.iter().map(|file| absolute(file)).collect();
    format!("{}\n{}", serde_json::Value::from(files), places.join(" "))
}

/// Gives the rules back their places; leaves them as they are where `text` is not theirs.
pub fn restore(ruleset: &mut Ruleset, text: &str) {
    let Some(places) = read(ruleset, text) else { return };
    let tables = ruleset.tables.iter_mut().flat_map(|table| &mut table.chains);
    for (rule, (file, line)) in tables.flat_map(|chain| &mut chain.rules).zip(places) {
        (rule.origin.file, rule.origin.line) = (file, line);
    }
}

/// The places of the rules, in their order; `None` where `text` is not theirs.
pub fn read(ruleset: &Ruleset, text: &str) -> Option<Vec<Written>> {
    let (files, places) = text.split_once('\n')?;
    let files: Vec<String> = serde_json::from_str(files).ok()?;
    let files: Vec<Arc<str>> = files.into_iter().map(Into::into).collect();
    let place = |item: &str| {
        let (file, line) = item.split_once(':')?;
        let file = files.get(file.parse::<usize>().ok()?)?;
        Some((Arc::clone(file), line.parse().ok()?))
    };
    let places: Vec<_> = places.split(' ').map(place).collect::<Option<_>>()?;
    (places.len() == rules(ruleset).count()).then_some(places)
}

/// What tells the places when the rule of a number, counted from 0, has gone, or one that
/// was written in `comes` has come there; `None` where `text` is not of so many `rules`.
pub fn splice(
    text: &str,
    rules: usize,
    number: usize,
    goes: bool,
    comes: Option<(&str, u32)>,
) -> Option<String> {
    let (head, items) = if rules == 0 { ("[]", "") } else { text.split_once('\n')? };
    let file = comes.map(|(file, _)| absolute(file));
    let blanks = items.bytes().filter(|byte| *byte == b' ').count();
    if number + usize::from(goes) > rules || rules != 0 && blanks + 1 != rules {
        return None;
    }
    let is_of_one = file.as_deref().is_none_or(|file| head == list(&[file]));
    let left = rules + usize::from(comes.is_some()) - usize::from(goes);
    if rules != 0 && left != 0 && is_of_one && !head.contains("\",\"") {
        return Some(spliced(head, items, number, goes, comes.map(|(_, line)| line)));
    }
    let mut files: Vec<String> = serde_json::from_str(head).ok()?;
    let mut places = Vec::with_capacity(rules + 1);
    for item in items.split(' ').filter(|_| rules != 0) {
        let (file, line) = item.split_once(':')?;
        let (file, line): (usize, u32) = (file.parse().ok()?, line.parse().ok()?);
        files.get(file)?;
        places.push((file, line));
    }
    let new = file.zip(comes).map(|(file, (_, line))| {
        let at = files.iter().position(|known| *known == file).unwrap_or(files.len());
        if at == files.len() {
            files.push(file);
        }
        (at, line)
    });
    places.splice(number..number + usize::from(goes), new);
    Some(numbered(&files, &places))
}

/// As [`splice`], where all rules are of one file, and some are left: as most that single
/// commands have made.
fn spliced(head: &str, items: &str, number: usize, goes: bool, comes: Option<u32>) -> String {
    let mut rest = items;
    for _ in 0..number {
        rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
    }
    let before = items[..items.len() - rest.len()].trim_end();
    if goes {
        rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
    }
    let new = comes.map(|line| format!("0:{line}"));
    let parts = [before, new.as_deref().unwrap_or_default(), rest];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{head}\n{}", parts.join(" "))
}

/// The first line.
fn list(files: &[&str]) -> String {
    serde_json::Value::from(files).to_string()
}

/// The text of places whose files are numbered anew, in the order in which they appear.
fn numbered(files: &[String], places: &[(usize, u32)]) -> String {
    if places.is_empty() {
        return String::new();
    }
    let mut numbers = vec![None; files.len()];
    let mut named = Vec::new();
    let mut items = String::with_capacity(places.len() * 8);
    for (file, line) in places {
        let number = *numbers[*file].get_or_insert_with(|| {
            named.push(files[*file].as_str());
            named.len() - 1
        });
        let mut digits = itoa::Buffer::new();
        items.push_str(digits.format(number));
        items.push(':');
        items.push_str(digits.format(*line));
        items.push(' ');
    }
    items.pop();
    format!("{}\n{items}", list(&named))
}

/// All rules of a family, in the order of the text.
pub fn rules(ruleset: &Ruleset) -> impl Iterator<Item = &Rule> {
    ruleset.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules)
}

/// Whoever reads it stands in another directory; `stdin` and the like are no paths.
fn absolute(file: &str) -> String {
    let path = Path::new(file);
    if path.is_file()
        && let Ok(absolute) = std::path::absolute(path)
    {
        return absolute.display().to_string();
    }
    file.to_owned()
}

#[cfg(test)]
mod tests {
    use firewall_common::addr::Family;

    use super::*;
    use crate::rules::{BuiltinServices, parse, to_save};

    const RULES: &str = "\
# two lines of comment
# and the rules
-A INPUT -p tcp --dport 22 -j ACCEPT

-A FORWARD -j DROP
-t raw -A PREROUTING -j NOTRACK
";

    fn parsed(name: &str, text: &str) -> Ruleset {
        parse(name, text, Family::Ipv4, &BuiltinServices).unwrap()
    }

    fn written(ruleset: &Ruleset) -> String {
        write(ruleset, |rule| (&rule.origin.file, rule.origin.line))
    }

    fn places(ruleset: &Ruleset) -> Vec<(String, u32)> {
        rules(ruleset).map(|rule| (rule.origin.file.to_string(), rule.origin.line)).collect()
    }

    #[test]
    fn rules_that_were_printed_and_read_again_know_where_they_were_written() {
        let written = parsed("stdin", RULES);
        let mut running = parsed("the running rules", &to_save(&written, None));
        restore(&mut running, &self::written(&written));
        let wanted = [("stdin", 6), ("stdin", 3), ("stdin", 5)];
        assert_eq!(places(&running), wanted.map(|(file, line)| (file.to_owned(), line)));
        assert_eq!(running, written);
    }

    #[test]
    fn places_of_other_rules_are_not_believed() {
        let mut running = parsed("the running rules", "-A INPUT -j DROP\n");
        let before = places(&running);
        for text in ["", "[]", "[]\n", "[\"a\"]\n0:1 0:2", "[\"a\"]\n1:1", "[\"a\"]\n0:x", "x\n0:1"]
        {
            restore(&mut running, text);
            assert_eq!(places(&running), before, "{text:?}");
        }
    }

    #[test]
    fn a_file_is_named_from_the_root_on() {
        let written = parsed("Cargo.toml", "-A INPUT -j DROP\n");
        let mut running = written.clone();
        restore(&mut running, &self::written(&written));
        assert!(places(&running)[0].0.starts_with('/'), "{:?}", places(&running));
        assert_eq!(self::written(&parsed("x", "*filter\nCOMMIT\n")), "");
    }
}
