//! What becomes of a packet, and why.
//!
//! One list serves the counters, the events and the metrics: a verdict is
//! counted at [`Verdict::stat`], and nowhere else.

use crate::rule::{Chain, RejectKind};

macro_rules! stats {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Counters of the datapath, in the order of the `stats` map.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Stat { $($(#[$doc])* $variant,)* }

        impl Stat {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            pub const COUNT: usize = Self::ALL.len();

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was dropped.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            pub const COUNT: usize = Self::ALL.len();

            /// The name in counters, events and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Compares, and looks nothing up: the kernel's verifier does not always
            /// see that the place in a table was checked.
            pub const fn from_byte(byte: u8) -> Option<Self> {
                $(if byte == Self::$variant as u8 {
                    return Some(Self::$variant);
                })*
                None
            }
        }
    };
}

drop_reasons! {
    /// A rule of the ruleset said DROP.
    Rule = "rule",
    /// The policy of a built-in chain said DROP.
    Policy = "policy",
    /// A rule said REJECT; the sender was answered.
    Reject = "reject",
    /// The frame ends before its headers do.
    Truncated = "truncated",
    /// A header contradicts itself: version, length or data offset.
    Malformed = "malformed",
    /// The checksum of an IPv4 header is wrong.
    HeaderChecksum = "header-checksum",
    /// More VLAN tags or IPv6 extension headers than are followed.
    TooManyHeaders = "too-many-headers",
    /// A later fragment whose first fragment was not accepted or has not come in time.
    FragmentUnknown = "fragment-unknown",
    /// A later fragment that came before its first, and there was no space to wait.
    FragmentOverflow = "fragment-overflow",
    /// A fragment that repeats or overlaps what has passed of its datagram, or comes
    /// after one that did overlap.
    FragmentOverlap = "fragment-overlap",
    /// A first fragment too small to hold the ports.
    FragmentTiny = "fragment-tiny",
    /// The ring to the helper is full; TCP sends the segment again.
    HelperBusy = "helper-busy",
    /// `helper-failure = "closed"` and the daemon is away.
    HelperAway = "helper-away",
    /// The same expectation was used by another packet a moment ago.
    ExpectationTaken = "expectation-taken",
    /// No space for a new flow.
    TableFull = "table-full",
    /// Not IP, and the configuration says to drop such frames.
    NonIp = "non-ip",
    /// The frame came for many stations, and its packet is for one host elsewhere: routers
    /// send none on (RFC 1812 section 5.3.4).
    FrameForMany = "frame-for-many",
    /// An ACK that began no connection: the SYN cookie in it is wrong or too old.
    SynCookieWrong = "syn-cookie-wrong",
    /// No address and port was free that a new flow could have been translated to.
    NatPortsExhausted = "nat-ports-exhausted",
    /// No space for one more translated flow.
    NatTableFull = "nat-table-full",
    /// Another packet was translated to the same ends a moment ago.
    NatClash = "nat-clash",
    /// This host has no address towards where a MASQUERADE or REDIRECT leads.
    NatNoAddress = "nat-no-address",
    /// It would have left with its inside source, by an interface that is not ours.
    NatWayOut = "nat-way-out",
    /// The ruleset could not be read to a verdict: a bug, closed for safety.
    RulesetBroken = "ruleset-broken",
}

stats! {
    /// Packets to this host that were accepted.
    AcceptInput = "accept-input",
    /// Packets through this host that were accepted.
    AcceptForward = "accept-forward",
    /// Packets of this host that were accepted.
    AcceptOutput = "accept-output",
    /// Frames that are not IP: passed without judgement.
    PassNonIp = "pass-non-ip",
    /// Frames for another station (destination MAC): the stack ignores them.
    PassOtherHost = "pass-other-host",
    /// Frames that came in again from the daemon, which had read them, or from us as
    /// answers to this host.
    Reinjected = "reinjected",
    /// Of the accepted, how many the helper was asked about.
    Punted = "punted",
    /// Control packets that went on unread: the daemon was away.
    PuntSkipped = "punt-skipped",
    /// Fragments that came before their first, and wait for it unjudged.
    FragmentsHeld = "fragments-held",
    /// Of the forwarded, how many left by redirect.
    ForwardFast = "forward-fast",
    /// Of those, how many took the short way: neither rules nor routes were asked.
    ForwardShort = "forward-short",
    /// Of the forwarded, how many went through the stack.
    ForwardStack = "forward-stack",
    /// Packets that a cached verdict accepted.
    CacheHit = "cache-hit",
    /// Flows created.
    FlowsCreated = "flows-created",
    /// Of them, those of IPv6.
    FlowsCreated6 = "flows-created6",
    /// Flows that became assured.
    FlowsAssured = "flows-assured",
    /// Of them, those of IPv6.
    FlowsAssured6 = "flows-assured6",
    /// Tries of embryonic flows to become assured, one with each packet, that failed
    /// because the table of assured flows is full.
    AssuredFull = "assured-full",
    /// Of them, those of IPv6, whose table is another one.
    AssuredFull6 = "assured-full6",
    /// Ways into confirmed flows that stay where a flood of new ones reaches them, because
    /// the table of translations is full.
    TranslationsFull = "translations-full",
    /// Of them, those of IPv6.
    TranslationsFull6 = "translations-full6",
    /// Embryonic flows that a reset ended before anybody had answered.
    FlowsForgotten = "flows-forgotten",
    /// Of them, those of IPv6.
    FlowsForgotten6 = "flows-forgotten6",
    /// Embryonic flows in whose place a new one with the same endpoints stepped.
    FlowsReplaced = "flows-replaced",
    /// Of them, those of IPv6.
    FlowsReplaced6 = "flows-replaced6",
    /// Expectations used by a flow.
    ExpectationsUsed = "expectations-used",
    /// SYNs that were answered with a cookie.
    SynCookiesSent = "syn-cookies-sent",
    /// Cookies that came back right: each is a SYN to the server.
    SynCookiesRight = "syn-cookies-right",
    /// LOG lines and drop events that found no space in the ring.
    EventsLost = "events-lost",
    /// Events of flows that found no space in the ring.
    FlowEventsLost = "flow-events-lost",
    /// Flows of UDP that have no mapping, and another outside port than the next one of their
    /// inside endpoint may have, because the table of mappings is full.
    MappingsFull = "mappings-full",
}

/// Where the counter of a drop reason stands in the `stats` map: behind [`Stat`].
pub const fn drop_counter(reason: DropReason) -> u32 {
    Stat::COUNT as u32 + reason as u32
}

/// What the programs count of the short way, they count in one place; here it comes to the
/// others where the long way would have counted the same packets.
pub fn spread(counters: &mut [u64; STAT_PLACES]) {
    let short = counters[Stat::ForwardShort as usize];
    for stat in [Stat::AcceptForward, Stat::ForwardFast, Stat::CacheHit] {
        let counter = &mut counters[stat as usize];
        *counter = counter.wrapping_add(short);
    }
}

/// What is counted of flows of both families, with that of IPv6 among it: each family has
/// tables of its own.
pub mod family {
    use super::Stat;
    use crate::addr::Family;

    /// What is counted of one family.
    pub fn count(counters: &[u64], [all, of_ipv6]: [Stat; 2], family: Family) -> u64 {
        let value = |stat: Stat| counters.get(stat as usize).copied().unwrap_or(0);
        match family {
            // Both are read at once, and counted one after the other.
            Family::Ipv4 => value(all).saturating_sub(value(of_ipv6)),
            Family::Ipv6 => value(of_ipv6),
        }
    }

    pub const CREATED: [Stat; 2] = [Stat::FlowsCreated, Stat::FlowsCreated6];
    pub const ASSURED: [Stat; 2] = [Stat::FlowsAssured, Stat::FlowsAssured6];
    pub const FORGOTTEN: [Stat; 2] = [Stat::FlowsForgotten, Stat::FlowsForgotten6];
    pub const REPLACED: [Stat; 2] = [Stat::FlowsReplaced, Stat::FlowsReplaced6];
    pub const ASSURED_FULL: [Stat; 2] = [Stat::AssuredFull, Stat::AssuredFull6];
    pub const TRANSLATIONS_FULL: [Stat; 2] = [Stat::TranslationsFull, Stat::TranslationsFull6];
}

/// All counters of the `stats` map.
pub const STATS: u32 = (Stat::COUNT + DropReason::COUNT) as u32;

/// Whether a counter is one of those of which each packet moves exactly one: it
/// went on, was answered with a cookie, or was dropped.
pub fn is_verdict(counter: u32) -> bool {
    const WENT_ON: [Stat; 6] = [
        Stat::AcceptInput,
        Stat::AcceptForward,
        Stat::AcceptOutput,
        Stat::PassNonIp,
        Stat::PassOtherHost,
        Stat::SynCookiesSent,
    ];
    let is_drop = (Stat::COUNT as u32..STATS).contains(&counter);
    is_drop || WENT_ON.iter().any(|stat| *stat as u32 == counter)
}

/// Places for counters in the `stats` map: a power of two, so that a masked index
/// is in bounds.
pub const STAT_PLACES: usize = 64;
const _: () = assert!(STATS as usize <= STAT_PLACES);

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Judged and accepted in this chain.
    Accept(Chain),
    /// Accepted, and to be read by the helper before it goes on.
    Punt(Chain),
    /// A fragment that came before its first: not judged before that has come.
    Wait(Chain),
    /// Outside the firewall's task; see the counter for why.
    Pass(Stat),
    Drop(DropReason),
    /// Dropped with an answer.
    Reject(RejectKind),
    /// A SYN, to be answered with a cookie.
    Cookie,
    /// An ACK with a right cookie: to be made the SYN that it proves, and judged anew.
    Prove,
    /// It begins a connection anew whose translation is over, or only looks like a packet of a
    /// translated one: to be judged as it came.
    Again,
}

impl Verdict {
    /// The one verdict counter that a packet moves; of one that is to wait, when it
    /// cannot.
    pub const fn counter(self) -> u32 {
        match self {
            Self::Accept(chain) | Self::Punt(chain) => accept_stat(chain) as u32,
            Self::Wait(_) => drop_counter(DropReason::FragmentOverflow),
            Self::Pass(stat) => stat as u32,
            Self::Drop(reason) => drop_counter(reason),
            Self::Reject(_) => drop_counter(DropReason::Reject),
            Self::Cookie => Stat::SynCookiesSent as u32,
            Self::Prove => Stat::SynCookiesRight as u32,
            // As whom it counts is not known yet; it comes back once.
            Self::Again => drop_counter(DropReason::NatClash),
        }
    }
}

/// A verdict about what the rules have accepted, as one stage of the kernel's programs passes
/// it to the next. Only those that [`crate::path::accept`] gives have a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed(pub u32);

impl Packed {
    const ACCEPT: u32 = 1 << 8;
    const PUNT: u32 = 2 << 8;
    const DROP: u32 = 3 << 8;

    #[inline(always)]
    pub const fn of(verdict: Verdict) -> Self {
        Self(match verdict {
            Verdict::Accept(chain) => Self::ACCEPT | chain as u32,
            Verdict::Punt(chain) => Self::PUNT | chain as u32,
            Verdict::Drop(reason) => Self::DROP | reason as u32,
            _ => 0,
        })
    }

    /// The inverse of [`Packed::of`]; what is no verdict drops.
    #[inline(always)]
    pub const fn verdict(self) -> Verdict {
        let byte = self.0 as u8;
        match (self.0 & !0xff, Chain::from_byte(byte)) {
            (Self::ACCEPT, Some(chain)) => Verdict::Accept(chain),
            (Self::PUNT, Some(chain)) => Verdict::Punt(chain),
            (Self::DROP, _) => match DropReason::from_byte(byte) {
                Some(reason) => Verdict::Drop(reason),
                None => Verdict::Drop(DropReason::RulesetBroken),
            },
            _ => Verdict::Drop(DropReason::RulesetBroken),
        }
    }
}

const fn accept_stat(chain: Chain) -> Stat {
    match chain {
        Chain::Input
        | Chain::MangleInput
        | Chain::NatInput
        | Chain::RawPrerouting
        | Chain::ManglePrerouting
        | Chain::NatPrerouting => Stat::AcceptInput,
        Chain::Forward
        | Chain::MangleForward
        | Chain::ManglePostrouting
        | Chain::NatPostrouting => Stat::AcceptForward,
        Chain::Output | Chain::RawOutput | Chain::MangleOutput | Chain::NatOutput => {
            Stat::AcceptOutput
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_counters_share_a_name() {
        let mut names: Vec<_> = Stat::ALL.iter().map(|stat| stat.name()).collect();
        names.extend(DropReason::ALL.iter().map(|reason| reason.name()));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_reason_survives_the_map() {
        for &reason in DropReason::ALL {
            assert_eq!(DropReason::from_byte(reason as u8), Some(reason));
        }
        assert_eq!(DropReason::from_byte(255), None);
    }

    #[test]
    fn a_verdict_about_an_accepted_packet_survives_its_packing() {
        let chains = (0..=u8::MAX).filter_map(Chain::from_byte);
        let verdicts = chains
            .flat_map(|chain| [Verdict::Accept(chain), Verdict::Punt(chain)])
            .chain(DropReason::ALL.iter().map(|&reason| Verdict::Drop(reason)));
        for verdict in verdicts {
            assert_eq!(Packed::of(verdict).verdict(), verdict);
        }
        assert_eq!(Packed(0).verdict(), Verdict::Drop(DropReason::RulesetBroken));
    }
}
