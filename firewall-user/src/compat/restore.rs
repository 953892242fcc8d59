//! iptables-restore(8) and ip6tables-restore(8): tables from a file, all at once.

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read},
    time::Duration,
};

use firewall_common::rule::Counter;

use super::{
    Program,
    failure::{Failure, OTHER, USAGE},
    instance::{Locked, Wait, not_changed},
};
use crate::{
    commands::{print, source},
    names::LocalNames,
    rules::{self, Errors, Fault, Ruleset, TableName},
    ruleset::Rulesets,
};

#[derive(Debug)]
struct Call {
    keeps: bool,
    has_counters: bool,
    only_tests: bool,
    table: Option<TableName>,
    wait: Wait,
    file: Option<String>,
}

/// What a call asks for, or what it is to print.
enum Asked {
    Restore(Call),
    Text(String),
}

pub(super) fn run(program: Program, arguments: &[String]) -> Result<(), Failure> {
    let call = match read(program, arguments)? {
        Asked::Restore(call) => call,
        Asked::Text(text) => {
            return print([text]).map_err(|error| program.failed(OTHER, &format!("{error:#}")));
        }
    };
    let (name, text) = input(program, &call)?;
    let text = match call.table {
        Some(table) => only(&text, table),
        None => text,
    };
    let locked = if call.only_tests {
        Locked::to_read(program)?
    } else {
        Locked::to_change(program, call.wait)?
    };
    let edit = locked.edit(program)?;
    let before = edit.before().family(program.family);
    let after = restored(&call, before, &name, &text).map_err(|errors| wrong(program, &errors))?;
    if call.only_tests {
        let all = Rulesets::with_counted(edit.before().clone(), after);
        return all.compile().map(drop).map_err(|error| not_changed(program, &error));
    }
    let after = edit.before().clone().with_counted(after);
    edit.finish(&after).map_err(|error| not_restored(program, &name, &error))
}

/// A set that is not there is told with its line, as what is written wrongly.
fn not_restored(program: Program, name: &str, error: &anyhow::Error) -> Failure {
    match error.downcast_ref::<Errors>() {
        Some(errors) if errors.0.iter().all(|one| is_absent_set_of(name, one)) => {
            wrong(program, errors)
        }
        _ => not_changed(program, error),
    }
}

fn is_absent_set_of(name: &str, error: &rules::Error) -> bool {
    &*error.file == name && error.problem.fault == Fault::AbsentSet
}

fn read(program: Program, arguments: &[String]) -> Result<Asked, Failure> {
    let mut call = Call {
        keeps: false,
        has_counters: false,
        only_tests: false,
        table: None,
        wait: Wait::No,
        file: None,
    };
    let mut words: VecDeque<String> = spread(arguments);
    while let Some(word) = words.pop_front() {
        let number = words.front().filter(|next| next.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.cloned().filter(|next| !next.is_empty());
        match word.as_str() {
            "-n" | "--noflush" => call.keeps = true,
            "-c" | "--counters" => call.has_counters = true,
            "-t" | "--test" => call.only_tests = true,
            "-v" | "--verbose" | "-4" | "--ipv4" | "-6" | "--ipv6" => {}
            "-w" | "--wait" => {
                let seconds = number.as_ref().and_then(|number| number.parse().ok());
                call.wait = seconds.map_or(Wait::Forever, |it| Wait::For(Duration::from_secs(it)));
                number.inspect(|_| drop(words.pop_front()));
            }
            "-W" | "--wait-interval" => drop(number.inspect(|_| drop(words.pop_front()))),
            "-T" | "--table" | "-M" | "--modprobe" => {
                let Some(value) = words.pop_front() else {
                    return Err(program.usage(&format!("option \"{word}\" requires an argument")));
                };
                if word == "-T" || word == "--table" {
                    call.table = Some(program.table(&value)?);
                }
            }
            "-V" | "--version" => return Ok(Asked::Text(program.version())),
            "-h" | "--help" => return Ok(Asked::Text(help(program))),
            option if option.starts_with('-') && option != "-" => {
                return Err(program.usage(&format!("unknown option \"{option}\"")));
            }
            _ if call.file.is_some() => {
                let message = format!("Unknown arguments found on commandline: {word}");
                return Err(program.usage(&message));
            }
            _ => call.file = Some(word),
        }
    }
    Ok(Asked::Restore(call))
}

/// `-nc` as `-n -c`, `--table=raw` as `--table raw`, `-w5` as `-w 5`.
fn spread(arguments: &[String]) -> VecDeque<String> {
    let mut words = VecDeque::new();
    for word in arguments {
        if let Some((name, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
            words.extend([name.to_owned(), value.to_owned()]);
            continue;
        }
        let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else {
            words.push_back(word.clone());
            continue;
        };
        let with_value = letters.find(['w', 'W', 'T', 'M']);
        let flags = with_value.map_or(letters, |at| &letters[..=at]);
        words.extend(flags.chars().map(|letter| format!("-{letter}")));
        let value = &letters[flags.len()..];
        if letters.is_empty() || !value.is_empty() {
            words.push_back(if letters.is_empty() { word.clone() } else { value.to_owned() });
        }
    }
    words
}

/// The name of the input and what it says.
fn input(program: Program, call: &Call) -> Result<(String, String), Failure> {
    let failed = |what: &str, error: &io::Error| {
        program.failed(OTHER, &format!("Can't open {what}: {error}"))
    };
    let decoded = |name: &str, bytes| {
        source::decoded(name, bytes).map_err(|error| program.failed(OTHER, &error.to_string()))
    };
    match call.file.as_deref() {
        Some(file) if file != "-" => {
            let bytes = fs::read(file).map_err(|error| failed(file, &error))?;
            Ok((file.to_owned(), decoded(file, bytes)?))
        }
        _ => {
            let mut bytes = Vec::new();
            let read = io::stdin().read_to_end(&mut bytes);
            read.map_err(|error| failed("stdin", &error))?;
            Ok(("stdin".to_owned(), decoded("stdin", bytes)?))
        }
    }
}

/// The lines of one table; the others are emptied, so that lines keep their numbers.
fn only(text: &str, table: TableName) -> String {
    let mut is_inside = false;
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let word = line.trim();
        if let Some(name) = word.strip_prefix('*') {
            is_inside = name.trim() == table.name();
        }
        if is_inside {
            out.push_str(line);
        }
        out.push('\n');
        is_inside &= word != "COMMIT";
    }
    out
}

/// The rules after the restore. New ones have counters only when those of the file are
/// wanted.
fn restored(call: &Call, before: &Ruleset, name: &str, text: &str) -> Result<Ruleset, Errors> {
    let edit = if call.keeps { rules::edit_keeping } else { rules::edit };
    let mut after = edit(before.clone(), name, text, &LocalNames::default())?;
    if call.has_counters {
        return Ok(after);
    }
    let is_named = |table: TableName| {
        text.lines().any(|line| line.trim().strip_prefix('*').is_some_and(|it| it == table.name()))
    };
    let declared = declared(text);
    for table in &mut after.tables {
        let goes = !call.keeps && is_named(table.name);
        let former = before.table(table.name).filter(|_| !goes);
        for chain in &mut table.chains {
            let new = chain.rules.iter_mut().filter(|rule| &*rule.origin.file == name);
            new.for_each(|rule| rule.counter = Counter::default());
            let former = former
                .filter(|_| !declared.contains(&(table.name, &chain.name)))
                .and_then(|table| table.chain(&chain.name)?.policy);
            if let Some(policy) = &mut chain.policy {
                policy.counter = former.map(|policy| policy.counter).unwrap_or_default();
            }
        }
    }
    Ok(after)
}

/// The chains that the text names by lines of their own: their policies count anew.
fn declared(text: &str) -> Vec<(TableName, &str)> {
    let mut table = None;
    let mut chains = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            table = TableName::from_name(name.trim());
        } else if let Some(rest) = line.strip_prefix(':') {
            let name = rest.split_whitespace().next().unwrap_or_default();
            chains.extend(table.map(|table| (table, name)));
        }
    }
    chains
}

/// Every mistake with its place, then the line of the first in iptables-restore's words:
/// those by which it parts what cannot be done from what is written wrongly.
fn wrong(program: Program, errors: &Errors) -> Failure {
    let line = errors.0.first().map_or(0, |error| error.line);
    if errors.0.first().is_some_and(|error| error.problem.fault == Fault::Undoable) {
        return program.refused(&format!("line {line} failed: {errors}"));
    }
    let hint = format!("Try `{0} -h' or '{0} --help' for more information.", program.name);
    let message =
        format!("{}: {errors}\nError occurred at line: {line}\n{hint}", program.version());
    Failure { status: USAGE, message }
}

fn help(program: Program) -> String {
    format!(
        "Usage: {} [-n] [-c] [-t] [-T table] [-w [seconds]] [file]\n\n  -n --noflush       tables \
         keep what they have\n  -c --counters      with the counters of the file\n  -t \
         --test          check only\n  -T --table TABLE   this table only\n  -w --wait [SECS]   \
         wait for others who change the rules\n  -v, -W, -M         taken, and of no effect",
        program.name
    )
}

#[cfg(test)]
mod tests {
    use firewall_common::addr::Family;

    use super::*;

    const PROGRAM: Program = Program { name: "iptables-restore", family: Family::Ipv4 };

    fn call(line: &str) -> Call {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        match read(PROGRAM, &words).unwrap() {
            Asked::Restore(call) => call,
            Asked::Text(text) => panic!("{text}"),
        }
    }

    #[test]
    fn letters_stand_alone_or_together() {
        let parted = call("-n -c -t -T raw -w 5 rules");
        let joined = call("-nct --table=raw -w5 rules");
        for call in [parted, joined] {
            assert!(call.keeps && call.has_counters && call.only_tests);
            assert_eq!(call.table, Some(TableName::Raw));
            assert_eq!(call.wait, Wait::For(Duration::from_secs(5)));
            assert_eq!(call.file.as_deref(), Some("rules"));
        }
        assert_eq!(call("-w").wait, Wait::Forever);
        assert_eq!(call("--wait --noflush -").file.as_deref(), Some("-"));
    }

    #[test]
    fn an_unknown_option_is_wrong_usage() {
        let failure = read(PROGRAM, &["-q".to_owned()]).map(drop).unwrap_err();
        assert_eq!(failure.status, 2);
        assert!(failure.message.contains("unknown option \"-q\""), "{}", failure.message);
    }

    #[test]
    fn one_table_of_a_file_keeps_its_line_numbers() {
        let text = "*raw\n-A OUTPUT\nCOMMIT\n*filter\n-A INPUT\nCOMMIT\n-A x\n";
        assert_eq!(only(text, TableName::Filter), "\n\n\n*filter\n-A INPUT\nCOMMIT\n\n");
    }

    fn restore(line: &str, before: &str, text: &str) -> Ruleset {
        let before = rules::parse("before", before, Family::Ipv4, &rules::BuiltinServices).unwrap();
        restored(&call(line), &before, "stdin", text).unwrap()
    }

    #[test]
    fn what_cannot_be_done_is_told_from_what_is_written_wrongly() {
        let status = |text: &str| {
            let before = Ruleset::empty(Family::Ipv4);
            let errors = restored(&call(""), &before, "stdin", text).unwrap_err();
            wrong(PROGRAM, &errors).status
        };
        for undoable in [
            "*filter\n",
            "*filter\n-A NOCHAIN -j DROP\nCOMMIT\n",
            "*filter\n-D INPUT -j DROP\nCOMMIT\n",
            "*filter\n-D INPUT 7\nCOMMIT\n",
            "*filter\n-N c\n-N c\nCOMMIT\n",
            "*filter\n-X NOCHAIN\nCOMMIT\n",
            "*filter\n:INPUT FROB [0:0]\nCOMMIT\n",
        ] {
            assert_eq!(status(undoable), 1, "{undoable}");
        }
        for wrong in [
            "*filter\n-A INPUT -j NOCHAIN\nCOMMIT\n",
            "*filter\n-A INPUT --frob\nCOMMIT\n",
            "*frob\nCOMMIT\n",
        ] {
            assert_eq!(status(wrong), 2, "{wrong}");
        }
    }

    #[test]
    fn a_chain_that_cannot_be_found_is_told_with_its_line() {
        let text = "*filter\n-A NOCHAIN -j DROP\nCOMMIT\n";
        let errors = restored(&call(""), &Ruleset::empty(Family::Ipv4), "stdin", text).unwrap_err();
        let message = wrong(PROGRAM, &errors).message;
        assert!(message.starts_with("iptables-restore: line 2 failed: "), "{message}");
    }

    #[test]
    fn a_policy_that_is_named_counts_anew_without_flush_too() {
        for text in [":INPUT ACCEPT [7:70]", ":INPUT ACCEPT", ":INPUT DROP [7:70]"] {
            let after = restore("-n", BEFORE, &format!("*filter\n{text}\nCOMMIT\n"));
            let policy = after.tables[0].chain("INPUT").unwrap().policy.unwrap();
            assert_eq!(policy.counter, Counter::default(), "{text}");
        }
        let after = restore("-n", BEFORE, "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n");
        let policy = after.tables[0].chain("INPUT").unwrap().policy.unwrap();
        assert_eq!(policy.counter, Counter { packets: 3, bytes: 30 });
    }

    const BEFORE: &str =
        "*filter\n:INPUT ACCEPT [3:30]\n:a - [0:0]\n[1:10] -A INPUT -j a\n[2:20] -A a\nCOMMIT\n";

    #[test]
    fn a_table_that_is_named_begins_anew_without_counters() {
        let after = restore("", BEFORE, "*filter\n:INPUT DROP [7:70]\n[5:50] -A INPUT\nCOMMIT\n");
        let saved = rules::to_save(&after, None);
        assert!(saved.contains(":INPUT DROP [0:0]") && !saved.contains("-A a"), "{saved}");
        assert_eq!(after.tables[0].chains[0].rules[0].counter, Counter::default());
    }

    #[test]
    fn with_counters_those_of_the_file_count() {
        let after = restore("-c", BEFORE, "*filter\n:INPUT DROP [7:70]\n[5:50] -A INPUT\nCOMMIT\n");
        let chain = &after.tables[0].chains[0];
        assert_eq!(chain.rules[0].counter, Counter { packets: 5, bytes: 50 });
        assert_eq!(chain.policy.unwrap().counter, Counter { packets: 7, bytes: 70 });
    }

    #[test]
    fn without_flush_a_table_keeps_its_rules_and_a_chain_that_is_named_is_emptied() {
        let after =
            restore("-n", BEFORE, "*filter\n:a - [0:0]\n:b - [0:0]\n-A INPUT -j b\nCOMMIT\n");
        let table = &after.tables[0];
        let input = table.chain("INPUT").unwrap();
        assert_eq!(input.rules.len(), 2);
        assert_eq!(input.rules[0].counter, Counter { packets: 1, bytes: 10 });
        assert_eq!(input.policy.unwrap().counter, Counter { packets: 3, bytes: 30 });
        assert!(table.chain("a").unwrap().rules.is_empty() && table.chain("b").is_some());
    }
}
