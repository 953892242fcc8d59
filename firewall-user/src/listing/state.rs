//! Protocol states by their names in conntrack(8).

use firewall_common::flow::State;

const SCTP: u8 = 132;

/// In the kernel's order, counted from 0; the first is of no flow.
const SCTP_STATES: [&str; 9] = [
    "",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
];

/// The name of a flow's state; empty for a protocol without states.
pub fn name(protocol: u8, state: u8) -> &'static str {
    match protocol {
        SCTP => SCTP_STATES.get(usize::from(state)).copied().unwrap_or_default(),
        _ => State::from_byte(state).map_or("", State::name),
    }
}

/// Every name once: TCP's, then what only SCTP has.
pub fn names() -> impl Iterator<Item = &'static str> {
    let tcp = || (0..=u8::MAX).map_while(State::from_byte).map(State::name);
    let of_sctp_alone = SCTP_STATES.into_iter().filter(move |name| !tcp().any(|tcp| tcp == *name));
    tcp().chain(of_sctp_alone).filter(|name| !name.is_empty())
}

/// The name in [`names`] that is written so, whatever its letters' case.
pub fn find(text: &str) -> Option<&'static str> {
    names().find(|name| name.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use firewall_common::flow::protocol::TCP;

    use super::*;

    #[test]
    fn a_state_goes_by_the_name_that_its_protocol_gives_it() {
        assert_eq!(name(TCP, State::Established as u8), "ESTABLISHED");
        assert_eq!(name(SCTP, 4), "ESTABLISHED");
        assert_eq!(name(SCTP, 3), "COOKIE_ECHOED");
        assert_eq!((name(17, 0), name(SCTP, 0), name(SCTP, 99)), ("", "", ""));
    }

    #[test]
    fn every_name_is_found_once() {
        let all: Vec<_> = names().collect();
        for name in &all {
            assert_eq!(all.iter().filter(|other| *other == name).count(), 1, "{name}");
            assert_eq!(find(&name.to_lowercase()), Some(*name));
        }
        assert!(all.contains(&"SYN_SENT2") && all.contains(&"COOKIE_WAIT"));
        assert_eq!(find("OPEN"), None);
    }
}
