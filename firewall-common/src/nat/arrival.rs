//! What comes in: from its wire face to the inside.

use super::{departure::comes_translated, desk::done};
use crate::{
    conntrack::find,
    control::option,
    flow::{Direction, Flow, Tuple, helper, protocol, status},
    fragment::FragmentKey,
    headers::Headers,
    packet::Packet,
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
    wire::tcp_flag::{ACK, FIN, RST, SYN},
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
    let came = if is_known(tables, scratch, now) {
        done::CAME
    } else if !is_error && is_announced(tables, scratch, now) {
        done::LED
    } else {
        return true;
    };
    arrive(tables, scratch, came)
}

/// Whether `nat.wire` is the face of a flow, whose inside is `nat.inside` then.
#[inline(always)]
fn is_known<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> bool {
    let Scratch { nat, key, .. } = scratch;
    let sender = tables.key_of(&nat.wire, key);
    let Some(found) = tables.translation(key) else { return false };
    if !found.is_from(sender) {
        return false;
    }
    nat.inside = nat.wire;
    found.apply(&mut nat.inside);
    let sender = tables.key_of(&nat.inside, key);
    let Some((_, flow)) = find(tables, key, now) else { return false };
    is_face_of(flow, flow.direction(sender), &nat.wire)
}

/// Whether the packet on the desk begins a connection that a helper has announced to come to a
/// wire face; its inside is `nat.inside` then.
#[inline(always)]
fn is_announced<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> bool {
    let Headers { tuple, tcp_flags, .. } = &scratch.headers;
    let may_begin = match tuple.protocol {
        protocol::TCP => tcp_flags & (SYN | ACK | FIN | RST) == SYN,
        protocol::UDP => tables.options().has(option::UDP_EXPECTED),
        _ => false,
    };
    if !may_begin || tables.announcer(scratch, now) == helper::NONE {
        return false;
    }
    let Some(expectation) = tables.expectation(&scratch.expectation) else { return false };
    if !expectation.leads_inside() || is_of_other_flow(tables, scratch, now) {
        return false;
    }
    let nat = &mut scratch.nat;
    nat.inside = nat.wire;
    nat.inside.dst = expectation.inside;
    nat.inside.dport = expectation.inside_port_of(nat.wire.dport);
    true
}

/// Whether a datagram is of a flow that has its very ends: one of the host's own. A SYN may begin
/// another one in its place.
#[inline(always)]
fn is_of_other_flow<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> bool {
    let Scratch { nat, key, .. } = scratch;
    if nat.wire.protocol != protocol::UDP {
        return false;
    }
    let sender = tables.key_of(&nat.wire, key);
    let own = find(tables, key, now);
    own.is_some_and(|(_, flow)| !comes_translated(flow, flow.direction(sender)))
}

/// Gives the packet its inside ends, in its bytes and in the headers, and notes how it came to
/// them; `false` when its bytes cannot be written.
#[inline(always)]
fn arrive<T: Tables>(tables: &T, scratch: &mut Scratch, came: u8) -> bool {
    if !tables.turn(&scratch.headers, &scratch.nat.wire, &scratch.nat.inside) {
        return false;
    }
    if scratch.headers.is_icmp_error() {
        scratch.headers.tuple.dst = scratch.nat.inside.dst;
    } else {
        scratch.headers.tuple = scratch.nat.inside;
    }
    scratch.nat.done |= came;
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
    arrive(tables, scratch, done::CAME)
}

/// Puts the packet back as it came in, to be answered or judged anew; `false` when its bytes
/// cannot be written.
#[inline(always)]
pub fn undo<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    if !scratch.nat.has(done::CAME | done::TURNED | done::LED) {
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
