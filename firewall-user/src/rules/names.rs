//! The words of the language and the numbers behind them: protocols, TCP
//! flags, ICMP types, reject kinds, log levels, connection states.
//!
//! Where a number has several names, the first is the one that is printed.

use firewall_common::{
    addr::Family,
    flow::{CtState, protocol},
    rule::RejectKind,
};

use super::ast::{DNAT, IcmpType, SNAT};

/// As /etc/protocols has them, with the names that iptables adds.
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ggp", 3),
    ("ipencap", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("udp", 17),
    ("rdp", 27),
    ("dccp", 33),
    ("ipv6", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ipv6-crypt", 50),
    ("ah", 51),
    ("ipv6-auth", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("icmp6", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("eigrp", 88),
    ("ospf", 89),
    ("ipip", 94),
    ("etherip", 97),
    ("encap", 98),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("isis", 124),
    ("sctp", 132),
    ("mobility-header", 135),
    ("ipv6-mh", 135),
    ("mh", 135),
    ("udplite", 136),
    ("mpls-in-ip", 137),
    ("hip", 139),
];

pub(crate) fn protocol_number(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

pub(crate) fn protocol_name(number: u8) -> Option<&'static str> {
    PROTOCOLS.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

pub(crate) fn protocol_names() -> impl Iterator<Item = &'static str> {
    PROTOCOLS.iter().map(|(name, _)| *name)
}

/// The protocol that `--icmp-type` or `--icmpv6-type` speaks of.
pub(crate) const fn icmp_protocol(family: Family) -> u8 {
    match family {
        Family::Ipv4 => protocol::ICMP,
        Family::Ipv6 => protocol::ICMPV6,
    }
}

/// Bits of the TCP header's flags byte (RFC 9293), as `--tcp-flags` names them.
pub(crate) const TCP_FLAGS: [(&str, u8); 6] =
    [("FIN", 1), ("SYN", 2), ("RST", 4), ("PSH", 8), ("ACK", 16), ("URG", 32)];
/// `ALL`.
pub(crate) const ALL_TCP_FLAGS: u8 = 0x3f;
/// What `--syn` means: of SYN, RST, ACK and FIN, only SYN.
pub(crate) const SYN_MASK: u8 = 0x17;
pub(crate) const SYN: u8 = 0x02;

/// In the order in which they are printed.
pub(crate) const STATES: [CtState; 5] =
    [CtState::Invalid, CtState::New, CtState::Related, CtState::Established, CtState::Untracked];

/// The bits of states by their names, those of translated connections behind the others.
pub(crate) fn states() -> impl Iterator<Item = (&'static str, u8)> {
    let tracked = STATES.iter().map(|state| (state.name(), state.bit()));
    tracked.chain([("SNAT", SNAT), ("DNAT", DNAT)])
}

/// syslog(3), with the name that a listing shows first.
const LOG_LEVELS: &[(&str, u8)] = &[
    ("emerg", 0),
    ("panic", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("error", 3),
    ("warn", 4),
    ("warning", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];

pub(crate) fn log_level(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    LOG_LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
}

pub(crate) fn log_level_name(level: u8) -> &'static str {
    LOG_LEVELS.iter().find(|(_, known)| *known == level).map_or("warn", |(name, _)| name)
}

const REJECTS_V4: &[(&str, &str, RejectKind)] = &[
    ("icmp-net-unreachable", "net-unreach", RejectKind::NetUnreachable),
    ("icmp-host-unreachable", "host-unreach", RejectKind::HostUnreachable),
    ("icmp-proto-unreachable", "proto-unreach", RejectKind::ProtoUnreachable),
    ("icmp-port-unreachable", "port-unreach", RejectKind::PortUnreachable),
    ("icmp-net-prohibited", "net-prohib", RejectKind::NetProhibited),
    ("icmp-host-prohibited", "host-prohib", RejectKind::HostProhibited),
    ("tcp-reset", "tcp-rst", RejectKind::TcpReset),
    ("icmp-admin-prohibited", "admin-prohib", RejectKind::AdminProhibited),
];

const REJECTS_V6: &[(&str, &str, RejectKind)] = &[
    ("icmp6-no-route", "no-route", RejectKind::NoRoute),
    ("icmp6-adm-prohibited", "adm-prohibited", RejectKind::AdminProhibited),
    ("icmp6-addr-unreachable", "addr-unreach", RejectKind::AddrUnreachable),
    ("icmp6-port-unreachable", "port-unreach", RejectKind::PortUnreachable),
    ("tcp-reset", "tcp-rst", RejectKind::TcpReset),
    ("icmp6-policy-fail", "policy-fail", RejectKind::PolicyFail),
    ("icmp6-reject-route", "reject-route", RejectKind::RejectRoute),
];

const fn rejects(family: Family) -> &'static [(&'static str, &'static str, RejectKind)] {
    match family {
        Family::Ipv4 => REJECTS_V4,
        Family::Ipv6 => REJECTS_V6,
    }
}

/// By either name or, as iptables does, by the beginning of one.
pub(crate) fn reject_kind(family: Family, name: &str) -> Option<RejectKind> {
    let name = name.to_ascii_lowercase();
    let fits = |known: &str| !name.is_empty() && known.starts_with(&name);
    let mut kinds = rejects(family).iter();
    kinds.find(|(long, short, _)| fits(long) || fits(short)).map(|(_, _, kind)| *kind)
}

/// `None` for a kind that the family does not have.
pub(crate) fn reject_name(family: Family, kind: RejectKind) -> Option<&'static str> {
    rejects(family).iter().find(|(_, _, known)| *known == kind).map(|(name, _, _)| *name)
}

pub(crate) fn reject_names(family: Family) -> impl Iterator<Item = &'static str> {
    rejects(family).iter().map(|(name, _, _)| *name)
}

const ICMP_TYPES: &[(&str, IcmpType)] = &[
    ("any", IcmpType::Any),
    ("echo-reply", IcmpType::Type(0)),
    ("pong", IcmpType::Type(0)),
    ("destination-unreachable", IcmpType::Type(3)),
    ("network-unreachable", IcmpType::Code(3, 0)),
    ("host-unreachable", IcmpType::Code(3, 1)),
    ("protocol-unreachable", IcmpType::Code(3, 2)),
    ("port-unreachable", IcmpType::Code(3, 3)),
    ("fragmentation-needed", IcmpType::Code(3, 4)),
    ("source-route-failed", IcmpType::Code(3, 5)),
    ("network-unknown", IcmpType::Code(3, 6)),
    ("host-unknown", IcmpType::Code(3, 7)),
    ("network-prohibited", IcmpType::Code(3, 9)),
    ("host-prohibited", IcmpType::Code(3, 10)),
    ("TOS-network-unreachable", IcmpType::Code(3, 11)),
    ("TOS-host-unreachable", IcmpType::Code(3, 12)),
    ("communication-prohibited", IcmpType::Code(3, 13)),
    ("host-precedence-violation", IcmpType::Code(3, 14)),
    ("precedence-cutoff", IcmpType::Code(3, 15)),
    ("source-quench", IcmpType::Type(4)),
    ("redirect", IcmpType::Type(5)),
    ("network-redirect", IcmpType::Code(5, 0)),
    ("host-redirect", IcmpType::Code(5, 1)),
    ("TOS-network-redirect", IcmpType::Code(5, 2)),
    ("TOS-host-redirect", IcmpType::Code(5, 3)),
    ("echo-request", IcmpType::Type(8)),
    ("ping", IcmpType::Type(8)),
    ("router-advertisement", IcmpType::Type(9)),
    ("router-solicitation", IcmpType::Type(10)),
    ("time-exceeded", IcmpType::Type(11)),
    ("ttl-exceeded", IcmpType::Type(11)),
    ("ttl-zero-during-transit", IcmpType::Code(11, 0)),
    ("ttl-zero-during-reassembly", IcmpType::Code(11, 1)),
    ("parameter-problem", IcmpType::Type(12)),
    ("ip-header-bad", IcmpType::Code(12, 0)),
    ("required-option-missing", IcmpType::Code(12, 1)),
    ("timestamp-request", IcmpType::Type(13)),
    ("timestamp-reply", IcmpType::Type(14)),
    ("address-mask-request", IcmpType::Type(17)),
    ("address-mask-reply", IcmpType::Type(18)),
];

const ICMPV6_TYPES: &[(&str, IcmpType)] = &[
    ("destination-unreachable", IcmpType::Type(1)),
    ("no-route", IcmpType::Code(1, 0)),
    ("communication-prohibited", IcmpType::Code(1, 1)),
    ("beyond-scope", IcmpType::Code(1, 2)),
    ("address-unreachable", IcmpType::Code(1, 3)),
    ("port-unreachable", IcmpType::Code(1, 4)),
    ("failed-policy", IcmpType::Code(1, 5)),
    ("reject-route", IcmpType::Code(1, 6)),
    ("packet-too-big", IcmpType::Type(2)),
    ("time-exceeded", IcmpType::Type(3)),
    ("ttl-exceeded", IcmpType::Type(3)),
    ("ttl-zero-during-transit", IcmpType::Code(3, 0)),
    ("ttl-zero-during-reassembly", IcmpType::Code(3, 1)),
    ("parameter-problem", IcmpType::Type(4)),
    ("bad-header", IcmpType::Code(4, 0)),
    ("unknown-header-type", IcmpType::Code(4, 1)),
    ("unknown-option", IcmpType::Code(4, 2)),
    ("echo-request", IcmpType::Type(128)),
    ("ping", IcmpType::Type(128)),
    ("echo-reply", IcmpType::Type(129)),
    ("router-solicitation", IcmpType::Type(133)),
    ("router-advertisement", IcmpType::Type(134)),
    ("neighbour-solicitation", IcmpType::Type(135)),
    ("neighbor-solicitation", IcmpType::Type(135)),
    ("neighbour-advertisement", IcmpType::Type(136)),
    ("neighbor-advertisement", IcmpType::Type(136)),
    ("redirect", IcmpType::Type(137)),
];

pub(crate) const fn icmp_types(family: Family) -> &'static [(&'static str, IcmpType)] {
    match family {
        Family::Ipv4 => ICMP_TYPES,
        Family::Ipv6 => ICMPV6_TYPES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reject_kind_has_a_name_in_the_families_that_have_it() {
        for family in [Family::Ipv4, Family::Ipv6] {
            for name in reject_names(family) {
                let kind = reject_kind(family, name).unwrap();
                assert_eq!(reject_name(family, kind), Some(name));
            }
        }
        assert_eq!(reject_kind(Family::Ipv4, "icmp-host-prohib"), Some(RejectKind::HostProhibited));
        assert_eq!(reject_kind(Family::Ipv4, "icmp6-no-route"), None);
    }

    #[test]
    fn levels_are_those_of_syslog() {
        assert_eq!(log_level("error"), Some(3));
        assert_eq!(log_level_name(4), "warn");
    }
}
