//! A ruleset as it was written: one family, its tables, chains and rules.
//!
//! Two rulesets are equal when they say the same; where a rule was written
//! ([`Origin`]) is no part of that.

use std::{fmt, net::IpAddr, sync::Arc};

use firewall_common::{
    addr::Family,
    flow::protocol,
    rule::{Counter, PortRange, RejectKind},
    synproxy::offer::Offer,
};

use super::{
    extra::Extra,
    interface::InterfacePattern,
    mangle::Mangle,
    nat::Nat,
    set::{SetMatch, SetTarget},
    source::Span,
};

/// The rules of one family. The table `filter` is always there; tables stand
/// in the order in which they are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    pub family: Family,
    pub tables: Vec<Table>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableName {
    Mangle,
    Security,
    Raw,
    Filter,
    Nat,
}

/// Built-in chains in the order of the hooks, then user chains by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: TableName,
    pub chains: Vec<Chain>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// `None` for a user chain.
    pub policy: Option<Policy>,
    pub rules: Vec<Rule>,
}

/// What a built-in chain does with a packet that no rule has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub verdict: Verdict,
    /// As read from the file.
    pub counter: Counter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub spec: RuleSpec,
    /// As read from the file.
    pub counter: Counter,
    pub origin: Origin,
}

/// Where a rule was written. All origins are equal.
#[derive(Clone, Debug)]
pub struct Origin {
    pub file: Arc<str>,
    pub line: u32,
    /// The name after `-j` or `-g`.
    pub(crate) target: Span,
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

/// What a rule says, without its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    pub src: Option<Condition<Network>>,
    pub dst: Option<Condition<Network>>,
    pub input: Option<Condition<InterfacePattern>>,
    pub output: Option<Condition<InterfacePattern>>,
    pub protocol: Option<Condition<u8>>,
    /// `-f`: fragments behind the first one.
    pub fragments: Option<Condition<()>>,
    /// In the order in which they were written.
    pub matches: Vec<Match>,
    pub target: Target,
}

/// A condition, with or without `!`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition<T> {
    pub negated: bool,
    pub value: T,
}

/// An address and its mask, both of one family. Bits outside the mask are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub mask: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    Transport(Transport),
    Multiport(Multiport),
    State(State),
    /// One of [`firewall_common::flow::helper`].
    Helper(Condition<u8>),
    Comment(String),
    Icmp(Condition<IcmpType>),
    /// Those with options of their own.
    Extra(Extra),
    Set(SetMatch),
}

/// `-m tcp`, `-m udp` or `-m sctp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    pub protocol: TransportProtocol,
    pub sport: Option<Condition<PortRange>>,
    pub dport: Option<Condition<PortRange>>,
    /// `--tcp-option`: its kind.
    pub option: Option<Condition<u8>>,
    /// TCP only, as the one before.
    pub flags: Option<Condition<TcpFlags>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    Tcp,
    Udp,
    Sctp,
    /// Without a match of its own: only multiport reads its ports.
    UdpLite,
}

/// `--tcp-flags mask compare`: bits of the TCP header's flags byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags {
    pub mask: u8,
    pub compare: u8,
}

/// `-m multiport`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiport {
    pub side: firewall_common::rule::PortSide,
    pub negated: bool,
    pub ranges: Vec<PortRange>,
}

/// `-m state` or `-m conntrack`; it keeps the form in which it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub form: StateForm,
    pub negated: bool,
    /// Bits of [`firewall_common::flow::CtState`], [`SNAT`] and [`DNAT`].
    pub states: u8,
}

/// Bits of [`State::states`] that a packet has beside its state, as
/// [`firewall_common::extra::facts::ct_state`].
pub const SNAT: u8 = 1 << 5;
pub const DNAT: u8 = 1 << 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateForm {
    State,
    Conntrack,
}

/// ICMP or ICMPv6, by the family of the ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpType {
    Any,
    Type(u8),
    Code(u8, u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// No target: count and go on.
    Continue,
    Accept,
    Drop,
    Return,
    Reject(RejectKind),
    Log(Log),
    Nflog(Nflog),
    /// `CT --helper`: one of [`firewall_common::flow::helper`].
    Helper(u8),
    /// `CT --notrack`; it keeps the form in which it was written.
    Untrack(UntrackForm),
    /// `-j SYNPROXY`
    Proxy(Offer),
    Mangle(Mangle),
    /// Table nat.
    Nat(Nat),
    /// `-j SET`
    Set(Box<SetTarget>),
    Jump(String),
    Goto(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UntrackForm {
    /// `-j CT --notrack`
    Ct,
    /// `-j NOTRACK`
    Notrack,
}

/// `-j LOG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub prefix: String,
    /// As in syslog(3), 0 to 7.
    pub level: u8,
    /// Bits of [`log_option`].
    pub options: u8,
}

impl Default for Log {
    fn default() -> Self {
        Self { prefix: String::new(), level: Self::DEFAULT_LEVEL, options: 0 }
    }
}

impl Log {
    /// Warning.
    pub const DEFAULT_LEVEL: u8 = 4;
}

/// `-j NFLOG`: reported as LOG is, with its prefix. The rest is for programs that listen to
/// the kernel's groups; it is read and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nflog {
    pub prefix: String,
    pub group: u16,
    /// Bytes of the packet.
    pub size: Option<u32>,
    /// Packets that are told at once.
    pub threshold: Option<u16>,
}

impl Nflog {
    /// What is reported: a LOG with this prefix.
    pub fn log(&self) -> Log {
        Log { prefix: self.prefix.clone(), ..Log::default() }
    }
}

/// Bits of [`Log::options`], numbered as in `iptables -L`.
pub mod log_option {
    pub const TCP_SEQUENCE: u8 = 1 << 0;
    pub const TCP_OPTIONS: u8 = 1 << 1;
    pub const IP_OPTIONS: u8 = 1 << 2;
    pub const UID: u8 = 1 << 3;
    pub const MACDECODE: u8 = 1 << 5;

    /// In the order in which they are printed.
    pub const NAMES: [(u8, &str); 5] = [
        (TCP_SEQUENCE, "--log-tcp-sequence"),
        (TCP_OPTIONS, "--log-tcp-options"),
        (IP_OPTIONS, "--log-ip-options"),
        (UID, "--log-uid"),
        (MACDECODE, "--log-macdecode"),
    ];
}

/// A rule of a ruleset, or the policy of a built-in chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place<'a> {
    pub table: TableName,
    pub chain: &'a str,
    /// Counted from 1; `None` is the policy.
    pub number: Option<u32>,
}

/// Tells the counter of a place.
pub type Counters<'a> = &'a dyn Fn(Place<'_>) -> Counter;

impl Ruleset {
    /// Policies ACCEPT and no rules.
    pub fn empty(family: Family) -> Self {
        Self { family, tables: vec![Table::empty(TableName::Filter)] }
    }

    pub fn table(&self, name: TableName) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The table, which is created empty when it is not there yet.
    pub fn table_mut(&mut self, name: TableName) -> &mut Table {
        let at = match self.tables.binary_search_by_key(&name, |table| table.name) {
            Ok(at) => at,
            Err(at) => {
                self.tables.insert(at, Table::empty(name));
                at
            }
        };
        &mut self.tables[at]
    }
}

impl TableName {
    pub const ALL: [Self; 5] = [Self::Mangle, Self::Security, Self::Raw, Self::Filter, Self::Nat];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
            Self::Security => "security",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Its built-in chains, in the order of the hooks.
    pub const fn builtin_chains(self) -> &'static [&'static str] {
        match self {
            Self::Raw => &["PREROUTING", "OUTPUT"],
            Self::Mangle => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
            Self::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            Self::Filter | Self::Security => &["INPUT", "FORWARD", "OUTPUT"],
        }
    }

    /// Whether rules of this table are enforced; the others may only be empty.
    pub const fn takes_rules(self) -> bool {
        matches!(self, Self::Raw | Self::Mangle | Self::Filter | Self::Nat)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Table {
    pub fn empty(name: TableName) -> Self {
        let chain = |chain: &&str| Chain {
            name: (*chain).to_owned(),
            policy: Some(Policy { verdict: Verdict::Accept, counter: Counter::default() }),
            rules: Vec::new(),
        };
        Self { name, chains: name.builtin_chains().iter().map(chain).collect() }
    }

    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    pub fn chain_mut(&mut self, name: &str) -> Option<&mut Chain> {
        self.chains.iter_mut().find(|chain| chain.name == name)
    }

    /// Gives a chain of one's own another name, which none has; rules that jump or go to it
    /// still do.
    pub(crate) fn rename(&mut self, old: &str, new: &str) {
        let Some(at) = self.chains.iter().position(|chain| chain.name == old) else { return };
        let chain = Chain { name: new.to_owned(), ..self.chains.remove(at) };
        let sorted = |known: &Chain| known.policy.is_some() || known.name < chain.name;
        let at = self.chains.partition_point(sorted);
        self.chains.insert(at, chain);
        for rule in self.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            if let Target::Jump(name) | Target::Goto(name) = &mut rule.spec.target
                && name == old
            {
                new.clone_into(name);
            }
        }
    }

    /// How many rules jump or go to the chain.
    pub fn references(&self, name: &str) -> usize {
        let rules = self.chains.iter().flat_map(|chain| &chain.rules);
        rules.filter(|rule| rule.spec.target.chain() == Some(name)).count()
    }
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "ACCEPT",
            Self::Drop => "DROP",
        }
    }
}

impl<T> Condition<T> {
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Condition<U> {
        Condition { negated: self.negated, value: f(self.value) }
    }
}

impl Network {
    /// Masks the address. Both must be of one family.
    pub fn new(address: IpAddr, mask: IpAddr) -> Self {
        let address = match (address, mask) {
            (IpAddr::V4(a), IpAddr::V4(m)) => IpAddr::V4(a & m),
            (IpAddr::V6(a), IpAddr::V6(m)) => IpAddr::V6(a & m),
            _ => address,
        };
        Self { address, mask }
    }

    /// The mask's leading ones and its length in bits, unless it has holes.
    pub fn prefix_length(&self) -> Option<u32> {
        let (leading, ones) = match self.mask {
            IpAddr::V4(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
            IpAddr::V6(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
        };
        (leading == ones).then_some(leading)
    }

    pub fn is_any(&self) -> bool {
        self.prefix_length() == Some(0)
    }

    pub fn is_host(&self) -> bool {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        self.prefix_length() == Some(bits)
    }
}

impl TransportProtocol {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::UdpLite => "udplite",
        }
    }

    /// `None` for a protocol without ports that rules can ask for.
    pub const fn of(protocol: u8) -> Option<Self> {
        Some(match protocol {
            protocol::TCP => Self::Tcp,
            protocol::UDP => Self::Udp,
            protocol::SCTP => Self::Sctp,
            protocol::UDPLITE => Self::UdpLite,
            _ => return None,
        })
    }
}

impl Transport {
    pub const fn new(protocol: TransportProtocol) -> Self {
        Self { protocol, sport: None, dport: None, option: None, flags: None }
    }
}

impl Target {
    /// The chain of a jump or goto.
    pub fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }

    /// As the target column of a listing says.
    pub fn name(&self) -> &str {
        match self {
            Self::Continue => "",
            Self::Accept => "ACCEPT",
            Self::Drop => "DROP",
            Self::Return => "RETURN",
            Self::Reject(_) => "REJECT",
            Self::Log(_) => "LOG",
            Self::Nflog(_) => "NFLOG",
            Self::Helper(_) | Self::Untrack(UntrackForm::Ct) => "CT",
            Self::Untrack(UntrackForm::Notrack) => "NOTRACK",
            Self::Proxy(_) => "SYNPROXY",
            Self::Mangle(mangle) => mangle.name(),
            Self::Nat(nat) => nat.name(),
            Self::Set(_) => "SET",
            Self::Jump(chain) | Self::Goto(chain) => chain,
        }
    }
}
