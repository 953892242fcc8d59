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

/// All rules of a family, in the order of the text.
pub fn rules(ruleset: &Ruleset) -> impl Iterator<Item = &Rule> {
    ruleset.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules)
}

/// Whoever reads it stands in another directory; `stdin` and the like are no paths.
fn absolute(file: &str) -> String {
    let path = Path::new(file);
    match std::path::absolute(path) {
        Ok(absolute) if path.is_file() => absolute.display().to_string(),
        _ => file.to_owned(),
    }
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
