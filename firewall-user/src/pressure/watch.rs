//! When a table is full, and when it is no longer.

use firewall_common::{pressure::Pressure, time::Nanos};

/// A table has room again when it was not full for this long, and a tenth is free:
/// a table at its bound would come and go at each look.
const CALM: Nanos = Nanos::from_secs(10);

/// What was seen of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub used: u64,
    pub size: u64,
    /// What is used from here on means that it is full.
    pub full_from: u64,
    /// What found no room, or lost its place, since the last look.
    pub lost: u64,
}

/// What people should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    BecameFull,
    HasRoom,
}

impl Reading {
    const fn is_full(&self) -> bool {
        self.lost > 0 || self.used >= self.full_from
    }

    const fn is_roomy(&self) -> bool {
        self.used * 10 <= self.size * 9
    }
}

/// Notes a look at a table.
pub fn note(pressure: &mut Pressure, reading: &Reading, now: Nanos) -> Option<Change> {
    pressure.lost += reading.lost;
    let was_full = pressure.since != Nanos::ZERO;
    if reading.is_full() {
        pressure.last = now;
        if was_full {
            return None;
        }
        pressure.since = now;
        pressure.times += 1;
        return Some(Change::BecameFull);
    }
    if was_full && reading.is_roomy() && now.since(pressure.last).is_after(CALM) {
        pressure.since = Nanos::ZERO;
        return Some(Change::HasRoom);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(used: u64) -> Reading {
        Reading { used, size: 100, full_from: 100, lost: 0 }
    }

    const fn at(seconds: u64) -> Nanos {
        Nanos::from_secs(seconds)
    }

    #[test]
    fn a_full_table_is_told_once() {
        let mut pressure = Pressure::default();
        assert_eq!(note(&mut pressure, &used(99), at(1)), None);
        assert_eq!(note(&mut pressure, &used(100), at(2)), Some(Change::BecameFull));
        assert_eq!(note(&mut pressure, &used(100), at(3)), None);
        assert_eq!(pressure, Pressure { since: at(2), last: at(3), times: 1, lost: 0 });
    }

    #[test]
    fn what_is_lost_tells_too_that_it_is_full() {
        let mut pressure = Pressure::default();
        let losing = Reading { lost: 7, ..used(60) };
        assert_eq!(note(&mut pressure, &losing, at(1)), Some(Change::BecameFull));
        assert_eq!(note(&mut pressure, &losing, at(2)), None);
        assert_eq!(pressure.lost, 14);
    }

    #[test]
    fn there_is_room_again_once_a_tenth_was_free_for_a_while() {
        let mut pressure = Pressure::default();
        note(&mut pressure, &used(100), at(1));
        assert_eq!(note(&mut pressure, &used(80), at(5)), None);
        assert_eq!(note(&mut pressure, &used(91), at(12)), None);
        assert_eq!(note(&mut pressure, &used(90), at(13)), Some(Change::HasRoom));
        assert_eq!(note(&mut pressure, &used(10), at(14)), None);
        assert_eq!((pressure.since, pressure.last, pressure.times), (Nanos::ZERO, at(1), 1));
    }

    #[test]
    fn a_table_that_comes_and_goes_at_its_bound_is_full_all_the_time() {
        let mut pressure = Pressure::default();
        note(&mut pressure, &used(100), at(1));
        for second in 2..60 {
            let now = used(if second % 3 == 0 { 100 } else { 50 });
            assert_eq!(note(&mut pressure, &now, at(second)), None);
        }
        assert_eq!(pressure.times, 1);
    }
}
