//! A command carried out on the rules, as the kernel would.

use firewall_common::rule::Counter;

use super::{
    super::{
        Program,
        failure::{ABSENT, Failure},
    },
    call::{Call, Command},
};
use crate::{
    names::LocalNames,
    rules::{self, Chain, Rule, Ruleset, Table, TableName, Verdict},
};

const NO_CHAIN: &str = "No chain/target/match by that name.";
const NO_RULE: &str = "Bad rule (does a matching rule exist in that chain?).";

/// Changes the rules of one family, or says that nothing was changed and why.
pub(super) fn execute(program: Program, ruleset: &mut Ruleset, call: &Call) -> Result<(), Failure> {
    let change = Change { program, call };
    match &call.command {
        Command::Append(chain)
        | Command::Insert(chain, _)
        | Command::Replace(chain, _)
        | Command::Delete(chain)
        | Command::Check(chain) => change.rule(ruleset, chain),
        Command::DeleteNumber(chain, number) => {
            let rules = &mut change.chain(ruleset, chain)?.rules;
            if *number > rules.len() {
                return Err(program.refused("Index of deletion too big."));
            }
            rules.remove(number - 1);
            Ok(())
        }
        Command::Flush(chain) => change.flush(ruleset, chain.as_deref()),
        Command::Zero(chain, number) => change.zero(ruleset, chain.as_deref(), *number),
        Command::New(name) => change.create(ruleset, name),
        Command::DeleteChain(chain) => change.delete_chains(ruleset, chain.as_deref()),
        Command::Rename(old, new) => change.rename(ruleset, old, new),
        Command::Policy(chain, policy) => change.policy(ruleset, chain, policy),
        // Beside `-Z`.
        Command::List(chain, number) | Command::ListRules(chain, number) => {
            change.zero(ruleset, chain.as_deref(), *number)
        }
        Command::Help | Command::Version => Ok(()),
    }
}

/// The rules that the words of a call mean, for a chain of these tables: several when `-s`
/// or `-d` hold a list.
pub(super) fn written(
    program: Program,
    call: &Call,
    ruleset: &Ruleset,
    chain: &str,
) -> Result<Vec<Rule>, Failure> {
    Change { program, call }.written(ruleset, chain)
}

struct Change<'c> {
    program: Program,
    call: &'c Call,
}

const NOT_FOR_FILTERING: &str = "The \"nat\" table is not intended for filtering, the use of DROP \
                                 is therefore inhibited.";

impl Change<'_> {
    fn refused(&self, message: &str) -> Failure {
        self.program.refused(message)
    }

    fn table<'r>(&self, ruleset: &'r mut Ruleset) -> &'r mut Table {
        ruleset.table_mut(self.call.table)
    }

    fn chain<'r>(&self, ruleset: &'r mut Ruleset, name: &str) -> Result<&'r mut Chain, Failure> {
        self.table(ruleset).chain_mut(name).ok_or_else(|| self.refused(NO_CHAIN))
    }

    fn rule(&self, ruleset: &mut Ruleset, name: &str) -> Result<(), Failure> {
        if !self.call.table.takes_rules() {
            return Err(self.not_enforced());
        }
        self.chain(ruleset, name)?;
        let written = self.written(ruleset, name)?;
        let rules = &mut self.chain(ruleset, name)?.rules;
        match self.call.command {
            Command::Insert(_, number) => {
                if number > rules.len() + 1 {
                    return Err(self.refused("Index of insertion too big."));
                }
                // Each alternative goes to the same place, as iptables does it.
                written.into_iter().for_each(|rule| rules.insert(number - 1, rule));
            }
            Command::Replace(_, number) => {
                if number > rules.len() {
                    return Err(self.refused("Index of replacement too big."));
                }
                if written.len() != 1 {
                    let message = "Replacement rule does not specify a unique address";
                    return Err(self.program.usage(message));
                }
                rules.splice(number - 1..number, written);
            }
            Command::Append(_) => rules.extend(written),
            // All of them are there, or the call fails; `-C` looks at a copy.
            _ => {
                for rule in written {
                    let at = rules.iter().position(|known| known.spec == rule.spec);
                    rules.remove(at.ok_or_else(|| self.refused(NO_RULE))?);
                }
            }
        }
        Ok(())
    }

    fn not_enforced(&self) -> Failure {
        let message = format!(
            "rules of table `{}' are not supported: tables with rules are filter, \
             mangle, nat and raw",
            self.call.table
        );
        self.program.failed(ABSENT, &message)
    }

    /// The rules that the words mean: several when `-s` or `-d` hold a list.
    fn written(&self, ruleset: &Ruleset, chain: &str) -> Result<Vec<Rule>, Failure> {
        let words: Result<Vec<_>, _> =
            self.call.rule.iter().map(|word| self.quoted(word)).collect();
        let line = format!("-A {chain} {}", words?.join(" "));
        let mut rules = self.parse(skeleton(ruleset, self.call.table), &line)?;
        let chain = self.table(&mut rules).chain_mut(chain);
        let mut written = chain.map(|chain| std::mem::take(&mut chain.rules)).unwrap_or_default();
        if let Some(counter) = self.call.counter {
            written.iter_mut().for_each(|rule| rule.counter = counter);
        }
        Ok(written)
    }

    fn parse(&self, rules: Ruleset, line: &str) -> Result<Ruleset, Failure> {
        let line = format!("-t {} {line}", self.call.table);
        rules::edit(rules, "the command line", &line, &LocalNames::default())
            .map_err(|errors| self.program.wrong_rule(&errors))
    }

    /// A word in quotes, if the parser of rules would read it as something else without.
    fn quoted(&self, word: &str) -> Result<String, Failure> {
        if word.contains(['\n', '\r', '\0']) {
            return Err(self.program.usage(&format!("a line break in the argument {word:?}")));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/!+=%@[]*".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            return Ok(word.to_owned());
        }
        let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
        Ok(match escaped.strip_prefix("--").and_then(|rest| rest.split_once('=')) {
            // The name of an option stays outside of the quotes.
            Some((name, value)) if name.chars().all(is_plain) => format!("--{name}=\"{value}\""),
            _ => format!("\"{escaped}\""),
        })
    }

    fn flush(&self, ruleset: &mut Ruleset, chain: Option<&str>) -> Result<(), Failure> {
        match chain {
            Some(name) => self.chain(ruleset, name)?.rules.clear(),
            None => self.table(ruleset).chains.iter_mut().for_each(|chain| chain.rules.clear()),
        }
        Ok(())
    }

    fn zero(
        &self,
        ruleset: &mut Ruleset,
        chain: Option<&str>,
        number: Option<usize>,
    ) -> Result<(), Failure> {
        let Some(name) = chain else {
            self.table(ruleset).chains.iter_mut().for_each(zero_chain);
            return Ok(());
        };
        let chain = self.chain(ruleset, name)?;
        match number {
            None => zero_chain(chain),
            Some(number) => match chain.rules.get_mut(number - 1) {
                Some(rule) => rule.counter = Counter::default(),
                None => return Err(self.refused("Index of replacement too big.")),
            },
        }
        Ok(())
    }

    fn create(&self, ruleset: &mut Ruleset, name: &str) -> Result<(), Failure> {
        if self.table(ruleset).chain(name).is_some() {
            return Err(self.refused("Chain already exists."));
        }
        if name.starts_with('-') {
            return Err(self.program.usage("chain name not allowed to start with `-'"));
        }
        let line = format!("-N {}", self.quoted(name)?);
        *ruleset = self.parse(ruleset.clone(), &line)?;
        Ok(())
    }

    fn delete_chains(&self, ruleset: &mut Ruleset, chain: Option<&str>) -> Result<(), Failure> {
        let table = self.table(ruleset);
        let is_meant = |known: &Chain| match chain {
            Some(name) => known.name == name,
            None => known.policy.is_none(),
        };
        let names: Vec<_> =
            table.chains.iter().filter(|known| is_meant(known)).map(|c| c.name.clone()).collect();
        if names.is_empty() && chain.is_some() {
            return Err(self.refused(NO_CHAIN));
        }
        for known in table.chains.iter().filter(|known| is_meant(known)) {
            let message = match known {
                _ if known.policy.is_some() => "Can't delete built-in chain",
                _ if !known.rules.is_empty() => "Directory not empty.",
                _ if table.references(&known.name) > 0 => "Too many links.",
                _ => continue,
            };
            return Err(self.refused(message));
        }
        table.chains.retain(|known| !names.contains(&known.name));
        Ok(())
    }

    fn rename(&self, ruleset: &mut Ruleset, old: &str, new: &str) -> Result<(), Failure> {
        match self.chain(ruleset, old)? {
            chain if chain.policy.is_some() => return Err(self.refused(NO_CHAIN)),
            _ if self.table(ruleset).chain(new).is_some() => {
                return Err(self.refused("File exists."));
            }
            _ => self.create(ruleset, new)?,
        }
        let table = self.table(ruleset);
        table.chains.retain(|chain| chain.name != new);
        table.rename(old, new);
        Ok(())
    }

    fn policy(&self, ruleset: &mut Ruleset, name: &str, verdict: &str) -> Result<(), Failure> {
        let chain = self.table(ruleset).chain_mut(name);
        let Some(policy) = chain.and_then(|chain| chain.policy.as_mut()) else {
            return Err(self.refused("Bad built-in chain name."));
        };
        let verdict = match verdict {
            "ACCEPT" => Verdict::Accept,
            "DROP" => Verdict::Drop,
            _ => return Err(self.refused("Bad policy name. Run `dmesg' for more information.")),
        };
        if verdict == Verdict::Drop && !self.call.table.takes_rules() {
            return Err(self.not_enforced());
        }
        if verdict == Verdict::Drop && self.call.table == TableName::Nat {
            return Err(self.program.usage(NOT_FOR_FILTERING));
        }
        policy.verdict = verdict;
        policy.counter = self.call.counter.unwrap_or(policy.counter);
        Ok(())
    }
}

fn zero_chain(chain: &mut Chain) {
    chain.rules.iter_mut().for_each(|rule| rule.counter = Counter::default());
    if let Some(policy) = &mut chain.policy {
        policy.counter = Counter::default();
    }
}

/// The chains of a table, without rules: what a rule can jump to.
fn skeleton(ruleset: &Ruleset, table: TableName) -> Ruleset {
    let mut bare = Ruleset::empty(ruleset.family);
    let chains = ruleset.table(table).map(|table| &table.chains[..]).unwrap_or_default();
    let empty =
        |chain: &Chain| Chain { name: chain.name.clone(), policy: chain.policy, rules: Vec::new() };
    bare.table_mut(table).chains = chains.iter().map(empty).collect();
    bare
}
