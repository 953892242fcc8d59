//! Whose holes stand: so many for each client, and no more.

use std::{collections::HashMap, hash::Hash, net::IpAddr};

/// The holes of each client, by their control connections: each has one at most.
#[derive(Debug)]
pub struct Ledger<K, H> {
    max: usize,
    by_client: HashMap<IpAddr, HashMap<K, H>>,
}

impl<K: Copy + Eq + Hash, H> Ledger<K, H> {
    pub fn new(max: usize) -> Self {
        Self { max, by_client: HashMap::new() }
    }

    /// Whether this control connection of a client may have a hole; it is entered then.
    /// Which of the others stand still is asked only when they are too many.
    pub fn admit(
        &mut self,
        client: IpAddr,
        control: K,
        hole: H,
        mut stands: impl FnMut(&K, &H) -> bool,
    ) -> bool {
        let holes = self.by_client.entry(client).or_default();
        if holes.len() >= self.max && !holes.contains_key(&control) {
            holes.retain(|control, hole| stands(control, hole));
        }
        let may = holes.len() < self.max || holes.contains_key(&control);
        if may {
            holes.insert(control, hole);
        }
        may
    }

    /// Gives the hole that it had.
    pub fn remove(&mut self, client: IpAddr, control: &K) -> Option<H> {
        let holes = self.by_client.get_mut(&client)?;
        let hole = holes.remove(control);
        if holes.is_empty() {
            self.by_client.remove(&client);
        }
        hole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_so_many_and_others_have_their_own() {
        let mut ledger = Ledger::new(2);
        let client = ip("192.0.2.7");
        assert!(
            ledger.admit(client, 1, (), |_, ()| true) && ledger.admit(client, 2, (), |_, ()| true)
        );
        assert!(!ledger.admit(client, 3, (), |_, ()| true));
        assert!(ledger.admit(client, 2, (), |_, ()| true), "its own, superseded");
        assert!(ledger.admit(ip("192.0.2.8"), 3, (), |_, ()| true));
        ledger.remove(client, &1);
        assert!(ledger.admit(client, 3, (), |_, ()| true));
    }

    #[test]
    fn holes_that_were_used_make_room() {
        let mut ledger = Ledger::new(2);
        let client = ip("192.0.2.7");
        assert!(
            ledger.admit(client, 1, (), |_, ()| true) && ledger.admit(client, 2, (), |_, ()| true)
        );
        assert!(ledger.admit(client, 3, (), |control, ()| *control != 1));
        assert!(!ledger.admit(client, 1, (), |_, ()| true));
    }

    #[test]
    fn nothing_is_kept_of_a_client_without_holes() {
        let mut ledger = Ledger::new(2);
        for control in 0..100 {
            assert!(ledger.admit(ip("192.0.2.7"), control, (), |_, ()| true));
            ledger.remove(ip("192.0.2.7"), &control);
        }
        assert!(ledger.by_client.is_empty());
    }
}
