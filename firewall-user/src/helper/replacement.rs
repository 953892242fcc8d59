//! A text that takes an announcement's place: the same in its spelling, with the endpoint that
//! the other side is told.

use std::net::SocketAddr;

use firewall_common::{
    seq::Seq,
    shift::{Shift, TEXT, edit},
};

use super::{Announced, Place, spell};

/// A text that takes another's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    pub place: Place,
    pub text: Vec<u8>,
}

impl Replacement {
    /// What names another endpoint where `old` announces one; `None` where that says so already.
    /// `old` is `None` when its beginning has gone on: then the text stands nowhere.
    pub fn of(announced: &Announced, old: Option<Vec<u8>>, told: SocketAddr) -> Option<Self> {
        let Announced { form, place, .. } = *announced;
        let Some(old) = old else { return Some(Self { place, text: Vec::new() }) };
        let text = spell(form, &old, told);
        (text != old).then_some(Self { place, text })
    }

    /// Whether there is a place for it: nothing else of its sender's text is as long.
    pub(super) fn fits(&self) -> bool {
        !self.text.is_empty() && self.text.len() <= TEXT
    }

    pub(super) const fn at(&self) -> Seq {
        Seq(self.place.at)
    }

    pub(super) const fn end(&self) -> Seq {
        self.at().plus(self.place.len as u32)
    }
}

/// The bytes that stand at a place: in the segment that begins at `seq`, and before it what is
/// withheld; `None` when some of them are neither.
pub fn text_at(shift: &Shift, seq: u32, payload: &[u8], place: Place) -> Option<Vec<u8>> {
    let held = shift.edits().last().filter(|it| it.has(edit::WITHHELD));
    (0..u32::from(place.len))
        .map(|offset| {
            let number = place.at.wrapping_add(offset);
            let byte = payload.get(number.wrapping_sub(seq) as usize);
            let held = || held?.text().get(number.wrapping_sub(held?.at) as usize);
            byte.or_else(held).copied()
        })
        .collect()
}
