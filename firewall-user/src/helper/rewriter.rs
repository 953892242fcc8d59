//! One direction's text, written anew: which bytes a receiver gets for a sender's segment.
//!
//! What was replaced stands in the [`Shift`] until it has arrived, with its text. So each
//! segment, whenever and however often it comes, however it is cut, becomes the same bytes at
//! the same places of the receiver's stream. The beginning of an announcement whose rest is
//! still to come is withheld: nobody knows yet how it will be spelled. Its sender learns that
//! it has arrived, by the receiver's next acknowledgement, and sends the rest; the text goes on
//! with that.
//!
//! Without I/O, and without an idea of FTP.

use bytemuck::Zeroable;
use firewall_common::{
    seq::Seq,
    shift::{EDITS, Edit, Shift, TEXT, edit},
};

use super::{Replacement, Unfinished};

/// Edits that one line, or a part of one, may need.
const ROOM: usize = 1;
/// Numbers further apart cannot be told before from behind.
const FAR: u32 = 1 << 30;

/// What goes on in the place of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// The receiver's number of the first byte.
    pub seq: u32,
    /// Nothing, when all is withheld.
    pub bytes: Vec<u8>,
}

impl Emission {
    /// Becomes one byte that the receiver has had, where nothing goes on: it says again what it
    /// has (RFC 9293 section 3.10.7.4), and that is what the sender waits for. Linux answers an
    /// empty segment like that twice a second at most.
    pub fn nudge(&mut self, before: Option<u8>) {
        self.seq = self.seq.wrapping_sub(1);
        self.bytes.extend(before);
    }
}

/// How many bytes of a segment that begins at this number stand before the end of what was told.
/// A reader that knows nothing of them, as that of another daemon, must not read them again.
pub fn told_within(shift: &Shift, seq: u32) -> usize {
    let told = shift.edits().iter().rev().find(|edit| !edit.has(edit::WITHHELD));
    let end = told.map(Edit::end).filter(|end| end.is_after(Seq(seq)));
    end.map_or(0, |end| end.since(Seq(seq)) as usize)
}

/// The text of one direction.
#[derive(Debug)]
pub struct Rewriter<'s> {
    shift: &'s mut Shift,
    /// What the receiver has acknowledged, in the sender's numbers.
    received: Option<Seq>,
}

impl<'s> Rewriter<'s> {
    pub const fn new(shift: &'s mut Shift, received: Option<Seq>) -> Self {
        Self { shift, received }
    }

    /// Whether a line, or a part of one, may be read that begins at this number: there is room
    /// for what it may need. Else its sender must repeat it, when what came before has arrived;
    /// what was read already goes on.
    pub fn has_room(&mut self, seq: u32) -> bool {
        let is_far = |edit: &Edit| Seq(seq).minus(FAR).is_after(edit.end());
        while self.shift.edits().first().is_some_and(is_far) {
            self.forget_first();
        }
        while self.shift.edits().len() + ROOM > EDITS && self.has_arrived() {
            self.forget_first();
        }
        self.shift.edits().len() + ROOM <= EDITS
    }

    /// Whether the oldest edit is of no use any more.
    fn has_arrived(&self) -> bool {
        let (Some(first), Some(received)) = (self.shift.edits().first(), self.received) else {
            return false;
        };
        received.is_after(first.end()) || (received == first.end() && !is_owed(first))
    }

    fn forget_first(&mut self) {
        self.shift.before = self.shift.edits[0].after;
        self.shift.edits.rotate_left(1);
        self.shift.count -= 1;
        self.shift.edits[EDITS - 1] = Edit::zeroed();
    }

    /// Takes in what reading a part of a line has told, which begins at `seq`: what is replaced,
    /// or what of an announcement has no end yet. Says whether the replacement stands: one whose
    /// beginning has gone on does not.
    pub fn revise(
        &mut self,
        seq: u32,
        replacement: Option<&Replacement>,
        unfinished: Option<&Unfinished>,
    ) -> bool {
        let held = self.shift.edits().last().copied().filter(|it| it.has(edit::WITHHELD));
        let from = Seq(held.map_or(seq, |held| held.at));
        let replacement = replacement.filter(|it| !it.at().is_before(from) && it.fits());
        let unfinished = unfinished.filter(|begun| !Seq(begun.at).is_before(from));
        match (held, replacement, unfinished) {
            (Some(held), Some(replacement), _) if replacement.at().is_before(held.end()) => {
                return self.settle(&held, replacement);
            }
            (Some(held), None, Some(begun)) if Seq(begun.at).is_before(held.end()) => {
                self.keep_back(&held, begun);
                return false;
            }
            (Some(held), ..) => self.release(&held),
            (None, ..) => {}
        }
        if let Some(Replacement { place, text }) = replacement {
            return self.push(place.at, place.len, text, 0);
        }
        if let Some(begun) = unfinished {
            self.push(begun.at, begun.bytes.len() as u16, &begun.bytes, edit::WITHHELD);
        }
        false
    }

    /// More of an announcement is withheld than before, and none of what stands before it: that
    /// was no announcement, and is owed.
    fn keep_back(&mut self, held: &Edit, begun: &Unfinished) {
        let text = &begun.bytes[..begun.bytes.len().min(TEXT)];
        let before = Seq(begun.at).since(Seq(held.at)) as usize;
        if before == 0 {
            return self.rewrite_last(text.len() as u16, text, edit::WITHHELD);
        }
        self.rewrite_last(before as u16, &held.text()[..before], edit::OWED);
        self.push(begun.at, text.len() as u16, text, edit::WITHHELD);
    }

    /// What was withheld, and its rest, get the text.
    fn settle(&mut self, held: &Edit, replacement: &Replacement) -> bool {
        let start = replacement.at().since(Seq(held.at)) as usize;
        let stop = (replacement.end().since(Seq(held.at)) as usize).min(held.text().len());
        let text = [&held.text()[..start], &replacement.text, &held.text()[stop..]].concat();
        if text.len() > TEXT {
            self.release(held);
            return false;
        }
        let end = replacement.end();
        let end = if end.is_before(held.end()) { held.end() } else { end };
        self.rewrite_last(end.since(Seq(held.at)) as u16, &text, edit::OWED);
        true
    }

    /// It was no announcement after all: it goes on as it is.
    fn release(&mut self, held: &Edit) {
        self.rewrite_last(held.old_len, held.text(), edit::OWED);
    }

    /// Says whether there was room.
    fn push(&mut self, at: u32, old_len: u16, text: &[u8], flags: u8) -> bool {
        let Some(place) = self.shift.edits.get_mut(self.shift.count as usize) else { return false };
        *place = Edit { at, ..Edit::zeroed() };
        self.shift.count += 1;
        self.rewrite_last(old_len, text, flags);
        true
    }

    fn rewrite_last(&mut self, old_len: u16, text: &[u8], flags: u8) {
        let last = self.shift.edits().len().saturating_sub(1);
        let before = match last.checked_sub(1) {
            Some(former) => self.shift.edits[former].after,
            None => self.shift.before,
        };
        let place = &mut self.shift.edits[last];
        place.text = [0; TEXT];
        place.text[..text.len()].copy_from_slice(text);
        place.text_len = text.len() as u8;
        place.new_len = if flags & edit::WITHHELD != 0 { 0 } else { text.len() as u16 };
        place.old_len = old_len;
        place.flags = flags;
        place.after = before.wrapping_add(place.new_len.into()).wrapping_sub(place.old_len.into());
    }
}

/// The parts of a segment that are read one by one, each with its number: the lines, and the
/// beginning of the last one. Of those bytes, `known` were read already. One line announces one
/// endpoint at most.
pub fn parts(seq: u32, payload: &[u8], known: usize) -> impl Iterator<Item = (u32, &[u8])> {
    let (before, mut rest) = payload.split_at(known.min(payload.len()));
    let mut seq = seq.wrapping_add(before.len() as u32);
    let mut is_first = true;
    std::iter::from_fn(move || {
        // Nothing new is a part, too: its sender may say that it has ended.
        if rest.is_empty() && !std::mem::take(&mut is_first) {
            return None;
        }
        is_first = false;
        let newline = rest.iter().position(|byte| *byte == b'\n');
        let (part, behind) = rest.split_at(newline.map_or(rest.len(), |at| at + 1));
        let at = seq;
        (seq, rest) = (seq.wrapping_add(part.len() as u32), behind);
        Some((at, part))
    })
}

/// What the receiver gets for a segment that is not empty. A segment that touches a place
/// brings all of its text, and what is owed directly before it.
pub fn emit(shift: &Shift, seq: u32, payload: &[u8]) -> Emission {
    let end = Seq(seq).plus(payload.len() as u32);
    let part =
        |from: Seq, to: Seq| &payload[from.since(Seq(seq)) as usize..to.since(Seq(seq)) as usize];
    let first = first_touched(shift.edits(), Seq(seq));
    let (behind, edits) = shift.edits().split_at(first);
    let (mut at, mut added) = (Seq(seq), behind.last().map_or(shift.before, |last| last.after));
    let (mut start, mut bytes) = (None, Vec::new());
    for edit in edits {
        if !end.is_after(Seq(edit.at)) {
            break;
        }
        if at.is_before(Seq(edit.at)) {
            start.get_or_insert(at.plus(added));
            bytes.extend(part(at, Seq(edit.at)));
        }
        start.get_or_insert(Seq(edit.at).plus(added));
        if !edit.has(edit::WITHHELD) {
            bytes.extend(edit.text());
        }
        at = edit.end();
        added = edit.after;
    }
    if at.is_before(end) {
        start.get_or_insert(at.plus(added));
        bytes.extend(part(at, end));
    }
    Emission { seq: start.unwrap_or(at.plus(added)).0, bytes }
}

/// The first of the edits whose text a segment at this number brings, if it reaches so far.
fn first_touched(edits: &[Edit], at: Seq) -> usize {
    let is_behind = |edit: &Edit| at.is_after(edit.end()) || (at == edit.end() && !is_owed(edit));
    let mut first = edits.iter().position(|edit| !is_behind(edit)).unwrap_or(edits.len());
    // Its sender was told that all of what was withheld has arrived, and goes on behind that.
    while let Some(before) = first.checked_sub(1)
        && let Some(touched) = edits.get(first)
        && at.is_after(Seq(touched.at))
        && is_owed(&edits[before])
        && edits[before].end() == Seq(touched.at)
    {
        first = before;
    }
    first
}

fn is_owed(edit: &Edit) -> bool {
    edit.has(edit::OWED | edit::WITHHELD)
}

#[cfg(test)]
mod tests;
