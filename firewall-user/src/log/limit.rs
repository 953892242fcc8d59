//! How many lines of LOG rules are written: a flood of packets must not become
//! a flood of lines. What is left out is counted, and told with the next line.

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
    suppressed: u64,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Write it; so many before it were left out.
    Write {
        suppressed: u64,
    },
    LeaveOut,
}

impl RateLimit {
    /// `per_second` lines in the long run, `burst` at once; at least one each.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = Nanos(1_000_000_000 / u64::from(per_second.max(1)));
        Self { interval, burst: u64::from(burst.max(1)), full_at: Nanos::ZERO, suppressed: 0 }
    }

    pub const fn admit(&mut self, now: Nanos) -> Admission {
        let owed = self.full_at.since(now);
        let affordable = Nanos(self.interval.0.saturating_mul(self.burst.saturating_sub(1)));
        if owed.is_after(affordable) {
            self.suppressed += 1;
            return Admission::LeaveOut;
        }
        self.full_at = now.after(owed).after(self.interval);
        let suppressed = self.suppressed;
        self.suppressed = 0;
        Admission::Write { suppressed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Nanos = Nanos::from_secs(100);

    fn written(limit: &mut RateLimit, count: usize, now: Nanos) -> usize {
        (0..count).filter(|_| limit.admit(now) != Admission::LeaveOut).count()
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
    fn the_next_line_tells_how_many_were_left_out() {
        let mut limit = RateLimit::new(1, 1);
        assert_eq!(limit.admit(START), Admission::Write { suppressed: 0 });
        written(&mut limit, 7, START);
        let later = START.after(Nanos::from_secs(1));
        assert_eq!(limit.admit(later), Admission::Write { suppressed: 7 });
    }

    #[test]
    fn a_clock_that_goes_back_does_not_open_the_gate() {
        let mut limit = RateLimit::new(1, 1);
        limit.admit(START);
        assert_eq!(limit.admit(Nanos::ZERO), Admission::LeaveOut);
    }
}
