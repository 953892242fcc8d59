//! The control connections that are read: a bounded number, in bounded memory.
//!
//! When there is no place, the one that was silent longest gives its own; when the
//! buffers are full, those that were silent longest let theirs go.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    hash::Hash,
};

use super::Reader;

/// What the roster may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Control connections.
    pub connections: usize,
    /// Bytes of their buffers, together.
    pub buffers: usize,
}

/// The number of a reading: later ones are greater.
type Turn = u64;

#[derive(Debug)]
struct Held {
    reader: Box<dyn Reader>,
    turn: Turn,
    /// As [`Reader::heap`] said last.
    heap: usize,
}

/// Readers by their connection.
#[derive(Debug)]
pub struct Roster<K> {
    bounds: Bounds,
    held: HashMap<K, Held>,
    /// All of them, the most silent first.
    by_turn: BTreeMap<Turn, K>,
    /// Those that hold buffers.
    buffering: BTreeMap<Turn, K>,
    buffered: usize,
    next: Turn,
}

impl<K: Copy + Debug + Eq + Hash> Roster<K> {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            held: HashMap::new(),
            by_turn: BTreeMap::new(),
            buffering: BTreeMap::new(),
            buffered: 0,
            next: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes in the buffers of all.
    pub const fn buffered(&self) -> usize {
        self.buffered
    }

    pub const fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub fn contains(&self, key: &K) -> bool {
        self.held.contains_key(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.held.keys().copied()
    }

    /// Takes in a connection; gives the one that had to go for it.
    pub fn begin(&mut self, key: K, reader: Box<dyn Reader>) -> Option<(K, Box<dyn Reader>)> {
        let is_full = self.held.len() >= self.bounds.connections && !self.contains(&key);
        let silent = self.by_turn.first_key_value().map(|(_, key)| *key);
        let gone = silent.filter(|_| is_full).and_then(|key| Some((key, self.remove(&key)?)));
        self.remove(&key);
        self.held.insert(key, Held { reader, turn: self.next, heap: 0 });
        self.by_turn.insert(self.next, key);
        self.next += 1;
        gone
    }

    /// Lets a connection's reader read, and gives what it said with the number of
    /// readers that had to let go of their buffers; `None` when it is not here.
    pub fn read<R>(
        &mut self,
        key: &K,
        read: impl FnOnce(&mut dyn Reader) -> R,
    ) -> Option<(R, usize)> {
        let held = self.held.get_mut(key)?;
        self.by_turn.remove(&held.turn);
        self.buffering.remove(&held.turn);
        self.buffered -= held.heap;
        let said = read(held.reader.as_mut());
        (held.turn, held.heap) = (self.next, held.reader.heap());
        self.by_turn.insert(held.turn, *key);
        self.buffered += held.heap;
        if held.heap > 0 {
            self.buffering.insert(held.turn, *key);
        }
        self.next += 1;
        Some((said, self.shed()))
    }

    /// A connection's reader, to be asked.
    pub fn get(&self, key: &K) -> Option<&dyn Reader> {
        Some(self.held.get(key)?.reader.as_ref())
    }

    /// A connection's reader as it is now.
    pub fn copy(&self, key: &K) -> Option<Box<dyn Reader>> {
        Some(self.held.get(key)?.reader.copy())
    }

    /// Puts back what a reader was before: what it has read since, it will read again.
    pub fn restore(&mut self, key: &K, former: Box<dyn Reader>) {
        let Some(held) = self.held.get_mut(key) else { return };
        self.buffering.remove(&held.turn);
        self.buffered -= held.heap;
        (held.heap, held.reader) = (former.heap(), former);
        self.buffered += held.heap;
        if held.heap > 0 {
            self.buffering.insert(held.turn, *key);
        }
    }

    /// The connection is over, or of no interest any more.
    pub fn remove(&mut self, key: &K) -> Option<Box<dyn Reader>> {
        let held = self.held.remove(key)?;
        self.by_turn.remove(&held.turn);
        self.buffering.remove(&held.turn);
        self.buffered -= held.heap;
        if self.held.capacity() > 4 * self.held.len() + 1024 {
            self.held.shrink_to(2 * self.held.len());
        }
        Some(held.reader)
    }

    /// Frees buffers until they are within their bound.
    fn shed(&mut self) -> usize {
        let mut shed = 0;
        while self.buffered > self.bounds.buffers
            && let Some((_, key)) = self.buffering.pop_first()
        {
            if let Some(held) = self.held.get_mut(&key) {
                held.reader.shed();
                self.buffered -= held.heap;
                held.heap = held.reader.heap();
                self.buffered += held.heap;
                shed += 1;
            }
        }
        shed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use firewall_common::flow::Direction;

    use super::*;
    use crate::{
        ftp::{Conversation, Policy},
        helper::Beginning,
    };

    fn roster(connections: usize, buffers: usize) -> Roster<u32> {
        Roster::new(Bounds { connections, buffers })
    }

    fn reader(policy: &Arc<Policy>) -> Box<dyn Reader> {
        let [client, server] = ["192.0.2.7", "198.51.100.1"].map(|host| host.parse().unwrap());
        Box::new(Conversation::new(client, server, Beginning::Seen, Arc::clone(policy)))
    }

    fn begin(roster: &mut Roster<u32>, key: u32) -> Option<u32> {
        roster.begin(key, reader(&Arc::default())).map(|(gone, _)| gone)
    }

    /// A line without its end, which has to be kept.
    fn half_a_line(roster: &mut Roster<u32>, key: u32) -> usize {
        let line = [b'x'; 1000];
        let read = |reader: &mut dyn Reader| drop(reader.segment(Direction::Reply, 1, &line));
        roster.read(&key, read).unwrap().1
    }

    #[test]
    fn the_one_that_was_silent_longest_gives_its_place() {
        let mut roster = roster(3, usize::MAX);
        for key in 0..3 {
            assert_eq!(begin(&mut roster, key), None);
        }
        roster.read(&0, |_| ()).unwrap();
        assert_eq!(begin(&mut roster, 3), Some(1));
        assert_eq!(begin(&mut roster, 4), Some(2));
        assert_eq!(begin(&mut roster, 5), Some(0));
        assert_eq!(roster.len(), 3);
    }

    #[test]
    fn a_connection_that_begins_anew_takes_no_second_place() {
        let mut roster = roster(2, usize::MAX);
        for _ in 0..5 {
            assert_eq!(begin(&mut roster, 7), None);
        }
        assert_eq!(roster.len(), 1);
    }

    #[test]
    fn buffers_are_let_go_where_it_was_silent_longest() {
        let mut roster = roster(10, 3500);
        for key in 0..4 {
            begin(&mut roster, key);
        }
        assert_eq!([0, 1, 2].map(|key| half_a_line(&mut roster, key)), [0, 0, 0]);
        assert_eq!(half_a_line(&mut roster, 3), 1);
        assert!(roster.buffered() <= 3500 && roster.buffered() > 2000);
        let heap = |roster: &mut Roster<u32>, key| roster.read(&key, |it| it.heap()).unwrap().0;
        assert_eq!(heap(&mut roster, 0), 0);
        assert!(heap(&mut roster, 3) > 0);
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let mut roster = roster(100, usize::MAX);
        for key in 0..100 {
            begin(&mut roster, key);
            half_a_line(&mut roster, key);
        }
        for key in 0..100 {
            assert!(roster.remove(&key).is_some());
        }
        assert!(roster.is_empty() && roster.buffered() == 0);
        assert!(roster.by_turn.is_empty() && roster.buffering.is_empty());
    }

    /// Bytes that the process has in memory.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    /// Set for a process that has nothing else to do.
    const ALONE: &str = "FIREWALL_TEST_ALONE";

    /// docs/helpers.md names the figure.
    #[test]
    fn a_hundred_thousand_control_connections_take_a_kilobyte_each_and_leave_nothing() {
        if std::env::var_os(ALONE).is_some() {
            return fill_and_empty();
        }
        // What other tests allocate meanwhile does not count.
        let name = "a_hundred_thousand_control_connections_take_a_kilobyte_each_and_leave_nothing";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--nocapture", name]).env(ALONE, "1").output();
        let output = output.expect("the test's program");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(" bytes for each"), "{output:?}");
        println!("{said}");
    }

    fn fill_and_empty() {
        const CONNECTIONS: u32 = 100_000;
        const EACH: usize = 1024;
        let policy = Arc::default();
        let lines: [(Direction, &[u8]); 6] = [
            (Direction::Reply, b"220 ready\r\n"),
            (Direction::Original, b"USER a\r\n"),
            (Direction::Reply, b"230 ok\r\n"),
            (Direction::Original, b"PASV\r\n"),
            (Direction::Reply, b"227 ok (198,51,100,1,156,65)\r\n"),
            (Direction::Original, b"RETR a\r\n"),
        ];
        let bounds = Bounds { connections: CONNECTIONS as usize, buffers: 32 << 20 };
        let mut roster = Roster::new(bounds);
        // As large as what tells control connections apart.
        let keys = || (0..u64::from(CONNECTIONS)).map(|number| [number; 8]);
        let before = resident();
        for key in keys() {
            assert!(roster.begin(key, reader(&policy)).is_none());
            let mut next = [0, 0];
            for (direction, line) in lines {
                let seq = &mut next[direction.index()];
                roster.read(&key, |it| it.segment(direction, *seq, line)).unwrap();
                *seq += line.len() as u32;
            }
        }
        let each = resident().saturating_sub(before) / CONNECTIONS as usize;
        println!("{each} bytes for each connection");
        assert!(each <= EACH, "{each} bytes for each connection");
        for key in keys() {
            let mut reader = roster.remove(&key).unwrap();
            assert!(reader.hole().is_some() && reader.ended().as_slice().len() == 1);
        }
        assert!(roster.is_empty() && roster.buffered() == 0);
        assert!(roster.held.capacity() <= 4096);
    }
}
