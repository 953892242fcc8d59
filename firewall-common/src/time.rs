//! Points in time and spans, both in nanoseconds.
//!
//! Points are read from `CLOCK_MONOTONIC_COARSE`, by the kernel with
//! `bpf_ktime_get_coarse_ns` and by user space with `clock_gettime`.

use bytemuck::{Pod, Zeroable};

/// Nanoseconds: a point on the monotonic clock, or a span of it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Nanos(pub u64);

impl Nanos {
    pub const ZERO: Self = Self(0);

    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Whole seconds, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// The span since `earlier`, zero when `earlier` lies ahead.
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    pub const fn after(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    pub const fn is_after(self, other: Self) -> bool {
        self.0 > other.0
    }
}
