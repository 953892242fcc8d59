//! Fragments that wait for the first one of their datagram: what is kept, of whom,
//! and for how long. Without I/O and without a clock.
//!
//! The kernel's reassembly keeps 4 MiB for 30 seconds, from whomever
//! (net.ipv4.ipfrag_high_thresh, ipfrag_time); here one source has at most a
//! quarter of that.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
};

use firewall_common::{
    control::MAX_AWAITED,
    fragment::{Early, FragmentKey},
    time::Nanos,
};

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub datagrams: usize,
    /// Of frames.
    pub bytes: usize,
    /// Those of the smallest IPv4 MTU (RFC 791) that make the longest datagram.
    pub fragments_per_datagram: usize,
    /// What one source may have of datagrams and bytes: this part of all.
    pub share_of_a_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            datagrams: MAX_AWAITED as usize,
            bytes: 4 << 20,
            fragments_per_datagram: 128,
            share_of_a_source: 4,
        }
    }
}

/// A fragment as the datapath has held it.
#[derive(Clone, Debug)]
pub struct Held {
    pub early: Early,
    pub frame: Box<[u8]>,
}

/// What became of a fragment that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The first of its datagram to wait.
    Alone,
    /// Others wait already.
    WithOthers,
    /// There is no space for it.
    No,
}

/// All fragments that wait.
#[derive(Debug)]
pub struct Waiting {
    limits: Limits,
    datagrams: HashMap<FragmentKey, Datagram>,
    sources: HashMap<Source, Share>,
    bytes: usize,
}

#[derive(Debug)]
struct Datagram {
    since: Nanos,
    bytes: usize,
    /// In the order in which they came.
    held: Vec<Held>,
}

/// Who sends: an IPv4 address, or the IPv6 network that one host may have whole.
type Source = IpAddr;

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    datagrams: usize,
    bytes: usize,
}

impl Waiting {
    pub fn new(limits: Limits) -> Self {
        Self { limits, datagrams: HashMap::new(), sources: HashMap::new(), bytes: 0 }
    }

    /// Keeps a fragment, if there is space for it.
    pub fn keep(&mut self, early: Early, frame: &[u8]) -> Kept {
        if !self.has_space(&early.key, frame.len()) {
            return Kept::No;
        }
        let share = self.sources.entry(source(&early.key)).or_default();
        share.bytes += frame.len();
        self.bytes += frame.len();
        let held = Held { early, frame: frame.into() };
        match self.datagrams.entry(early.key) {
            Entry::Occupied(mut others) => {
                let datagram = others.get_mut();
                datagram.bytes += frame.len();
                datagram.held.push(held);
                Kept::WithOthers
            }
            Entry::Vacant(place) => {
                share.datagrams += 1;
                let (since, bytes) = (early.at, frame.len());
                place.insert(Datagram { since, bytes, held: vec![held] });
                Kept::Alone
            }
        }
    }

    fn has_space(&self, key: &FragmentKey, len: usize) -> bool {
        let Limits { datagrams, bytes, fragments_per_datagram, share_of_a_source } = self.limits;
        let share = self.sources.get(&source(key)).copied().unwrap_or_default();
        let is_within = match self.datagrams.get(key) {
            Some(datagram) => datagram.held.len() < fragments_per_datagram,
            None => {
                self.datagrams.len() < datagrams && share.datagrams < datagrams / share_of_a_source
            }
        };
        is_within && self.bytes + len <= bytes && share.bytes + len <= bytes / share_of_a_source
    }

    /// Lets go of the fragments of a datagram, in the order in which they came.
    pub fn release(&mut self, key: &FragmentKey) -> Vec<Held> {
        let Some(datagram) = self.datagrams.remove(key) else { return Vec::new() };
        self.bytes -= datagram.bytes;
        if let Entry::Occupied(mut share) = self.sources.entry(source(key)) {
            share.get_mut().bytes -= datagram.bytes;
            share.get_mut().datagrams -= 1;
            if share.get().datagrams == 0 {
                share.remove();
            }
        }
        datagram.held
    }

    /// The datagrams that are waited for, and since when.
    pub fn datagrams(&self) -> impl Iterator<Item = (FragmentKey, Nanos)> + '_ {
        self.datagrams.iter().map(|(key, datagram)| (*key, datagram.since))
    }
}

fn source(key: &FragmentKey) -> Source {
    match key.src.to_ip() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use firewall_common::fragment::EarlyKind;

    use super::*;

    const LIMITS: Limits =
        Limits { datagrams: 8, bytes: 800, fragments_per_datagram: 3, share_of_a_source: 4 };

    fn early(source: &str, id: u32) -> Early {
        let src = source.parse::<IpAddr>().unwrap().into();
        let key = FragmentKey { src, id, ..FragmentKey::default() };
        Early::about(&key, EarlyKind::Fragment, Nanos::from_secs(id.into()))
    }

    fn lengths(held: &[Held]) -> Vec<usize> {
        held.iter().map(|held| held.frame.len()).collect()
    }

    #[test]
    fn fragments_are_released_in_the_order_in_which_they_came() {
        let mut waiting = Waiting::new(LIMITS);
        let early = early("192.0.2.1", 1);
        assert_eq!(waiting.keep(early, &[0; 30]), Kept::Alone);
        assert_eq!(waiting.keep(early, &[0; 10]), Kept::WithOthers);
        assert_eq!(waiting.keep(early, &[0; 20]), Kept::WithOthers);
        assert_eq!(lengths(&waiting.release(&early.key)), [30, 10, 20]);
        assert!(waiting.release(&early.key).is_empty());
        assert_eq!((waiting.bytes, waiting.sources.len()), (0, 0));
    }

    #[test]
    fn a_datagram_has_so_many_fragments() {
        let mut waiting = Waiting::new(LIMITS);
        let early = early("192.0.2.1", 1);
        let kept: Vec<_> = (0..4).map(|_| waiting.keep(early, &[0; 10])).collect();
        assert_eq!(kept[2..], [Kept::WithOthers, Kept::No]);
    }

    #[test]
    fn one_source_leaves_space_for_others() {
        let mut waiting = Waiting::new(LIMITS);
        let many = (0..100).map(|id| waiting.keep(early("192.0.2.1", id), &[0; 10]));
        assert_eq!(many.filter(|kept| *kept == Kept::Alone).count(), 2);
        assert_eq!(waiting.keep(early("192.0.2.2", 1), &[0; 10]), Kept::Alone);
        assert_eq!(waiting.keep(early("192.0.2.3", 1), &[0; 201]), Kept::No);
        assert_eq!(waiting.keep(early("192.0.2.3", 1), &[0; 200]), Kept::Alone);
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_source() {
        let mut waiting = Waiting::new(LIMITS);
        let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:1"];
        let kept = addresses.map(|source| waiting.keep(early(source, 1), &[0; 10]));
        assert_eq!(kept, [Kept::Alone, Kept::Alone, Kept::No]);
        assert_eq!(waiting.keep(early("2001:db8:0:1::1", 1), &[0; 10]), Kept::Alone);
    }

    #[test]
    fn all_sources_together_have_so_much() {
        let mut waiting = Waiting::new(LIMITS);
        let sources = (1..=9).map(|host| format!("192.0.2.{host}"));
        let kept: Vec<_> =
            sources.map(|source| waiting.keep(early(&source, 1), &[0; 10])).collect();
        assert!(kept[..8].iter().all(|kept| *kept == Kept::Alone));
        assert_eq!(kept[8], Kept::No);
        let released = waiting.release(&early("192.0.2.4", 1).key);
        assert_eq!(released.len(), 1);
        assert_eq!(waiting.keep(early("192.0.2.9", 1), &[0; 10]), Kept::Alone);
    }

    #[test]
    fn a_datagram_waits_since_its_oldest_fragment() {
        let mut waiting = Waiting::new(LIMITS);
        let mut second = early("192.0.2.1", 1);
        waiting.keep(second, &[0; 10]);
        second.at = Nanos::from_secs(9);
        waiting.keep(second, &[0; 10]);
        assert!(waiting.datagrams().eq([(second.key, Nanos::from_secs(1))]));
    }
}
