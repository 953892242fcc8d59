//! The counters of the datapath before and after a packet.

use firewall_common::{
    testing::Memory,
    verdict::{STAT_PLACES, STATS, Stat, Verdict, is_verdict},
};

/// All counters at one moment.
#[derive(Clone, Debug)]
pub struct Ledger {
    stats: [u64; STAT_PLACES],
    rules: Vec<u64>,
}

impl Ledger {
    pub fn of(memory: &Memory) -> Self {
        let rules = 0..memory.rules.len() as u32;
        Self {
            stats: memory.stats(),
            rules: rules.map(|index| memory.rule_counter(index).packets).collect(),
        }
    }

    /// By how much a counter has moved since `self`.
    pub fn moved(&self, memory: &Memory, stat: Stat) -> u64 {
        memory.stat(stat as u32) - self.stats[stat as usize]
    }

    /// One verdict was counted, the one that was given, and no rule counted the
    /// packet twice.
    pub fn assert_one_packet(&self, memory: &Memory, verdict: Verdict) {
        let now = Self::of(memory);
        for place in 0..STATS {
            let moved = now.stats[place as usize] - self.stats[place as usize];
            let expected = u64::from(is_verdict(place) && place == verdict.counter());
            if is_verdict(place) {
                assert_eq!(moved, expected, "counter {place} for {verdict:?}");
            }
            assert!(moved <= 5, "counter {place} moved by {moved}");
        }
        for (index, (before, after)) in self.rules.iter().zip(&now.rules).enumerate() {
            assert!(after - before <= 1, "rule {index} counted {verdict:?} twice");
        }
    }
}
