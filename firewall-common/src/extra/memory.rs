//! What an extra condition keeps in mind, in one word: a limit its spending, `nth` its
//! count. Each function gives the next word and whether the condition holds.

use crate::time::Nanos;

/// So long before the machine started time begins: a bucket that takes days to fill is full
/// on a machine that runs for an hour.
const BEFORE_THE_START: u64 = 1 << 62;

/// A token bucket as xt_limit's, told by one point in time: since then, nothing was
/// spent that is not earned back. What was earned grows with time up to the burst, and
/// a packet costs `cost`.
#[inline(always)]
pub const fn spend(spent: u64, now: Nanos, cost: u64, burst: u64) -> (u64, bool) {
    let now = now.0.saturating_add(BEFORE_THE_START);
    let full = now.saturating_sub(burst);
    let since = if spent > full { spent } else { full };
    let next = since.saturating_add(cost);
    if next > now { (spent, false) } else { (next, true) }
}

/// Counts packets; holds for the one that has `place` before it among `every`.
#[inline(always)]
pub const fn next(count: u64, every: u32, place: u32) -> (u64, bool) {
    let next = count + 1;
    (if next >= every as u64 { 0 } else { next }, count == place as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How many of so many packets at one time are let through.
    fn passed(spent: &mut u64, now: Nanos, packets: u32) -> usize {
        let mut one = || {
            let (next, holds) = spend(*spent, now, SECOND, 5 * SECOND);
            *spent = next;
            holds
        };
        (0..packets).filter(|_| one()).count()
    }

    #[test]
    fn a_fresh_limit_lets_its_burst_through_and_then_earns() {
        let (mut spent, start) = (0, Nanos::from_secs(100));
        assert_eq!(passed(&mut spent, start, 20), 5);
        assert_eq!(passed(&mut spent, start.after(Nanos(SECOND - 1)), 20), 0);
        assert_eq!(passed(&mut spent, start.after(Nanos(SECOND)), 20), 1);
        assert_eq!(passed(&mut spent, start.after(Nanos(3 * SECOND + SECOND / 2)), 20), 2);
        // The half second was not lost.
        assert_eq!(passed(&mut spent, start.after(Nanos(4 * SECOND)), 20), 1);
        assert_eq!(passed(&mut spent, start.after(Nanos(100 * SECOND)), 20), 5);
    }

    #[test]
    fn a_burst_that_takes_longer_to_earn_than_the_machine_runs_is_there() {
        let day = 24 * 60 * 60 * SECOND;
        let (mut spent, now) = (0, Nanos::from_secs(1));
        let mut one = || {
            let (next, holds) = spend(spent, now, day, 10_000 * day);
            spent = next;
            holds
        };
        assert_eq!((0..10_001).filter(|_| one()).count(), 10_000);
    }

    #[test]
    fn one_packet_of_three_is_chosen() {
        let mut count = 0;
        let mut one = || {
            let (next, holds) = next(count, 3, 1);
            count = next;
            holds
        };
        let chosen: Vec<_> = (0..7).map(|_| one()).collect();
        assert_eq!(chosen, [false, true, false, false, true, false, false]);
    }
}
