//! Rules as the datapath walks them: one flat list a generation, user chains
//! laid out one after another, jumps by index.
//!
//! The rules compiler in user space lowers text to these; [`Rule::matches`]
//! lives with the walk in [`crate::walk`].

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, wire::tcp_flag::BEGINS_OR_ENDS};

/// Rules of both families in one generation; indexes fit 16 bits.
pub const RULES_PER_GENERATION: u32 = 32_768;
/// Port sets (multiport matches) in one generation.
pub const PORT_SETS_PER_GENERATION: u32 = 8_192;
/// Chains on the stack at once: jumps nested deeper are refused by the compiler.
pub const MAX_JUMP_DEPTH: usize = 16;
/// Distinct interface patterns (`-i eth+`) in one ruleset.
pub const MAX_INTERFACE_PATTERNS: usize = 64;
/// Ports in one multiport match; a range counts for two, as in iptables.
pub const MULTIPORT_SLOTS: usize = 15;

/// Bits of [`Rule::present`]: which conditions a rule has. Bits of
/// [`Rule::invert`]: which of them were written with `!`.
pub mod condition {
    pub const SRC: u32 = 1 << 0;
    pub const DST: u32 = 1 << 1;
    pub const IN: u32 = 1 << 2;
    pub const OUT: u32 = 1 << 3;
    pub const PROTOCOL: u32 = 1 << 4;
    pub const SPORT: u32 = 1 << 5;
    pub const DPORT: u32 = 1 << 6;
    /// `port_sets[0]`.
    pub const PORTS_0: u32 = 1 << 7;
    /// `port_sets[1]`.
    pub const PORTS_1: u32 = 1 << 8;
    /// A negated set of states is lowered to its complement.
    pub const STATES: u32 = 1 << 9;
    pub const TCP_FLAGS: u32 = 1 << 10;
    pub const ICMP: u32 = 1 << 11;
    pub const HELPER: u32 = 1 << 12;
}

/// An inclusive range of ports.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// Holds no port: fills the unused places of a [`PortSet`].
    pub const NONE: Self = Self { first: 1, last: 0 };

    #[inline(always)]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// 1 when it contains the port, else 0, computed without a branch.
    #[inline(always)]
    pub const fn holds(self, port: u16) -> u32 {
        let below = (port as i32).wrapping_sub(self.first as i32);
        let above = (self.last as i32).wrapping_sub(port as i32);
        // The sign bit is set when the port lies outside.
        (!(below | above) as u32) >> 31
    }
}

/// Which ports of the packet a multiport match looks at.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortSide {
    /// `--sports`
    Source = 0,
    /// `--dports`
    Destination = 1,
    /// `--ports`: the source or the destination port.
    Either = 2,
}

/// The ports of one multiport match.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortSet {
    /// Unused places hold [`PortRange::NONE`].
    pub ranges: [PortRange; MULTIPORT_SLOTS],
    /// A [`PortSide`].
    pub side: u8,
    pub _pad: [u8; 3],
}

/// What a matching rule does; `argument` is explained with each.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// No target: count and go on.
    Continue = 0,
    Accept = 1,
    Drop = 2,
    /// Argument: a [`RejectKind`].
    Reject = 3,
    /// Report to user space, which knows the prefix and level; then go on.
    Log = 4,
    /// Back to the calling chain; the end of a user chain is one, uncounted.
    Return = 5,
    /// Argument: index of the chain's first rule.
    Jump = 6,
    /// Argument: as [`Target::Jump`], without coming back here.
    Goto = 7,
    /// `CT --helper`. Argument: one of [`crate::flow::helper`].
    Helper = 8,
    /// Answer a SYN with a cookie; other packets go on. Argument: a packed
    /// [`crate::synproxy::offer::Offer`].
    Proxy = 9,
    /// `CT --notrack`: UNTRACKED from the next table on.
    Untrack = 10,
    /// MARK: the packet's mark loses the bits of [`Rule::mask`], and then those of the
    /// argument change. So with the two after it.
    Mark = 11,
    /// CONNMARK: the connection's mark.
    SetCtMark = 12,
    /// TOS and DSCP: the byte of both.
    Tos = 13,
    /// CONNMARK `--save-mark`: bits of the packet's mark, under the argument, into those
    /// of the connection's, under [`Rule::mask`].
    SaveMark = 14,
    /// CONNMARK `--restore-mark`: the other way, with the same masks: the argument is the
    /// packet's, [`Rule::mask`] the connection's.
    RestoreMark = 15,
    /// TTL and HL. Argument: how far; [`Rule::mask`]: one of [`crate::mangle::hops`].
    Hops = 16,
    /// TCPMSS. Argument: the segment size, or [`crate::mangle::CLAMP`].
    Mss = 17,
    /// SNAT, DNAT, MASQUERADE, REDIRECT, NETMAP: a packed [`crate::nat::Order`]; the table is
    /// done.
    Translate = 18,
    /// `SET`: put the packet into sets, and go on. Argument: the index of an
    /// [`crate::extra::Extra`] with a [`crate::set::change::Order`].
    Set = 30,
}

impl Target {
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Continue,
            1 => Self::Accept,
            2 => Self::Drop,
            3 => Self::Reject,
            4 => Self::Log,
            5 => Self::Return,
            6 => Self::Jump,
            7 => Self::Goto,
            8 => Self::Helper,
            9 => Self::Proxy,
            10 => Self::Untrack,
            11 => Self::Mark,
            12 => Self::SetCtMark,
            13 => Self::Tos,
            14 => Self::SaveMark,
            15 => Self::RestoreMark,
            16 => Self::Hops,
            17 => Self::Mss,
            18 => Self::Translate,
            30 => Self::Set,
            _ => return None,
        })
    }
}

/// The answer of a REJECT; the ICMP kinds exist in both families where the
/// family has them.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectKind {
    NetUnreachable = 0,
    HostUnreachable = 1,
    ProtoUnreachable = 2,
    PortUnreachable = 3,
    NetProhibited = 4,
    HostProhibited = 5,
    AdminProhibited = 6,
    TcpReset = 7,
    /// ICMPv6 only (code 0).
    NoRoute = 8,
    /// ICMPv6 only (code 3).
    AddrUnreachable = 9,
    /// ICMPv6 only (code 5).
    PolicyFail = 10,
    /// ICMPv6 only (code 6).
    RejectRoute = 11,
}

impl RejectKind {
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::NetUnreachable,
            1 => Self::HostUnreachable,
            2 => Self::ProtoUnreachable,
            3 => Self::PortUnreachable,
            4 => Self::NetProhibited,
            5 => Self::HostProhibited,
            6 => Self::AdminProhibited,
            7 => Self::TcpReset,
            8 => Self::NoRoute,
            9 => Self::AddrUnreachable,
            10 => Self::PolicyFail,
            11 => Self::RejectRoute,
            _ => return None,
        })
    }
}

impl Rule {
    /// Whether `--tcp-flags` fits plain segments ([`crate::headers::Headers::is_plain`]);
    /// `None` when it fits some of them.
    pub const fn fits_plain_segments(&self) -> Option<bool> {
        if self.present & condition::TCP_FLAGS == 0 {
            return Some(true);
        }
        let is_inverted = self.invert & condition::TCP_FLAGS != 0;
        // A flag that plain segments lack, or that is not even looked at.
        if self.tcp_flags & (BEGINS_OR_ENDS | !self.tcp_mask) != 0 {
            return Some(is_inverted);
        }
        if self.tcp_mask & !BEGINS_OR_ENDS == 0 { Some(!is_inverted) } else { None }
    }
}

/// Bits of [`Rule::flags`].
pub mod flag {
    /// The implicit end of a user chain: it returns and has no counter.
    pub const CHAIN_END: u8 = 1 << 0;
    /// The policy of a built-in chain, laid out as its last rule.
    pub const POLICY: u8 = 1 << 1;
    /// Looks at what may differ between packets of one flow and direction
    /// (ICMP type, length, a limit) or acts on each packet (LOG): no verdict behind it is
    /// cached for flows that fit its other conditions. Verdicts are those of plain segments
    /// ([`crate::headers::Headers::is_plain`]): what holds for all of them, or for none, is
    /// no such thing.
    pub const PER_PACKET: u8 = 1 << 2;
    /// Asks a set: [`crate::set::Search::is_fleeting`].
    pub const ASKS_SETS: u8 = 1 << 3;
}

/// One rule: a packet matches when every condition in `present` holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rule {
    /// Bits of [`condition`].
    pub present: u32,
    /// Bits of [`condition`].
    pub invert: u32,
    pub src: Addr,
    pub src_mask: Addr,
    pub dst: Addr,
    pub dst_mask: Addr,
    pub sport: PortRange,
    pub dport: PortRange,
    /// Indexes of [`PortSet`]s within the generation.
    pub port_sets: [u16; 2],
    /// Bit numbers of the interface patterns, below [`MAX_INTERFACE_PATTERNS`].
    pub in_pattern: u8,
    pub out_pattern: u8,
    pub protocol: u8,
    /// Bits of [`crate::flow::CtState`].
    pub states: u8,
    /// `--tcp-flags mask compare`: the flags byte of the TCP header.
    pub tcp_mask: u8,
    pub tcp_flags: u8,
    /// ICMP or ICMPv6, by the rule's protocol.
    pub icmp_type: u8,
    pub icmp_code_first: u8,
    pub icmp_code_last: u8,
    /// One of [`crate::flow::helper`].
    pub helper: u8,
    /// A [`Target`].
    pub target: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    pub argument: u32,
    /// What some targets take beside the argument.
    pub mask: u32,
    /// Index within the generation of the first [`crate::extra::Extra`], and how many
    /// there are.
    pub extra_first: u16,
    pub extra_count: u16,
    /// Index of the last rule of this rule's chain: its policy or its end.
    pub chain_end: u32,
}

/// The built-in chains that the datapath enters, as indexes of
/// [`RulesetHeader::entries`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chain {
    Input = 0,
    Forward = 1,
    Output = 2,
    /// Table raw.
    RawPrerouting = 3,
    /// Table raw.
    RawOutput = 4,
    /// Table mangle, as those below.
    ManglePrerouting = 5,
    MangleInput = 6,
    MangleForward = 7,
    MangleOutput = 8,
    ManglePostrouting = 9,
    /// Table nat, as those below: only the first packet of a flow comes by.
    NatPrerouting = 10,
    NatInput = 11,
    NatOutput = 12,
    NatPostrouting = 13,
}

impl Chain {
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Input,
            1 => Self::Forward,
            2 => Self::Output,
            3 => Self::RawPrerouting,
            4 => Self::RawOutput,
            5 => Self::ManglePrerouting,
            6 => Self::MangleInput,
            7 => Self::MangleForward,
            8 => Self::MangleOutput,
            9 => Self::ManglePostrouting,
            10 => Self::NatPrerouting,
            11 => Self::NatInput,
            12 => Self::NatOutput,
            13 => Self::NatPostrouting,
            _ => return None,
        })
    }
}

pub const CHAINS: usize = 14;
/// The chain is not there (a table without rules): nothing is walked.
pub const NO_ENTRY: u32 = u32::MAX;

/// Where the chains of one generation begin.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RulesetHeader {
    /// Rule index of each [`Chain`], IPv4 then IPv6, or [`NO_ENTRY`].
    pub entries: [[u32; CHAINS]; 2],
    /// Rule index of the first IPv6 rule: those before it are of IPv4.
    pub ipv6_from: u32,
    /// 1 when a rule answers SYNs with cookies: an ACK may bring one back.
    pub has_proxy: u32,
    /// Bits of [`crate::extra::need`].
    pub needs: u32,
}

impl RulesetHeader {
    pub const EMPTY: Self =
        Self { entries: [[NO_ENTRY; CHAINS]; 2], ipv6_from: 0, has_proxy: 0, needs: 0 };

    /// The first rule of table raw for what comes in, or [`NO_ENTRY`].
    #[inline(always)]
    pub const fn raw_entry(&self, is_v4: bool) -> u32 {
        let [v4, v6] = &self.entries;
        let of_family = if is_v4 { v4 } else { v6 };
        of_family[Chain::RawPrerouting as usize]
    }

    /// Without rules but in the chains of table filter, which all begin with this one, in
    /// both families.
    pub const fn of_filter(first: u32) -> Self {
        let mut entries = [NO_ENTRY; CHAINS];
        entries[Chain::Input as usize] = first;
        entries[Chain::Forward as usize] = first;
        entries[Chain::Output as usize] = first;
        Self { entries: [entries; 2], ..Self::EMPTY }
    }
}

/// Where the counters begin that a CPU moves for the ruleset in a slot: one for each
/// rule.
#[inline(always)]
pub const fn counter_place(cpu: u32, slot: u32) -> u32 {
    cpu.wrapping_mul(2).wrapping_add(slot & 1).wrapping_mul(RULES_PER_GENERATION)
}

/// What a rule has counted on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counter {
    pub packets: u64,
    /// Bytes from the IP header on, as iptables counts.
    pub bytes: u64,
}

const _: () = assert!(size_of::<PortSet>() == 64);
const _: () = assert!(size_of::<Rule>() == 112);
const _: () = assert!(size_of::<RulesetHeader>() == 124);
