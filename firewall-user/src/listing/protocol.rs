//! IP protocols as conntrack(8) names them, and what its tuples show of each.

use firewall_common::flow::protocol::{ICMP, ICMPV6, TCP, UDP};

const GRE: u8 = 47;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// What stands behind the addresses of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `sport= dport=`
    Ports,
    /// `type= code= id=`
    Icmp,
    /// `srckey= dstkey=`
    Keys,
    Nothing,
}

/// The name, `None` for what conntrack(8) calls unknown.
pub const fn name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        ICMP => "icmp",
        TCP => "tcp",
        UDP => "udp",
        DCCP => "dccp",
        GRE => "gre",
        ICMPV6 => "icmpv6",
        SCTP => "sctp",
        UDPLITE => "udplite",
        _ => return None,
    })
}

/// The name in JSON: a protocol without one goes by its number.
pub fn json_name(protocol: u8) -> String {
    name(protocol).map_or_else(|| protocol.to_string(), str::to_owned)
}

/// The number of a protocol that is written by name or number.
pub fn number(text: &str) -> Option<u8> {
    match text.to_ascii_lowercase().as_str() {
        "ipv6-icmp" => Some(ICMPV6),
        lower => (0..=u8::MAX).find(|&number| name(number) == Some(lower)),
    }
    .or_else(|| text.parse().ok())
}

pub const fn layout(protocol: u8) -> Layout {
    match protocol {
        TCP | UDP | DCCP | SCTP | UDPLITE => Layout::Ports,
        ICMP | ICMPV6 => Layout::Icmp,
        GRE => Layout::Keys,
        _ => Layout::Nothing,
    }
}

/// The ICMP type of the answer to a request of this type; a message that has
/// no answer stands for itself (the inverse of
/// [`firewall_common::headers::icmp_request`]).
pub const fn icmp_reply(protocol: u8, request: u8) -> u8 {
    match (protocol, request) {
        (ICMP, 8) => 0,
        (ICMP, 13 | 15 | 17) | (ICMPV6, 128 | 139) => request + 1,
        _ => request,
    }
}

#[cfg(test)]
mod tests {
    use firewall_common::headers::icmp_request;

    use super::*;

    #[test]
    fn a_reply_leads_back_to_its_request() {
        for (protocol, request) in [(ICMP, 8), (ICMP, 13), (ICMP, 17), (ICMPV6, 128)] {
            let reply = icmp_reply(protocol, request);
            assert_eq!(icmp_request(protocol, reply), (request, true));
        }
    }

    #[test]
    fn a_protocol_is_found_by_name_and_by_number() {
        assert_eq!(number("TCP"), Some(TCP));
        assert_eq!(number("89"), Some(89));
        assert_eq!(number("ipv6-icmp"), Some(ICMPV6));
        assert_eq!(number("tpc"), None);
    }
}
