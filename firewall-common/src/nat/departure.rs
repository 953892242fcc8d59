//! What goes out: from the inside to its wire face.

use super::desk::done;
use crate::{
    flow::{Direction, Flow, protocol, status},
    headers::Headers,
    scratch::Scratch,
    wire::tcp_flag::{ACK, FIN, RST, SYN},
};

/// Whether packets of this direction bear other ends when they come in than inside.
#[inline(always)]
pub(super) const fn comes_translated(flow: &Flow, direction: Direction) -> bool {
    match direction {
        Direction::Original => flow.has(status::DESTINATION_TRANSLATED),
        Direction::Reply => flow.has(status::SOURCE_TRANSLATED),
    }
}

/// Whether the packet on the desk, which goes in this direction, has come as those of its
/// flow do: who knows the inside ends cannot send to them past the wire face, and what was led to
/// them has come to another one.
#[inline(always)]
const fn comes_right(scratch: &Scratch, flow: &Flow, direction: Direction) -> bool {
    let may_come = !comes_translated(flow, direction)
        || scratch.nat.has(done::CAME)
        || !scratch.nat.has(done::AT_ENTRANCE);
    may_come && !scratch.nat.has(done::LED)
}

/// Whether a packet that is none of this flow, though it has its inside ends, may be the first
/// one of another: its sender calls the server by the address that it really has.
#[inline(always)]
pub const fn may_be_twin(headers: &Headers, flow: &Flow, direction: Direction) -> bool {
    const NO_SYN: u8 = ACK | FIN | RST;
    let begins = match headers.tuple.protocol {
        protocol::UDP => true,
        protocol::TCP => headers.tcp_flags & (SYN | NO_SYN) == SYN,
        _ => false,
    };
    begins && has_passed_by(flow, direction) && !headers.is_icmp_error()
}

/// Whether a packet that is none of this flow, though it has its inside ends, was sent to the server
/// past the wire face of the flow.
#[inline(always)]
pub const fn has_passed_by(flow: &Flow, direction: Direction) -> bool {
    matches!(direction, Direction::Original) && flow.has(status::DESTINATION_TRANSLATED)
}

/// A packet of a translated flow, which goes in this direction: `false` when it is none of
/// it, else it is noted with which ends it leaves.
#[inline(always)]
pub const fn go_out(scratch: &mut Scratch, flow: &Flow, direction: Direction) -> bool {
    if !comes_right(scratch, flow, direction) {
        return false;
    }
    leave(scratch, flow, direction);
    true
}

/// Notes with which ends a packet leaves that goes in this direction of a flow.
#[inline(always)]
pub const fn leave(scratch: &mut Scratch, flow: &Flow, direction: Direction) {
    let is_translated = match direction {
        Direction::Original => flow.has(status::SOURCE_TRANSLATED),
        Direction::Reply => flow.has(status::DESTINATION_TRANSLATED),
    };
    if !is_translated {
        return;
    }
    let nat = &mut scratch.nat;
    if scratch.headers.is_icmp_error() {
        scratch.quoted.turn_over(&mut nat.inside);
    } else {
        nat.inside = scratch.headers.tuple;
    }
    nat.leaving = nat.inside;
    let place = direction.index() & 1;
    nat.leaving.src = flow.faces.source[place];
    nat.leaving.sport = flow.faces.port[place];
    if matches!(direction, Direction::Reply) {
        nat.leaving.dport = flow.faces.client_port;
    }
    nat.done |= done::LEAVES;
}
