//! What is kept in mind of a segment that was lost before its helper had read it.
//!
//! Where the ring of held segments is full, or too many wait, one is let go of, and its sender
//! repeats it. A receiver that claims to have it all the same would keep that from happening: who
//! reads on behind the gap must know that the bytes in it were never delivered, and were not to be.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{event::Punt, flow::Tuple, seq::Seq, time::Nanos};

/// Directions of connections of which something is missing at a time.
pub const MAX_UNREAD: u32 = 65_536;

/// The value of the map `unread`, by the direction as its sender sends: [`Punt::way`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Unread {
    /// [`crate::flow::Flow::created`] of the connection.
    pub created: Nanos,
    /// The first byte that was lost, or may have been: what lies before it was not.
    pub seq: Seq,
    pub _pad: u32,
}

impl Unread {
    pub const fn of(punt: &Punt) -> Self {
        Self { created: punt.flow_created, seq: Seq(punt.seq), _pad: 0 }
    }

    /// Takes in what was lost later, of this connection or of another one with its ends.
    #[inline(always)]
    pub fn add(&mut self, later: &Self) {
        if self.created != later.created || later.seq.is_before(self.seq) {
            *self = *later;
        }
    }

    /// Takes in that a segment reached its receiver unread, as what comes while no helper is
    /// there may: of what it brought nothing is missing any more.
    #[inline(always)]
    pub fn pass(&mut self, segment: &Punt) {
        let begin = Seq(segment.seq);
        let end = begin.plus(u32::from(segment.payload_len));
        let is_of_it = self.created == segment.flow_created;
        if is_of_it && !self.seq.is_before(begin) && self.seq.is_before(end) {
            self.seq = end;
        }
    }
}

impl Punt {
    /// The direction that the segment goes.
    #[inline(always)]
    pub const fn way(&self) -> Tuple {
        match self.direction {
            0 => self.flow,
            _ => self.flow.reversed(),
        }
    }
}

const _: () = assert!(size_of::<Unread>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(created: u64, seq: u32) -> Unread {
        Unread { created: Nanos(created), seq: Seq(seq), _pad: 0 }
    }

    #[test]
    fn the_first_byte_that_was_lost_is_kept_whichever_was_lost_first() {
        for order in [[u32::MAX, 20], [20, u32::MAX]] {
            let mut unread = lost(1, order[0]);
            unread.add(&lost(1, order[1]));
            assert_eq!(unread, lost(1, u32::MAX));
        }
    }

    #[test]
    fn a_connection_inherits_nothing_from_an_earlier_one_with_its_ends() {
        let mut unread = lost(1, 10);
        unread.add(&lost(2, 500));
        assert_eq!(unread, lost(2, 500));
    }

    #[test]
    fn what_passes_unread_is_not_missing() {
        let passed = |created, seq| {
            let mut unread = lost(1, 10);
            let flow_created = Nanos(created);
            unread.pass(&Punt { flow_created, seq, payload_len: 8, ..Punt::default() });
            unread
        };
        assert_eq!(passed(1, 10), lost(1, 18));
        assert_eq!(passed(1, 3), lost(1, 11));
        for (created, seq) in [(2, 10), (1, 2), (1, 11)] {
            assert_eq!(passed(created, seq), lost(1, 10));
        }
    }
}
