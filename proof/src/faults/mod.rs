//! The fault matrix: what may fail between an application, its Redis and its PostgreSQL, each fault injected, each with
//! the figure it must reach.
//!
//! Rows named R concern Redis, P the database, X the application's own process. Each row starts the Redis it breaks,
//! and the PostgreSQL too where it is stopped or crowded; otherwise rows share the server of `DATABASE_URL` and a table
//! of their own.
//!
//! A figure that is a time is judged beside the same reads without a cache, made in the same seconds, or is allowed as
//! many times more as timers are late: the pauses of a busy machine show in both.

mod absence;
mod board;
mod conflicts;
mod content;
mod database;
mod fake;
mod futures;
mod item;
mod latency;
mod load;
mod phase;
mod process;
mod refusals;
mod warnings;

use std::fmt::Display;
use std::io::Write;
use std::pin::Pin;
use std::time::{Duration, Instant};

use storehaus::prelude::*;

use crate::options::Options;
use crate::report::Report;

pub use process::{WORKER, worker};

type Failure = Box<dyn std::error::Error>;

/// How long a fault lasts where nothing else is said.
const LOAD_FOR: Duration = Duration::from_secs(4);

/// No row takes this long; one that does hangs, and fails.
const PATIENCE: Duration = Duration::from_secs(180);

/// One fault.
struct Row {
    name: &'static str,
    fault: &'static str,
    run: for<'a> fn(&'a Rig, &'a mut Findings<'_>) -> Running<'a>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

macro_rules! rows {
    ($($name:literal $fault:literal $run:path;)*) => {
        &[$(Row { name: $name, fault: $fault, run: |rig, findings| Box::pin($run(rig, findings)) }),*]
    };
}

const ROWS: &[Row] = rows! {
    "R1" "redis absent at start" absence::never_there;
    "R2" "redis killed, started empty" absence::killed;
    "R3" "redis hung" absence::hung;
    "R4" "link to redis silent" absence::silent;
    "R5" "redis slow" absence::slow;
    "R6" "redis flapping" absence::flapping;
    "R7" "redis not ready" refusals::not_now;
    "R8" "redis refuses this user" refusals::not_you;
    "R9" "redis out of memory" refusals::out_of_memory;
    "R10" "redis evicting" refusals::evicting;
    "R11" "redis takes no writes" refusals::read_only;
    "R12" "redis forbids DEL" refusals::no_removal;
    "R13" "key of another type" content::wrong_type;
    "R14" "failover loses removals" content::failover;
    "R15" "snapshot brings rows back" content::snapshot;
    "R16" "redis flushed" content::flushed;
    "R17" "replies spoiled" content::garbled;
    "R18" "in-process rows, link lost" content::unheard;
    "R19" "late fill" content::late_fill;
    "P1" "database stopped" database::stopped;
    "P2" "backends terminated" database::terminated;
    "P3" "backend hung" database::backend_hung;
    "P4" "timeouts, deadlocks, serialization" conflicts::gives_up;
    "P5" "transactions not committed" conflicts::uncommitted;
    "P6" "reply to a write lost" database::reply_lost;
    "P7" "connection storm" database::crowded;
    "P8" "transaction rolled back" conflicts::rolled_back;
    "P9" "sqlite busy, disk full" conflicts::sqlite;
    "X1" "instance killed" process::killed;
    "X2" "instance paused" process::paused;
    "X3" "futures dropped" futures::dropped;
    "X4" "loaders that fail" futures::chaos;
    "X5" "instance starved" process::starved;
};

/// Injects every fault, or those asked for, one after the other.
///
/// # Errors
/// When there is no such row, or the database cannot be reached.
pub async fn run(options: Options) -> Result<Report, Failure> {
    if let Some(name) = options.only.iter().find(|name| ROWS.iter().all(|row| row.name != name.as_str())) {
        let known: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!("there is no row `{name}`; these exist: {}", known.join(", ")).into());
    }
    let database = std::env::var("DATABASE_URL")?;
    let alone = StoreHaus::<Postgres>::builder().url(&database).build().await?;
    let rig = Rig { database, alone, seed: options.seed, load_for: options.run_for.unwrap_or(LOAD_FOR) };
    warnings::Warnings::heard();
    let mut report = Report::new("faults");
    for row in ROWS.iter().filter(|row| options.only.is_empty() || options.only.iter().any(|name| name == row.name)) {
        let started = Instant::now();
        let mut findings = Findings { report: &mut report, row: row.name, all_ok: true };
        let ended = tokio::time::timeout(PATIENCE, (row.run)(&rig, &mut findings)).await;
        match ended.unwrap_or_else(|_| Err(format!("not over after {PATIENCE:?}").into())) {
            Ok(()) => {}
            Err(failure) => {
                let short: String = failure.to_string().chars().take(80).collect();
                findings.add(row.fault, short, "runs to its end", false);
            }
        }
        let verdict = if findings.all_ok { "ok" } else { "FAILED" };
        let line = format!("{:<4} {:<40} {:>5.1} s  {verdict}\n", row.name, row.fault, started.elapsed().as_secs_f64());
        std::io::stderr().write_all(line.as_bytes())?;
    }
    Ok(report)
}

/// What every row runs on.
struct Rig {
    database: String,
    /// The database without a cache.
    alone: StoreHaus<Postgres>,
    seed: u64,
    /// How long a fault lasts.
    load_for: Duration,
}

impl Rig {
    /// The same on another database.
    async fn on(&self, database: &str) -> Result<Self, Failure> {
        let alone = StoreHaus::<Postgres>::builder().url(database).build().await?;
        Ok(Self { database: database.to_owned(), alone, seed: self.seed, load_for: self.load_for })
    }

    /// An instance of an application as it comes, with a pool of its own.
    async fn instance(&self, redis: &str) -> Result<StoreHaus<Postgres>, Failure> {
        self.instance_with(CacheConfig::new(redis, 600u64, PREFIX)).await
    }

    /// An instance that waits for Redis, for rows whose fault is not that Redis is late: on a busy machine it is.
    async fn patient(&self, redis: &str) -> Result<StoreHaus<Postgres>, Failure> {
        self.instance_with(patience(CacheConfig::new(redis, 600u64, PREFIX))).await
    }

    /// An instance whose writes wait for Redis, and whose reads do not. Of two instances one may not be left behind with
    /// what it could not remove.
    async fn thorough(&self, redis: &str) -> Result<StoreHaus<Postgres>, Failure> {
        self.instance_with(thoroughness(CacheConfig::new(redis, 600u64, PREFIX))).await
    }

    async fn instance_with(&self, config: CacheConfig) -> Result<StoreHaus<Postgres>, Failure> {
        Ok(StoreHaus::<Postgres>::builder().url(&self.database).cache(config).build().await?)
    }

    /// The table with rows 1 to `keys` at version 0.
    async fn reset(&self, keys: i64) -> Result<(), Failure> {
        Ok(item::reset(self.alone.pool(), keys).await?)
    }

    /// A table of that size, and the load on these instances.
    async fn load(&self, shape: load::Shape, instances: &[&StoreHaus<Postgres>]) -> Result<load::Load, Failure> {
        self.reset(shape.keys).await?;
        Ok(load::Load::start(shape, instances, &self.alone, self.seed))
    }
}

/// Waits for Redis longer than any pause of the machine.
fn patience(config: CacheConfig) -> CacheConfig {
    thoroughness(config).with_read_budget(2_000u64)
}

/// Removals wait for Redis longer than any pause of the machine.
fn thoroughness(config: CacheConfig) -> CacheConfig {
    config.with_timeout(20_000u64).with_retry_attempts(100)
}

/// The global prefix of every key.
const PREFIX: &str = "faults";

/// Where a row puts what it found.
struct Findings<'a> {
    report: &'a mut Report,
    row: &'static str,
    all_ok: bool,
}

impl Findings<'_> {
    fn add(&mut self, what: impl Display, figure: impl Display, target: impl Display, ok: bool) {
        self.all_ok &= ok;
        self.report.row(format_args!("{} {what}", self.row), figure, target, ok);
    }
}

/// Polls until `done`, or until `limit` is over; whether it was done.
async fn until(limit: Duration, mut done: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if done().await {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
