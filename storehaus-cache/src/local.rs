//! The in-process tier: typed entries under our own TTL, single-flight and fence.
//!
//! The [`Engine`] only stores; what makes the tier coherent stands here. A load is a *flight* registered under its
//! key; its result may enter the tier only while that very flight is still registered, which is checked and done
//! under one stripe lock. An invalidation takes the flight off and removes the entry under the same lock, so a load
//! that began before a write was acknowledged can neither enter the tier nor be joined after it. While a write of a key
//! is open, from its announcement to its end, the tier holds nothing under it. Hits take no
//! lock of ours.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, UnitWeighter};

#[cfg(storehaus_broken)]
use crate::broken::{self, Bug};
use crate::codec::header::Token;
use crate::flight::{Follower, Leader, flight, lock};
use crate::life::Life;

const STRIPES: usize = 64;

/// Evicted keys that are remembered, per entry. With quick_cache's own half, hit rates were the same within a point on Zipf
/// loads, with scans and with shifts, and an entry took about 20 bytes more.
const GHOSTS: f64 = 0.25;

/// A table for up to so many entries is laid out with the first one, and does not grow under its lock.
const LAID_OUT: usize = 100_000;

/// What keeps entries: a bounded concurrent map with an eviction policy, and nothing more.
pub trait Engine<K, V>: Send + Sync + 'static {
    /// A clone of the entry.
    fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Stores an entry, evicting others for room.
    fn insert(&self, key: K, value: V);

    /// Removes an entry; whether there was one.
    fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Removes the entries whose key matches; how many.
    fn remove_matching(&self, matches: &dyn Fn(&K) -> bool) -> u64;

    /// How many entries were evicted for room.
    fn evictions(&self) -> u64;
}

/// An entry: the row, or the knowledge that there is none, and when it ends; `M` is what else a tier keeps with it.
#[derive(Debug)]
pub struct Entry<V, M = ()> {
    pub(crate) row: Option<Arc<V>>,
    pub(crate) life: Life,
    mark: M,
}

impl<V, M: Clone> Clone for Entry<V, M> {
    #[inline]
    fn clone(&self) -> Self {
        Self { row: self.row.clone(), life: self.life, mark: self.mark.clone() }
    }
}

/// [quick_cache](https://docs.rs/quick_cache): S3-FIFO-like eviction, the fastest hit of the engines measured.
#[derive(Debug)]
pub struct QuickEngine<K, V> {
    cache: Cache<K, V, UnitWeighter, DefaultHashBuilder, CountEvictions>,
    capacity: usize,
    laid_out: Once,
    evictions: Arc<AtomicU64>,
}

impl<K: Hash + Eq + Clone, V: Clone> QuickEngine<K, V> {
    /// Room for `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .ghost_allocation(GHOSTS)
            .build()
            .expect("all that is required is given");
        let lifecycle = CountEvictions(Arc::clone(&evictions));
        let cache = Cache::with_options(options, UnitWeighter, DefaultHashBuilder::default(), lifecycle);
        Self { cache, capacity, laid_out: Once::new(), evictions }
    }
}

impl<K, V> Engine<K, V> for QuickEngine<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.cache.get(key)
    }

    fn insert(&self, key: K, value: V) {
        if self.capacity <= LAID_OUT {
            self.laid_out.call_once(|| self.cache.reserve(self.capacity));
        }
        let mut inserting = Inserting(Some(key.clone()));
        self.cache.insert_with_lifecycle(key, value, &mut inserting);
    }

    fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.cache.remove(key).is_some()
    }

    fn remove_matching(&self, matches: &dyn Fn(&K) -> bool) -> u64 {
        let removed = AtomicU64::new(0);
        self.cache.retain(|key, _| {
            let remove = matches(key);
            removed.fetch_add(u64::from(remove), Ordering::Relaxed);
            !remove
        });
        removed.into_inner()
    }

    fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Debug)]
struct CountEvictions(Arc<AtomicU64>);

/// The key of the entry that evicts others: its own former value is replaced, not evicted.
struct Inserting<K>(Option<K>);

impl<K> Default for Inserting<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Eq, V> Lifecycle<K, V> for CountEvictions {
    type RequestState = Inserting<K>;

    fn on_evict(&self, inserting: &mut Inserting<K>, key: K, _value: V) {
        self.0.fetch_add(u64::from(inserting.0.as_ref() != Some(&key)), Ordering::Relaxed);
    }
}

/// The in-process tier of one store. `O` is what a load ends with, as everybody who joined it gets it.
#[derive(Debug)]
pub(crate) struct LocalTier<K, V, O, M = (), E = QuickEngine<K, Entry<V, M>>> {
    engine: E,
    stripes: Box<[Stripe<K, O>]>,
    hasher: RandomState,
    next_flight: AtomicU64,
    /// Open writes of keys that are not known here: while there are any, the tier holds nothing. Changed and read with
    /// the lock of a stripe held, or before all of them are taken.
    unknown_writes: AtomicUsize,
    rows: std::marker::PhantomData<fn() -> (V, M)>,
}

/// Orders inserts and removals of the keys that fall on it in the engine: both happen only while it is held.
type Stripe<K, O> = Mutex<Keys<K, O>>;

/// What is under way for the keys of a stripe.
#[derive(Debug)]
struct Keys<K, O> {
    flights: HashMap<K, Flight<O>>,
    /// How many writes of each key are open.
    writes: HashMap<K, usize>,
}

impl<K, O> Default for Keys<K, O> {
    fn default() -> Self {
        Self { flights: HashMap::new(), writes: HashMap::new() }
    }
}

#[derive(Debug)]
struct Flight<O> {
    id: u64,
    started: u64,
    follower: Follower<O>,
}

/// What a reader that found no entry does next.
pub(crate) enum Join<K, V, O, E: Engine<K, Entry<V>>>
where
    K: Hash + Eq + Clone,
{
    /// An entry landed in the meantime.
    Hit(Option<Arc<V>>),
    /// Wait for the load under way.
    Follow(Follower<O>),
    /// Load; nobody else does.
    Lead(Ticket<K, V, O, E>),
    /// A write of the key is open: ask the database, keep nothing.
    Write,
}

impl<K, V, O, M, E> LocalTier<K, V, O, M, E>
where
    K: Hash + Eq + Clone,
    O: Clone,
    M: Default,
    E: Engine<K, Entry<V, M>>,
{
    pub(crate) fn new(engine: E) -> Self {
        Self {
            engine,
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            next_flight: AtomicU64::new(0),
            unknown_writes: AtomicUsize::new(0),
            rows: std::marker::PhantomData,
        }
    }

    /// The live entry of `key`.
    pub(crate) fn get<Q>(&self, key: &Q, now: u64) -> Option<Option<Arc<V>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Some(self.entry(key, now)?.row)
    }

    /// As [`get`](Self::get), with what is known of the entry.
    pub(crate) fn entry<Q>(&self, key: &Q, now: u64) -> Option<Entry<V, M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.engine.get(key).filter(|entry| !entry.life.is_over(now))
    }

    /// How long the live entry of `key` has left.
    pub(crate) fn remaining(&self, key: &K, now: u64) -> Option<Duration> {
        self.entry(key, now).map(|entry| entry.life.remaining(now))
    }

    /// Whether somebody loads `key` whose row may land.
    pub(crate) fn is_loading(&self, key: &K) -> bool {
        lock(self.stripe(key)).flights.contains_key(key)
    }

    /// Removes the entry and takes the flight off, so that its result cannot land.
    pub(crate) fn invalidate(&self, key: &K) -> bool {
        let mut keys = lock(self.stripe(key));
        #[cfg(storehaus_broken)]
        if broken::is(Bug::FlightSurvives) {
            return self.engine.remove(key);
        }
        keys.flights.remove(key);
        self.engine.remove(key)
    }

    /// Opens a write: removes the entry, takes the flight off, and holds nothing under the key until every write of it
    /// has ended.
    pub(crate) fn begin(&self, key: &K) {
        let mut keys = lock(self.stripe(key));
        #[cfg(storehaus_broken)]
        if broken::is(Bug::FlightSurvives) {
            self.engine.remove(key);
            return;
        }
        *keys.writes.entry(key.clone()).or_default() += 1;
        keys.flights.remove(key);
        self.engine.remove(key);
    }

    /// Ends a write that [`begin`](Self::begin) opened.
    pub(crate) fn end(&self, key: &K) {
        let mut keys = lock(self.stripe(key));
        if let Some(open) = keys.writes.get_mut(key) {
            *open -= 1;
            if *open == 0 {
                keys.writes.remove(key);
            }
        }
    }

    /// Opens a write of a key that is not known here: the tier holds nothing until it has ended.
    pub(crate) fn begin_unknown(&self) {
        self.unknown_writes.fetch_add(1, Ordering::SeqCst);
        self.invalidate_matching(&|_| true);
    }

    /// Ends a write that [`begin_unknown`](Self::begin_unknown) opened.
    pub(crate) fn end_unknown(&self) {
        self.unknown_writes.fetch_sub(1, Ordering::SeqCst);
    }

    fn is_written(&self, keys: &Keys<K, O>, key: &K) -> bool {
        keys.writes.contains_key(key) || self.unknown_writes.load(Ordering::SeqCst) > 0
    }

    /// Removes the entries whose key matches, and takes every flight off; how many entries.
    pub(crate) fn invalidate_matching(&self, matches: &dyn Fn(&K) -> bool) -> u64 {
        for stripe in &self.stripes {
            lock(stripe).flights.clear();
        }
        self.engine.remove_matching(matches)
    }

    /// Stores a row that did not come from a load, unless a write of the key is open; whether it did. A load under way
    /// does not land after it.
    pub(crate) fn put(&self, key: K, row: Arc<V>, now: u64, expires: u64) -> bool {
        let mut keys = lock(self.stripe(&key));
        if self.is_written(&keys, &key) {
            return false;
        }
        keys.flights.remove(&key);
        self.engine.insert(key, Entry { row: Some(row), life: Life::new(now, expires), mark: M::default() });
        true
    }

    pub(crate) fn evictions(&self) -> u64 {
        self.engine.evictions()
    }
}

impl<K, V, O, E> LocalTier<K, V, O, (), E>
where
    K: Hash + Eq + Clone,
    O: Clone,
    E: Engine<K, Entry<V>>,
{
    /// Joins the flight of `key` when it began at most `max_age` nanoseconds ago, or starts one.
    pub(crate) fn join(self: &Arc<Self>, key: &K, now: u64, max_age: u64) -> Join<K, V, O, E> {
        let mut keys = lock(self.stripe(key));
        if self.is_written(&keys, key) {
            return Join::Write;
        }
        if let Some(row) = self.get(key, now) {
            return Join::Hit(row);
        }
        if let Some(flight) = keys.flights.get(key)
            && now.saturating_sub(flight.started) <= max_age
        {
            return Join::Follow(flight.follower.clone());
        }
        let id = self.next_flight.fetch_add(1, Ordering::Relaxed);
        let (leader, follower) = flight();
        keys.flights.insert(key.clone(), Flight { id, started: now, follower });
        Join::Lead(Ticket { tier: Arc::clone(self), key: key.clone(), id, started: now, leader })
    }
}

impl<K, V, O, E> LocalTier<K, V, O, Option<Token>, E>
where
    K: Hash + Eq + Clone,
    O: Clone,
    E: Engine<K, Entry<V, Option<Token>>>,
{
    /// The live entry of `key` and which value of the shared tier it is.
    pub(crate) fn get_as<Q>(&self, key: &Q, now: u64) -> Option<(Option<Arc<V>>, Token)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.entry(key, now)?;
        Some((entry.row, entry.mark?))
    }

    /// Stores a row that is served only after the shared tier was asked whether it still is this value.
    pub(crate) fn put_as(&self, key: K, row: Option<Arc<V>>, token: Token, now: u64, expires: u64) {
        self.engine.insert(key, Entry { row, life: Life::new(now, expires), mark: Some(token) });
    }
}

impl<K, V, O, M, E> LocalTier<K, V, O, M, E>
where
    K: Hash + Eq + Clone,
{
    fn stripe(&self, key: &K) -> &Stripe<K, O> {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }

    fn take_off(&self, key: &K, flight: u64) {
        let mut keys = lock(self.stripe(key));
        if keys.flights.get(key).is_some_and(|registered| registered.id == flight) {
            keys.flights.remove(key);
        }
    }
}

/// The right to land one load. Dropping it takes the flight off; who waits learns that there will be no outcome.
pub(crate) struct Ticket<K, V, O, E: Engine<K, Entry<V>> = QuickEngine<K, Entry<V>>>
where
    K: Hash + Eq + Clone,
{
    tier: Arc<LocalTier<K, V, O, (), E>>,
    key: K,
    id: u64,
    started: u64,
    leader: Leader<O>,
}

impl<K, V, O, E> Ticket<K, V, O, E>
where
    K: Hash + Eq + Clone,
    O: Clone,
    E: Engine<K, Entry<V>>,
{
    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    /// When the load began, on the monotonic clock.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// Stores the loaded row if this flight is still registered; whether it was.
    pub(crate) fn land(&self, row: Option<Arc<V>>, expires: u64) -> bool {
        let mut keys = lock(self.tier.stripe(&self.key));
        let registered = keys.flights.get(&self.key).is_some_and(|flight| flight.id == self.id);
        if registered {
            keys.flights.remove(&self.key);
            let life = Life::new(self.started, expires);
            self.tier.engine.insert(self.key.clone(), Entry { row, life, mark: () });
        }
        registered
    }

    /// Takes the flight off before the load begins: nobody who comes from now on may have what it loads.
    pub(crate) fn keep_to_itself(&self) {
        self.tier.take_off(&self.key, self.id);
    }

    /// Hands the outcome to everybody who joined, and ends the flight.
    pub(crate) fn publish(self, outcome: O) {
        self.leader.publish(outcome);
    }
}

impl<K, V, O, E> Drop for Ticket<K, V, O, E>
where
    K: Hash + Eq + Clone,
    E: Engine<K, Entry<V>>,
{
    fn drop(&mut self) {
        self.tier.take_off(&self.key, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = Option<Arc<String>>;
    type Tier = LocalTier<u64, String, Row>;

    /// An end that is a whole number of ticks.
    const LATER: u64 = 1_000 << 16;

    fn tier(capacity: usize) -> Arc<Tier> {
        Arc::new(LocalTier::new(QuickEngine::new(capacity)))
    }

    fn lead(tier: &Arc<Tier>, key: u64, now: u64) -> Ticket<u64, String, Row> {
        match tier.join(&key, now, u64::MAX) {
            Join::Lead(ticket) => ticket,
            _ => panic!("not the leader"),
        }
    }

    #[test]
    fn an_entry_is_served_until_it_expires() {
        let tier = tier(8);
        assert!(lead(&tier, 1, 0).land(Some(Arc::new("one".into())), LATER));
        assert_eq!(tier.get(&1, LATER - 1), Some(Some(Arc::new("one".into()))));
        assert_eq!(tier.remaining(&1, LATER - 60), Some(Duration::from_nanos(60)));
        assert_eq!(tier.get(&1, LATER), None);
    }

    #[test]
    fn a_table_that_fills_does_not_grow() {
        let engine = QuickEngine::new(1_000);
        assert_eq!(engine.cache.memory_used().total(), 0, "nothing before the first entry");
        engine.insert(0, 0);
        let laid_out = engine.cache.memory_used().map;
        (1..5_000u64).for_each(|key| engine.insert(key, key));
        assert_eq!(engine.evictions(), 5_000 - engine.cache.len() as u64);
        assert_eq!(engine.cache.memory_used().map, laid_out);
        // Who names a capacity that is never reached pays for what is there.
        let engine = QuickEngine::new(usize::MAX);
        engine.insert(0, 0);
        assert!(engine.cache.memory_used().map < 1_000);
    }

    #[test]
    fn a_load_that_began_before_an_invalidation_neither_lands_nor_is_joined() {
        let tier = tier(8);
        let old = lead(&tier, 1, 0);
        tier.invalidate(&1);
        let new = lead(&tier, 1, 1);
        assert!(!old.land(Some(Arc::new("old".into())), LATER));
        assert_eq!(tier.get(&1, 2), None);
        drop(old);
        assert!(matches!(tier.join(&1, 2, u64::MAX), Join::Follow(_)), "the new flight stays joinable");
        assert!(new.land(Some(Arc::new("new".into())), LATER));
        assert_eq!(tier.get(&1, 2), Some(Some(Arc::new("new".into()))));
    }

    #[test]
    fn invalidating_one_key_leaves_the_flight_of_another() {
        let tier = tier(1_000);
        let tickets: Vec<_> = (0..200).map(|key| lead(&tier, key, 0)).collect();
        tier.invalidate(&7);
        for ticket in tickets {
            assert_eq!(ticket.land(Some(Arc::new("row".into())), LATER), *ticket.key() != 7);
        }
    }

    #[test]
    fn a_flight_older_than_the_bound_is_not_joined() {
        let tier = tier(8);
        let _old = lead(&tier, 1, 0);
        assert!(matches!(tier.join(&1, 10, 10), Join::Follow(_)));
        assert!(matches!(tier.join(&1, 11, 10), Join::Lead(_)));
    }

    #[tokio::test]
    async fn a_dropped_leader_strands_nobody() {
        let tier = tier(8);
        let leader = lead(&tier, 1, 0);
        let Join::Follow(follower) = tier.join(&1, 0, u64::MAX) else { panic!("not joined") };
        drop(leader);
        assert_eq!(follower.outcome().await, None);
        drop(lead(&tier, 1, 0));
    }

    #[test]
    fn a_manual_put_stops_a_load_under_way_from_landing() {
        let tier = tier(8);
        let load = lead(&tier, 1, 0);
        tier.put(1, Arc::new("put".into()), 0, LATER);
        assert!(!load.land(Some(Arc::new("loaded".into())), LATER));
        assert_eq!(tier.get(&1, 0), Some(Some(Arc::new("put".into()))));
    }

    #[test]
    fn while_a_write_is_open_nothing_is_held() {
        let tier = tier(8);
        assert!(lead(&tier, 1, 0).land(None, LATER));
        let load = lead(&tier, 2, 0);
        for (begin, end) in [
            (LocalTier::begin as fn(&Tier, &u64), LocalTier::end as fn(&Tier, &u64)),
            (|tier, _| tier.begin_unknown(), |tier, _| tier.end_unknown()),
        ] {
            [1, 1, 2].iter().for_each(|key| begin(&tier, key));
            assert_eq!(tier.get(&1, 0), None);
            assert!(!load.land(None, LATER));
            end(&tier, &1);
            assert!(matches!(tier.join(&1, 0, u64::MAX), Join::Write), "one of two ended");
            assert!(!tier.put(1, Arc::new("put".into()), 0, LATER));
            end(&tier, &1);
            end(&tier, &2);
            assert!(lead(&tier, 1, 0).land(None, LATER));
        }
        assert!(tier.stripes.iter().all(|stripe| lock(stripe).writes.is_empty()));
    }

    #[test]
    fn a_flight_kept_to_itself_is_not_joined_and_does_not_land() {
        let tier = tier(8);
        let first = lead(&tier, 1, 0);
        first.keep_to_itself();
        let second = lead(&tier, 1, 0);
        assert!(!first.land(None, LATER));
        drop(first);
        assert!(second.land(None, LATER));
    }

    #[test]
    fn an_entry_replaced_by_a_newer_one_is_no_eviction() {
        let tier = tier(100);
        for now in 0..10 {
            lead(&tier, 1, now).land(None, now + 1);
        }
        tier.put(1, Arc::new("put".into()), 10, LATER);
        assert_eq!(tier.evictions(), 0);
    }

    #[test]
    fn the_smallest_capacity_keeps_an_entry() {
        for capacity in 1..5 {
            let tier = tier(capacity);
            lead(&tier, 1, 0).land(None, LATER);
            assert_eq!(tier.get(&1, 0), Some(None), "capacity {capacity}");
        }
    }

    #[test]
    fn capacity_bounds_the_entries_and_evictions_are_counted() {
        let tier = tier(100);
        for key in 0..1_000 {
            lead(&tier, key, 0).land(None, LATER);
        }
        assert!(tier.engine.cache.len() <= 100, "{} entries", tier.engine.cache.len());
        assert_eq!(tier.evictions(), 1_000 - tier.engine.cache.len() as u64);
        assert_eq!(
            tier.invalidate_matching(&|_| true) as usize + tier.engine.cache.len(),
            tier.engine.cache.len() + 1_000 - tier.evictions() as usize
        );
    }
}
