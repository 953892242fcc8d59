//! Sequence numbers of a control connection whose text has been written anew: another
//! length moves everything behind it.
//!
//! Each direction has a [`Shift`]: where its sender's text was replaced ([`Edit`]), and by how
//! much the numbers behind each place differ between sender and receiver. Tracking knows the
//! *sender's* numbers in both directions, as nf_conntrack_seqadj has it: a segment's own number
//! as it comes in, its acknowledgements turned back ([`receive`]); what is judged gets the
//! other side's numbers in its bytes ([`renumber`]).
//!
//! ```text
//! sender     … P O R T   1 9 2 , 0 , 2 , 2 , 5 , 6 | R E T R …     at 105, 13 bytes, next 118
//! receiver   … P O R T   1 9 8 , 5 1 , 1 0 0 , 1 , 5 , 6 | R E T R …     16 bytes, next 121
//! ```
//!
//! Only user space changes shifts, before it sends the segment on that they are about; an edit
//! keeps its text so that whoever reads the segment again writes the same.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::{
    checksum::Difference,
    flow::{Direction, Flow, helper, status},
    mangle::rewrite::Frame,
    scratch::Scratch,
    seq::Seq,
    synproxy::header::TcpHeader,
    tables::Tables,
    time::Nanos,
    wire::{Tcp, tcp_flag::ACK},
};

/// Places of one direction that are remembered; older ones have arrived.
pub const EDITS: usize = 4;
/// Bytes of the text that stands at a place.
pub const TEXT: usize = 112;

/// Bits of [`Edit::flags`].
pub mod edit {
    /// Text of the sender is withheld, and acknowledged by [`super::Shift::back`], until the
    /// rest of it is there: [`super::Edit::text`] is the sender's own.
    pub const WITHHELD: u8 = 1 << 0;
    /// It was, and its sender may go on behind it: the segment there brings the text.
    pub const OWED: u8 = 1 << 1;
}

/// A place where a sender's text was replaced.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Edit {
    /// The sender's number of the first byte.
    pub at: u32,
    /// What is added to the sender's numbers behind it.
    pub after: u32,
    /// Bytes of the sender's.
    pub old_len: u16,
    /// Bytes that the receiver gets.
    pub new_len: u16,
    /// Of [`Edit::text`].
    pub text_len: u8,
    /// Bits of [`edit`].
    pub flags: u8,
    pub _pad: [u8; 2],
    pub text: [u8; TEXT],
}

impl Edit {
    /// The sender's number behind it.
    #[inline(always)]
    pub const fn end(&self) -> Seq {
        Seq(self.at).plus(self.old_len as u32)
    }

    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn text(&self) -> &[u8] {
        &self.text[..usize::from(self.text_len).min(TEXT)]
    }
}

/// One direction: from its sender's numbers to its receiver's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Shift {
    /// What is added to numbers up to the first edit.
    pub before: u32,
    /// Edits that count.
    pub count: u32,
    /// In the order of the stream.
    pub edits: [Edit; EDITS],
}

impl Default for Shift {
    fn default() -> Self {
        Self::zeroed()
    }
}

impl Shift {
    pub fn edits(&self) -> &[Edit] {
        &self.edits[..(self.count as usize).min(EDITS)]
    }

    /// The receiver's number of a byte. Within a place that is its beginning.
    #[inline(always)]
    pub fn forward(&self, number: u32) -> u32 {
        let number = Seq(number);
        let mut shift = self.before;
        for (index, edit) in self.edits.iter().enumerate() {
            if index as u32 >= self.count || !number.is_after(Seq(edit.at)) {
                break;
            }
            if number.is_before(edit.end()) {
                return Seq(edit.at).plus(shift).0;
            }
            shift = edit.after;
        }
        number.plus(shift).0
    }

    /// The sender's number for one that the receiver knows, and acknowledges. Within a place
    /// nothing of it has arrived yet.
    #[inline(always)]
    pub fn back(&self, number: u32) -> u32 {
        let number = Seq(number);
        let mut shift = self.before;
        for (index, edit) in self.edits.iter().enumerate() {
            if index as u32 >= self.count {
                break;
            }
            let begins = Seq(edit.at).plus(shift);
            if number.is_before(begins.plus(u32::from(edit.new_len))) {
                if number.is_after(begins) {
                    return edit.at;
                }
                break;
            }
            shift = edit.after;
        }
        number.minus(shift).0
    }

    /// Whether only who knows the text can send a segment on that begins at this number of
    /// the sender's.
    #[inline(always)]
    pub fn waits(&self, number: u32) -> bool {
        let number = Seq(number);
        let mut waits = false;
        for (index, edit) in self.edits.iter().enumerate() {
            if (index as u32) < self.count {
                let is_owed = edit.has(edit::OWED | edit::WITHHELD) && number == edit.end();
                waits = waits || is_owed || number.is_before(edit.end());
            }
        }
        waits
    }
}

/// The shifts of a flow, as the value of the map `sequence_shifts`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Shifts {
    /// [`Flow::created`]: a later flow with the same key has none.
    pub created: Nanos,
    /// By the [`Direction`] of the text.
    pub sides: [Shift; 2],
}

impl Shifts {
    pub fn of(created: Nanos) -> Self {
        Self { created, sides: [Shift::default(); 2] }
    }

    #[inline(always)]
    pub const fn side(&self, direction: Direction) -> &Shift {
        &self.sides[direction.index() & 1]
    }

    #[inline(always)]
    pub const fn side_mut(&mut self, direction: Direction) -> &mut Shift {
        &mut self.sides[direction.index() & 1]
    }
}

impl Flow {
    /// Whether it is a control connection of which text may have been written anew. Whoever
    /// judges packets on a shorter way must ask this first; a flow without a helper is none.
    #[inline(always)]
    pub const fn may_be_shifted(&self) -> bool {
        self.helper != helper::NONE
            && self.has(status::SOURCE_TRANSLATED | status::DESTINATION_TRANSLATED)
            && !self.has(status::EXPECTED | status::PROXIED)
    }
}

/// What is to become of the numbers of the segment at hand.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Zeroable)]
pub struct Renumbering {
    /// Added to its sequence number.
    pub seq: u32,
    /// Its direction, as a number.
    pub direction: u32,
    /// 1 when its flow has shifts.
    pub is_due: u32,
    /// 1 when only the daemon can send it on.
    pub waits: u32,
}

/// Takes a segment for tracking, whose flow is that of the key on the desk and began at this
/// time: what it acknowledges becomes numbers of who has sent that.
#[inline(always)]
pub fn receive<T: Tables>(tables: &T, scratch: &mut Scratch, created: Nanos, direction: Direction) {
    let Some(shifts) = tables.shifts(&scratch.key) else { return };
    if shifts.created != created {
        return;
    }
    let Scratch { renumbering, headers, seen, .. } = scratch;
    let own = shifts.side(direction);
    renumbering.seq = tables.forward(own, headers.seq).wrapping_sub(headers.seq);
    renumbering.direction = direction as u32;
    renumbering.is_due = 1;
    renumbering.waits = u32::from(own.waits(headers.seq) && headers.payload_len != 0);
    if headers.has_tcp_flag(ACK) {
        let other = shifts.side(direction.reversed());
        headers.ack = tables.back(other, headers.ack);
        seen.ack = Seq(headers.ack);
        seen.sack = Seq(tables.back(other, seen.sack.0));
    }
}

/// Blocks that fit a header (RFC 2018 section 3).
const MAX_SACK_BLOCKS: u32 = 4;

/// Gives the segment at hand the numbers that its receiver knows; `false` when its bytes
/// cannot be written. A header has one length before and after, and its checksum changes by
/// what was changed.
#[inline(always)]
pub fn renumber<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &T,
    scratch: &mut Scratch,
) -> bool {
    let Scratch { proxy, headers, .. } = &mut *scratch;
    if !proxy.header.read(frame, tables, headers) {
        return false;
    }
    let Some(change) = rewrite(tables, scratch) else { return false };
    store(frame, scratch, change)
}

/// Writes the receiver's numbers into the header on the desk; gives what its checksum makes
/// good, and nothing where the shifts are gone.
#[inline(always)]
pub fn rewrite<T: Tables>(tables: &T, scratch: &mut Scratch) -> Option<Difference> {
    let shifts = tables.shifts(&scratch.key)?;
    let Scratch { proxy, headers, renumbering, .. } = scratch;
    let header = &mut proxy.header;
    let before = tables.sum_of(header);
    header.words[1] = u32::from_be(header.words[1]).wrapping_add(renumbering.seq).to_be();
    if headers.has_tcp_flag(ACK) {
        let other = &shifts.sides[(renumbering.direction as usize ^ 1) & 1];
        header.words[2] = tables.back(other, u32::from_be(header.words[2])).to_be();
        for edge in 0..MAX_SACK_BLOCKS * 2 {
            tables.turn_edge(header, other, edge);
        }
    }
    Some(Difference::default().word(before, tables.sum_of(header)))
}

/// Turns an edge of a SACK block back, if there are so many.
#[inline(always)]
pub fn turn_edge(header: &mut TcpHeader, other: &Shift, edge: u32) {
    if header.sack_at == 0 || (edge + 1) * 4 > header.sack_len {
        return;
    }
    let at = header.sack_at + edge * 4;
    let number = other.back(header.number(at));
    header.set_number(at, number);
}

/// Puts the header on the desk into the packet.
#[inline(always)]
pub fn store<F: Frame + ?Sized>(frame: &F, scratch: &Scratch, change: Difference) -> bool {
    let Scratch { proxy, headers, .. } = scratch;
    let is_unfinished = frame.is_unfinished(headers);
    let at = headers.l4 + offset_of!(Tcp, checksum) as u32;
    let none = Difference::default();
    frame.paste(headers.l4, proxy.header.len, bytemuck::cast_ref(&proxy.header.words))
        && frame.mend(at, headers.family(), none, change, false, is_unfinished)
}

const _: () = assert!(size_of::<Edit>() == 128);
const _: () = assert!(size_of::<Shift>() == 520);
const _: () = assert!(size_of::<Shifts>() == 1_048);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Edits of these lengths, each so many bytes behind the one before.
    fn shift(start: u32, places: &[(u32, u16, u16)]) -> Shift {
        let mut shift = Shift { before: 7, count: places.len() as u32, ..Shift::default() };
        let (mut at, mut after) = (Seq(start), shift.before);
        for (edit, (gap, old_len, new_len)) in shift.edits.iter_mut().zip(places) {
            at = at.plus(*gap);
            after = after.wrapping_add(u32::from(*new_len)).wrapping_sub(u32::from(*old_len));
            let (at, after, old_len, new_len) = (at.0, after, *old_len, *new_len);
            *edit = Edit { at, after, old_len, new_len, ..Edit::zeroed() };
        }
        let mut end = Seq(start);
        for edit in &mut shift.edits[..places.len()] {
            edit.at = end.plus(edit.at.wrapping_sub(start)).0;
            end = end.plus(u32::from(edit.old_len));
        }
        shift
    }

    fn places() -> impl Strategy<Value = Vec<(u32, u16, u16)>> {
        prop::collection::vec((0u32..50, 1u16..40, 0u16..60), 0..=EDITS)
    }

    proptest! {
        #[test]
        fn what_lies_between_places_is_found_again(
            start: u32,
            places in places(),
            offset in 0u32..400,
        ) {
            let shift = shift(start, &places);
            let number = Seq(start).plus(offset);
            let within = |edit: &Edit| {
                number.is_after(Seq(edit.at)) && number.is_before(edit.end())
            };
            let there = shift.forward(number.0);
            match shift.edits().iter().find(|edit| within(edit)) {
                Some(edit) => prop_assert_eq!(shift.forward(edit.at), there),
                // Where nothing is left of a place, its beginning is its end.
                None if shift.edits().iter().any(|edit| edit.at == number.0) => {}
                None => prop_assert_eq!(shift.back(there), number.0),
            }
        }

        #[test]
        fn numbers_keep_their_order(start: u32, places in places(), a in 0u32..400, b in 0u32..400) {
            let shift = shift(start, &places);
            let [low, high] = [a.min(b), a.max(b)].map(|offset| Seq(start).plus(offset).0);
            prop_assert!(!Seq(shift.forward(high)).is_before(Seq(shift.forward(low))));
            let [low, high] = [low, high].map(|number| number.wrapping_add(shift.before));
            prop_assert!(!Seq(shift.back(high)).is_before(Seq(shift.back(low))));
        }
    }

    #[test]
    fn a_place_that_has_arrived_in_part_has_not_arrived() {
        let shift = shift(1_000, &[(5, 13, 16)]);
        assert_eq!(shift.back(1_012), 1_005);
        assert_eq!(shift.back(1_013), 1_005);
        assert_eq!(shift.back(1_027), 1_005);
        assert_eq!(shift.back(1_028), 1_018);
        assert_eq!(
            [1_004, 1_005, 1_009, 1_018].map(|it| shift.forward(it)),
            [1_011, 1_012, 1_012, 1_028]
        );
    }

    #[test]
    fn what_is_withheld_is_acknowledged() {
        let mut shift = shift(1_000, &[(5, 4, 0)]);
        shift.edits[0].flags = edit::WITHHELD;
        assert_eq!(shift.back(1_012), 1_009);
        assert!(shift.waits(1_005) && shift.waits(1_009) && !shift.waits(1_010));
    }
}
