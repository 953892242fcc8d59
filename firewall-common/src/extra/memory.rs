//! What an extra condition keeps in mind, in one word: a limit its spending, `nth` its
//! count. Each function gives the next word and whether the condition holds.

use crate::time::Nanos;

/// What is added to the time: so much that a fresh word, zero, is a full bucket however
/// short the machine has run.
const BEFORE_TIME: u64 = 1 << 62;

/// A token bucket as xt_limit's, told by one point in time: since then, nothing was
/// spent that is not earned back. What was earned grows with time up to the burst, and
/// a packet costs `cost`.
#[inline(always)]
pub const fn spend(spent: u64, now: Nanos, cost: u64, burst: u64) -> (u64, bool) {
    let now = now.0.saturating_add(BEFORE_TIME);
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
    fn a_fresh_limit_is_full_however_short_the_machine_has_run() {
        let mut spent = 0;
        assert_eq!(passed(&mut spent, Nanos(1), 20), 5);
        assert_eq!(passed(&mut spent, Nanos(SECOND), 20), 0);
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
