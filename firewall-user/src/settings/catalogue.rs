//! Every setting, once.

use firewall_common::{
    control::{Timeouts, option},
    flow::State,
    time::Nanos,
};

use super::value::Kind;

/// A setting of connection tracking.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The sysctl's name without `nf_conntrack_`.
    pub name: &'static str,
    pub(super) place: Place,
}

/// Where a setting stands in the maps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Timeout(fn(&mut Timeouts) -> &mut Nanos),
    /// A bit of [`option`].
    Bit(u32),
    MaxRetrans,
}

impl Setting {
    pub const fn kind(&self) -> Kind {
        match self.place {
            Place::Timeout(_) => Kind::Seconds,
            Place::Bit(_) => Kind::Switch,
            Place::MaxRetrans => Kind::Count,
        }
    }

    /// Its number among [`ALL`], which stands in a pinned map.
    pub fn number(&self) -> usize {
        ALL.iter().position(|other| other.name == self.name).unwrap_or(ALL.len())
    }
}

const fn timeout(name: &'static str, place: fn(&mut Timeouts) -> &mut Nanos) -> Setting {
    Setting { name, place: Place::Timeout(place) }
}

const fn switch(name: &'static str, bit: u32) -> Setting {
    Setting { name, place: Place::Bit(bit) }
}

/// The states of SCTP in the kernel's order (`enum sctp_conntrack`).
mod sctp {
    pub const CLOSED: usize = 1;
    pub const COOKIE_WAIT: usize = 2;
    pub const COOKIE_ECHOED: usize = 3;
    pub const ESTABLISHED: usize = 4;
    pub const SHUTDOWN_SENT: usize = 5;
    pub const SHUTDOWN_RECD: usize = 6;
    pub const SHUTDOWN_ACK_SENT: usize = 7;
    pub const HEARTBEAT_SENT: usize = 8;
}

/// All of them. Their numbers are pinned: new ones come last.
pub const ALL: &[Setting] = &[
    timeout("tcp_timeout_syn_sent", |all| &mut all.tcp[State::SynSent as usize]),
    timeout("tcp_timeout_syn_recv", |all| &mut all.tcp[State::SynRecv as usize]),
    timeout("tcp_timeout_established", |all| &mut all.tcp[State::Established as usize]),
    timeout("tcp_timeout_fin_wait", |all| &mut all.tcp[State::FinWait as usize]),
    timeout("tcp_timeout_close_wait", |all| &mut all.tcp[State::CloseWait as usize]),
    timeout("tcp_timeout_last_ack", |all| &mut all.tcp[State::LastAck as usize]),
    timeout("tcp_timeout_time_wait", |all| &mut all.tcp[State::TimeWait as usize]),
    timeout("tcp_timeout_close", |all| &mut all.tcp[State::Close as usize]),
    timeout("tcp_timeout_max_retrans", |all| &mut all.tcp_max_retrans),
    timeout("tcp_timeout_unacknowledged", |all| &mut all.tcp_unacknowledged),
    timeout("udp_timeout", |all| &mut all.udp),
    timeout("udp_timeout_stream", |all| &mut all.udp_stream),
    timeout("icmp_timeout", |all| &mut all.icmp),
    timeout("icmpv6_timeout", |all| &mut all.icmpv6),
    timeout("generic_timeout", |all| &mut all.generic),
    timeout("gre_timeout", |all| &mut all.gre),
    timeout("gre_timeout_stream", |all| &mut all.gre_stream),
    timeout("sctp_timeout_closed", |all| &mut all.sctp[sctp::CLOSED]),
    timeout("sctp_timeout_cookie_wait", |all| &mut all.sctp[sctp::COOKIE_WAIT]),
    timeout("sctp_timeout_cookie_echoed", |all| &mut all.sctp[sctp::COOKIE_ECHOED]),
    timeout("sctp_timeout_established", |all| &mut all.sctp[sctp::ESTABLISHED]),
    timeout("sctp_timeout_shutdown_sent", |all| &mut all.sctp[sctp::SHUTDOWN_SENT]),
    timeout("sctp_timeout_shutdown_recd", |all| &mut all.sctp[sctp::SHUTDOWN_RECD]),
    timeout("sctp_timeout_shutdown_ack_sent", |all| &mut all.sctp[sctp::SHUTDOWN_ACK_SENT]),
    timeout("sctp_timeout_heartbeat_sent", |all| &mut all.sctp[sctp::HEARTBEAT_SENT]),
    timeout("frag_timeout", |all| &mut all.fragment),
    switch("tcp_loose", option::TCP_LOOSE),
    switch("tcp_be_liberal", option::TCP_BE_LIBERAL),
    Setting { name: "tcp_max_retrans", place: Place::MaxRetrans },
    switch("tcp_ignore_invalid_rst", option::TCP_IGNORE_INVALID_RST),
    switch("checksum", option::CHECKSUM),
    switch("udp_endpoint_independent", option::UDP_ENDPOINT_INDEPENDENT),
];

// They have a bit each in a word.
const _: () = assert!(ALL.len() <= u64::BITS as usize);
