//! The keys whose removal is owed to the server.

use std::collections::HashMap;

/// Keys to remove, or everything once there are too many of them.
pub(super) struct Journal {
    /// Each key with the number of the entry that wrote it last: a removal that was under way when the key was entered
    /// again does not settle the newer entry.
    keys: HashMap<String, u64>,
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
    Keys(Vec<String>, Vec<u64>),
}

impl Journal {
    pub(super) fn new(capacity: usize) -> Self {
        Self { keys: HashMap::new(), everything: None, overflowed: 0, serial: 0, capacity }
    }

    pub(super) fn enter(&mut self, keys: Vec<String>) {
        self.serial += 1;
        if self.everything.is_some() {
            self.everything = Some(self.serial);
            self.overflowed += keys.len() as u64;
            return;
        }
        self.keys.extend(keys.into_iter().map(|key| (key, self.serial)));
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
                let (keys, serials) = self.keys.iter().take(most).map(|(key, serial)| (key.clone(), *serial)).unzip();
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
                for (key, serial) in keys.iter().zip(serials) {
                    if self.keys.get(key) == Some(&serial) {
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

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_entry_made_during_the_removal_stays() {
        let mut journal = Journal::new(10);
        journal.enter(keys(&["a", "b"]));
        let batch = journal.batch(10).unwrap();
        journal.enter(keys(&["a"]));
        assert_eq!(journal.settle(batch), 1);
        assert!(matches!(journal.batch(10), Some(Batch::Keys(left, _)) if left == ["a"]));
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
