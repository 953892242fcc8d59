//! Which flows are meant: the filter options of conntrack(8).

use clap::{Args, ValueEnum};
use firewall_common::{
    addr::Family,
    flow::{Flow, FlowKey, Tuple, helper, status},
    nat::translations,
};

use super::value::{Mark, Protocol, StateName};
use crate::{
    ftp::Network,
    listing::{
        protocol::{self, Layout},
        state,
    },
};

/// A flow is meant when it fits all options that were given.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Which flows")]
pub struct FlowFilter {
    /// Protocol, by name or number: tcp, udp, icmp, 47
    #[arg(short = 'p', long = "proto", visible_alias = "protonum", value_name = "PROTOCOL")]
    pub protocol: Option<Protocol>,

    /// Source of the original direction: an address or a network, 192.0.2.0/24
    #[arg(short = 's', long = "src", visible_alias = "orig-src", value_name = "NETWORK")]
    pub src: Option<Network>,

    /// Destination of the original direction
    #[arg(short = 'd', long = "dst", visible_alias = "orig-dst", value_name = "NETWORK")]
    pub dst: Option<Network>,

    /// Source of the reply direction
    #[arg(short = 'r', long, value_name = "NETWORK")]
    pub reply_src: Option<Network>,

    /// Destination of the reply direction
    #[arg(short = 'q', long, value_name = "NETWORK")]
    pub reply_dst: Option<Network>,

    /// Source port of the original direction
    #[arg(long, visible_alias = "orig-port-src", value_name = "PORT")]
    pub sport: Option<u16>,

    /// Destination port of the original direction
    #[arg(long, visible_alias = "orig-port-dst", value_name = "PORT")]
    pub dport: Option<u16>,

    /// Source port of the reply direction
    #[arg(long, value_name = "PORT")]
    pub reply_port_src: Option<u16>,

    /// Destination port of the reply direction
    #[arg(long, value_name = "PORT")]
    pub reply_port_dst: Option<u16>,

    /// Whose source is translated, by SNAT or MASQUERADE; to this address
    #[arg(short = 'n', long, value_name = "NETWORK", num_args = 0..=1)]
    pub src_nat: Option<Option<Network>>,

    /// Whose destination is translated, by DNAT or REDIRECT; to this address
    #[arg(short = 'g', long, value_name = "NETWORK", num_args = 0..=1)]
    pub dst_nat: Option<Option<Network>>,

    /// Either of them
    #[arg(short = 'j', long, value_name = "NETWORK", num_args = 0..=1)]
    pub any_nat: Option<Option<Network>>,

    /// Family of the addresses
    #[arg(short = 'f', long, value_name = "FAMILY")]
    pub family: Option<FamilyName>,

    /// Protocol state, as the listing shows it: ESTABLISHED, TIME_WAIT …
    #[arg(long, value_name = "STATE")]
    pub state: Option<StateName>,

    /// All of these: ASSURED, SEEN_REPLY, EXPECTED, ENCRYPTED, CONFIRMED, SRC_NAT, DST_NAT; or
    /// UNREPLIED
    #[arg(
        short = 'u',
        long,
        value_name = "STATUS",
        value_delimiter = ',',
        ignore_case = true,
        hide_possible_values = true
    )]
    pub status: Vec<StatusName>,

    /// Mark, with the bits that count: 7, 0x10/0xff
    #[arg(short = 'm', long, value_name = "MARK[/MASK]")]
    pub mark: Option<Mark>,

    /// Type of the ICMP or ICMPv6 request, as a number
    #[arg(long, value_name = "TYPE")]
    pub icmp_type: Option<u8>,

    /// Identifier of the ICMP or ICMPv6 request
    #[arg(long, value_name = "ID")]
    pub icmp_id: Option<u16>,

    /// Helper that reads the connection: ftp or tftp
    #[arg(long, value_name = "HELPER", value_parser = helper_number)]
    pub helper: Option<u8>,
}

/// A family, as conntrack(8) spells it.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyName {
    Ipv4,
    Ipv6,
}

impl FamilyName {
    pub const fn family(self) -> Family {
        match self {
            Self::Ipv4 => Family::Ipv4,
            Self::Ipv6 => Family::Ipv6,
        }
    }
}

/// A status, as conntrack(8) spells it.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StatusName {
    Assured,
    SeenReply,
    Unreplied,
    Expected,
    /// Every flow is: the kernel's word for one that a packet was accepted of.
    Confirmed,
    Encrypted,
    SrcNat,
    DstNat,
}

impl StatusName {
    const fn matches(self, flow: &Flow, translations: u8) -> bool {
        match self {
            Self::Assured => flow.has(status::ASSURED),
            Self::SeenReply => flow.has(status::SEEN_REPLY),
            Self::Unreplied => !flow.has(status::SEEN_REPLY),
            Self::Expected => flow.has(status::EXPECTED),
            Self::Confirmed => true,
            Self::Encrypted => flow.has(status::ENCRYPTED),
            Self::SrcNat => translations & status::SOURCE_TRANSLATED != 0,
            Self::DstNat => translations & status::DESTINATION_TRANSLATED != 0,
        }
    }
}

fn helper_number(text: &str) -> Result<u8, String> {
    helper::from_name(text).ok_or_else(|| "no helper; there are: ftp, tftp".into())
}

impl FlowFilter {
    /// Whether every flow is meant.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn matches(&self, key: &FlowKey, flow: &Flow) -> bool {
        let (original, reply) = (flow.wire_original(key), flow.wire_reply(key));
        let translations = translations(&original, &reply);
        self.matches_addresses(&original, &reply)
            && self.matches_transport(&original, &reply)
            && self.matches_translation(translations, &reply)
            && self
                .state
                .is_none_or(|StateName(name)| state::name(original.protocol, flow.state) == name)
            && self.status.iter().all(|status| status.matches(flow, translations))
            && self.mark.is_none_or(|mark| mark.matches(flow.mark))
            && self.helper.is_none_or(|helper| helper == flow.helper && !flow.has(status::EXPECTED))
    }

    fn matches_addresses(&self, original: &Tuple, reply: &Tuple) -> bool {
        self.family.is_none_or(|name| name.family() == original.src.family())
            && holds(self.src, original.src)
            && holds(self.dst, original.dst)
            && holds(self.reply_src, reply.src)
            && holds(self.reply_dst, reply.dst)
    }

    fn matches_translation(&self, translations: u8, reply: &Tuple) -> bool {
        let is = |bit: u8| translations & bit != 0;
        let source = |to: Option<Network>| is(status::SOURCE_TRANSLATED) && holds(to, reply.dst);
        let destination =
            |to: Option<Network>| is(status::DESTINATION_TRANSLATED) && holds(to, reply.src);
        self.src_nat.is_none_or(source)
            && self.dst_nat.is_none_or(destination)
            && self.any_nat.is_none_or(|to| source(to) || destination(to))
    }

    fn matches_transport(&self, original: &Tuple, reply: &Tuple) -> bool {
        let wanted_ports = [
            (self.sport, original.sport),
            (self.dport, original.dport),
            (self.reply_port_src, reply.sport),
            (self.reply_port_dst, reply.dport),
        ];
        let layout = protocol::layout(original.protocol);
        let wants_icmp = self.icmp_type.is_some() || self.icmp_id.is_some();
        let wants_ports = wanted_ports.iter().any(|(wanted, _)| wanted.is_some());
        self.protocol.is_none_or(|Protocol(protocol)| protocol == original.protocol)
            // In a flow without ports their places hold something else.
            && (!wants_ports || layout == Layout::Ports)
            && wanted_ports.into_iter().all(|(wanted, port)| wanted.is_none_or(|it| it == port))
            && (!wants_icmp || layout == Layout::Icmp)
            && self.icmp_type.is_none_or(|kind| kind == original.icmp_type)
            && self.icmp_id.is_none_or(|id| id == original.sport | original.dport)
    }
}

fn holds(network: Option<Network>, address: firewall_common::addr::Addr) -> bool {
    network.is_none_or(|network| network.contains(address.to_ip()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use firewall_common::flow::{
        Sender, State,
        protocol::{ICMP, TCP},
    };

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        filter: FlowFilter,
    }

    fn filter(line: &str) -> FlowFilter {
        Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).unwrap().filter
    }

    fn flow() -> (FlowKey, Flow) {
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        let original = Tuple {
            src: address("198.51.100.7"),
            dst: address("192.0.2.1"),
            sport: 4000,
            dport: 21,
            protocol: TCP,
            ..Tuple::default()
        };
        let (key, sender) = FlowKey::of(&original);
        let flow = Flow {
            state: State::Established as u8,
            status: status::SEEN_REPLY | status::ASSURED,
            originator: u8::from(sender == Sender::High),
            mark: 7,
            helper: helper::FTP,
            ..Flow::default()
        };
        (key, flow)
    }

    #[test]
    fn a_ping_is_told_by_type_and_identifier_and_has_no_ports() {
        let original = Tuple { protocol: ICMP, icmp_type: 8, sport: 77, ..Tuple::default() };
        let (key, _) = FlowKey::of(&original);
        let flow = Flow::default();
        for fits in ["-p icmp", "--icmp-type 8", "--icmp-id 77", "-p 1 --icmp-type 8 --icmp-id 77"]
        {
            assert!(filter(fits).matches(&key, &flow), "{fits}");
        }
        for other in ["--icmp-type 13", "--icmp-id 78", "--sport 77", "--dport 0"] {
            assert!(!filter(other).matches(&key, &flow), "{other}");
        }
    }

    #[test]
    fn a_state_is_that_of_the_flows_own_protocol() {
        let sctp = |state| {
            let original = Tuple { protocol: 132, sport: 1, ..Tuple::default() };
            (FlowKey::of(&original).0, Flow { state, ..Flow::default() })
        };
        let matches = |line: &str, (key, flow): (FlowKey, Flow)| filter(line).matches(&key, &flow);
        assert!(matches("--state ESTABLISHED", sctp(4)));
        assert!(!matches("--state ESTABLISHED", sctp(State::Established as u8)));
        assert!(matches("--state cookie_wait", sctp(2)));
    }

    #[test]
    fn each_option_tells_flows_apart() {
        let (key, flow) = flow();
        for (fits, other) in [
            ("-p tcp", "-p udp"),
            ("-p 6", "-p 17"),
            ("-s 198.51.100.0/24", "-s 192.0.2.1"),
            ("-s 198.51.100.0/255.255.255.0", "-s 198.51.100.0/255.255.255.252"),
            ("-d 192.0.2.1", "-d 198.51.100.7"),
            ("--helper ftp", "--helper ftp -p udp"),
            ("-u CONFIRMED", "-u confirmed,expected"),
            ("-p tcp", "--icmp-type 8"),
            ("-p tcp", "--icmp-id 4000"),
            ("--orig-src 198.51.100.7", "--orig-dst 198.51.100.7"),
            ("-r 192.0.2.1", "-r 198.51.100.7"),
            ("-q 198.51.100.7", "-q 192.0.2.1"),
            ("--sport 4000", "--sport 21"),
            ("--orig-port-dst 21", "--orig-port-dst 4000"),
            ("--reply-port-src 21", "--reply-port-dst 21"),
            ("-f ipv4", "-f ipv6"),
            ("--state established", "--state TIME_WAIT"),
            ("-u ASSURED,SEEN_REPLY", "-u UNREPLIED"),
            ("-u assured", "-u ASSURED,ENCRYPTED"),
            ("-m 7", "-m 8"),
            ("-m 0x3/0x3", "-m 0x0/0x3"),
            ("-s 198.51.100.7 --dport 21", "-s 198.51.100.7 --dport 22"),
        ] {
            assert!(filter(fits).matches(&key, &flow), "{fits}");
            assert!(!filter(other).matches(&key, &flow), "{other}");
        }
    }

    #[test]
    fn a_translated_flow_is_told_by_its_faces_on_the_wire() {
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        let (key, plain) = flow();
        let mut flow = plain;
        flow.status |= status::SOURCE_TRANSLATED | status::DESTINATION_TRANSLATED;
        flow.faces.source = [address("203.0.113.1"), address("203.0.113.9")];
        flow.faces.port = [61_000, 2121];
        flow.faces.client_port = 4000;
        for (fits, other) in [
            ("-n", "-n 192.0.2.1"),
            ("--src-nat 203.0.113.1", "--src-nat 203.0.113.9"),
            ("-g 192.0.2.1", "-g 203.0.113.9"),
            ("--dst-nat", "--dst-nat 203.0.113.0/24"),
            ("-j 203.0.113.1", "-j 198.51.100.7"),
            ("--any-nat=192.0.2.1", "--any-nat=192.0.2.2"),
            ("-d 203.0.113.9 --dport 2121", "-d 192.0.2.1"),
            ("-r 192.0.2.1 -q 203.0.113.1", "-q 198.51.100.7"),
            ("--reply-port-dst 61000", "--reply-port-dst 4000"),
            ("-u SRC_NAT,DST_NAT", "-u SRC_NAT,EXPECTED"),
        ] {
            assert!(filter(fits).matches(&key, &flow), "{fits}");
            assert!(!filter(other).matches(&key, &flow), "{other}");
        }
        for none in ["-n", "-g", "-j", "-u SRC_NAT"] {
            assert!(!filter(none).matches(&key, &plain), "{none}");
        }
    }

    #[test]
    fn no_option_means_every_flow() {
        let (key, flow) = flow();
        assert!(filter("").is_empty() && filter("").matches(&key, &flow));
        assert!(!filter("-m 0").is_empty());
    }

    #[test]
    fn a_state_that_is_none_is_refused_with_those_that_are() {
        let error = Line::try_parse_from(["x", "--state", "OPEN"]).unwrap_err().to_string();
        assert!(error.contains("SYN_SENT, SYN_RECV, ESTABLISHED"), "{error}");
        for (line, wanted) in [
            ("-u ASSURD", "ASSURED"),
            ("-m x", "0x10/0xff"),
            ("-s 192.0.2.0/255.0.255.0", "is no network"),
            ("--helper sip", "there are: ftp"),
            ("--icmp-type echo", "invalid digit"),
            ("-f inet", "ipv4"),
        ] {
            let words = ["x"].into_iter().chain(line.split_whitespace());
            let error = Line::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains(wanted), "{line}: {error}");
        }
    }
}
