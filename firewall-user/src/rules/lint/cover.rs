//! Whether one rule matches everything that another does. `false` where it is not sure.

use firewall_common::rule::PortRange;

use crate::rules::{
    ast::{Condition, DNAT, IcmpType, Match, Multiport, Network, RuleSpec, SNAT, Transport},
    interface::InterfacePattern,
};

use super::states;

/// Every packet that `narrow` matches, `wide` matches too.
pub fn covers(wide: &RuleSpec, narrow: &RuleSpec) -> bool {
    holds(wide.src.as_ref(), narrow.src.as_ref(), contains)
        && holds(wide.dst.as_ref(), narrow.dst.as_ref(), contains)
        && holds(wide.input.as_ref(), narrow.input.as_ref(), fits)
        && holds(wide.output.as_ref(), narrow.output.as_ref(), fits)
        && holds(wide.protocol.as_ref(), narrow.protocol.as_ref(), |a, b| a == b)
        && covers_states(wide, narrow)
        && wide.matches.iter().all(|one| covers_match(one, narrow))
}

/// What `wide` asks for follows from what `narrow` asks for.
fn holds<T: PartialEq>(
    wide: Option<&Condition<T>>,
    narrow: Option<&Condition<T>>,
    contains: impl Fn(&T, &T) -> bool,
) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => match (wide.negated, narrow.negated) {
            (false, false) => contains(&wide.value, &narrow.value),
            // Not in a small set follows from not in a larger one.
            (true, true) => contains(&narrow.value, &wide.value),
            _ => false,
        },
    }
}

fn contains(wide: &Network, narrow: &Network) -> bool {
    match (wide.prefix_length(), narrow.prefix_length()) {
        (Some(short), Some(long)) => {
            short <= long && Network::new(narrow.address, wide.mask).address == wide.address
        }
        _ => wide == narrow,
    }
}

fn fits(wide: &InterfacePattern, narrow: &InterfacePattern) -> bool {
    match (wide.wildcard, narrow.wildcard) {
        (true, _) => narrow.name.starts_with(&wide.name),
        (false, _) => wide == narrow,
    }
}

fn covers_states(wide: &RuleSpec, narrow: &RuleSpec) -> bool {
    match (states(wide), states(narrow)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow & !wide == 0,
    }
}

/// One condition of the wide rule.
fn covers_match(one: &Match, narrow: &RuleSpec) -> bool {
    match one {
        Match::State(state) if state.states & (SNAT | DNAT) != 0 => narrow.matches.contains(one),
        // See `covers_states`.
        Match::State(_) | Match::Comment(_) => true,
        Match::Transport(wide) => {
            narrow.matches.iter().any(
                |other| matches!(other, Match::Transport(narrow) if covers_transport(wide, narrow)),
            ) || is_bare(wide)
        }
        Match::Multiport(wide) => narrow.matches.iter().any(|other| match other {
            Match::Multiport(narrow) => covers_ports(wide, narrow),
            _ => false,
        }),
        Match::Icmp(Condition { negated: false, value: IcmpType::Any }) => true,
        other => narrow.matches.contains(other),
    }
}

/// `-m tcp` without options says what `-p tcp` does.
fn is_bare(transport: &Transport) -> bool {
    transport.sport.is_none() && transport.dport.is_none() && transport.flags.is_none()
}

fn covers_transport(wide: &Transport, narrow: &Transport) -> bool {
    wide.protocol == narrow.protocol
        && holds(wide.sport.as_ref(), narrow.sport.as_ref(), spans)
        && holds(wide.dport.as_ref(), narrow.dport.as_ref(), spans)
        && holds(wide.flags.as_ref(), narrow.flags.as_ref(), |a, b| a == b)
}

const fn spans(wide: &PortRange, narrow: &PortRange) -> bool {
    wide.first <= narrow.first && narrow.last <= wide.last
}

fn covers_ports(wide: &Multiport, narrow: &Multiport) -> bool {
    wide.side == narrow.side
        && !wide.negated
        && !narrow.negated
        && narrow.ranges.iter().all(|inner| wide.ranges.iter().any(|outer| spans(outer, inner)))
}

#[cfg(test)]
mod tests {
    use firewall_common::addr::Family;

    use super::*;
    use crate::rules::{BuiltinServices, parse};

    fn spec(text: &str) -> RuleSpec {
        let rules = format!("-A FORWARD {text} -j ACCEPT\n");
        let ruleset = parse("rules", &rules, Family::Ipv4, &BuiltinServices).unwrap();
        ruleset.tables[0].chain("FORWARD").unwrap().rules[0].spec.clone()
    }

    #[test]
    fn a_wider_condition_covers_a_narrower_one() {
        for (wide, narrow) in [
            ("", "-p tcp --dport 80"),
            ("-p tcp", "-p tcp --dport 80"),
            ("-s 192.0.2.0/24", "-s 192.0.2.7"),
            ("! -s 192.0.2.7", "! -s 192.0.2.0/24"),
            ("-i eth+", "-i eth0"),
            ("-p tcp --dport 1:100", "-p tcp --dport 80 -i eth0"),
            ("-p tcp -m multiport --dports 1:9,20", "-p tcp -m multiport --dports 3,20"),
            ("-m state --state NEW,RELATED", "-m conntrack --ctstate NEW"),
            ("-p icmp", "-p icmp --icmp-type 8"),
        ] {
            assert!(covers(&spec(wide), &spec(narrow)), "{wide} | {narrow}");
        }
    }

    #[test]
    fn what_may_differ_does_not_cover() {
        for (wide, narrow) in [
            ("-p tcp --dport 80", ""),
            ("-p tcp --dport 80", "-p udp --dport 80"),
            ("-s 192.0.2.7", "-s 192.0.2.0/24"),
            ("-s 192.0.2.0/24", "! -s 192.0.2.0/24"),
            ("-i eth0", "-i eth+"),
            ("-p tcp --syn", "-p tcp"),
            ("-p tcp -m multiport --dports 1:9", "-p tcp -m multiport --sports 3"),
            ("-m state --state NEW", "-m state --state NEW,RELATED"),
            ("-m state --state NEW", ""),
            ("-m helper --helper ftp", "-p tcp"),
            ("-p icmp --icmp-type 8", "-p icmp"),
            ("-m conntrack --ctstate DNAT", "-m state --state NEW"),
            ("-m state --state ESTABLISHED", "-m state --state NEW -m conntrack --ctstate DNAT"),
        ] {
            assert!(!covers(&spec(wide), &spec(narrow)), "{wide} | {narrow}");
        }
    }
}
