//! The short way of what most packets are: a plain segment of a confirmed TCP connection
//! through this host, or a datagram of a UDP stream, translated or not.
//!
//! From XDP it leads out of the host ([`Exit::Redirect`]), from TC it ends in the stack
//! ([`Exit::Stack`]), which sends on what is not translated.
//!
//! It does what [`crate::path::filter`] and the adapter behind it would do, with the same
//! counters and the same flow in the end, or it declines, and has changed nothing but what
//! is remembered of the route. What it asks of a packet and its flow are the conditions
//! under which the long way does nothing more: it tracks, finds the verdict remembered,
//! and redirects. Anything that may want more goes the long way.
//!
//! What the families do alike is written once, for any [`Ip`] header and its [`Address`]; each has a
//! program of its own made of it.

mod address;
mod arrival;
mod ends;
pub mod hint;
mod ip;
mod plain;

use crate::{
    conntrack::{exchange_remaining, remaining, window::Connection},
    control::{device, option, slot},
    flow::{Direction, Flow, Side, State, helper, status},
    generation::stamp,
    hop::{Exit, Hop, NOWHERE, Way, tick},
    nat::mapping,
    seq::Seq,
    tables::{Rules, Tables},
    time::Nanos,
    verdict::Stat,
};

pub use address::{Address, Halves};
use arrival::{Found, find};
use ends::leaves_translated;
pub use ends::{Ends, Turned};
pub use ip::{Ip, Ipv4, Ipv6};
pub use plain::Plain;

/// How a packet goes on.
#[derive(Clone, Copy, Debug)]
pub struct Onward<'t, A> {
    pub hop: &'t Hop,
    /// The ends with which it leaves.
    pub ends: Ends<A>,
}

/// Judges, counts and notes an eligible packet that came in by this interface; gives the
/// hop that it goes on to, or `None`: it is to go the long way.
#[inline(always)]
pub fn follow<'t, I: Ip, T: Tables>(
    plain: &Plain<I>,
    in_ifindex: u32,
    exit: Exit,
    tables: &'t T,
    now: Nanos,
) -> Option<Onward<'t, I::Address>> {
    let generation = tables.generation(now);
    let Found { arrival, flow, direction } = find(plain, exit, tables, now)?;
    let state = if plain.is_tcp() { State::Established } else { State::None };
    if !is_usual(flow, state) {
        return None;
    }
    let mut way = Departure { inside: arrival.inside, ends: arrival.inside, is_translated: false };
    if leaves_translated(flow, direction) {
        way.is_translated = true;
        way.ends = arrival.inside.leaving(&flow.faces, direction);
    }
    // As above.
    if matches!(exit, Exit::Stack) && way.is_translated {
        return None;
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
    let hop = way_out(plain, &way, exit, side, tables, now)?;
    if plain.is_tcp() {
        let windows = [&mut side.window, &mut other.window];
        let advance = |number: &mut Seq, found, to| match exit {
            // What a device's queue brings is one CPU's.
            Exit::Redirect => *number = to,
            Exit::Stack => tables.advance(number, found, to),
        };
        if !Connection::take_plain(windows, last, direction, &plain.seen(), advance) {
            return None;
        }
    }
    account(side, exit, plain.ip_len(), tables);
    count_hits(tables, &side.cached.hits, generation, plain.ip_len());
    let timeouts = tables.timeouts();
    let time = match plain.is_tcp() {
        true => remaining(timeouts, tables.options(), false, flow),
        false => exchange_remaining(timeouts, flow, now),
    };
    let ended = flow.expires;
    flow.expires = now.after(time);
    if mapping::is_due(flow, ended, flow.expires) {
        let (key, _) = arrival.inside.key(plain.ip.protocol());
        I::Address::renew_mapping(tables, &key, flow);
    }
    count(tables, exit);
    Some(Onward { hop, ends: way.ends })
}

/// Counts a packet of one direction.
#[inline(always)]
fn account<T: Tables>(side: &mut Side, exit: Exit, bytes: u32, tables: &T) {
    match exit {
        // As above.
        Exit::Redirect => {
            side.packets += 1;
            side.bytes += u64::from(bytes);
        }
        Exit::Stack => {
            tables.add(&mut side.packets, 1);
            tables.add(&mut side.bytes, bytes.into());
        }
    }
}

/// As the long way counts a packet whose verdict was remembered.
#[inline(always)]
fn count<T: Tables>(tables: &T, exit: Exit) {
    match exit {
        // Of which the others follow: `verdict::spread`.
        Exit::Redirect => tables.count(Stat::ForwardShort as u32),
        Exit::Stack => {
            for stat in [Stat::AcceptForward, Stat::CacheHit, Stat::ForwardStack] {
                tables.count(stat as u32);
            }
        }
    }
}

/// With which ends a packet leaves.
struct Departure<A> {
    inside: Ends<A>,
    ends: Ends<A>,
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
fn way_out<'t, I: Ip, T: Tables>(
    plain: &Plain<I>,
    way: &Departure<I::Address>,
    exit: Exit,
    side: &mut Side,
    tables: &'t T,
    now: Nanos,
) -> Option<&'t Hop> {
    if matches!(exit, Exit::Redirect) && plain.may_be_unfinished() {
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
            true => {
                let interfaces = (verdict.in_ifindex, verdict.out_ifindex);
                I::Address::confirm(tables, &way.inside, interfaces, tick)?
            }
            false => NOWHERE,
        };
        side.way = Way::new(tick, epoch, hop);
    }
    let hop = tables.hop(side.way.hop())?;
    let is_right = hop.station == plain.station
        && hop.in_ifindex == verdict.in_ifindex
        && hop.out_ifindex == verdict.out_ifindex
        && hop.class == plain.ip.route_class()
        && hop.exit == exit as u8
        // The stack cuts what is too long, or says so.
        && (matches!(exit, Exit::Stack) || plain.ip_len() <= u32::from(hop.mtu));
    if is_right { Some(hop) } else { None }
}

/// Whether what is translated may leave so: `has_way_out` in [`crate::path`].
#[inline(always)]
fn is_way_out<A, T: Tables>(way: &Departure<A>, out_ifindex: u32, tables: &T) -> bool {
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
