//! The written scenarios, one file per subject.
//!
//! Each is a sentence about what happens, and what the ends send. What should become
//! of it is not written: nf_conntrack says that.

mod checksums;
mod close;
mod extension_headers;
mod flags;
mod fragments;
mod handshake;
mod icmp;
mod icmp_errors;
mod ip_options;
mod keepalive;
mod other_protocols;
mod pick_up;
mod reset;
mod retransmission;
mod sack;
mod sctp;
mod second_syn;
mod switches;
mod udp;
mod window;

use super::{Script, Settings, Talk, talk::Isns};
use crate::Family;

/// What happens, in the language of [`Talk`].
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    settings: Settings,
    write: fn(&mut Talk),
}

const fn scenario(name: &'static str, write: fn(&mut Talk)) -> Scenario {
    Scenario { name, settings: Settings::DEFAULT, write }
}

impl Scenario {
    const fn under(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    fn script(&self, subject: &str, variant: &Variant) -> Script {
        let mut talk = Talk::new(variant.family, self.settings, variant.isns);
        (self.write)(&mut talk);
        talk.into_script(format!("{subject}: {} ({})", self.name, variant.name))
    }
}

/// What a scenario is played over, and with which first sequence numbers.
#[derive(Clone, Copy, Debug)]
struct Variant {
    name: &'static str,
    family: Family,
    isns: Isns,
}

const ISNS: Isns = [1_000_000, 5_000_000];
const V4: Variant = Variant { name: "IPv4", family: Family::V4, isns: ISNS };
const V6: Variant = Variant { name: "IPv6", family: Family::V6, isns: ISNS };
/// The client's numbers pass zero, the server's the middle.
const WRAPPING: Variant =
    Variant { name: "IPv4, numbers wrap", family: Family::V4, isns: [0xffff_ffc0, 0x7fff_ffc0] };

const TCP: &[Variant] = &[V4, V6, WRAPPING];
const BOTH: &[Variant] = &[V4, V6];

/// Every subject: its name, its scenarios, and what they are played over.
const SUBJECTS: &[(&str, &[Scenario], &[Variant])] = &[
    ("handshake", handshake::SCENARIOS, TCP),
    ("window", window::SCENARIOS, TCP),
    ("SACK", sack::SCENARIOS, TCP),
    ("retransmission", retransmission::SCENARIOS, TCP),
    ("keepalive", keepalive::SCENARIOS, TCP),
    ("reset", reset::SCENARIOS, TCP),
    ("second SYN", second_syn::SCENARIOS, TCP),
    ("close", close::SCENARIOS, TCP),
    ("pick-up", pick_up::SCENARIOS, TCP),
    ("switches", switches::SCENARIOS, TCP),
    ("flags", flags::SCENARIOS, BOTH),
    ("checksums", checksums::SCENARIOS, BOTH),
    ("UDP", udp::SCENARIOS, BOTH),
    ("ICMP", icmp::V4_SCENARIOS, &[V4]),
    ("ICMPv6", icmp::V6_SCENARIOS, &[V6]),
    ("ICMP errors", icmp_errors::V4_SCENARIOS, &[V4]),
    ("ICMPv6 errors", icmp_errors::V6_SCENARIOS, &[V6]),
    ("IPv4 options", ip_options::SCENARIOS, &[V4]),
    ("extension headers", extension_headers::SCENARIOS, &[V6]),
    ("fragments", fragments::SCENARIOS, BOTH),
    ("SCTP", sctp::SCENARIOS, BOTH),
    ("other protocols", other_protocols::SCENARIOS, BOTH),
];

/// The scripts of every subject.
pub fn all() -> Vec<Script> {
    subjects().into_iter().flat_map(|(_, scripts)| scripts).collect()
}

/// The scripts, by the name of their subject.
pub fn subjects() -> Vec<(&'static str, Vec<Script>)> {
    let scripts = |(subject, scenarios, variants): &(&'static str, &[Scenario], &[Variant])| {
        let played = scenarios
            .iter()
            .flat_map(|scenario| variants.iter().map(|variant| scenario.script(subject, variant)));
        (*subject, played.collect())
    };
    SUBJECTS.iter().map(scripts).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_scenarios_share_a_name() {
        let mut names = HashSet::new();
        for script in all() {
            assert!(names.insert(script.name.clone()), "twice: {}", script.name);
        }
    }
}
