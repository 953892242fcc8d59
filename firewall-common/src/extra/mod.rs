//! Conditions of a rule beyond those that every rule has a place for: `-m length`,
//! `-m limit`, `-m conntrack --ctdir` and their like.
//!
//! Each is one small record that compares one fact of the packet ([`Facts`]) with its
//! arguments, or keeps something in mind. A rule's extras stand one after another in
//! the table `extras` and are asked in the order in which they were written, after the
//! rule's other conditions: one that keeps something in mind moves only when all before
//! it held.

pub mod bucket;
pub mod calendar;
pub mod connections;
pub mod facts;
pub mod lists;
pub mod memory;
pub mod options;
pub mod recent;
pub mod text;

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, flow::CtState, tables::Rules, walk::Walk};

pub use facts::{Facts, gather};
pub use lists::Lists;

/// Extra conditions in one generation; indexes fit 16 bits.
pub const EXTRAS_PER_GENERATION: u32 = 8_192;
/// Extra conditions in one rule.
pub const MAX_EXTRAS: u32 = 16;

/// Bits of [`crate::rule::RulesetHeader::needs`]: which facts the rules ask for.
pub mod need {
    /// Any at all: without it nothing is gathered.
    pub const FACTS: u32 = 1 << 0;
    /// The kinds of the options in the TCP header, and the segment size.
    pub const TCP_OPTIONS: u32 = 1 << 1;
    /// What the wall clock says.
    pub const CLOCK: u32 = 1 << 2;
    /// The packet's first bytes.
    pub const WINDOW: u32 = 1 << 3;
    /// The group of whoever sends.
    pub const GROUP: u32 = 1 << 4;
    /// A rule changes packets, marks, or marks of connections.
    pub const MANGLING: u32 = 1 << 8;
    /// A rule before routing changes what the routing table may ask for: the mark, or the
    /// type of service.
    pub const REROUTING: u32 = 1 << 9;
    /// The smallest MTU of a SYN's way and the way back.
    pub const PATH_MTU: u32 = 1 << 10;
    /// Sets: the ports, and the type of ICMP.
    pub const SETS: u32 = 1 << 11;
    /// Table nat has rules: new flows are shown to it.
    pub const NAT: u32 = 1 << 12;
    /// Table raw drops packets by what stands in their headers and by sets alone: those that
    /// may begin or end a connection are shown to it first ([`crate::path::sift`]).
    pub const SIEVE: u32 = 1 << 13;
    /// With it: all packets are, where its first rule looks into a set, or at each packet, without
    /// other conditions. What stands on a list is refused for the price of looking there, a flood
    /// of datagrams, too.
    pub const SIEVE_FOR_ALL: u32 = 1 << 14;
}

/// How an extra compares, as [`Extra::test`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// A number from `arguments[0]` to `arguments[1]`.
    Range = 0,
    /// A number whose bits under `arguments[1]` are `arguments[0]`.
    Masked = 1,
    /// A set of bits that has one of `arguments[0]`.
    Any = 2,
    /// An address from `arguments[0..4]` to `arguments[4..8]`, words in host order.
    Between = 3,
    /// An address whose bits under `arguments[4..8]` are `arguments[0..4]`, words as in
    /// [`Addr`].
    Network = 4,
    /// By chance: `arguments[0]` times in 2^31.
    Random = 5,
    /// One packet of `arguments[0]`: the one that comes `arguments[1]` packets after
    /// the first of them.
    Nth = 6,
    /// So often and no more: [`memory::spend`]. One packet in `arguments[0..2]`
    /// nanoseconds, and at once what `arguments[2..4]` nanoseconds earn; low word first.
    Limit = 7,
    /// When an address was seen before: [`recent`].
    Recent = 8,
    /// So often for each address or port: [`bucket`].
    Bucket = 9,
    /// How many connections there are: [`connections`].
    Connections = 10,
    /// The time of day and the date: [`calendar`].
    Time = 11,
    /// Bytes that the packet contains: [`text`].
    Text = 12,
    /// The state, one of `arguments[0]`, or how the connection is translated: bits of
    /// [`CtState`] and of [`facts::ct_state`].
    State = 28,
    /// No condition: the arguments are the addresses of a [`crate::nat::Order`].
    Order = 29,
    /// Whether the packet is in a set: [`crate::set::ask::Question`].
    Set = 30,
}

impl Test {
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Range,
            1 => Self::Masked,
            2 => Self::Any,
            3 => Self::Between,
            4 => Self::Network,
            5 => Self::Random,
            6 => Self::Nth,
            7 => Self::Limit,
            8 => Self::Recent,
            9 => Self::Bucket,
            10 => Self::Connections,
            11 => Self::Time,
            12 => Self::Text,
            28 => Self::State,
            29 => Self::Order,
            30 => Self::Set,
            _ => return None,
        })
    }
}

/// One extra condition.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Extra {
    /// A [`Test`].
    pub test: u8,
    /// One of [`facts::number`] or [`facts::address`], by the test.
    pub subject: u8,
    /// 1 when it was written with `!`.
    pub invert: u8,
    /// 1 when it holds for a packet that does not have the fact at all.
    pub absent: u8,
    pub arguments: [u32; 8],
}

impl Extra {
    /// Whether the fact is what the extra wants. In the kernel's programs a function with
    /// a stack of its own: those that keep something in mind are called beside it.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn compare(&self, test: Test, facts: &Facts, is_routed: bool) -> bool {
        let [first, last, ..] = self.arguments;
        match test {
            Test::Range => {
                let value = facts.number(self.subject, is_routed);
                first <= value && value <= last
            }
            Test::Masked => facts.number(self.subject, is_routed) & last == first,
            Test::Any => facts.number(self.subject, is_routed) & first != 0,
            Test::Between => {
                let words = facts.address(self.subject).words.map(u32::from_be);
                is_ordered(&self.low(), &words) && is_ordered(&words, &self.high())
            }
            Test::Network => {
                let (prefix, mask) = (Addr { words: self.low() }, Addr { words: self.high() });
                facts.address(self.subject).matches(prefix, mask)
            }
            // They look at no fact.
            Test::Random
            | Test::Nth
            | Test::Limit
            | Test::Recent
            | Test::Bucket
            | Test::Connections
            | Test::Time
            | Test::Text
            | Test::State
            | Test::Order
            | Test::Set => false,
        }
    }

    #[inline(always)]
    const fn low(&self) -> [u32; 4] {
        let [a, b, c, d, ..] = self.arguments;
        [a, b, c, d]
    }

    #[inline(always)]
    const fn high(&self) -> [u32; 4] {
        let [.., a, b, c, d] = self.arguments;
        [a, b, c, d]
    }

    #[inline(always)]
    fn is_known(&self, test: Test, facts: &Facts, is_tracked: bool) -> bool {
        match test {
            Test::Range | Test::Masked | Test::Any => facts.has_number(self.subject, is_tracked),
            Test::Between | Test::Network => facts.has_address(self.subject, is_tracked),
            Test::Random
            | Test::Nth
            | Test::Limit
            | Test::Recent
            | Test::Bucket
            | Test::Connections
            | Test::Time
            | Test::Text
            | Test::State
            | Test::Order
            | Test::Set => true,
        }
    }
}

/// Whether `a` is not above `b`, the first word weighing most.
#[inline(always)]
const fn is_ordered(a: &[u32; 4], b: &[u32; 4]) -> bool {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (*a, *b);
    let (a, b) = (wide(a0, a1), wide(b0, b1));
    if a != b {
        return a < b;
    }
    wide(a2, a3) <= wide(b2, b3)
}

/// The number of a list with this name, FNV-1a: that two names of one ruleset share one
/// is as likely as that a random number of 64 bits is guessed.
pub const fn name_id(kind: u8, name: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut id = (0xcbf2_9ce4_8422_2325 ^ kind as u64).wrapping_mul(PRIME);
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        id = (id ^ *first as u64).wrapping_mul(PRIME);
        rest = tail;
    }
    id
}

#[inline(always)]
const fn wide(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// Where the rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Of the ruleset.
    pub slot: u32,
    /// Nothing is kept in mind: the rules are only asked what they would say.
    pub is_question: bool,
    /// The packet belongs to a connection, as far as the chain knows.
    pub is_tracked: bool,
    /// By a table behind routing: not PREROUTING.
    pub is_routed: bool,
    /// A [`CtState`] bit; 0 in table raw.
    pub ctstate: u8,
}

impl Asking {
    const QUESTION: u32 = 1 << 1;
    const TRACKED: u32 = 1 << 2;
    const ROUTED: u32 = 1 << 3;
    const STATE: u32 = 8;

    /// For the table at which a walk stands.
    #[inline(always)]
    pub const fn of(walk: &Walk) -> Self {
        let connected = CtState::New.bit() | CtState::Established.bit() | CtState::Related.bit();
        Self {
            slot: walk.slot,
            is_question: walk.is_question != 0,
            is_tracked: walk.ctstate & connected != 0,
            is_routed: walk.is_routed(),
            ctstate: walk.ctstate,
        }
    }

    /// All in one word.
    #[inline(always)]
    pub const fn pack(self) -> u32 {
        let question = if self.is_question { Self::QUESTION } else { 0 };
        let tracked = if self.is_tracked { Self::TRACKED } else { 0 };
        let routed = if self.is_routed { Self::ROUTED } else { 0 };
        (self.slot & 1) | question | tracked | routed | (self.ctstate as u32) << Self::STATE
    }

    /// The inverse of [`Asking::pack`].
    #[inline(always)]
    pub const fn unpack(packed: u32) -> Self {
        Self {
            slot: packed & 1,
            is_question: packed & Self::QUESTION != 0,
            is_tracked: packed & Self::TRACKED != 0,
            is_routed: packed & Self::ROUTED != 0,
            ctstate: (packed >> Self::STATE) as u8,
        }
    }
}

/// Whether `count` extras hold, from the one with index `first` on, asked one after
/// another up to the first that does not.
#[inline(always)]
pub fn all_hold<T: Rules>(
    tables: &T,
    first: u32,
    count: u32,
    facts: &Facts,
    asking: Asking,
) -> bool {
    for number in 0..MAX_EXTRAS {
        if number >= count {
            return true;
        }
        if !one_holds(tables, first + number, facts, asking) {
            return false;
        }
    }
    count == MAX_EXTRAS
}

/// Whether an extra of any kind holds.
#[inline(always)]
pub fn one_holds<T: Rules>(tables: &T, index: u32, facts: &Facts, asking: Asking) -> bool {
    // Asked from here, not from below: the verifier follows eight calls and no more.
    match tables.extra(asking.slot, index) {
        Some(extra) if extra.test == Test::Set as u8 => tables.set_holds(index, facts, asking),
        Some(_) => tables.extra_holds(index, facts, asking),
        None => false,
    }
}

/// Whether the extra with this index holds, which asks no set; one that is not there
/// does not.
#[inline(always)]
pub fn holds<T: Rules>(tables: &T, index: u32, facts: &Facts, asking: Asking) -> bool {
    let Some(extra) = tables.extra(asking.slot, index) else { return false };
    let Some(test) = Test::from_byte(extra.test) else { return false };
    if !extra.is_known(test, facts, asking.is_tracked) {
        return extra.absent != 0;
    }
    match test {
        Test::Recent => return tables.recent_holds(extra, facts, asking),
        Test::Bucket => return tables.bucket_holds(extra, facts, asking),
        Test::Connections => return tables.connections_hold(extra, facts, asking),
        Test::Time => return calendar::holds(extra, facts),
        Test::Text => return text::holds(tables, extra, asking.slot),
        _ => {}
    }
    let [a, b, c, d, ..] = extra.arguments;
    let holds = match test {
        Test::State => facts.states(asking) & a != 0,
        Test::Random => tables.random() >> 1 < a,
        Test::Nth => tables.remember(asking, index, |count| memory::next(count, a, b)),
        Test::Limit => {
            let (cost, burst) = (wide(b, a), wide(d, c));
            tables.remember(asking, index, |spent| memory::spend(spent, facts.now, cost, burst))
        }
        _ => extra.compare(test, facts, asking.is_routed),
    };
    holds != (extra.invert != 0)
}

const _: () = assert!(size_of::<Extra>() == 36);

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn facts() -> Facts {
        let mut facts = Facts::default();
        facts.set_number(facts::number::LENGTH, 100);
        facts.set_address(facts::address::SOURCE, "192.0.2.9".parse::<IpAddr>().unwrap().into());
        facts
    }

    fn host_words(text: &str) -> [u32; 4] {
        Addr::from(text.parse::<IpAddr>().unwrap()).words.map(u32::from_be)
    }

    fn between(low: &str, high: &str) -> bool {
        let mut extra = Extra { subject: facts::address::SOURCE, ..Extra::default() };
        extra.arguments[..4].copy_from_slice(&host_words(low));
        extra.arguments[4..].copy_from_slice(&host_words(high));
        extra.compare(Test::Between, &facts(), true)
    }

    #[test]
    fn a_range_of_addresses_has_both_its_ends() {
        assert!(between("192.0.2.9", "192.0.2.9"));
        assert!(between("192.0.1.255", "192.0.3.0"));
        assert!(!between("192.0.2.10", "192.0.3.0"));
        assert!(!between("192.0.1.0", "192.0.2.8"));
    }

    #[test]
    fn a_range_of_numbers_has_both_its_ends() {
        let length = |first, last| {
            let arguments = [first, last, 0, 0, 0, 0, 0, 0];
            Extra { subject: facts::number::LENGTH, arguments, ..Extra::default() }.compare(
                Test::Range,
                &facts(),
                true,
            )
        };
        assert!(length(100, 100) && length(0, 65_535));
        assert!(!length(101, 200) && !length(0, 99) && !length(100, 99));
    }

    #[test]
    fn where_the_rules_are_asked_survives_the_word() {
        for slot in [0, 1] {
            for bits in 0..8 {
                let [is_question, is_tracked, is_routed] = [1, 2, 4].map(|bit| bits & bit != 0);
                let ctstate = 1 << bits;
                let asking = Asking { slot, is_question, is_tracked, is_routed, ctstate };
                assert_eq!(Asking::unpack(asking.pack()), asking);
            }
        }
    }
}
