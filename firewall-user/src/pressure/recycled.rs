//! How many embryonic flows lost their place before their time.
//!
//! The kernel's LRU map takes the place of an entry that was not used for long
//! without telling anybody. But all other ways out of the table are counted, and
//! each sweep counts what is there: what is missing was recycled. A sweep removes
//! the expired ones, so that nearly all of these were alive; those that expired
//! since the sweep before count as well. Deletions by command are known by nobody,
//! and count while the table is full: an interval in which the table cannot have
//! been full counts nothing.

/// Ways out of the table that are counted, and the way in, since the instance was
/// made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departures {
    pub created: u64,
    pub assured: u64,
    /// Ended by a reset before any answer.
    pub forgotten: u64,
    /// Gave their place to a flow with the same endpoints.
    pub replaced: u64,
}

impl Departures {
    const fn counted(&self) -> u64 {
        self.assured.wrapping_add(self.forgotten).wrapping_add(self.replaced)
    }
}

/// The table, from sweep to sweep.
#[derive(Clone, Debug)]
pub struct Recycled {
    /// Entries from which on the map may recycle.
    full_from: u64,
    last: Departures,
    /// What the last sweep left.
    stayed: u64,
    /// Flows that began between the counting and the walk are found early, and
    /// missed at the next sweep.
    early: u64,
}

impl Recycled {
    /// `departures` were read right before `present` flows were counted; while they
    /// were, up to `meanwhile` began.
    pub fn new(full_from: u64, departures: Departures, present: u64, meanwhile: u64) -> Self {
        let early = meanwhile.min(present);
        Self { full_from, last: departures, stayed: present, early }
    }

    /// How many flows were recycled since the last look.
    ///
    /// `departures` were read right before the sweep that found `found` entries and
    /// left `left`.
    pub fn look(&mut self, departures: Departures, found: u64, left: u64) -> u64 {
        let before = std::mem::replace(&mut self.last, departures);
        let stayed = std::mem::replace(&mut self.stayed, left);
        let came = departures.created.wrapping_sub(before.created);
        let went = departures.counted().wrapping_sub(before.counted());
        let expected = (stayed + came).saturating_sub(went).saturating_sub(self.early);
        let missing = expected.saturating_sub(found);
        self.early = found.saturating_sub(expected);
        if stayed + came < self.full_from { 0 } else { missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(created: u64) -> Departures {
        Departures { created, ..Departures::default() }
    }

    #[test]
    fn what_is_missing_was_recycled() {
        let mut recycled = Recycled::new(90, created(1_000), 50, 0);
        assert_eq!(recycled.look(created(1_200), 100, 100), 150);
        assert_eq!(recycled.look(created(1_200), 100, 100), 0);
    }

    #[test]
    fn who_left_otherwise_was_not() {
        let mut recycled = Recycled::new(90, created(0), 0, 0);
        let departures = Departures { created: 100, assured: 20, forgotten: 5, replaced: 15 };
        assert_eq!(recycled.look(departures, 60, 40), 0);
        // And the 20 that the sweep removed are not missed.
        assert_eq!(recycled.look(Departures { created: 150, ..departures }, 90, 90), 0);
    }

    #[test]
    fn what_was_deleted_from_a_table_with_room_does_not_count() {
        let mut recycled = Recycled::new(90, created(0), 50, 0);
        assert_eq!(recycled.look(created(10), 0, 0), 0);
    }

    #[test]
    fn a_flow_that_began_between_counting_and_walk_is_counted_once() {
        let mut recycled = Recycled::new(90, created(0), 90, 0);
        // Five came during the walk; the counter has them at the next.
        assert_eq!(recycled.look(created(0), 95, 95), 0);
        assert_eq!(recycled.look(created(5), 95, 95), 0);
        assert_eq!(recycled.look(created(8), 95, 95), 3);
        // So do those that came during the very first walk.
        let mut recycled = Recycled::new(90, created(0), 95, 5);
        assert_eq!(recycled.look(created(8), 95, 95), 3);
    }
}
