//! Rules that end the connection of whoever applies them.
//!
//! The caller's own connection is sent through the rules, as the datapath would see it:
//! the next packet that comes in, the answer to it, and a new connection like it.

use std::net::IpAddr;

use firewall_common::{
    addr::Family,
    extra::Facts,
    flow::{CtState, protocol},
    rule::Chain,
    walk::{Outcome, Walk},
    wire::tcp_flag,
};

use super::Finding;
use crate::{
    explain::{
        frame::{Asked, Numbers},
        walk::{RuleTables, retell},
    },
    rules::{Compiled, Part, Ruleset, TableName, ast::Verdict, compile},
};

/// The connection by which somebody is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub client: IpAddr,
    pub client_port: u16,
    pub server: IpAddr,
    pub server_port: u16,
    /// The interface of this host's address; every interface is tried where it is not
    /// known.
    pub interface: Option<String>,
}

impl Caller {
    /// From sshd's `SSH_CONNECTION`: client, its port, server, its port.
    pub fn from_ssh(text: &str, interface: impl Fn(IpAddr) -> Option<String>) -> Option<Self> {
        let mut words = text.split_whitespace();
        let client = words.next()?.parse::<IpAddr>().ok()?.to_canonical();
        let client_port = words.next()?.parse().ok()?;
        let server = words.next()?.parse::<IpAddr>().ok()?.to_canonical();
        let server_port = words.next()?.parse().ok()?;
        Some(Self { client, client_port, server, server_port, interface: interface(server) })
    }
}

pub fn lint(ruleset: &Ruleset, caller: Option<&Caller>, findings: &mut Vec<Finding>) {
    match caller {
        Some(caller) if caller.client.is_ipv4() == (ruleset.family == Family::Ipv4) => {
            findings.extend(lockout(ruleset, caller).map(Lockout::finding));
        }
        _ => findings.extend(of_anybody(ruleset)),
    }
}

/// Nobody can be accepted, whoever it is.
fn of_anybody(ruleset: &Ruleset) -> Option<Finding> {
    let filter = ruleset.table(TableName::Filter)?;
    let input = filter.chain("INPUT")?;
    let is_closed = input.policy.is_some_and(|policy| policy.verdict == Verdict::Drop);
    if !is_closed || !input.rules.is_empty() {
        return None;
    }
    Some(Finding {
        lint: "locks-out",
        line: None,
        message: "INPUT has the policy DROP and no rule: nobody reaches this host any more".into(),
        advice: "add -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT and -A INPUT -i lo -j \
                 ACCEPT, and a rule for how you log in; apply with --confirm"
            .into(),
    })
}

/// What the rules of one family take from the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The connection by which they are here.
    Session,
    /// The next one.
    Login,
}

/// How a caller is locked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockout {
    pub cut: Cut,
    line: Option<u32>,
    /// Without an end; so is the next.
    pub message: String,
    pub advice: String,
}

impl Lockout {
    fn finding(self) -> Finding {
        let Self { line, message, advice, .. } = self;
        Finding { lint: "locks-out", line, message, advice }
    }
}

/// Whether the rules lock the caller out, as far as their family is the caller's.
pub fn lockout(ruleset: &Ruleset, caller: &Caller) -> Option<Lockout> {
    if caller.client.is_ipv4() != (ruleset.family == Family::Ipv4) {
        return None;
    }
    let empty = |family| Ruleset::empty(family);
    let compiled = match ruleset.family {
        Family::Ipv4 => compile(ruleset, &empty(Family::Ipv6)),
        Family::Ipv6 => compile(&empty(Family::Ipv4), ruleset),
    };
    // Errors are told elsewhere.
    let compiled = compiled.ok()?;
    let come = packet(caller, tcp_flag::ACK);
    let syn = packet(caller, tcp_flag::SYN);
    let answer = come.answer()?;
    let ways = [
        (come, Chain::Input, CtState::Established, "your connection is cut off"),
        (answer, Chain::Output, CtState::Established, "nothing is sent to you any more"),
        (syn, Chain::Input, CtState::New, "you cannot log in again"),
    ];
    let (chain, ctstate, rule, what) =
        ways.into_iter().find_map(|(asked, chain, ctstate, what)| {
            let decided = refused(&compiled, &asked, chain, ctstate, caller.interface.as_deref())?;
            Some((chain, ctstate, decided, what))
        })?;
    let origin = compiled.origins.get(rule as usize)?;
    let (by, line) = match origin.part {
        Part::Rule(number) => {
            let written = ruleset.table(origin.table)?.chain(&origin.chain)?;
            let line = written.rules.get(number as usize - 1).map(|rule| rule.origin.line);
            (format!("{} {number}", origin.chain), line)
        }
        Part::Policy | Part::End => (format!("the policy of {}", origin.chain), None),
    };
    let ends = format!("{} from {} to port {}", ssh(caller), caller.client, caller.server_port);
    let advice = match chain {
        Chain::Output => "add -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT".to_owned(),
        _ => format!(
            "put -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT first, and behind it -A INPUT \
             -s {} -p tcp --dport {} -j ACCEPT; apply with --confirm",
            caller.client, caller.server_port
        ),
    };
    let message = format!("{by} drops {ends}: {what}");
    let cut = if ctstate == CtState::New { Cut::Login } else { Cut::Session };
    Some(Lockout { cut, line, message, advice })
}

const fn ssh(caller: &Caller) -> &'static str {
    if caller.server_port == 22 { "ssh" } else { "your login" }
}

fn packet(caller: &Caller, flags: u8) -> Asked {
    Asked {
        src: caller.client,
        dst: caller.server,
        protocol: protocol::TCP,
        sport: caller.client_port,
        dport: caller.server_port,
        flags,
        seq: None,
        ack: None,
        icmp: (0, 0),
        icmp_id: 0,
        payload: 0,
    }
}

/// The rule that does not let it pass.
fn refused(
    compiled: &Compiled,
    asked: &Asked,
    chain: Chain,
    ctstate: CtState,
    interface: Option<&str>,
) -> Option<u32> {
    let mut headers = firewall_common::headers::Headers::default();
    headers.parse(&asked.frame(None, Numbers::default())[..], false).ok()?;
    // Where the interface is not known it is the one that each rule wants.
    let patterns = interface.map_or(u64::MAX, |name| compiled.patterns_of(name));
    let (in_patterns, out_patterns) = match chain {
        Chain::Output => (0, patterns),
        _ => (patterns, 0),
    };
    let (chain, ctstate) = (chain as u8, ctstate.bit());
    let done = Walk { chain, ctstate, in_patterns, out_patterns, ..Walk::default() };
    let tables = RuleTables::of(compiled);
    // What only the packet itself could tell is not known.
    let retold = retell(&tables, &headers, &Facts::default(), &done, None, &|_| String::new());
    let passes = [Outcome::Accept, Outcome::Proxy].map(|outcome| outcome as u8);
    (!passes.contains(&retold.outcome)).then_some(retold.decided)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{BuiltinServices, parse};

    fn caller() -> Caller {
        let interface = |_| Some("eth0".to_owned());
        Caller::from_ssh("192.0.2.7 50000 198.51.100.1 22", interface).unwrap()
    }

    fn found(text: &str) -> Option<String> {
        let rules = parse("rules", text, Family::Ipv4, &BuiltinServices).unwrap();
        let mut findings = Vec::new();
        lint(&rules, Some(&caller()), &mut findings);
        findings.pop().map(|finding| finding.message)
    }

    const KEEP: &str = "-A INPUT -m state --state ESTABLISHED -j ACCEPT\n";

    #[test]
    fn a_policy_that_drops_the_callers_connection_is_found() {
        let text = "-P INPUT DROP\n-A INPUT -p tcp --dport 80 -j ACCEPT\n";
        let message = found(text).unwrap();
        assert_eq!(
            message,
            "the policy of INPUT drops ssh from 192.0.2.7 to port 22: your connection is cut off"
        );
    }

    #[test]
    fn a_connection_that_lives_but_cannot_be_made_again_is_found() {
        let message = found(&format!("-P INPUT DROP\n{KEEP}")).unwrap();
        assert!(message.ends_with("you cannot log in again"), "{message}");
    }

    #[test]
    fn answers_that_output_drops_are_found() {
        let message = found("-P OUTPUT DROP\n").unwrap();
        assert!(message.starts_with("the policy of OUTPUT drops "), "{message}");
    }

    #[test]
    fn the_rule_that_drops_is_named() {
        let text = format!("{KEEP}-A INPUT -i eth0 -s 192.0.2.0/24 -j REJECT\n");
        assert!(found(&text).unwrap().starts_with("INPUT 2 drops ssh from 192.0.2.7"));
    }

    #[test]
    fn rules_for_the_caller_are_as_they_should_be() {
        assert_eq!(
            found(&format!("-P INPUT DROP\n{KEEP}-A INPUT -p tcp --dport 22 -j ACCEPT\n")),
            None
        );
        assert_eq!(found("-A INPUT -i eth1 -j DROP\n"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn without_a_caller_only_what_locks_everybody_out_is_found() {
        let of = |text: &str| {
            let rules = parse("rules", text, Family::Ipv4, &BuiltinServices).unwrap();
            let mut findings = Vec::new();
            lint(&rules, None, &mut findings);
            findings.len()
        };
        assert_eq!(of("-P INPUT DROP\n"), 1);
        assert_eq!(of("-P INPUT DROP\n-A INPUT -p tcp --dport 80 -j ACCEPT\n"), 0);
    }
}
