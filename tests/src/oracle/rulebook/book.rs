//! The rules of a file by chain, and the way on which a packet comes to one.

use super::wish::Wish;
use crate::Family;

/// Chains are nested less deep than this.
const DEPTH: usize = 20;

#[derive(Clone, Debug)]
pub struct Book {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    table: String,
    chain: String,
    target: Option<String>,
    wish: Wish,
}

/// Where the packets go that a chain sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    In,
    Through,
    Out,
}

impl Book {
    /// Reads the lines that append or insert rules.
    pub fn parse(text: &str, family: Family) -> Self {
        let mut table = "filter";
        let mut rules = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let ["-A" | "-I", chain, rest @ ..] = &words[..] else { continue };
            let target = rest.iter().position(|word| ["-j", "-g"].contains(word));
            rules.push(Rule {
                table: table.into(),
                chain: (*chain).into(),
                target: target.and_then(|at| rest.get(at + 1)).map(ToString::to_string),
                wish: Wish::parse(rest, family),
            });
        }
        Self { rules }
    }

    /// What some rule asks for, and all that lead to it. `None` when no rule of the file
    /// is ever met.
    pub fn any(&self, dice: &mut fastrand::Rng) -> Option<(Course, Wish)> {
        (0..self.rules.len().min(50)).find_map(|_| {
            let rule = &self.rules[dice.usize(..self.rules.len())];
            let mut wish = rule.wish.clone();
            let course = self.climb(rule, &mut wish, dice)?;
            if dice.u8(..4) == 0 {
                wish.forget(dice);
            }
            Some((course, wish))
        })
    }

    /// Goes up from a rule to a chain of the kernel's, by one way of all.
    fn climb(&self, rule: &Rule, wish: &mut Wish, dice: &mut fastrand::Rng) -> Option<Course> {
        let mut rule = rule;
        for _ in 0..DEPTH {
            if let Some(course) = course(&rule.chain, dice) {
                return Some(course);
            }
            let leads_here =
                |it: &&Rule| it.table == rule.table && it.target.as_ref() == Some(&rule.chain);
            let callers: Vec<&Rule> = self.rules.iter().filter(leads_here).collect();
            rule = callers.get(dice.usize(..callers.len().max(1)))?;
            wish.inherit(&rule.wish);
        }
        None
    }

    /// Ports that rules for TCP name as destinations: where a server may listen.
    pub fn services(&self) -> Vec<u16> {
        let tcp = |rule: &&Rule| rule.wish.protocol == Some(super::protocol::TCP);
        let ports = self.rules.iter().filter(tcp).flat_map(|rule| &rule.wish.dports);
        let mut ports: Vec<u16> = ports.map(|range| *range.start()).filter(|it| *it != 0).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

fn course(chain: &str, dice: &mut fastrand::Rng) -> Option<Course> {
    let mut either = |a, b| if dice.bool() { a } else { b };
    Some(match chain {
        "INPUT" => Course::In,
        "FORWARD" => Course::Through,
        "OUTPUT" => Course::Out,
        "PREROUTING" => either(Course::In, Course::Through),
        "POSTROUTING" => either(Course::Through, Course::Out),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_a_user_chain_is_met_on_the_way_that_leads_there() {
        let text = "*filter\n:a - [0:0]\n-A FORWARD -p tcp -j a\n-A a -d 192.0.2.1 -j b\n\
                    -A b -p udp --dport 53\n-A nowhere -p icmp\nCOMMIT\n";
        let book = Book::parse(text, Family::V4);
        let mut dice = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let (course, wish) = book.any(&mut dice).unwrap();
            assert_eq!(course, Course::Through);
            assert_ne!(wish.protocol, Some(super::super::protocol::ICMP));
        }
    }

    #[test]
    fn servers_listen_where_rules_of_tcp_lead() {
        let text = "-A INPUT -p tcp --dport 22\n-A INPUT -p tcp -m multiport --dports 80,22\n\
                    -A INPUT -p udp --dport 53\n";
        assert_eq!(Book::parse(text, Family::V4).services(), [22, 80]);
    }
}
