//! What is likely to be wrong, told from facts: the classic mistakes, each a function of
//! its own.

use std::net::IpAddr;

use firewall_common::{
    flow::{CtState, Tuple, protocol},
    time::Nanos,
    verdict::DropReason,
};

use crate::explain::{announcement::Control, tracking::endpoints};

/// A drop, as far as diagnoses look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub reason: Option<DropReason>,
    pub ctstate: Option<CtState>,
    pub chain: &'static str,
    /// The rule or policy that decided, and where it was written.
    pub rule: Option<String>,
    pub tuple: Tuple,
    /// A segment that begins a connection.
    pub is_syn: bool,
    /// When it happened last.
    pub at: Nanos,
}

/// A flow that nobody has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// The interface by which this host would answer its source.
    pub returns_by: Option<String>,
}

/// What is known of the host and its flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub controls: Vec<Control>,
    pub unanswered: Vec<Unanswered>,
    /// Addresses of this host.
    pub own: Vec<IpAddr>,
    /// IPv4, IPv6: packets are forwarded.
    pub forwards: [bool; 2],
    /// Interfaces of the firewall whose reverse path is checked strictly.
    pub strict: Vec<String>,
    /// Packets that the kernel has discarded for their reverse path.
    pub discarded: u64,
}

/// What is likely to be wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub name: &'static str,
    /// One sentence, without an end; so is the next.
    pub message: String,
    pub advice: String,
}

/// Why a packet was dropped, if it is a classic mistake; what is most certain comes first.
pub fn of_drop(drop: &Dropped, facts: &Facts) -> Option<Diagnosis> {
    translation_failed(drop)
        .or_else(|| for_many(drop))
        .or_else(|| related_missing(drop, facts))
        .or_else(|| reply_not_allowed(drop))
        .or_else(|| forwarding_off(drop, facts))
        .or_else(|| encrypted(drop, facts))
        .or_else(|| helper_not_assigned(drop, facts))
        .or_else(|| not_announced(drop, facts))
}

/// What goes wrong where nothing of the firewall drops anything.
pub fn of_host(facts: &Facts) -> Vec<Diagnosis> {
    [reverse_path(facts), forwarding_off_unseen(facts)].into_iter().flatten().collect()
}

fn by_rules(drop: &Dropped) -> bool {
    matches!(drop.reason, Some(DropReason::Rule | DropReason::Policy | DropReason::Reject))
}

/// `the policy of FORWARD`
fn decider(drop: &Dropped) -> &str {
    drop.rule.as_deref().unwrap_or(drop.chain)
}

/// Table nat wanted something that could not be.
fn translation_failed(drop: &Dropped) -> Option<Diagnosis> {
    let to = drop.tuple.dst.to_ip();
    let (message, advice) = match drop.reason? {
        DropReason::NatPortsExhausted => (
            format!("every port that a rule of table nat allows towards {to} is taken"),
            "give the rule more addresses (--to-source A-B) or ports (--to-ports), or end \
             connections with firewall conntrack delete",
        ),
        DropReason::NatTableFull => (
            "there is no space for one more translated connection".to_owned(),
            "see firewall stats, and give the tables more space",
        ),
        DropReason::NatNoAddress => (
            format!("MASQUERADE or REDIRECT finds no address of this host towards {to}"),
            "give the interface an address of this family, or write SNAT --to-source",
        ),
        DropReason::NatWayOut => (
            "it would have left with its inner source, by an interface that is not the firewall's"
                .to_owned(),
            "name that interface with -i, too",
        ),
        _ => return None,
    };
    let name = drop.reason?.name();
    Some(Diagnosis { name, message, advice: advice.to_owned() })
}

fn for_many(drop: &Dropped) -> Option<Diagnosis> {
    if drop.reason != Some(DropReason::FrameForMany) {
        return None;
    }
    let to = drop.tuple.dst.to_ip();
    Some(Diagnosis {
        name: DropReason::FrameForMany.name(),
        message: format!(
            "it is for {to} alone, but its frame came for a group or for all, and \
             routers send none of these on"
        ),
        advice: "look how the sender comes to that Ethernet address: a static neighbour, or a \
             cluster that shares one"
            .into(),
    })
}

fn related_missing(drop: &Dropped, facts: &Facts) -> Option<Diagnosis> {
    if !by_rules(drop) || drop.ctstate != Some(CtState::Related) {
        return None;
    }
    let is_tcp = drop.tuple.protocol == protocol::TCP;
    let what =
        match facts.controls.iter().find(|one| one.is_between(drop.tuple.src, drop.tuple.dst)) {
            Some(control) if is_tcp => format!(
                "an FTP data connection that the control connection {} announced",
                endpoints(&control.tuple)
            ),
            _ if is_tcp => "an FTP data connection that was announced".into(),
            _ => "an ICMP error about a known connection".into(),
        };
    let only = if is_tcp { "-p tcp -m helper --helper ftp " } else { "" };
    Some(Diagnosis {
        name: "related-missing",
        message: format!("{what} is RELATED, and no rule accepts that before {}", decider(drop)),
        advice: format!(
            "add -A {} {only}-m conntrack --ctstate RELATED -j ACCEPT in front of it",
            drop.chain
        ),
    })
}

fn reply_not_allowed(drop: &Dropped) -> Option<Diagnosis> {
    if !by_rules(drop) || drop.ctstate != Some(CtState::Established) {
        return None;
    }
    Some(Diagnosis {
        name: "reply-not-allowed",
        message: format!(
            "the connection was accepted, but {} drops what belongs to it: its reply direction is \
             not allowed",
            decider(drop)
        ),
        advice: format!(
            "make -A {} -m conntrack --ctstate ESTABLISHED -j ACCEPT the first rule of the chain",
            drop.chain
        ),
    })
}

/// The control connections between the hosts of a dropped first segment, of those that were
/// there then.
fn control<'f>(
    drop: &Dropped,
    facts: &'f Facts,
    is_it: impl Fn(&Control) -> bool,
) -> Option<&'f Control> {
    let is_data = by_rules(drop)
        && drop.is_syn
        && drop.ctstate == Some(CtState::New)
        && drop.tuple.protocol == protocol::TCP;
    let between = |one: &&Control| one.is_between(drop.tuple.src, drop.tuple.dst);
    let was_there = |one: &&Control| one.created.0 <= drop.at.0;
    let all = facts.controls.iter().filter(|_| is_data);
    all.filter(between).filter(was_there).find(|one| is_it(one))
}

/// Whether the dropped packet went to the server of the control connection.
fn is_to_server(drop: &Dropped, control: &Control) -> bool {
    let ways = [control.tuple, control.faces[0], control.faces[1]];
    ways.iter().any(|way| (way.src, way.dst) == (drop.tuple.src, drop.tuple.dst))
}

fn encrypted(drop: &Dropped, facts: &Facts) -> Option<Diagnosis> {
    let control = control(drop, facts, |one| one.is_read && one.is_encrypted)?;
    let is_passive = is_to_server(drop, control);
    // What a server begins from another port than FTP's has nothing to do with it.
    if !is_passive && drop.tuple.sport.checked_add(1) != Some(control.tuple.dport) {
        return None;
    }
    Some(Diagnosis {
        name: "control-encrypted",
        message: format!(
            "the FTP control connection {} is encrypted (AUTH TLS): what it announces cannot be read, \
             so that its data connections are NEW",
            endpoints(&control.tuple)
        ),
        advice: if is_passive { passive_range(drop, control) } else { ASK_FOR_PASSIVE.into() },
    })
}

/// Where nobody can read at which port the server is to call.
const ASK_FOR_PASSIVE: &str = "have the client ask for passive mode (EPSV, PASV): with [helper.ftp] \
                               tls_passive_range the server's ports can be opened for that, and no \
                               port of a client for a server";

fn passive_range(drop: &Dropped, control: &Control) -> String {
    format!(
        "give the server {} a range of passive ports and name it in the configuration: \
             [helper.ftp] tls_passive_range = \"FIRST-LAST\" opens it to the clients of encrypted \
             control connections alone; or allow it for all: -A {} -p tcp -d {0} --dport FIRST:LAST \
             -j ACCEPT",
        control.tuple.dst.to_ip(),
        drop.chain,
    )
}

fn helper_not_assigned(drop: &Dropped, facts: &Facts) -> Option<Diagnosis> {
    let control = control(drop, facts, |one| !one.is_read)?;
    let port = control.tuple.dport;
    Some(Diagnosis {
        name: "helper-not-assigned",
        message: format!(
            "the FTP control connection {} has no helper: nobody reads what it announces, so that \
             its data connections are NEW",
            endpoints(&control.tuple)
        ),
        advice: format!(
            "assign one: -t raw -A PREROUTING -p tcp --dport {port} -j CT --helper ftp, or run with \
             --ftp-ports {port}; connections made before do without"
        ),
    })
}

fn not_announced(drop: &Dropped, facts: &Facts) -> Option<Diagnosis> {
    let control = control(drop, facts, |one| one.is_read && !one.is_encrypted)?;
    Some(Diagnosis {
        name: "not-announced",
        message: format!(
            "this connection was not announced: {}",
            control.sentence(drop.tuple.dport)
        ),
        advice:
            "if it is no data connection, it needs a rule of its own; if it is, `firewall monitor \
                 --only helper` tells what the control connection announces"
                .into(),
    })
}

/// Whether a packet is on its way through this host, which does not send it on.
fn is_stuck(src: IpAddr, dst: IpAddr, facts: &Facts) -> bool {
    let forwards = facts.forwards[usize::from(dst.is_ipv6())];
    let is_group = dst.is_multicast() || matches!(dst, IpAddr::V4(v4) if v4.is_broadcast());
    let is_link_local = match dst {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !forwards
        && !is_group
        && !is_link_local
        && !facts.own.contains(&dst)
        && !facts.own.contains(&src)
        && !facts.own.is_empty()
}

fn forwarding(src: IpAddr, dst: IpAddr, seen: &str) -> Diagnosis {
    let setting = match dst {
        IpAddr::V4(_) => "net.ipv4.ip_forward",
        IpAddr::V6(_) => "net.ipv6.conf.all.forwarding",
    };
    Diagnosis {
        name: "forwarding-off",
        message: format!(
            "{src} sends to {dst} through this host, which does not forward: {setting} is 0{seen}"
        ),
        advice: format!("sysctl -w {setting}=1, and in /etc/sysctl.d to keep it"),
    }
}

/// With forwarding switched off the routes lead nowhere, and INPUT judges.
fn forwarding_off(drop: &Dropped, facts: &Facts) -> Option<Diagnosis> {
    let (src, dst) = (drop.tuple.src.to_ip(), drop.tuple.dst.to_ip());
    let is_input = drop.chain == "INPUT" && by_rules(drop);
    (is_input && is_stuck(src, dst, facts))
        .then(|| forwarding(src, dst, "; the packet is judged by INPUT"))
}

fn forwarding_off_unseen(facts: &Facts) -> Option<Diagnosis> {
    let stuck = facts.unanswered.iter().find(|flow| is_stuck(flow.src, flow.dst, facts))?;
    let seen = "; the firewall accepted it, and the kernel discards it";
    Some(forwarding(stuck.src, stuck.dst, seen))
}

/// The kernel discards a packet whose source it would answer by another interface.
fn reverse_path(facts: &Facts) -> Option<Diagnosis> {
    if facts.discarded == 0 {
        return None;
    }
    let (flow, interface) =
        facts.unanswered.iter().filter(|flow| flow.src.is_ipv4()).find_map(|flow| {
            let back = flow.returns_by.as_ref();
            let other = facts.strict.iter().find(|name| back != Some(name))?;
            (!facts.own.contains(&flow.src)).then_some((flow, other))
        })?;
    let back = match &flow.returns_by {
        Some(name) => format!("by {name}"),
        None => "by no route".into(),
    };
    Some(Diagnosis {
        name: "reverse-path-filter",
        message: format!(
            "the firewall accepted packets from {} to {} that nobody answers, and the kernel has \
             discarded {} packets for their reverse path: it would answer {} {back}, and {interface} \
             takes packets strictly (rp_filter is 1)",
            flow.src, flow.dst, facts.discarded, flow.src
        ),
        advice: format!(
            "if the way is meant so: sysctl -w net.ipv4.conf.{interface}.rp_filter=2 and \
             net.ipv4.conf.all.rp_filter=2 (loose); else correct the route to {}",
            flow.src
        ),
    })
}

#[cfg(test)]
mod tests {
    use firewall_common::addr::Addr;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn tuple(dport: u16) -> Tuple {
        Tuple {
            src: Addr::from(ip("192.0.2.7")),
            dst: Addr::from(ip("198.51.100.9")),
            sport: 40_000,
            dport,
            protocol: protocol::TCP,
            ..Tuple::default()
        }
    }

    fn dropped(ctstate: CtState) -> Dropped {
        Dropped {
            reason: Some(DropReason::Policy),
            ctstate: Some(ctstate),
            chain: "FORWARD",
            rule: Some("the policy of FORWARD".into()),
            tuple: tuple(51_000),
            is_syn: true,
            at: Nanos(10),
        }
    }

    fn facts(is_read: bool, is_encrypted: bool) -> Facts {
        let control = Control {
            tuple: tuple(21),
            faces: [tuple(21); 2],
            created: Nanos(1),
            is_read,
            is_encrypted,
            is_shifted: false,
            last: None,
        };
        let own = vec![ip("192.0.2.1"), ip("198.51.100.1")];
        Facts { controls: vec![control], own, forwards: [true; 2], ..Facts::default() }
    }

    fn name(drop: &Dropped, facts: &Facts) -> &'static str {
        of_drop(drop, facts).map_or("none", |found| found.name)
    }

    #[test]
    fn what_table_nat_could_not_do_says_what_to_change() {
        for (reason, word) in [
            (DropReason::NatPortsExhausted, "--to-source A-B"),
            (DropReason::NatTableFull, "more space"),
            (DropReason::NatNoAddress, "an address of this family"),
            (DropReason::NatWayOut, "-i"),
        ] {
            let drop = Dropped { reason: Some(reason), ..dropped(CtState::New) };
            let told = of_drop(&drop, &Facts::default()).unwrap();
            assert_eq!(told.name, reason.name());
            assert!(told.advice.contains(word), "{told:?}");
        }
    }

    #[test]
    fn a_related_connection_that_is_dropped_lacks_its_rule() {
        let found = of_drop(&dropped(CtState::Related), &facts(true, false)).unwrap();
        assert_eq!(found.name, "related-missing");
        assert!(found.message.contains("192.0.2.7:40000 -> 198.51.100.9:21"), "{found:?}");
        assert!(found.message.ends_with("before the policy of FORWARD"), "{found:?}");
        assert!(found.advice.contains("-A FORWARD -p tcp -m helper --helper ftp"), "{found:?}");
    }

    #[test]
    fn an_established_packet_that_is_dropped_lacks_the_rule_for_its_direction() {
        assert_eq!(name(&dropped(CtState::Established), &Facts::default()), "reply-not-allowed");
    }

    #[test]
    fn a_control_connection_without_helper_or_under_tls_is_named() {
        let drop = dropped(CtState::New);
        assert_eq!(name(&drop, &facts(false, false)), "helper-not-assigned");
        assert_eq!(name(&drop, &facts(true, true)), "control-encrypted");
        assert_eq!(name(&drop, &facts(true, false)), "not-announced");
    }

    #[test]
    fn a_drop_with_no_control_connection_between_its_hosts_has_no_such_mistake() {
        assert_eq!(name(&dropped(CtState::New), &Facts::default()), "none");
        let other = Dropped {
            tuple: Tuple { dst: ip("203.0.113.1").into(), ..tuple(80) },
            ..dropped(CtState::New)
        };
        assert_eq!(name(&other, &facts(false, false)), "none");
        let broken = Dropped { reason: Some(DropReason::Malformed), ..dropped(CtState::Related) };
        assert_eq!(name(&broken, &facts(true, false)), "none");
    }

    mod of_the_host {
        use super::*;

        fn unanswered(returns_by: &str) -> Vec<Unanswered> {
            let returns_by = Some(returns_by.to_owned());
            vec![Unanswered { src: ip("192.0.2.7"), dst: ip("198.51.100.9"), returns_by }]
        }

        #[test]
        fn a_packet_through_a_host_that_does_not_forward_is_told() {
            let off = Facts { forwards: [false, true], ..facts(true, false) };
            let input = Dropped { chain: "INPUT", ..dropped(CtState::New) };
            assert_eq!(name(&input, &off), "forwarding-off");
            assert_eq!(name(&input, &facts(false, false)), "helper-not-assigned");
            let to_host = Dropped {
                tuple: Tuple { dst: ip("198.51.100.1").into(), ..tuple(80) },
                ..input.clone()
            };
            assert_eq!(name(&to_host, &off), "none");
            let accepted = Facts { unanswered: unanswered("eth0"), ..off };
            assert_eq!(of_host(&accepted)[0].name, "forwarding-off");
        }

        #[test]
        fn a_strict_reverse_path_is_told_where_the_kernel_has_discarded_something() {
            let strict = Facts {
                unanswered: unanswered("eth2"),
                strict: vec!["eth0".into()],
                discarded: 3,
                ..facts(true, false)
            };
            let found = of_host(&strict);
            assert_eq!(found[0].name, "reverse-path-filter");
            assert!(found[0].message.contains("discarded 3 packets"), "{found:?}");
            assert!(found[0].message.contains("answer 192.0.2.7 by eth2, and eth0 takes"));
            assert_eq!(of_host(&Facts { discarded: 0, ..strict.clone() }), []);
            assert_eq!(of_host(&Facts { unanswered: unanswered("eth0"), ..strict }), []);
        }
    }

    #[test]
    fn a_control_connection_is_blamed_only_for_what_may_be_its_data() {
        let encrypted = facts(true, true);
        let late = Dropped { at: Nanos(0), ..dropped(CtState::New) };
        assert_eq!(name(&late, &encrypted), "none", "it was not there yet");
        let back = |sport| Dropped {
            tuple: Tuple { sport, ..tuple(40_777).reversed() },
            ..dropped(CtState::New)
        };
        assert_eq!(name(&back(50_000), &encrypted), "none");
        let active = Dropped {
            tuple: Tuple { sport: 20, dport: 40_777, ..tuple(40_777).reversed() },
            ..dropped(CtState::New)
        };
        let found = of_drop(&active, &encrypted).unwrap();
        assert_eq!(found.name, "control-encrypted");
        assert!(found.advice.contains("passive mode"), "{found:?}");
    }
}
