//! ipset(8).

use std::{fs, io::Read as _};

use anyhow::Context as _;

use super::{
    failure::{Failure, OTHER, USAGE},
    instance,
};
use crate::{
    commands::print,
    sets::{self, Form, Listing, Mistake, Refusal},
};

/// ipset's own words for itself, which scripts look for.
const VERSION: &str = "ipset v7.17";

/// The options of a call, which may stand anywhere, and the words that are left.
#[derive(Debug, Default)]
struct Call<'a> {
    exist: bool,
    quiet: bool,
    form: Form,
    names_only: bool,
    terse: bool,
    sorted: bool,
    file: Option<&'a str>,
    words: Vec<&'a str>,
}

pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let call = read(arguments)?;
    let quiet = call.quiet;
    execute(&call).map_err(|failure| match quiet {
        true => Failure { message: String::new(), ..failure },
        false => failure,
    })
}

fn read(arguments: &[String]) -> Result<Call<'_>, Failure> {
    let mut call = Call::default();
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        let mut value = || {
            let missing = || usage(&format!("Missing mandatory argument of option `{word}'"));
            rest.next().ok_or_else(missing)
        };
        match word {
            "-!" | "-exist" | "--exist" => call.exist = true,
            "-q" | "-quiet" | "--quiet" => call.quiet = true,
            "-n" | "-name" | "--name" => call.names_only = true,
            "-t" | "-terse" | "--terse" => call.terse = true,
            "-s" | "-sorted" | "--sorted" => call.sorted = true,
            // Names of addresses are not looked up.
            "-r" | "-resolve" | "--resolve" => {}
            "-o" | "-output" | "--output" => call.form = form(value()?)?,
            "-f" | "-file" | "--file" => call.file = Some(value()?),
            word => call.words.push(word),
        }
    }
    Ok(call)
}

fn form(name: &str) -> Result<Form, Failure> {
    match name {
        "plain" => Ok(Form::Plain),
        "save" => Ok(Form::Save),
        "xml" => Ok(Form::Xml),
        "json" => Ok(Form::Json),
        other => Err(failed(&format!("Syntax error: unknown output mode '{other}'"))),
    }
}

fn execute(call: &Call<'_>) -> Result<(), Failure> {
    match call.words.first().copied() {
        None => Err(usage("No command specified.")),
        Some("version" | "-v" | "-V" | "--version") => {
            print([format!("{VERSION}, protocol version: 7")]).map_err(|error| wrong(&error))
        }
        Some("help" | "-h" | "-H" | "--help") => print([HELP]).map_err(|error| wrong(&error)),
        Some("list" | "-L" | "--list") => list(call, call.form),
        Some("save" | "-S" | "--save") => list(call, Form::Save),
        Some("restore" | "-R" | "--restore" | "-") => restore(call),
        Some("test" | "-T" | "--test") => test(call),
        Some(_) => {
            let maps = instance::maps().map_err(|error| wrong(&error))?;
            sets::change(&maps, &call.words, call.exist).map_err(|error| wrong(&error))
        }
    }
}

/// The set that is to be listed; `None` for all of them.
fn only_set<'a>(call: &Call<'a>) -> Result<Option<&'a str>, Failure> {
    match call.words.get(2) {
        Some(word) => Err(usage(&format!("Unknown argument {word}"))),
        None => Ok(call.words.get(1).copied()),
    }
}

fn list(call: &Call<'_>, form: Form) -> Result<(), Failure> {
    let listing = Listing {
        form,
        set: only_set(call)?.map(str::to_owned),
        names_only: call.names_only,
        terse: call.terse,
        sorted: call.sorted,
    };
    let maps = instance::maps().map_err(|error| wrong(&error))?;
    sets::list(&maps, &listing, call.file).map_err(|error| wrong(&error))
}

fn restore(call: &Call<'_>) -> Result<(), Failure> {
    let text = match call.file {
        Some(file) => {
            fs::read_to_string(file).with_context(|| format!("Cannot open {file} for reading"))
        }
        None => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map(|_| text).context("cannot read stdin")
        }
    };
    let text = text.map_err(|error| wrong(&error))?;
    let maps = instance::maps().map_err(|error| wrong(&error))?;
    sets::load(&maps, "stdin", &text, call.exist).map_err(|error| wrong(&error))
}

fn test(call: &Call<'_>) -> Result<(), Failure> {
    let maps = instance::maps().map_err(|error| wrong(&error))?;
    let is_in = sets::test(&maps, &call.words).map_err(|error| wrong(&error))?;
    let (set, element) = match call.words[..] {
        [_, set, element, ..] => (set, element),
        _ => ("", ""),
    };
    if !is_in {
        let message = format!("{element} is NOT in set {set}.");
        return Err(Failure { status: OTHER, message });
    }
    if !call.quiet {
        eprintln!("Warning: {element} is in set {set}.");
    }
    Ok(())
}

fn usage(message: &str) -> Failure {
    let hint = "Try `ipset help' for more information.";
    Failure { status: USAGE, message: format!("{VERSION}: {message}\n{hint}") }
}

fn failed(message: &str) -> Failure {
    Failure { status: OTHER, message: format!("{VERSION}: {message}") }
}

/// In ipset's form, which names the line of a restore.
fn wrong(error: &anyhow::Error) -> Failure {
    let in_line = |line: u32, refusal: &Refusal| format!("Error in line {line}: {refusal}");
    match (error.downcast_ref::<Refusal>(), error.downcast_ref::<Box<Mistake>>()) {
        (Some(refusal), _) if refusal.is_usage => usage(&refusal.to_string()),
        (Some(refusal), _) => failed(&refusal.to_string()),
        (_, Some(mistake)) if mistake.refusal.is_usage => {
            usage(&in_line(mistake.line, &mistake.refusal))
        }
        (_, Some(mistake)) => failed(&in_line(mistake.line, &mistake.refusal)),
        _ => failed(&format!("{error:#}")),
    }
}

const HELP: &str = "ipset v7.17

Usage: ipset [options] COMMAND

Commands:
create SETNAME TYPENAME [type-specific-options]
        TYPENAME: hash:ip, hash:net, hash:ip,port, hash:net,port, bitmap:port, list:set
add SETNAME ENTRY [timeout N] [packets N] [bytes N] [comment TEXT] [nomatch]
del SETNAME ENTRY
test SETNAME ENTRY
destroy [SETNAME]
list [SETNAME]
save [SETNAME]
restore
flush [SETNAME]
rename FROM-SETNAME TO-SETNAME
swap FROM-SETNAME TO-SETNAME
help
version

Options:
-o plain|save|xml|json   how to print
-s                       elements in their order
-q                       print nothing, and complain of nothing
-!                       what is done already is no mistake
-n                       names only
-t                       without elements
-f FILE                  read from, or write to, a file";

#[cfg(test)]
mod tests {
    use super::*;

    fn set_of(line: &str) -> Result<Option<String>, Failure> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let set = only_set(&read(&words)?)?;
        Ok(set.map(str::to_owned))
    }

    #[test]
    fn one_set_is_listed_or_all_are() {
        assert_eq!(set_of("list").unwrap(), None);
        assert_eq!(set_of("-t save y1 -sorted").unwrap().as_deref(), Some("y1"));
        for (line, wanted) in [("list y1 y2", "y2"), ("save y1 -frob", "-frob")] {
            let failure = set_of(line).unwrap_err();
            assert_eq!(failure.status, USAGE, "{line}");
            let message = format!("Unknown argument {wanted}\nTry `ipset help'");
            assert!(failure.message.contains(&message), "{line}: {}", failure.message);
        }
    }
}
