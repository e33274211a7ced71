//! The stale-read race: many readers, few writers, few keys, and a database whose replies have a slow tail.
//!
//! Each key has one writer, who writes versions 1, 2, 3, … A reader notes the last version acknowledged for a key,
//! then reads the key through the cache of either of two instances. Reading less is a stale read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use storehaus::prelude::*;
use storehaus::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use storehaus_cache::redis::{RedisSettings, RedisTier};

use crate::account::Account;
use crate::options::Options;
use crate::proxy::{Delay, Proxy};
use crate::report::Report;
use crate::rng::Rng;
use crate::subject::{Subject, Unfenced};

const KEYS: i64 = 32;
const READERS: u64 = 64;
const WRITERS: u64 = 4;
const INSTANCES: usize = 2;

type Failure = Box<dyn std::error::Error>;

/// Runs the race against the store on Redis, against the store in process, and against the same cache without its fence,
/// which must be caught.
///
/// # Errors
/// When the servers cannot be reached.
pub async fn run(options: Options) -> Result<Report, Failure> {
    let (database, redis) = (std::env::var("DATABASE_URL")?, std::env::var("REDIS_URL")?);
    let direct: PgConnectOptions = database.parse()?;
    let proxy = Proxy::start(format!("{}:{}", direct.get_host(), direct.get_port()).parse()?).await?;
    let slow = direct.clone().host("127.0.0.1").port(proxy.addr().port());
    let prefix = format!("race-{}-{}", std::process::id(), options.seed);
    let config = |name: &str| CacheConfig::new(&redis, 600u64, format!("{prefix}-{name}"));
    let pool = || PgPoolOptions::new().max_connections(16).connect_with(slow.clone());

    let haus =
        StoreHaus::<Postgres>::builder().database(PgPoolOptions::new().connect_with(direct).await?).build().await?;
    haus.create_missing_tables::<(Account,)>().await?;
    let table = haus.store::<Account>();
    let mut report = Report::new("race");
    let run_for = options.lasts();
    let short = (run_for / 4).max(Duration::from_secs(5)).min(run_for);

    let mut fenced = Vec::new();
    for _ in 0..INSTANCES {
        let haus = StoreHaus::<Postgres>::builder().database(pool().await?).cache(config("fenced")).build().await?;
        fenced.push(haus.store::<Account>());
    }
    tail(&proxy, options.seed);
    let outcome = race(&table, fenced, run_for, options.seed).await?;
    judge(&mut report, "store on redis, two instances", &outcome, false);

    let local = CacheConfig::in_process(600u64, format!("{prefix}-local"));
    let haus = StoreHaus::<Postgres>::builder().database(pool().await?).cache(local).build().await?;
    let outcome = race(&table, vec![haus.store::<Account>()], short, options.seed).await?;
    judge(&mut report, "store in process, one instance", &outcome, false);

    let client = redis::Client::open(redis.as_str())?;
    let mut unfenced = Vec::new();
    for _ in 0..INSTANCES {
        let tier = RedisTier::new(RedisSettings::new(redis.as_str()))?;
        let haus = StoreHaus::<Postgres>::builder().database(pool().await?).build().await?;
        unfenced.push(Unfenced::new(haus.store::<Account>(), config("unfenced"), tier, &client).await?);
    }
    let outcome = race(&table, unfenced, short, options.seed).await?;
    judge(&mut report, "the same without its fence", &outcome, true);
    Ok(report)
}

/// One reply in twenty is 2 to 30 ms late.
fn tail(proxy: &Proxy, seed: u64) {
    proxy.delay_replies(Some(Delay { probability: 0.05, millis: 2..=30, seed }));
}

struct Outcome {
    reads: u64,
    writes: u64,
    stale: u64,
    failed: u64,
    hit_rate: f64,
    lasted: Duration,
}

async fn race<S: Subject>(
    table: &GenericStore<Account>,
    instances: Vec<S>,
    run_for: Duration,
    seed: u64,
) -> Result<Outcome, Failure> {
    table.upsert_many((1..=KEYS).map(|id| Account::new(id, 0)).collect()).await?;
    let course = Arc::new(Course {
        instances,
        acknowledged: (0..KEYS).map(|_| AtomicI64::new(0)).collect(),
        over: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        writes: AtomicU64::new(0),
        stale: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let start = Instant::now();
    let mut tasks = Vec::new();
    for reader in 0..READERS {
        tasks.push(tokio::spawn(Arc::clone(&course).read(Rng::new(seed, reader), reader)));
    }
    for writer in 0..WRITERS {
        tasks.push(tokio::spawn(Arc::clone(&course).write(Rng::new(seed, READERS + writer), writer)));
    }
    tokio::time::sleep(run_for).await;
    course.over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await?;
    }
    let (mut hits, mut misses) = (0, 0);
    for instance in &course.instances {
        let stats = instance.stats().await;
        (hits, misses) = (hits + stats.hits, misses + stats.misses);
    }
    Ok(Outcome {
        reads: course.reads.load(Ordering::Relaxed),
        writes: course.writes.load(Ordering::Relaxed),
        stale: course.stale.load(Ordering::Relaxed),
        failed: course.failed.load(Ordering::Relaxed),
        hit_rate: hits as f64 / (hits + misses).max(1) as f64,
        lasted: start.elapsed(),
    })
}

struct Course<S> {
    instances: Vec<S>,
    /// The last version acknowledged, by key.
    acknowledged: Vec<AtomicI64>,
    over: AtomicBool,
    reads: AtomicU64,
    writes: AtomicU64,
    stale: AtomicU64,
    failed: AtomicU64,
}

impl<S: Subject> Course<S> {
    async fn read(self: Arc<Self>, mut rng: Rng, reader: u64) {
        let instance = &self.instances[reader as usize % self.instances.len()];
        while !self.over.load(Ordering::Relaxed) {
            let id = rng.below(KEYS as u64) as i64;
            let least = self.acknowledged[id as usize].load(Ordering::SeqCst);
            let read = instance.read(id + 1).await;
            self.reads.fetch_add(1, Ordering::Relaxed);
            match read {
                Ok(Some(row)) if row.version >= least && row.id == id + 1 => {}
                Ok(_) => {
                    self.stale.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            // A hit in process never waits; without this the readers would leave the writers no turn.
            tokio::task::yield_now().await;
        }
    }

    async fn write(self: Arc<Self>, mut rng: Rng, writer: u64) {
        let mut versions = vec![0; (KEYS as u64 / WRITERS) as usize];
        while !self.over.load(Ordering::Relaxed) {
            let mine = rng.below(versions.len() as u64);
            let id = (mine * WRITERS + writer) as i64;
            let version = versions[mine as usize] + 1;
            let instance = &self.instances[rng.below(self.instances.len() as u64) as usize];
            match instance.write(Account::new(id + 1, version)).await {
                Ok(()) => {
                    versions[mine as usize] = version;
                    self.acknowledged[id as usize].store(version, Ordering::SeqCst);
                    self.writes.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(rng.below(4))).await;
        }
    }
}

fn judge(report: &mut Report, who: &str, outcome: &Outcome, must_be_caught: bool) {
    let Outcome { reads, writes, stale, failed, hit_rate, lasted } = outcome;
    let per_second = *reads as f64 / lasted.as_secs_f64();
    report.row(
        format_args!("{who}: load"),
        format_args!("{reads} reads ({per_second:.0}/s), {writes} writes, hit rate {:.1} %", hit_rate * 100.0),
        "some of each",
        *reads > 0 && *writes > 0 && *hit_rate > 0.0,
    );
    report.row(format_args!("{who}: failed"), failed, "0", *failed == 0);
    let (target, ok) = if must_be_caught { ("more than 0", *stale > 0) } else { ("0", *stale == 0) };
    report.row(format_args!("{who}: stale reads"), stale, target, ok);
}
