//! The words of ipset and the numbers behind them: types, protocols, types of ICMP.

use firewall_common::{addr::Family, flow::protocol, set::Kind};

use crate::rules::names as rule_names;

/// Each type, as it is printed first, then as older scripts have it.
const KINDS: [(&[&str], Kind); 6] = [
    (&["hash:ip", "iphash"], Kind::HashIp),
    (&["hash:net", "nethash"], Kind::HashNet),
    (&["hash:ip,port", "ipporthash"], Kind::HashIpPort),
    (&["hash:net,port", "netporthash"], Kind::HashNetPort),
    (&["bitmap:port", "portmap"], Kind::BitmapPort),
    (&["list:set", "setlist"], Kind::ListSet),
];

/// Types of ipset that are not here, and what to use instead.
const OTHER_KINDS: [(&str, &str); 13] = [
    ("bitmap:ip", "use hash:ip"),
    ("bitmap:ip,mac", "use hash:ip, and -m mac in the rules"),
    ("hash:ip,mac", "use hash:ip, and -m mac in the rules"),
    ("hash:mac", "write a rule with -m mac for each"),
    ("hash:ip,mark", "use hash:ip, and -m mark in the rules"),
    ("hash:ip,port,ip", "use hash:ip,port and hash:ip, and -m set twice"),
    ("hash:ip,port,net", "use hash:ip,port and hash:net, and -m set twice"),
    ("hash:net,net", "use two of hash:net, and -m set twice"),
    ("hash:net,port,net", "use hash:net,port and hash:net, and -m set twice"),
    ("hash:net,iface", "use hash:net, and -i or -o in the rules"),
    ("ipmap", "use hash:ip"),
    ("macipmap", "use hash:ip, and -m mac in the rules"),
    ("iptree", "use hash:ip with a timeout"),
];

pub const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::HashIp => "hash:ip",
        Kind::HashNet => "hash:net",
        Kind::HashIpPort => "hash:ip,port",
        Kind::HashNetPort => "hash:net,port",
        Kind::BitmapPort => "bitmap:port",
        Kind::ListSet => "list:set",
    }
}

/// The type's revision, as `ipset list` of 7.17 tells it.
pub(super) const fn revision(kind: Kind) -> u32 {
    match kind {
        Kind::HashIp => 6,
        Kind::HashNet | Kind::HashIpPort => 7,
        Kind::HashNetPort => 8,
        Kind::BitmapPort | Kind::ListSet => 3,
    }
}

pub(super) fn kind_of(name: &str) -> Option<Kind> {
    KINDS.iter().find(|(names, _)| names.contains(&name)).map(|(_, kind)| *kind)
}

/// What to use instead of a type that ipset has and this firewall has not.
pub(super) fn instead_of(name: &str) -> Option<&'static str> {
    OTHER_KINDS.iter().find(|(known, _)| *known == name).map(|(_, advice)| *advice)
}

/// The protocol in front of a port.
pub(super) fn protocol_of(text: &str) -> Option<u8> {
    let by_number = || text.parse::<u8>().ok();
    rule_names::protocol_number(text).or_else(by_number).filter(|number| *number != 0)
}

pub(super) fn protocol_text(number: u8) -> String {
    match number {
        protocol::ICMPV6 => "icmpv6".to_owned(),
        _ => rule_names::protocol_name(number).map_or_else(|| number.to_string(), str::to_owned),
    }
}

pub(super) const fn has_ports(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDPLITE)
}

/// The family whose types of ICMP a protocol has.
pub(super) const fn icmp_family(number: u8) -> Option<Family> {
    match number {
        protocol::ICMP => Some(Family::Ipv4),
        protocol::ICMPV6 => Some(Family::Ipv6),
        _ => None,
    }
}
