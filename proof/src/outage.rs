//! Redis is killed, stopped and locked while readers and writers work.
//!
//! Beside the readers of the cached store, others read the same table without a cache: the slowest of those says how
//! slow the database itself was during the fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use storehaus::prelude::*;
use storehaus::sqlx::postgres::PgPoolOptions;

use crate::account::Account;
use crate::options::Options;
use crate::report::Report;
use crate::rng::Rng;
use crate::server::Server;

const KEYS: i64 = 256;
const READERS: u64 = 16;
const WRITERS: u64 = 2;
const PASSWORD: &str = "not the one the store knows";

/// A read may take this much longer than the slowest read of the database itself.
const MAY_ADD: Duration = Duration::from_millis(50);
/// The first hit must come this soon after the fault is over.
const MUST_HIT_WITHIN: Duration = Duration::from_secs(1);

type Failure = Box<dyn std::error::Error>;

/// Runs the load through each fault.
///
/// # Errors
/// When the servers cannot be started or reached.
pub async fn run(options: Options) -> Result<Report, Failure> {
    let database = std::env::var("DATABASE_URL")?;
    let mut redis = Server::start().await?;
    let pool = || PgPoolOptions::new().max_connections(16).connect(&database);
    let haus = StoreHaus::<Postgres>::builder()
        .database(pool().await?)
        .cache(CacheConfig::new(redis.url(), 600u64, "outage"))
        .build()
        .await?;
    let direct = StoreHaus::<Postgres>::builder().database(pool().await?).build().await?;
    direct.create_missing_tables::<(Account,)>().await?;
    direct.store::<Account>().upsert_many((1..=KEYS).map(|id| Account::new(id, 0)).collect()).await?;

    let load = Load::start(haus.store::<Account>(), direct.store::<Account>(), options.seed);
    let phase = (options.lasts() / 7).max(Duration::from_secs(2));
    let mut report = Report::new("outage");

    tokio::time::sleep(phase).await;
    load.judge(&mut report, "redis up", None);

    redis.kill()?;
    tokio::time::sleep(phase).await;
    load.judge(&mut report, "redis killed", None);
    redis.restart().await?;
    load.returns(&mut report, "redis started again", phase).await;

    redis.freeze()?;
    tokio::time::sleep(phase).await;
    load.judge(&mut report, "redis stopped (SIGSTOP)", None);
    redis.thaw()?;
    load.returns(&mut report, "redis goes on (SIGCONT)", phase).await;

    let mut admin = redis.connect().await?;
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(PASSWORD).exec_async(&mut admin).await?;
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes").exec_async(&mut admin).await?;
    tokio::time::sleep(phase).await;
    load.judge(&mut report, "wrong password", None);
    redis::cmd("AUTH").arg(PASSWORD).exec_async(&mut admin).await?;
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("").exec_async(&mut admin).await?;
    load.returns(&mut report, "password accepted again", phase).await;

    load.end().await?;
    Ok(report)
}

struct Load {
    shared: Arc<Shared>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

struct Shared {
    store: GenericStore<Account>,
    direct: GenericStore<Account>,
    /// The last version acknowledged, by key.
    acknowledged: Vec<AtomicI64>,
    over: AtomicBool,
    tally: Tally,
}

/// What happened since it was last taken.
#[derive(Default)]
struct Tally {
    reads: AtomicU64,
    writes: AtomicU64,
    failed_reads: AtomicU64,
    failed_writes: AtomicU64,
    stale: AtomicU64,
    slowest_read: AtomicU64,
    slowest_direct: AtomicU64,
    slowest_write: AtomicU64,
}

impl Load {
    fn start(store: GenericStore<Account>, direct: GenericStore<Account>, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            store,
            direct,
            acknowledged: (0..KEYS).map(|_| AtomicI64::new(0)).collect(),
            over: AtomicBool::new(false),
            tally: Tally::default(),
        });
        let mut tasks = Vec::new();
        for reader in 0..READERS {
            tasks.push(tokio::spawn(Arc::clone(&shared).read(Rng::new(seed, reader))));
            tasks.push(tokio::spawn(Arc::clone(&shared).read_direct(Rng::new(seed, 100 + reader))));
        }
        for writer in 0..WRITERS {
            tasks.push(tokio::spawn(Arc::clone(&shared).write(Rng::new(seed, 200 + writer), writer)));
        }
        Self { shared, tasks }
    }

    /// Reports the time since the last report.
    fn judge(&self, report: &mut Report, phase: &str, first_hit: Option<Option<Duration>>) {
        let tally = &self.shared.tally;
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::SeqCst);
        let (reads, writes) = (take(&tally.reads), take(&tally.writes));
        let failed = (take(&tally.failed_reads), take(&tally.failed_writes));
        let stale = take(&tally.stale);
        let micros = |counter: &AtomicU64| Duration::from_micros(take(counter));
        let (read, direct) = (micros(&tally.slowest_read), micros(&tally.slowest_direct));
        let write = micros(&tally.slowest_write);
        let failed_ok = failed == (0, 0) && reads > 0 && writes > 0;
        report.row(
            format_args!("{phase}: failed"),
            format_args!("{} of {reads} reads, {} of {writes} writes", failed.0, failed.1),
            "0",
            failed_ok,
        );
        report.row(format_args!("{phase}: stale reads"), stale, "0", stale == 0);
        report.row(
            format_args!("{phase}: slowest read"),
            format_args!("{read:.1?} (database {direct:.1?}; write {write:.1?})"),
            format_args!("database + {MAY_ADD:?}"),
            read <= direct + MAY_ADD,
        );
        if let Some(first_hit) = first_hit {
            let figure = first_hit.map_or_else(|| "none".to_owned(), |after| format!("after {after:.1?}"));
            let ok = first_hit.is_some_and(|after| after <= MUST_HIT_WITHIN);
            report.row(format_args!("{phase}: first hit"), figure, format_args!("within {MUST_HIT_WITHIN:?}"), ok);
        }
    }

    /// The fault is over: how long until the first hit, then a phase of load.
    async fn returns(&self, report: &mut Report, phase: &str, lasts: Duration) {
        let start = Instant::now();
        let hits = async || match self.shared.store.cache_manager() {
            Ok(manager) => manager.get_stats().await.map_or(0, |stats| stats.total.l2_hits),
            Err(_) => 0,
        };
        let before = hits().await;
        let mut first_hit = None;
        while first_hit.is_none() && start.elapsed() < lasts {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if hits().await > before {
                first_hit = Some(start.elapsed());
            }
        }
        tokio::time::sleep(lasts.saturating_sub(start.elapsed())).await;
        self.judge(report, phase, Some(first_hit));
    }

    async fn end(self) -> Result<(), Failure> {
        self.shared.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?;
        }
        Ok(())
    }
}

impl Shared {
    async fn read(self: Arc<Self>, mut rng: Rng) {
        while !self.over.load(Ordering::Relaxed) {
            let id = rng.below(KEYS as u64) as usize;
            let least = self.acknowledged[id].load(Ordering::SeqCst);
            let start = Instant::now();
            let read = self.store.get_by_id(&(id as i64 + 1)).await;
            slowest(&self.tally.slowest_read, start);
            self.tally.reads.fetch_add(1, Ordering::SeqCst);
            match read {
                Ok(Some(row)) if row.version >= least => {}
                Ok(_) => {
                    self.tally.stale.fetch_add(1, Ordering::SeqCst);
                }
                Err(_) => {
                    self.tally.failed_reads.fetch_add(1, Ordering::SeqCst);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn read_direct(self: Arc<Self>, mut rng: Rng) {
        while !self.over.load(Ordering::Relaxed) {
            let id = rng.below(KEYS as u64) as i64 + 1;
            let start = Instant::now();
            if self.direct.get_by_id(&id).await.is_ok() {
                slowest(&self.tally.slowest_direct, start);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn write(self: Arc<Self>, mut rng: Rng, writer: u64) {
        let mut versions = vec![0; (KEYS as u64 / WRITERS) as usize];
        while !self.over.load(Ordering::Relaxed) {
            let mine = rng.below(versions.len() as u64);
            let id = (mine * WRITERS + writer) as usize;
            let version = versions[mine as usize] + 1;
            let row = Account::new(id as i64 + 1, version);
            let start = Instant::now();
            let written = self.store.update(&row.id.clone(), row).await;
            slowest(&self.tally.slowest_write, start);
            self.tally.writes.fetch_add(1, Ordering::SeqCst);
            match written {
                Ok(_) => {
                    versions[mine as usize] = version;
                    self.acknowledged[id].store(version, Ordering::SeqCst);
                }
                Err(_) => {
                    self.tally.failed_writes.fetch_add(1, Ordering::SeqCst);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn slowest(counter: &AtomicU64, start: Instant) {
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    counter.fetch_max(micros, Ordering::SeqCst);
}
