//! The first packet of a flow: what the rules of table nat make of its ends.

use super::{
    Kind, Order, choice,
    claim::{self, Ports, has_changeable_ports, scale, what},
    desk::done,
    order::flag,
    translation::face,
};
use crate::{
    addr::Addr,
    conntrack::find,
    flow::{Direction, status},
    rule::NO_ENTRY,
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
    verdict::DropReason,
};

/// Prepares the desk for a packet that begins a flow.
#[inline(always)]
pub fn begin(scratch: &mut Scratch, now: Nanos) {
    let nat = &mut scratch.nat;
    nat.wire = scratch.headers.tuple;
    nat.status = 0;
    nat.faces = bytemuck::Zeroable::zeroed();
    nat.ports.now = now;
    scratch.walk.order_in = NO_ENTRY;
    scratch.walk.order_out = NO_ENTRY;
}

/// Gives the packet the destination that the rule `walk.order_in` wants, before it is
/// routed; `false` when that fails, and why stands on the desk.
#[inline(always)]
pub fn turn<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let Some(order) = load(tables, scratch, scratch.walk.order_in) else {
        return refuse(scratch, DropReason::RulesetBroken);
    };
    let is_own = scratch.walk.in_ifindex == 0;
    let own = match order.kind {
        // No packet of this host turns round to it from where it leaves.
        Kind::Redirect if is_own => return refuse(scratch, DropReason::RulesetBroken),
        Kind::Redirect => match tables.own_address(scratch, true) {
            true => scratch.nat.address,
            false => return refuse(scratch, DropReason::NatNoAddress),
        },
        _ => Addr::ANY,
    };
    let dice = tables.random();
    let Scratch { nat, headers, .. } = scratch;
    nat.wire = headers.tuple;
    nat.inside = headers.tuple;
    choice::destination(&order, &mut nat.inside, own, dice);
    if nat.inside == nat.wire {
        return true;
    }
    let is_possible = nat.inside.dport == nat.wire.dport || has_changeable_ports(nat.wire.protocol);
    if !is_possible || !find_inside(tables, scratch) {
        return refuse(scratch, DropReason::NatPortsExhausted);
    }
    if !tables.turn(&scratch.headers, &scratch.nat.wire, &scratch.nat.inside) {
        return refuse(scratch, DropReason::Malformed);
    }
    let Scratch { nat, headers, key, .. } = scratch;
    headers.tuple = nat.inside;
    nat.sender = tables.key_of(&nat.inside, key) as u8;
    nat.done |= done::TURNED;
    nat.status |= status::DESTINATION_TRANSLATED;
    nat.faces.source[Direction::Reply.index()] = nat.wire.dst;
    nat.faces.port[Direction::Reply.index()] = nat.wire.dport;
    nat.faces.client_port = nat.wire.sport;
    true
}

/// Another flow may have the same ends inside: this one gets another source port then.
#[inline(always)]
fn find_inside<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let nat = &mut scratch.nat;
    nat.claimed = nat.inside;
    nat.ports.what = what::INSIDE;
    let (first, last) = Ports::class_of(nat.inside.protocol, nat.inside.sport);
    nat.ports.range(first, last);
    if !look(tables, scratch, false) {
        return false;
    }
    scratch.nat.inside.sport = scratch.nat.claimed.sport;
    true
}

/// Tries the port in hand, unless the rule wants another in any case, and then others.
#[inline(always)]
fn look<T: Tables>(tables: &T, scratch: &mut Scratch, wants_another: bool) -> bool {
    scratch.nat.ports.is_full = 0;
    if !wants_another && tables.attempt(scratch) {
        return true;
    }
    if scratch.nat.ports.is_full != 0 || !has_changeable_ports(scratch.nat.wire.protocol) {
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
    if !bind_source(tables, scratch) {
        return false;
    }
    if !scratch.nat.has(done::TURNED) {
        return true;
    }
    let Scratch { nat, headers, .. } = scratch;
    nat.claimed = nat.wire;
    nat.claimed_inside = headers.tuple;
    nat.ports.what = what::WIRE;
    nat.ports.is_full = 0;
    tables.note_face(&nat.wire.dst);
    if tables.attempt(scratch) {
        return true;
    }
    let is_full = scratch.nat.ports.is_full != 0;
    refuse(scratch, if is_full { DropReason::NatTableFull } else { DropReason::NatClash })
}

#[inline(always)]
fn bind_source<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let order = match scratch.walk.order_out {
        NO_ENTRY => None,
        rule => match load(tables, scratch, rule) {
            Some(order) => Some(order),
            None => return refuse(scratch, DropReason::RulesetBroken),
        },
    };
    let tuple = scratch.headers.tuple;
    let mut source = tuple.src;
    let (first, last) = Ports::class_of(tuple.protocol, tuple.sport);
    scratch.nat.ports.range(first, last);
    let mut wants_another = false;
    if let Some(order) = order {
        if matches!(order.kind, Kind::Masquerade) {
            scratch.nat.faces.flags |= face::MASQUERADE;
            if !tables.own_address(scratch, false) {
                return refuse(scratch, DropReason::NatNoAddress);
            }
        }
        source = choice::source(&order, &tuple, scratch.nat.address);
        let has_ports = has_changeable_ports(tuple.protocol);
        if order.has(flag::PORTS) && has_ports {
            scratch.nat.ports.range(order.first_port, order.last_port);
        }
        wants_another = has_ports
            && (order.has(flag::RANDOM | flag::RANDOM_FULLY)
                || !scratch.nat.ports.contains(tuple.sport));
    } else if let Some(address) = followed(tables, scratch) {
        source = address;
    }
    let nat = &mut scratch.nat;
    nat.claimed_inside = tuple.reversed();
    nat.claimed = nat.claimed_inside;
    nat.claimed.dst = source;
    nat.ports.what = what::WIRE;
    if !look(tables, scratch, wants_another) {
        let reason = claim::refusal(&scratch.nat.ports);
        return refuse(scratch, reason);
    }
    let nat = &mut scratch.nat;
    if nat.claimed == nat.claimed_inside {
        return true;
    }
    tables.note_face(&source);
    nat.status |= status::SOURCE_TRANSLATED;
    nat.faces.source[Direction::Original.index()] = nat.claimed.dst;
    nat.faces.port[Direction::Original.index()] = nat.claimed.dport;
    nat.inside = tuple;
    nat.leaving = tuple;
    nat.leaving.src = nat.claimed.dst;
    nat.leaving.sport = nat.claimed.dport;
    nat.done |= done::LEAVES;
    true
}

/// The address of a flow that was announced: that of the connection that announced it, which
/// the client's other side knows.
#[inline(always)]
fn followed<T: Tables>(tables: &T, scratch: &Scratch) -> Option<Addr> {
    if !scratch.nat.has(done::ANNOUNCED) {
        return None;
    }
    let (_, master) = find(tables, &scratch.master_key, scratch.nat.ports.now)?;
    let client = scratch.master_key.tuple(master.originator()).src;
    let is_translated = master.has(status::SOURCE_TRANSLATED);
    (is_translated && client == scratch.headers.tuple.src)
        .then_some(master.faces.source[Direction::Original.index()])
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
    order.read()
}

#[inline(always)]
const fn refuse(scratch: &mut Scratch, reason: DropReason) -> bool {
    scratch.nat.refusal = reason as u8 + 1;
    false
}
