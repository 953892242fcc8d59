//! One command: `-A INPUT …`, alone or behind `iptables`, `sudo iptables`, or
//! `[packets:bytes]` as iptables-save -c writes it.

use firewall_common::{addr::Family, rule::Counter};

use super::{
    Parser,
    items::{self, Item},
    lines::Word,
    options::Opt,
    rule::{self, Written},
    values::number,
};
use crate::rules::{
    ast::{Origin, Rule, TableName},
    problem::{Problem, nearest},
    source::Span,
};

/// What a line begins with, before its options.
enum Head<'w> {
    /// Options follow.
    Options(&'w [Word]),
    /// Nothing to do, or reported.
    Nothing,
}

impl Parser<'_, '_> {
    pub(super) fn command(&mut self, words: &[Word]) {
        let mut counter = None;
        let mut words = words;
        if let [first, rest @ ..] = words
            && first.text.starts_with('[')
        {
            counter = self.counter(Some(first));
            words = rest;
        }
        if let Some((word, problem)) = words.iter().find_map(|word| Some((word, shell(word)?))) {
            return self.problem(word.span(), problem);
        }
        let Head::Options(words) = self.head(words) else { return };
        let before = self.context.report.count();
        let items = items::split(&mut self.context, words);
        if self.is_for_other_family(&items) {
            return;
        }
        let Some((command, rest)) = self.one_command(words, items, before) else { return };
        let Some(table) = self.table_of(&rest) else { return };
        self.execute(table, &command, &rest, counter);
    }

    /// Takes the name of the program away.
    fn head<'w>(&mut self, words: &'w [Word]) -> Head<'w> {
        let words = match words {
            [first, rest @ ..] if first.is("sudo") || first.is("exec") => rest,
            _ => words,
        };
        let [first, rest @ ..] = words else { return Head::Nothing };
        let is_option = first.text.starts_with(['-', '!']) || super::dash::begins(first);
        if is_option && !first.quoted {
            return Head::Options(words);
        }
        let name = match first.text.starts_with('/') {
            true => first.text.rsplit('/').next().unwrap_or_default(),
            false => &first.text,
        };
        match program(name) {
            Some(family) if family == self.context.family => Head::Options(rest),
            Some(family) => {
                self.problem(first.span(), other_family(name, family));
                Head::Nothing
            }
            None if is_module_loading(name, rest) => Head::Nothing,
            None => {
                self.problem(first.span(), unknown_program(&first.text));
                Head::Nothing
            }
        }
    }

    /// `-4` and `-6` in a file for both families: lines of the other are passed over.
    fn is_for_other_family(&self, items: &[Item]) -> bool {
        let other = match self.context.family {
            Family::Ipv4 => Opt::OnlyIpv6,
            Family::Ipv6 => Opt::OnlyIpv4,
        };
        items.iter().any(|item| item.opt == other)
    }

    /// Parts the command from the options of its rule.
    fn one_command(
        &mut self,
        words: &[Word],
        items: Vec<Item>,
        errors_before: usize,
    ) -> Option<(Item, Vec<Item>)> {
        let (mut commands, rest): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| item.opt.is_command());
        if commands.len() > 1 {
            let problem = Problem::new("a second command on one line");
            self.problem(commands[1].span, problem.advise("write each on its own line"));
        }
        if commands.is_empty() {
            // A command that was misspelt has been reported.
            if self.context.report.count() == errors_before
                && let Some(word) = words.first()
            {
                let problem = Problem::new("this line has no command");
                self.problem(word.span(), problem.advise("write -A CHAIN before the rule"));
            }
            return None;
        }
        Some((commands.swap_remove(0), rest))
    }

    /// The table that `-t` names, else the one of the section, else filter.
    fn table_of(&mut self, items: &[Item]) -> Option<TableName> {
        let named = items.iter().find(|item| item.opt == Opt::Table);
        let given = match named {
            Some(item) => Some(self.table_named(item.arg(), &item.args[0])?),
            None => None,
        };
        let Some(section) = &self.section else { return Some(given.unwrap_or(TableName::Filter)) };
        let table = section.table?;
        if let (Some(given), Some(item)) = (given, named)
            && given != table
        {
            let problem = Problem::new(format!("-t {given} between *{table} and COMMIT"));
            self.problem(
                item.whole_span(),
                problem.advise(format!("put the rule behind *{given}")),
            );
            return None;
        }
        Some(table)
    }

    fn execute(
        &mut self,
        table: TableName,
        command: &Item,
        rest: &[Item],
        counter: Option<Counter>,
    ) {
        if self.section.is_none() && !self.written.contains(&table) {
            self.written.push(table);
        }
        let is_rule = matches!(command.opt, Opt::Append | Opt::Insert | Opt::Delete | Opt::Replace);
        if is_rule {
            return self.rule_command(table, command, rest, counter);
        }
        let takes_none =
            |item: &&Item| !matches!(item.opt, Opt::Table | Opt::Ignored | Opt::Counters);
        if let Some(item) = rest.iter().find(takes_none) {
            let problem = Problem::new(format!("{} does not go with {}", item.name, command.name));
            self.problem(item.whole_span(), problem);
        }
        match command.opt {
            Opt::New => self.create_chain(table, &command.args[0]),
            Opt::Policy => {
                let counter = self.policy_counter(table, command.arg());
                self.set_policy(table, &command.args[0], &command.args[1], counter);
            }
            Opt::Flush => self.flush(table, command),
            Opt::DeleteChain => self.delete_chains(table, command),
            Opt::Zero => self.zero(table, command),
            Opt::Rename => self.rename_chain(table, &command.args[0], &command.args[1]),
            // A listing at the end of a script changes nothing.
            Opt::List => {}
            _ => {
                let problem = Problem::new(format!("{} is not supported", command.name));
                self.problem(command.span, problem.advise("create the chain with its new name"));
            }
        }
    }

    fn policy_counter(&self, table: TableName, chain: &str) -> Counter {
        let chain = self.ruleset.table(table).and_then(|table| table.chain(chain));
        chain.and_then(|chain| chain.policy).map_or(Counter::default(), |policy| policy.counter)
    }

    fn rule_command(
        &mut self,
        table: TableName,
        command: &Item,
        rest: &[Item],
        counter: Option<Counter>,
    ) {
        let errors = self.context.report.count();
        if !table.takes_rules() {
            return self.refuse_table(table, &command.args[0]);
        }
        let written = rule::read(&mut self.context, table, command.arg(), rest);
        let Some(rules) = self.chain_rules(table, &command.args[0]).map(|rules| rules.len()) else {
            return;
        };
        let Some(number) = self.rule_number(command, rules) else { return };
        // A rule with a mistake takes its place all the same, so that a wrong
        // target shows too; nothing of the text is used in the end.
        if command.opt != Opt::Delete || self.context.report.count() == errors {
            self.put(table, command, written, number, counter);
        }
    }

    /// The rules of a chain that must be there.
    pub(super) fn chain_rules(&mut self, table: TableName, name: &Word) -> Option<&mut Vec<Rule>> {
        let chains = &self.ruleset.table_mut(table).chains;
        let Some(at) = chains.iter().position(|chain| chain.name == name.text) else {
            let near = nearest(&name.text, chains.iter().map(|chain| chain.name.as_str()));
            let problem =
                Problem::undoable(format!("there is no chain '{}' in table {table}", name.text));
            let problem = match near {
                Some(near) => problem.did_you_mean(Some(near)),
                None if is_of_another_table(&name.text) => {
                    problem.advise(format!("it has {}", table.builtin_chains().join(", ")))
                }
                None => problem.advise(format!("write -N {} before this line", name.text)),
            };
            self.problem(name.span(), problem);
            return None;
        };
        Some(&mut self.ruleset.table_mut(table).chains[at].rules)
    }

    /// The position after the chain's name, counted from 1.
    fn rule_number(&mut self, command: &Item, rules: usize) -> Option<Option<usize>> {
        let Some(word) = command.args.get(1) else { return Some(None) };
        let most = rules + usize::from(command.opt == Opt::Insert);
        let given = number(&word.text).and_then(|number| usize::try_from(number).ok());
        let number = given.filter(|number| (1..=most).contains(number));
        if number.is_none() {
            let problem = Problem::undoable(format!("the chain has no place {}", word.text));
            let advice = match most {
                0 => "it has no rules".to_owned(),
                most => format!("write 1 to {most}"),
            };
            self.problem(word.span(), problem.advise(advice));
        }
        number.map(Some)
    }

    fn put(
        &mut self,
        table: TableName,
        command: &Item,
        written: Written,
        number: Option<usize>,
        counter: Option<Counter>,
    ) {
        let Written { specs, counter: own, target } = written;
        let origin = self.origin(command.span, target);
        let counter = counter.unwrap_or(own);
        let rules = specs.into_iter().map(|spec| Rule { spec, counter, origin: origin.clone() });
        let Some(all) = self.chain_rules(table, &command.args[0]) else { return };
        match (command.opt, number) {
            (Opt::Append, _) => all.extend(rules),
            (Opt::Insert, number) => {
                let at = number.unwrap_or(1) - 1;
                // Each alternative goes to the same place, as iptables does it.
                rules.for_each(|rule| all.insert(at, rule));
            }
            (Opt::Delete, Some(number)) => drop(all.remove(number - 1)),
            (Opt::Replace, Some(number)) => drop(all.splice(number - 1..number, rules)),
            _ => {
                let gone = rules.map(|rule| remove(all, &rule)).fold(true, |a, b| a & b);
                if !gone {
                    let problem = Problem::undoable(format!("{} has no such rule", command.arg()));
                    self.problem(command.whole_span(), problem);
                }
            }
        }
    }

    fn origin(&self, at: Span, target: Span) -> Origin {
        let line = self.context.report.source.position(at.start).line;
        let target = if target.end == 0 { at } else { target };
        Origin { file: self.context.file.clone(), line, target }
    }
}

fn is_of_another_table(chain: &str) -> bool {
    TableName::ALL.iter().any(|table| table.builtin_chains().contains(&chain))
}

fn remove(all: &mut Vec<Rule>, rule: &Rule) -> bool {
    let at = all.iter().position(|known| known.spec == rule.spec);
    at.map(|at| all.remove(at)).is_some()
}

/// The family that a program of this name speaks of.
fn program(name: &str) -> Option<Family> {
    match name {
        "iptables" | "iptables-nft" | "iptables-legacy" => Some(Family::Ipv4),
        "ip6tables" | "ip6tables-nft" | "ip6tables-legacy" => Some(Family::Ipv6),
        _ => None,
    }
}

fn other_family(name: &str, family: Family) -> Problem {
    let (this, option) = match family {
        Family::Ipv4 => ("IPv6", "--rules"),
        Family::Ipv6 => ("IPv4", "--rules6"),
    };
    Problem::new(format!("a line for {name} among {this} rules"))
        .advise(format!("move it into the file that is read with {option}"))
}

/// FTP how-tos begin by loading the kernel's helper; nothing need be loaded here.
fn is_module_loading(name: &str, rest: &[Word]) -> bool {
    let is_ours = |word: &Word| {
        let module = word.text.replace('-', "_");
        ["ip_conntrack", "nf_conntrack", "ip_tables", "iptable_filter", "ip6_tables"]
            .iter()
            .any(|known| module.starts_with(known))
    };
    name == "modprobe" && rest.iter().any(is_ours)
}

/// What a shell would have read: variables, and what joins commands or moves
/// their output. iptables-save puts such characters in quotes.
fn shell(word: &Word) -> Option<Problem> {
    if word.quoted {
        return None;
    }
    let text = &word.text;
    if text.contains('$') {
        let problem = Problem::new(format!("'{text}': shell variables are not expanded here"));
        return Some(problem.advise("write the value"));
    }
    let joins = matches!(text.as_str(), "&&" | "||" | "|" | "&" | ">" | ">>" | "<");
    if joins || text.ends_with(';') || text.starts_with("2>") {
        let problem = Problem::new(format!("'{text}' is for a shell to read"));
        return Some(problem.advise("write one command on each line, and nothing else"));
    }
    None
}

fn unknown_program(word: &str) -> Problem {
    let problem = Problem::new(format!("unknown command '{word}'"));
    if word.contains('=') {
        return problem.advise("shell variables are not expanded here: write iptables");
    }
    if let Some(near) = nearest(word, ["iptables", "ip6tables", "COMMIT"]) {
        return problem.did_you_mean(Some(near));
    }
    problem.advise("write lines of iptables-save, or: iptables -A CHAIN …")
}
