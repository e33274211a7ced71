//! Serves reads and updates of cities from several tasks, and checks what the reads return.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use storehaus::model::Persist;
use storehaus::schema::Inspect;
use storehaus::{GenericStore, Result, StorehausError};
use tokio::task::JoinSet;

use crate::model::City;
use crate::numbers::{Histogram, Random, Zipf};
use crate::thousands;

/// The exponent of Zipf's law.
const SKEW: f64 = 0.99;

/// The share of operations that are updates.
const UPDATES: f64 = 0.05;

/// What the tasks share.
struct Load<DB: Inspect>
where
    City: Persist<DB>,
{
    store: GenericStore<City, DB>,
    zipf: Zipf,
    /// The cities, the one read most often first.
    ids: Vec<i64>,
    /// The revision of each that its last acknowledged update wrote. Written by the one task that updates the city.
    acknowledged: Vec<AtomicI64>,
    tasks: usize,
    end: Instant,
}

/// What one task did, or all together.
struct Done {
    reads: Histogram,
    updates: Histogram,
    /// Reads that returned a revision older than one acknowledged before they began.
    stale: u64,
    errors: u64,
    first_error: Option<StorehausError>,
}

impl Done {
    fn new() -> Self {
        Self { reads: Histogram::new(), updates: Histogram::new(), stale: 0, errors: 0, first_error: None }
    }

    fn add(&mut self, other: Self) {
        self.reads.add(&other.reads);
        self.updates.add(&other.updates);
        self.stale += other.stale;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    fn failed(&mut self, error: StorehausError) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }
}

/// Serves for a while and prints what happened; whether there was no error and no stale read.
pub(crate) async fn serve<DB>(
    cities: &[City],
    store: &GenericStore<City, DB>,
    tasks: usize,
    seconds: Duration,
) -> Result<bool>
where
    DB: Inspect,
    City: Persist<DB>,
{
    let mut ids: Vec<_> = cities.iter().map(|city| city.id).collect();
    Random::new(0).shuffle(&mut ids);
    let tasks = tasks.min(ids.len());
    let start = Instant::now();
    let load = Arc::new(Load {
        store: store.clone(),
        zipf: Zipf::new(ids.len(), SKEW),
        acknowledged: ids.iter().map(|_| AtomicI64::new(0)).collect(),
        ids,
        tasks,
        end: start + seconds,
    });

    let before = store.cache_manager()?.get_stats().await?;
    let start = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        running.spawn(Arc::clone(&load).run(task));
    }
    let mut done = Done::new();
    for one in running.join_all().await {
        done.add(one);
    }
    let took = start.elapsed().as_secs_f64();
    store.cache_manager()?.settle().await;
    let after = store.cache_manager()?.get_stats().await?;

    let reads = done.reads.count();
    let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
    let selects = after.total.loads - before.total.loads;
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 };
    println!(
        "serve: {} tasks, {took:.1} s, {} reads and {} updates by Zipf({SKEW})",
        tasks,
        thousands(reads),
        thousands(done.updates.count())
    );
    println!("  reads/s        {}", thousands((reads as f64 / took) as u64));
    println!("  hit rate       {:.2} %", share(hits, hits + misses));
    println!(
        "  SELECTs        {}; saved {} ({:.2} %)",
        thousands(selects),
        thousands(reads.saturating_sub(selects)),
        share(reads.saturating_sub(selects), reads)
    );
    for (what, histogram) in [("read", &done.reads), ("update", &done.updates)] {
        let (p50, p99) = (histogram.quantile(0.5), histogram.quantile(0.99));
        println!("  {what:<6} latency p50 {p50:.1} µs, p99 {p99:.1} µs");
    }
    println!("  stale reads    {}", thousands(done.stale));
    println!("  errors         {}", thousands(done.errors));
    if let Some(error) = &done.first_error {
        println!("  first error    {error}");
    }
    Ok(done.stale == 0 && done.errors == 0)
}

impl<DB: Inspect> Load<DB>
where
    City: Persist<DB>,
{
    async fn run(self: Arc<Self>, task: usize) -> Done {
        let mut done = Done::new();
        let mut random = Random::new(task as u64 + 1);
        while Instant::now() < self.end {
            let at = self.zipf.rank(&mut random);
            let outcome = if random.share() < UPDATES {
                self.update(self.own(at, task), &mut done).await
            } else {
                self.read(at, &mut done).await.map(drop)
            };
            if let Err(error) = outcome {
                done.failed(error);
            }
        }
        done
    }

    /// A city near this one that no other task updates, so that no update overwrites another.
    fn own(&self, at: usize, task: usize) -> usize {
        let own = at - at % self.tasks + task;
        if own < self.ids.len() { own } else { own - self.tasks }
    }

    async fn read(&self, at: usize, done: &mut Done) -> Result<City> {
        let acknowledged = self.acknowledged[at].load(Ordering::SeqCst);
        let start = Instant::now();
        let city = self.store.require(&self.ids[at]).await?;
        done.reads.record(start.elapsed());
        done.stale += u64::from(city.revision < acknowledged);
        Ok(city)
    }

    async fn update(&self, at: usize, done: &mut Done) -> Result<()> {
        let city = self.read(at, done).await?;
        let start = Instant::now();
        let city = self.store.update(&self.ids[at], City { revision: city.revision + 1, ..city }).await?;
        done.updates.record(start.elapsed());
        self.acknowledged[at].store(city.revision, Ordering::SeqCst);
        Ok(())
    }
}
