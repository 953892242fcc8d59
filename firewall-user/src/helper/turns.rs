//! Held segments that wait to be read: each connection has its turn, whatever the
//! others send.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Segments of one connection that wait at a time. A window of commands is smaller; what
/// is beyond is dropped, and TCP sends it again.
pub const MAX_WAITING: usize = 64;
/// Bytes of all that wait.
pub const MAX_BYTES: usize = 16 << 20;

/// Records by their connection.
#[derive(Debug)]
pub struct Turns<K> {
    waiting: HashMap<K, VecDeque<Box<[u8]>>>,
    /// Who is next; each that waits stands here once.
    order: VecDeque<K>,
    bytes: usize,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), order: VecDeque::new(), bytes: 0 }
    }
}

impl<K: Copy + Eq + Hash> Turns<K> {
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Has a record wait; `false` when too much waits already, of this connection or of
    /// all.
    pub fn push(&mut self, key: K, record: &[u8]) -> bool {
        let waiting = self.waiting.get(&key).map_or(0, VecDeque::len);
        if waiting >= MAX_WAITING || self.bytes + record.len() > MAX_BYTES {
            return false;
        }
        if waiting == 0 {
            self.order.push_back(key);
        }
        self.bytes += record.len();
        self.waiting.entry(key).or_default().push_back(record.into());
        true
    }

    /// The oldest record of the connection whose turn it is.
    pub fn take(&mut self) -> Option<Box<[u8]>> {
        let key = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&key)?;
        let record = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.order.push_back(key);
        }
        self.bytes -= record.as_ref().map_or(0, |record| record.len());
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(turns: &mut Turns<u8>) -> String {
        std::iter::from_fn(|| turns.take()).map(|record| char::from(record[0])).collect()
    }

    #[test]
    fn each_connection_has_its_turn_and_its_order() {
        let mut turns = Turns::default();
        for (key, record) in [(1, "a"), (1, "b"), (1, "c"), (2, "x"), (3, "y"), (3, "z")] {
            assert!(turns.push(key, record.as_bytes()));
        }
        assert_eq!(served(&mut turns), "axybzc");
        assert!(turns.is_empty() && turns.bytes == 0 && turns.waiting.is_empty());
    }

    #[test]
    fn a_flood_fills_its_own_place_only() {
        let mut turns = Turns::default();
        let kept = (0..1000).filter(|_| turns.push(1, b"f")).count();
        assert_eq!(kept, MAX_WAITING);
        assert!(turns.push(2, b"h"));
        assert_eq!(turns.take().as_deref(), Some(&b"f"[..]));
        assert_eq!(turns.take().as_deref(), Some(&b"h"[..]));
    }

    #[test]
    fn all_that_waits_is_bounded() {
        let (mut turns, record) = (Turns::default(), vec![0; 65_000]);
        let kept = (0..10_000).filter(|key| turns.push(*key, &record)).count();
        assert_eq!(kept, MAX_BYTES / record.len());
    }
}
