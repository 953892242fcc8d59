//! How many lines of LOG rules are written: a flood of packets must not become
//! a flood of lines. What is left out is counted.

use std::mem;

use firewall_common::time::Nanos;

/// A bucket of lines that fills with time.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// The time that one line costs.
    interval: Nanos,
    /// How many lines may follow each other at once.
    burst: u64,
    /// When the bucket is full again.
    full_at: Nanos,
    left_out: u64,
}

impl RateLimit {
    /// `per_second` lines in the long run, `burst` at once; at least one each.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = Nanos(1_000_000_000 / u64::from(per_second.max(1)));
        Self { interval, burst: u64::from(burst.max(1)), full_at: Nanos::ZERO, left_out: 0 }
    }

    /// Whether a line may be written now; else it counts as left out.
    pub const fn admit(&mut self, now: Nanos) -> bool {
        let owed = self.full_at.since(now);
        let affordable = Nanos(self.interval.0.saturating_mul(self.burst.saturating_sub(1)));
        let may = !owed.is_after(affordable);
        if may {
            self.full_at = now.after(owed).after(self.interval);
        } else {
            self.left_out += 1;
        }
        may
    }

    /// How many lines were left out since this was asked last.
    pub const fn take_left_out(&mut self) -> u64 {
        mem::replace(&mut self.left_out, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Nanos = Nanos::from_secs(100);

    fn written(limit: &mut RateLimit, count: usize, now: Nanos) -> usize {
        (0..count).filter(|_| limit.admit(now)).count()
    }

    #[test]
    fn a_burst_passes_and_no_more() {
        let mut limit = RateLimit::new(10, 5);
        assert_eq!(written(&mut limit, 100, START), 5);
    }

    #[test]
    fn afterwards_lines_pass_at_the_rate() {
        let mut limit = RateLimit::new(10, 5);
        written(&mut limit, 100, START);
        assert_eq!(written(&mut limit, 100, START.after(Nanos::from_millis(300))), 3);
        assert_eq!(written(&mut limit, 100, START.after(Nanos::from_secs(60))), 5);
    }

    #[test]
    fn lines_that_were_left_out_are_counted_once() {
        let mut limit = RateLimit::new(1, 1);
        assert_eq!(written(&mut limit, 8, START), 1);
        assert_eq!(limit.take_left_out(), 7);
        assert_eq!(limit.take_left_out(), 0);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_open_the_gate() {
        let mut limit = RateLimit::new(1, 1);
        limit.admit(START);
        assert!(!limit.admit(Nanos::ZERO));
    }
}
