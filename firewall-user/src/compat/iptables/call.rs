//! The arguments of one call: its command, what it is to show, how long it may wait,
//! and the rule, which stays as it was written for the parser of rules.

use std::{collections::VecDeque, time::Duration};

use firewall_common::{addr::Family, rule::Counter};

use super::{
    super::{Program, failure::Failure, instance::Wait},
    options::{self, LINE_NUMBERS, Takes},
};
use crate::rules::{TableName, option_arity};

/// What a call asks for, checked as far as the arguments alone tell.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) table: TableName,
    pub(super) command: Command,
    /// `-Z` beside `-L` or `-S`.
    pub(super) zeroes: bool,
    pub(super) show: Show,
    pub(super) wait: Wait,
    /// `-c PACKETS BYTES`
    pub(super) counter: Option<Counter>,
    /// The words of the rule; those beside `-h`, which asks for help with them.
    pub(super) rule: Vec<String>,
}

/// How a listing looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Show {
    pub(super) numeric: bool,
    pub(super) verbose: bool,
    pub(super) exact: bool,
    pub(super) line_numbers: bool,
}

/// Numbers of rules count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Append(String),
    Insert(String, usize),
    Delete(String),
    DeleteNumber(String, usize),
    Replace(String, usize),
    Check(String),
    List(Option<String>, Option<usize>),
    ListRules(Option<String>, Option<usize>),
    Flush(Option<String>),
    Zero(Option<String>, Option<usize>),
    New(String),
    DeleteChain(Option<String>),
    Rename(String, String),
    Policy(String, String),
    Help,
    Version,
}

impl Command {
    pub(super) const fn changes_nothing(&self) -> bool {
        matches!(self, Self::List(..) | Self::ListRules(..) | Self::Check(_))
    }

    const fn takes_rule(&self) -> bool {
        matches!(
            self,
            Self::Append(_)
                | Self::Insert(..)
                | Self::Delete(_)
                | Self::Replace(..)
                | Self::Check(_)
        )
    }
}

pub(super) fn read(program: Program, arguments: &[String]) -> Result<Call, Failure> {
    let mut reader = Reader {
        program,
        words: arguments.iter().cloned().collect(),
        table: TableName::Filter,
        command: None,
        zero: None,
        show: Show::default(),
        wait: Wait::No,
        counter: None,
        rule: Vec::new(),
        unknown: None,
    };
    while let Some(word) = reader.words.pop_front() {
        reader.word(word)?;
    }
    reader.finish()
}

struct Reader {
    program: Program,
    /// What is still to be read.
    words: VecDeque<String>,
    table: TableName,
    /// With its letter.
    command: Option<(char, Command)>,
    /// `-Z`, which can stand beside a listing.
    zero: Option<Command>,
    show: Show,
    wait: Wait,
    counter: Option<Counter>,
    rule: Vec<String>,
    /// The first option that nothing takes.
    unknown: Option<String>,
}

impl Reader {
    fn word(&mut self, word: String) -> Result<(), Failure> {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let is_of_rule = || option_arity(&format!("--{name}")).is_some();
            let ours = match options::by_name(name) {
                None if !is_of_rule() => options::by_beginning(name),
                exact => exact,
            };
            return match ours {
                Some((letter, takes)) => self.option(letter, takes, value),
                None => self.rule_option(word),
            };
        }
        let mut letters = word.chars();
        let (Some('-'), Some(letter)) = (letters.next(), letters.next()) else {
            return self.plain(word);
        };
        let rest = Some(letters.as_str()).filter(|rest| !rest.is_empty()).map(str::to_owned);
        match options::by_letter(letter) {
            Some((letter, Takes::Nothing)) => {
                if let Some(rest) = rest {
                    self.words.push_front(format!("-{rest}"));
                }
                self.option(letter, Takes::Nothing, None)
            }
            Some((letter, takes)) => self.option(letter, takes, rest),
            None => self.rule_option(word),
        }
    }

    fn plain(&mut self, word: String) -> Result<(), Failure> {
        if word == "!" {
            self.rule.push(word);
            return Ok(());
        }
        let Failure { status, message } = self.program.usage("");
        let hint = message.lines().last().unwrap_or_default();
        Err(Failure { status, message: format!("Bad argument `{word}'\n{hint}") })
    }

    /// Keeps an option of the rule with its arguments.
    fn rule_option(&mut self, word: String) -> Result<(), Failure> {
        let is_glued = word.contains('=') || (!word.starts_with("--") && word.len() > 2);
        let arity = option_arity(&word);
        if arity.is_none() && option_arity(name_of(&word)).is_none() {
            self.unknown.get_or_insert_with(|| word.clone());
        }
        self.rule.push(word);
        match arity {
            Some((least, most)) => {
                if least > 0 && self.words.front().is_some_and(|word| word == "!") {
                    self.rule.extend(self.words.pop_front());
                }
                for count in 0..most {
                    if count >= least && !self.is_argument_next() {
                        break;
                    }
                    self.rule.extend(self.words.pop_front());
                }
            }
            None if is_glued => {}
            // The parser of rules will say what it is.
            None => {
                while self.is_argument_next() {
                    self.rule.extend(self.words.pop_front());
                }
            }
        }
        Ok(())
    }

    fn is_argument_next(&self) -> bool {
        self.words.front().is_some_and(|word| !word.starts_with(['-', '!']))
    }

    fn argument(&mut self) -> Option<String> {
        if self.is_argument_next() { self.words.pop_front() } else { None }
    }

    fn option(&mut self, letter: char, takes: Takes, glued: Option<String>) -> Result<(), Failure> {
        let value = match takes {
            Takes::Nothing => None,
            Takes::Perhaps => glued.or_else(|| self.argument()),
            Takes::Value => {
                let value = glued.or_else(|| self.words.pop_front());
                Some(value.ok_or_else(|| self.needs_argument(letter))?)
            }
        };
        match letter {
            'n' => self.show.numeric = true,
            'v' => self.show.verbose = true,
            'x' => self.show.exact = true,
            LINE_NUMBERS => self.show.line_numbers = true,
            't' => self.table = self.program.table(&value.unwrap_or_default())?,
            'w' => self.wait = self.wait_time(value)?,
            'c' => self.counter = Some(self.counters(&value.unwrap_or_default())?),
            '4' | '6' => self.check_family(letter)?,
            'W' | 'M' => {}
            'Z' => self.zero = Some(self.zero(value)?),
            _ => self.command(letter, value)?,
        }
        Ok(())
    }

    fn command(&mut self, letter: char, value: Option<String>) -> Result<(), Failure> {
        if let Some((first, _)) = &self.command {
            return Err(self.program.usage(&format!("Cannot use -{letter} with -{first}")));
        }
        let name = value.clone().unwrap_or_default();
        let command = match letter {
            'A' => Command::Append(name),
            'C' => Command::Check(name),
            'I' => Command::Insert(name, self.number()?.unwrap_or(1)),
            'D' => match self.number()? {
                Some(number) => Command::DeleteNumber(name, number),
                None => Command::Delete(name),
            },
            'R' => match self.number()? {
                Some(number) => Command::Replace(name, number),
                None => return Err(self.program.usage("-R requires a rule number")),
            },
            'L' => Command::List(value, self.number()?),
            'S' => Command::ListRules(value, self.number()?),
            'F' => Command::Flush(value),
            'N' => Command::New(name),
            'X' => Command::DeleteChain(value),
            'E' => Command::Rename(name, self.second('E', "old-chain-name and new-chain-name")?),
            'P' => Command::Policy(name, self.second('P', "a chain and a policy")?),
            'V' => Command::Version,
            _ => Command::Help,
        };
        self.command = Some((letter, command));
        Ok(())
    }

    fn zero(&mut self, chain: Option<String>) -> Result<Command, Failure> {
        let number = match chain {
            Some(_) => self.number()?,
            None => None,
        };
        Ok(Command::Zero(chain, number))
    }

    /// The number of a rule, if one follows.
    fn number(&mut self) -> Result<Option<usize>, Failure> {
        let Some(word) = self.argument() else { return Ok(None) };
        match word.parse() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(self.program.usage(&format!("Invalid rule number `{word}'"))),
        }
    }

    fn second(&mut self, letter: char, wanted: &str) -> Result<String, Failure> {
        let program = self.program;
        self.argument().ok_or_else(|| program.usage(&format!("-{letter} requires {wanted}")))
    }

    fn needs_argument(&self, letter: char) -> Failure {
        self.program.usage(&format!("option \"-{letter}\" requires an argument"))
    }

    fn wait_time(&self, value: Option<String>) -> Result<Wait, Failure> {
        let Some(text) = value else { return Ok(Wait::Forever) };
        match text.parse() {
            Ok(seconds) => Ok(Wait::For(Duration::from_secs(seconds))),
            Err(_) => Err(self.program.usage("wait seconds not numeric")),
        }
    }

    /// `-c PACKETS BYTES`, or both in one word with a comma between.
    fn counters(&mut self, first: &str) -> Result<Counter, Failure> {
        let (packets, bytes) = match first.split_once(',') {
            Some((packets, bytes)) => (packets.to_owned(), Some(bytes.to_owned())),
            None => (first.to_owned(), self.argument()),
        };
        let Some(bytes) = bytes else {
            return Err(self.program.usage("-c requires packet and byte counter"));
        };
        let number = |text: &str, what: &str| {
            let wrong = format!("-c {what} counter `{text}' not numeric");
            text.parse().map_err(|_| self.program.usage(&wrong))
        };
        Ok(Counter { packets: number(&packets, "packet")?, bytes: number(&bytes, "byte")? })
    }

    fn check_family(&self, letter: char) -> Result<(), Failure> {
        match (letter, self.program.family) {
            ('4', Family::Ipv4) | ('6', Family::Ipv6) => Ok(()),
            ('4', _) => Err(self.program.usage("-4 is for iptables")),
            _ => Err(self.program.usage("-6 is for ip6tables")),
        }
    }

    fn finish(self) -> Result<Call, Failure> {
        let program = self.program;
        let (command, zeroes) = match (self.command, self.zero) {
            (None, None) => return Err(no_command(program, self.unknown.as_deref())),
            (None, Some(zero)) => (zero, false),
            (Some((_, command)), None) => (command, false),
            (Some((_, command @ (Command::List(..) | Command::ListRules(..)))), Some(_)) => {
                (command, true)
            }
            (Some((letter, _)), Some(_)) => {
                return Err(program.usage(&format!("Cannot use -Z with -{letter}")));
            }
        };
        let takes_words = command.takes_rule() || command == Command::Help;
        if let Some(option) = self.unknown.as_deref().filter(|_| !takes_words) {
            return Err(no_command(program, Some(option)));
        }
        if let Some(word) = self.rule.first().filter(|_| !takes_words) {
            return Err(program.usage(&format!("Illegal option `{word}' with this command")));
        }
        let Self { table, show, wait, counter, rule, .. } = self;
        Ok(Call { table, command, zeroes, show, wait, counter, rule })
    }
}

fn no_command(program: Program, unknown: Option<&str>) -> Failure {
    match unknown {
        Some(option) => program.usage(&format!("unknown option \"{option}\"")),
        None => program.usage("no command specified"),
    }
}

/// The option of a word that holds its argument, too: `--dport=21`, `-ptcp`.
fn name_of(word: &str) -> &str {
    if word.starts_with("--") {
        return word.split_once('=').map_or(word, |(name, _)| name);
    }
    word.char_indices().nth(2).map_or(word, |(end, _)| &word[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program { name: "iptables", family: Family::Ipv4 };

    fn call(line: &str) -> Result<Call, Failure> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        read(PROGRAM, &words)
    }

    fn command(line: &str) -> Command {
        call(line).unwrap_or_else(|failure| panic!("{line}: {failure:?}")).command
    }

    fn refused(line: &str) -> String {
        let failure = call(line).map(|call| call.command).unwrap_err();
        assert_eq!(failure.status, 2, "{line}");
        failure.message
    }

    #[test]
    fn letters_stand_alone_together_or_with_their_argument() {
        for line in ["-n -v -L INPUT", "-nvL INPUT", "-vnLINPUT", "--numeric --list INPUT -v"] {
            let call = call(line).unwrap();
            assert_eq!(call.command, Command::List(Some("INPUT".into()), None), "{line}");
            assert!(call.show.numeric && call.show.verbose, "{line}");
        }
        assert!(call("-L --line -n").unwrap().show.line_numbers);
    }

    #[test]
    fn the_rule_is_kept_word_by_word_whatever_stands_between() {
        let call = call(
            "-w -t raw -p tcp ! -s 192.0.2.1 -A PREROUTING --tcp-flags SYN,ACK SYN -v -j ACCEPT",
        )
        .unwrap();
        assert_eq!(call.command, Command::Append("PREROUTING".into()));
        assert_eq!((call.table, call.wait), (TableName::Raw, Wait::Forever));
        assert_eq!(call.rule.join(" "), "-p tcp ! -s 192.0.2.1 --tcp-flags SYN,ACK SYN -j ACCEPT");
    }

    #[test]
    fn what_a_comment_says_is_no_option_of_the_call() {
        let words = ["-A", "INPUT", "-m", "comment", "--comment", "-v", "-j", "ACCEPT"];
        let call = read(PROGRAM, &words.map(str::to_owned)).unwrap();
        assert!(!call.show.verbose);
        assert_eq!(call.rule.join(" "), "-m comment --comment -v -j ACCEPT");
    }

    #[test]
    fn a_number_behind_the_chain_is_the_rules_place() {
        assert_eq!(command("-I INPUT -j DROP"), Command::Insert("INPUT".into(), 1));
        assert_eq!(command("-I INPUT 3 -j DROP"), Command::Insert("INPUT".into(), 3));
        assert_eq!(command("-D INPUT 3"), Command::DeleteNumber("INPUT".into(), 3));
        assert_eq!(command("-R INPUT 2 -j DROP"), Command::Replace("INPUT".into(), 2));
        assert_eq!(command("-Z INPUT 1"), Command::Zero(Some("INPUT".into()), Some(1)));
        assert!(refused("-D INPUT 0").contains("Invalid rule number `0'"));
        assert!(refused("-R INPUT -j DROP").contains("requires a rule number"));
    }

    #[test]
    fn waiting_takes_a_time_or_none() {
        assert_eq!(call("-w 5 -F").unwrap().wait, Wait::For(Duration::from_secs(5)));
        assert_eq!(call("-w5 -W 100000 -F").unwrap().wait, Wait::For(Duration::from_secs(5)));
        assert_eq!(call("--wait=2 -F").unwrap().wait, Wait::For(Duration::from_secs(2)));
        assert_eq!(call("--wait -F").unwrap().wait, Wait::Forever);
        assert_eq!(call("-F").unwrap().wait, Wait::No);
    }

    #[test]
    fn wrong_usage_is_told_as_iptables_tells_it() {
        assert!(refused("").contains("no command specified\nTry `iptables -h'"));
        assert!(refused("-Q").contains("unknown option \"-Q\"\nTry"));
        assert!(refused("--frob").contains("unknown option \"--frob\""));
        assert!(refused("-L -Q").contains("unknown option \"-Q\""));
        assert!(refused("-ptcp --dport=21").contains("no command specified"));
        assert!(refused("-A").contains("option \"-A\" requires an argument"));
        assert!(refused("-A INPUT -D INPUT").contains("Cannot use -D with -A"));
        assert!(refused("-A INPUT foo").starts_with("Bad argument `foo'\nTry"));
        assert!(refused("-L -s 192.0.2.1").contains("Illegal option `-s'"));
        assert!(refused("-A INPUT -6").contains("ip6tables"));
        assert!(refused("-F -Z").contains("Cannot use -Z with -F"));
        let failure = call("-t nope -L").map(|call| call.command).unwrap_err();
        assert_eq!(failure.status, 3);
        assert!(failure.message.contains("table 'nope' does not exist\nPerhaps iptables"));
    }

    #[test]
    fn counters_are_two_numbers() {
        let counter = Some(Counter { packets: 3, bytes: 400 });
        assert_eq!(call("-A INPUT -c 3 400 -j DROP").unwrap().counter, counter);
        assert_eq!(call("-P INPUT DROP --set-counters 3 400").unwrap().counter, counter);
        assert!(refused("-A INPUT -c 3").contains("packet and byte"));
    }
}
