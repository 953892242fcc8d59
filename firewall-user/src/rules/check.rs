//! What a ruleset must keep to beside its grammar: jumps lead to chains that
//! are there and to user chains only, never in a circle, and not too deep; targets stand where
//! they work.

use std::collections::HashMap;

use firewall_common::{nat::Kind, rule::MAX_JUMP_DEPTH};

use super::{
    ast::{Origin, Rule, Ruleset, Table, TableName, Target},
    nat::Nat,
    parse::targets,
    problem::{Problem, nearest},
};

/// A mistake, and the rule that shows it.
pub(crate) struct Finding {
    pub(crate) origin: Origin,
    pub(crate) problem: Problem,
}

/// Looks at every table of one family.
pub(crate) fn family(ruleset: &Ruleset) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &ruleset.tables {
        let graph = Graph::new(table, &mut findings);
        graph.find_loops(&mut findings);
        graph.find_depth(&mut findings);
        graph.find_proxies(&mut findings);
        graph.find_translations(&mut findings);
    }
    findings
}

/// The chains of a table and the jumps between them.
struct Graph<'a> {
    table: &'a Table,
    /// Of each chain, its jumps.
    jumps: Vec<Vec<Jump<'a>>>,
    /// Every chain after all that it jumps to, chains in a loop left out.
    order: Vec<usize>,
}

struct Jump<'a> {
    to: usize,
    is_goto: bool,
    rule: &'a Rule,
}

impl<'a> Graph<'a> {
    fn new(table: &'a Table, findings: &mut Vec<Finding>) -> Self {
        let names = table.chains.iter().enumerate().map(|(at, chain)| (chain.name.as_str(), at));
        let names: HashMap<_, _> = names.collect();
        let mut jumps = Vec::with_capacity(table.chains.len());
        for chain in &table.chains {
            let mut of_chain = Vec::new();
            for rule in &chain.rules {
                let Some(name) = rule.spec.target.chain() else { continue };
                match names.get(name) {
                    Some(&to) if table.chains[to].policy.is_none() => {
                        let is_goto = matches!(rule.spec.target, Target::Goto(_));
                        of_chain.push(Jump { to, is_goto, rule });
                    }
                    Some(_) => findings.push(finding(rule, into_builtin(name))),
                    None => findings.push(finding(rule, missing_chain(table, name))),
                }
            }
            jumps.push(of_chain);
        }
        let order = order(&jumps);
        Self { table, jumps, order }
    }

    /// Reports each circle once.
    fn find_loops(&self, findings: &mut Vec<Finding>) {
        let mut is_done = vec![false; self.jumps.len()];
        for chain in &self.order {
            is_done[*chain] = true;
        }
        let circling = is_done.clone();
        for start in 0..self.jumps.len() {
            if !is_done[start] {
                self.follow(start, &circling, &mut is_done, findings);
            }
        }
    }

    /// Goes on from jump to jump until a chain comes again.
    fn follow(
        &self,
        start: usize,
        leads_out: &[bool],
        is_done: &mut [bool],
        findings: &mut Vec<Finding>,
    ) {
        let mut path = vec![start];
        let mut at = start;
        loop {
            is_done[at] = true;
            let Some(jump) = self.jumps[at].iter().find(|jump| !leads_out[jump.to]) else { return };
            if let Some(first) = path.iter().position(|chain| *chain == jump.to) {
                let circle = path[first..].iter().chain([&jump.to]);
                let names: Vec<_> =
                    circle.map(|chain| self.table.chains[*chain].name.as_str()).collect();
                findings.push(finding(jump.rule, circle_problem(&names)));
                return;
            }
            if is_done[jump.to] {
                return;
            }
            path.push(jump.to);
            at = jump.to;
        }
    }

    /// Reports the first jump that is nested too deep. A goto takes the place
    /// of its chain, unless that is a built-in one.
    fn find_depth(&self, findings: &mut Vec<Finding>) {
        let mut depths: Vec<Option<usize>> =
            self.table.chains.iter().map(|chain| chain.policy.map(|_| 0)).collect();
        for &chain in self.order.iter().rev() {
            let Some(depth) = depths[chain] else { continue };
            for jump in &self.jumps[chain] {
                let inner = if jump.is_goto { depth.max(1) } else { depth + 1 };
                if inner > MAX_JUMP_DEPTH {
                    findings.push(finding(jump.rule, too_deep()));
                    return;
                }
                depths[jump.to] = depths[jump.to].max(Some(inner));
            }
        }
    }

    /// The rules of a chain and of all that it leads to.
    fn reached(&self, start: &str) -> impl Iterator<Item = &'a Rule> {
        let mut is_reached = vec![false; self.jumps.len()];
        let start = self.table.chains.iter().position(|chain| chain.name == start);
        let mut open: Vec<usize> = start.into_iter().collect();
        while let Some(chain) = open.pop() {
            if !is_reached[chain] {
                is_reached[chain] = true;
                open.extend(self.jumps[chain].iter().map(|jump| jump.to));
            }
        }
        let reached = self.table.chains.iter().zip(is_reached).filter(|(_, reached)| *reached);
        reached.flat_map(|(chain, _)| &chain.rules)
    }

    /// Reports what answers SYNs of this host itself: nobody is there to be protected.
    fn find_proxies(&self, findings: &mut Vec<Finding>) {
        for rule in self.reached("OUTPUT") {
            if matches!(rule.spec.target, Target::Proxy(_)) {
                findings.push(finding(rule, proxy_on_output()));
            }
        }
    }

    /// Reports what translates the one end where only the other one can be.
    fn find_translations(&self, findings: &mut Vec<Finding>) {
        if self.table.name != TableName::Nat {
            return;
        }
        for start in self.table.name.builtin_chains() {
            for rule in self.reached(start) {
                if let Target::Nat(nat) = &rule.spec.target
                    && !nat.chains().contains(start)
                {
                    findings.push(finding(rule, misplaced_translation(nat, start)));
                }
            }
        }
    }
}

/// Sorts chains so that each comes after those that it jumps to; what is left
/// out is in a loop or leads to one.
fn order(jumps: &[Vec<Jump<'_>>]) -> Vec<usize> {
    let mut callers = vec![Vec::new(); jumps.len()];
    let mut open: Vec<usize> = jumps.iter().map(Vec::len).collect();
    for (from, all) in jumps.iter().enumerate() {
        all.iter().for_each(|jump| callers[jump.to].push(from));
    }
    let mut order: Vec<usize> = (0..jumps.len()).filter(|chain| open[*chain] == 0).collect();
    let mut at = 0;
    while let Some(&chain) = order.get(at) {
        at += 1;
        for &caller in &callers[chain] {
            open[caller] -= 1;
            if open[caller] == 0 {
                order.push(caller);
            }
        }
    }
    order
}

fn finding(rule: &Rule, problem: Problem) -> Finding {
    Finding { origin: rule.origin.clone(), problem }
}

fn into_builtin(name: &str) -> Problem {
    Problem::new(format!("{name} is a built-in chain: rules cannot jump to it"))
        .advise("put what both need into a chain of its own")
}

fn missing_chain(table: &Table, name: &str) -> Problem {
    let user = table.chains.iter().filter(|chain| chain.policy.is_none());
    if let Some(target) = targets::meant(name) {
        return Problem::new(format!("unknown target '{name}'")).did_you_mean(Some(target));
    }
    let problem = Problem::new(format!("there is no chain or target '{name}'"));
    match nearest(name, user.map(|chain| chain.name.as_str())) {
        Some(near) => problem.did_you_mean(Some(near)),
        None => problem.advise(format!("create it with -N {name}")),
    }
}

fn circle_problem(names: &[&str]) -> Problem {
    Problem::new(format!("chains jump in a circle: {}", names.join(" -> ")))
        .advise("take out one of the jumps")
}

fn proxy_on_output() -> Problem {
    Problem::new("SYNPROXY does not work in OUTPUT, nor in a chain that OUTPUT jumps to")
        .advise("put the rule into INPUT or FORWARD, or into a chain of theirs alone")
}

fn misplaced_translation(nat: &Nat, chain: &str) -> Problem {
    let name = nat.name();
    let message = format!("{name} does not work in {chain}, nor in a chain that {chain} jumps to");
    if nat.kind == Kind::Redirect && chain == "OUTPUT" {
        return Problem::new(message).advise(
            "packets of this host are judged where they leave: let the program connect to the \
             other port",
        );
    }
    let chains = nat.chains().join(" or ");
    Problem::new(message)
        .advise(format!("put the rule into {chains}, or into a chain of theirs alone"))
}

fn too_deep() -> Problem {
    Problem::new(format!("jumps are nested deeper than {MAX_JUMP_DEPTH} chains"))
        .advise("use -g where the rules behind the jump are not needed")
}

#[cfg(test)]
mod tests {
    use firewall_common::addr::Family;

    use crate::rules::{BuiltinServices, parse};

    fn check(text: &str) -> Result<(), String> {
        let parsed = parse("rules", text, Family::Ipv4, &BuiltinServices);
        parsed.map(drop).map_err(|errors| errors.to_string())
    }

    /// INPUT jumps to c1, c1 to c2, and so on.
    fn nested(depth: usize, jump: &str) -> String {
        let mut text: String = (1..=depth).map(|n| format!("-N c{n}\n")).collect();
        text += "-A INPUT -j c1\n";
        (1..depth).for_each(|n| text += &format!("-A c{n} {jump} c{}\n", n + 1));
        text
    }

    #[test]
    fn a_loop_is_shown_with_all_its_chains() {
        let error = check("-N a\n-N b\n-N c\n-A a -j b\n-A b -g c\n-A c -j a\n").unwrap_err();
        assert!(error.contains("chains jump in a circle: a -> b -> c -> a"), "{error}");
        assert!(error.starts_with("rules:6:"), "{error}");
        assert!(check("-N a\n-A a -j a\n").unwrap_err().contains("a -> a"));
    }

    #[test]
    fn two_loops_are_two_errors_and_a_chain_that_leads_to_one_is_none() {
        let text = "-N a\n-N b\n-N c\n-A c -j a\n-A a -j a\n-A b -j b\n-A INPUT -j c\n";
        assert_eq!(check(text).unwrap_err().matches("in a circle").count(), 2);
    }

    #[test]
    fn jumps_nest_as_deep_as_the_datapath_follows() {
        assert_eq!(check(&nested(16, "-j")), Ok(()));
        assert!(check(&nested(17, "-j")).unwrap_err().contains("deeper than 16"));
        assert_eq!(check(&nested(100, "-g")), Ok(()));
    }

    #[test]
    fn thousands_of_chains_in_a_row_are_no_trouble() {
        assert!(check(&nested(5000, "-j")).unwrap_err().contains("deeper than 16"));
    }

    #[test]
    fn a_jump_must_lead_to_a_user_chain_that_is_there() {
        assert!(
            check("-A INPUT -j ALLOW\n")
                .unwrap_err()
                .contains("unknown target 'ALLOW'; did you mean ACCEPT?")
        );
        assert!(check("-A INPUT -j CLIENTS\n").unwrap_err().contains("create it with -N CLIENTS"));
        assert!(check("-A INPUT -j FORWARD\n").unwrap_err().contains("built-in chain"));
        assert!(
            check("-N CLIENTS\n-A INPUT -j CLIENT\n")
                .unwrap_err()
                .contains("did you mean CLIENTS?")
        );
    }
}
