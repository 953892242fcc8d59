//! How the helpers fared: what the daemon has counted, and how long it held what it
//! read. Kept in a map of its own, so that it is known after the daemon's end.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

macro_rules! counts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What is counted. The number is the place in [`HelperStats::counts`].
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum HelperCount { $($(#[$doc])* $variant,)* }

        impl HelperCount {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in listings.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counts! {
    /// Control connections whose reading began.
    Begun = "helper-begun",
    /// Those that lost their place to another: the ones that were silent longest.
    Forgotten = "helper-forgotten",
    /// Those whose buffered bytes were let go for want of space.
    Shed = "helper-shed",
    /// Segments dropped since their connection had too many waiting; TCP repeats them.
    Crowded = "helper-crowded",
    /// Holes opened.
    Opened = "helper-opened",
    /// Holes closed that nobody had used.
    Closed = "helper-closed",
    /// Holes not opened since their client has too many.
    Refused = "helper-refused",
    /// Lines, replies and connections that opened nothing for a reason that was told.
    Noted = "helper-noted",
    /// Control connections that went over to encryption.
    Encrypted = "helper-encrypted",
    /// Those that came back from it.
    Decrypted = "helper-decrypted",
    /// Ranges of ports that were opened for encrypted ones.
    Admitted = "helper-admitted",
    /// Endpoints that were told by another address, or another port.
    Rewritten = "helper-rewritten",
    /// Those that could not be told so, and are not open.
    Untold = "helper-untold",
    /// Segments let go of since something before them was missing, or had not arrived; TCP
    /// repeats them.
    Early = "helper-early",
}

/// Places for counts.
pub const COUNTS: usize = 16;
const _: () = assert!(HelperCount::ALL.len() <= COUNTS);

/// Parts of each power of two in the histogram.
const PARTS: u64 = 8;
/// Buckets of the histogram: up to 2^36 ns, a good minute.
pub const BUCKETS: usize = 280;

/// The single value of the `helper_stats` map. Only the daemon writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct HelperStats {
    /// Indexed by [`HelperCount`].
    pub counts: [u64; COUNTS],
    /// Control connections that are followed now, and the most that may be.
    pub followed: u64,
    pub max_followed: u64,
    /// Bytes that they hold in buffers, and the most that they may.
    pub buffered: u64,
    pub max_buffered: u64,
    /// How long segments were held: the number of those in each bucket.
    pub hold: [u64; BUCKETS],
}

const _: () = assert!(size_of::<HelperStats>() == 8 * (COUNTS + 4 + BUCKETS));

impl Default for HelperStats {
    fn default() -> Self {
        Self::zeroed()
    }
}

impl HelperStats {
    pub const fn count(&mut self, what: HelperCount) {
        self.counts[what as usize] += 1;
    }

    pub const fn of(&self, what: HelperCount) -> u64 {
        self.counts[what as usize]
    }

    /// Notes how long a segment was held, in nanoseconds.
    pub fn held(&mut self, nanoseconds: u64) {
        self.hold[bucket(nanoseconds)] += 1;
    }

    /// How many segments were held.
    pub fn segments(&self) -> u64 {
        self.hold.iter().sum()
    }

    /// The time, in nanoseconds, that so many of a thousand segments were held at most;
    /// up to an eighth too long. `None` before the first segment.
    pub fn hold_time(&self, of_thousand: u64) -> Option<u64> {
        let wanted = (self.segments() * of_thousand).div_ceil(1000).max(1);
        let mut seen = 0;
        self.hold.iter().enumerate().find_map(|(bucket, count)| {
            seen += count;
            (seen >= wanted).then(|| upper_end(bucket))
        })
    }
}

/// The bucket of a time: eight for each power of two, one for each of the first eight.
fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < PARTS {
        return nanoseconds as usize;
    }
    let power = u64::from(nanoseconds.ilog2());
    let part = nanoseconds >> (power - 3) & (PARTS - 1);
    (((power - 2) * PARTS + part) as usize).min(BUCKETS - 1)
}

/// The longest time that falls into a bucket.
const fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let (power, part) = (bucket / PARTS + 2, bucket % PARTS);
    ((PARTS + part + 1) << (power - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_a_bucket_that_ends_at_most_an_eighth_above() {
        for time in (0..200).chain([1_000, 9_999, 1 << 20, (1 << 36) - 1]) {
            let end = upper_end(bucket(time));
            assert!(time <= end && end <= time + time / 8, "{time}: {end}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_middle_and_the_last_hundredth_are_told() {
        let mut stats = HelperStats::default();
        assert_eq!(stats.hold_time(500), None);
        for _ in 0..985 {
            stats.held(10_000);
        }
        for _ in 0..15 {
            stats.held(2_000_000);
        }
        assert_eq!(stats.hold_time(500), Some(upper_end(bucket(10_000))));
        assert_eq!(stats.hold_time(990), Some(upper_end(bucket(2_000_000))));
        assert_eq!(stats.segments(), 1000);
    }

    #[test]
    fn no_two_counts_share_a_name() {
        for (at, one) in HelperCount::ALL.iter().enumerate() {
            assert!(HelperCount::ALL[..at].iter().all(|other| other.name() != one.name()));
        }
    }
}
