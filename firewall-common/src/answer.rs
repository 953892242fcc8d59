//! The answer of a REJECT on its way out: a packet of this host, which the rules of OUTPUT and
//! of POSTROUTING see, and may drop.
//!
//! As in the kernel it belongs to the connection of the packet that it answers, and is RELATED
//! to it; about a packet of no connection it is INVALID. Where that packet would have begun a
//! connection, table nat has not been asked about its source yet: POSTROUTING is asked with the
//! answer, if that is a reset, and counts it. Nothing that rules would change of an answer is changed.

use crate::{
    conntrack::{Effect, Tracked, find},
    control::device,
    event::Hook,
    extra::need,
    flow::{CtState, Direction, Sender, helper, protocol},
    fragment::Visit,
    headers::Parsed,
    packet::Packet,
    report,
    rule::{Chain, NO_ENTRY},
    scratch::Scratch,
    tables::{Place, Tables},
    time::Nanos,
    verdict::{DropReason, Verdict},
    walk::{Outcome, Walk, nat as shown},
};

/// Whether the rules let the answer out, whose bytes stand in `packet`; `answered` is the desk
/// on which the packet that it answers was judged, as it came in, `scratch` another one. An
/// answer that is dropped is counted and reported.
///
/// What goes to a sender on this host, or to an interface that is not ours, is not judged: it
/// leaves by none of ours.
#[inline(always)]
pub fn may_leave<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    answered: &Scratch,
    scratch: &mut Scratch,
    now: Nanos,
) -> bool {
    let out_ifindex = answered.walk.in_ifindex;
    if tables.device(out_ifindex).is_none_or(|out| out.flags & device::OURS == 0) {
        return true;
    }
    let has_ethernet = answered.headers.l3 != 0;
    if !matches!(packet.headers(&mut scratch.headers, has_ethernet), Ok(Parsed::Ip)) {
        return true;
    }
    set_out(&answered.walk, scratch);
    gather(packet, tables, answered, scratch, now);
    let verdict = match tables.judge(scratch) {
        Outcome::Accept => Verdict::Accept(Chain::Output),
        Outcome::Drop if scratch.walk.is_policy != 0 => Verdict::Drop(DropReason::Policy),
        Outcome::Running | Outcome::Broken => Verdict::Drop(DropReason::RulesetBroken),
        // Nothing answers an answer.
        Outcome::Drop | Outcome::Reject | Outcome::Proxy => Verdict::Drop(DropReason::Rule),
    };
    let place = Place { hook: Hook::Egress, ifindex: out_ifindex, has_ethernet, visit: Visit::New };
    report::report(packet, tables, scratch, place, verdict, now);
    if !matches!(verdict, Verdict::Accept(_)) {
        tables.count(verdict.counter());
        return false;
    }
    true
}

/// Begins the walk of the answer to the packet of this walk.
#[inline(always)]
fn set_out(answered: &Walk, scratch: &mut Scratch) {
    const NONE: u8 = CtState::Invalid.bit() | CtState::Untracked.bit();
    let is_tracked = answered.ctstate & NONE == 0;
    let ctstate = if is_tracked { CtState::Related } else { CtState::Invalid };
    let is_reset = scratch.headers.tuple.protocol == protocol::TCP;
    let is_shown = is_tracked && is_reset && answered.nat != shown::NONE;
    scratch.walk = Walk {
        generation: answered.generation,
        slot: answered.slot,
        out_ifindex: answered.in_ifindex,
        chain: Chain::Output as u8,
        ctstate: ctstate.bit(),
        nat: if is_shown { shown::BEHIND_ROUTING } else { shown::NONE },
        order_in: NO_ENTRY,
        order_out: NO_ENTRY,
        ..Walk::default()
    };
}

/// Gathers what rules may ask of the answer, and of the connection that it belongs to, whose
/// other direction it goes.
#[inline(always)]
fn gather<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    answered: &Scratch,
    scratch: &mut Scratch,
    now: Nanos,
) {
    let needs = tables.ruleset(scratch.walk.slot).map_or(0, |header| header.needs);
    if needs & need::FACTS == 0 {
        return;
    }
    scratch.key = answered.key;
    let found = find(tables, &answered.key, now);
    let mut direction = Direction::Reply;
    if let Some((_, flow)) = &found {
        flow.write_wire_original(&answered.key, &mut scratch.quoted);
        if scratch.quoted != answered.headers.tuple {
            direction = Direction::Original;
        }
    }
    let tracked = Tracked {
        ctstate: CtState::Related,
        direction,
        sender: Sender::Low,
        effect: Effect::Nothing,
        flow: found,
        is_expected: false,
        announced_by: helper::NONE,
    };
    tables.gather(packet, scratch, &tracked, Hook::Egress, now);
}
