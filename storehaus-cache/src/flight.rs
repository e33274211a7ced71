//! Loads under way, shared by everybody who may have their result.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a leader and those who wait for it share.
#[derive(Debug)]
struct Load<T> {
    told: Mutex<Told<T>>,
    /// Wakes those who wait.
    news: Notify,
}

/// What is known of a load.
#[derive(Debug)]
enum Told<T> {
    Nothing,
    Outcome(T),
    /// There will be none.
    Vanished,
}

/// The leader's end of a load: publishes the outcome once. Dropping it unpublished tells everybody who waits that
/// there will be none, so a load that panics or is cancelled strands nobody.
#[derive(Debug)]
pub(crate) struct Leader<T>(Arc<Load<T>>);

/// The end of somebody who waits.
#[derive(Debug)]
pub(crate) struct Follower<T>(Arc<Load<T>>);

pub(crate) fn flight<T: Clone>() -> (Leader<T>, Follower<T>) {
    let load = Arc::new(Load { told: Mutex::new(Told::Nothing), news: Notify::new() });
    (Leader(Arc::clone(&load)), Follower(load))
}

impl<T: Clone> Leader<T> {
    pub(crate) fn publish(&self, outcome: T) {
        *lock(&self.0.told) = Told::Outcome(outcome);
        self.0.news.notify_waiters();
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        let mut told = lock(&self.0.told);
        if matches!(*told, Told::Nothing) {
            *told = Told::Vanished;
            drop(told);
            self.0.news.notify_waiters();
        }
    }
}

impl<T> Clone for Follower<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Follower<T> {
    /// The outcome; `None` when the leader vanished without one.
    pub(crate) async fn outcome(self) -> Option<T> {
        loop {
            // Before the look: what is told after it wakes this one.
            let news = self.0.news.notified();
            match &*lock(&self.0.told) {
                Told::Outcome(outcome) => return Some(outcome.clone()),
                Told::Vanished => return None,
                Told::Nothing => {}
            }
            news.await;
        }
    }
}

type Shard<K, T> = Mutex<HashMap<K, Follower<T>>>;

/// Flights by what identifies them. Guards the map alone, never across an await.
#[derive(Debug)]
pub(crate) struct Flights<K, T> {
    shards: Box<[Shard<K, T>]>,
    hasher: std::hash::RandomState,
}

impl<K: Hash + Eq, T: Clone> Flights<K, T> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..16).map(|_| Mutex::default()).collect(), hasher: std::hash::RandomState::new() }
    }

    /// Joins the flight of `key`, or starts one.
    pub(crate) fn join(&self, key: K) -> Result<Follower<T>, Leader<T>> {
        match self.shard(&key).entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.get().clone()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let (leader, follower) = flight();
                entry.insert(follower);
                Err(leader)
            }
        }
    }

    /// Starts a flight under a key nobody else has.
    pub(crate) fn start(&self, key: K) -> Leader<T> {
        let (leader, follower) = flight();
        self.shard(&key).insert(key, follower);
        leader
    }

    pub(crate) fn get(&self, key: &K) -> Option<Follower<T>> {
        self.shard(key).get(key).cloned()
    }

    pub(crate) fn remove(&self, key: &K) {
        self.shard(key).remove(key);
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, Follower<T>>> {
        use std::hash::BuildHasher as _;
        lock(&self.shards[self.hasher.hash_one(key) as usize % self.shards.len()])
    }
}

/// A flight that is taken off the map when this is dropped, however its task ends.
pub(crate) struct Registered<K: Hash + Eq, T: Clone> {
    flights: Arc<Flights<K, T>>,
    key: K,
    pub(crate) leader: Leader<T>,
}

impl<K: Hash + Eq, T: Clone> Registered<K, T> {
    pub(crate) fn new(flights: &Arc<Flights<K, T>>, key: K, leader: Leader<T>) -> Self {
        Self { flights: Arc::clone(flights), key, leader }
    }

    pub(crate) fn key(&self) -> K
    where
        K: Copy,
    {
        self.key
    }

    /// To wait for the outcome.
    pub(crate) fn follower(&self) -> Follower<T> {
        Follower(Arc::clone(&self.leader.0))
    }
}

impl<K: Hash + Eq, T: Clone> Drop for Registered<K, T> {
    fn drop(&mut self) {
        self.flights.remove(&self.key);
    }
}

/// Loads that nobody may have who came after they began: per key one is under way at most, and whoever comes meanwhile
/// shares the next. Guards the map alone, never across an await.
#[derive(Debug)]
pub(crate) struct Turns<K, T> {
    shards: Box<[Mutex<Nexts<K, T>>]>,
    hasher: std::hash::RandomState,
}

type Nexts<K, T> = HashMap<K, Next<T>>;

/// The load after the one under way, if anybody waits for it.
type Next<T> = Option<(Leader<T>, Follower<T>)>;

impl<K: Hash + Eq, T: Clone> Turns<K, T> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..16).map(|_| Mutex::default()).collect(), hasher: std::hash::RandomState::new() }
    }

    /// Waits for the first load that begins from now on. With a leader the caller has to run it, and those that follow:
    /// see [`Turn::pass_on`].
    pub(crate) fn enter(self: &Arc<Self>, key: &K) -> (Follower<T>, Option<Turn<K, T>>)
    where
        K: Clone,
    {
        let mut keys = self.shard(key);
        match keys.get_mut(key) {
            Some(Some((_, follower))) => (follower.clone(), None),
            Some(next) => {
                let (leader, follower) = flight();
                *next = Some((leader, follower.clone()));
                (follower, None)
            }
            None => {
                keys.insert(key.clone(), None);
                let (leader, follower) = flight();
                (follower, Some(Turn { turns: Arc::clone(self), key: key.clone(), leader: Some(leader) }))
            }
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Nexts<K, T>> {
        use std::hash::BuildHasher as _;
        lock(&self.shards[self.hasher.hash_one(key) as usize % self.shards.len()])
    }
}

/// The right to load. Dropping it lets nobody wait.
#[derive(Debug)]
pub(crate) struct Turn<K: Hash + Eq, T: Clone> {
    turns: Arc<Turns<K, T>>,
    key: K,
    /// `None` once the last load was handed out.
    leader: Option<Leader<T>>,
}

impl<K: Hash + Eq, T: Clone> Turn<K, T> {
    /// Hands out what was loaded; whether others came meanwhile, who need another load.
    pub(crate) fn pass_on(&mut self, outcome: T) -> bool {
        if let Some(leader) = self.leader.take() {
            leader.publish(outcome);
        }
        let mut keys = self.turns.shard(&self.key);
        match keys.get_mut(&self.key).and_then(Option::take) {
            Some((leader, _)) => self.leader = Some(leader),
            None => {
                keys.remove(&self.key);
            }
        }
        self.leader.is_some()
    }
}

impl<K: Hash + Eq, T: Clone> Drop for Turn<K, T> {
    fn drop(&mut self) {
        if self.leader.is_some() {
            self.turns.shard(&self.key).remove(&self.key);
        }
    }
}

/// Locks a mutex whose data stays valid whatever its last holder did: each critical section is one map operation.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn followers_get_the_outcome_and_learn_of_a_vanished_leader() {
        let flights = Flights::<u64, u64>::new();
        let leader = flights.join(1).unwrap_err();
        let (early, twin) = (flights.join(1).unwrap(), flights.join(1).unwrap());
        leader.publish(7);
        let late = flights.join(1).unwrap();
        assert_eq!((early.outcome().await, twin.outcome().await, late.outcome().await), (Some(7), Some(7), Some(7)));

        flights.remove(&1);
        let leader = flights.join(1).unwrap_err();
        let follower = flights.join(1).unwrap();
        drop(leader);
        assert_eq!(follower.outcome().await, None);
    }

    #[tokio::test]
    async fn who_comes_during_a_load_shares_the_next_one() {
        let turns = Arc::new(Turns::<u64, u64>::new());
        let (first, turn) = turns.enter(&1);
        let mut turn = turn.unwrap();
        let ((second, none), (third, nobody)) = (turns.enter(&1), turns.enter(&1));
        assert!(none.is_none() && nobody.is_none());
        assert!(turns.enter(&2).1.is_some(), "another key has loads of its own");
        assert!(turn.pass_on(7));
        let (fourth, _) = turns.enter(&1);
        assert!(turn.pass_on(8));
        assert!(!turn.pass_on(9));
        assert_eq!((first.outcome().await, second.outcome().await), (Some(7), Some(8)));
        assert_eq!((third.outcome().await, fourth.outcome().await), (Some(8), Some(9)));

        let (_, turn) = turns.enter(&1);
        let (stranded, _) = turns.enter(&1);
        drop(turn);
        assert_eq!(stranded.outcome().await, None);
        assert!(turns.enter(&1).1.is_some());
    }
}
