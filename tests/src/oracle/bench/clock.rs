//! The timeouts of both trackers, far enough apart that what remains of one tells
//! which it is.
//!
//! Their order keeps a state on each side of the two that shorten others,
//! `max_retrans` and `unacknowledged`.

use firewall_common::{
    control::Timeouts,
    flow::{State, protocol},
    time::Nanos,
};

/// A batch takes less than this, in seconds.
const STEP: u64 = 1_000;

/// TCP states in the order of their timeouts: the number is that of [`STEP`]s.
pub(super) const TCP: [(&str, u64); 10] = [
    ("close", 1),
    ("close_wait", 2),
    ("last_ack", 3),
    ("max_retrans", 4),
    ("syn_recv", 5),
    ("unacknowledged", 6),
    ("syn_sent", 7),
    ("fin_wait", 8),
    ("time_wait", 9),
    ("established", 10),
];
pub(super) const SCTP: [(&str, u64); 8] = [
    ("closed", 1),
    ("cookie_wait", 2),
    ("cookie_echoed", 3),
    ("established", 4),
    ("shutdown_sent", 5),
    ("shutdown_recd", 6),
    ("shutdown_ack_sent", 7),
    ("heartbeat_sent", 8),
];
/// The kernel has no switch for it: two minutes.
const SYN_SENT2: (&str, u64) = ("syn_sent2", 120);

const GRE: u8 = 47;
const SCTP_NUMBER: u8 = 132;
const UDPLITE: u8 = 136;

/// `sysctl net.netfilter.nf_conntrack_NAME=SECONDS` for each.
pub(super) fn sysctls() -> Vec<(String, u64)> {
    let tcp = TCP.map(|(name, steps)| (format!("tcp_timeout_{name}"), steps * STEP));
    let sctp = SCTP.map(|(name, steps)| (format!("sctp_timeout_{name}"), steps * STEP));
    let others = [
        ("udp_timeout", 1),
        ("udp_timeout_stream", 2),
        ("icmp_timeout", 1),
        ("icmpv6_timeout", 1),
        ("gre_timeout", 1),
        ("gre_timeout_stream", 2),
        ("generic_timeout", 1),
    ];
    let others = others.map(|(name, steps)| (name.to_string(), steps * STEP));
    tcp.into_iter().chain(sctp).chain(others).collect()
}

/// The same for the firewall.
pub(super) fn timeouts() -> Timeouts {
    let of = |names: &[(&str, u64)], wanted: &str| {
        let found = names.iter().find(|(name, _)| *name == wanted);
        Nanos::from_secs(found.expect("a timeout of the list").1 * STEP)
    };
    let mut timeouts = Timeouts::DEFAULT;
    for state in (1..=8).filter_map(State::from_byte) {
        timeouts.tcp[state as usize] = of(&TCP, &state.name().to_lowercase());
    }
    timeouts.tcp[State::SynSent2 as usize] = Nanos::from_secs(SYN_SENT2.1);
    timeouts.tcp_unacknowledged = of(&TCP, "unacknowledged");
    timeouts.tcp_max_retrans = of(&TCP, "max_retrans");
    for (place, (_, steps)) in (1..).zip(SCTP) {
        timeouts.sctp[place as usize & 15] = Nanos::from_secs(steps * STEP);
    }
    let one = Nanos::from_secs(STEP);
    let two = Nanos::from_secs(2 * STEP);
    Timeouts {
        udp: one,
        udp_stream: two,
        icmp: one,
        icmpv6: one,
        gre: one,
        gre_stream: two,
        generic: one,
        ..timeouts
    }
}

/// The name of the timeout of which these seconds remain.
pub(super) fn name(ip_protocol: u8, remaining: u64) -> &'static str {
    let simple = [("timeout", 1), ("stream", 2)];
    let names: &[(&'static str, u64)] = match ip_protocol {
        protocol::TCP if remaining <= SYN_SENT2.1 => return SYN_SENT2.0,
        protocol::TCP => &TCP,
        SCTP_NUMBER => &SCTP,
        protocol::UDP | UDPLITE | GRE => &simple,
        _ => &simple[..1],
    };
    let running = names.iter().find(|(_, steps)| steps * STEP >= remaining);
    running.map_or("a timeout that was not set", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_tells_the_timeout() {
        assert_eq!(name(protocol::TCP, 9_970), "established");
        assert_eq!(name(protocol::TCP, 5_999), "unacknowledged");
        assert_eq!(name(protocol::TCP, 119), "syn_sent2");
        assert_eq!(name(protocol::UDP, 1_999), "stream");
        assert_eq!(name(89, 999), "timeout");
        assert_eq!(name(89, 432_000), "a timeout that was not set");
    }
}
