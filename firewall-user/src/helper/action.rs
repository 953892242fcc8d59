//! What the caller does before a segment goes on.

use std::fmt;

use super::{Announced, Hole, Passage};
use crate::{ftp, tftp};

/// How many notes one segment may cause; further ones are left out, so that a
/// segment full of nonsense is not a log full of it.
pub(super) const NOTES_PER_SEGMENT: usize = 16;

/// Worth telling the admin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Ftp(ftp::Note),
    Tftp(tftp::Note),
}

impl From<ftp::Note> for Note {
    fn from(note: ftp::Note) -> Self {
        Self::Ftp(note)
    }
}

impl From<tftp::Note> for Note {
    fn from(note: tftp::Note) -> Self {
        Self::Tftp(note)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ftp(note) => note.fmt(f),
            Self::Tftp(note) => note.fmt(f),
        }
    }
}

/// One thing to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Insert this expectation; it must stand before the segment goes on.
    Open(Hole),
    /// Delete this expectation if it is still there and this connection's own.
    Close(Hole),
    /// The connection went over to TLS: mark its flow, it cannot be followed.
    Encrypted,
    /// It speaks in the clear again: take the mark away.
    Decrypted,
    /// Let these connections pass as long as the control connection lives.
    Admit(Passage),
    /// No longer, unless another control connection of these hosts wants it.
    Dismiss(Passage),
    Note(Note),
}

/// The actions of one segment: at most one hole closed and one opened.
///
/// A hole that one segment both opens and closes never stood, and is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    list: Vec<Action>,
    notes: usize,
    announced: Vec<Announced>,
}

impl Actions {
    pub fn as_slice(&self) -> &[Action] {
        &self.list
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Action> {
        self.list.iter()
    }

    /// The endpoints that were announced, in the order of the stream: what address
    /// translation has to rewrite before the segment goes on.
    pub fn announced(&self) -> &[Announced] {
        &self.announced
    }

    /// What a later segment, or part of one, asks for, too.
    pub fn append(&mut self, later: Self) {
        for action in later.list {
            match action {
                Action::Close(hole) => self.close(hole),
                Action::Note(note) => self.note(note),
                other => self.list.push(other),
            }
        }
        self.announced.extend(later.announced);
    }

    pub(crate) fn announce(&mut self, announced: Announced) {
        self.announced.push(announced);
    }

    pub(crate) fn open(&mut self, hole: Hole) {
        self.list.push(Action::Open(hole));
    }

    pub(crate) fn close(&mut self, hole: Hole) {
        match self.list.iter().rposition(|action| *action == Action::Open(hole)) {
            Some(opened) => drop(self.list.remove(opened)),
            None => self.list.push(Action::Close(hole)),
        }
    }

    pub(crate) fn encrypted(&mut self) {
        self.list.push(Action::Encrypted);
    }

    pub(crate) fn decrypted(&mut self) {
        self.list.push(Action::Decrypted);
    }

    pub(crate) fn admit(&mut self, passage: Passage) {
        self.list.push(Action::Admit(passage));
    }

    pub(crate) fn dismiss(&mut self, passage: Passage) {
        self.list.push(Action::Dismiss(passage));
    }

    pub(crate) fn note(&mut self, note: impl Into<Note>) {
        if self.notes < NOTES_PER_SEGMENT {
            self.notes += 1;
            self.list.push(Action::Note(note.into()));
        }
    }
}

impl IntoIterator for Actions {
    type Item = Action;
    type IntoIter = std::vec::IntoIter<Action>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Actions {
    type Item = &'a Action;
    type IntoIter = std::slice::Iter<'a, Action>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::stream::Loss;

    fn hole(dport: u16) -> Hole {
        let [src, dst] = ["192.0.2.7", "198.51.100.1"].map(|text| text.parse().unwrap());
        Hole::tcp(src, dst, dport)
    }

    #[test]
    fn a_hole_that_one_segment_opens_and_closes_is_left_out() {
        let mut actions = Actions::default();
        actions.close(hole(1));
        actions.open(hole(2));
        actions.close(hole(2));
        actions.open(hole(3));
        assert_eq!(actions.as_slice(), [Action::Close(hole(1)), Action::Open(hole(3))]);
    }

    #[test]
    fn a_hole_announced_again_is_closed_and_opened() {
        let mut actions = Actions::default();
        actions.close(hole(1));
        actions.open(hole(1));
        assert_eq!(actions.as_slice(), [Action::Close(hole(1)), Action::Open(hole(1))]);
    }

    #[test]
    fn a_hole_that_a_later_part_closes_is_left_out() {
        let [mut actions, mut later] = [(); 2].map(|()| Actions::default());
        actions.open(hole(1));
        later.close(hole(1));
        later.open(hole(2));
        actions.append(later);
        assert_eq!(actions.as_slice(), [Action::Open(hole(2))]);
    }

    #[test]
    fn notes_are_bounded() {
        let mut actions = Actions::default();
        let sender = "192.0.2.7".parse().unwrap();
        for _ in 0..1000 {
            actions.note(ftp::Note::Lost { sender, loss: Loss::Gap });
        }
        assert_eq!(actions.as_slice().len(), NOTES_PER_SEGMENT);
    }
}
