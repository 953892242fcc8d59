//! Text to a ruleset: files of iptables-save and lines as people type them,
//! mixed as they come. Every mistake is found in one reading.

mod address;
mod chains;
mod command;
mod dash;
mod extras;
mod items;
mod later;
mod lines;
mod mangle;
mod matches;
mod nat;
mod options;
mod pending;
mod ports;
mod rule;
mod section;
mod sets;
pub(super) mod targets;
mod values;

use std::sync::Arc;

use firewall_common::addr::Family;

use self::lines::{Lines, Word};
use super::{
    ast::{Ruleset, TableName},
    check,
    error::{Errors, Report},
    problem::Problem,
    services::Services,
    source::{Source, Span},
};

/// What the reading of a line depends on, and where its mistakes go.
struct Context<'a, 't> {
    report: &'a mut Report<'t>,
    family: Family,
    services: &'a dyn Services,
    file: Arc<str>,
}

/// Reads a whole ruleset; `name` is how errors call the text.
///
/// # Errors
/// All mistakes of the text, in the order of its lines.
pub fn parse(
    name: &str,
    text: &str,
    family: Family,
    services: &dyn Services,
) -> Result<Ruleset, Errors> {
    edit(Ruleset::empty(family), name, text, services)
}

/// Carries out the text's commands on a ruleset: `-A` appends to it, `*filter`
/// begins the table anew.
///
/// # Errors
/// As [`parse`]; the ruleset is then unchanged, as the caller holds it.
pub fn edit(
    ruleset: Ruleset,
    name: &str,
    text: &str,
    services: &dyn Services,
) -> Result<Ruleset, Errors> {
    read(ruleset, name, text, services, Former::Goes)
}

/// As [`edit`], but a table that the text names keeps what it has: `:CHAIN -` creates a
/// user chain or empties it, as `iptables-restore --noflush` does.
///
/// # Errors
/// As there.
pub fn edit_keeping(
    ruleset: Ruleset,
    name: &str,
    text: &str,
    services: &dyn Services,
) -> Result<Ruleset, Errors> {
    read(ruleset, name, text, services, Former::Stays)
}

/// How many arguments an option of a rule takes: at least, at most. `None` when there is
/// no such option.
pub fn option_arity(name: &str) -> Option<(usize, usize)> {
    options::find(name).map(|fact| fact.arity)
}

/// The options of a match; `None` when `-m` does not take the name.
pub fn options_of_match(name: &str) -> Option<impl Iterator<Item = &'static str>> {
    pending::named(name).map(|_| options::of_match(name))
}

/// The options of a target, chains apart; `None` for a name that is none.
pub fn options_of_target(name: &str) -> Option<impl Iterator<Item = &'static str>> {
    targets::BUILTIN.contains(&name).then(|| options::of_target(name))
}

/// What becomes of the rules of a table that the text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Former {
    Goes,
    Stays,
}

fn read(
    ruleset: Ruleset,
    name: &str,
    text: &str,
    services: &dyn Services,
    former: Former,
) -> Result<Ruleset, Errors> {
    let source = Source::new(name, text);
    let mut report = Report::new(&source);
    let family = ruleset.family;
    let context = Context { report: &mut report, family, services, file: source.name.clone() };
    let mut parser = Parser {
        context,
        ruleset,
        former,
        section: None,
        written: Vec::new(),
        refused: Vec::new(),
    };
    parser.run(&mut Lines::new(text));
    let ruleset = parser.ruleset;
    for finding in check::family(&ruleset) {
        report.found(finding);
    }
    report.finish(ruleset)
}

struct Parser<'a, 't> {
    context: Context<'a, 't>,
    ruleset: Ruleset,
    former: Former,
    /// Between `*table` and `COMMIT`.
    section: Option<Section>,
    /// Tables of which this text has spoken.
    written: Vec<TableName>,
    /// Tables whose rules were refused, each once.
    refused: Vec<TableName>,
}

struct Section {
    /// `None` when the name was wrong.
    table: Option<TableName>,
    span: Span,
}

impl Parser<'_, '_> {
    fn run(&mut self, lines: &mut Lines<'_>) {
        while let Some(words) = lines.next(self.context.report) {
            self.line(&words);
        }
        if let Some(section) = self.section.take() {
            let problem = Problem::undoable("this table is never finished");
            self.problem(section.span, problem.advise("write COMMIT behind its last line"));
        }
    }

    fn line(&mut self, words: &[Word]) {
        let Some(first) = words.first() else { return };
        match first.text.as_bytes().first() {
            Some(b'*') if !first.quoted => self.begin_section(words),
            Some(b':') if !first.quoted => self.declare_chain(words),
            _ if first.is("COMMIT") => self.end_section(words),
            _ => self.command(words),
        }
    }

    fn problem(&mut self, span: Span, problem: Problem) {
        self.context.report.add(span, problem);
    }

    /// Reports words behind the end of what a line can say.
    fn expect_end(&mut self, rest: &[Word]) {
        if let Some(word) = rest.first() {
            self.problem(word.span(), Problem::new(format!("unexpected '{}'", word.text)));
        }
    }
}
