//! What the rules say of the packet on the desk.

use crate::{
    control::slot,
    event::Hook,
    extra::need,
    generation::stamp,
    mangle::{Mangling, change},
    nat::{birth, desk::done},
    rule::{Chain, NO_ENTRY},
    scratch::Scratch,
    tables::{Place, Route, Tables},
    walk::{Outcome, Walk, nat as shown, part, proof},
    wire::tcp_flag::SYN,
};

use super::is_untracked;

/// Asks the rules about the packet on the desk, and notes what they make of it. Where rules
/// before routing change its mark or type of service, it is routed anew behind them, as the
/// stack will route it.
#[inline(always)]
pub fn decide<T: Tables>(tables: &T, scratch: &mut Scratch, place: Place) -> Outcome {
    let needs = tables.ruleset(scratch.walk.slot).map_or(0, |header| header.needs);
    if scratch.proxy.proof.is_proven != 0 {
        scratch.walk.proof = proof::BROUGHT;
    }
    let is_mangling = needs & need::MANGLING != 0;
    let may_turn = scratch.walk.nat == shown::ALL || scratch.nat.has(done::TWIN);
    if !is_mangling && !may_turn {
        return tables.judge(scratch);
    }
    if is_mangling {
        scratch.facts.restart();
    }
    if needs & need::REROUTING != 0 || may_turn {
        scratch.walk.part = part::ENTRANCE;
        let outcome = tables.judge(scratch);
        if !matches!(outcome, Outcome::Accept) {
            return outcome;
        }
        scratch.walk.part = part::REST;
        if !tables.take_turn(scratch, place, needs) {
            return Outcome::Broken;
        }
    }
    if !is_mangling {
        return tables.judge(scratch);
    }
    if needs & need::PATH_MTU != 0 && scratch.headers.has_tcp_flag(SYN) {
        let mark = scratch.facts.changeable().mark;
        scratch.facts.path_mtu = tables.path_mtu(place, scratch, mark);
    }
    let outcome = tables.judge(scratch);
    let is_forwarded = scratch.walk.chain == Chain::Forward as u8;
    let is_on_its_way = is_forwarded && matches!(place.hook, Hook::Ingress);
    scratch.mangling = Mangling::of(&scratch.facts, is_on_its_way);
    outcome
}

/// Between the rules before routing and those behind it: gives the packet the destination
/// that table nat wants, and routes it anew where that or a mark asks for it. `false` when the
/// destination cannot be had.
#[inline(always)]
pub fn take_turn<T: Tables>(tables: &T, scratch: &mut Scratch, place: Place, needs: u32) -> bool {
    // What a cookie has proven begins a flow, though table raw wants none.
    let begins = !is_untracked(scratch) || scratch.proxy.proof.is_proven != 0;
    let is_twin = scratch.nat.has(done::TWIN) && begins;
    let has_order = scratch.walk.nat == shown::ALL && scratch.walk.order_in != NO_ENTRY;
    if has_order || is_twin {
        if !birth::turn(tables, scratch) {
            return false;
        }
        scratch.facts.turn(&scratch.headers, &scratch.key, &scratch.nat.wire);
    }
    let mut mark = tables.own_mark();
    let mut is_routed_anew = scratch.nat.has(done::TURNED);
    if needs & need::MANGLING != 0 {
        scratch.facts.route();
        let so_far = Mangling::of(&scratch.facts, false);
        mark = so_far.mark;
        if so_far.has(change::MARK | change::TOS) {
            scratch.headers.tos = so_far.tos;
            is_routed_anew = true;
        }
    }
    if is_routed_anew {
        let route = tables.reroute(place, &scratch.headers, mark);
        scratch.walk.chain = route.chain as u8;
        scratch.walk.out_ifindex = route.out_ifindex;
        scratch.facts.settle_hops(route.chain, &scratch.headers, place.hook);
    }
    true
}

/// Walks the rules for the packet on the desk, from table to table.
#[inline(always)]
pub fn judge<T: Tables>(tables: &T, scratch: &mut Scratch) -> Outcome {
    let Some(header) = tables.ruleset(scratch.walk.slot) else { return Outcome::Broken };
    let is_v4 = scratch.headers.version == 4;
    let walk = &mut scratch.walk;
    walk.in_patterns = tables.patterns(walk.in_ifindex, walk.slot);
    walk.out_patterns = tables.patterns(walk.out_ifindex, walk.slot);
    if !walk.set_out(header, is_v4) {
        // No rule stands before routing; table filter is always there.
        let may_be_none =
            matches!(walk.part, part::ENTRANCE | part::SIEVE) || walk.ends_before_forward();
        return if may_be_none { Outcome::Accept } else { Outcome::Broken };
    }
    tables.walk(scratch);
    Outcome::from_byte(scratch.walk.outcome)
}

/// The facts of this packet for the walk.
#[inline(always)]
pub(super) fn prepare<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    generation: u32,
    route: &Route,
) {
    scratch.walk = Walk {
        generation,
        stamp: stamp::of_sets(generation, tables.set_changes()),
        slot: slot(generation),
        in_ifindex: route.in_ifindex,
        out_ifindex: route.out_ifindex,
        chain: route.chain as u8,
        ..Walk::default()
    };
    scratch.mangling.changes = 0;
}
