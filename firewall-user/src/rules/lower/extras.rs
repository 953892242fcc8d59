//! Matches with options of their own as records of [`firewall_common::extra`].

use std::net::IpAddr;

use firewall_common::{
    addr::{Addr, Family},
    extra::{
        Extra as Record, Test,
        bucket::{group_id, mode},
        calendar,
        facts::{address, ct_status, mac, number, packet_type},
        recent::{action, list_id},
    },
    flow::Direction,
    nat,
    rule::PortRange,
    set::{
        Question,
        ask::{compare, option},
        change::Order,
    },
};

use crate::rules::{
    ast::{Condition, Network},
    extra::{
        Action, Comparison, ConnLimit, Extra, Fact, HashLimit, HeaderChain, Limit, Masked,
        PacketType, Rate, Recent, Text, Time, Way,
    },
    set::{Compared, SetMatch, SetPart, SetTarget},
};

/// Whether what a fact asks for is the same for all packets of one direction of a
/// connection between the same interfaces.
pub(in crate::rules) const fn is_constant(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::SourceRange(..)
            | Fact::DestinationRange(..)
            | Fact::SourceType(_)
            | Fact::DestinationType(_)
            | Fact::CtState(_)
            | Fact::CtProtocol(_)
            | Fact::CtAddress(..)
            | Fact::CtPort(..)
            | Fact::CtDirection(_)
    ) || matches!(fact, Fact::CtStatus(status) if is_constant_status(*status))
}

/// What is asked of a connection of which both sides have been heard: that alone, or what
/// it was from its beginning. It is assured at some time.
const fn is_constant_status(status: u32) -> bool {
    status & (ct_status::SEEN_REPLY | ct_status::CONFIRMED) != 0 || status & ct_status::ASSURED == 0
}

/// The records of a match; `--ctstate` has its place in the rule itself.
pub(super) fn records(extra: &Extra) -> Vec<Record> {
    let has_state = extra.facts.iter().any(|fact| matches!(fact.value, Fact::CtState(_)));
    extra.facts.iter().filter_map(|fact| record(fact, has_state)).collect()
}

/// As iptables judges a packet that does not have what is asked for: a connection with
/// `--ctstate` leaves all to the state; a TCP option that is not there is not one.
fn record(Condition { negated, value }: &Condition<Fact>, has_state: bool) -> Option<Record> {
    let record = plain(value)?;
    let absent = match value {
        Fact::SocketExists | Fact::Uid(..) | Fact::Gid(..) | Fact::Mss(..) => *negated,
        _ => has_state,
    };
    // What asks for more than so much says so by itself.
    let invert = record.invert ^ u8::from(*negated);
    Some(Record { invert, absent: u8::from(absent), ..record })
}

fn plain(fact: &Fact) -> Option<Record> {
    Some(match *fact {
        Fact::Length(first, last) => range(number::LENGTH, first.into(), last.into()),
        Fact::Ttl(Comparison::Equal, ttl) => range(number::TTL, ttl.into(), ttl.into()),
        // Nothing is below 0 or above 255: such a range is empty.
        Fact::Ttl(Comparison::Below, 0) => range(number::TTL, 1, 0),
        Fact::Ttl(Comparison::Below, ttl) => range(number::TTL, 0, u32::from(ttl) - 1),
        Fact::Ttl(Comparison::Above, ttl) => range(number::TTL, u32::from(ttl) + 1, 255),
        Fact::Tos(tos) => masked(number::TOS, tos),
        Fact::Dscp(dscp) => masked(number::TOS, Masked { value: u32::from(dscp) << 2, mask: 0xfc }),
        Fact::SourceRange(first, last) => between(address::SOURCE, first, last),
        Fact::DestinationRange(first, last) => between(address::DESTINATION, first, last),
        Fact::Mac(bytes) => network(address::MAC, mac(bytes), mac([0xff; 6])),
        Fact::PacketType(kind) => any(number::PACKET_TYPE, packet_type_bit(kind)),
        Fact::SourceType(types) => any(number::SOURCE_TYPE, types),
        Fact::DestinationType(types) => any(number::DESTINATION_TYPE, types),
        Fact::Mark(mark) => masked(number::MARK, mark),
        Fact::CtMark(mark) => masked(number::CT_MARK, mark),
        Fact::Uid(first, last) => range(number::OWNER, first, last),
        Fact::Gid(first, last) => range(number::GROUP, first, last),
        Fact::SocketExists => range(number::OWNER, 0, u32::MAX),
        Fact::CtState(_) => return None,
        Fact::CtProtocol(protocol) => range(number::CT_PROTOCOL, protocol.into(), protocol.into()),
        Fact::CtAddress(way, of) => ct_address(way, of),
        Fact::CtPort(way, PortRange { first, last }) => {
            let place = match way {
                Way::OriginalSource => number::CT_SPORT,
                Way::OriginalDestination => number::CT_DPORT,
                Way::ReplySource => number::CT_REPLY_SPORT,
                Way::ReplyDestination => number::CT_REPLY_DPORT,
            };
            range(place, first.into(), last.into())
        }
        Fact::CtStatus(status) => any(number::CT_STATUS, status),
        Fact::CtExpire(first, last) => range(number::CT_EXPIRES, first, last),
        Fact::CtDirection(direction) => {
            let direction = u32::from(direction == Direction::Reply);
            range(number::CT_DIRECTION, direction, direction)
        }
        Fact::Mss(first, last) => range(number::MSS, first.into(), last.into()),
        Fact::RoutingType(first, last) => range(number::ROUTING_TYPE, first, last),
        Fact::RoutingLeft(first, last) => range(number::ROUTING_LEFT, first, last),
        Fact::RoutingLength(bytes) => range(number::ROUTING_LENGTH, bytes, bytes),
        Fact::Random(times) => with(Test::Random, 0, [times, 0, 0, 0]),
        Fact::Nth { every, packet } => with(Test::Nth, 0, [every, packet, 0, 0]),
        Fact::Limit(limit) => bucket(limit),
        Fact::Recent(ref one) => recent(one),
        Fact::HashLimit(ref one) => hashlimit(one),
        Fact::ConnLimit(one) => connlimit(one),
        Fact::Time(ref one) => time(one),
        Fact::HeaderChain(one) => header_chain(one),
        Fact::Fragment(_) => range(number::NOWHERE, 0, u32::MAX),
        // The pattern's index is added by [`name_pattern`].
        Fact::Text(ref one) => with(Test::Text, 0, [one.from.into(), end_of(one), 0, 0]),
    })
}

/// As ip6tables has it: `!` with `--soft` is that none of them is there.
const fn header_chain(one: HeaderChain) -> Record {
    let headers = one.headers as u32;
    let found = if one.negated { 0 } else { headers };
    match one.is_soft {
        true => masked(number::HEADER_CHAIN, Masked { value: found, mask: headers }),
        false => {
            let all = range(number::HEADER_CHAIN, headers, headers);
            Record { invert: one.negated as u8, ..all }
        }
    }
}

/// `--tcp-option`
pub(super) fn tcp_option(Condition { negated, value }: Condition<u8>) -> Record {
    let bit = any(number::TCP_OPTIONS + (value >> 5), 1 << (value & 31));
    Record { invert: u8::from(negated), absent: u8::from(negated), ..bit }
}

const fn with(test: Test, subject: u8, [a, b, c, d]: [u32; 4]) -> Record {
    let arguments = [a, b, c, d, 0, 0, 0, 0];
    Record { test: test as u8, subject, invert: 0, absent: 0, arguments }
}

const fn range(subject: u8, first: u32, last: u32) -> Record {
    with(Test::Range, subject, [first, last, 0, 0])
}

const fn masked(subject: u8, Masked { value, mask }: Masked) -> Record {
    with(Test::Masked, subject, [value, mask, 0, 0])
}

const fn any(subject: u8, bits: u32) -> Record {
    with(Test::Any, subject, [bits, 0, 0, 0])
}

fn between(subject: u8, first: IpAddr, last: IpAddr) -> Record {
    let mut record = with(Test::Between, subject, host_order(first));
    record.arguments[4..].copy_from_slice(&host_order(last));
    record
}

fn host_order(address: IpAddr) -> [u32; 4] {
    Addr::from(address).words.map(u32::from_be)
}

fn network(subject: u8, prefix: Addr, mask: Addr) -> Record {
    let mut record = with(Test::Network, subject, prefix.and(mask).words);
    record.arguments[4..].copy_from_slice(&mask.words);
    record
}

/// The bits of an address that a mask leaves; those that all of IPv4 share are known.
fn mask_of(mask: IpAddr) -> Addr {
    match mask {
        IpAddr::V4(mask) => {
            let [a, b, c, _] = Addr::mask(Family::Ipv4, 0).words;
            Addr { words: [a, b, c, u32::from_ne_bytes(mask.octets())] }
        }
        IpAddr::V6(mask) => mask.into(),
    }
}

fn recent(one: &Recent) -> Record {
    let what = match one.action {
        Action::Set => action::SET,
        Action::Check => action::CHECK,
        Action::Update => action::UPDATE,
        Action::Remove => action::REMOVE,
    };
    let flags = [
        (one.is_destination, action::DESTINATION),
        (one.ttl, action::TTL),
        (one.reap, action::REAP),
    ];
    let subject = flags.iter().filter(|(is_set, _)| *is_set).fold(what, |all, (_, bit)| all | bit);
    let list = list_id(&one.name);
    let mut record =
        with(Test::Recent, subject, [list as u32, (list >> 32) as u32, one.seconds, one.hits]);
    record.arguments[4..].copy_from_slice(&mask_of(one.mask).words);
    record
}

fn ct_address(way: Way, of: Network) -> Record {
    let place = match way {
        Way::OriginalSource => address::CT_SOURCE,
        Way::OriginalDestination => address::CT_DESTINATION,
        Way::ReplySource => address::CT_REPLY_SOURCE,
        Way::ReplyDestination => address::CT_REPLY_DESTINATION,
    };
    network(place, of.address.into(), mask_of(of.mask))
}

const fn packet_type_bit(kind: PacketType) -> u32 {
    match kind {
        PacketType::Unicast => packet_type::UNICAST,
        PacketType::Broadcast => packet_type::BROADCAST,
        PacketType::Multicast => packet_type::MULTICAST,
    }
}

/// `-m set`; its slot is not known yet.
pub(super) fn set(set: &SetMatch) -> Record {
    let compared = |compared: Option<Compared>| {
        compared.map_or((compare::NONE, 0), |compared| (compared.how, compared.value))
    };
    let options = [
        (set.return_nomatch, option::RETURN_NOMATCH),
        (set.skips_counters, option::SKIP_COUNTERS),
        (set.skips_subcounters, option::SKIP_SUBCOUNTERS),
    ];
    let question = Question {
        slot: 0,
        sources: set.set.sources.into(),
        dimensions: set.set.dimensions.into(),
        options: options.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, bit)| all | bit),
        packets: compared(set.packets),
        bytes: compared(set.bytes),
    };
    Record {
        test: Test::Set as u8,
        subject: 0,
        invert: u8::from(set.negated),
        absent: 0,
        arguments: question.pack(),
    }
}

/// `--ctstate` with SNAT or DNAT, which a packet has beside its state.
pub(super) fn states(negated: bool, states: u8) -> Record {
    Record { invert: u8::from(negated), ..with(Test::State, 0, [states.into(), 0, 0, 0]) }
}

/// The addresses of a target of table nat.
pub(super) fn order(order: &nat::Order) -> Record {
    let arguments = order.words();
    Record { test: Test::Order as u8, subject: 0, invert: 0, absent: 0, arguments }
}

/// The port from which a target of table nat counts.
pub(super) fn base(port: u16) -> Record {
    let arguments = [port.into(), 0, 0, 0, 0, 0, 0, 0];
    Record { test: Test::Order as u8, subject: 0, invert: 0, absent: 0, arguments }
}

/// `-j SET`; its slots are not known yet.
pub(super) fn set_target(target: &SetTarget) -> Record {
    let side = |part: &Option<SetPart>| {
        part.as_ref().map(|part| (0, part.sources.into(), part.dimensions.into()))
    };
    let order = Order {
        add: side(&target.add),
        del: side(&target.del),
        exist: target.exist,
        timeout: target.timeout,
    };
    Record { test: Test::Set as u8, subject: 0, invert: 0, absent: 0, arguments: order.pack() }
}

/// Nanoseconds for one packet, and for the burst.
fn bucket(Limit { period, burst }: Limit) -> Record {
    let cost = u64::from(period) * (1_000_000_000 / u64::from(Limit::SCALE));
    let burst = cost.saturating_mul(burst.into());
    let words = [cost as u32, (cost >> 32) as u32, burst as u32, (burst >> 32) as u32];
    with(Test::Limit, 0, words)
}

/// A bucket for each: what a packet costs, and what may be spent at once.
fn hashlimit(one: &HashLimit) -> Record {
    const SECOND: u64 = 1_000_000_000;
    let (cost, burst, unit) = match one.rate {
        Rate::Packets { period, burst } => {
            let cost = period.saturating_mul(SECOND / Rate::SCALE);
            (cost, cost.saturating_mul(burst.into()), 0)
        }
        Rate::Bytes { per_second, burst } => {
            let cost = (SECOND << 10) / per_second.max(1);
            let at_once = burst.max(per_second);
            (cost, (cost >> 10).max(1).saturating_mul(at_once), mode::BYTES)
        }
    };
    let group = group_id(&one.name, one.whole > 32);
    // The bits that all of IPv4 have in common.
    let common = if one.whole > 32 { 0 } else { 96 };
    let [src, dst] = [one.src_mask, one.dst_mask].map(|bits| u32::from(bits) + common);
    let words = [group, cost, burst].map(|word| [word as u32, (word >> 32) as u32]);
    let [[a, b], [c, d], [e, f]] = words;
    Record {
        test: Test::Bucket as u8,
        subject: one.mode | unit,
        invert: u8::from(one.is_above),
        absent: 0,
        arguments: [a, b, c, d, e, f, src | dst << 8, 0],
    }
}

/// Whose connections are counted, and how many there may be; the rule's number is added
/// by [`name_rule`].
fn connlimit(one: ConnLimit) -> Record {
    let place = if one.is_destination { address::DESTINATION } else { address::SOURCE };
    let family = if one.whole > 32 { Family::Ipv6 } else { Family::Ipv4 };
    let mut record = with(Test::Connections, place, [0, 0, one.limit, 0]);
    record.invert = u8::from(!one.is_above);
    record.arguments[4..].copy_from_slice(&Addr::mask(family, one.mask).words);
    record
}

/// Tells a record that counts connections for which rule it does.
pub(super) fn name_rule(records: &mut [Record], rule: u64) {
    for record in records.iter_mut().filter(|one| one.test == Test::Connections as u8) {
        record.arguments[0] = rule as u32;
        record.arguments[1] = (rule >> 32) as u32;
    }
}

fn time(one: &Time) -> Record {
    let zone = if one.is_local { calendar::flag::LOCAL } else { 0 };
    let over_midnight = if one.is_contiguous { calendar::flag::CONTIGUOUS } else { 0 };
    let [date_first, date_last] = one.dates;
    // What has no end goes on when that second is over.
    let date_last = if date_last == Time::LAST_DATE { u32::MAX } else { date_last };
    let [first, last] = one.hours;
    let mut record = with(Test::Time, zone | over_midnight, [date_first, date_last, first, last]);
    (record.arguments[4], record.arguments[5]) = (one.monthdays, one.weekdays);
    record
}

const fn end_of(one: &Text) -> u32 {
    if one.to == u16::MAX { u32::MAX } else { one.to as u32 }
}

/// Tells a record that searches the packet for which pattern it does.
pub(super) const fn name_pattern(record: &mut Record, index: u32) {
    record.arguments[2] = index;
}
