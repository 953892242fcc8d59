//! The packet's journey.

mod judging;
mod reading;
mod remembering;
mod sieve;

use crate::{
    conntrack::{self, Effect, Tracked},
    control::{device, option},
    event::{Hook, NO_CHAIN},
    extra::need,
    flow::{CtState, Sender},
    headers::{Headers, Parsed},
    mangle::change,
    nat::{departure, desk::done},
    packet::Packet,
    report,
    rule::{Chain, NO_ENTRY, RejectKind},
    scratch::Scratch,
    synproxy::{self, task},
    tables::{Place, Route, Tables},
    time::Nanos,
    verdict::{DropReason, Stat, Verdict},
    walk::{Outcome, Walk, proof},
    wire::tcp_flag::ACK,
};

use judging::prepare;
pub use judging::{decide, judge, take_turn};
pub use reading::describe;
use reading::{Reading, reading};
pub(crate) use remembering::{count_hits, verdict_to_remember};
use remembering::{count_remembered, is_remembered, remember};
pub use sieve::{Sifted, sift};

/// Decides about one packet, from cheap to dear, and counts the verdict:
///
/// 1. **parse** the headers; what cannot be read is dropped, what is not IP passes;
/// 2. **route**: is it to this host, through it, or from it; before that, what comes from a
///    wire face gets its inside one (`nat`);
/// 3. **fragments** after the first inherit its verdict, or wait for it;
/// 4. **track**: the flow, and from it the ctstate;
/// 5. **judge**: by the verdict that the flow remembers, else by the rules; table nat gives
///    a new flow its faces;
/// 6. **commit** to the flow tables what an accepted packet changes;
/// 7. **punt** what a helper must read before it goes on.
#[inline(always)]
pub fn filter<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    place: Place,
    tables: &T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Verdict {
    let options = tables.options();
    let verdict = match packet.headers(&mut scratch.headers, place.has_ethernet) {
        Err(reason) => {
            let verdict = unreadable(tables, place, scratch, reason, now);
            if scratch.headers.is_first_fragment() {
                tables.settle_fragments(scratch, false, now);
            }
            verdict
        }
        Ok(Parsed::NotIp) if options.has(option::DROP_NON_IP) => {
            unreadable(tables, place, scratch, DropReason::NonIp, now)
        }
        Ok(Parsed::NotIp) => Verdict::Pass(Stat::PassNonIp),
        Ok(Parsed::Ip) => ip(packet, place, tables, scratch, now),
    };
    report::report(packet, tables, scratch, place, verdict, now);
    // Whether a packet can be held, and how it counts, the adapter will know.
    if !matches!(verdict, Verdict::Punt(_) | Verdict::Wait(_) | Verdict::Again) {
        tables.count(verdict.counter());
    }
    verdict
}

/// Dropped before any chain was reached.
#[inline(always)]
fn unreadable<T: Tables>(
    tables: &T,
    place: Place,
    scratch: &mut Scratch,
    reason: DropReason,
    now: Nanos,
) -> Verdict {
    scratch.walk = Walk {
        generation: tables.generation(now),
        in_ifindex: tables.came_in_by(place),
        out_ifindex: if matches!(place.hook, Hook::Egress) { place.ifindex } else { 0 },
        chain: NO_CHAIN,
        ..Walk::default()
    };
    Verdict::Drop(reason)
}

#[inline(always)]
fn ip<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    place: Place,
    tables: &T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Verdict {
    if is_for_another_station(tables, place, scratch) {
        return Verdict::Pass(Stat::PassOtherHost);
    }
    let is_stranger = scratch.nat.has(done::STRANGER);
    scratch.nat.begin();
    if is_stranger {
        scratch.headers.is_damaged = 1;
    }
    let from = tables.came_in_by(place);
    if matches!(place.hook, Hook::Ingress) || from == 0 {
        scratch.nat.done = done::AT_ENTRANCE;
        if !is_stranger && tables.is_face(&scratch.headers.tuple.dst) {
            scratch.walk.in_ifindex = from;
            if !tables.come_in(packet, scratch, now) {
                return unreadable(tables, place, scratch, DropReason::Malformed, now);
            }
        }
    }
    let generation = tables.generation(now);
    scratch.walk.is_sifted = 0;
    let is_as_it_came = !is_stranger && scratch.nat.done == done::AT_ENTRANCE;
    if is_as_it_came && matches!(place.hook, Hook::Ingress) {
        match tables.sift(scratch, generation, from, now) {
            Sifted::Passes => {}
            Sifted::Dropped => return Verdict::Drop(DropReason::Rule),
            Sifted::ByPolicy => return Verdict::Drop(DropReason::Policy),
            Sifted::Broken => return Verdict::Drop(DropReason::RulesetBroken),
        }
    }
    let route = if scratch.nat.has(done::CAME | done::LED) && matches!(place.hook, Hook::Egress) {
        // The stack has routed it to its wire face.
        tables.reroute(place, &scratch.headers, packet.mark())
    } else {
        tables.route(place, &scratch.headers)
    };
    if scratch.walk.is_sifted != 0 {
        scratch.walk.route(&route);
    } else {
        prepare(tables, scratch, generation, &route);
    }
    scratch.walk.is_for_many = u8::from(came_for_many(place, scratch));
    scratch.renumbering.is_due = 0;
    scratch.renumbering.waits = 0;
    scratch.proxy.task = task::NONE;
    scratch.proxy.is_first = 0;
    scratch.proxy.is_open = 0;
    scratch.proxy.reopens = 0;
    if scratch.headers.is_later_fragment() {
        let inherited = tables.inherit(scratch, place.visit, now);
        return inherited.verdict(chain(scratch, route.chain));
    }
    if scratch.headers.is_first_fragment() && tables.is_repeated(scratch, now) {
        return Verdict::Drop(DropReason::FragmentOverlap);
    }
    let verdict = whole(packet, place, tables, scratch, &route, now);
    if scratch.headers.is_first_fragment()
        && matches!(verdict, Verdict::Drop(_) | Verdict::Reject(_))
    {
        tables.settle_fragments(scratch, false, now);
    }
    verdict
}

/// A packet with its transport header.
#[inline(always)]
fn whole<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    place: Place,
    tables: &T,
    scratch: &mut Scratch,
    route: &Route,
    now: Nanos,
) -> Verdict {
    let mut tracked = conntrack::track(packet, tables, scratch, now);
    if scratch.nat.has(done::CAME) && matches!(tracked.effect, Effect::Create(_)) {
        return again(tables, scratch, now);
    }
    let is_stray =
        scratch.nat.has(done::CAME | done::LED) && matches!(tracked.ctstate, CtState::Invalid);
    let mut may_prove = synproxy::may_prove(&scratch.headers, &scratch.proxy);
    if is_stray && !may_prove {
        return estrange(tables, scratch);
    }
    if let Some((_, flow)) = &tracked.flow
        && (flow.is_translated() || scratch.nat.has(done::LED))
        && !tables.go_out(scratch, flow, tracked.direction)
    {
        let is_twin = scratch.nat.has(done::LED)
            || departure::may_be_twin(&scratch.headers, flow, tracked.direction)
                && has_nat(tables, scratch);
        tracked.disown();
        if is_twin {
            scratch.nat.done |= done::TWIN;
            tracked = conntrack::begin_anew(tables, scratch, tracked.sender, now);
        }
    }
    if !may_prove && has_passed_by(tables, scratch, &tracked, now) {
        scratch.proxy.is_open = 1;
        may_prove = synproxy::may_prove(&scratch.headers, &scratch.proxy);
    }
    scratch.walk.ctstate = tracked.ctstate.bit();
    if matches!(tracked.effect, Effect::Create(_)) {
        tables.begin_flow(scratch, tracked.is_expected, now);
    }
    let is_remembered = !scratch.walk.ends_before_forward() && is_remembered(&tracked, scratch);
    if !is_remembered && needs_facts(tables, scratch) {
        tables.gather(packet, scratch, &tracked, place.hook, now);
    }
    if may_prove && has_proxy(tables, scratch) {
        match tables.question(scratch) {
            synproxy::Answer::Right if tables.undo(scratch) => return Verdict::Prove,
            synproxy::Answer::Right => return Verdict::Drop(DropReason::Malformed),
            synproxy::Answer::Wrong => return Verdict::Drop(DropReason::SynCookieWrong),
            synproxy::Answer::NotAsked => {}
        }
    }
    if is_stray {
        return estrange(tables, scratch);
    }
    scratch.walk.announced_by = tracked.announced_by;

    let outcome = if is_remembered {
        count_remembered(tables, scratch, &tracked)
    } else {
        tables.decide(scratch, place)
    };
    if scratch.nat.has(done::TURNED) {
        tracked.sender = if scratch.nat.sender == 0 { Sender::Low } else { Sender::High };
    }
    if scratch.walk.proof == proof::TAKEN {
        synproxy::conclude(&mut scratch.proxy.proof, &scratch.walk);
    } else {
        scratch.proxy.proof.is_proven = 0;
        if is_untracked(scratch) {
            tracked.effect = Effect::Nothing;
            // The rule that has asked for the cookie is gone, and no flow knows these ends.
            if scratch.nat.has(done::TWIN) && scratch.nat.has(done::TURNED) {
                return Verdict::Drop(DropReason::NatClash);
            }
        }
    }
    match outcome {
        Outcome::Accept if scratch.walk.ends_before_forward() => {
            Verdict::Drop(DropReason::FrameForMany)
        }
        Outcome::Accept => {
            let chain = chain(scratch, route.chain);
            tables.accept(packet, scratch, &mut tracked, chain, now)
        }
        Outcome::Drop if scratch.walk.is_policy != 0 => Verdict::Drop(DropReason::Policy),
        Outcome::Drop => Verdict::Drop(DropReason::Rule),
        Outcome::Reject => match RejectKind::from_byte(scratch.walk.argument as u8) {
            Some(kind) => Verdict::Reject(kind),
            None => Verdict::Drop(DropReason::RulesetBroken),
        },
        Outcome::Proxy => Verdict::Cookie,
        Outcome::Running | Outcome::Broken => Verdict::Drop(refusal(scratch)),
    }
}

/// Whether an INVALID segment, which may bring a cookie back, is none of the flow that has its ends
/// inside: it has passed by the wire face of that, and answers whom it has called.
#[inline(always)]
fn has_passed_by<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    tracked: &Tracked<'_>,
    now: Nanos,
) -> bool {
    let is_strange = matches!(tracked.ctstate, CtState::Invalid) && !scratch.nat.has(done::CAME);
    if !is_strange || !scratch.headers.has_tcp_flag(ACK) || !has_proxy(tables, scratch) {
        return false;
    }
    let sender = tables.key_of(&scratch.headers.tuple, &mut scratch.key);
    match conntrack::find(tables, &scratch.key, now) {
        Some((_, flow)) => departure::has_passed_by(flow, flow.direction(sender)),
        None => false,
    }
}

/// Why nothing has come of a packet's translation, or of its rules.
#[inline(always)]
fn refusal(scratch: &Scratch) -> DropReason {
    match scratch.nat.refusal {
        0 => DropReason::RulesetBroken,
        reason => DropReason::from_byte(reason - 1).unwrap_or(DropReason::RulesetBroken),
    }
}

/// What is left of a translated connection whose ends begin another is forgotten: that one
/// is translated by the rules, from the ends that it came with.
#[inline(always)]
fn again<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> Verdict {
    conntrack::bury(tables, scratch, now);
    let Scratch { nat, key, .. } = scratch;
    tables.key_of(&nat.wire, key);
    tables.forget_translation(key);
    match tables.undo(scratch) {
        true => Verdict::Again,
        false => Verdict::Drop(DropReason::Malformed),
    }
}

/// What only looks like a packet of a translated connection is not translated, as in the
/// kernel: it is INVALID to the rules, with the ends that it came with.
#[inline(always)]
fn estrange<T: Tables>(tables: &T, scratch: &mut Scratch) -> Verdict {
    if !tables.undo(scratch) {
        return Verdict::Drop(DropReason::Malformed);
    }
    scratch.nat.done = done::STRANGER;
    Verdict::Again
}

/// Whether a new flow has a face to claim: another one than its inside, or one that some
/// other flow may have.
#[inline(always)]
fn wants_face<T: Tables>(tables: &T, scratch: &Scratch) -> bool {
    scratch.walk.order_out != NO_ENTRY
        || scratch.nat.has(done::TURNED | done::FOLLOWS)
        || tables.is_face(&scratch.headers.tuple.src)
}

/// The rules said yes: remember, commit, and see whether a helper reads it.
#[inline(always)]
pub fn accept<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    tracked: &mut Tracked<'_>,
    chain: Chain,
    now: Nanos,
) -> Verdict {
    let reading = reading(tables, scratch, tracked, now);
    if matches!(reading, Reading::Forbidden) {
        return Verdict::Drop(DropReason::HelperAway);
    }
    remember(scratch, tracked);
    if scratch.mangling.has(change::CT_MARK)
        && let Some((_, flow)) = &mut tracked.flow
    {
        flow.mark = scratch.mangling.ct_mark;
    }
    let is_proxied = scratch.proxy.task != task::NONE || scratch.proxy.proof.is_proven != 0;
    if is_proxied && let Some((_, flow)) = &mut tracked.flow {
        tables.settle(packet, scratch, flow, tracked.direction);
    }
    if matches!(tracked.effect, Effect::Create(_))
        && wants_face(tables, scratch)
        && !tables.bind(scratch)
    {
        return Verdict::Drop(refusal(scratch));
    }
    if !has_way_out(tables, scratch, chain) {
        return Verdict::Drop(DropReason::NatWayOut);
    }
    // Behind the commit the flow may stand in another table; a new one is on the desk.
    let is_needed = matches!(reading, Reading::Needed);
    let is_described = is_needed || matches!(reading, Reading::Skipped);
    if is_described && let Some((_, flow)) = &tracked.flow {
        tables.describe(scratch, Some(flow), tracked.direction, now);
    }
    if let Err(reason) = tables.commit(scratch, tracked, now) {
        return Verdict::Drop(reason);
    }
    if is_described && tracked.flow.is_none() {
        tables.describe(scratch, None, tracked.direction, now);
    }
    // What is held the daemon gives its numbers, and perhaps another text.
    if scratch.renumbering.is_due != 0 && !is_needed && !tables.renumber(scratch) {
        return Verdict::Drop(DropReason::Malformed);
    }
    if scratch.headers.is_first_fragment() {
        tables.settle_fragments(scratch, true, now);
    }
    match reading {
        Reading::Needed => {
            tables.count(Stat::Punted as u32);
            Verdict::Punt(chain)
        }
        Reading::Skipped => {
            tables.count(Stat::PuntSkipped as u32);
            if !tables.options().has(option::REHEARSAL) {
                tables.pass_unread(scratch);
            }
            Verdict::Accept(chain)
        }
        Reading::NotNeeded | Reading::Forbidden => Verdict::Accept(chain),
    }
}

/// Whether what is translated leaves by a way on which it is put right: by an interface of
/// ours, and of this host's own packets to a next hop that is known.
#[inline(always)]
fn has_way_out<T: Tables>(tables: &T, scratch: &Scratch, chain: Chain) -> bool {
    const OUT: u8 = done::LEAVES | done::CAME | done::TURNED;
    if !scratch.nat.has(OUT) || !scratch.nat.has(done::AT_ENTRANCE) {
        return true;
    }
    match chain {
        Chain::Forward if scratch.nat.has(done::LEAVES) => {
            tables.device(scratch.walk.out_ifindex).is_none_or(|out| out.flags & device::OURS != 0)
        }
        Chain::Output if scratch.nat.has(done::CAME | done::TURNED) => tables.has_next_hop(),
        _ => true,
    }
}

/// Whether a rule in force has extra conditions.
#[inline(always)]
fn needs_facts<T: Tables>(tables: &T, scratch: &Scratch) -> bool {
    tables.ruleset(scratch.walk.slot).is_some_and(|header| header.needs & need::FACTS != 0)
}

/// Whether table nat has rules in force.
#[inline(always)]
fn has_nat<T: Tables>(tables: &T, scratch: &Scratch) -> bool {
    tables.ruleset(scratch.walk.slot).is_some_and(|header| header.needs & need::NAT != 0)
}

/// Whether a rule in force answers SYNs with cookies.
#[inline(always)]
fn has_proxy<T: Tables>(tables: &T, scratch: &Scratch) -> bool {
    tables.ruleset(scratch.walk.slot).is_some_and(|header| header.has_proxy != 0)
}

/// What table raw wants untracked changes no flow, and no helper reads it.
#[inline(always)]
const fn is_untracked(scratch: &Scratch) -> bool {
    scratch.walk.ctstate == CtState::Untracked.bit()
}

/// The chain of a packet, which its mark may have changed.
#[inline(always)]
fn chain(scratch: &Scratch, routed: Chain) -> Chain {
    match scratch.mangling.has(change::MARK | change::TOS) || scratch.nat.has(done::TURNED) {
        true => Chain::from_byte(scratch.walk.chain).unwrap_or(routed),
        false => routed,
    }
}

/// Whether the frame came in for a group of stations, or for all.
#[inline(always)]
fn came_for_many(place: Place, scratch: &Scratch) -> bool {
    let [first, ..] = scratch.headers.destination_mac;
    place.has_ethernet && matches!(place.hook, Hook::Ingress) && first & 1 != 0
}

/// The kernel's filter never sees a frame that the stack ignores.
#[inline(always)]
fn is_for_another_station<T: Tables>(tables: &T, place: Place, scratch: &Scratch) -> bool {
    let mac = scratch.headers.destination_mac;
    let is_group = mac[0] & 1 != 0;
    if !place.has_ethernet || matches!(place.hook, Hook::Egress) || is_group {
        return false;
    }
    tables.station(place).is_some_and(|own| own != mac)
}

/// Whether an accepted packet needs nothing that only the stack does: the first
/// packets of a flow have their reverse path and source checked there, and routers
/// read IP options, answer an ended TTL and write VLAN tags.
#[inline(always)]
pub const fn may_bypass_stack(headers: &Headers, walk: &Walk) -> bool {
    walk.ctstate == CtState::Established.bit()
        && headers.vlan == 0
        && headers.ttl > 1
        && !headers.has_ip_options()
}
