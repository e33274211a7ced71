//! The keys whose removal is owed to the server.

use std::collections::HashMap;

use crate::codec::header::Token;
use crate::l2::Claim;

/// Keys to remove, or everything once there are too many of them.
pub(super) struct Journal {
    /// Each key with the number of the entry that wrote it last, and its intent: a removal that was under way when the key
    /// was entered again does not settle the newer entry. The intents of earlier entries end by themselves.
    keys: HashMap<String, (u64, Option<Token>)>,
    /// The number of the newest entry, once the keys are too many to be told apart.
    everything: Option<u64>,
    /// How many keys `everything` stands for.
    overflowed: u64,
    serial: u64,
    capacity: usize,
}

/// A part of the journal to be removed from the server.
pub(super) enum Batch {
    /// Whatever this cache has.
    Everything(u64),
    /// These keys; their entry numbers.
    Keys(Vec<Claim>, Vec<u64>),
}

impl Journal {
    pub(super) fn new(capacity: usize) -> Self {
        Self { keys: HashMap::new(), everything: None, overflowed: 0, serial: 0, capacity }
    }

    pub(super) fn enter(&mut self, keys: Vec<Claim>) {
        self.serial += 1;
        if self.everything.is_some() {
            self.everything = Some(self.serial);
            self.overflowed += keys.len() as u64;
            return;
        }
        for (key, token) in keys {
            let (serial, last) = self.keys.entry(key).or_default();
            *serial = self.serial;
            *last = token.or(*last);
        }
        if self.keys.len() > self.capacity {
            self.overflowed = self.keys.len() as u64;
            self.keys = HashMap::new();
            self.everything = Some(self.serial);
        }
    }

    /// The next part to remove; it stays in the journal until [`settle`](Self::settle).
    pub(super) fn batch(&self, most: usize) -> Option<Batch> {
        match self.everything {
            Some(serial) => Some(Batch::Everything(serial)),
            None if self.keys.is_empty() => None,
            None => {
                let (keys, serials) =
                    self.keys.iter().take(most).map(|(key, (serial, token))| ((key.clone(), *token), *serial)).unzip();
                Some(Batch::Keys(keys, serials))
            }
        }
    }

    /// Strikes out what was removed, except what was entered again meanwhile; how many entries are settled.
    pub(super) fn settle(&mut self, batch: Batch) -> u64 {
        match batch {
            Batch::Everything(serial) if self.everything == Some(serial) => {
                self.everything = None;
                std::mem::take(&mut self.overflowed)
            }
            Batch::Everything(_) => 0,
            Batch::Keys(keys, serials) => {
                let before = self.keys.len();
                for ((key, _), serial) in keys.iter().zip(serials) {
                    if self.keys.get(key).is_some_and(|(last, _)| *last == serial) {
                        self.keys.remove(key);
                    }
                }
                (before - self.keys.len()) as u64
            }
        }
    }

    pub(super) fn pending(&self) -> u64 {
        self.keys.len() as u64 + self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<Claim> {
        names.iter().map(|name| ((*name).to_owned(), None)).collect()
    }

    #[test]
    fn the_last_intent_of_a_key_is_remembered() {
        let token = Token { instance: 1, serial: 2 };
        let mut journal = Journal::new(10);
        journal.enter(vec![("a".to_owned(), Some(token))]);
        journal.enter(keys(&["a", "b"]));
        let Some(Batch::Keys(mut claims, _)) = journal.batch(10) else { panic!("no keys") };
        claims.sort_by(|(a, _), (b, _)| a.cmp(b));
        assert_eq!(claims, [("a".to_owned(), Some(token)), ("b".to_owned(), None)]);
    }

    #[test]
    fn an_entry_made_during_the_removal_stays() {
        let mut journal = Journal::new(10);
        journal.enter(keys(&["a", "b"]));
        let batch = journal.batch(10).unwrap();
        journal.enter(keys(&["a"]));
        assert_eq!(journal.settle(batch), 1);
        assert!(matches!(journal.batch(10), Some(Batch::Keys(left, _)) if left == keys(&["a"])));
    }

    #[test]
    fn too_many_keys_become_everything_until_nothing_is_newer() {
        let mut journal = Journal::new(2);
        journal.enter(keys(&["a", "b"]));
        journal.enter(keys(&["c"]));
        assert_eq!(journal.pending(), 3);
        let batch = journal.batch(10).unwrap();
        assert!(matches!(batch, Batch::Everything(_)));
        journal.enter(keys(&["d"]));
        assert_eq!(journal.settle(batch), 0);
        let batch = journal.batch(10).unwrap();
        assert_eq!(journal.settle(batch), 4);
        assert_eq!(journal.pending(), 0);
        assert!(journal.batch(10).is_none());
    }

    #[test]
    fn batches_are_bounded() {
        let mut journal = Journal::new(10);
        journal.enter(keys(&["a", "b", "c"]));
        let batch = journal.batch(2).unwrap();
        assert_eq!(journal.settle(batch), 2);
        assert_eq!(journal.pending(), 1);
    }
}
