//! What was acknowledged when, and so how late a read is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The acknowledged versions of keys 1 to n.
pub(super) struct Board {
    keys: Vec<Key>,
}

struct Key {
    /// The highest version acknowledged.
    acknowledged: AtomicI64,
    /// The highest version that each instance acknowledged.
    own: Vec<AtomicI64>,
    /// Every version acknowledged and when, as they came.
    history: Mutex<Vec<(i64, Instant)>>,
}

impl Board {
    /// Nothing acknowledged yet: every key at version 0.
    pub(super) fn new(keys: i64, instances: usize) -> Self {
        let zero = || AtomicI64::new(0);
        let key =
            |_| Key { acknowledged: zero(), own: (0..instances).map(|_| zero()).collect(), history: Mutex::default() };
        Self { keys: (0..keys).map(key).collect() }
    }

    /// Enters a write of an instance, right after it returned.
    pub(super) fn acknowledge(&self, id: i64, version: i64, instance: usize) {
        let key = self.key(id);
        key.own[instance].fetch_max(version, Ordering::SeqCst);
        key.history.lock().unwrap_or_else(PoisonError::into_inner).push((version, Instant::now()));
        key.acknowledged.fetch_max(version, Ordering::SeqCst);
    }

    /// The least version a read that starts now may return.
    pub(super) fn least(&self, id: i64) -> i64 {
        self.key(id).acknowledged.load(Ordering::SeqCst)
    }

    /// The least version a read of this instance that starts now may return while its writes may reach others late.
    pub(super) fn least_own(&self, id: i64, instance: usize) -> i64 {
        self.key(id).own[instance].load(Ordering::SeqCst)
    }

    /// How long before `started` the first version newer than `version` was acknowledged: what a read that started
    /// then and returned `version` is late by.
    pub(super) fn lateness(&self, id: i64, version: i64, started: Instant) -> Duration {
        let history = self.key(id).history.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = history.iter().filter(|(acknowledged, _)| *acknowledged > version).map(|(_, at)| *at).min();
        newer.map_or(Duration::ZERO, |at| started.saturating_duration_since(at))
    }

    fn key(&self, id: i64) -> &Key {
        &self.keys[(id - 1) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_late_by_the_first_newer_version() {
        let board = Board::new(2, 1);
        board.acknowledge(1, 1, 0);
        board.acknowledge(1, 2, 0);
        let at: Vec<_> = board.keys[0].history.lock().unwrap().iter().map(|(_, at)| *at).collect();
        let (first, second) = (at[0], at[1]);
        let later = second + Duration::from_secs(1);
        assert_eq!((board.least(1), board.least(2)), (2, 0));
        assert_eq!(board.lateness(1, 0, later), later - first);
        assert_eq!(board.lateness(1, 1, later), later - second);
        assert_eq!(board.lateness(1, 2, later), Duration::ZERO);
    }

    #[test]
    fn acknowledgements_may_come_in_any_order() {
        let board = Board::new(1, 2);
        board.acknowledge(1, 5, 0);
        board.acknowledge(1, 4, 1);
        assert_eq!((board.least(1), board.least_own(1, 0), board.least_own(1, 1)), (5, 5, 4));
        assert!(board.lateness(1, 3, Instant::now() + Duration::from_secs(1)) >= Duration::from_secs(1));
    }
}
