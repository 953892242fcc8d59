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

/// Edits that one segment may need: an announcement, and the beginning of the next.
const ROOM: usize = 2;
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

    /// Whether what is new in a segment that begins at this number may be read: there is room
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
        let is_owed = first.has(edit::OWED | edit::WITHHELD);
        received.is_after(first.end()) || (received == first.end() && !is_owed)
    }

    fn forget_first(&mut self) {
        self.shift.before = self.shift.edits[0].after;
        self.shift.edits.rotate_left(1);
        self.shift.count -= 1;
        self.shift.edits[EDITS - 1] = Edit::zeroed();
    }

    /// Takes in what reading a segment has told, which begins at `seq`: what is replaced, in
    /// the order of the stream, and what of an announcement has no end yet. Says of each
    /// replacement whether it stands: one whose beginning has gone on does not, and of more
    /// than there is room for the first ones do not.
    pub fn revise(
        &mut self,
        seq: u32,
        replacements: &[Replacement],
        unfinished: Option<&Unfinished>,
    ) -> Vec<bool> {
        let mut stands = vec![false; replacements.len()];
        let mut from = Seq(seq);
        let mut first = 0;
        if self.shift.edits().last().is_some_and(|it| it.has(edit::WITHHELD)) {
            if let Some(more) = unfinished
                && self.withhold_more(more)
            {
                return stands;
            }
            let end = self.last().end();
            first = usize::from(replacements.first().is_some_and(|it| it.at().is_before(end)));
            if let Some(replacement) = replacements.first().filter(|_| first == 1) {
                stands[0] = self.settle(replacement);
            } else {
                self.release();
            }
            from = self.last().end();
        }
        let room = EDITS - self.shift.edits().len() - usize::from(unfinished.is_some());
        let skipped = (replacements.len() - first).saturating_sub(room);
        for index in first + skipped..replacements.len() {
            let replacement = &replacements[index];
            if replacement.at().is_before(from) || replacement.text.len() > TEXT {
                continue;
            }
            stands[index] = true;
            self.push(replacement.place.at, replacement.place.len, &replacement.text, 0);
            from = replacement.end();
        }
        if let Some(begun) = unfinished
            && !Seq(begun.at).is_before(from)
            && begun.bytes.len() <= TEXT
            && self.shift.edits().len() < EDITS
        {
            let len = begun.bytes.len() as u16;
            self.push(begun.at, len, &begun.bytes, edit::WITHHELD);
        }
        stands
    }

    fn last(&self) -> &Edit {
        &self.shift.edits[self.shift.edits().len().saturating_sub(1)]
    }

    /// More of what is withheld already.
    fn withhold_more(&mut self, more: &Unfinished) -> bool {
        let is_same = self.last().at == more.at && more.bytes.len() <= TEXT;
        if is_same {
            self.rewrite_last(more.bytes.len() as u16, &more.bytes, edit::WITHHELD);
        }
        is_same
    }

    /// What was withheld, and its rest, get the text.
    fn settle(&mut self, replacement: &Replacement) -> bool {
        let held = *self.last();
        let start = replacement.at().since(Seq(held.at)) as usize;
        let stop = (replacement.end().since(Seq(held.at)) as usize).min(held.text().len());
        let mut text = held.text()[..start.min(held.text().len())].to_vec();
        text.extend(&replacement.text);
        text.extend(&held.text()[stop..]);
        if replacement.at().is_before(Seq(held.at)) || text.len() > TEXT {
            self.release();
            return false;
        }
        let end = replacement.end();
        let end = if end.is_before(held.end()) { held.end() } else { end };
        self.rewrite_last(end.since(Seq(held.at)) as u16, &text, edit::OWED);
        true
    }

    /// It was no announcement after all: it goes on as it is.
    fn release(&mut self) {
        let held = *self.last();
        self.rewrite_last(held.old_len, held.text(), edit::OWED);
    }

    fn push(&mut self, at: u32, old_len: u16, text: &[u8], flags: u8) {
        let Some(place) = self.shift.edits.get_mut(self.shift.count as usize) else { return };
        *place = Edit { at, ..Edit::zeroed() };
        self.shift.count += 1;
        self.rewrite_last(old_len, text, flags);
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

/// What the receiver gets for a segment that is not empty. A segment that touches a place
/// brings all of its text.
pub fn emit(shift: &Shift, seq: u32, payload: &[u8]) -> Emission {
    let end = Seq(seq).plus(payload.len() as u32);
    let part =
        |from: Seq, to: Seq| &payload[from.since(Seq(seq)) as usize..to.since(Seq(seq)) as usize];
    let (mut at, mut added) = (Seq(seq), shift.before);
    let (mut start, mut bytes) = (None, Vec::new());
    for edit in shift.edits() {
        let is_behind = at.is_after(edit.end()) || (at == edit.end() && !edit.has(edit::OWED));
        if !is_behind {
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
        }
        added = edit.after;
    }
    if at.is_before(end) {
        start.get_or_insert(at.plus(added));
        bytes.extend(part(at, end));
    }
    Emission { seq: start.unwrap_or(at.plus(added)).0, bytes }
}

#[cfg(test)]
mod tests;
