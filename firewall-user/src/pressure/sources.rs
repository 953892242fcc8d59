//! Who began most of many flows, in bounded memory.
//!
//! The first walk keeps candidates (J. Misra, D. Gries, "Finding repeated
//! elements", 1982): whoever has more than one in [`CANDIDATES`] of all flows is
//! among them. The second walk counts the candidates' flows exactly.

use std::{cmp::Reverse, collections::HashMap, fmt};

use firewall_common::addr::Addr;

const CANDIDATES: usize = 1_024;

/// Who may have many flows.
#[derive(Clone, Debug, Default)]
pub struct Candidates(HashMap<Addr, u64>);

/// How many flows each candidate has, and how many there are.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    counts: HashMap<Addr, u64>,
    pub total: u64,
}

impl Candidates {
    pub fn see(&mut self, source: Addr) {
        if let Some(count) = self.0.get_mut(&source) {
            *count += 1;
        } else if self.0.len() < CANDIDATES {
            self.0.insert(source, 1);
        } else {
            // One flow of everybody against this one.
            self.0.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// Their flows are to be counted, from none.
    pub fn into_sources(self) -> Sources {
        let counts = self.0.into_keys().map(|source| (source, 0)).collect();
        Sources { counts, total: 0 }
    }
}

impl Sources {
    pub fn see(&mut self, source: Addr) {
        self.total += 1;
        if let Some(count) = self.counts.get_mut(&source) {
            *count += 1;
        }
    }

    /// Those with most flows, and how many they have; the most first.
    pub fn top(&self, number: usize) -> Vec<(Addr, u64)> {
        let counted = self.counts.iter().filter(|(_, count)| **count > 0);
        let mut all: Vec<_> = counted.map(|(source, count)| (*source, *count)).collect();
        all.sort_unstable_by_key(|(source, count)| (Reverse(*count), *source));
        all.truncate(number);
        all
    }

    /// In percent of all, rounded down.
    pub fn share(&self, count: u64) -> u64 {
        (count * 100).checked_div(self.total).unwrap_or(0)
    }
}

/// `192.0.2.7 (60000, 91 %), …`: those that have one percent or more.
impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 10;
        let top = self.top(NAMED);
        let many: Vec<_> = top.iter().filter(|(_, count)| self.share(*count) > 0).collect();
        if many.is_empty() {
            return f.write_str("many sources, none with one percent");
        }
        for (number, (source, count)) in many.into_iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{} ({count}, {} %)", source.to_ip(), self.share(*count))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn address(number: u32) -> Addr {
        IpAddr::from(Ipv4Addr::from(number)).into()
    }

    fn count(flows: impl Iterator<Item = Addr> + Clone) -> Sources {
        let mut candidates = Candidates::default();
        flows.clone().for_each(|source| candidates.see(source));
        let mut sources = candidates.into_sources();
        flows.for_each(|source| sources.see(source));
        sources
    }

    #[test]
    fn the_most_busy_are_found_among_many_and_counted_exactly() {
        // One in ten is of one source, one in twenty of another, all others differ.
        let flows = (0..100_000u32).map(|number| match number % 20 {
            0 | 10 => address(1),
            5 => address(2),
            _ => address(1_000 + number),
        });
        let sources = count(flows);
        assert_eq!(sources.total, 100_000);
        assert_eq!(sources.top(2), [(address(1), 10_000), (address(2), 5_000)]);
        assert!(sources.counts.len() <= CANDIDATES);
        assert_eq!(sources.to_string(), "0.0.0.1 (10000, 10 %), 0.0.0.2 (5000, 5 %)");
    }

    #[test]
    fn a_flood_from_everywhere_names_nobody() {
        let sources = count((0..100_000).map(address));
        assert_eq!(sources.to_string(), "many sources, none with one percent");
    }

    #[test]
    fn few_sources_are_all_known() {
        let sources = count([3, 1, 3].into_iter().map(address));
        assert_eq!(sources.top(10), [(address(3), 2), (address(1), 1)]);
        assert_eq!(count(std::iter::empty()).top(10), []);
    }
}
