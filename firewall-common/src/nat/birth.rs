//! The first packet of a flow: what the rules of table nat make of its ends.
//!
//! Here and there a function has a stack of its own in the kernel's programs, which have little.

use super::{
    Desk, Kind, Order, choice,
    claim::{self, Ports, has_changeable_ports, scale, what},
    desk::done,
    follow::follow,
    mapping::mode,
    order::flag,
    translation::face,
};
use crate::{
    addr::Addr,
    control::option,
    extra::need,
    flow::{Direction, protocol, status},
    rule::NO_ENTRY,
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
    verdict::DropReason,
    walk::nat as shown,
};

/// Prepares the desk for a packet that begins a flow, and has table nat asked about it, unless it
/// follows the one that announced it.
#[inline(always)]
pub fn begin<T: Tables>(tables: &T, scratch: &mut Scratch, is_announced: bool, now: Nanos) {
    let needs = tables.ruleset(scratch.walk.slot).map_or(0, |header| header.needs);
    let Scratch { nat, walk, .. } = scratch;
    nat.status = 0;
    nat.ports.now = now;
    nat.faces = bytemuck::Zeroable::zeroed();
    walk.order_in = NO_ENTRY;
    walk.order_out = NO_ENTRY;
    walk.nat = match needs & need::NAT {
        0 => shown::NONE,
        _ if nat.has(done::AT_ENTRANCE) && !nat.has(done::LED) => shown::ALL,
        // What came in by an interface that is not ours has been routed, and what was announced
        // has been led to where it goes.
        _ => shown::BEHIND_ROUTING,
    };
    if nat.has(done::LED) {
        nat.sender = tables.key_of(&nat.inside, &mut nat.claimed_key) as u8;
        note_turn(nat);
    }
    if is_announced {
        follow(tables, scratch);
    }
}

/// Notes that the flow's client has called another destination than the packet bears.
#[inline(always)]
fn note_turn(nat: &mut Desk) {
    nat.done |= done::TURNED;
    nat.status |= status::DESTINATION_TRANSLATED;
    nat.faces.source[Direction::Reply.index()] = nat.wire.dst;
    nat.faces.port[Direction::Reply.index()] = nat.wire.dport;
    nat.faces.client_port = nat.wire.sport;
}

/// Gives the packet the destination that the rule `walk.order_in` wants, before it is
/// routed, and another source port where its ends are another flow's; `false` when that fails,
/// and why stands on the desk.
#[inline(always)]
pub fn turn<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    if scratch.nat.has(done::LED) {
        // It bears its destination already.
    } else if scratch.walk.order_in == NO_ENTRY {
        let Scratch { nat, headers, .. } = &mut *scratch;
        nat.wire = headers.tuple;
        nat.inside = headers.tuple;
    } else if !choose_destination(tables, scratch) {
        return false;
    }
    let Scratch { nat, .. } = scratch;
    if nat.inside == nat.wire && !nat.has(done::TWIN) {
        return true;
    }
    let is_possible = nat.inside.dport == nat.wire.dport || has_changeable_ports(nat.wire.protocol);
    if !is_possible || !find_inside(tables, scratch) {
        return refuse(scratch, DropReason::NatPortsExhausted);
    }
    if !tables.turn_plain(&scratch.headers, &scratch.headers.tuple, &scratch.nat.inside) {
        return refuse(scratch, DropReason::Malformed);
    }
    let Scratch { nat, headers, key, .. } = scratch;
    headers.tuple = nat.inside;
    nat.sender = tables.key_of(&nat.inside, key) as u8;
    note_turn(nat);
    true
}

/// Writes to `nat.inside` what the rule wants; `false` as above.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn choose_destination<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let rule = scratch.walk.order_in;
    let Some(order) = load(tables, scratch, rule) else {
        return refuse(scratch, DropReason::RulesetBroken);
    };
    let is_own = scratch.walk.in_ifindex == 0;
    let own = match order.kind {
        // No packet of this host turns round to it from where it leaves.
        Kind::Redirect if is_own => return refuse(scratch, DropReason::RulesetBroken),
        Kind::Redirect if tables.own_address(scratch, true) => scratch.nat.address,
        Kind::Redirect => return refuse(scratch, DropReason::NatNoAddress),
        _ => Addr::ANY,
    };
    let dice = tables.random();
    let Scratch { nat, headers, .. } = scratch;
    nat.wire = headers.tuple;
    nat.inside = headers.tuple;
    choice::destination(&order, &mut nat.inside, own, dice);
    true
}

/// Another flow may have the same ends inside: this one gets another source port then.
#[inline(always)]
fn find_inside<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let nat = &mut scratch.nat;
    nat.claimed = nat.inside;
    nat.ports.what = what::INSIDE;
    nat.ports.wants_another = 0;
    nat.ports.spares_sockets = 0;
    nat.ports.mapping = mode::IGNORE;
    let (first, last) = Ports::class_of(nat.inside.protocol, nat.inside.sport);
    nat.ports.range(first, last);
    if !look(tables, scratch) {
        return false;
    }
    scratch.nat.inside.sport = scratch.nat.claimed.sport;
    true
}

/// Tries the port in hand, unless the rule wants another in any case, and then others.
#[inline(always)]
fn look<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    scratch.nat.ports.is_full = 0;
    if scratch.nat.ports.wants_another == 0 && tables.attempt(scratch) {
        return true;
    }
    if scratch.nat.ports.is_full != 0 || !has_changeable_ports(scratch.headers.tuple.protocol) {
        return false;
    }
    let dice = tables.random();
    let ports = &mut scratch.nat.ports;
    ports.offset = scale(dice, ports.count);
    ports.tries = 0;
    ports.is_found = 0;
    tables.search_port(scratch);
    scratch.nat.ports.is_found != 0
}

/// Gives the flow that the accepted packet on the desk begins its faces on the wire, by the
/// rule `walk.order_out`, and claims them; `false` when that fails, and why stands on the
/// desk.
#[inline(always)]
pub fn bind<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    if !choose_source(tables, scratch) {
        return false;
    }
    if !find_source(tables, scratch) {
        let reason = claim::refusal(&scratch.nat.ports);
        return refuse(scratch, reason);
    }
    settle_source(tables, scratch);
    if !scratch.nat.has(done::TURNED) {
        return true;
    }
    let Scratch { nat, headers, .. } = scratch;
    nat.claimed = nat.wire;
    nat.claimed_inside = headers.tuple;
    nat.ports.is_full = 0;
    nat.ports.spares_sockets = 0;
    nat.ports.mapping = mode::IGNORE;
    tables.note_face(&nat.wire.dst);
    if tables.attempt(scratch) {
        return true;
    }
    let is_full = scratch.nat.ports.is_full != 0;
    refuse(scratch, if is_full { DropReason::NatTableFull } else { DropReason::NatClash })
}

/// Finds the port of the source: that of the inside endpoint's mapping, or else one that
/// becomes it.
#[inline(always)]
fn find_source<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    if scratch.nat.ports.mapping == mode::IGNORE {
        return look(tables, scratch);
    }
    let own = scratch.nat.claimed.dport;
    if keep_mapped(tables, scratch, own) {
        return true;
    }
    if !look(tables, scratch) {
        return scratch.nat.ports.is_full == 0 && share(tables, scratch, own);
    }
    // Another packet of this endpoint may have been faster: its port is the endpoint's then.
    let found = scratch.nat.claimed.dport;
    let _ = tables.note_mapping(scratch) || keep_mapped(tables, scratch, found);
    true
}

/// Every port is some mapping's: one of them will do that nobody has towards this destination, or
/// one inside endpoint could take all there are. The flow has no mapping then.
#[inline(always)]
fn share<T: Tables>(tables: &T, scratch: &mut Scratch, own: u16) -> bool {
    scratch.nat.ports.mapping = mode::IGNORE;
    scratch.nat.claimed.dport = own;
    look(tables, scratch)
}

/// Claims the port that the inside endpoint's mapping has; where that fails, `other` is in hand
/// again, and no mapping is made.
#[inline(always)]
fn keep_mapped<T: Tables>(tables: &T, scratch: &mut Scratch, other: u16) -> bool {
    if !tables.recall_port(scratch) {
        return false;
    }
    if tables.attempt(scratch) {
        return tables.note_mapping(scratch);
    }
    scratch.nat.claimed.dport = other;
    scratch.nat.ports.mapping = mode::SPARE;
    false
}

/// Writes to `nat.claimed` how a reply is to come on the wire, and among which ports one may
/// be searched for; `false` as above.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn choose_source<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let Scratch { nat, headers, walk, .. } = &mut *scratch;
    let (first, last) = Ports::class_of(headers.tuple.protocol, headers.tuple.sport);
    nat.ports.range(first, last);
    nat.ports.what = what::WIRE;
    nat.ports.wants_another = 0;
    nat.ports.spares_sockets = 0;
    nat.ports.mapping = mode::IGNORE;
    headers.tuple.turn_over(&mut nat.claimed_inside);
    nat.claimed = nat.claimed_inside;
    if nat.has(done::FOLLOWS) {
        nat.claimed.dst = nat.leaving.src;
        let is_lent = walk.in_ifindex != 0 && nat.claimed != nat.claimed_inside;
        nat.ports.spares_sockets = u32::from(is_lent);
        return true;
    }
    let rule = walk.order_out;
    if rule == NO_ENTRY {
        return true;
    }
    let Some(mut order) = load(tables, scratch, rule) else {
        return refuse(scratch, DropReason::RulesetBroken);
    };
    if is_endpoint_independent(tables, scratch, &order) {
        scratch.nat.ports.mapping = mode::MAKE;
        order.flags |= flag::PERSISTENT;
    }
    if matches!(order.kind, Kind::Masquerade) && !tables.own_address(scratch, false) {
        return refuse(scratch, DropReason::NatNoAddress);
    }
    let Scratch { nat, headers, walk, .. } = scratch;
    if matches!(order.kind, Kind::Masquerade) {
        nat.faces.flags |= face::MASQUERADE;
    }
    nat.claimed.dst = choice::source(&order, &headers.tuple, nat.address);
    if has_changeable_ports(headers.tuple.protocol) {
        let has_range = order.has(flag::PORTS);
        if has_range {
            nat.ports.range(order.first_port, order.last_port);
        }
        let is_random = order.has(flag::RANDOM | flag::RANDOM_FULLY);
        let is_good = !has_range || nat.ports.contains(headers.tuple.sport);
        nat.ports.wants_another = u32::from(is_random || !is_good);
        // Its own connections have their sockets' ports. What SNAT names with its ports is the
        // rule's to give, and the address may be another host's.
        let is_named = matches!(order.kind, Kind::Source) && has_range;
        nat.ports.spares_sockets = u32::from(walk.in_ifindex != 0 && !is_named);
    }
    true
}

/// Whether the flow is to have the outside endpoint that others of its inside one have. This
/// host's own have that of their socket.
#[inline(always)]
fn is_endpoint_independent<T: Tables>(tables: &T, scratch: &Scratch, order: &Order) -> bool {
    scratch.headers.tuple.protocol == protocol::UDP
        && scratch.walk.in_ifindex != 0
        && matches!(order.kind, Kind::Source | Kind::Masquerade)
        && tables.options().has(option::UDP_ENDPOINT_INDEPENDENT)
}

/// The claimed face is the flow's.
#[inline(always)]
fn settle_source<T: Tables>(tables: &T, scratch: &mut Scratch) {
    let Scratch { nat, headers, .. } = scratch;
    if nat.claimed == nat.claimed_inside {
        return;
    }
    tables.note_face(&nat.claimed.dst);
    nat.status |= status::SOURCE_TRANSLATED;
    nat.faces.source[Direction::Original.index()] = nat.claimed.dst;
    nat.faces.port[Direction::Original.index()] = nat.claimed.dport;
    nat.inside = headers.tuple;
    nat.leaving = headers.tuple;
    nat.leaving.src = nat.claimed.dst;
    nat.leaving.sport = nat.claimed.dport;
    nat.done |= done::LEAVES;
}

/// Reads what a rule orders.
#[inline(always)]
fn load<T: Tables>(tables: &T, scratch: &mut Scratch, rule: u32) -> Option<Order> {
    let slot = scratch.walk.slot;
    let rule = tables.rule(slot, rule)?;
    let order = &mut scratch.nat.order;
    order.argument = rule.argument;
    order.mask = rule.mask;
    order.words = [0; 8];
    if let Some(extra) = Order::extra_of(rule) {
        order.words = tables.extra(slot, extra)?.arguments;
    }
    order.base = 0;
    if let Some(extra) = Order::base_of(rule) {
        let [base, ..] = tables.extra(slot, extra)?.arguments;
        order.base = base;
    }
    order.read()
}

#[inline(always)]
const fn refuse(scratch: &mut Scratch, reason: DropReason) -> bool {
    scratch.nat.refusal = reason as u8 + 1;
    false
}
