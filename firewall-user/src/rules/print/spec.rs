//! One rule as options: what follows `-A CHAIN`.

use std::{
    fmt::{self, Write},
    net::IpAddr,
};

use firewall_common::{
    addr::Family,
    flow::helper,
    rule::{PortRange, PortSide},
    synproxy::{header::has, offer::Offer},
};

use super::extra;
use crate::rules::{
    ast::{
        Condition, IcmpType, Log, Match, Multiport, Network, Nflog, RuleSpec, State, StateForm,
        Target, Transport, UntrackForm, log_option,
    },
    names,
};

/// The rule as options, without its chain; empty for a rule that says nothing.
pub fn spec_text(family: Family, spec: &RuleSpec) -> String {
    let mut text = Text { out: String::new(), family };
    text.networks(spec);
    text.interfaces(spec);
    text.protocol(spec.protocol);
    if let Some(Condition { negated, .. }) = spec.fragments {
        text.add(format_args!("{}-f", not(negated)));
    }
    spec.matches.iter().for_each(|one| text.one_match(one));
    text.target(&spec.target);
    text.out
}

struct Text {
    out: String,
    family: Family,
}

impl Text {
    /// Adds words, with blanks between.
    fn add(&mut self, words: fmt::Arguments<'_>) {
        if !self.out.is_empty() {
            self.out.push(' ');
        }
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(words);
    }

    fn networks(&mut self, spec: &RuleSpec) {
        for (option, network) in [("-s", &spec.src), ("-d", &spec.dst)] {
            if let Some(Condition { negated, value }) = network {
                self.add(format_args!("{}{option} {}", not(*negated), Prefix(value)));
            }
        }
    }

    fn interfaces(&mut self, spec: &RuleSpec) {
        for (option, interface) in [("-i", &spec.input), ("-o", &spec.output)] {
            if let Some(Condition { negated, value }) = interface {
                self.add(format_args!("{}{option} {value}", not(*negated)));
            }
        }
    }

    fn protocol(&mut self, protocol: Option<Condition<u8>>) {
        let Some(Condition { negated, value }) = protocol else { return };
        match names::protocol_name(value) {
            Some(name) => self.add(format_args!("{}-p {name}", not(negated))),
            None => self.add(format_args!("{}-p {value}", not(negated))),
        }
    }

    fn one_match(&mut self, one: &Match) {
        match one {
            Match::Transport(transport) => self.transport(transport),
            Match::Multiport(multiport) => self.multiport(multiport),
            Match::State(state) => self.state(state),
            Match::Helper(Condition { negated, value }) => {
                let name = helper::name(*value).unwrap_or_default();
                self.add(format_args!("-m helper {}--helper {name}", not(*negated)));
            }
            Match::Comment(comment) => {
                self.add(format_args!("-m comment --comment {}", Quoted(comment)));
            }
            Match::Icmp(Condition { negated, value }) => {
                let (name, option) = match self.family {
                    Family::Ipv4 => ("icmp", "--icmp-type"),
                    Family::Ipv6 => ("icmp6", "--icmpv6-type"),
                };
                self.add(format_args!("-m {name} {}{option} {}", not(*negated), Icmp(*value)));
            }
            Match::Set(set) => self.add(format_args!("-m set {}", set.text("--"))),
            Match::Extra(match_) => self.add(format_args!("{}", extra::spec(match_))),
        }
    }

    fn transport(&mut self, transport: &Transport) {
        self.add(format_args!("-m {}", transport.protocol.name()));
        for (option, ports) in [("--sport", transport.sport), ("--dport", transport.dport)] {
            if let Some(Condition { negated, value }) = ports {
                self.add(format_args!("{}{option} {}", not(negated), Ports(value)));
            }
        }
        if let Some(Condition { negated, value }) = transport.option {
            self.add(format_args!("{}--tcp-option {value}", not(negated)));
        }
        if let Some(Condition { negated, value }) = transport.flags {
            let (mask, compare) = (Flags(value.mask), Flags(value.compare));
            self.add(format_args!("{}--tcp-flags {mask} {compare}", not(negated)));
        }
    }

    fn multiport(&mut self, multiport: &Multiport) {
        let option = match multiport.side {
            PortSide::Source => "--sports",
            PortSide::Destination => "--dports",
            PortSide::Either => "--ports",
        };
        let ranges: Vec<_> =
            multiport.ranges.iter().map(|range| Ports(*range).to_string()).collect();
        let ranges = ranges.join(",");
        self.add(format_args!("-m multiport {}{option} {ranges}", not(multiport.negated)));
    }

    fn state(&mut self, state: &State) {
        let (name, option) = match state.form {
            StateForm::State => ("state", "--state"),
            StateForm::Conntrack => ("conntrack", "--ctstate"),
        };
        let (not, states) = (not(state.negated), States(state.states));
        self.add(format_args!("-m {name} {not}{option} {states}"));
    }

    fn target(&mut self, target: &Target) {
        match target {
            Target::Continue => {}
            Target::Goto(chain) => self.add(format_args!("-g {chain}")),
            Target::Reject(kind) => {
                let name = names::reject_name(self.family, *kind).unwrap_or_default();
                self.add(format_args!("-j REJECT --reject-with {name}"));
            }
            Target::Log(log) => self.log(log),
            Target::Nflog(nflog) => {
                self.add(format_args!("-j NFLOG"));
                nflogged(nflog, |text| Quoted(text).to_string())
                    .for_each(|option| self.add(format_args!("--{option}")));
            }
            Target::Helper(number) => {
                let name = helper::name(*number).unwrap_or_default();
                self.add(format_args!("-j CT --helper {name}"));
            }
            Target::Untrack(UntrackForm::Ct) => self.add(format_args!("-j CT --notrack")),
            Target::Proxy(offer) => {
                self.add(format_args!("-j SYNPROXY"));
                offered(offer).for_each(|option| self.add(format_args!("--{option}")));
            }
            Target::Mangle(mangle) => {
                self.add(format_args!("-j {} {}", mangle.name(), mangle.options()));
            }
            Target::Nat(nat) => self.add(format_args!("-j {}{}", nat.name(), nat.options())),
            Target::Set(set) => self.add(format_args!("-j SET {}", set.text("--"))),
            other => self.add(format_args!("-j {}", other.name())),
        }
    }

    fn log(&mut self, log: &Log) {
        self.add(format_args!("-j LOG"));
        if !log.prefix.is_empty() {
            self.add(format_args!("--log-prefix {}", Quoted(&log.prefix)));
        }
        if log.level != Log::DEFAULT_LEVEL {
            self.add(format_args!("--log-level {}", log.level));
        }
        for (bit, option) in log_option::NAMES {
            if log.options & bit != 0 {
                self.add(format_args!("{option}"));
            }
        }
    }
}

/// The options of NFLOG, without their dashes, in the order of iptables.
pub(super) fn nflogged(
    nflog: &Nflog,
    quoted: impl Fn(&str) -> String,
) -> impl Iterator<Item = String> {
    let prefix = Some(&nflog.prefix).filter(|prefix| !prefix.is_empty());
    let group = Some(nflog.group).filter(|group| *group != 0);
    [
        prefix.map(|prefix| format!("nflog-prefix {}", quoted(prefix))),
        group.map(|group| format!("nflog-group {group}")),
        nflog.size.map(|size| format!("nflog-size {size}")),
        nflog.threshold.map(|threshold| format!("nflog-threshold {threshold}")),
    ]
    .into_iter()
    .flatten()
}

/// The options of SYNPROXY, without their dashes, in the order of iptables.
pub(super) fn offered(offer: &Offer) -> impl Iterator<Item = String> {
    let Offer { mss, scale, present } = *offer;
    let options = [
        (has::SACK_PERMITTED, "sack-perm".to_owned()),
        (has::TIMESTAMPS, "timestamp".to_owned()),
        (has::SCALE, format!("wscale {scale}")),
        (has::MSS, format!("mss {mss}")),
        (has::ECN, "ecn".to_owned()),
    ];
    options.into_iter().filter(move |(bit, _)| present & bit != 0).map(|(_, option)| option)
}

const fn not(negated: bool) -> &'static str {
    if negated { "! " } else { "" }
}

/// Address and length, or mask when that has holes.
struct Prefix<'a>(&'a Network);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Network { address, mask } = self.0;
        match self.0.prefix_length() {
            Some(length) => write!(f, "{address}/{length}"),
            None => write!(f, "{address}/{mask}"),
        }
    }
}

/// As a listing shows an address: a host without its length.
pub(super) fn listed_address(network: &Network) -> String {
    match network.address {
        IpAddr::V4(address) if network.is_host() => address.to_string(),
        IpAddr::V6(address) if network.is_host() => address.to_string(),
        _ => Prefix(network).to_string(),
    }
}

struct Ports(PortRange);

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortRange { first, last } = self.0;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}:{last}") }
    }
}

struct Icmp(IcmpType);

impl fmt::Display for Icmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IcmpType::Any => f.write_str("any"),
            IcmpType::Type(kind) => write!(f, "{kind}"),
            IcmpType::Code(kind, code) => write!(f, "{kind}/{code}"),
        }
    }
}

/// Names of TCP flags, `NONE` for none.
pub(super) struct Flags(pub(super) u8);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = names::TCP_FLAGS.iter().filter(|(_, bit)| self.0 & bit != 0);
        let set: Vec<_> = set.map(|(name, _)| *name).collect();
        f.write_str(if set.is_empty() { "NONE" } else { "" })?;
        f.write_str(&set.join(","))
    }
}

pub(super) struct States(pub(super) u8);

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = names::states().filter(|(_, bit)| self.0 & bit != 0);
        let set: Vec<_> = set.map(|(name, _)| name).collect();
        f.write_str(&set.join(","))
    }
}

/// In quotes unless every character is plain, as libxtables writes it.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !self.0.is_empty() && self.0.chars().all(is_plain) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\' | '\'') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}
