//! Words of a line to options with their arguments. Nothing is interpreted
//! here but the shape: what takes an argument, and where `!` stands.

use std::collections::VecDeque;

use super::{
    Context, dash, later,
    lines::Word,
    options::{self, Fact, NflogField, Opt},
    pending,
};
use crate::rules::{
    problem::{Problem, nearest},
    source::Span,
};

/// One option as it was written.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) opt: Opt,
    /// As written: `--dport`, `-p`.
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) negated: bool,
    pub(super) args: Vec<Word>,
}

impl Item {
    /// The place of the first argument, or of the option without one.
    pub(super) fn value_span(&self) -> Span {
        self.args.first().map_or(self.span, Word::span)
    }

    /// From the option to its last argument.
    pub(super) fn whole_span(&self) -> Span {
        let end = self.args.last().map_or(self.span.end, |word| word.end);
        Span { start: self.span.start, end: end.max(self.span.end) }
    }

    pub(super) fn arg(&self) -> &str {
        self.args.first().map_or("", |word| &word.text)
    }
}

/// Splits a line into its options; what does not fit is reported.
pub(super) fn split(context: &mut Context<'_, '_>, words: &[Word]) -> Vec<Item> {
    let words = words.iter().cloned().collect();
    Splitter { context, words, refused: Vec::new() }.run()
}

/// Where the option ends and its argument begins.
fn glued_at(word: &Word) -> Option<(usize, usize)> {
    let text = &word.text;
    if text.starts_with("--") {
        let at = text.find('=')?;
        return options::find(&text[..at]).map(|_| (at, at + 1));
    }
    if word.quoted {
        return None;
    }
    if text.starts_with("!-") {
        return Some((1, 1));
    }
    let is_short = text.len() > 2 && text.starts_with('-') && text.is_char_boundary(2);
    if !is_short || options::find(&format!("-{text}")).is_some() {
        return None;
    }
    options::find(&text[..2]).filter(|fact| fact.arity.1 > 0).map(|_| (2, 2))
}

struct Splitter<'c, 'a, 't> {
    context: &'c mut Context<'a, 't>,
    /// What is still to be read.
    words: VecDeque<Word>,
    /// Matches and targets that were refused: their options are not reported again.
    refused: Vec<String>,
}

impl Splitter<'_, '_, '_> {
    fn run(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        while let Some(word) = self.next_word() {
            let negation = word.is("!").then(|| word.span());
            let word = match negation {
                None => word,
                Some(span) => match self.next_word() {
                    Some(word) => word,
                    None => {
                        self.problem(span, Problem::new("nothing follows the '!'"));
                        break;
                    }
                },
            };
            if let Some(item) = self.item(&word, negation) {
                items.push(item);
            }
        }
        items
    }

    /// The next word where an option may stand: `--opt=value`, `-pvalue` and
    /// `!-p` give their first part.
    fn next_word(&mut self) -> Option<Word> {
        let word = self.words.pop_front()?;
        let Some((end, start)) = glued_at(&word) else { return Some(word) };
        let tail = Word {
            text: word.text[start..].to_owned(),
            start: word.part(start, word.text.len()).start,
            ..word
        };
        self.words.push_front(tail);
        let end_at = word.part(0, end).end;
        Some(Word { text: word.text[..end].to_owned(), end: end_at, quoted: false, ..word })
    }

    fn problem(&mut self, span: Span, problem: Problem) {
        self.context.report.add(span, problem);
    }

    fn item(&mut self, word: &Word, negation: Option<Span>) -> Option<Item> {
        let name = match dash::plain_option(word) {
            Some((name, problem)) => {
                self.problem(word.span(), problem);
                name
            }
            None => word.text.clone(),
        };
        let Some(fact) = options::find(&name).filter(|_| !word.quoted) else {
            self.unknown(word, &name);
            return None;
        };
        let mut item =
            Item { opt: fact.opt, name, span: word.span(), negated: false, args: Vec::new() };
        let inner = self.arguments(fact, &mut item);
        if let (Some(span), Some(_)) = (negation, inner) {
            self.problem(
                span,
                Problem::new(format!("'!' stands both before and after {}", item.name)),
            );
        }
        if let Some(span) = negation.or(inner).filter(|_| !fact.negatable) {
            self.problem(span, Problem::new(format!("'!' cannot stand with {}", item.name)));
        }
        item.negated = negation.or(inner).is_some();
        self.note_refused(&item);
        (item.args.len() >= fact.arity.0).then_some(item)
    }

    /// Takes the arguments; gives the place of a `!` between, as old rules have it.
    fn arguments(&mut self, fact: &Fact, item: &mut Item) -> Option<Span> {
        let inner = self.inner_negation(fact);
        while item.args.len() < fact.arity.1 {
            let must = item.args.len() < fact.arity.0;
            match self.words.pop_front_if(|word| is_argument(word, must, item)) {
                Some(word) => item.args.push(word),
                None => break,
            }
        }
        if item.args.len() < fact.arity.0 {
            let wanted = match fact.arity.0 {
                1 => "an argument".to_owned(),
                n => format!("{n} arguments"),
            };
            self.problem(item.span, Problem::new(format!("{} needs {wanted}", item.name)));
        }
        inner
    }

    /// `-s ! 192.0.2.1`, `--syn` without arguments apart, and `-i !eth0`.
    fn inner_negation(&mut self, fact: &Fact) -> Option<Span> {
        if fact.arity.0 == 0 || !fact.negatable {
            return None;
        }
        let word = self.words.front_mut()?;
        let span = word.part(0, 1);
        if word.is("!") {
            self.words.pop_front();
            return Some(span);
        }
        if word.quoted || !word.text.starts_with('!') {
            return None;
        }
        word.text.remove(0);
        word.start += 1;
        Some(span)
    }

    /// Remembers a match or target that is not known or comes later, whose own
    /// options then need no message.
    fn note_refused(&mut self, item: &Item) {
        let is_refused = match item.opt {
            Opt::Match => pending::named(item.arg()).is_none(),
            Opt::Jump => later::is_target(item.arg()),
            _ => false,
        };
        if is_refused {
            self.refused.push(item.arg().to_owned());
        }
    }

    fn unknown(&mut self, word: &Word, name: &str) {
        let begins_with_dash = name.starts_with('-') && !word.quoted;
        if begins_with_dash {
            self.skip_arguments();
            if self.belongs_to_refused(name) {
                return;
            }
        }
        self.problem(word.span(), unknown_word(word, name, begins_with_dash));
    }

    /// The options of some matches that come later are known; behind others
    /// that were refused, any option is taken for their own, unless it looks
    /// like one that was misspelt.
    fn belongs_to_refused(&self, name: &str) -> bool {
        match later::owner(name) {
            Some(owner) => self.refused.iter().any(|refused| refused == owner),
            None => !self.refused.is_empty() && nearest(name, options::names()).is_none(),
        }
    }

    fn skip_arguments(&mut self) {
        let is_option =
            |word: &Word| word.is("!") || word.text.starts_with('-') || dash::begins(word);
        while self.words.pop_front_if(|word| word.quoted || !is_option(word)).is_some() {}
    }
}

/// Whether a word can be the argument of an option; an optional one is a
/// plain word.
fn is_argument(word: &Word, must: bool, item: &Item) -> bool {
    if word.quoted
        || matches!(item.opt, Opt::Comment | Opt::LogPrefix | Opt::Nflog(NflogField::Prefix))
    {
        return true;
    }
    if word.is("!") || dash::begins(word) || options::find(&word.text).is_some() {
        return false;
    }
    let is_number = word.text.bytes().all(|byte| byte.is_ascii_digit());
    match item.opt {
        Opt::Insert | Opt::Delete | Opt::Ignored if !must => is_number,
        _ => must || !word.text.starts_with('-'),
    }
}

fn unknown_word(word: &Word, name: &str, begins_with_dash: bool) -> Problem {
    if !begins_with_dash {
        return Problem::new(format!("unexpected '{}'", word.text));
    }
    if let Some(problem) = later::option(name) {
        return problem;
    }
    if !name.starts_with("--") && options::find(&format!("-{name}")).is_some() {
        return Problem::new(format!("'{name}' begins with one dash"))
            .advise(format!("write -{name}"));
    }
    let near = nearest(name, options::names()).filter(|_| name.starts_with("--"));
    Problem::new(format!("unknown option '{name}'")).did_you_mean(near)
}
