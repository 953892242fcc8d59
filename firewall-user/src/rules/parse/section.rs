//! The frame of a saved file: `*table`, `:CHAIN POLICY [packets:bytes]`,
//! `COMMIT`.

use firewall_common::rule::Counter;

use super::{Former, Parser, Section, lines::Word, targets, values::number};
use crate::rules::{
    ast::{Chain, Policy, Table, TableName, Verdict},
    problem::{Problem, nearest},
};

/// Longest name of a chain, as iptables has it.
const LONGEST_CHAIN: usize = 28;

impl Parser<'_, '_> {
    pub(super) fn begin_section(&mut self, words: &[Word]) {
        let word = &words[0];
        if self.section.is_some() {
            let problem = Problem::new("the table before is not finished");
            self.problem(word.span(), problem.advise("write COMMIT before this line"));
        }
        self.expect_end(&words[1..]);
        let table = self.table_named(&word.text[1..], word);
        self.section = Some(Section { table, span: word.span() });
        let Some(table) = table else { return };
        // Under --noflush it only goes on.
        if self.written.contains(&table) && self.former == Former::Goes {
            let problem = Problem::new(format!("table {table} was written before in this file"));
            self.problem(word.span(), problem.advise("put all its rules into one place"));
        }
        self.written.push(table);
        match self.former {
            Former::Goes => *self.ruleset.table_mut(table) = Table::empty(table),
            Former::Stays => {
                self.ruleset.table_mut(table);
            }
        }
    }

    pub(super) fn table_named(&mut self, name: &str, word: &Word) -> Option<TableName> {
        let table = TableName::from_name(name);
        if table.is_none() {
            let known = TableName::ALL.map(TableName::name);
            let problem = Problem::new(format!("unknown table '{name}'"));
            let problem = match nearest(name, known) {
                Some(near) => problem.did_you_mean(Some(near)),
                None => problem.advise("tables with rules are filter, mangle, nat and raw"),
            };
            self.problem(word.span(), problem);
        }
        table
    }

    pub(super) fn end_section(&mut self, words: &[Word]) {
        self.expect_end(&words[1..]);
        if self.section.take().is_none() {
            let problem = Problem::new("COMMIT without a table");
            self.problem(words[0].span(), problem.advise("write *filter before the rules"));
        }
    }

    /// `:NAME POLICY [packets:bytes]`, with `-` for the policy of a user chain.
    pub(super) fn declare_chain(&mut self, words: &[Word]) {
        let name = &words[0];
        let Some(section) = &self.section else {
            let problem = Problem::new("a chain outside of a table");
            return self.problem(name.span(), problem.advise("write *filter before it"));
        };
        let Some(table) = section.table else { return };
        let Some(policy) = words.get(1) else {
            let problem = Problem::new(format!("{} has no policy", name.text));
            return self.problem(
                name.span(),
                problem.advise("write ACCEPT or DROP, or - for a user chain"),
            );
        };
        let counter = self.counter(words.get(2)).unwrap_or_default();
        self.expect_end(words.get(3..).unwrap_or_default());
        let chain = Word { text: name.text[1..].to_owned(), start: name.start + 1, ..name.clone() };
        if table.builtin_chains().contains(&chain.text.as_str()) {
            self.set_policy(table, &chain, policy, counter);
        } else {
            if policy.text != "-" {
                self.problem(policy.span(), no_policy(&chain.text));
            }
            match self.ruleset.table_mut(table).chain_mut(&chain.text) {
                Some(known) if self.former == Former::Stays => known.rules.clear(),
                _ => self.create_chain(table, &chain),
            }
        }
    }

    /// `[packets:bytes]`
    pub(super) fn counter(&mut self, word: Option<&Word>) -> Option<Counter> {
        let word = word?;
        let inner = word.text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let pair = inner.and_then(|text| text.split_once(':'));
        let counter = pair.and_then(|(packets, bytes)| {
            Some(Counter { packets: number(packets)?, bytes: number(bytes)? })
        });
        if counter.is_none() {
            let problem = Problem::new(format!("'{}' is no counter", word.text));
            self.problem(word.span(), problem.advise("write [packets:bytes], as in [0:0]"));
        }
        counter
    }

    pub(super) fn set_policy(
        &mut self,
        table: TableName,
        chain: &Word,
        policy: &Word,
        counter: Counter,
    ) {
        let verdict = match policy.text.as_str() {
            "ACCEPT" => Verdict::Accept,
            "DROP" => Verdict::Drop,
            other => return self.problem(policy.span(), bad_policy(other)),
        };
        if verdict != Verdict::Accept && !table.takes_rules() {
            return self.refuse_table(table, chain);
        }
        if verdict != Verdict::Accept && table == TableName::Nat {
            return self.problem(policy.span(), targets::not_for_filtering(&policy.text));
        }
        match self.ruleset.table_mut(table).chain_mut(&chain.text) {
            Some(Chain { policy: Some(policy), .. }) => *policy = Policy { verdict, counter },
            Some(_) => self.problem(chain.span(), no_policy(&chain.text)),
            None => {
                let problem = Problem::undoable(format!("there is no chain '{}'", chain.text));
                let near = nearest(&chain.text, table.builtin_chains().iter().copied());
                self.problem(chain.span(), problem.did_you_mean(near));
            }
        }
    }

    pub(super) fn create_chain(&mut self, table: TableName, chain: &Word) {
        let name = &chain.text;
        if let Some(problem) = bad_chain_name(name) {
            return self.problem(chain.span(), problem);
        }
        let all = &mut self.ruleset.table_mut(table).chains;
        if all.iter().any(|known| known.name == *name) {
            let problem = Problem::undoable(format!("there is a chain '{name}' already"));
            return self.problem(
                chain.span(),
                problem.advise("take this line out, or choose another name"),
            );
        }
        let at = all.partition_point(|known| known.policy.is_some() || known.name < *name);
        all.insert(at, Chain { name: name.clone(), policy: None, rules: Vec::new() });
    }

    /// Says once for each table that its rules are not enforced.
    pub(super) fn refuse_table(&mut self, table: TableName, word: &Word) {
        if !self.refused.contains(&table) {
            self.refused.push(table);
            let problem = Problem::new(format!("rules of table {table} are not supported yet"));
            let advice = "take them out: tables with rules are filter, mangle, nat and raw";
            self.problem(word.span(), problem.advise(advice));
        }
    }
}

fn bad_policy(policy: &str) -> Problem {
    let problem = Problem::undoable(format!("'{policy}' cannot be a policy"));
    match policy {
        "REJECT" => problem.advise("write DROP, and a rule -j REJECT at the chain's end"),
        _ => match targets::meant(policy) {
            Some(near @ ("ACCEPT" | "DROP")) => problem.did_you_mean(Some(near)),
            _ => problem.advise("write ACCEPT or DROP"),
        },
    }
}

fn no_policy(chain: &str) -> Problem {
    Problem::new(format!("the user chain '{chain}' can have no policy"))
        .advise("write - in its place, and a last rule with the verdict")
}

fn bad_chain_name(name: &str) -> Option<Problem> {
    if targets::is_reserved(name) {
        return Some(Problem::new(format!("a chain cannot be called {name}, which is a target")));
    }
    if name.len() > LONGEST_CHAIN {
        let problem = Problem::new(format!("the chain name '{name}' is too long"));
        return Some(problem.advise(format!("names have at most {LONGEST_CHAIN} characters")));
    }
    let is_bad =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\' | '#');
    let begins_badly = name.is_empty() || name.starts_with(['-', '!', ':', '*', '[']);
    (begins_badly || name.contains(is_bad))
        .then(|| Problem::new(format!("'{name}' cannot be the name of a chain")))
}
