//! The columns of a listing: numbers with units, addresses, and what matches
//! and targets add behind them.

use std::fmt::Write;

use firewall_common::{
    addr::Family,
    flow::helper,
    rule::{PortRange, PortSide},
};

use super::{
    extra,
    list::ListOptions,
    spec::{Flags, States, nflogged, offered},
};
use crate::rules::{
    ast::{
        Condition, IcmpType, Log, Match, Multiport, State, StateForm, Target, Transport,
        TransportProtocol, UntrackForm, log_option,
    },
    names,
};

/// A counter as listings show it: five digits, then thousands with a unit.
pub(super) fn short_number(number: u64) -> String {
    if number <= 99_999 {
        return format!("{number:>5}");
    }
    let (mut number, mut units) = (number, "KMGT".chars());
    loop {
        number = number.saturating_add(500) / 1000;
        let unit = units.next().unwrap_or('T');
        if number <= 9_999 || unit == 'T' {
            return format!("{number:>4}{unit}");
        }
    }
}

/// What stands behind the addresses of a rule.
pub(super) struct Remarks<'a> {
    pub(super) out: String,
    pub(super) family: Family,
    pub(super) options: &'a ListOptions<'a>,
    /// Names the ports of multiport.
    pub(super) protocol: TransportProtocol,
}

impl Remarks<'_> {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(text);
    }

    pub(super) fn one_match(&mut self, one: &Match) {
        match one {
            Match::Transport(transport) => self.transport(transport),
            Match::Multiport(multiport) => self.multiport(multiport),
            Match::State(State { form, negated, states }) => {
                let name = match form {
                    StateForm::State => "state",
                    StateForm::Conntrack => "ctstate",
                };
                let not = if *negated { " !" } else { "" };
                self.add(format_args!("{not} {name} {}", States(*states)));
            }
            Match::Helper(Condition { negated, value }) => {
                let (not, name) = (if *negated { "! " } else { "" }, helper::name(*value));
                self.add(format_args!(" helper match {not}\"{}\"", name.unwrap_or_default()));
            }
            Match::Comment(comment) => self.add(format_args!(" /* {comment} */")),
            Match::Icmp(icmp) => self.icmp(*icmp),
            Match::Set(set) => self.add(format_args!(" {}", set.text(""))),
            Match::Extra(one) => {
                let remark = extra::remark(one, self.options.names);
                self.add(format_args!("{remark}"));
            }
        }
    }

    fn port(&self, port: u16, protocol: TransportProtocol) -> String {
        let name = self.options.names.and_then(|services| services.name(port, protocol));
        name.map_or_else(|| port.to_string(), str::to_owned)
    }

    fn range(&self, PortRange { first, last }: PortRange, protocol: TransportProtocol) -> String {
        if first == last {
            return self.port(first, protocol);
        }
        format!("{}:{}", self.port(first, protocol), self.port(last, protocol))
    }

    fn transport(&mut self, transport: &Transport) {
        let protocol = transport.protocol;
        self.add(format_args!(" {}", protocol.name()));
        for (name, ports) in [("spt", transport.sport), ("dpt", transport.dport)] {
            if let Some(Condition { negated, value }) = ports {
                let several = if value.first == value.last { "" } else { "s" };
                let not = if negated { "!" } else { "" };
                let range = self.range(value, protocol);
                self.add(format_args!(" {name}{several}:{not}{range}"));
            }
        }
        if let Some(Condition { negated, value }) = transport.option {
            self.add(format_args!(" option={}{value}", if negated { "!" } else { "" }));
        }
        let Some(Condition { negated, value }) = transport.flags else { return };
        self.add(format_args!(" flags:{}", if negated { "!" } else { "" }));
        if self.options.names.is_some() {
            self.add(format_args!("{}/{}", Flags(value.mask), Flags(value.compare)));
        } else {
            self.add(format_args!("0x{:02X}/0x{:02X}", value.mask, value.compare));
        }
    }

    fn multiport(&mut self, multiport: &Multiport) {
        let name = match multiport.side {
            PortSide::Source => "sports",
            PortSide::Destination => "dports",
            PortSide::Either => "ports",
        };
        let ranges = multiport.ranges.iter().map(|range| self.range(*range, self.protocol));
        let ranges = ranges.collect::<Vec<_>>().join(",");
        let not = if multiport.negated { " !" } else { "" };
        self.add(format_args!(" multiport {name} {not}{ranges}"));
    }

    fn icmp(&mut self, icmp: Condition<IcmpType>) {
        let Condition { negated, value } = icmp;
        let what = match self.family {
            Family::Ipv4 => "icmp",
            Family::Ipv6 => "ipv6-icmp",
        };
        let known = names::icmp_types(self.family).iter().find(|(_, known)| *known == value);
        if let (Some(_), Some((name, _))) = (self.options.names, known) {
            return self.add(format_args!(" {what} {}{name}", if negated { "!" } else { "" }));
        }
        let not = if negated { " !" } else { "" };
        match value {
            IcmpType::Any => self.add(format_args!(" {what}{not}type 255")),
            IcmpType::Type(kind) => self.add(format_args!(" {what}{not}type {kind}")),
            IcmpType::Code(kind, code) => {
                self.add(format_args!(" {what}{not}type {kind} code {code}"));
            }
        }
    }

    pub(super) fn target(&mut self, target: &Target) {
        match target {
            Target::Reject(kind) => {
                let name = names::reject_name(self.family, *kind).unwrap_or_default();
                self.add(format_args!(" reject-with {name}"));
            }
            Target::Log(log) => self.log(log),
            Target::Nflog(nflog) => {
                nflogged(nflog, |text| format!("\"{text}\""))
                    .for_each(|option| self.add(format_args!(" {option}")));
            }
            Target::Helper(number) => {
                self.add(format_args!(" CT helper {}", helper::name(*number).unwrap_or_default()));
            }
            Target::Untrack(UntrackForm::Ct) => self.add(format_args!(" CT notrack")),
            Target::Untrack(UntrackForm::Notrack) => self.add(format_args!(" NOTRACK")),
            Target::Mangle(mangle) => {
                let remark = mangle.remark(self.options.names.is_some());
                self.add(format_args!("{remark}"));
            }
            Target::Nat(nat) => self.add(format_args!("{}", nat.remark())),
            Target::Set(set) => self.add(format_args!(" {}", set.text(""))),
            // With the blank at the end that iptables writes, too.
            Target::Proxy(offer) => {
                self.add(format_args!(" SYNPROXY "));
                offered(offer).for_each(|option| self.add(format_args!("{option} ")));
            }
            _ => {}
        }
    }

    fn log(&mut self, log: &Log) {
        if self.options.names.is_some() {
            self.add(format_args!(" LOG level {}", names::log_level_name(log.level)));
            for (bit, option) in log_option::NAMES {
                if log.options & bit != 0 {
                    self.add(format_args!(" {}", option.trim_start_matches("--log-")));
                }
            }
        } else {
            self.add(format_args!(" LOG flags {} level {}", log.options, log.level));
        }
        if !log.prefix.is_empty() {
            self.add(format_args!(" prefix \"{}\"", log.prefix));
        }
    }
}
