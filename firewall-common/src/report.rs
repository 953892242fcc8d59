//! What people are told of a packet: the LOG rules that it passed, and its end.

use crate::{
    control::{HEARTBEAT_LIMIT, Options, option},
    event::{EventKind, Hook},
    packet::Packet,
    scratch::{Budget, Scratch},
    tables::{Place, Tables},
    time::Nanos,
    verdict::{DropReason, Stat, Verdict},
    walk::MAX_LOGS,
};

/// Reports a drop when somebody watches, and the LOG rules that a packet passed. What was dropped
/// before it was routed is routed now.
#[inline(always)]
pub fn report<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    place: Place,
    verdict: Verdict,
    now: Nanos,
) {
    let options = tables.options();
    let reason = match verdict {
        Verdict::Drop(reason) => reason as u8 + 1,
        Verdict::Reject(_) => DropReason::Reject as u8 + 1,
        Verdict::Accept(_) | Verdict::Punt(_) | Verdict::Wait(_) | Verdict::Cookie => 0,
        // The desk still holds what was noted of another packet.
        Verdict::Pass(_) => return,
        // It is not over: its SYN will be judged.
        Verdict::Prove | Verdict::Again => return,
    };
    let is_told = reason != 0
        && (options.has(option::REPORT_DROPS) || is_remembered(tables, scratch, options, now));
    scratch.walk.drop_reason = if is_told { reason } else { 0 };
    if scratch.walk.drop_reason != 0 || scratch.walk.log_count != 0 {
        if matches!(place.hook, Hook::Ingress) && scratch.walk.is_unrouted != 0 {
            scratch.walk.route(&tables.route(place, &scratch.headers));
        }
        tables.tell(packet, scratch, now);
    }
}

/// Whether a drop that nobody watches is one of those that the daemon remembers.
#[inline(always)]
fn is_remembered<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    options: Options,
    now: Nanos,
) -> bool {
    options.has(option::REMEMBER_DROPS)
        && !now.since(tables.heartbeat()).is_after(HEARTBEAT_LIMIT)
        && scratch.remembered.spend(now, Budget::REMEMBERED)
}

/// Tells user space of the LOG rules that the packet passed, and of its end when
/// it was dropped.
#[inline(always)]
pub fn tell<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    now: Nanos,
) {
    let Scratch { event, walk, headers, .. } = scratch;
    event.at = now;
    event.in_ifindex = walk.in_ifindex;
    event.out_ifindex = walk.out_ifindex;
    event.generation = walk.generation;
    event.frame_len = packet.len();
    event.l3 = headers.l3 as u16;
    event.l4 = headers.l4 as u16;
    event.chain = walk.chain;
    event.ctstate = walk.ctstate;
    event.captured = packet.capture(&mut event.frame);
    event.kind = EventKind::Log as u8;
    event.reason = 0;
    for number in 0..MAX_LOGS {
        if number as u32 >= scratch.walk.log_count {
            break;
        }
        scratch.event.rule = u32::from(scratch.walk.logs[number & (MAX_LOGS - 1)]);
        send(tables, scratch, now);
    }
    if scratch.walk.drop_reason != 0 {
        scratch.event.kind = EventKind::Drop as u8;
        scratch.event.reason = scratch.walk.drop_reason - 1;
        scratch.event.rule = scratch.walk.decided;
        send(tables, scratch, now);
    }
}

/// Hands over the event that is written, as long as the budget lasts.
#[inline(always)]
fn send<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) {
    if scratch.budget.spend(now, Budget::PER_SECOND) {
        tables.report(&scratch.event);
    } else {
        tables.count(Stat::EventsLost as u32);
    }
}
