//! Who keeps a range of ports open: several control connections of the same two hosts
//! share one entry of the map.

use std::collections::HashMap;

use super::Passage;

/// Control connections that are remembered for one passage; further ones use it as long as
/// those live.
const MAX_CLAIMS: usize = 64;

/// Passages with the control connections for which they stand. The first one's is the
/// entry of the map.
#[derive(Debug)]
pub struct Passages<K>(HashMap<Passage, Vec<K>>);

/// What is due in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due<K> {
    Nothing,
    /// The passage stands for this control connection from now on.
    Insert(K),
    Remove,
}

impl<K> Default for Passages<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq> Passages<K> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn admit(&mut self, passage: Passage, control: K) -> Due<K> {
        let claims = self.0.entry(passage).or_default();
        if claims.contains(&control) || claims.len() >= MAX_CLAIMS {
            return Due::Nothing;
        }
        claims.push(control);
        if claims.len() == 1 { Due::Insert(control) } else { Due::Nothing }
    }

    pub fn dismiss(&mut self, passage: Passage, control: K) -> Due<K> {
        let Some(claims) = self.0.get_mut(&passage) else { return Due::Nothing };
        let was_first = claims.first() == Some(&control);
        claims.retain(|claim| *claim != control);
        match claims.first() {
            None => {
                self.0.remove(&passage);
                Due::Remove
            }
            Some(next) if was_first => Due::Insert(*next),
            Some(_) => Due::Nothing,
        }
    }

    /// Another one with the same key in the map, and the first that claims it.
    pub fn beside(&self, passage: &Passage) -> Option<(Passage, K)> {
        let is_beside = |other: &Passage| other != passage && other.key() == passage.key();
        let (other, claims) = self.0.iter().find(|(other, _)| is_beside(other))?;
        Some((*other, *claims.first()?))
    }

    /// Those that stand, each for its control connections.
    pub fn iter(&self) -> impl Iterator<Item = (Passage, &[K])> {
        self.0.iter().map(|(passage, claims)| (*passage, claims.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passage_stands_as_long_as_one_of_its_control_connections() {
        let [src, dst] = ["192.0.2.7", "198.51.100.1"].map(|host| host.parse().unwrap());
        let passage = Passage { src, dst, inside: None, ports: "50000-50100".parse().unwrap() };
        let mut passages = Passages::default();
        assert_eq!(passages.admit(passage, 1), Due::Insert(1));
        assert_eq!(passages.admit(passage, 2), Due::Nothing);
        assert_eq!(passages.admit(passage, 3), Due::Nothing);
        assert_eq!(passages.dismiss(passage, 2), Due::Nothing);
        assert_eq!(passages.dismiss(passage, 1), Due::Insert(3));
        assert_eq!(passages.dismiss(passage, 9), Due::Nothing);
        assert_eq!(passages.dismiss(passage, 3), Due::Remove);
        assert!(passages.is_empty());
    }

    #[test]
    fn a_passage_to_another_server_behind_the_same_name_is_beside_it() {
        let [src, dst, a, b] = ["192.0.2.7", "203.0.113.1", "198.51.100.1", "198.51.100.2"]
            .map(|host| host.parse().unwrap());
        let ports = "50000-50100".parse().unwrap();
        let [a, b] = [a, b].map(|inside| Passage { src, dst, inside: Some(inside), ports });
        let mut passages = Passages::default();
        passages.admit(a, 1);
        assert_eq!(passages.beside(&a), None);
        passages.admit(b, 2);
        assert_eq!((passages.beside(&a), passages.beside(&b)), (Some((b, 2)), Some((a, 1))));
        assert_eq!(passages.beside(&Passage { dst: src, ..a }), None);
    }
}
