//! Where the rules stand in a text of [`super::to_save`], without reading what they say.

use std::ops::Range;

use super::{ast::TableName, lower::ORDER};

/// The tables of one family, in the order of the text.
#[derive(Debug)]
pub struct Outline<'t> {
    tables: Vec<Table<'t>>,
}

#[derive(Debug)]
struct Table<'t> {
    name: TableName,
    chains: Vec<Chain<'t>>,
}

#[derive(Debug)]
struct Chain<'t> {
    name: &'t str,
    policy: Policy,
    rules: usize,
    /// The bytes of its rules; where they would stand, if it has none.
    lines: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Accept,
    Drop,
    /// Of a user chain.
    None,
}

/// Where one chain stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPlace {
    /// Index of its first rule among those that the family is compiled to.
    pub first: usize,
    pub rules: usize,
    /// Rules before it in the text.
    pub before: usize,
    /// The bytes of its rules in the text.
    pub lines: Range<usize>,
}

impl<'t> Outline<'t> {
    /// `None` when the text is not as it was printed.
    pub fn read(text: &'t str) -> Option<Self> {
        let mut outline = Self { tables: Vec::new() };
        let mut at = 0;
        let mut chain = 0;
        for line in text.split_inclusive('\n') {
            let start = at;
            at += line.len();
            let line = line.strip_suffix('\n')?;
            match line.as_bytes().first()? {
                b'*' => {
                    let name = TableName::from_name(&line[1..])?;
                    outline.tables.push(Table { name, chains: Vec::new() });
                    chain = 0;
                }
                b':' => outline.tables.last_mut()?.declare(line, at)?,
                b'-' => chain = outline.tables.last_mut()?.rule(line, chain, start..at)?,
                _ if line == "COMMIT" => outline.tables.last_mut()?.settle(),
                _ => return None,
            }
        }
        Some(outline)
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.tables.iter().map(Table::rules).sum()
    }

    /// How many rules the family is compiled to, policies and ends of chains among them.
    pub fn compiled(&self) -> usize {
        self.laid_out().map(Table::compiled).sum()
    }

    /// The names of a table's chains, and whether each has a policy.
    pub fn chains(&self, table: TableName) -> impl Iterator<Item = (&'t str, bool)> {
        let table = self.tables.iter().find(|known| known.name == table);
        let chains = table.into_iter().flat_map(|table| &table.chains);
        chains.map(|chain| (chain.name, chain.policy != Policy::None))
    }

    /// Where a chain stands; `None` when it is not there, or its table is not walked.
    pub fn place(&self, table: TableName, chain: &str) -> Option<ChainPlace> {
        let before = self.tables.iter().take_while(|known| known.name != table);
        let mut before = before.map(Table::rules).sum();
        let mut first = 0;
        for known in self.laid_out() {
            if known.name != table {
                first += known.compiled();
                continue;
            }
            for Chain { name, rules, lines, .. } in &known.chains {
                if *name == chain {
                    return Some(ChainPlace { first, rules: *rules, before, lines: lines.clone() });
                }
                first += rules + 1;
                before += rules;
            }
        }
        None
    }

    /// The tables that are walked, in the order in which they are compiled.
    fn laid_out(&self) -> impl Iterator<Item = &Table<'t>> {
        let of = |name| self.tables.iter().find(move |table| table.name == name);
        ORDER.into_iter().filter_map(of).filter(|table| !table.is_idle())
    }
}

impl<'t> Table<'t> {
    /// `:INPUT ACCEPT [0:0]`; `at` is where the next line begins.
    fn declare(&mut self, line: &'t str, at: usize) -> Option<()> {
        let mut words = line[1..].split(' ');
        let name = words.next()?;
        let policy = match words.next()? {
            "ACCEPT" => Policy::Accept,
            "DROP" => Policy::Drop,
            "-" => Policy::None,
            _ => return None,
        };
        self.chains.push(Chain { name, policy, rules: 0, lines: at..at });
        Some(())
    }

    /// `-A INPUT …`, of this chain or one behind it; gives which.
    fn rule(&mut self, line: &str, from: usize, bytes: Range<usize>) -> Option<usize> {
        let rest = line.strip_prefix("-A ")?;
        let is_of = |chain: &Chain<'_>| {
            let rest = rest.strip_prefix(chain.name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let chain = from + self.chains.get(from..)?.iter().position(is_of)?;
        let known = &mut self.chains[chain];
        if known.rules == 0 {
            known.lines = bytes.clone();
        }
        known.rules += 1;
        known.lines.end = bytes.end;
        Some(chain)
    }

    /// Gives chains without rules the place where these would stand.
    fn settle(&mut self) {
        let mut end = self.chains.last().map_or(0, |_| self.declared());
        for chain in &mut self.chains {
            if chain.rules == 0 {
                chain.lines = end..end;
            }
            end = chain.lines.end;
        }
    }

    /// Where the declarations end: no chain without rules begins later.
    fn declared(&self) -> usize {
        let first = self.chains.iter().find(|chain| chain.rules != 0);
        let last = self.chains.iter().filter(|chain| chain.rules == 0).map(|c| c.lines.end).max();
        first.map(|chain| chain.lines.start).or(last).unwrap_or_default()
    }

    fn rules(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules).sum()
    }

    fn compiled(&self) -> usize {
        self.rules() + self.chains.len()
    }

    /// Whether walking it would do nothing, as the compiler sees it.
    fn is_idle(&self) -> bool {
        let does_something = |chain: &Chain<'_>| match chain.policy {
            Policy::Accept => chain.rules != 0,
            Policy::Drop => true,
            Policy::None => false,
        };
        self.name != TableName::Filter && !self.chains.iter().any(does_something)
    }
}
