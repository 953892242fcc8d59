//! What comes in: from its wire face to the inside.

use super::desk::done;
use crate::{
    conntrack::find,
    flow::{Direction, Flow, Tuple, status},
    fragment::FragmentKey,
    packet::Packet,
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
};

/// Puts the destination of the packet on the desk right, if it is one from which a flow is
/// translated; `false` when its bytes cannot be written.
#[inline(always)]
pub fn come_in<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    now: Nanos,
) -> bool {
    if scratch.headers.is_later_fragment() {
        return recall(tables, scratch, now);
    }
    let is_error = scratch.headers.is_icmp_error();
    if !is_error {
        scratch.nat.wire = scratch.headers.tuple;
    } else if packet.quoted(&scratch.headers, &mut scratch.quoted)
        && scratch.quoted.src == scratch.headers.tuple.dst
    {
        scratch.nat.wire = scratch.quoted.reversed();
    } else {
        return true;
    }
    let sender = tables.key_of(&scratch.nat.wire, &mut scratch.key);
    let Some(found) = tables.translation(&scratch.key) else { return true };
    if !found.is_from(sender) {
        return true;
    }
    scratch.nat.inside = scratch.nat.wire;
    found.apply(&mut scratch.nat.inside);
    let Scratch { nat, key, .. } = scratch;
    let sender = tables.key_of(&nat.inside, key);
    let Some((_, flow)) = find(tables, key, now) else { return true };
    if !is_face_of(flow, flow.direction(sender), &nat.wire) {
        return true;
    }
    arrive(tables, scratch)
}

/// Gives the packet its inside ends, in its bytes and in the headers; `false` when its bytes
/// cannot be written.
#[inline(always)]
fn arrive<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    if !tables.turn(&scratch.headers, &scratch.nat.wire, &scratch.nat.inside) {
        return false;
    }
    if scratch.headers.is_icmp_error() {
        scratch.headers.tuple.dst = scratch.nat.inside.dst;
    } else {
        scratch.headers.tuple = scratch.nat.inside;
    }
    scratch.nat.done |= done::CAME;
    true
}

/// Whether packets of this direction have these ends when they come in.
#[inline(always)]
pub fn is_face_of(flow: &Flow, direction: Direction, wire: &Tuple) -> bool {
    let faces = &flow.faces;
    match direction {
        Direction::Original => {
            flow.has(status::DESTINATION_TRANSLATED)
                && faces.source[1] == wire.dst
                && faces.port[1] == wire.dport
                && faces.client_port == wire.sport
        }
        Direction::Reply => {
            flow.has(status::SOURCE_TRANSLATED)
                && faces.source[0] == wire.dst
                && faces.port[0] == wire.dport
        }
    }
}

/// A later fragment goes where its first one went.
#[inline(always)]
fn recall<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> bool {
    scratch.nat.wire = scratch.headers.tuple;
    scratch.fragment = FragmentKey::of(&scratch.headers, scratch.walk.in_ifindex);
    let Some(grant) = tables.fragment(&scratch.fragment) else { return true };
    if !grant.expires.is_after(now) || grant.tuple.dst == scratch.nat.wire.dst {
        return true;
    }
    scratch.nat.inside = scratch.nat.wire;
    scratch.nat.inside.dst = grant.tuple.dst;
    arrive(tables, scratch)
}

/// Puts the packet back as it came in, to be answered or judged anew; `false` when its bytes
/// cannot be written.
#[inline(always)]
pub fn undo<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    if !scratch.nat.has(done::CAME | done::TURNED) {
        return true;
    }
    if !tables.turn(&scratch.headers, &scratch.nat.inside, &scratch.nat.wire) {
        return false;
    }
    if scratch.headers.is_icmp_error() {
        scratch.headers.tuple.dst = scratch.nat.wire.dst;
    } else {
        scratch.headers.tuple = scratch.nat.wire;
    }
    scratch.nat.done = 0;
    true
}
