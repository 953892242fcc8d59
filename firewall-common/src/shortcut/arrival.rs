//! The flow of a packet, and how the packet has come to it: by the ends that it bears, or from a wire
//! face, where a hint or the table of translations leads inside.

use crate::{
    flow::{Direction, Flow, status},
    hop::Exit,
    nat::arrival::is_face_of,
    tables::Tables,
    time::Nanos,
};

use super::{
    Address, Ends, Ip, Plain,
    hint::{Hint, Mark, Part},
};

/// How a packet has come to the ends that it has inside.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<A> {
    pub inside: Ends<A>,
    /// It came to a wire face.
    pub is_translated: bool,
}

impl<A: Address> Arrival<A> {
    /// Whether packets of this direction of the flow, whose key is that of the inside ends, come so:
    /// who knows the inside ends cannot send to them past the wire face. What leads from a wire
    /// face may be wrong ([`super::hint`]), so the flow must have each end of the packet; the
    /// sender's address is the packet's own in any case.
    #[inline(always)]
    pub fn is_right<I: Ip<Address = A>>(
        &self,
        flow: &Flow,
        direction: Direction,
        plain: &Plain<I>,
    ) -> bool {
        if self.is_translated {
            let wire = plain.ends();
            return is_face_of(flow, direction, &wire.tuple(plain.ip.protocol()))
                && (self.inside.sport == wire.sport || matches!(direction, Direction::Original));
        }
        !flow.has(match direction {
            Direction::Original => status::DESTINATION_TRANSLATED,
            Direction::Reply => status::SOURCE_TRANSLATED,
        })
    }
}

/// The flow of a packet.
pub struct Found<'t, A> {
    pub arrival: Arrival<A>,
    pub flow: &'t mut Flow,
    pub direction: Direction,
}

/// The confirmed flow of an eligible packet, and how that has come to it.
#[inline(always)]
pub fn find<'t, I: Ip, T: Tables>(
    plain: &Plain<I>,
    exit: Exit,
    tables: &'t T,
    now: Nanos,
) -> Option<Found<'t, I::Address>> {
    let (wire, protocol) = (plain.ends(), plain.ip.protocol());
    let mark = Mark::of(&wire, protocol);
    // Something may be translated that is addressed so. The long way writes what the stack is to see.
    let (inside, source) = match (tables.is_face(&wire.dst.wide()), exit) {
        (true, Exit::Redirect) => way_in(&wire, mark, protocol, tables),
        (true, Exit::Stack) => return None,
        (false, _) => (wire, Source::Packet),
    };
    let arrival = Arrival { inside, is_translated: !matches!(source, Source::Packet) };
    let Some(found) = lead(arrival, plain, tables, now) else {
        if matches!(source, Source::Hint) {
            tables.note_hint(mark, Part::First, &Hint::NONE);
        }
        return None;
    };
    if matches!(source, Source::Table) {
        I::Address::note_hint(tables, mark, &inside);
    }
    Some(found)
}

/// Who has said which ends a packet has inside.
enum Source {
    Packet,
    Hint,
    Table,
}

/// The ends inside of packets that come with these, of a confirmed flow.
#[inline(always)]
fn way_in<A: Address, T: Tables>(
    wire: &Ends<A>,
    mark: Mark,
    protocol: u8,
    tables: &T,
) -> (Ends<A>, Source) {
    if let Some(inside) = A::hinted(tables, mark, wire) {
        return (inside, Source::Hint);
    }
    let (key, sender) = wire.key(protocol);
    match A::kept_translation(tables, &key).filter(|found| found.is_from(sender)) {
        Some(found) => (Ends::inside(found), Source::Table),
        None => (*wire, Source::Packet),
    }
}

/// The flow that has these ends inside, if packets come to it so.
#[inline(always)]
fn lead<'t, I: Ip, T: Tables>(
    arrival: Arrival<I::Address>,
    plain: &Plain<I>,
    tables: &'t T,
    now: Nanos,
) -> Option<Found<'t, I::Address>> {
    let (key, sender) = arrival.inside.key(plain.ip.protocol());
    let flow = I::Address::confirmed(tables, &key)?;
    let direction = flow.direction(sender);
    let is_right = !flow.is_expired(now) && arrival.is_right(flow, direction, plain);
    is_right.then_some(Found { arrival, flow, direction })
}
