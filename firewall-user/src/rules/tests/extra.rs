//! Matches with options of their own: random ones, packets for them, and what is right
//! by the plainest means.

use std::net::IpAddr;

use firewall_common::{
    addr::Family,
    extra::{
        Facts,
        calendar::{ALL_MONTHDAYS, ALL_WEEKDAYS},
        facts::{address, ct_status, mac, number},
    },
    flow::{Direction, Tuple},
    rule::PortRange,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{interpreter::Subject, mangle::PATH_MTU, random};
use crate::rules::{
    ast::{Condition, DNAT, Match, Network, SNAT},
    extra::{
        ADDRESS_TYPES, Action, Algorithm, Comparison, ConnLimit, Extra, ExtraKind, Fact,
        FragmentHeader, HashLimit, HeaderChain, KeyedTable, Limit, Masked, More, PacketType, Rate,
        Recent, Text, Time, Way,
    },
};

/// What is known of a packet beside its headers.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) mark: u32,
    pub(super) ct_mark: u32,
    /// The user and the group.
    owner: Option<(u32, u32)>,
    mac: Option<[u8; 6]>,
    pub(super) mss: Option<u16>,
    /// Kinds.
    pub(super) options: Vec<u8>,
    routing: Option<u8>,
    /// Bits of its headers in IPv6.
    chain: Option<u8>,
    packet_type: PacketType,
    /// Of source and destination.
    types: [u32; 2],
    direction: Direction,
    status: u32,
    expires: u32,
    /// [`SNAT`] and [`DNAT`].
    translated: u8,
}

impl Seen {
    /// Those whose place in the compiled form the datapath fills.
    pub(super) fn facts(&self, subject: &Subject) -> Facts {
        let mut facts = Facts::default();
        let (headers, original) = (&subject.headers, self.original(subject));
        let kinds = (0..8).map(|word| {
            let of_word = self.options.iter().filter(|kind| *kind >> 5 == word);
            (
                number::TCP_OPTIONS + word,
                Some(of_word.fold(0, |bits, kind| bits | 1 << (kind & 31))),
            )
        });
        let numbers = [
            (number::LENGTH, Some(headers.ip_len)),
            (number::TTL, Some(headers.ttl.into())),
            (number::TOS, Some(headers.tos.into())),
            (number::MARK, Some(self.mark)),
            (number::CT_MARK, Some(self.ct_mark)),
            (number::OWNER, self.owner.map(|(user, _)| user)),
            (number::GROUP, self.owner.map(|(_, group)| group)),
            (number::MSS, self.mss.map(u32::from)),
            (number::ROUTING_TYPE, self.routing.map(u32::from)),
            // As many nodes as the number of the type, and one unit more.
            (number::ROUTING_LEFT, self.routing.map(u32::from)),
            (number::ROUTING_LENGTH, self.routing.map(|kind| (u32::from(kind) + 1) * 8)),
            (number::HEADER_CHAIN, self.chain.map(u32::from)),
            (number::PACKET_TYPE, Some(1 << self.packet_type as u32)),
            (number::SOURCE_TYPE, Some(self.types[0])),
            (number::DESTINATION_TYPE, Some(self.types[1])),
            (number::CT_PROTOCOL, Some(original.protocol.into())),
            (number::CT_STATUS, Some(self.status)),
            (number::CT_EXPIRES, Some(self.expires)),
            (number::CT_TRANSLATED, Some(self.translated.into())),
            (number::CT_DIRECTION, Some(self.direction as u32)),
            (number::CT_SPORT, Some(original.sport.into())),
            (number::CT_DPORT, Some(original.dport.into())),
            (number::CT_REPLY_SPORT, Some(original.dport.into())),
            (number::CT_REPLY_DPORT, Some(original.sport.into())),
        ];
        for (place, value) in numbers.into_iter().chain(kinds) {
            if let Some(value) = value {
                facts.set_number(place, value);
            }
        }
        facts.set_address(address::SOURCE, headers.tuple.src);
        facts.set_address(address::DESTINATION, headers.tuple.dst);
        facts.set_address(address::CT_SOURCE, original.src);
        facts.set_address(address::CT_DESTINATION, original.dst);
        facts.set_address(address::CT_REPLY_SOURCE, original.dst);
        facts.set_address(address::CT_REPLY_DESTINATION, original.src);
        if let Some(bytes) = self.mac {
            facts.set_address(address::MAC, mac(bytes));
        }
        facts.path_mtu = PATH_MTU;
        facts
    }

    /// Of another packet of this one's connection and direction, whose both sides have been
    /// heard: what it was from its beginning stays.
    pub(super) fn later(&self, other: &Self) -> Self {
        let begun = self.status & ct_status::EXPECTED;
        let now = other.status & ct_status::ASSURED;
        Self {
            types: self.types,
            translated: self.translated,
            direction: self.direction,
            status: begun | now | ct_status::SEEN_REPLY | ct_status::CONFIRMED,
            ..other.clone()
        }
    }

    fn original(&self, subject: &Subject) -> Tuple {
        match self.direction {
            Direction::Original => subject.headers.tuple,
            Direction::Reply => subject.headers.tuple.reversed(),
        }
    }
}

/// What `--ctstate` may name of a packet.
pub(super) fn states_of(subject: &Subject) -> u8 {
    let has_connection = subject.state & (1 | 2 | 4) != 0;
    subject.state | if has_connection { subject.seen.translated } else { 0 }
}

pub(super) fn fits(extra: &Extra, subject: &Subject) -> bool {
    let holds = |fact: &Condition<Fact>| fits_fact(extra.kind, fact, subject);
    if extra.kind != ExtraKind::Conntrack {
        return extra.facts.iter().all(holds);
    }
    let (state, others): (Vec<_>, Vec<_>) =
        extra.facts.iter().partition(|fact| matches!(fact.value, Fact::CtState(_)));
    let has_connection = subject.state & (1 | 2 | 4) != 0;
    let state_fits = state.iter().all(|fact: &&Condition<Fact>| {
        let Fact::CtState(states) = fact.value else { return false };
        subject.state != 0 && fact.negated != (states & states_of(subject) != 0)
    });
    state_fits
        && match has_connection {
            true => others.into_iter().all(holds),
            false => !state.is_empty(),
        }
}

fn fits_fact(
    kind: ExtraKind,
    Condition { negated, value }: &Condition<Fact>,
    subject: &Subject,
) -> bool {
    let (headers, seen) = (&subject.headers, &subject.seen);
    let original = seen.original(subject);
    let (source, destination) = (headers.tuple.src.to_ip(), headers.tuple.dst.to_ip());
    let test = match *value {
        Fact::Length(first, last) => (u32::from(first)..=u32::from(last)).contains(&headers.ip_len),
        Fact::Ttl(Comparison::Equal, hops) => headers.ttl == hops,
        Fact::Ttl(Comparison::Below, hops) => headers.ttl < hops,
        Fact::Ttl(Comparison::Above, hops) => headers.ttl > hops,
        Fact::Tos(Masked { value, mask }) => u32::from(headers.tos) & mask == value,
        Fact::Dscp(value) => headers.tos >> 2 == value,
        Fact::SourceRange(first, last) => (first..=last).contains(&source),
        Fact::DestinationRange(first, last) => (first..=last).contains(&destination),
        Fact::PacketType(kind) => seen.packet_type == kind,
        Fact::SourceType(types) => seen.types[0] & types != 0,
        Fact::DestinationType(types) => seen.types[1] & types != 0,
        Fact::Mark(Masked { value, mask }) => seen.mark & mask == value,
        // A packet without a connection never fits, negated or not.
        Fact::CtMark(_) if subject.state & (1 | 2 | 4) == 0 => return false,
        Fact::CtMark(Masked { value, mask }) => seen.ct_mark & mask == value,
        // A packet that does not have it never fits, negated or not.
        Fact::Mac(bytes) => return seen.mac.is_some_and(|mac| *negated != (mac == bytes)),
        Fact::RoutingLength(bytes) => {
            let length = |kind| (u32::from(kind) + 1) * 8;
            return seen.routing.is_some_and(|kind| *negated != (length(kind) == bytes));
        }
        Fact::RoutingType(first, last) | Fact::RoutingLeft(first, last) => {
            let within = |kind| (first..=last).contains(&u32::from(kind));
            return seen.routing.is_some_and(|kind| *negated != within(kind));
        }
        Fact::HeaderChain(HeaderChain { headers, is_soft, negated }) => {
            let Some(chain) = seen.chain else { return false };
            return match (is_soft, negated) {
                (false, _) => negated != (chain == headers),
                (true, false) => chain & headers == headers,
                (true, true) => chain & headers == 0,
            };
        }
        Fact::Fragment(_) => return false,
        Fact::Uid(first, last) => seen.owner.is_some_and(|(uid, _)| (first..=last).contains(&uid)),
        Fact::Gid(first, last) => seen.owner.is_some_and(|(_, gid)| (first..=last).contains(&gid)),
        Fact::SocketExists => seen.owner.is_some(),
        Fact::Mss(first, last) => seen.mss.is_some_and(|mss| (first..=last).contains(&mss)),
        Fact::CtProtocol(protocol) => original.protocol == protocol,
        Fact::CtAddress(way, Network { address, mask }) => {
            let own = match way {
                Way::OriginalSource | Way::ReplyDestination => original.src,
                Way::OriginalDestination | Way::ReplySource => original.dst,
            };
            let (own, mask, address) = (own.to_ip(), mask, address);
            match (own, mask, address) {
                (IpAddr::V4(own), IpAddr::V4(mask), IpAddr::V4(address)) => own & mask == address,
                (IpAddr::V6(own), IpAddr::V6(mask), IpAddr::V6(address)) => own & mask == address,
                _ => false,
            }
        }
        Fact::CtPort(way, PortRange { first, last }) => {
            let own = match way {
                Way::OriginalSource | Way::ReplyDestination => original.sport,
                Way::OriginalDestination | Way::ReplySource => original.dport,
            };
            (first..=last).contains(&own)
        }
        Fact::CtStatus(status) => seen.status & status != 0,
        Fact::CtExpire(first, last) => (first..=last).contains(&seen.expires),
        Fact::CtDirection(direction) => seen.direction == direction,
        Fact::CtState(_)
        | Fact::Random(_)
        | Fact::Nth { .. }
        | Fact::Limit(_)
        | Fact::Recent(_)
        | Fact::HashLimit(_)
        | Fact::ConnLimit(_)
        | Fact::Time(_)
        | Fact::Text(_) => {
            panic!("{kind:?} is judged elsewhere")
        }
    };
    *negated != test
}

pub(super) fn has_option(kind: u8, subject: &Subject) -> bool {
    subject.seen.options.contains(&kind)
}

pub(super) fn seen() -> impl Strategy<Value = Seen> {
    let packet_type =
        select(vec![PacketType::Unicast, PacketType::Broadcast, PacketType::Multicast]);
    let own = (
        (0..3u32, 0..3u32),
        option::of((0..3u32, 0..3u32)),
        option::of(select(MACS.to_vec())),
        packet_type,
    );
    let options = (option::of(select(vec![536, 1460])), vec(select(vec![2, 3, 8, 40, 254]), 0..3));
    let types = [0, 1].map(|_| select(ADDRESS_TYPES.map(|(_, bit)| bit).to_vec()));
    let direction = select(vec![Direction::Original, Direction::Reply]);
    let translated = select(vec![0, 0, SNAT, DNAT, SNAT | DNAT]);
    let connection = (direction, 0..16u32, 0..4u32, translated);
    let headers = (option::of(0..3u8), option::of(select(CHAINS.to_vec())));
    (own, options, headers, types, connection).prop_map(
        |(
            ((mark, ct_mark), owner, mac, packet_type),
            (mss, options),
            (routing, chain),
            types,
            connection,
        )| {
            let (direction, status, expires, translated) = connection;
            Seen {
                mark,
                ct_mark,
                owner,
                mac,
                mss,
                options,
                routing,
                chain,
                packet_type,
                types,
                direction,
                status,
                expires,
                translated,
            }
        },
    )
}

const MACS: [[u8; 6]; 2] = [[0, 0, 0x5e, 0, 0x53, 1], [0, 0, 0x5e, 0, 0x53, 0xff]];

fn pair(most: u32) -> impl Strategy<Value = (u32, u32)> {
    (0..=most, 0..=most).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn one(kind: ExtraKind, fact: impl Strategy<Value = Fact> + 'static) -> BoxedStrategy<Extra> {
    let fact = random::condition(fact);
    fact.prop_map(move |fact| Extra { kind, facts: vec![fact] }).boxed()
}

/// Any that judges a packet by itself: what keeps something in mind has its own tests.
pub(super) fn extra(family: Family) -> BoxedStrategy<Extra> {
    let ttl = match family {
        Family::Ipv4 => ExtraKind::Ttl,
        Family::Ipv6 => ExtraKind::HopLimit,
    };
    let hops = (select(vec![Comparison::Equal, Comparison::Below, Comparison::Above]), 0..4u8);
    let hops =
        random::condition(hops).prop_map(move |Condition { negated, value: (how, hops) }| {
            let negated = negated && how == Comparison::Equal;
            Extra { kind: ttl, facts: vec![Condition { negated, value: Fact::Ttl(how, hops) }] }
        });
    let length = pair(100).prop_map(|(a, b)| Fact::Length(a as u16, b as u16));
    let tos = (0..4u32, 0..4u32).prop_map(|(value, mask)| Fact::Tos(Masked { value, mask }));
    let mark = (0..4u32, select(vec![u32::MAX, 1, 2]))
        .prop_map(|(value, mask)| Fact::Mark(Masked { value, mask }));
    let ct_mark = mark.clone().prop_map(|fact| match fact {
        Fact::Mark(mark) => Fact::CtMark(mark),
        other => other,
    });
    let packet_type =
        select(vec![PacketType::Unicast, PacketType::Broadcast, PacketType::Multicast]);
    let mss = select(vec![(536, 536), (1, 1000), (1460, 9000)]);
    let uid = pair(2).prop_map(|(first, last)| Fact::Uid(first, last));
    let gid = pair(2).prop_map(|(first, last)| Fact::Gid(first, last));
    let mut all = vec![
        hops.boxed(),
        one(ExtraKind::Length, length),
        one(ExtraKind::Tos, tos),
        one(ExtraKind::Dscp, (0..2u8).prop_map(Fact::Dscp)),
        one(ExtraKind::Mark, mark.clone()),
        one(ExtraKind::ConnMark, ct_mark),
        one(ExtraKind::PacketType, packet_type.prop_map(Fact::PacketType)),
        ranges(family),
        types(),
        conntrack(family),
        one(ExtraKind::TcpMss, mss.prop_map(|(first, last)| Fact::Mss(first, last))),
        one(ExtraKind::Owner, prop_oneof![uid, gid, Just(Fact::SocketExists)]),
        one(ExtraKind::Mac, select(MACS.to_vec()).prop_map(Fact::Mac)),
    ];
    if family == Family::Ipv6 {
        let kind = pair(2).prop_map(|(first, last)| Fact::RoutingType(first, last));
        let left = pair(2).prop_map(|(first, last)| Fact::RoutingLeft(first, last));
        let length = (1..3u32).prop_map(|units| Fact::RoutingLength(units * 8));
        all.push(one(ExtraKind::Routing, prop_oneof![kind, left, length]));
        all.push(header_chain());
        all.push(fragment());
    }
    proptest::strategy::Union::new(all).boxed()
}

/// Few headers, so that packets have them, too.
const CHAINS: [u8; 4] = [0x01, 0x41, 0x81, 0xc1];

fn header_chain() -> BoxedStrategy<Extra> {
    let headers = prop_oneof![select(CHAINS.to_vec()), 1..=u8::MAX];
    let fact = (headers, any::<bool>(), any::<bool>()).prop_map(|(headers, is_soft, negated)| {
        Fact::HeaderChain(HeaderChain { headers, is_soft, negated })
    });
    single(ExtraKind::HeaderChain, fact)
}

fn fragment() -> BoxedStrategy<Extra> {
    let length = option::of((any::<bool>(), 0..2u32));
    let more = option::of(prop_oneof![Just(More::Yes), Just(More::No)]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let fact = (pair(2), length, more, flags).prop_map(|(ids, length, more, flags)| {
        let (ids_negated, is_reserved, is_first) = flags;
        Fact::Fragment(FragmentHeader { ids, ids_negated, length, is_reserved, is_first, more })
    });
    single(ExtraKind::Fragment, fact)
}

fn single(kind: ExtraKind, fact: impl Strategy<Value = Fact> + 'static) -> BoxedStrategy<Extra> {
    let facts = fact.prop_map(|value| vec![Condition { negated: false, value }]);
    facts.prop_map(move |facts| Extra { kind, facts }).boxed()
}

/// Whether iptables takes the match in this chain, with this protocol.
pub(super) fn suits(one: &Match, chain: &str, is_tcp: bool) -> bool {
    let Match::Extra(Extra { kind, .. }) = one else { return true };
    match kind {
        ExtraKind::Owner => !matches!(chain, "INPUT" | "FORWARD" | "PREROUTING"),
        ExtraKind::Mac => !matches!(chain, "OUTPUT" | "POSTROUTING"),
        ExtraKind::TcpMss => is_tcp,
        _ => true,
    }
}

fn ranges(family: Family) -> BoxedStrategy<Extra> {
    let range = move || {
        (random::address(family), random::address(family)).prop_map(|(a, b)| (a.min(b), a.max(b)))
    };
    let source = range().prop_map(|(first, last)| Fact::SourceRange(first, last));
    let destination = range().prop_map(|(first, last)| Fact::DestinationRange(first, last));
    both(ExtraKind::IpRange, source.boxed(), destination.boxed())
}

fn types() -> BoxedStrategy<Extra> {
    let types = || {
        let bits = vec(select(ADDRESS_TYPES.map(|(_, bit)| bit).to_vec()), 1..3);
        bits.prop_map(|bits| bits.into_iter().fold(0, |all, bit| all | bit))
    };
    let (source, destination) =
        (types().prop_map(Fact::SourceType), types().prop_map(Fact::DestinationType));
    both(ExtraKind::AddressType, source.boxed(), destination.boxed())
}

/// One or both of two options.
fn both(kind: ExtraKind, a: BoxedStrategy<Fact>, b: BoxedStrategy<Fact>) -> BoxedStrategy<Extra> {
    let (a, b) = (random::condition(a).boxed(), random::condition(b).boxed());
    let facts = prop_oneof![
        a.clone().prop_map(|a| vec![a]),
        b.clone().prop_map(|b| vec![b]),
        (a, b).prop_map(|(a, b)| vec![a, b]),
    ];
    facts.prop_map(move |facts| Extra { kind, facts }).boxed()
}

fn conntrack(family: Family) -> BoxedStrategy<Extra> {
    let some = |fact: BoxedStrategy<Fact>| option::weighted(0.3, random::condition(fact)).boxed();
    let address =
        |way| random::network(family).prop_map(move |of| Fact::CtAddress(way, of)).boxed();
    let ports = (random::port(), random::port()).prop_map(|(a, b)| {
        let range = PortRange { first: a.min(b), last: a.max(b) };
        Fact::CtPort(Way::OriginalDestination, range)
    });
    let direction = select(vec![Direction::Original, Direction::Reply])
        .prop_map(|direction| Condition { negated: false, value: Fact::CtDirection(direction) });
    // As iptables orders them; the last is always there, or it were `--ctstate` alone.
    let facts = (
        some((1..128u8).prop_map(Fact::CtState).boxed()),
        some(select(vec![6, 17]).prop_map(Fact::CtProtocol).boxed()),
        some(address(Way::OriginalSource)),
        some(address(Way::ReplySource)),
        some(ports.boxed()),
        some((0..16u32).prop_map(Fact::CtStatus).boxed()),
        some(pair(4).prop_map(|(first, last)| Fact::CtExpire(first, last)).boxed()),
        direction.prop_map(Some),
    );
    facts
        .prop_map(|(a, b, c, d, e, f, g, h)| {
            let facts = [a, b, c, d, e, f, g, h].into_iter().flatten().collect();
            Extra { kind: ExtraKind::Conntrack, facts }
        })
        .boxed()
}

/// Those that keep something in mind, for the printer and the parser alone.
pub(super) fn remembering(family: Family) -> BoxedStrategy<Extra> {
    let chance = (0..=2_147_483_648u32).prop_map(Fact::Random);
    let nth =
        (1..9u32, 0..9u32).prop_map(|(every, place)| Fact::Nth { every, packet: place % every });
    let limit = (0..4usize, 1..60u32, 1..=10_000u32)
        .prop_map(|(unit, count, burst)| Limit { period: Limit::UNITS[unit].1 / count, burst });
    // A rate is kept as iptables rounds it: what is printed must say the same.
    let limit = limit.prop_filter("printed otherwise", is_exact);
    prop_oneof![
        recent(family),
        hashlimit(family),
        connlimit(family),
        time(),
        text(),
        one(ExtraKind::Statistic, chance),
        one(ExtraKind::Statistic, nth),
        limit.prop_map(|limit| {
            let value = Fact::Limit(limit);
            Extra { kind: ExtraKind::Limit, facts: vec![Condition { negated: false, value }] }
        }),
    ]
    .boxed()
}

fn recent(family: Family) -> BoxedStrategy<Extra> {
    let actions = vec![Action::Set, Action::Check, Action::Update, Action::Remove];
    let when = (0..3u32, any::<bool>(), 0..4u32, any::<bool>());
    let whom = (random::address(family), any::<bool>(), select(vec!["DEFAULT", "a b", "x-1"]));
    let recent = (select(actions), when, whom).prop_map(|(action, when, whom)| {
        let (seconds, reap, hits, ttl) = when;
        let (mask, is_destination, name) = whom;
        let bare = Recent {
            name: name.into(),
            action,
            seconds: 0,
            reap: false,
            hits: 0,
            ttl: false,
            is_destination,
            mask,
        };
        Fact::Recent(match action {
            Action::Set | Action::Remove => bare,
            _ => Recent { seconds, reap: reap && seconds > 0, hits, ttl, ..bare },
        })
    });
    one(ExtraKind::Recent, recent)
}

fn hashlimit(family: Family) -> BoxedStrategy<Extra> {
    let whole = if family == Family::Ipv4 { 32 } else { 128 };
    let packets =
        (0..4usize, select(vec![1, 2, 3, 5, 30]), 1..100u32).prop_map(|(unit, count, burst)| {
            Rate::Packets { period: Rate::units()[unit].1 / count, burst }
        });
    let bytes = (1..5_000_000u64, option::of(0..5_000_000u64)).prop_map(|(per_second, more)| {
        Rate::Bytes { per_second, burst: more.map_or(0, |more| per_second + more) }
    });
    let packets = packets.prop_filter("printed otherwise", |rate| is_printed_exactly(*rate));
    let number = || option::of(0..100u32);
    let table = (number(), number(), number(), number());
    let masks = (0..=whole, 0..=whole);
    let limit = (prop_oneof![packets, bytes], any::<bool>(), 0..16u8, masks, table).prop_map(
        move |(rate, is_above, mode, (src_mask, dst_mask), (size, max, gcinterval, expire))| {
            let table = KeyedTable { size, max, gcinterval, expire };
            let name = "a-b".into();
            HashLimit { name, is_above, rate, mode, src_mask, dst_mask, whole, table }
        },
    );
    limit
        .prop_map(|limit| {
            let value = Fact::HashLimit(limit);
            Extra { kind: ExtraKind::HashLimit, facts: vec![Condition { negated: false, value }] }
        })
        .boxed()
}

fn connlimit(family: Family) -> BoxedStrategy<Extra> {
    let whole = if family == Family::Ipv4 { 32 } else { 128 };
    let limit = (0..4_097u32, any::<bool>(), 0..=whole, any::<bool>());
    limit
        .prop_map(move |(limit, is_above, mask, is_destination)| {
            let limit = ConnLimit { limit, is_above, mask, whole, is_destination };
            let value = Fact::ConnLimit(limit);
            Extra { kind: ExtraKind::ConnLimit, facts: vec![Condition { negated: false, value }] }
        })
        .boxed()
}

fn time() -> BoxedStrategy<Extra> {
    let second = || 0..=Time::LAST_DATE;
    let days = || any::<u32>();
    let time =
        ((second(), second()), (0..86_400u32, 0..86_400u32), days(), days(), any::<[bool; 2]>());
    time.prop_map(|((from, to), (first, last), monthdays, weekdays, [is_local, is_contiguous])| {
        let value = Fact::Time(Time {
            dates: [from, to],
            hours: [first, last],
            monthdays: monthdays & ALL_MONTHDAYS | 2,
            weekdays: weekdays & ALL_WEEKDAYS | 2,
            is_local,
            is_contiguous: is_contiguous && last <= first,
        });
        Extra { kind: ExtraKind::Time, facts: vec![Condition { negated: false, value }] }
    })
    .boxed()
}

fn text() -> BoxedStrategy<Extra> {
    let bytes =
        prop_oneof![vec(any::<u8>(), 1..129), vec(select(b"a\"'\\ |Z$`!".to_vec()), 1..20),];
    let algorithm = select(vec![Algorithm::BoyerMoore, Algorithm::KnuthPrattMorris]);
    let offsets = (0..2_049u16, prop_oneof![Just(u16::MAX), 0..2_049u16]);
    let text = (bytes, algorithm, offsets, any::<bool>()).prop_map(
        |(bytes, algorithm, (from, to), ignores_case)| {
            Fact::Text(Text { bytes, algorithm, from: from.min(to), to, ignores_case })
        },
    );
    one(ExtraKind::Text, text)
}

fn is_printed_exactly(rate: Rate) -> bool {
    let Rate::Packets { period, .. } = rate else { return true };
    let text = rate.text();
    let (count, unit) = text.split_once('/').unwrap();
    let scale = Rate::units().into_iter().find(|(name, _)| *name == unit).unwrap().1;
    scale / count.parse::<u64>().unwrap() == period
}

fn is_exact(limit: &Limit) -> bool {
    let rate = limit.rate();
    let (count, unit) = rate.split_once('/').unwrap();
    let scale = Limit::UNITS.iter().find(|(name, _)| *name == unit).unwrap().1;
    scale / count.parse::<u32>().unwrap() == limit.period
}
