//! The classic mistakes with table nat: MASQUERADE towards everybody, a port forward that
//! FORWARD does not let in, and one that hosts of the server's own network cannot use.

use std::net::IpAddr;

use firewall_common::{
    flow::CtState,
    nat::Kind,
    rule::{PortRange, PortSide},
};

use crate::rules::{
    TableName,
    ast::{Chain, Match, Multiport, Network, Rule, RuleSpec, Ruleset, Target, Verdict},
    nat::Nat,
};

use super::{Finding, accepts, filter_rules, finding, name, states};

/// A rule of table nat, and where it stands.
struct Translating<'a> {
    chain: &'a Chain,
    at: usize,
    rule: &'a Rule,
    nat: &'a Nat,
}

fn translating(ruleset: &Ruleset) -> Vec<Translating<'_>> {
    let mut all = Vec::new();
    for chain in ruleset.table(TableName::Nat).into_iter().flat_map(|table| &table.chains) {
        for (at, rule) in chain.rules.iter().enumerate() {
            if let Target::Nat(nat) = &rule.spec.target {
                all.push(Translating { chain, at, rule, nat });
            }
        }
    }
    all
}

pub fn lint(ruleset: &Ruleset, findings: &mut Vec<Finding>) {
    let all = translating(ruleset);
    for one in &all {
        match one.nat.kind {
            Kind::Masquerade => wide(one, findings),
            Kind::Destination => {
                closed(ruleset, one, findings);
                hairpin(&all, one, findings);
            }
            Kind::Source | Kind::Redirect | Kind::Netmap => {}
        }
    }
}

/// Whoever jumps to a user chain may have asked for the interface.
fn wide(one: &Translating<'_>, findings: &mut Vec<Finding>) {
    let spec = &one.rule.spec;
    if one.chain.policy.is_none() || spec.output.is_some() || spec.dst.is_some() {
        return;
    }
    let message = format!(
        "{} masquerades whatever leaves, by any interface: hosts inside see this one as the \
         sender of every connection, too",
        name(one.chain, one.at)
    );
    let advice = "name the interface to the outside with -o";
    findings.push(finding("masquerade-wide", &one.rule.origin, message, advice));
}

/// Where a rule for one server sends its connections.
struct Forward {
    to: IpAddr,
    protocol: Option<u8>,
    /// Behind the translation; `None` where the rule does not tell.
    port: Option<u16>,
    /// Before it, where that is another one.
    former: Option<u16>,
}

impl Forward {
    fn of(spec: &RuleSpec, nat: &Nat) -> Option<Self> {
        let (first, last) = nat.addresses?;
        let single = |range: PortRange| (range.first == range.last).then_some(range.first);
        let asked = dport(spec);
        let port = match nat.ports {
            Some(ports) => single(ports),
            None => asked,
        };
        let protocol = spec.protocol.filter(|protocol| !protocol.negated);
        (first == last).then_some(Self {
            to: first,
            protocol: protocol.map(|protocol| protocol.value),
            port,
            former: asked.filter(|asked| Some(*asked) != port),
        })
    }

    /// Whether a rule may fit its packets with this destination port; `true` where it is not
    /// sure.
    fn may_fit(&self, spec: &RuleSpec, port: Option<u16>) -> bool {
        let is_to = spec.dst.is_none_or(|dst| dst.negated != holds(&dst.value, self.to));
        let is_of = spec.protocol.is_none_or(|asked| {
            self.protocol.is_none_or(|own| asked.negated != (asked.value == own))
        });
        let is_new = states(spec).is_none_or(|bits| bits & CtState::New.bit() != 0);
        is_to && is_of && is_new && port.is_none_or(|port| may_fit_port(spec, port))
    }
}

/// The one port that a rule asks for.
fn dport(spec: &RuleSpec) -> Option<u16> {
    spec.matches.iter().find_map(|one| match one {
        Match::Transport(transport) => {
            let ports = transport.dport.filter(|ports| !ports.negated)?.value;
            (ports.first == ports.last).then_some(ports.first)
        }
        _ => None,
    })
}

fn may_fit_port(spec: &RuleSpec, port: u16) -> bool {
    spec.matches.iter().all(|one| match one {
        Match::Transport(transport) => {
            transport.dport.is_none_or(|asked| asked.negated != asked.value.contains(port))
        }
        Match::Multiport(Multiport { side: PortSide::Destination, negated, ranges }) => {
            *negated != ranges.iter().any(|range| range.contains(port))
        }
        _ => true,
    })
}

fn holds(network: &Network, address: IpAddr) -> bool {
    Network::new(address, network.mask).address == network.address
}

/// Nothing accepts the first packet of what is sent to an inner server.
fn closed(ruleset: &Ruleset, one: &Translating<'_>, findings: &mut Vec<Finding>) {
    let filter = ruleset.table(TableName::Filter);
    let policy = filter.and_then(|table| table.chain("FORWARD")).and_then(|chain| chain.policy);
    let is_closed = policy.is_some_and(|policy| policy.verdict == Verdict::Drop);
    // What this host sends, and what is sent to it, does not come by FORWARD.
    let is_forwarded =
        |forward: &Forward| one.chain.name != "OUTPUT" && !forward.to.is_loopback() && is_closed;
    let Some(forward) = Forward::of(&one.rule.spec, one.nat).filter(is_forwarded) else { return };
    let accepting = |port| {
        filter_rules(ruleset)
            .filter(|(chain, ..)| !matches!(chain.name.as_str(), "INPUT" | "OUTPUT"))
            .find(|(_, _, rule)| accepts(&rule.spec) && forward.may_fit(&rule.spec, port))
    };
    if accepting(forward.port).is_some() {
        return;
    }
    let place = name(one.chain, one.at);
    let to = match forward.port {
        Some(port) => format!("{} port {port}", forward.to),
        None => forward.to.to_string(),
    };
    let message = match forward.former.and_then(|port| Some((port, accepting(Some(port))?))) {
        Some((port, (chain, at, _))) => format!(
            "{place} sends connections to {to}, and {} asks for port {port}, which they have before",
            name(chain, at)
        ),
        None => format!("{place} sends connections to {to}, and no rule of FORWARD accepts them"),
    };
    let advice = "FORWARD sees the translated destination and port: accept those there, or all that \
                  is translated with -m conntrack --ctstate DNAT -j ACCEPT";
    findings.push(finding("dnat-closed", &one.rule.origin, message, advice));
}

/// A host beside the server gets its answer from the server itself, which it has not asked.
fn hairpin(all: &[Translating<'_>], one: &Translating<'_>, findings: &mut Vec<Finding>) {
    let spec = &one.rule.spec;
    let Some(forward) = Forward::of(spec, one.nat) else { return };
    if one.chain.name != "PREROUTING" || spec.input.is_some() || spec.src.is_some() {
        return;
    }
    let sources =
        || all.iter().filter(|other| matches!(other.nat.kind, Kind::Masquerade | Kind::Source));
    let is_inside = sources().any(|other| {
        let spec = &other.rule.spec;
        let src = spec.src.filter(|src| !src.negated);
        spec.output.is_some() && src.is_some_and(|src| holds(&src.value, forward.to))
    });
    let is_turned = sources().any(|other| {
        let spec = &other.rule.spec;
        let is_to = spec.dst.is_none_or(|dst| dst.negated != holds(&dst.value, forward.to));
        is_to && (spec.dst.is_some() || spec.output.as_ref().is_none_or(|output| output.negated))
    });
    if !is_inside || is_turned {
        return;
    }
    let message = format!(
        "{} also turns what hosts beside {} send, which answers them by itself: they do not know it",
        name(one.chain, one.at),
        forward.to
    );
    let advice = format!(
        "name the interface from the outside with -i, or let them seem to come from here: -A \
         POSTROUTING -s THEIR-NETWORK -d {} -j MASQUERADE",
        forward.to
    );
    findings.push(finding("hairpin", &one.rule.origin, message, &advice));
}

#[cfg(test)]
mod tests {
    use super::super::linted;

    fn of(nat: &[&str], filter: &str) -> Vec<(&'static str, u32)> {
        let nat: String = nat.iter().map(|rule| format!("-A {rule}\n")).collect();
        linted(&format!("*nat\n{nat}COMMIT\n*filter\n{filter}COMMIT\n"))
    }

    #[test]
    fn masquerade_towards_everybody_is_found() {
        assert_eq!(of(&["POSTROUTING -j MASQUERADE"], ""), [("masquerade-wide", 2)]);
        assert_eq!(of(&["POSTROUTING -s 10.8.0.0/24 -j MASQUERADE"], ""), [("masquerade-wide", 2)]);
        assert_eq!(of(&["POSTROUTING -o eth0 -j MASQUERADE"], ""), []);
        assert_eq!(of(&["POSTROUTING -s 172.17.0.2 -d 172.17.0.2 -j MASQUERADE"], ""), []);
    }

    #[test]
    fn a_port_forward_that_nothing_lets_in_is_found() {
        let dnat = "PREROUTING -i eth0 -p tcp --dport 80 -j DNAT --to-destination 192.0.2.10";
        let closed = ":FORWARD DROP [0:0]\n";
        assert_eq!(of(&[dnat], ""), [], "the policy is ACCEPT");
        let own = "OUTPUT -p tcp --dport 80 -j DNAT --to-destination 192.0.2.10";
        assert_eq!(of(&[own], closed), [], "it is not forwarded");
        assert_eq!(of(&[dnat], closed), [("dnat-closed", 2)]);
        for rule in [
            "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
            "-A FORWARD -d 192.0.2.11 -p tcp --dport 80 -j ACCEPT\n",
            "-A FORWARD -p udp -j ACCEPT\n",
            "-A INPUT -p tcp --dport 80 -j ACCEPT\n",
        ] {
            assert_eq!(of(&[dnat], &format!("{closed}{rule}")), [("dnat-closed", 2)], "{rule}");
        }
        for rule in [
            "-A FORWARD -d 192.0.2.10 -p tcp --dport 80 -j ACCEPT\n",
            "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT\n",
            "-A FORWARD -p tcp -m multiport --dports 80,443 -j ACCEPT\n",
            "-N web\n-A FORWARD -j web\n-A web -i eth0 -d 192.0.2.0/24 -j ACCEPT\n",
        ] {
            assert_eq!(of(&[dnat], &format!("{closed}{rule}")), [], "{rule}");
        }
    }

    #[test]
    fn a_forward_rule_with_the_port_from_before_is_named() {
        let text = "*nat\n-A PREROUTING -i eth0 -p tcp --dport 2222 -j DNAT --to-destination \
                    192.0.2.10:22\nCOMMIT\n*filter\n:FORWARD DROP [0:0]\n-A FORWARD -p tcp --dport \
                    2222 -j ACCEPT\nCOMMIT\n";
        let family = firewall_common::addr::Family::Ipv4;
        let rules = crate::rules::parse("rules", text, family, &crate::rules::BuiltinServices);
        let findings = super::super::lint(&rules.unwrap(), None);
        assert_eq!(
            findings[0].message,
            "PREROUTING 1 sends connections to 192.0.2.10 port 22, and FORWARD 1 asks for port \
             2222, which they have before"
        );
    }

    #[test]
    fn a_port_forward_that_neighbours_of_the_server_cannot_use_is_found() {
        let out = "POSTROUTING -s 192.168.1.0/24 -o eth0 -j MASQUERADE";
        let dnat =
            "PREROUTING -d 203.0.113.1 -p tcp --dport 80 -j DNAT --to-destination 192.168.1.80";
        assert_eq!(of(&[dnat, out], ""), [("hairpin", 2)]);
        let back = "POSTROUTING -s 192.168.1.0/24 -d 192.168.1.80 -j MASQUERADE";
        assert_eq!(of(&[dnat, out, back], ""), []);
        let outer = dnat.replace("PREROUTING", "PREROUTING -i eth0");
        assert_eq!(of(&[&outer, out], ""), []);
    }
}
