//! Workers that read and write through instances of an application and judge every answer, beside readers that ask the
//! database alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use storehaus::prelude::*;
use tokio::task::JoinHandle;

use super::Failure;
use super::board::Board;
use super::item::Item;
use super::latency::{Counted, Latencies};
use super::phase::{Op, Phase, kind};
use crate::rng::Rng;

/// How much work there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Keys 1 to this; few of them get most of the work (Zipf, exponent 0.99).
    pub(super) keys: i64,
    /// How many workers; each sticks to one instance.
    pub(super) workers: u64,
    /// How many calls in a hundred are writes.
    pub(super) writes: u64,
    /// The longest pause of a worker between two calls, in milliseconds; half of it on average.
    pub(super) pause: u64,
    /// How many readers ask the database alone, to tell how slow it is at the same time.
    pub(super) alone: u64,
    /// Whether every instance writes, or the first alone.
    pub(super) all_write: bool,
}

impl Shape {
    /// Leaves the machine room, so that latencies say something.
    pub(super) const PACED: Self = Self { keys: 1024, workers: 64, writes: 10, pause: 80, alone: 32, all_write: true };
    /// As much as goes on few keys, so that races happen.
    pub(super) const HOT: Self = Self { keys: 64, workers: 64, writes: 10, pause: 20, alone: 0, all_write: true };
}

/// A load under way. Ends when [`end`](Self::end) is called.
pub(super) struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    shape: Shape,
    instances: Vec<GenericStore<Item>>,
    tallies: Vec<Tally>,
    alone: GenericStore<Item>,
    alone_took: Latencies,
    /// How late timers of a millisecond are.
    lateness: Latencies,
    board: Board,
    /// The share of the work that keys 1 to n get, of 2^53.
    ranks: Vec<u64>,
    seed: u64,
    over: AtomicBool,
    /// Whether no writes are made for now.
    reads_only: AtomicBool,
}

/// What the workers of one instance saw since it was last taken.
#[derive(Default)]
struct Tally {
    reads: AtomicU64,
    writes: AtomicU64,
    stale: AtomicU64,
    stale_own: AtomicU64,
    latest: AtomicU64,
    foreign: AtomicU64,
    failed: Mutex<BTreeMap<(Op, &'static str), u64>>,
    reading: Latencies,
}

impl Load {
    /// Starts the workers on these instances. The rows must be at version 0, and `alone` have no cache.
    pub(super) fn start(
        shape: Shape,
        instances: &[&StoreHaus<Postgres>],
        alone: &StoreHaus<Postgres>,
        seed: u64,
    ) -> Self {
        let shared = Arc::new(Shared {
            shape,
            instances: instances.iter().map(|haus| haus.store()).collect(),
            tallies: instances.iter().map(|_| Tally::default()).collect(),
            alone: alone.store(),
            alone_took: Latencies::default(),
            lateness: Latencies::default(),
            board: Board::new(shape.keys, instances.len()),
            ranks: ranks(shape.keys),
            seed,
            over: AtomicBool::new(false),
            reads_only: AtomicBool::new(false),
        });
        let workers = (0..shape.workers).map(|worker| tokio::spawn(Arc::clone(&shared).work(worker)));
        let readers = (0..shape.alone).map(|reader| tokio::spawn(Arc::clone(&shared).read_alone(reader)));
        let timer = tokio::spawn(Arc::clone(&shared).time());
        let tasks = workers.chain(readers).chain([timer]).collect();
        Self { shared, tasks }
    }

    /// As [`start`](Self::start), where some writes were made before: keys with their versions.
    pub(super) fn start_after(
        shape: Shape,
        instances: &[&StoreHaus<Postgres>],
        alone: &StoreHaus<Postgres>,
        seed: u64,
        written: &[(i64, i64)],
    ) -> Self {
        let load = Self::start(shape, instances, alone, seed);
        written.iter().for_each(|&(id, version)| load.shared.board.acknowledge(id, version, 0));
        load
    }

    /// The cache of an instance.
    ///
    /// # Panics
    /// When the instance has none.
    pub(super) fn manager(&self, instance: usize) -> &CacheManager {
        self.shared.instances[instance].cache_manager().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether an instance reads past Redis now: its hits stand still while it reads.
    pub(super) async fn is_bypassed(&self, instance: usize) -> bool {
        let count = async || {
            let stats = self.manager(instance).get_stats().await.unwrap_or_default();
            (stats.total.bypassed, stats.hits + stats.total.misses)
        };
        let before = count().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = count().await;
        after.0 > before.0 && after.1 == before.1
    }

    /// What all workers saw since the last look.
    pub(super) fn take(&self) -> Phase {
        self.shared.take(&self.shared.tallies)
    }

    /// Lets the load run for a while and takes what was seen in that time alone.
    pub(super) async fn watch(&self, lasts: Duration) -> Phase {
        drop(self.take());
        tokio::time::sleep(lasts).await;
        self.take()
    }

    /// Stops writing, or goes on. Writes under way end by themselves.
    pub(super) fn only_read(&self, only: bool) {
        self.shared.reads_only.store(only, Ordering::SeqCst);
    }

    /// Waits until an instance is served from Redis again; how long that took.
    pub(super) async fn first_hit(&self, limit: Duration) -> Option<Duration> {
        let started = Instant::now();
        let before = self.hits().await;
        while started.elapsed() < limit {
            if self.hits().await > before {
                return Some(started.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        None
    }

    /// Reads served from Redis so far.
    pub(super) async fn hits(&self) -> u64 {
        self.stats().await.iter().map(|stats| stats.total.l2_hits).sum()
    }

    /// What the caches of the instances did so far.
    pub(super) async fn stats(&self) -> Vec<CacheStats> {
        let mut all = Vec::new();
        for store in &self.shared.instances {
            if let Ok(manager) = store.cache_manager() {
                all.push(manager.get_stats().await.unwrap_or_default());
            }
        }
        all
    }

    /// Ends the load.
    ///
    /// # Errors
    /// When a worker panicked.
    pub(super) async fn end(self) -> Result<(), Failure> {
        self.shared.over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await?;
        }
        Ok(())
    }

    /// Ends the load, then compares every row as each instance has it with the database; how many differ.
    ///
    /// # Errors
    /// When a worker panicked or a read failed.
    pub(super) async fn end_and_compare(self) -> Result<u64, Failure> {
        let shared = Arc::clone(&self.shared);
        self.end().await?;
        let mut differ = 0;
        for store in &shared.instances {
            // What is owed is removed first.
            let owes = async || match store.cache_manager() {
                Ok(manager) => manager.get_stats().await.is_ok_and(|stats| stats.pending_invalidations > 0),
                Err(_) => false,
            };
            super::until(Duration::from_secs(20), async || !owes().await).await;
        }
        for id in 1..=shared.shape.keys {
            let row = shared.alone.get_by_id(&id).await?;
            for store in &shared.instances {
                differ += u64::from(store.get_by_id(&id).await? != row);
            }
        }
        Ok(differ)
    }
}

impl Shared {
    async fn work(self: Arc<Self>, worker: u64) {
        let mut rng = Rng::new(self.seed, worker);
        let at = worker as usize % self.instances.len();
        while !self.over.load(Ordering::SeqCst) {
            let id = self.pick(&mut rng);
            let may_write = at == 0 || self.shape.all_write;
            if rng.below(100) < self.shape.writes && may_write && !self.reads_only.load(Ordering::SeqCst) {
                self.write(at, id).await;
            } else {
                self.read(at, id).await;
            }
            pause(rng.below(self.shape.pause + 1)).await;
        }
    }

    async fn read(&self, at: usize, id: i64) {
        let (store, tally) = (&self.instances[at], &self.tallies[at]);
        let (least, least_own, started) = (self.board.least(id), self.board.least_own(id, at), Instant::now());
        let read = store.get_by_id(&id).await;
        tally.reading.add(started.elapsed());
        tally.reads.fetch_add(1, Ordering::SeqCst);
        match read {
            Ok(Some(row)) if !row.is_of(id) => {
                tally.foreign.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Some(row)) if row.version >= least => {}
            Ok(row) => {
                let version = row.map_or(-1, |row| row.version);
                let late = self.board.lateness(id, version, started);
                tally.stale.fetch_add(1, Ordering::SeqCst);
                tally.stale_own.fetch_add(u64::from(version < least_own), Ordering::SeqCst);
                tally.latest.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
            }
            Err(error) => tally.fail(Op::Read, &error),
        }
    }

    async fn write(&self, at: usize, id: i64) {
        let (store, tally) = (&self.instances[at], &self.tallies[at]);
        let written = store.update(&id, Item::new(id)).await;
        tally.writes.fetch_add(1, Ordering::SeqCst);
        match written {
            Ok(row) => self.board.acknowledge(id, row.version, at),
            Err(error) => tally.fail(Op::Write, &error),
        }
    }

    async fn read_alone(self: Arc<Self>, reader: u64) {
        let mut rng = Rng::new(self.seed, 1_000 + reader);
        while !self.over.load(Ordering::SeqCst) {
            let id = self.pick(&mut rng);
            let started = Instant::now();
            // An error of the database shows in the workers too.
            if self.alone.get_by_id(&id).await.is_ok() {
                self.alone_took.add(started.elapsed());
            }
            pause(rng.below(self.shape.pause + 1)).await;
        }
    }

    async fn time(self: Arc<Self>) {
        let wait = Duration::from_millis(1);
        while !self.over.load(Ordering::SeqCst) {
            let started = Instant::now();
            tokio::time::sleep(wait).await;
            self.lateness.add(started.elapsed().saturating_sub(wait));
        }
    }

    fn pick(&self, rng: &mut Rng) -> i64 {
        let dice = rng.below(1 << 53);
        self.ranks.partition_point(|&end| end <= dice) as i64 + 1
    }

    fn take(&self, tallies: &[Tally]) -> Phase {
        let sum = |count: fn(&Tally) -> &AtomicU64| {
            tallies.iter().map(|tally| count(tally).swap(0, Ordering::SeqCst)).sum::<u64>()
        };
        let latest = tallies.iter().map(|tally| tally.latest.swap(0, Ordering::SeqCst)).max().unwrap_or(0);
        let mut failed = BTreeMap::new();
        for tally in tallies {
            for (kind, count) in std::mem::take(&mut *tally.failed.lock().unwrap_or_else(PoisonError::into_inner)) {
                *failed.entry(kind).or_insert(0) += count;
            }
        }
        Phase {
            reads: sum(|tally| &tally.reads),
            writes: sum(|tally| &tally.writes),
            failed,
            stale: sum(|tally| &tally.stale),
            stale_own: sum(|tally| &tally.stale_own),
            latest: Duration::from_micros(latest),
            foreign: sum(|tally| &tally.foreign),
            reading: Counted::sum(tallies.iter().map(|tally| tally.reading.take())),
            alone: self.alone_took.take(),
            lateness: self.lateness.take(),
        }
    }
}

impl Tally {
    fn fail(&self, op: Op, error: &StorehausError) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner).entry((op, kind(error))).or_insert(0) += 1;
    }
}

async fn pause(millis: u64) {
    match millis {
        0 => tokio::task::yield_now().await,
        millis => tokio::time::sleep(Duration::from_millis(millis)).await,
    }
}

/// Where the share of each key ends, of 2^53.
fn ranks(keys: i64) -> Vec<u64> {
    let weight = |rank: i64| (rank as f64).powf(-0.99);
    let total: f64 = (1..=keys).map(weight).sum();
    let mut sum = 0.0;
    let share = |rank| {
        sum += weight(rank);
        (sum / total * (1u64 << 53) as f64) as u64
    };
    let mut ranks: Vec<u64> = (1..=keys).map(share).collect();
    // Whatever rounding left over.
    ranks.last_mut().into_iter().for_each(|last| *last = 1 << 53);
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_gets_most_and_the_last_some() {
        let ranks = ranks(100);
        let mut counts = [0; 100];
        let mut rng = Rng::new(1, 1);
        for _ in 0..100_000 {
            let dice = rng.below(1 << 53);
            counts[ranks.partition_point(|&end| end <= dice)] += 1;
        }
        assert!((17_000..22_000).contains(&counts[0]), "{}", counts[0]);
        assert!(counts[99] > 100 && counts[0] > counts[1] && counts[1] > counts[10]);
    }
}
