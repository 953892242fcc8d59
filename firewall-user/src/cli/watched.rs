//! Which lines of `firewall monitor` are meant.

use std::net::IpAddr;

use clap::Args;
use firewall_common::{event::Event, verdict::DropReason};

use super::value::{InterfaceName, Protocol};
use crate::{
    ftp::Network,
    listing::event::{Endpoints, chain_name},
};

/// A line is meant when it fits all options that were given; what a line does not have
/// fits none: only drops have interfaces, a chain and a reason.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Which lines")]
pub struct LineFilter {
    /// Drops of packets that came in by this interface
    #[arg(short = 'i', long = "in-interface", value_name = "IF")]
    pub input_if: Option<InterfaceName>,

    /// Drops of packets that would have left by this interface
    #[arg(short = 'O', long = "out-interface", value_name = "IF")]
    pub output_if: Option<InterfaceName>,

    /// Drops in this built-in chain: INPUT, FORWARD, OUTPUT
    #[arg(long, value_name = "CHAIN", value_parser = chain)]
    pub chain: Option<&'static str>,

    /// Drops for this reason, as `firewall stats` calls it: policy, rule, malformed …
    #[arg(long, value_name = "REASON", value_parser = reason)]
    pub reason: Option<DropReason>,

    /// Protocol, by name or number
    #[arg(short = 'p', long = "proto", value_name = "PROTOCOL")]
    pub protocol: Option<Protocol>,

    /// Source: an address or a network
    #[arg(short = 's', long = "src", value_name = "NETWORK")]
    pub src: Option<Network>,

    /// Destination: an address or a network
    #[arg(short = 'd', long = "dst", value_name = "NETWORK")]
    pub dst: Option<Network>,

    /// Source port
    #[arg(long, value_name = "PORT")]
    pub sport: Option<u16>,

    /// Destination port
    #[arg(long, value_name = "PORT")]
    pub dport: Option<u16>,
}

fn chain(text: &str) -> Result<&'static str, String> {
    let known = ["INPUT", "FORWARD", "OUTPUT"];
    let found = known.into_iter().find(|name| name.eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("no chain of packets; there are: {}", known.join(", ")))
}

fn reason(text: &str) -> Result<DropReason, String> {
    let found = DropReason::ALL.iter().find(|reason| reason.name() == text);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        format!("no reason; there are: {}", names.join(", "))
    })
}

impl LineFilter {
    /// Whether a drop is meant, with the names of its interfaces.
    pub fn matches_drop(&self, event: &Event, input: &str, output: &str) -> bool {
        let is = |wanted: &Option<InterfaceName>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.as_str() == name)
        };
        is(&self.input_if, input)
            && is(&self.output_if, output)
            && self.chain.is_none_or(|chain| chain_name(event.chain) == Some(chain))
            && self.reason.is_none_or(|reason| reason as u8 == event.reason)
            && (!self.has_ends()
                || Endpoints::of(event).is_some_and(|ends| self.matches_ends(&ends)))
    }

    const fn has_ends(&self) -> bool {
        self.protocol.is_some()
            || self.src.is_some()
            || self.dst.is_some()
            || self.sport.is_some()
            || self.dport.is_some()
    }

    fn matches_ends(&self, ends: &Endpoints) -> bool {
        self.matches(ends.protocol, (ends.src.to_ip(), ends.dst.to_ip()), ends.ports)
    }

    /// Whether a line that is no drop is meant.
    pub fn matches_other(
        &self,
        protocol: u8,
        hosts: (IpAddr, IpAddr),
        ports: Option<(u16, u16)>,
    ) -> bool {
        let is_of_drops = self.input_if.is_some()
            || self.output_if.is_some()
            || self.chain.is_some()
            || self.reason.is_some();
        !is_of_drops && self.matches(protocol, hosts, ports)
    }

    fn matches(
        &self,
        protocol: u8,
        (src, dst): (IpAddr, IpAddr),
        ports: Option<(u16, u16)>,
    ) -> bool {
        let (sport, dport) =
            ports.map_or((None, None), |(sport, dport)| (Some(sport), Some(dport)));
        self.protocol.is_none_or(|Protocol(wanted)| wanted == protocol)
            && self.src.is_none_or(|network| network.contains(src))
            && self.dst.is_none_or(|network| network.contains(dst))
            && (self.sport.is_none() || self.sport == sport)
            && (self.dport.is_none() || self.dport == dport)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::listing::fixtures::{event, ipv4};

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        filter: LineFilter,
    }

    fn filter(line: &str) -> LineFilter {
        Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).unwrap().filter
    }

    /// From port 4000 of 192.0.2.2 to port 80 of 192.0.2.1, dropped by FORWARD's policy.
    fn matches(line: &str) -> bool {
        let udp = [0x0f, 0xa0, 0, 80, 0, 8, 0, 0];
        let mut event = event(&ipv4(17, 1, &udp));
        (event.reason, event.chain) = (DropReason::Policy as u8, 1);
        filter(line).matches_drop(&event, "eth0", "eth1")
    }

    #[test]
    fn a_drop_must_fit_every_option() {
        for line in [
            "",
            "-i eth0 -O eth1",
            "--chain forward --reason policy",
            "-p udp -s 192.0.2.0/24 -d 192.0.2.1 --sport 4000 --dport 80",
        ] {
            assert!(matches(line), "{line}");
        }
        for line in [
            "-i eth1",
            "-O eth0",
            "--chain INPUT",
            "--reason rule",
            "-p tcp",
            "-s 198.51.100.0/24",
            "-d 192.0.2.2",
            "--sport 80",
            "-i eth0 --dport 81",
        ] {
            assert!(!matches(line), "{line}");
        }
    }

    #[test]
    fn a_line_without_what_is_asked_for_is_not_meant() {
        let hosts: (IpAddr, IpAddr) = ("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
        assert!(filter("-p tcp").matches_other(6, hosts, Some((1, 2))));
        assert!(!filter("--chain INPUT").matches_other(6, hosts, Some((1, 2))));
        assert!(!filter("--dport 2").matches_other(1, hosts, None));
    }

    #[test]
    fn unknown_names_are_refused_with_those_that_there_are() {
        let refused = |line: &str| {
            let words = ["x"].into_iter().chain(line.split_whitespace());
            Line::try_parse_from(words).unwrap_err().to_string()
        };
        assert!(refused("--reason polcy").contains("policy"));
        assert!(refused("--chain PREROUTING").contains("FORWARD"));
    }
}
