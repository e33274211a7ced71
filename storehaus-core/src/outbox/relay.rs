//! The relay: takes recorded changes, invalidates, and removes them once that is confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::Pool;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{Outbox, Queue, Recorded, Target};
use crate::error::{Context, Result, StorehausError};
use crate::haus::StoreHaus;

/// How a relay works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayOptions {
    interval: Duration,
    batch: NonZeroU32,
}

impl RelayOptions {
    /// How long the relay waits before it looks again for changes, where it found less than a batch. Default: 100 ms.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How many rows of the outbox it delivers at once. Default: 1,000.
    #[must_use]
    pub fn with_batch(mut self, rows: NonZeroU32) -> Self {
        self.batch = rows;
        self
    }
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { interval: Duration::from_millis(100), batch: NonZeroU32::MIN.saturating_add(999) }
    }
}

/// A relay that runs. It ends when this is dropped; what it was about to deliver stays in the outbox.
#[must_use = "a relay ends when it is dropped"]
pub struct Relay {
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl Relay {
    /// Ends the relay after the batch it is delivering.
    ///
    /// # Cancel safety
    /// Dropping the future ends the relay at once.
    pub async fn stop(mut self) {
        self.shared.stop.notify_one();
        // An error would say that its runtime is gone.
        (&mut self.task).await.ok();
    }

    /// What it did so far.
    pub fn stats(&self) -> RelayStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RelayStats {
            delivered: read(&self.shared.delivered),
            failures: read(&self.shared.failures),
            last_error: self.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// What a relay did so far.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RelayStats {
    /// Rows of the outbox delivered and removed.
    pub delivered: u64,
    /// Tries that ended with an error. What they were to deliver stayed in the outbox.
    pub failures: u64,
    /// The error of the last try, when it ended with one.
    pub last_error: Option<StorehausError>,
}

#[derive(Default)]
struct Shared {
    stop: Notify,
    delivered: AtomicU64,
    failures: AtomicU64,
    /// Guards the value alone.
    last_error: Mutex<Option<StorehausError>>,
}

type Targets = BTreeMap<String, Vec<Arc<dyn Target>>>;

pub(super) fn start<DB: Outbox>(
    haus: &StoreHaus<DB>,
    targets: Vec<(String, Arc<dyn Target>)>,
    cache: &str,
    options: RelayOptions,
) -> Relay {
    let mut by_relation = Targets::new();
    for (relation, target) in targets {
        by_relation.entry(relation).or_default().push(target);
    }
    let queue = Queue {
        cache: cache.to_owned(),
        relations: by_relation.keys().cloned().collect(),
        batch: options.batch.get().into(),
    };
    let shared = Arc::new(Shared::default());
    let work = Work { pool: haus.pool().clone(), targets: by_relation, queue, shared: Arc::clone(&shared) };
    Relay { task: tokio::spawn(work.run(options.interval)), shared }
}

struct Work<DB: Outbox> {
    pool: Pool<DB>,
    targets: Targets,
    queue: Queue,
    shared: Arc<Shared>,
}

impl<DB: Outbox> Work<DB> {
    async fn run(self, interval: Duration) {
        let mut pause = interval;
        let stopped = self.shared.stop.notified();
        tokio::pin!(stopped);
        loop {
            stopped.as_mut().enable();
            match self.round().await {
                Ok(rows) => {
                    self.succeeded(rows);
                    pause = interval;
                    if rows as i64 == self.queue.batch {
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
                Err(_) if self.pool.is_closed() => return,
                Err(error) => {
                    self.failed(error);
                    pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE.max(interval));
                }
            }
            tokio::select! {
                () = &mut stopped => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Delivers one batch; how many rows.
    async fn round(&self) -> Result<usize> {
        let context = Context::read("", "relay");
        let taken = DB::take(&self.pool, &self.queue).await.map_err(|error| context.error(&error))?;
        let Some((rows, hold)) = taken else { return Ok(0) };
        let count = rows.len();
        // What fails gives the rows back as it drops the hold on them.
        self.deliver(rows).await?;
        DB::done(hold).await.map_err(|error| context.error(&error))?;
        Ok(count)
    }

    async fn deliver(&self, rows: Vec<Recorded>) -> Result<()> {
        let mut changed: BTreeMap<String, Option<BTreeSet<Vec<String>>>> = BTreeMap::new();
        for row in rows {
            let keys = changed.entry(row.relation).or_insert_with(|| Some(BTreeSet::new()));
            match (row.key, &mut *keys) {
                (Some(key), Some(keys)) => drop(keys.insert(key)),
                _ => *keys = None,
            }
        }
        for (relation, keys) in changed {
            let keys: Option<Vec<_>> = keys.map(|keys| keys.into_iter().collect());
            for target in self.targets.get(&relation).into_iter().flatten() {
                match &keys {
                    Some(keys) => target.invalidate(keys).await?,
                    None => target.invalidate_table().await?,
                }
            }
        }
        Ok(())
    }

    fn succeeded(&self, rows: usize) {
        self.shared.delivered.fetch_add(rows as u64, Ordering::Relaxed);
        if self.last_error().take().is_some() {
            tracing::info!("the relay of the outbox delivers again");
        }
    }

    fn failed(&self, error: StorehausError) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last_error();
        if last.is_none() {
            tracing::warn!(%error, "the relay of the outbox cannot deliver; it tries again");
        }
        *last = Some(error);
    }

    fn last_error(&self) -> std::sync::MutexGuard<'_, Option<StorehausError>> {
        self.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after a failure doubles from the interval, within these bounds.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
