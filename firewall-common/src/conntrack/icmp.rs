//! ICMP (RFC 792) and ICMPv6 (RFC 4443) by what they mean to tracking.

use crate::flow::protocol;

/// What a message is to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Begins or continues a flow of its own: echo, timestamp, information, mask.
    Request,
    /// Only belongs to a flow that a request began.
    Reply,
    /// Quotes a packet of another flow.
    Error,
    /// Neighbour discovery and multicast listeners: no flow at all.
    Untracked,
    Unknown,
}

#[inline(always)]
pub const fn classify(protocol: u8, icmp_type: u8) -> Class {
    match (protocol, icmp_type) {
        (protocol::ICMP, 8 | 13 | 15 | 17) => Class::Request,
        (protocol::ICMP, 0 | 14 | 16 | 18) => Class::Reply,
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        (protocol::ICMP, 3 | 4 | 5 | 11 | 12) => Class::Error,
        (protocol::ICMPV6, 128 | 139) => Class::Request,
        (protocol::ICMPV6, 129 | 140) => Class::Reply,
        (protocol::ICMPV6, 0..=127) => Class::Error,
        // MLD, router and neighbour solicitation and advertisement, MLDv2, multicast
        // router discovery.
        (protocol::ICMPV6, 130..=136 | 143 | 151 | 152) => Class::Untracked,
        _ => Class::Unknown,
    }
}
