//! What extra conditions look at, gathered once for a packet whose rules are walked.

use bytemuck::{Pod, Zeroable};

use super::{Asking, need, options::OptionKinds};
use crate::{
    addr::{Addr, Family},
    conntrack::{
        find,
        icmp::{Class, classify},
    },
    event::Hook,
    flow::{CtState, Direction, Flow, FlowKey, Tuple, protocol, status},
    headers::Headers,
    nat::{desk::done, translations},
    packet::Packet,
    rule::Chain,
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
};

/// Places of numbers.
pub mod number {
    /// Bytes from the IP header on.
    pub const LENGTH: u8 = 0;
    /// Or hop limit: as the packet came in, or, in FORWARD, as it goes out.
    pub const TTL: u8 = 1;
    /// The byte of DSCP and ECN: type of service, or traffic class.
    pub const TOS: u8 = 2;
    /// The mark of the kernel's packet; 0 in XDP, which comes before all that marks.
    pub const MARK: u8 = 3;
    /// The user whose socket sends it; only in OUTPUT.
    pub const OWNER: u8 = 4;
    /// One of [`super::packet_type`].
    pub const PACKET_TYPE: u8 = 5;
    /// Bits of [`super::address_type`].
    pub const SOURCE_TYPE: u8 = 6;
    /// Bits of [`super::address_type`].
    pub const DESTINATION_TYPE: u8 = 7;
    /// The type of the first routing header of IPv6.
    pub const ROUTING_TYPE: u8 = 8;
    /// The maximum segment size of the TCP header.
    pub const MSS: u8 = 9;
    /// Of the connection, as those below.
    pub const CT_PROTOCOL: u8 = 10;
    /// Bits of [`super::ct_status`].
    pub const CT_STATUS: u8 = 11;
    /// Seconds that it lives if no other packet comes.
    pub const CT_EXPIRES: u8 = 12;
    /// 0 original, 1 reply.
    pub const CT_DIRECTION: u8 = 13;
    pub const CT_SPORT: u8 = 14;
    pub const CT_DPORT: u8 = 15;
    /// The group of the user whose socket sends it; only in OUTPUT.
    pub const GROUP: u8 = 16;
    /// The nodes that the first routing header of IPv6 still names, and its bytes.
    pub const ROUTING_LEFT: u8 = 17;
    pub const ROUTING_LENGTH: u8 = 18;
    /// Seconds since 1970 by the wall clock, in UTC.
    pub const TIME: u8 = 19;
    /// By the kernel's time zone.
    pub const LOCAL_TIME: u8 = 20;
    /// Of protocols that have ports.
    pub const SPORT: u8 = 21;
    pub const DPORT: u8 = 22;
    /// As the packet came in, whatever chain looks at it.
    pub const ARRIVAL_TTL: u8 = 23;
    /// Eight of them, a bit for each kind.
    pub const TCP_OPTIONS: u8 = 24;
    /// The mark of the connection.
    pub const CT_MARK: u8 = 32;
    /// Bits of [`super::ct_state`].
    pub const CT_TRANSLATED: u8 = 33;
    /// Of the reply direction, where addresses are translated not the reverse of the other.
    pub const CT_REPLY_SPORT: u8 = 34;
    pub const CT_REPLY_DPORT: u8 = 35;
    /// IPv6: bits of [`crate::headers::extension`].
    pub const HEADER_CHAIN: u8 = 36;
    /// What no packet has: the header of a fragment, as fragments are judged as the whole.
    pub const NOWHERE: u8 = 37;
}

/// Places of addresses.
pub mod address {
    pub const SOURCE: u8 = 0;
    pub const DESTINATION: u8 = 1;
    /// Of the connection's first packet.
    pub const CT_SOURCE: u8 = 2;
    pub const CT_DESTINATION: u8 = 3;
    /// The sender's Ethernet address, in the last 48 bits.
    pub const MAC: u8 = 4;
    /// Of the connection's replies.
    pub const CT_REPLY_SOURCE: u8 = 5;
    pub const CT_REPLY_DESTINATION: u8 = 6;
}

/// To whom a frame is addressed.
pub mod packet_type {
    pub const UNICAST: u32 = 1 << 0;
    pub const BROADCAST: u32 = 1 << 1;
    pub const MULTICAST: u32 = 1 << 2;
}

/// Kinds of addresses, numbered as iptables numbers them.
pub mod address_type {
    pub const UNICAST: u32 = 1 << 1;
    pub const LOCAL: u32 = 1 << 2;
    pub const BROADCAST: u32 = 1 << 3;
    pub const MULTICAST: u32 = 1 << 5;
}

/// What is known of a connection, numbered as the kernel numbers it.
pub mod ct_status {
    pub const EXPECTED: u32 = 1 << 0;
    pub const SEEN_REPLY: u32 = 1 << 1;
    pub const ASSURED: u32 = 1 << 2;
    pub const CONFIRMED: u32 = 1 << 3;
}

/// What `--ctstate` may ask for beside the state, as iptables numbers it.
pub mod ct_state {
    /// The connection's source is translated, or will be: SNAT.
    pub const SOURCE_TRANSLATED: u32 = 1 << 5;
    /// DNAT.
    pub const DESTINATION_TRANSLATED: u32 = 1 << 6;
}

const NUMBERS: usize = 64;
const ADDRESSES: usize = 8;
/// Bits of [`number::CT_PROTOCOL`] to [`number::CT_DPORT`], of [`number::CT_MARK`], and of the
/// reply direction's ports.
const CT_NUMBERS: u64 =
    0b11_1111 << number::CT_PROTOCOL | 1 << number::CT_MARK | 0b11 << number::CT_REPLY_SPORT;
/// Bits of [`address::CT_SOURCE`] and [`address::CT_REPLY_SOURCE`], and the next of each.
const CT_ADDRESSES: u32 = 0b11 << address::CT_SOURCE | 0b11 << address::CT_REPLY_SOURCE;

/// Numbers and addresses by their places.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Facts {
    pub now: Nanos,
    /// Of the packet's flow, and when that began, or begins.
    pub flow: FlowKey,
    pub flow_created: Nanos,
    numbers: [u32; NUMBERS],
    addresses: [Addr; ADDRESSES],
    /// A bit for each number that the packet has.
    known_numbers: u64,
    /// A bit for each address that the packet has.
    known_addresses: u32,
    pub(crate) options: OptionKinds,
    ends: Ends,
    /// Taken from the TTL when a chain behind routing is reached: the kernel takes it before
    /// FORWARD.
    pub(crate) hops: u32,
    /// As the packet came.
    pub(crate) came: Changeable,
    /// As it was routed.
    pub(crate) routed: Changeable,
    /// The smallest MTU of a SYN's way and the way back, where a rule asks for it.
    pub path_mtu: u32,
}

/// Facts that rules change, at some point of the walk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub(crate) struct Changeable {
    pub(crate) ttl: u32,
    pub(crate) tos: u32,
    pub(crate) mark: u32,
    pub(crate) ct_mark: u32,
    pub(crate) mss: u32,
    /// Bits of the first 32 kinds of TCP options.
    pub(crate) kinds: u32,
    pub(crate) length: u32,
    /// 1 when the TCP header has a segment size.
    pub(crate) has_mss: u32,
}

impl Default for Facts {
    fn default() -> Self {
        Self::zeroed()
    }
}

/// What sets ask of the transport header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Ends {
    /// Of ICMP both are its type and code, as in ip_set.
    pub sport: u16,
    pub dport: u16,
    pub protocol: u8,
    pub _pad: [u8; 3],
}

impl Facts {
    #[inline(always)]
    pub const fn port(&self, is_source: bool) -> u16 {
        if is_source { self.ends.sport } else { self.ends.dport }
    }

    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.ends.protocol
    }

    /// Of the packet.
    #[inline(always)]
    pub const fn family(&self) -> Family {
        self.address(address::SOURCE).family()
    }

    #[inline(always)]
    pub fn set_ends(&mut self, headers: &Headers) {
        let Tuple { sport, dport, protocol, .. } = headers.tuple;
        self.ends = Ends { sport, dport, protocol, _pad: [0; 3] };
        if matches!(protocol, protocol::ICMP | protocol::ICMPV6) {
            let kind = u16::from(headers.icmp_type) << 8 | u16::from(headers.icmp_code);
            (self.ends.sport, self.ends.dport) = (kind, kind);
        } else if !has_ports(protocol) {
            (self.ends.sport, self.ends.dport) = (0, 0);
        }
    }

    #[inline(always)]
    pub const fn number(&self, place: u8, is_routed: bool) -> u32 {
        let hops = if place == number::TTL && is_routed { self.hops } else { 0 };
        self.numbers[place as usize & (NUMBERS - 1)].saturating_sub(hops)
    }

    /// Bytes by which rules have made the packet longer than it came.
    #[inline(always)]
    pub(crate) const fn grown(&self) -> u32 {
        self.numbers[number::LENGTH as usize].saturating_sub(self.came.length)
    }

    /// How what rules change stands now.
    #[inline(always)]
    pub(crate) const fn changeable(&self) -> Changeable {
        Changeable {
            ttl: self.numbers[number::TTL as usize],
            tos: self.numbers[number::TOS as usize],
            mark: self.numbers[number::MARK as usize],
            ct_mark: self.numbers[number::CT_MARK as usize],
            mss: self.numbers[number::MSS as usize],
            kinds: self.numbers[number::TCP_OPTIONS as usize],
            length: self.numbers[number::LENGTH as usize],
            has_mss: (self.known_numbers >> number::MSS & 1) as u32,
        }
    }

    /// Notes how the packet came, once everything is known of it.
    #[inline(always)]
    pub const fn arrive(&mut self) {
        self.came = self.changeable();
        self.routed = self.came;
    }

    /// Takes back what rules have changed: another walk begins with the packet as it came.
    #[inline(always)]
    pub const fn restart(&mut self) {
        let Changeable { ttl, tos, mark, ct_mark, mss, kinds, length, has_mss } = self.came;
        self.numbers[number::TTL as usize] = ttl;
        self.numbers[number::TOS as usize] = tos;
        self.numbers[number::MARK as usize] = mark;
        self.numbers[number::CT_MARK as usize] = ct_mark;
        self.numbers[number::MSS as usize] = mss;
        self.numbers[number::TCP_OPTIONS as usize] = kinds;
        self.numbers[number::LENGTH as usize] = length;
        self.known_numbers &= !(1 << number::MSS);
        self.known_numbers |= (has_mss as u64) << number::MSS;
        self.routed = self.came;
    }

    /// Notes how the packet stands now that it is routed.
    #[inline(always)]
    pub(crate) const fn route(&mut self) {
        self.routed = self.changeable();
    }

    #[inline(always)]
    pub const fn address(&self, place: u8) -> Addr {
        self.addresses[place as usize & (ADDRESSES - 1)]
    }

    #[inline(always)]
    pub const fn has_number(&self, place: u8, is_tracked: bool) -> bool {
        let known = self.known_numbers & if is_tracked { u64::MAX } else { !CT_NUMBERS };
        known >> (place & 63) & 1 != 0
    }

    #[inline(always)]
    pub const fn has_address(&self, place: u8, is_tracked: bool) -> bool {
        let known = self.known_addresses & if is_tracked { u32::MAX } else { !CT_ADDRESSES };
        known >> (place & 31) & 1 != 0
    }

    #[inline(always)]
    pub const fn set_number(&mut self, place: u8, value: u32) {
        self.numbers[place as usize & (NUMBERS - 1)] = value;
        self.known_numbers |= 1 << (place & 63);
    }

    #[inline(always)]
    pub const fn set_address(&mut self, place: u8, value: Addr) {
        self.addresses[place as usize & (ADDRESSES - 1)] = value;
        self.known_addresses |= 1 << (place & 31);
    }

    /// Notes that the packet, which begins a flow, has other ends now than it came with: another
    /// destination, or another source port alone, of which the kernel says nothing yet.
    #[inline(always)]
    pub fn turn(&mut self, headers: &Headers, key: &FlowKey, wire: &Tuple) {
        self.flow = *key;
        self.set_address(address::DESTINATION, headers.tuple.dst);
        if wire.dst != headers.tuple.dst || wire.dport != headers.tuple.dport {
            self.translate(status::DESTINATION_TRANSLATED);
        }
        self.addresses[address::CT_REPLY_SOURCE as usize] = headers.tuple.dst;
        self.numbers[number::CT_REPLY_SPORT as usize] = headers.tuple.dport.into();
        if has_ports(headers.tuple.protocol) {
            self.set_number(number::SPORT, headers.tuple.sport.into());
            self.set_number(number::DPORT, headers.tuple.dport.into());
        }
        self.set_ends(headers);
    }

    /// Notes whether the TTL is taken one from before the chain is reached.
    #[inline(always)]
    pub(crate) fn settle_hops(&mut self, chain: Chain, headers: &Headers, hook: Hook) {
        let is_on_its_way = matches!(chain, Chain::Forward) && !matches!(hook, Hook::Egress);
        self.hops = u32::from(is_on_its_way && headers.ttl != 0);
    }

    /// What a packet's headers say, and where it was met.
    #[inline(always)]
    fn headers<P: Packet + ?Sized>(
        &mut self,
        packet: &P,
        headers: &Headers,
        chain: u8,
        hook: Hook,
    ) {
        self.known_numbers = 0;
        self.known_addresses = 0;
        self.settle_hops(Chain::from_byte(chain).unwrap_or(Chain::Input), headers, hook);
        self.set_number(number::LENGTH, headers.ip_len);
        self.set_number(number::TTL, headers.ttl.into());
        // What leaves by an interface of ours has been counted down.
        let has_hopped = chain == Chain::Forward as u8 && matches!(hook, Hook::Egress);
        self.set_number(number::ARRIVAL_TTL, u32::from(headers.ttl) + u32::from(has_hopped));
        self.set_number(number::TOS, headers.tos.into());
        self.set_number(number::MARK, packet.mark());
        self.set_number(number::PACKET_TYPE, packet.packet_type(headers));
        self.set_number(number::SOURCE_TYPE, source_type(&headers.tuple.src, chain));
        self.set_number(number::DESTINATION_TYPE, destination_type(headers, chain));
        if has_ports(headers.tuple.protocol) {
            self.set_number(number::SPORT, headers.tuple.sport.into());
            self.set_number(number::DPORT, headers.tuple.dport.into());
        }
        if matches!(headers.family(), Family::Ipv6) {
            self.set_number(number::HEADER_CHAIN, headers.header_chain().into());
        }
        if headers.routing_units != 0 {
            self.set_number(number::ROUTING_TYPE, headers.routing_type.into());
            self.set_number(number::ROUTING_LEFT, headers.routing_left.into());
            self.set_number(number::ROUTING_LENGTH, u32::from(headers.routing_units) * 8);
        }
        self.set_address(address::SOURCE, headers.tuple.src);
        self.set_address(address::DESTINATION, headers.tuple.dst);
        // What leaves has the address of the interface by which it does.
        if headers.l3 != 0 && !matches!(hook, Hook::Egress) {
            self.set_address(address::MAC, mac(headers.source_mac));
        }
        if chain == Chain::Output as u8
            && let Some(owner) = packet.owner()
        {
            self.set_number(number::OWNER, owner);
        }
    }

    /// What sets may ask of a packet of which the headers are known and nothing else.
    #[inline(always)]
    pub(crate) fn of_headers(&mut self, headers: &Headers, now: Nanos) {
        self.now = now;
        self.known_numbers = 0;
        self.known_addresses = 0;
        self.set_number(number::LENGTH, headers.ip_len);
        self.set_address(address::SOURCE, headers.tuple.src);
        self.set_address(address::DESTINATION, headers.tuple.dst);
        self.set_ends(headers);
    }

    /// The replies of the connection, by their tuple, and how it is translated.
    #[inline(always)]
    fn replies(&mut self, original: &Tuple, reply: &Tuple) {
        self.translate(translations(original, reply));
        self.set_address(address::CT_REPLY_SOURCE, reply.src);
        self.set_address(address::CT_REPLY_DESTINATION, reply.dst);
        self.numbers[number::CT_REPLY_SPORT as usize] = reply.sport.into();
        self.numbers[number::CT_REPLY_DPORT as usize] = reply.dport.into();
    }

    /// What is known of the connection, by its first packet's tuple.
    #[inline(always)]
    fn connection(
        &mut self,
        original: &Tuple,
        direction: Direction,
        status: u32,
        expires: u32,
        mark: u32,
    ) {
        self.set_address(address::CT_SOURCE, original.src);
        self.set_address(address::CT_DESTINATION, original.dst);
        self.numbers[number::CT_PROTOCOL as usize] = original.protocol.into();
        self.numbers[number::CT_STATUS as usize] = status;
        self.numbers[number::CT_EXPIRES as usize] = expires;
        self.numbers[number::CT_DIRECTION as usize] = direction as u32;
        self.numbers[number::CT_SPORT as usize] = original.sport.into();
        self.numbers[number::CT_DPORT as usize] = original.dport.into();
        self.numbers[number::CT_MARK as usize] = mark;
        self.known_numbers |= CT_NUMBERS;
    }

    /// Notes that the connection is translated: bits of [`status`].
    #[inline(always)]
    pub const fn translate(&mut self, bits: u8) {
        let mut state = 0;
        if bits & status::SOURCE_TRANSLATED != 0 {
            state |= ct_state::SOURCE_TRANSLATED;
        }
        if bits & status::DESTINATION_TRANSLATED != 0 {
            state |= ct_state::DESTINATION_TRANSLATED;
        }
        self.numbers[number::CT_TRANSLATED as usize] |= state;
    }

    /// The state, and how the connection is translated, if there is one.
    #[inline(always)]
    pub(super) const fn states(&self, asking: Asking) -> u32 {
        let translated = match asking.is_tracked {
            true => self.numbers[number::CT_TRANSLATED as usize],
            false => 0,
        };
        translated | asking.ctstate as u32
    }

    /// The options of the segment that [`Tables::scan_kinds`] has read.
    #[inline(always)]
    fn options(&mut self) {
        self.numbers[number::TCP_OPTIONS as usize..number::CT_MARK as usize]
            .copy_from_slice(&self.options.kinds);
        self.known_numbers |= 0xff << number::TCP_OPTIONS;
        if self.options.has_mss != 0 {
            self.set_number(number::MSS, self.options.mss.into());
        }
    }
}

/// Puts on the desk what the extra conditions of the ruleset may ask about its packet.
/// `flow` is that of the packet, which goes in this direction.
#[inline(always)]
pub fn gather<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    flow: Option<&Flow>,
    direction: Direction,
    hook: Hook,
    now: Nanos,
) {
    let needs = tables.ruleset(scratch.walk.slot).map_or(0, |header| header.needs);
    let Scratch { facts, headers, walk, key, .. } = scratch;
    facts.now = now;
    facts.flow = *key;
    facts.flow_created = now;
    facts.headers(packet, headers, walk.chain, hook);
    if needs & need::SETS != 0 {
        facts.set_ends(headers);
    }
    if needs & need::GROUP != 0
        && walk.chain == Chain::Output as u8
        && let Some(group) = packet.group()
    {
        facts.set_number(number::GROUP, group);
    }
    if needs & need::TCP_OPTIONS != 0 && headers.tuple.protocol == protocol::TCP {
        facts.options.begin(packet, headers);
        tables.scan_kinds(&mut facts.options);
        facts.options();
    }
    if needs & need::WINDOW != 0 {
        tables.keep_window(packet, headers.l3);
    }
    if needs & need::CLOCK != 0 {
        let clock = tables.clock();
        let seconds = clock.seconds(tables.tai());
        facts.set_number(number::TIME, seconds);
        facts.set_number(number::LOCAL_TIME, seconds.wrapping_add(clock.zone));
    }
    tracked(tables, scratch, flow, direction, now);
    scratch.facts.arrive();
}

#[inline(always)]
const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP)
}

/// A packet that is INVALID or UNTRACKED has no connection.
#[inline(always)]
fn tracked<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    flow: Option<&Flow>,
    direction: Direction,
    now: Nanos,
) {
    let ctstate = scratch.walk.ctstate;
    scratch.facts.set_number(number::CT_TRANSLATED, 0);
    if ctstate & (CtState::Invalid.bit() | CtState::Untracked.bit()) != 0 {
        return;
    }
    let Scratch { facts, headers, key, master_key, quoted, nat, .. } = scratch;
    if let Some(flow) = flow {
        facts.flow_created = flow.created;
        let original = flow.wire_original(key);
        let (status, expires) = (status_of(flow, direction), remaining(flow, now));
        facts.connection(&original, direction, status, expires, flow.mark);
        facts.replies(&original, &flow.wire_reply(key));
    } else if is_error(headers) {
        // The connection is that of the packet which the error quotes; the error goes the
        // other way than that one, and is no reply.
        let Some((_, flow)) = find(tables, key, now) else { return };
        facts.flow_created = flow.created;
        let inside = key.tuple(flow.originator());
        let original = flow.wire_original(key);
        let direction = if *quoted == inside { Direction::Reply } else { Direction::Original };
        let status = status_of(flow, Direction::Original);
        facts.connection(&original, direction, status, remaining(flow, now), flow.mark);
        facts.replies(&original, &flow.wire_reply(key));
    } else {
        let is_expected = ctstate == CtState::Related.bit();
        let status = if is_expected { ct_status::EXPECTED } else { 0 };
        // What was announced begins with the mark of the connection that announced it.
        let master = if is_expected { find(tables, master_key, now) } else { None };
        let mark = master.map_or(0, |(_, flow)| flow.mark);
        // What follows the connection that announced it is translated from the beginning.
        let original = if nat.has(done::LED) { &nat.wire } else { &headers.tuple };
        let mut reply = headers.tuple.reversed();
        if nat.has(done::FOLLOWS) {
            reply.dst = nat.leaving.src;
        }
        facts.connection(original, Direction::Original, status, 0, mark);
        facts.replies(original, &reply);
    }
}

#[inline(always)]
fn is_error(headers: &Headers) -> bool {
    let protocol = headers.tuple.protocol;
    matches!(protocol, protocol::ICMP | protocol::ICMPV6)
        && matches!(classify(protocol, headers.icmp_type), Class::Error)
}

/// As the kernel has it when the rules see the packet: a reply is a reply already.
#[inline(always)]
fn status_of(flow: &Flow, direction: Direction) -> u32 {
    let is_reply = matches!(direction, Direction::Reply);
    let mut bits = ct_status::CONFIRMED;
    if flow.has(status::EXPECTED) {
        bits |= ct_status::EXPECTED;
    }
    if flow.has(status::SEEN_REPLY) || is_reply {
        bits |= ct_status::SEEN_REPLY;
    }
    if flow.has(status::ASSURED) {
        bits |= ct_status::ASSURED;
    }
    bits
}

#[inline(always)]
const fn remaining(flow: &Flow, now: Nanos) -> u32 {
    flow.expires.since(now).as_secs() as u32
}

/// An Ethernet address as an address: its bytes are the last six.
#[inline(always)]
pub const fn mac(bytes: [u8; 6]) -> Addr {
    let [a, b, c, d, e, f] = bytes;
    let high = u32::from_ne_bytes([0, 0, a, b]);
    let low = u32::from_ne_bytes([c, d, e, f]);
    Addr { words: [0, 0, high, low] }
}

/// The kind of address that can be told without asking the routing table: which one
/// came in and stays is this host's, which one leaves has its source from it.
#[inline(always)]
fn source_type(address: &Addr, chain: u8) -> u32 {
    match group(address) {
        0 if chain == Chain::Output as u8 || is_loopback(address) => own(address),
        0 => address_type::UNICAST,
        kind => kind,
    }
}

#[inline(always)]
fn destination_type(headers: &Headers, chain: u8) -> u32 {
    let address = &headers.tuple.dst;
    match group(address) {
        // A network's own broadcast address is told by the frame that bears it.
        0 if chain == Chain::Input as u8
            && headers.l3 != 0
            && headers.destination_mac == [0xff; 6]
            && matches!(headers.family(), Family::Ipv4) =>
        {
            address_type::BROADCAST
        }
        0 if chain == Chain::Input as u8 || is_loopback(address) => own(address),
        0 => address_type::UNICAST,
        kind => kind,
    }
}

/// One of this host's; in IPv6 it is a unicast address besides.
#[inline(always)]
fn own(address: &Addr) -> u32 {
    match address.family() {
        Family::Ipv4 => address_type::LOCAL,
        Family::Ipv6 => address_type::LOCAL | address_type::UNICAST,
    }
}

/// Multicast and broadcast by the address itself, 0 for neither. `0.0.0.0/8` counts as
/// broadcast, as in the kernel.
#[inline(always)]
fn group(address: &Addr) -> u32 {
    let [first, .., last] = address.words;
    let top = u32::from_be(last) >> 24;
    match address.family() {
        Family::Ipv4 if matches!(top, 224..240) => address_type::MULTICAST,
        Family::Ipv4 if top == 0 || last == u32::MAX => address_type::BROADCAST,
        Family::Ipv6 if u32::from_be(first) >> 24 == 0xff => address_type::MULTICAST,
        _ => 0,
    }
}

#[inline(always)]
fn is_loopback(address: &Addr) -> bool {
    const V6: [u32; 4] = [0, 0, 0, 1u32.to_be()];
    let [.., last] = address.words;
    match address.family() {
        Family::Ipv4 => u32::from_be(last) >> 24 == 127,
        Family::Ipv6 => address.words == V6,
    }
}

/// To whom a frame is addressed, by the Ethernet address that it bears.
#[inline(always)]
pub fn packet_type_of(headers: &Headers) -> u32 {
    match headers.destination_mac {
        _ if headers.l3 == 0 => packet_type::UNICAST,
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => packet_type::BROADCAST,
        [first, ..] if first & 1 != 0 => packet_type::MULTICAST,
        _ => packet_type::UNICAST,
    }
}
