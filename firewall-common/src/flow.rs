//! Flows and expectations as the maps hold them.
//!
//! One flow is one connection, both directions. Its key is the pair of
//! endpoints in a fixed order, so that a packet of either direction finds it
//! with one lookup.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::{Addr, Family, MAPPED},
    hop::Way,
    ipv4_key::Ipv4Key,
    nat::Faces,
    seq::Seq,
    time::Nanos,
};

/// IP protocol numbers that the tracker knows by name.
pub mod protocol {
    /// The hop-by-hop options of IPv6.
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    /// The routing header of IPv6.
    pub const ROUTING: u8 = 43;
    /// The fragment header of IPv6.
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    /// The authentication header, which is an extension header of IPv6.
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows (RFC 8200 section 4.7).
    pub const NO_NEXT_HEADER: u8 = 59;
    /// The destination options of IPv6.
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
    pub const UDPLITE: u8 = 136;
}

/// Which way a packet of a flow goes: *original* is the way of its first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Original,
    Reply,
}

impl Direction {
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }

    #[inline(always)]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a rule's `--ctstate` sees.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtState {
    New = 1 << 0,
    Established = 1 << 1,
    Related = 1 << 2,
    Invalid = 1 << 3,
    Untracked = 1 << 4,
}

impl CtState {
    /// The bit of this state in a rule's set of states.
    pub const fn bit(self) -> u8 {
        self as u8
    }

    #[inline(always)]
    pub const fn from_bit(bit: u8) -> Option<Self> {
        Some(match bit {
            1 => Self::New,
            2 => Self::Established,
            4 => Self::Related,
            8 => Self::Invalid,
            16 => Self::Untracked,
            _ => return None,
        })
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Established => "ESTABLISHED",
            Self::Related => "RELATED",
            Self::Invalid => "INVALID",
            Self::Untracked => "UNTRACKED",
        }
    }
}

/// The endpoints of one packet, source and destination apart.
///
/// For an ICMP request `sport` holds the identifier and `dport` is zero, for
/// its reply the other way round: two hosts that ping each other with the same
/// identifier are two flows. For GRE of version 1 (PPTP) `dport` holds the call
/// identifier.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Tuple {
    pub src: Addr,
    pub dst: Addr,
    pub sport: u16,
    pub dport: u16,
    pub protocol: u8,
    /// ICMP and ICMPv6: the type of the request, also in its reply. Else zero.
    pub icmp_type: u8,
    /// ICMP and ICMPv6: of the request, which its reply repeats. Else zero.
    pub icmp_code: u8,
    pub _pad: u8,
}

impl Tuple {
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..*self }
    }
}

impl Tuple {
    /// Writes the reversed one in place: the kernel's programs have little stack.
    #[inline(always)]
    pub const fn turn_over(&self, into: &mut Self) {
        (into.src, into.dst) = (self.dst, self.src);
        (into.sport, into.dport) = (self.dport, self.sport);
        into.protocol = self.protocol;
        into.icmp_type = self.icmp_type;
        into.icmp_code = self.icmp_code;
        into._pad = 0;
    }
}

/// The canonical key of a flow, of either family.
///
/// That of IPv4 stands in it as the maps of IPv4 want it, so that they are asked with a part of
/// this one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct FlowKey {
    /// The first three words of both addresses, those of the low endpoint first.
    networks: [u64; 3],
    /// The last word of both, and all that is no address.
    ends: Ipv4Key,
}

/// Which endpoint of the key sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    Low,
    High,
}

impl Sender {
    #[inline(always)]
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

impl FlowKey {
    /// [`FlowKey::networks`] of IPv4: those of v4-mapped addresses.
    const IPV4: [u64; 3] = networks([0, 0, MAPPED], [0, 0, MAPPED]);

    /// The key of the flow to which a packet with this tuple belongs, and
    /// which of its endpoints sent it.
    #[inline(always)]
    pub fn of(tuple: &Tuple) -> (Self, Sender) {
        let mut key = Self::default();
        let sender = key.assign(tuple);
        (key, sender)
    }

    /// Becomes the key of the flow to which a packet with this tuple belongs; gives
    /// which of its endpoints sent it.
    #[inline(always)]
    pub fn assign(&mut self, tuple: &Tuple) -> Sender {
        let kind = [tuple.protocol, tuple.icmp_type, tuple.icmp_code];
        let (src, dst) = ((&tuple.src, tuple.sport), (&tuple.dst, tuple.dport));
        if is_lower(src.0, src.1, dst.0, dst.1) {
            self.write(src, dst, kind);
            Sender::Low
        } else {
            self.write(dst, src, kind);
            Sender::High
        }
    }

    #[inline(always)]
    const fn write(&mut self, low: (&Addr, u16), high: (&Addr, u16), kind: [u8; 3]) {
        let ([a, b, c, low_end], [d, e, f, high_end]) = (low.0.words, high.0.words);
        self.networks = networks([a, b, c], [d, e, f]);
        self.ends = Ipv4Key::ordered((low_end, low.1), (high_end, high.1), kind);
    }

    /// The key of the flow of packets of IPv6 that go from one endpoint to the other, ICMP
    /// excluded, and which of the two sends them: as [`FlowKey::of`] has it. The addresses are two
    /// words each, in the order of memory.
    #[inline(always)]
    pub const fn between(
        protocol: u8,
        (src, sport): ([u64; 2], u16),
        (dst, dport): ([u64; 2], u16),
    ) -> (Self, Sender) {
        let ([a, b], [c, d]) = (src, dst);
        // All ones when they are to change places, without a branch where the last words differ.
        let is_high = (first_difference((a, b, sport), (c, d, dport)) >> 63) as u64;
        let (front, back) = ((a ^ c) & is_high, (b ^ d) & is_high);
        let ([a, b], [c, d]) = ([a ^ front, b ^ back], [c ^ front, d ^ back]);
        let port = (sport ^ dport) & is_high as u16;
        let networks = [a, b & LOW_HALF | c << 32, c >> 32 | d << 32];
        let (low, high) = (((b >> 32) as u32, sport ^ port), ((d >> 32) as u32, dport ^ port));
        let key = Self { networks, ends: Ipv4Key::ordered(low, high, [protocol, 0, 0]) };
        (key, if is_high == 0 { Sender::Low } else { Sender::High })
    }

    #[inline(always)]
    pub const fn of_ipv4(key: Ipv4Key) -> Self {
        Self { networks: Self::IPV4, ends: key }
    }

    /// As the maps of IPv4 have it; `None` for a key of IPv6.
    #[inline(always)]
    pub const fn ipv4(&self) -> Option<&Ipv4Key> {
        let ([a, b, c], [x, y, z]) = (self.networks, Self::IPV4);
        // One test: the verifier follows each.
        if (a ^ x) | (b ^ y) | (c ^ z) == 0 { Some(&self.ends) } else { None }
    }

    #[inline(always)]
    pub const fn family(&self) -> Family {
        match self.ipv4() {
            Some(_) => Family::Ipv4,
            None => Family::Ipv6,
        }
    }

    /// Address and port of the smaller endpoint.
    #[inline(always)]
    pub const fn low(&self) -> (Addr, u16) {
        let ([a, b, _], (end, port)) = (self.networks, self.ends.low());
        (Addr { words: [a as u32, (a >> 32) as u32, b as u32, end] }, port)
    }

    #[inline(always)]
    pub const fn high(&self) -> (Addr, u16) {
        let ([_, b, c], (end, port)) = (self.networks, self.ends.high());
        (Addr { words: [(b >> 32) as u32, c as u32, (c >> 32) as u32, end] }, port)
    }

    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.ends.protocol()
    }

    /// Whether both are one, compared in place: not every program of the kernel can call a
    /// function for it.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let ([a, b, c], [x, y, z]) = (self.networks, other.networks);
        (a ^ x) | (b ^ y) | (c ^ z) | self.ends.difference(&other.ends) == 0
    }

    /// Writes the tuple of the packets that `sender` sends.
    #[inline(always)]
    pub const fn write_tuple(&self, sender: Sender, into: &mut Tuple) {
        let (low, high) = (self.low(), self.high());
        match sender {
            Sender::Low => {
                (into.src, into.sport) = low;
                (into.dst, into.dport) = high;
            }
            Sender::High => {
                (into.src, into.sport) = high;
                (into.dst, into.dport) = low;
            }
        }
        into.protocol = self.ends.protocol();
        into.icmp_type = self.ends.icmp_type();
        into.icmp_code = self.ends.icmp_code();
        into._pad = 0;
    }

    /// The tuple of the packets that `sender` sends.
    #[inline(always)]
    pub const fn tuple(&self, sender: Sender) -> Tuple {
        let ((src, sport), (dst, dport)) = (self.low(), self.high());
        let low_to_high = Tuple {
            src,
            dst,
            sport,
            dport,
            protocol: self.ends.protocol(),
            icmp_type: self.ends.icmp_type(),
            icmp_code: self.ends.icmp_code(),
            _pad: 0,
        };
        match sender {
            Sender::Low => low_to_high,
            Sender::High => low_to_high.reversed(),
        }
    }
}

const LOW_HALF: u64 = u32::MAX as u64;

/// By how much the second of two endpoints is above the first in the first part that differs, in the
/// order of [`is_lower`].
#[inline(always)]
const fn first_difference((a, b, a_port): (u64, u64, u16), (c, d, d_port): (u64, u64, u16)) -> i64 {
    if b >> 32 != d >> 32 {
        (d >> 32) as i64 - (b >> 32) as i64
    } else if b != d {
        (d & LOW_HALF) as i64 - (b & LOW_HALF) as i64
    } else if a >> 32 != c >> 32 {
        (c >> 32) as i64 - (a >> 32) as i64
    } else if a != c {
        (c & LOW_HALF) as i64 - (a & LOW_HALF) as i64
    } else {
        d_port as i64 - a_port as i64
    }
}

/// The first words of two addresses, as [`FlowKey`] holds them.
#[inline(always)]
const fn networks([a, b, c]: [u32; 3], [d, e, f]: [u32; 3]) -> [u64; 3] {
    [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32, e as u64 | (f as u64) << 32]
}

/// Whether endpoint `a` comes first in a key. Any fixed order would do; this
/// one looks at the words that differ most often first.
#[inline(always)]
fn is_lower(a: &Addr, a_port: u16, b: &Addr, b_port: u16) -> bool {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.words, b.words);
    if a3 != b3 {
        a3 < b3
    } else if a2 != b2 {
        a2 < b2
    } else if a1 != b1 {
        a1 < b1
    } else if a0 != b0 {
        a0 < b0
    } else {
        a_port <= b_port
    }
}

/// The state of a TCP connection, as the byte in the map, by the middlebox names of
/// netfilter. SCTP has its own; the others only tell whether traffic in both
/// directions was seen.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not TCP.
    None = 0,
    SynSent = 1,
    SynRecv = 2,
    Established = 3,
    FinWait = 4,
    CloseWait = 5,
    LastAck = 6,
    TimeWait = 7,
    Close = 8,
    /// Simultaneous open: a SYN from both sides (kernel: SYN_SENT2).
    SynSent2 = 9,
}

impl State {
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::None,
            1 => Self::SynSent,
            2 => Self::SynRecv,
            3 => Self::Established,
            4 => Self::FinWait,
            5 => Self::CloseWait,
            6 => Self::LastAck,
            7 => Self::TimeWait,
            8 => Self::Close,
            9 => Self::SynSent2,
            _ => return None,
        })
    }

    /// As conntrack(8) prints it; empty for a protocol without states.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }
}

/// Bits of [`Flow::status`].
pub mod status {
    /// A packet of the reply direction was accepted.
    pub const SEEN_REPLY: u8 = 1 << 0;
    /// Traffic in both directions confirmed the flow (kernel: IPS_ASSURED).
    pub const ASSURED: u8 = 1 << 1;
    /// The flow came from an expectation; its master stands in `masters`.
    pub const EXPECTED: u8 = 1 << 2;
    /// The control connection went over to TLS: its helper reads no further.
    pub const ENCRYPTED: u8 = 1 << 3;
    /// Picked up in its middle: its beginning was not seen here.
    pub const PICKED_UP: u8 = 1 << 4;
    /// SYNPROXY stands between: client and server know different numbers.
    pub const PROXIED: u8 = 1 << 5;
    /// The source of its original direction is translated (kernel: IPS_SRC_NAT).
    pub const SOURCE_TRANSLATED: u8 = 1 << 6;
    /// The destination of its original direction is translated (kernel: IPS_DST_NAT).
    pub const DESTINATION_TRANSLATED: u8 = 1 << 7;
}

/// Helpers, as the maps number them.
pub mod helper {
    pub const NONE: u8 = 0;
    pub const FTP: u8 = 1;
    pub const TFTP: u8 = 2;

    /// All of them.
    pub const ALL: [u8; 2] = [FTP, TFTP];

    /// The name in rules and listings, `None` for a number without a helper.
    pub const fn name(helper: u8) -> Option<&'static str> {
        match helper {
            FTP => Some("ftp"),
            TFTP => Some("tftp"),
            _ => None,
        }
    }

    pub fn from_name(name: &str) -> Option<u8> {
        ALL.into_iter().find(|helper| self::name(*helper) == Some(name))
    }

    /// The protocol of the connections that it reads.
    #[inline(always)]
    pub const fn protocol(helper: u8) -> Option<u8> {
        match helper {
            FTP => Some(super::protocol::TCP),
            TFTP => Some(super::protocol::UDP),
            _ => None,
        }
    }

    /// What the `helper_ports` map holds for a port: the helper of TCP in the low
    /// four bits, that of UDP in the high ones.
    #[inline(always)]
    pub const fn of_port(entry: u8, protocol: u8) -> u8 {
        match protocol {
            super::protocol::TCP => entry & 0xf,
            super::protocol::UDP => entry >> 4,
            _ => NONE,
        }
    }

    /// An entry for [`of_port`], with one more helper in it.
    pub const fn with(entry: u8, helper: u8) -> u8 {
        match protocol(helper) {
            Some(super::protocol::UDP) => entry & 0xf | helper << 4,
            _ => entry & 0xf0 | helper,
        }
    }
}

/// How many rules a packet can match on its way and still have its verdict
/// cached: jumps and counting rules, and the one that decides.
pub const CACHED_HITS: usize = 4;

/// A verdict of ACCEPT that holds for the next packets of a direction, with
/// the counters that each of them moves.
///
/// It holds under one ruleset generation, behind a rule that asks a set until one changes, and
/// between one pair of interfaces.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CachedVerdict {
    /// One of [`crate::generation::stamp`].
    pub stamp: u32,
    /// Interface indexes; 0 for none (INPUT has no `out`, OUTPUT no `in`).
    pub in_ifindex: u32,
    pub out_ifindex: u32,
    /// Rule indexes plus one, 0 for none.
    pub hits: [u16; CACHED_HITS],
}

/// What a TCP has told of its window; see [`crate::conntrack::window`]. SCTP keeps
/// its verification tag in `end`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Window {
    /// What follows the highest sequence number sent.
    pub end: Seq,
    /// The highest sequence number that the other side allows.
    pub max_end: Seq,
    /// The largest window announced, in bytes; 0 until the side has sent something.
    pub max_size: u32,
    /// The highest acknowledgement sent, with [`window::MAX_ACK_KNOWN`].
    pub max_ack: Seq,
    /// The shift of the windows that it announces (RFC 7323).
    pub scale: u8,
    /// Bits of [`window`].
    pub flags: u8,
    pub _pad: [u8; 2],
}

impl Window {
    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// One direction of a flow: what its sender has sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Side {
    pub packets: u64,
    /// Bytes from the IP header on, as conntrack(8) counts.
    pub bytes: u64,
    pub window: Window,
    pub cached: CachedVerdict,
    /// By which hop its packets leave, where they need not take the stack.
    pub way: Way,
}

/// Bits of [`Window::flags`].
pub mod window {
    /// Offered to scale windows.
    pub const SCALES: u8 = 1 << 0;
    /// Offered selective acknowledgements (RFC 2018).
    pub const SACK: u8 = 1 << 1;
    /// Sent the first FIN.
    pub const CLOSED_FIRST: u8 = 1 << 2;
    /// Windows are not enforced: the handshake, and with it the scale, is unknown.
    pub const LIBERAL: u8 = 1 << 3;
    /// What it sent is not acknowledged yet.
    pub const UNACKNOWLEDGED: u8 = 1 << 4;
    /// [`super::Window::max_ack`] holds a number.
    pub const MAX_ACK_KNOWN: u8 = 1 << 5;
}

/// TCP: what is remembered of the last segment, to tell a retransmission and the
/// answer to a segment that was let through without being believed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Last {
    pub seq: Seq,
    pub ack: Seq,
    /// The sequence number behind it.
    pub end: Seq,
    /// As it stood in the segment.
    pub window: u16,
    /// Its kind, counted from 1; 0 for none.
    pub segment: u8,
    /// A [`Direction`].
    pub direction: u8,
    /// How often the same segment came again.
    pub retransmissions: u8,
    /// Of a SYN that was let through: its scale, and bits of [`window`] and [`last`].
    /// SCTP keeps what it knows of INITs and HEARTBEATs in the flags.
    pub scale: u8,
    pub flags: u8,
    pub _pad: u8,
}

/// Bits of [`Last::flags`], beside those of [`window`].
pub mod last {
    /// Both sides sent a SYN before either was answered.
    pub const SIMULTANEOUS_OPEN: u8 = 1 << 6;
    /// The answer to a SYN that was let through may be a challenge (RFC 5961).
    pub const CHALLENGE_EXPECTED: u8 = 1 << 7;
}

/// A tracked connection, as the value of the flow maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// When it ends unless another packet is accepted.
    pub expires: Nanos,
    pub created: Nanos,
    /// A [`State`] of TCP, or a [`crate::conntrack::sctp::State`]; 0 in a flow of
    /// another protocol.
    pub state: u8,
    /// Bits of [`status`].
    pub status: u8,
    /// One of [`helper`]: the one that reads this control connection, or, with
    /// [`status::EXPECTED`], the one that announced this data connection.
    pub helper: u8,
    /// Which endpoint of the key is the originator: 0 low, 1 high.
    pub originator: u8,
    pub mark: u32,
    pub last: Last,
    /// SYNPROXY: what is added to the sequence numbers of the reply direction; the
    /// cookie, until the server has answered.
    pub shift: u32,
    /// SYNPROXY: what is added to the timestamps of the reply direction; the one that
    /// the client was told, until the server has answered.
    pub clock_shift: u32,
    /// SYNPROXY: the window of the client's first ACK, as it stood there.
    pub client_window: u16,
    /// SYNPROXY: the shift of the server's windows that the client was told, and the
    /// server's own.
    pub told_scale: u8,
    pub server_scale: u8,
    /// Indexed by [`Direction::index`].
    pub sides: [Side; 2],
    /// What its ends are called on the wire, where they are translated.
    pub faces: Faces,
}

impl Flow {
    #[inline(always)]
    pub const fn originator(&self) -> Sender {
        if self.originator == 0 { Sender::Low } else { Sender::High }
    }

    #[inline(always)]
    pub const fn direction(&self, sender: Sender) -> Direction {
        match (sender, self.originator) {
            (Sender::Low, 0) => Direction::Original,
            (Sender::High, 0) => Direction::Reply,
            (Sender::Low, _) => Direction::Reply,
            (Sender::High, _) => Direction::Original,
        }
    }

    #[inline(always)]
    pub const fn side(&self, direction: Direction) -> &Side {
        &self.sides[direction.index() & 1]
    }

    #[inline(always)]
    pub const fn side_mut(&mut self, direction: Direction) -> &mut Side {
        &mut self.sides[direction.index() & 1]
    }

    #[inline(always)]
    pub const fn has(&self, status: u8) -> bool {
        self.status & status != 0
    }

    #[inline(always)]
    pub const fn is_expired(&self, now: Nanos) -> bool {
        self.expires.0 <= now.0
    }
}

const _: () = assert!(size_of::<Tuple>() == 40);
const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(size_of::<CachedVerdict>() == 20);
const _: () = assert!(size_of::<Window>() == 20);
const _: () = assert!(size_of::<Last>() == 20);
const _: () = assert!(size_of::<Side>() == 64);
const _: () = assert!(size_of::<Flow>() == 224);

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn any_tuple() -> impl Strategy<Value = Tuple> {
        let ipv4 = (any::<u32>(), any::<u32>())
            .prop_map(|(a, b)| [a, b].map(|bits| Addr::from(Ipv4Addr::from(bits))));
        let ipv6 = (any::<u128>(), any::<u128>())
            .prop_map(|(a, b)| [a, b].map(|bits| Addr::from(Ipv6Addr::from(bits))));
        let rest = (any::<u16>(), any::<u16>(), any::<[u8; 3]>());
        (prop_oneof![ipv4, ipv6], rest).prop_map(|([src, dst], (sport, dport, kind))| {
            let [protocol, icmp_type, icmp_code] = kind;
            Tuple { src, dst, sport, dport, protocol, icmp_type, icmp_code, _pad: 0 }
        })
    }

    proptest! {
        #[test]
        fn both_directions_meet_in_one_key(tuple in any_tuple()) {
            let (key, sender) = FlowKey::of(&tuple);
            let (back, other) = FlowKey::of(&tuple.reversed());
            prop_assert_eq!(key, back);
            prop_assert!(sender != other || tuple == tuple.reversed());
            prop_assert_eq!(key.tuple(sender), tuple);
            prop_assert_eq!(key.family(), tuple.src.family());
            prop_assert!(key.is(&back) && key.protocol() == tuple.protocol);
        }
    }

    /// Some whose last words are the same, too.
    fn any_ends() -> impl Strategy<Value = (Tuple, u8)> {
        const NEAR: [u128; 7] = [0, 1, 2, u128::MAX, 1 << 32, 1 << 64, 1 << 96];
        let address = prop_oneof![any::<u128>(), prop::sample::select(&NEAR[..])];
        let address = address.prop_map(|bits| Addr::from(Ipv6Addr::from(bits)));
        let port = || prop_oneof![any::<u16>(), 0..3_u16];
        (address.clone(), address, port(), port(), any::<u8>()).prop_map(
            |(src, dst, sport, dport, protocol)| {
                (Tuple { src, dst, sport, dport, protocol, ..Tuple::default() }, protocol)
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_made_of_ends_is_what_is_made_of_a_tuple((tuple, protocol) in any_ends()) {
            let [src, dst] = [tuple.src, tuple.dst].map(bytemuck::cast::<Addr, [u64; 2]>);
            let (src, dst) = ((src, tuple.sport), (dst, tuple.dport));
            prop_assert_eq!(FlowKey::between(protocol, src, dst), FlowKey::of(&tuple));
        }
    }

    #[test]
    fn pings_both_ways_with_one_identifier_are_two_flows() {
        let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let ping = |src: Ipv4Addr, dst: Ipv4Addr| Tuple {
            src: src.into(),
            dst: dst.into(),
            sport: 77,
            protocol: protocol::ICMP,
            icmp_type: 8,
            ..Tuple::default()
        };
        assert_ne!(FlowKey::of(&ping(a, b)).0, FlowKey::of(&ping(b, a)).0);
    }

    #[test]
    fn a_state_survives_the_map() {
        for byte in 0..=9 {
            assert_eq!(State::from_byte(byte).map(|state| state as u8), Some(byte));
        }
        assert_eq!(State::from_byte(10), None);
    }
}
