//! The short way of what most packets are: a plain segment of a confirmed TCP connection
//! through this host, or a datagram of a UDP stream, over IPv4, translated or not.
//!
//! It does what [`crate::path::filter`] and the adapter behind it would do, with the same
//! counters and the same flow in the end, or it declines, and has changed nothing but what
//! is remembered of the route. What it asks of a packet and its flow are the conditions
//! under which the long way does nothing more: it tracks, finds the verdict remembered,
//! and redirects. Anything that may want more goes the long way.

mod arrival;
mod ends;
pub mod hint;

use crate::{
    checksum::Sum,
    conntrack::{
        exchange_remaining, remaining,
        tcp::Segment,
        window::{Connection, Seen},
    },
    control::{device, option, slot},
    flow::{Direction, Flow, Side, State, helper, protocol, status},
    generation::stamp,
    hop::{Hop, NOWHERE, Way, dscp, tick},
    nat::mapping,
    seq::Seq,
    tables::{Rules, Tables},
    time::Nanos,
    verdict::Stat,
    wire::{Ethernet, Ipv4, Tcp, Udp, ether_type, tcp_flag},
};

use arrival::{Found, find};
use ends::leaves_translated;
pub use ends::{Ends, Turned};

/// Two NOPs and a timestamp, as the first bytes of a header's options: what nearly every
/// segment carries.
const ONLY_TIMESTAMP: u32 = u32::from_ne_bytes([1, 1, 8, 10]);
/// Of the type byte and what follows it: no options.
const VERSION_AND_LENGTH: u8 = 0x45;
/// More fragments, or an offset.
const FRAGMENT: u16 = 0x3fff_u16.to_be();

/// The first bytes of a frame, as words in the order of memory.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    /// The destination address, as [`crate::hop::station`] packs it.
    pub station: u64,
    pub ether_type: u16,
    pub ip: [u32; 5],
    /// Of a UDP packet the first two are its header.
    pub tcp: [u32; 5],
    /// What follows, if the TCP header says that it has options.
    pub first_option: u32,
    /// Bytes from the IP header to the end of the frame, as far as they lie in one piece.
    pub available: u32,
}

impl Plain {
    /// Bytes that a frame must have to be read as one.
    pub const LEN: usize = size_of::<Ethernet>() + size_of::<Ipv4>() + size_of::<Tcp>();

    #[inline(always)]
    pub fn ip(&self) -> Ipv4 {
        bytemuck::cast(self.ip)
    }

    #[inline(always)]
    pub fn tcp(&self) -> Tcp {
        bytemuck::cast(self.tcp)
    }

    /// Bytes from the IP header on, padding excluded.
    #[inline(always)]
    pub fn ip_len(&self) -> u32 {
        u32::from(u16::from_be(self.ip().total_len))
    }

    #[inline(always)]
    pub fn udp(&self) -> Udp {
        let [ports, rest, ..] = self.tcp;
        bytemuck::cast([ports, rest])
    }

    #[inline(always)]
    fn is_tcp(&self) -> bool {
        self.ip().protocol == protocol::TCP
    }

    /// Bytes from the transport header on.
    #[inline(always)]
    fn transport_len(&self) -> u32 {
        self.ip_len().wrapping_sub(Ipv4::LEN)
    }

    /// Whether it is a whole packet with right headers, nothing in them that somebody must
    /// read, and no segment that begins or ends a connection.
    #[inline(always)]
    pub fn is_eligible(&self) -> bool {
        let ip = self.ip();
        self.ether_type == ether_type::IPV4.to_be()
            && ip.version_ihl == VERSION_AND_LENGTH
            && ip.fragment & FRAGMENT == 0
            && ip.ttl > 1
            && self.ip_len() <= self.available
            && match ip.protocol {
                protocol::TCP => self.is_plain_segment(),
                protocol::UDP => self.is_datagram(),
                _ => false,
            }
            && self.has_right_checksum()
    }

    #[inline(always)]
    fn is_plain_segment(&self) -> bool {
        const UNCOUNTED: u8 = tcp_flag::ECE | tcp_flag::CWR | tcp_flag::PSH;
        let tcp = self.tcp();
        tcp.flags & !UNCOUNTED == tcp_flag::ACK
            && self.has_usual_options()
            && Ipv4::LEN + tcp.header_len() <= self.ip_len()
    }

    #[inline(always)]
    fn is_datagram(&self) -> bool {
        const HEADER: u32 = size_of::<Udp>() as u32;
        let len = u32::from(u16::from_be(self.udp().len));
        Ipv4::LEN + HEADER <= self.ip_len() && len >= HEADER && len <= self.transport_len()
    }

    #[inline(always)]
    fn has_usual_options(&self) -> bool {
        match self.tcp().header_len() {
            Tcp::LEN => true,
            32 => self.first_option == ONLY_TIMESTAMP,
            _ => false,
        }
    }

    #[inline(always)]
    fn has_right_checksum(&self) -> bool {
        let [a, b, c, d, e] = self.ip;
        let sum = Sum::default().double_word(a).double_word(b).double_word(c);
        sum.double_word(d).double_word(e).folded() == 0xffff
    }

    /// Whether the sender may have left the checksum to hardware that the frame never met.
    #[inline(always)]
    fn may_be_unfinished(&self) -> bool {
        let ip = self.ip();
        let sum = Sum::default().double_word(ip.src).double_word(ip.dst);
        let sum =
            sum.word(u16::from(ip.protocol).to_be()).double_word(self.transport_len().to_be());
        sum.folded() == self.checksum()
    }

    /// The checksum of the transport header.
    #[inline(always)]
    fn checksum(&self) -> u16 {
        if self.is_tcp() { self.tcp().checksum } else { self.udp().checksum }
    }

    /// As it came; TCP and UDP have their ports in one place.
    #[inline(always)]
    pub fn ends(&self) -> Ends {
        let (ip, tcp) = (self.ip(), self.tcp());
        Ends { src: ip.src, dst: ip.dst, sport: tcp.sport, dport: tcp.dport }
    }

    /// What it tells of its window: as [`crate::conntrack::note`] has it.
    #[inline(always)]
    fn seen(&self) -> Seen {
        let tcp = self.tcp();
        let payload = self.transport_len().wrapping_sub(tcp.header_len());
        let (seq, ack) = (Seq(u32::from_be(tcp.seq)), Seq(u32::from_be(tcp.ack)));
        Seen {
            segment: Segment::Ack,
            has_syn: false,
            has_ack: true,
            seq,
            end: seq.plus(payload),
            ack,
            sack: ack,
            window: u16::from_be(tcp.window),
            scale: 0,
            offers: 0,
            has_options: false,
        }
    }
}

/// How a packet goes on.
#[derive(Clone, Copy, Debug)]
pub struct Onward<'t> {
    pub hop: &'t Hop,
    /// The ends with which it leaves.
    pub ends: Ends,
}

/// Judges, counts and notes an eligible packet that came in by this interface; gives the
/// hop that it is to be redirected to, or `None`: it is to go the long way.
#[inline(always)]
pub fn follow<'t, T: Tables>(
    plain: &Plain,
    in_ifindex: u32,
    tables: &'t T,
    now: Nanos,
) -> Option<Onward<'t>> {
    let generation = tables.generation(now);
    let Found { arrival, flow, key, direction } = find(plain, tables, now)?;
    let state = if plain.is_tcp() { State::Established } else { State::None };
    if !is_usual(flow, state) {
        return None;
    }
    let mut way = Departure { inside: arrival.inside, ends: arrival.inside, is_translated: false };
    if leaves_translated(flow, direction) {
        way.is_translated = true;
        way.ends = arrival.inside.leaving(&flow.faces, direction);
    }
    let Flow { sides: [original, reply], last, .. } = flow;
    let (side, other) = match direction {
        Direction::Original => (original, reply),
        Direction::Reply => (reply, original),
    };
    // What is for this host has no way out.
    let remembered = side.cached.stamp;
    let current = match stamp::is_of_sets(remembered) {
        true => stamp::of_sets(generation, tables.set_changes()),
        false => stamp::of_rules(generation),
    };
    if remembered != current || side.cached.in_ifindex != in_ifindex || side.cached.out_ifindex == 0
    {
        return None;
    }
    let hop = way_out(plain, &way, side, tables, now)?;
    if plain.is_tcp() {
        let (sender, receiver) = (&mut side.window, &mut other.window);
        if !Connection::take_plain(sender, receiver, last, direction, &plain.seen()) {
            return None;
        }
    }
    side.packets += 1;
    side.bytes += u64::from(plain.ip_len());
    count_hits(tables, &side.cached.hits, generation, plain.ip_len());
    let timeouts = tables.timeouts();
    let time = match plain.is_tcp() {
        true => remaining(timeouts, tables.options(), false, flow),
        false => exchange_remaining(timeouts, flow, now),
    };
    let ended = flow.expires;
    flow.expires = now.after(time);
    if mapping::is_due(flow, ended, flow.expires) {
        tables.renew_mapping(&key.wide(), flow);
    }
    // Of which the others follow: `verdict::spread`.
    tables.count(Stat::ForwardShort as u32);
    Some(Onward { hop, ends: way.ends })
}

/// With which ends a packet leaves.
struct Departure {
    inside: Ends,
    ends: Ends,
    /// Its flow has others on the wire, where it goes.
    is_translated: bool,
}

/// Whether nothing but its windows decide about an eligible packet of this flow, which is to be
/// in this state.
#[inline(always)]
const fn is_usual(flow: &Flow, state: State) -> bool {
    const CONFIRMED: u8 = status::SEEN_REPLY | status::ASSURED;
    flow.state == state as u8
        // Behind SYNPROXY its numbers are others on the wire.
        && flow.status & (CONFIRMED | status::PROXIED) == CONFIRMED
        // So they may be where a helper reads: `Flow::may_be_shifted`.
        && (flow.helper == helper::NONE || flow.has(status::EXPECTED))
}

/// The hop of this side's packets, if this one may be redirected there; the routing table is
/// asked when that is long ago.
#[inline(always)]
fn way_out<'t, T: Tables>(
    plain: &Plain,
    way: &Departure,
    side: &mut Side,
    tables: &'t T,
    now: Nanos,
) -> Option<&'t Hop> {
    let ip = plain.ip();
    if plain.may_be_unfinished() {
        return None;
    }
    // What is news behind this line makes the answer old.
    let epoch = tables.epoch();
    let tick = tick(now);
    let verdict = &side.cached;
    if !side.way.is_fresh(tick, epoch) {
        if tables.options().has(option::REHEARSAL) {
            return None;
        }
        let hop = match is_way_out(way, verdict.out_ifindex, tables) {
            true => tables.confirm(&way.inside, verdict.in_ifindex, verdict.out_ifindex, tick)?,
            false => NOWHERE,
        };
        side.way = Way::new(tick, epoch, hop);
    }
    let hop = tables.hop(side.way.hop())?;
    let is_right = hop.station == plain.station
        && hop.in_ifindex == verdict.in_ifindex
        && hop.out_ifindex == verdict.out_ifindex
        && hop.dscp == dscp(ip.tos)
        && plain.ip_len() <= u32::from(hop.mtu);
    if is_right { Some(hop) } else { None }
}

/// Whether what is translated may leave so: `has_way_out` in [`crate::path`].
#[inline(always)]
fn is_way_out<T: Tables>(way: &Departure, out_ifindex: u32, tables: &T) -> bool {
    if !way.is_translated {
        return true;
    }
    match tables.device(out_ifindex) {
        Some(out) => out.flags & device::OURS != 0,
        None => true,
    }
}

/// Moves the counters of the rules that the verdict remembers.
#[inline(always)]
fn count_hits<R: Rules>(rules: &R, hits: &[u16], generation: u32, bytes: u32) {
    for &hit in hits {
        if hit == 0 {
            return;
        }
        rules.count_rule(slot(generation), u32::from(hit) - 1, u64::from(bytes));
    }
}
