//! Commands about whole chains: `-F`, `-X`, `-Z`, `-E`.

use firewall_common::rule::Counter;

use super::{Parser, items::Item, lines::Word};
use crate::rules::{
    ast::{Chain, TableName},
    problem::Problem,
    source::Span,
};

impl Parser<'_, '_> {
    pub(super) fn flush(&mut self, table: TableName, command: &Item) {
        match command.args.first() {
            Some(name) => {
                if let Some(rules) = self.chain_rules(table, name) {
                    rules.clear();
                }
            }
            None => {
                let chains = &mut self.ruleset.table_mut(table).chains;
                chains.iter_mut().for_each(|chain| chain.rules.clear());
            }
        }
    }

    /// Without a name, every user chain.
    pub(super) fn delete_chains(&mut self, table: TableName, command: &Item) {
        let Some(name) = command.args.first() else {
            let chains = self.ruleset.table_mut(table).chains.iter();
            let user: Vec<_> = chains
                .filter(|chain| chain.policy.is_none())
                .map(|chain| chain.name.clone())
                .collect();
            for name in user {
                self.delete_chain(table, &name, command.span);
            }
            return;
        };
        if self.chain_rules(table, name).is_some() {
            self.delete_chain(table, &name.text, name.span());
        }
    }

    fn delete_chain(&mut self, table: TableName, name: &str, span: Span) {
        let all = self.ruleset.table_mut(table);
        let references = all.references(name);
        let Some(at) = all.chains.iter().position(|chain| chain.name == name) else { return };
        let problem = match &all.chains[at] {
            chain if chain.policy.is_some() => "is built in".to_owned(),
            _ if references > 0 => format!("is the target of {references} rules"),
            chain if !chain.rules.is_empty() => "still has rules".to_owned(),
            _ => {
                all.chains.remove(at);
                return;
            }
        };
        let problem =
            Problem::undoable(format!("the chain '{name}' {problem} and cannot be deleted"));
        self.problem(span, problem.advise("empty the chains before with -F"));
    }

    pub(super) fn rename_chain(&mut self, table: TableName, old: &Word, new: &Word) {
        let errors = self.context.report.count();
        if self.chain_rules(table, old).is_none() {
            return;
        }
        let is_built_in = |chain: &Chain| chain.policy.is_some();
        if self.ruleset.table(table).and_then(|all| all.chain(&old.text)).is_some_and(is_built_in) {
            let problem = Problem::undoable(format!("the chain '{}' is built in", old.text));
            let problem = problem.advise("only chains of one's own can be renamed");
            return self.problem(old.span(), problem);
        }
        // What is wrong with the new name is wrong with a new chain of that name.
        self.create_chain(table, new);
        if self.context.report.count() == errors {
            let all = self.ruleset.table_mut(table);
            all.chains.retain(|chain| chain.name != new.text);
            all.rename(&old.text, &new.text);
        }
    }

    pub(super) fn zero(&mut self, table: TableName, command: &Item) {
        let name = command.args.first().map(|word| word.text.clone());
        let chains = self.ruleset.table_mut(table).chains.iter_mut();
        for chain in chains.filter(|chain| name.as_ref().is_none_or(|name| chain.name == *name)) {
            chain.rules.iter_mut().for_each(|rule| rule.counter = Counter::default());
            if let Some(policy) = &mut chain.policy {
                policy.counter = Counter::default();
            }
        }
    }
}
